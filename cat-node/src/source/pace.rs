//! Paces sources that have no real time of their own.

use std::time::{Duration, Instant};

/// Length of the pieces that samples come in, in milliseconds: a frame.
const PIECE_MS: u32 = 20;

/// A reader that stalled for longer than this loses the samples of the stall. After a shorter stall it catches up.
const MOST_BEHIND: Duration = Duration::from_secs(1);

/// A schedule of samples, fixed at its start: reading a piece late does not delay the next one.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    sample_rate_hz: u32,
    /// Samples per channel that were delivered or lost.
    passed: u64,
}

/// The samples that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Samples, in numbers per channel.
    Samples {
        /// To be delivered.
        count: usize,
        /// To be skipped before them, because they were not read in time.
        lost: u64,
    },
    /// None yet.
    Nothing,
}

impl Pace {
    /// A schedule whose first sample is captured now.
    pub(super) fn start(sample_rate_hz: u32) -> Self {
        Self { start: Instant::now(), sample_rate_hz, passed: 0 }
    }

    /// Waits for the next piece, at most `max_wait`.
    pub(super) fn wait(&mut self, max_wait: Duration) -> Due {
        let elapsed = self.start.elapsed();
        let due = self.due(elapsed);
        if due != Due::Nothing {
            return due;
        }
        let missing = self.time_of(self.passed + self.piece()).saturating_sub(elapsed);
        std::thread::sleep(missing.min(max_wait));
        self.due(self.start.elapsed())
    }

    fn due(&mut self, elapsed: Duration) -> Due {
        let piece = self.piece();
        if elapsed < self.time_of(self.passed + piece) {
            return Due::Nothing;
        }
        let behind = elapsed - self.time_of(self.passed + piece);
        let lost = if behind > MOST_BEHIND { self.samples_in(behind) } else { 0 };
        self.passed += lost + piece;
        Due::Samples { count: piece as usize, lost }
    }

    fn piece(&self) -> u64 {
        u64::from((self.sample_rate_hz * PIECE_MS / 1000).max(1))
    }

    fn time_of(&self, samples: u64) -> Duration {
        let rate = u64::from(self.sample_rate_hz);
        Duration::from_secs(samples / rate) + Duration::from_nanos(samples % rate * 1_000_000_000 / rate)
    }

    fn samples_in(&self, time: Duration) -> u64 {
        (time.as_nanos() * u128::from(self.sample_rate_hz) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PIECE: Due = Due::Samples { count: 320, lost: 0 };

    #[test]
    fn pieces_are_due_when_their_last_sample_was_captured() {
        let mut pace = Pace::start(16_000);
        assert_eq!(pace.due(19 * MS), Due::Nothing);
        assert_eq!(pace.due(20 * MS), PIECE);
        assert_eq!(pace.due(39 * MS), Due::Nothing);
        assert_eq!(pace.due(40 * MS), PIECE);
    }

    #[test]
    fn after_a_short_stall_everything_is_delivered_and_the_schedule_stays() {
        let mut pace = Pace::start(16_000);
        for _ in 0..40 {
            assert_eq!(pace.due(800 * MS), PIECE);
        }
        assert_eq!(pace.due(800 * MS), Due::Nothing);
        assert_eq!(pace.due(820 * MS), PIECE);
    }

    #[test]
    fn after_a_long_stall_the_lost_samples_are_counted_and_the_schedule_stays() {
        let mut pace = Pace::start(16_000);
        assert_eq!(pace.due(10_000 * MS), Due::Samples { count: 320, lost: 159_680 });
        assert_eq!(pace.due(10_019 * MS), Due::Nothing);
        assert_eq!(pace.due(10_020 * MS), PIECE);
    }

    #[test]
    fn an_hour_of_44100_hz_does_not_drift() {
        let mut pace = Pace::start(44_100);
        for piece in 1..=180_000_u32 {
            assert_eq!(pace.due(20 * MS * piece), Due::Samples { count: 882, lost: 0 });
        }
        assert_eq!(pace.passed, 44_100 * 3600);
    }

    #[test]
    fn waiting_takes_the_time_that_audio_takes() {
        let mut pace = Pace::start(16_000);
        let start = Instant::now();
        let mut pieces = 0;
        while pieces < 5 {
            match pace.wait(5 * MS) {
                Due::Samples { lost, .. } => {
                    assert_eq!(lost, 0);
                    pieces += 1;
                }
                Due::Nothing => {}
            }
        }
        assert!(start.elapsed() >= 100 * MS);
    }
}
