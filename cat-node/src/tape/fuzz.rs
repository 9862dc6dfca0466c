//! A tape and its readers against a simple model, with any order of writes and reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fuzzing::hold;
use proptest::prelude::*;
use tokio::time::timeout;

use super::reader::Reader;
use super::*;

/// Frames that the tapes hold: less than a block of 50, a block, some blocks.
const CAPACITIES: [usize; 6] = [1, 3, 50, 51, 120, 400];

/// What happens to a tape.
#[derive(Debug, Clone)]
enum Step {
    Frames(u64),
    Gap(u64, GapReason),
    /// One of the readers reads: which one, how many pieces at most, what it wants.
    Read(usize, usize, usize, bool, u64),
    /// One of the readers begins again: at a number below or above what was written so far.
    Begin(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    let reasons = prop::sample::select(vec![GapReason::DeviceLost, GapReason::Overrun, GapReason::Unspecified]);
    let counts = prop_oneof![1..5_u64, 1..200_u64];
    prop_oneof![
        3 => counts.prop_map(Step::Frames),
        1 => (prop_oneof![0..4_u64, Just(1_000_000)], reasons).prop_map(|(count, reason)| Step::Gap(count, reason)),
        3 => (0..READERS, 1..200_usize, 1..120_usize, any::<bool>(), prop_oneof![Just(u64::MAX), 0..500_u64])
            .prop_map(|(who, pieces, frames, partial, before)| Step::Read(who, pieces, frames, partial, before)),
        1 => (0..READERS, prop_oneof![-400..20_i64, Just(i64::MIN), Just(i64::MAX)])
            .prop_map(|(who, from)| Step::Begin(who, from)),
    ]
}

const READERS: usize = 3;

/// Longer than any answer of the disk takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

/// What was written, piece by piece: the end of each run of frames or gap, by its first number.
#[derive(Default)]
struct Written {
    gaps: BTreeMap<u64, (u64, GapReason)>,
    next: u64,
}

impl Written {
    /// The gap that has this frame, if it is in one.
    fn gap_at(&self, sequence: u64) -> Option<(u64, GapReason)> {
        let (_, (end, reason)) = self.gaps.range(..=sequence).next_back()?;
        (sequence < *end).then_some((*end, *reason))
    }

    /// Whether all frames of this range are audio.
    fn is_audio(&self, from: u64, to: u64) -> bool {
        self.gap_at(from).is_none() && self.gaps.range(from..to).next().is_none()
    }
}

/// The samples of a frame; those of a frame of every number differ.
fn frame(sequence: u64) -> [i16; FRAME_SAMPLES] {
    std::array::from_fn(|at| (sequence as i16).wrapping_mul(31).wrapping_add((at % 7) as i16))
}

fn time_of(sequence: u64) -> u64 {
    sequence * 20_000_000 + 5
}

/// A tape with its readers, and what they ought to find.
struct Run {
    tape: Arc<Tape>,
    readers: Vec<Reader>,
    /// Whether each reader has read since it began.
    started: [bool; READERS],
    written: Written,
}

impl Run {
    fn new(tape: Tape) -> Self {
        let tape = Arc::new(tape);
        let readers = (0..READERS).map(|_| Reader::at(&tape, 0)).collect();
        Self { tape, readers, started: [false; READERS], written: Written::default() }
    }

    fn write_frames(&mut self, count: u64) {
        for _ in 0..count {
            let sequence = self.written.next;
            assert_eq!(self.tape.append_frame(&frame(sequence), time_of(sequence)), sequence);
            self.written.next += 1;
        }
    }

    fn write_gap(&mut self, count: u64, reason: GapReason) {
        self.tape.append_gap(count, reason, "");
        if count == 0 {
            return;
        }
        let first = self.written.next;
        self.written.next += count;
        // It extends a gap of the same reason right before it.
        let last = self.written.gaps.last_entry().filter(|last| *last.get() == (first, reason));
        let first = last.map_or(first, |last| *last.key());
        self.written.gaps.insert(first, (self.written.next, reason));
    }

    fn begin(&mut self, who: usize, from: i64) {
        let from = self.written.next.saturating_add_signed(from);
        self.readers[who] = Reader::at(&self.tape, from);
        assert_eq!(self.readers[who].cursor(), from.min(self.written.next));
        self.started[who] = false;
    }

    /// Reads one piece and checks it. `None`: there is none yet.
    fn read(&mut self, who: usize, want: Want, samples: &mut Vec<i16>) -> Option<()> {
        let (at, oldest) = (self.readers[who].cursor(), self.tape.extent().oldest_sequence);
        let piece = self.readers[who].read(want, samples)?;
        let after = self.readers[who].cursor();
        assert!(at < after && after <= self.written.next.min(want.before), "{at}..{after}");
        match piece {
            Piece::Audio { first_sequence, captured_monotonic_ns } => {
                assert_eq!((first_sequence, captured_monotonic_ns), (at, time_of(at)));
                assert_eq!(samples.len(), (after - at) as usize * FRAME_SAMPLES);
                assert!(after - at <= want.frames as u64);
                assert!(self.written.is_audio(at, after), "{at}..{after} has a gap in it");
                for (sequence, got) in (at..).zip(samples.chunks(FRAME_SAMPLES)) {
                    assert!(got == frame(sequence), "frame {sequence} has other samples");
                }
            }
            Piece::Gap(gap) => {
                assert_eq!((gap.first_sequence, gap.frame_count), (at, after - at));
                let is_lost = [GapReason::SubscriberTooSlow, GapReason::TapeOverwritten].contains(&gap.reason);
                if is_lost && self.tape.spill.is_some() {
                    // Its thread drops files at any time.
                    let oldest = self.tape.extent().oldest_sequence;
                    assert!(after <= oldest.min(want.before), "{gap:?} is said to be overwritten; oldest: {oldest}");
                } else if at < oldest {
                    assert_eq!(after, oldest.min(want.before), "the gap of what was overwritten");
                    let slow =
                        if self.started[who] { GapReason::SubscriberTooSlow } else { GapReason::TapeOverwritten };
                    assert_eq!(gap.reason, slow);
                } else {
                    let (end, reason) = self.written.gap_at(at).expect("a gap was written here");
                    assert!(after <= end && gap.reason == reason, "{gap:?}, written until {end} because of {reason:?}");
                }
            }
        }
        self.started[who] = true;
        Some(())
    }
}

fn take(run: &mut Run, step: &Step, samples: &mut Vec<i16>) {
    match *step {
        Step::Frames(count) => run.write_frames(count),
        Step::Gap(count, reason) => run.write_gap(count, reason),
        Step::Begin(who, from) => run.begin(who, from),
        Step::Read(who, pieces, frames, partial, before) => {
            let before = run.readers[who].cursor().saturating_add(before);
            for _ in 0..pieces {
                if run.read(who, Want { frames, before, partial }, samples).is_none() {
                    break;
                }
            }
        }
    }
}

#[test]
fn every_number_is_read_once_as_it_was_written_or_in_a_gap() {
    let inputs = (prop::sample::select(CAPACITIES.to_vec()), prop::collection::vec(step(), 1..60));
    hold(200, &inputs, |(capacity, steps)| {
        let mut run = Run::new(Tape::new(NodeClock::start(), capacity * FRAME_BYTES));
        let (mut samples, mut oldest) = (Vec::new(), 0);
        for step in &steps {
            take(&mut run, step, &mut samples);
            let extent = run.tape.extent();
            prop_assert_eq!(extent.next_sequence, run.written.next, "a number was used twice or left out");
            prop_assert!(extent.oldest_sequence >= oldest, "what was gone came back");
            oldest = extent.oldest_sequence;
            // Packed blocks may be a few bytes longer than plain ones. A block leaves when its last frame does.
            let most = (capacity + entry::BLOCK_FRAMES) * FRAME_BYTES;
            prop_assert!(extent.bytes as usize <= most + most / 20, "{} bytes", extent.bytes);
        }
        // In the end every reader gets to the end.
        for who in 0..READERS {
            while run.read(who, Want { partial: true, ..Want::whole(50) }, &mut samples).is_some() {}
            prop_assert_eq!(run.readers[who].cursor(), run.written.next);
        }
        Ok(())
    });
}

/// Waits until the thread of the disk has answered all requests.
async fn settle(tape: &Tape) {
    let fetching = tape.spill.as_ref().and_then(|spill| spill.fetch(u64::MAX)).expect("the queue has room");
    timeout(DEADLINE, fetching.reply).await.expect("the disk answers").unwrap();
}

#[test]
fn every_number_is_read_once_from_memory_or_disk() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let quotas = prop_oneof![20_000..100_000_u64, 100_000..2_000_000_u64];
    let inputs = (prop::sample::select(CAPACITIES.to_vec()), quotas, prop::collection::vec(step(), 1..60));
    hold(60, &inputs, |(capacity, bytes, steps)| {
        let dir = tempfile::tempdir().unwrap();
        let config = SpillConfig { dir: dir.path().to_owned(), bytes };
        let mut run = Run::new(Tape::new(NodeClock::start(), capacity * FRAME_BYTES).spill_to(&config));
        runtime.block_on(async {
            let (mut samples, mut oldest) = (Vec::new(), 0);
            for step in &steps {
                take(&mut run, step, &mut samples);
                settle(&run.tape).await;
                let extent = run.tape.extent();
                prop_assert_eq!(extent.next_sequence, run.written.next);
                prop_assert!(extent.oldest_sequence >= oldest, "what was gone came back");
                oldest = extent.oldest_sequence;
                // The file that is written to stays, even if its one entry is larger than the quota.
                let counts = run.tape.spill_counts().unwrap();
                prop_assert!(counts.bytes <= bytes.max(50_000), "{counts:?}");
                prop_assert_eq!((counts.failures, counts.lost_frames), (0, 0));
            }
            for who in 0..READERS {
                while run.readers[who].cursor() < run.written.next {
                    if run.read(who, Want { partial: true, ..Want::whole(50) }, &mut samples).is_none() {
                        timeout(DEADLINE, run.readers[who].wait()).await.expect("the disk answers");
                    }
                }
            }
            Ok(())
        })
    });
}
