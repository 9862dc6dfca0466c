//! A sequencer and any messages, in any order, against a simple model.

use fuzzing::hold;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;

/// A message that a node, a broken node or a hostile one may send.
#[derive(Debug, Clone)]
struct Message {
    boot_id: u64,
    sequence: u64,
    count: u64,
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Plain,
    Flac,
    /// Audio that is not what its head says.
    Damaged,
    /// Samples that are no whole frames.
    Ragged,
    Gap(proto::GapReason),
    Nothing,
}

fn message() -> impl Strategy<Value = Message> {
    let contents = prop_oneof![
        4 => Just(Content::Plain),
        1 => Just(Content::Flac),
        1 => Just(Content::Damaged),
        1 => Just(Content::Ragged),
        2 => prop::sample::select(vec![proto::GapReason::DeviceLost, proto::GapReason::TapeOverwritten]).prop_map(Content::Gap),
        1 => Just(Content::Nothing),
    ];
    let edge = FIRST_INCREDIBLE_SEQUENCE;
    let sequences = prop_oneof![6 => 0..60_u64, 2 => 0..3_000_u64, 1 => edge - 600..edge + 3, 1 => any::<u64>()];
    let most = MAX_FRAMES_A_MESSAGE as u64;
    let counts = prop_oneof![30 => 0..6_u64, 1 => most - 2..most + 3, 3 => any::<u64>()];
    let boots = prop_oneof![1 => Just(0_u64), 8 => Just(7), 2 => 8..10_u64];
    (boots, sequences, counts, contents).prop_map(|(boot_id, sequence, count, content)| Message {
        boot_id,
        sequence,
        count,
        content,
    })
}

/// The samples of a frame: its number, in all of them.
fn samples_of(sequence: u64) -> [i16; FRAME_SAMPLES] {
    [sequence as i16; FRAME_SAMPLES]
}

impl Message {
    fn is_gap(&self) -> bool {
        matches!(self.content, Content::Gap(_))
    }

    fn on_the_wire(&self) -> ListenResponse {
        let Self { boot_id, sequence, count, content } = *self;
        if let Content::Gap(reason) = content {
            let (reason, detail) = (reason as i32, "a\nb".repeat(200));
            let gap = proto::Gap { boot_id, first_sequence: sequence, frame_count: count, reason, detail };
            return ListenResponse { event: Some(Sent::Gap(gap)) };
        }
        // A head may promise more audio than it brings.
        let present = if count > MAX_FRAMES_A_MESSAGE as u64 { 1 } else { count };
        let samples: Vec<i16> = (0..present).flat_map(|n| samples_of(sequence.wrapping_add(n))).collect();
        let mut audio: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut encoding = Encoding::PcmS16le;
        let mut sample_count = (count as u32).wrapping_mul(FRAME_SAMPLES as u32);
        match content {
            Content::Flac => {
                audio.clear();
                sound::flac::encode(&samples, &mut audio);
                encoding = Encoding::Flac;
            }
            Content::Damaged => drop(audio.pop()),
            Content::Ragged => sample_count = sample_count.wrapping_add(1),
            Content::Nothing => return ListenResponse { event: None },
            Content::Plain | Content::Gap(_) => {}
        }
        ListenResponse {
            event: Some(Sent::Frame(AudioFrame {
                boot_id,
                sequence,
                first_sample: sequence.wrapping_mul(FRAME_SAMPLES as u64),
                captured_monotonic_ns: sequence.wrapping_mul(20_000_000),
                captured_unix_ns: 1,
                sample_count,
                encoding: encoding as i32,
                audio: audio.into(),
            })),
        }
    }

    /// The frames that it brings, audio or lost, as far as its head can be believed.
    fn end(&self) -> Option<u64> {
        let most = if self.is_gap() { u64::MAX } else { MAX_FRAMES_A_MESSAGE as u64 };
        let usable = self.boot_id != 0
            && (1..=most).contains(&self.count)
            && !matches!(self.content, Content::Ragged | Content::Nothing);
        usable.then(|| self.sequence.saturating_add(self.count))
    }

    fn is_incredible(&self) -> bool {
        match self.content {
            Content::Nothing => false,
            Content::Gap(_) => self.sequence.saturating_add(self.count) >= FIRST_INCREDIBLE_SEQUENCE,
            _ => self.sequence >= FIRST_INCREDIBLE_SEQUENCE,
        }
    }
}

/// Checks the pieces of one message. Returns where they end.
fn check(message: &Message, pieces: &[Piece], mut next: u64) -> Result<u64, TestCaseError> {
    for piece in pieces {
        let first = match piece {
            Piece::Frames(frames) => {
                prop_assert_eq!(frames.boot_id, message.boot_id);
                prop_assert!(!frames.samples.is_empty() && frames.samples.len() % FRAME_SAMPLES == 0);
                for (sequence, got) in (frames.sequence..).zip(frames.samples.chunks(FRAME_SAMPLES)) {
                    prop_assert_eq!(got, &samples_of(sequence)[..], "frame {}", sequence);
                }
                let known_ns = (frames.sequence - message.sequence) * 20_000_000;
                let captured_ns = message.sequence.wrapping_mul(20_000_000).saturating_add(known_ns);
                prop_assert_eq!(frames.captured_monotonic_ns, captured_ns);
                frames.sequence
            }
            Piece::Gap(gap) => {
                prop_assert_eq!(gap.boot_id, message.boot_id);
                prop_assert!(gap.detail.len() <= MAX_WORD_BYTES && !gap.detail.contains('\n'));
                prop_assert!(gap.frame_count.is_none_or(|count| count > 0));
                if gap.frame_count.is_none() {
                    // The rest of a boot: it ends no piece.
                    prop_assert!(message.is_gap() && message.count == 0);
                    continue;
                }
                gap.first_sequence
            }
            Piece::Quiet => return Err(TestCaseError::fail("a message is not quiet")),
        };
        prop_assert_eq!(first, next, "{:?}", piece);
        next = first + piece.frame_count();
    }
    Ok(next)
}

/// What the sequencer ought to know after the messages so far.
#[derive(Debug, Default)]
struct Model {
    /// Boot id and next frame.
    place: Option<(u64, u64)>,
    duplicates: u64,
}

impl Model {
    fn take(&mut self, sequencer: &mut Sequencer, message: &Message) -> TestCaseResult {
        let mut pieces = Vec::new();
        let before = sequencer.cursor();
        let taken = sequencer.take(message.on_the_wire(), |piece| pieces.push(piece));
        prop_assert_eq!(taken.is_err(), message.is_incredible());
        if taken.is_err() {
            prop_assert!(pieces.is_empty());
            prop_assert_eq!(sequencer.cursor(), before, "nothing is taken from a message that is not credible");
            return Ok(());
        }
        prop_assert!(pieces.len() <= 2, "a gap before it, and the message");
        let next = self.place.filter(|place| place.0 == message.boot_id).map_or(0, |place| place.1);
        let after = check(message, &pieces, next)?;
        if let Some(end) = message.end() {
            let known = next.min(end).saturating_sub(message.sequence);
            self.duplicates = self.duplicates.saturating_add(known);
            prop_assert_eq!(after, next.max(end), "all of it is handed out");
            if end > next {
                self.place = Some((message.boot_id, end));
            }
        } else {
            prop_assert_eq!(after, next, "nothing is handed out");
        }
        prop_assert_eq!(sequencer.duplicates(), self.duplicates);
        let (boot_id, sequence) = self.place.unwrap_or_default();
        prop_assert_eq!(sequencer.cursor(), Cursor { boot_id, sequence });
        Ok(())
    }
}

#[test]
fn every_frame_is_handed_out_once_in_order_or_is_in_a_gap() {
    let resumes = prop::option::of((7..9_u64, 0..40_u64));
    hold(300, &(resumes, prop::collection::vec(message(), 0..40)), |(resumes, messages)| {
        let (mut sequencer, mut model) = (Sequencer::default(), Model { place: resumes, duplicates: 0 });
        if let Some((boot_id, sequence)) = resumes {
            sequencer = Sequencer::resume(boot_id, sequence);
        }
        for message in &messages {
            model.take(&mut sequencer, message)?;
        }
        Ok(())
    });
}

#[test]
fn bytes_that_are_nearly_a_message_are_a_message_or_an_error() {
    use prost::Message as _;
    let of = |content| Message { boot_id: 7, sequence: 3, count: 2, content }.on_the_wire().encode_to_vec();
    let contents = [Content::Plain, Content::Flac, Content::Gap(proto::GapReason::DeviceLost), Content::Nothing];
    hold(1_000, &fuzzing::nearly(contents.map(of).to_vec(), &[]), |bytes| {
        let Ok(message) = ListenResponse::decode(bytes.as_slice()) else { return Ok(()) };
        let (mut sequencer, mut next) = (Sequencer::resume(7, 1), None);
        let mut broken = false;
        // Twice: the second time all of it is known.
        for _ in 0..2 {
            let _ = sequencer.take(message.clone(), |piece| {
                if let Piece::Frames(frames) = &piece {
                    broken |= frames.samples.len() > MAX_FRAMES_A_MESSAGE * FRAME_SAMPLES;
                    broken |= next.is_some_and(|next| frames.sequence < next);
                    next = Some(frames.sequence + piece.frame_count());
                }
            });
        }
        prop_assert!(!broken, "a frame twice, or too many of them");
        Ok(())
    });
}
