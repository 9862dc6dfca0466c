//! Turns pieces of the tape into messages.

use std::sync::atomic::Ordering;

use proto::listen_response::Event;
use proto::{AudioFrame, Encoding, FRAME_SAMPLES, Gap, GapReason, ListenResponse};

use crate::clock::WallClock;
use crate::node::Node;
use crate::tape::Piece;

/// Makes the messages of one call.
#[derive(Debug)]
pub(super) struct Messages {
    encoding: Encoding,
    wall: WallClock,
}

impl Messages {
    pub(super) fn new(node: &Node, encoding: Encoding) -> Self {
        Self { encoding, wall: WallClock::new(node.tape.clock()) }
    }

    /// The message for a piece. `samples` are the samples of a piece of audio.
    pub(super) fn message(&mut self, node: &Node, piece: Piece, samples: &[i16]) -> ListenResponse {
        let event = match piece {
            Piece::Audio { first_sequence, captured_monotonic_ns } => Event::Frame(AudioFrame {
                boot_id: node.tape.boot_id(),
                sequence: first_sequence,
                first_sample: first_sequence * FRAME_SAMPLES as u64,
                captured_monotonic_ns,
                captured_unix_ns: self.wall.unix_ns(captured_monotonic_ns),
                sample_count: samples.len() as u32,
                encoding: self.encoding.into(),
                audio: self.encode(node, samples).into(),
            }),
            Piece::Gap(gap) => {
                let counters = &node.status.counters;
                if gap.reason == GapReason::SubscriberTooSlow {
                    counters.frames_lost_to_subscribers.fetch_add(gap.frame_count, Ordering::Relaxed);
                }
                Event::Gap(Gap {
                    boot_id: node.tape.boot_id(),
                    first_sequence: gap.first_sequence,
                    frame_count: gap.frame_count,
                    reason: gap.reason.into(),
                    detail: gap.detail,
                })
            }
        };
        ListenResponse { event: Some(event) }
    }

    fn encode(&self, node: &Node, samples: &[i16]) -> Vec<u8> {
        match self.encoding {
            Encoding::PcmS16le => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            Encoding::Flac => {
                let mut coded = Vec::with_capacity(2 * samples.len());
                sound::flac::encode(samples, &mut coded);
                let counters = &node.status.counters;
                counters.flac_sample_bytes.fetch_add(2 * samples.len() as u64, Ordering::Relaxed);
                counters.flac_coded_bytes.fetch_add(coded.len() as u64, Ordering::Relaxed);
                coded
            }
        }
    }
}
