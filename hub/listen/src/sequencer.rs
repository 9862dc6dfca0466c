//! What a node sends, put in order: every frame once, everything that is missing as a gap.

use hub_store::events::GapReason;
use hub_store::flac;
use proto::listen_response::Event as Sent;
use proto::{AudioFrame, Cursor, Encoding, FRAME_SAMPLES, Gap, ListenResponse};

/// Sequence numbers from here on are not believed: it is 5 million years of audio.
const FIRST_INCREDIBLE_SEQUENCE: u64 = 1 << 53;

/// Frames in a message at most; the wire's longest is five.
const MAX_FRAMES_A_MESSAGE: usize = 500;

/// Audio or its absence, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Audio.
    Frames(Frames),
    /// Audio that will not come.
    Lost(Lost),
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
    /// The same by the node's wall clock, in nanoseconds since 1970 UTC. `None`: the node does not know the time.
    pub captured_unix_ns: Option<i64>,
}

/// Audio that will not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Boot id of the node.
    pub boot_id: u64,
    /// Number of the first lost frame.
    pub first_sequence: u64,
    /// Lost frames. `None`: unknown, all that followed in that boot.
    pub frame_count: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// One sentence for people. Empty: the reason says it all.
    pub detail: String,
}

/// Keeps the place on a node's tape.
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
    /// Goes on at a frame of a boot. The node has been heard before.
    pub fn resume(boot_id: u64, sequence: u64) -> Self {
        Self { place: Some(Place { boot_id, next: sequence }), duplicates: 0 }
    }

    /// Where to ask the node to begin: after what has been taken, or with the oldest that it has.
    pub fn cursor(&self) -> Cursor {
        match self.place {
            Some(place) => Cursor { boot_id: place.boot_id, sequence: place.next },
            None => Cursor { boot_id: 0, sequence: 0 },
        }
    }

    /// Frames that were sent twice, so far.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Takes a message and hands out what is new in it. A message that makes no sense is skipped, and what it should have
    /// held is missed when the next one comes.
    pub fn take(&mut self, message: ListenResponse, mut hand_out: impl FnMut(Heard)) {
        match message.event {
            Some(Sent::Frame(frame)) => self.take_frame(&frame, &mut hand_out),
            Some(Sent::Gap(gap)) => self.take_gap(gap, &mut hand_out),
            None => {}
        }
    }

    fn take_frame(&mut self, frame: &AudioFrame, hand_out: &mut impl FnMut(Heard)) {
        let frame_count = frame.sample_count as usize / FRAME_SAMPLES;
        let whole = frame_count > 0 && frame_count * FRAME_SAMPLES == frame.sample_count as usize;
        if frame.boot_id == 0
            || frame.sequence >= FIRST_INCREDIBLE_SEQUENCE
            || !whole
            || frame_count > MAX_FRAMES_A_MESSAGE
        {
            return;
        }
        let end = frame.sequence + frame_count as u64;
        let Some(known) = self.advance(frame.boot_id, frame.sequence, end, hand_out) else { return };
        let (boot_id, sequence) = (frame.boot_id, frame.sequence + known);
        let Some(mut samples) = decode(frame) else {
            let lost = Lost {
                boot_id,
                first_sequence: sequence,
                frame_count: Some(end - sequence),
                reason: GapReason::Undecodable,
                detail: format!("encoding {}, {} bytes", frame.encoding, frame.audio.len()),
            };
            return hand_out(Heard::Lost(lost));
        };
        samples.drain(..known as usize * FRAME_SAMPLES);
        let known_ns = known * 1_000_000 * u64::from(proto::FRAME_MS);
        hand_out(Heard::Frames(Frames {
            boot_id,
            sequence,
            samples,
            captured_monotonic_ns: frame.captured_monotonic_ns.saturating_add(known_ns),
            captured_unix_ns: (frame.captured_unix_ns != 0)
                .then(|| frame.captured_unix_ns.saturating_add_unsigned(known_ns)),
        }));
    }

    fn take_gap(&mut self, gap: Gap, hand_out: &mut impl FnMut(Heard)) {
        let reason = reason_of(gap.reason());
        if gap.boot_id == 0 || gap.first_sequence >= FIRST_INCREDIBLE_SEQUENCE {
            return;
        }
        let (first_sequence, frame_count) = if gap.frame_count == 0 {
            (gap.first_sequence, None)
        } else {
            let end = gap.first_sequence.saturating_add(gap.frame_count).min(FIRST_INCREDIBLE_SEQUENCE);
            let Some(known) = self.advance(gap.boot_id, gap.first_sequence, end, hand_out) else { return };
            (gap.first_sequence + known, Some(end - gap.first_sequence - known))
        };
        hand_out(Heard::Lost(Lost { boot_id: gap.boot_id, first_sequence, frame_count, reason, detail: gap.detail }));
    }

    /// Goes on to `end` in this boot. What lies between the last place and `first` is lost without a word. Returns how many
    /// frames from `first` on are known already, `None` when all are.
    fn advance(&mut self, boot_id: u64, first: u64, end: u64, hand_out: &mut impl FnMut(Heard)) -> Option<u64> {
        let next = match self.place {
            Some(place) if place.boot_id == boot_id => place.next,
            // A boot begins with frame 0, heard or not.
            _ => 0,
        };
        if end <= next {
            self.duplicates += end - first;
            return None;
        }
        if first > next {
            hand_out(Heard::Lost(Lost {
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

/// `None`: the bytes are not what the message says.
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
mod tests {
    use super::*;

    const BOOT: u64 = 0xB007;

    /// A message of `count` frames whose samples are the numbers of their frames.
    fn frames(boot_id: u64, sequence: u64, count: u64) -> ListenResponse {
        let samples = (sequence..sequence + count).flat_map(|n| [n as i16; FRAME_SAMPLES]);
        ListenResponse {
            event: Some(Sent::Frame(AudioFrame {
                boot_id,
                sequence,
                first_sample: sequence * 320,
                captured_monotonic_ns: sequence * 20_000_000,
                captured_unix_ns: 0,
                sample_count: count as u32 * 320,
                encoding: 0,
                audio: samples.flat_map(i16::to_le_bytes).collect::<Vec<u8>>().into(),
            })),
        }
    }

    fn gap(boot_id: u64, first_sequence: u64, frame_count: u64, reason: proto::GapReason) -> ListenResponse {
        let reason = reason as i32;
        ListenResponse {
            event: Some(Sent::Gap(Gap { boot_id, first_sequence, frame_count, reason, detail: String::new() })),
        }
    }

    /// What comes out, as `+first..end` for audio and `-first..end reason` for gaps.
    fn run(sequencer: &mut Sequencer, messages: Vec<ListenResponse>) -> Vec<String> {
        let mut out = Vec::new();
        for message in messages {
            sequencer.take(message, |heard| {
                out.push(match heard {
                    Heard::Frames(frames) => {
                        let end = frames.sequence + frames.samples.len() as u64 / 320;
                        assert_eq!(frames.samples[0], frames.sequence as i16, "audio and number differ");
                        assert_eq!(frames.captured_monotonic_ns, frames.sequence * 20_000_000);
                        format!("+{}..{end}", frames.sequence)
                    }
                    Heard::Lost(lost) => {
                        let end = lost.frame_count.map(|count| (lost.first_sequence + count).to_string());
                        format!("-{}..{} {}", lost.first_sequence, end.unwrap_or_default(), lost.reason.as_str())
                    }
                    Heard::Quiet => "quiet".into(),
                });
            });
        }
        out
    }

    #[test]
    fn frames_in_order_pass_as_they_are() {
        let mut sequencer = Sequencer::default();
        assert_eq!(sequencer.cursor(), Cursor { boot_id: 0, sequence: 0 });
        let out = run(&mut sequencer, vec![frames(BOOT, 0, 1), frames(BOOT, 1, 5), frames(BOOT, 6, 2)]);
        assert_eq!(out, ["+0..1", "+1..6", "+6..8"]);
        assert_eq!(sequencer.cursor(), Cursor { boot_id: BOOT, sequence: 8 });
    }

    #[test]
    fn what_comes_twice_is_taken_once() {
        let mut sequencer = Sequencer::resume(BOOT, 10);
        let out =
            run(&mut sequencer, vec![frames(BOOT, 5, 5), frames(BOOT, 8, 5), frames(BOOT, 10, 3), frames(BOOT, 13, 1)]);
        assert_eq!(out, ["+10..13", "+13..14"]);
        assert_eq!(sequencer.duplicates(), 5 + 2 + 3);
    }

    #[test]
    fn gaps_pass_and_what_is_skipped_without_one_is_a_gap() {
        let mut sequencer = Sequencer::resume(BOOT, 10);
        let messages = vec![
            gap(BOOT, 8, 7, proto::GapReason::DeviceLost),
            frames(BOOT, 15, 1),
            frames(BOOT, 20, 1),
            gap(BOOT, 0, 21, proto::GapReason::TapeOverwritten),
            gap(BOOT, 30, 2, proto::GapReason::Overrun),
        ];
        let out = run(&mut sequencer, messages);
        assert_eq!(
            out,
            [
                "-10..15 device_lost",
                "+15..16",
                "-16..20 unaccounted",
                "+20..21",
                "-21..30 unaccounted",
                "-30..32 overrun"
            ]
        );
    }

    #[test]
    fn restarted_node_begins_anew() {
        let mut sequencer = Sequencer::resume(BOOT, 10);
        let messages = vec![
            gap(BOOT, 10, 0, proto::GapReason::NodeRestarted),
            gap(77, 0, 3, proto::GapReason::TapeOverwritten),
            frames(77, 3, 2),
        ];
        assert_eq!(run(&mut sequencer, messages), ["-10.. node_restarted", "-0..3 tape_overwritten", "+3..5"]);
        assert_eq!(sequencer.cursor(), Cursor { boot_id: 77, sequence: 5 });
    }

    #[test]
    fn every_number_is_accounted_for_once_whatever_comes() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut sequencer = Sequencer::default();
        let mut next = 0;
        for _ in 0..2_000 {
            let (sequence, count) = (random(3_000), random(5) + 1);
            let message = if random(4) == 0 {
                gap(BOOT, sequence, count, proto::GapReason::Overrun)
            } else {
                frames(BOOT, sequence, count)
            };
            for line in run(&mut sequencer, vec![message]) {
                let range = line[1..].split(' ').next().unwrap().split_once("..").unwrap();
                assert_eq!(range.0.parse::<u64>().unwrap(), next, "{line}");
                next = range.1.parse().unwrap();
            }
        }
        assert!(next > 2_900);
    }

    #[test]
    fn flac_is_the_same_audio() {
        let Some(Sent::Frame(mut frame)) = frames(BOOT, 7, 5).event else { unreachable!("it is a frame") };
        let plain = decode(&frame).unwrap();
        let mut flac = Vec::new();
        sound::flac::encode(&plain, &mut flac);
        (frame.encoding, frame.audio) = (Encoding::Flac as i32, flac.into());
        assert_eq!(decode(&frame), Some(plain));
        frame.sample_count = 320;
        assert_eq!(decode(&frame), None, "more than the message says");
        for cut in 0..frame.audio.len() - 1 {
            frame.sample_count = 1_600;
            let short = AudioFrame { audio: frame.audio.slice(..cut), ..frame.clone() };
            assert_eq!(decode(&short), None, "cut after {cut} bytes");
        }
    }

    #[test]
    fn nonsense_is_skipped_and_then_missed() {
        let broken = |change: fn(&mut AudioFrame)| {
            let mut message = frames(BOOT, 0, 1);
            if let Some(Sent::Frame(frame)) = &mut message.event {
                change(frame);
            }
            message
        };
        let mut sequencer = Sequencer::default();
        let messages = vec![
            broken(|frame| frame.boot_id = 0),
            broken(|frame| frame.sample_count = 0),
            broken(|frame| frame.sample_count = 321),
            broken(|frame| frame.sample_count = u32::MAX),
            broken(|frame| frame.sequence = u64::MAX),
            gap(BOOT, u64::MAX, u64::MAX, proto::GapReason::Overrun),
            ListenResponse { event: None },
        ];
        assert_eq!(run(&mut sequencer, messages), Vec::<String>::new());
        let short = broken(|frame| frame.audio.truncate(639));
        assert_eq!(
            run(&mut sequencer, vec![short, frames(BOOT, 2, 1)]),
            ["-0..1 undecodable", "-1..2 unaccounted", "+2..3"]
        );
        let endless = gap(BOOT, 3, u64::MAX, proto::GapReason::Overrun);
        assert_eq!(run(&mut sequencer, vec![endless]).len(), 1);
    }
}
