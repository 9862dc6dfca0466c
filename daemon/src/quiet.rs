//! Limits the rate of log messages about failures that repeat.

use std::time::{Duration, Instant};

/// Lets the first of a series of messages through, then one in each `period`, and counts those it holds back.
#[derive(Debug)]
pub struct Quiet {
    period: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl Quiet {
    /// Lets at most one message in each `period` through.
    pub fn new(period: Duration) -> Self {
        Self { period, last: None, suppressed: 0 }
    }

    /// `Some(n)`: log this message; `n` were held back since the last one. `None`: do not log it.
    pub fn allow(&mut self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    /// Ends the series, because all is well again: the next message is logged at once.
    pub fn reset(&mut self) {
        self.last = None;
        self.suppressed = 0;
    }

    fn allow_at(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < self.period) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_in_a_period_passes_and_those_held_back_are_counted() {
        let start = Instant::now();
        let mut quiet = Quiet::new(Duration::from_secs(10));
        assert_eq!(quiet.allow_at(start), Some(0));
        for second in 1..10 {
            assert_eq!(quiet.allow_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(quiet.allow_at(start + Duration::from_secs(10)), Some(9));
        quiet.reset();
        assert_eq!(quiet.allow_at(start + Duration::from_secs(11)), Some(0));
    }
}
