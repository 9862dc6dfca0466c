//! Logging of repeated failures without a flood.

use std::time::{Duration, Instant};

/// Lets the first of a row of like events through, then one in each `period`, and says how many it held back.
#[derive(Debug)]
pub struct Quiet {
    period: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl Quiet {
    /// At most one event in `period` is let through.
    pub fn new(period: Duration) -> Self {
        Self { period, last: None, held_back: 0 }
    }

    /// `Some(n)`: log this one; `n` like it were held back since the last. `None`: hold it back.
    pub fn allow(&mut self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    /// The row of failures has ended: the next one is logged at once.
    pub fn reset(&mut self) {
        self.last = None;
        self.held_back = 0;
    }

    fn allow_at(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < self.period) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_period_passes_and_tells_how_many_were_held_back() {
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
