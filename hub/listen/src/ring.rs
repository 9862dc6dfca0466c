//! The last seconds of a node's audio, in memory. Clips are cut from it by sample number.

use std::collections::VecDeque;
use std::ops::Range;

/// A bounded stretch of audio without gaps. New samples replace the oldest.
#[derive(Debug)]
pub(super) struct Ring {
    capacity_samples: usize,
    start_sample: u64,
    samples: VecDeque<i16>,
}

impl Ring {
    /// An empty ring for at most `capacity_samples`. Its first sample will be `start_sample`.
    pub(super) fn new(capacity_samples: usize, start_sample: u64) -> Self {
        Self { capacity_samples, start_sample, samples: VecDeque::new() }
    }

    /// Appends samples.
    pub(super) fn push(&mut self, samples: &[i16]) {
        // If there are more than fit, only the last ones are kept.
        let skipped = samples.len().saturating_sub(self.capacity_samples);
        let kept = &samples[skipped..];
        let surplus = (self.samples.len() + kept.len()).saturating_sub(self.capacity_samples);
        self.samples.drain(..surplus);
        self.samples.extend(kept);
        self.start_sample += (surplus + skipped) as u64;
    }

    /// Audio is lost: drops everything and continues at `next_sample`.
    pub(super) fn restart(&mut self, next_sample: u64) {
        self.samples.clear();
        self.start_sample = next_sample;
    }

    /// Number of the next sample.
    pub(super) fn end_sample(&self) -> u64 {
        self.start_sample + self.samples.len() as u64
    }

    /// The part of a stretch that is still there: the number of its first sample, and its samples. `None`: nothing is.
    pub(super) fn cut(&self, wanted: Range<u64>) -> Option<(u64, Vec<i16>)> {
        let from = wanted.start.max(self.start_sample);
        let to = wanted.end.min(self.end_sample());
        if from >= to {
            return None;
        }
        let within = (from - self.start_sample) as usize..(to - self.start_sample) as usize;
        Some((from, self.samples.range(within).copied().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(range: Range<u64>) -> Vec<i16> {
        range.map(|n| n as i16).collect()
    }

    #[test]
    fn cuts_are_exact_to_the_sample_however_audio_came() {
        for chunk in [1, 3, 7, 64, 500] {
            let mut ring = Ring::new(100, 1_000);
            for piece in counted(1_000..1_500).chunks(chunk) {
                ring.push(piece);
                assert!(ring.samples.len() <= 100);
            }
            assert_eq!(ring.end_sample(), 1_500);
            assert_eq!(ring.cut(1_420..1_430), Some((1_420, counted(1_420..1_430))), "chunks of {chunk}");
            assert_eq!(ring.cut(0..5_000), Some((1_400, counted(1_400..1_500))));
            assert_eq!(ring.cut(1_000..1_400), None);
            assert_eq!(ring.cut(1_500..1_600), None);
        }
    }

    #[test]
    fn nothing_is_cut_across_lost_audio() {
        let mut ring = Ring::new(100, 0);
        ring.push(&counted(0..50));
        ring.restart(320);
        ring.push(&counted(320..330));
        assert_eq!(ring.cut(0..1_000), Some((320, counted(320..330))));
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::hold;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        /// Audio is lost: this many samples.
        Lose(u64),
        Cut(u64, u64),
    }

    #[test]
    fn cut_has_the_samples_of_its_numbers_and_the_ring_is_bounded() {
        let lengths = || prop_oneof![0..5_usize, 0..300_usize];
        let places = || prop_oneof![0..2_000_u64, Just(u64::MAX)];
        let step = prop_oneof![
            3 => lengths().prop_map(Step::Push),
            1 => (0..500_u64).prop_map(Step::Lose),
            3 => (places(), places()).prop_map(|(from, to)| Step::Cut(from, to)),
        ];
        let sample = |number: u64| (number.wrapping_mul(31) % 1_009) as i16;
        hold(500, &(0..200_usize, 0..1_000_u64, prop::collection::vec(step, 0..30)), |(capacity, start, steps)| {
            let mut ring = Ring::new(capacity, start);
            // The first sample since the last loss, and the next one.
            let (mut first, mut next) = (start, start);
            for step in steps {
                match step {
                    Step::Push(count) => {
                        let samples: Vec<i16> = (next..next + count as u64).map(sample).collect();
                        ring.push(&samples);
                        next += count as u64;
                    }
                    Step::Lose(count) => {
                        next += count;
                        first = next;
                        ring.restart(next);
                    }
                    Step::Cut(from, to) => {
                        let there = first.max(next.saturating_sub(capacity as u64))..next;
                        let (from, to) = (from.max(there.start), to.min(there.end));
                        let wanted = (from < to).then(|| (from, (from..to).map(sample).collect()));
                        prop_assert_eq!(ring.cut(from..to), wanted);
                    }
                }
                prop_assert_eq!(ring.end_sample(), next);
                prop_assert!(ring.samples.len() <= capacity);
            }
            Ok(())
        });
    }
}
