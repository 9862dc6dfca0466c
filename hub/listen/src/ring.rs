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
