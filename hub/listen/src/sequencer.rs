//! Puts a node's messages in order: every frame once, and a gap for everything that is missing.

use hub_base::text::{MAX_WORD_BYTES, clean};
use hub_store::events::GapReason;
use hub_store::flac;
use proto::listen_response::Event as Sent;
use proto::{AudioFrame, Cursor, Encoding, FRAME_SAMPLES, ListenResponse};

/// Sequence numbers from here on end the stream: they would mean 43 years of audio since the node started. Below it, a
/// frame's sample and its time in nanoseconds fit into 63 bits.
const FIRST_INCREDIBLE_SEQUENCE: u64 = 1 << 36;

/// Most frames that are accepted in a message. The contract allows five.
const MAX_FRAMES_A_MESSAGE: usize = 500;

/// A sequence number that no node can have. The node is broken or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame number {0} is not credible")]
pub struct Incredible(u64);

/// The next piece of a node's audio.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Audio.
    Frames(Frames),
    /// A gap: lost audio.
    Gap(Gap),
    /// Nothing has come for a while.
    Quiet,
}

/// Consecutive 20 ms frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames {
    /// Boot id of the node.
    pub boot_id: u64,
    /// Number of the first frame.
    pub sequence: u64,
    /// The audio, whole frames.
    pub samples: Vec<i16>,
    /// When the first sample was captured, in nanoseconds of the node's monotonic clock.
    pub captured_monotonic_ns: u64,
    /// When it was captured by the node's wall clock, in nanoseconds since 1970 UTC. `None`: the node does not know the
    /// time.
    pub captured_unix_ns: Option<i64>,
}

/// A gap: audio that is lost, with the reason. Silence is not a gap; the config key `merge_gap_ms` of the detector,
/// which is about silence between two sounds, only has a similar name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Boot id of the node.
    pub boot_id: u64,
    /// Number of the first lost frame.
    pub first_sequence: u64,
    /// Lost frames. `None`: all that followed in that boot, an unknown number.
    pub frame_count: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// One sentence for people, or empty.
    pub detail: String,
}

impl Piece {
    /// Its frames, present or lost. 0 for an unknown number.
    pub(super) fn frame_count(&self) -> u64 {
        match self {
            Self::Frames(frames) => (frames.samples.len() / FRAME_SAMPLES) as u64,
            Self::Gap(gap) => gap.frame_count.unwrap_or(0),
            Self::Quiet => 0,
        }
    }
}

impl Gap {
    /// Frames that the hub skipped to keep up with the node.
    pub fn skipped(boot_id: u64, first_sequence: u64, frame_count: u64) -> Self {
        Self {
            boot_id,
            first_sequence,
            frame_count: Some(frame_count),
            reason: GapReason::HubOverloaded,
            detail: String::new(),
        }
    }
}

/// Keeps track of the place on a node's tape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequencer {
    place: Option<Place>,
    duplicates: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    boot_id: u64,
    next: u64,
}

impl Sequencer {
    /// Resumes at a frame of a boot.
    pub fn resume(boot_id: u64, sequence: u64) -> Self {
        Self { place: Some(Place { boot_id, next: sequence }), duplicates: 0 }
    }

    /// Where the node is to begin: after the last frame that was taken, or at the oldest that it has.
    pub fn cursor(&self) -> Cursor {
        match self.place {
            Some(place) => Cursor { boot_id: place.boot_id, sequence: place.next },
            None => Cursor { boot_id: 0, sequence: 0 },
        }
    }

    /// Frames that came twice so far.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Takes a message and hands out what is new in it. An invalid message is skipped, and its frames become a gap when
    /// the next message comes.
    ///
    /// # Errors
    /// If a frame number is not credible. Nothing is taken then.
    pub fn take(&mut self, message: ListenResponse, mut hand_out: impl FnMut(Piece)) -> Result<(), Incredible> {
        match message.event {
            Some(Sent::Frame(frame)) => self.take_frame(&frame, &mut hand_out)?,
            Some(Sent::Gap(gap)) => self.take_gap(&gap, &mut hand_out)?,
            None => {}
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &AudioFrame, hand_out: &mut impl FnMut(Piece)) -> Result<(), Incredible> {
        credible(frame.sequence)?;
        let frame_count = frame.sample_count as usize / FRAME_SAMPLES;
        let whole = frame_count > 0 && frame_count * FRAME_SAMPLES == frame.sample_count as usize;
        if frame.boot_id == 0 || !whole || frame_count > MAX_FRAMES_A_MESSAGE {
            return Ok(());
        }
        let end = frame.sequence + frame_count as u64;
        let Some(known) = self.advance(frame.boot_id, frame.sequence, end, hand_out) else { return Ok(()) };
        let (boot_id, sequence) = (frame.boot_id, frame.sequence + known);
        let Some(mut samples) = decode(frame) else {
            let gap = Gap {
                boot_id,
                first_sequence: sequence,
                frame_count: Some(end - sequence),
                reason: GapReason::Undecodable,
                detail: format!("encoding {}, {} bytes", frame.encoding, frame.audio.len()),
            };
            hand_out(Piece::Gap(gap));
            return Ok(());
        };
        samples.drain(..known as usize * FRAME_SAMPLES);
        let known_ns = known * 1_000_000 * u64::from(proto::FRAME_MS);
        hand_out(Piece::Frames(Frames {
            boot_id,
            sequence,
            samples,
            captured_monotonic_ns: frame.captured_monotonic_ns.saturating_add(known_ns),
            captured_unix_ns: (frame.captured_unix_ns != 0)
                .then(|| frame.captured_unix_ns.saturating_add_unsigned(known_ns)),
        }));
        Ok(())
    }

    fn take_gap(&mut self, gap: &proto::Gap, hand_out: &mut impl FnMut(Piece)) -> Result<(), Incredible> {
        let reason = reason_of(gap.reason());
        let end = credible(gap.first_sequence.saturating_add(gap.frame_count))?;
        if gap.boot_id == 0 {
            return Ok(());
        }
        let (first_sequence, frame_count) = if gap.frame_count == 0 {
            (gap.first_sequence, None)
        } else {
            let Some(known) = self.advance(gap.boot_id, gap.first_sequence, end, hand_out) else { return Ok(()) };
            (gap.first_sequence + known, Some(end - gap.first_sequence - known))
        };
        let detail = clean(&gap.detail, MAX_WORD_BYTES);
        hand_out(Piece::Gap(Gap { boot_id: gap.boot_id, first_sequence, frame_count, reason, detail }));
        Ok(())
    }

    /// Moves on to `end` in this boot. Frames between the last place and `first` are an unaccounted gap. Returns how
    /// many frames from `first` on were taken already, or `None` if all were.
    fn advance(&mut self, boot_id: u64, first: u64, end: u64, hand_out: &mut impl FnMut(Piece)) -> Option<u64> {
        let next = match self.place {
            Some(place) if place.boot_id == boot_id => place.next,
            // A boot begins with frame 0, whether or not that was heard.
            _ => 0,
        };
        if end <= next {
            self.duplicates += end - first;
            return None;
        }
        if first > next {
            hand_out(Piece::Gap(Gap {
                boot_id,
                first_sequence: next,
                frame_count: Some(first - next),
                reason: GapReason::Unaccounted,
                detail: String::new(),
            }));
        }
        let known = next.saturating_sub(first);
        self.duplicates += known;
        self.place = Some(Place { boot_id, next: end });
        Some(known)
    }
}

fn credible(sequence: u64) -> Result<u64, Incredible> {
    if sequence < FIRST_INCREDIBLE_SEQUENCE { Ok(sequence) } else { Err(Incredible(sequence)) }
}

/// The samples. `None`: the bytes do not match what the message says.
fn decode(frame: &AudioFrame) -> Option<Vec<i16>> {
    let samples = match frame.encoding() {
        Encoding::PcmS16le => {
            let (pairs, rest) = frame.audio.as_chunks::<2>();
            rest.is_empty().then(|| pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect())
        }
        Encoding::Flac => flac::decode(&frame.audio, frame.sample_count as usize),
    };
    samples.filter(|samples: &Vec<i16>| samples.len() == frame.sample_count as usize)
}

fn reason_of(reason: proto::GapReason) -> GapReason {
    match reason {
        proto::GapReason::Unspecified => GapReason::Unspecified,
        proto::GapReason::TapeOverwritten => GapReason::TapeOverwritten,
        proto::GapReason::SubscriberTooSlow => GapReason::SubscriberTooSlow,
        proto::GapReason::DeviceLost => GapReason::DeviceLost,
        proto::GapReason::Overrun => GapReason::Overrun,
        proto::GapReason::NodeRestarted => GapReason::NodeRestarted,
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
