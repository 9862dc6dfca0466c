//! Capped, jittered back-off that starts anew once things are healthy.

use std::time::Duration;

use rand::RngExt;

/// Waits that double from `first` to `cap`, each drawn between half and the whole of it, so that many clients that lost the
/// same server do not come back in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Back-off whose first wait is at most `first` and whose later ones are at most `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// How long to wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next.min(self.cap);
        self.next = (whole * 2).min(self.cap);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// The last try worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_anew_after_reset() {
        let first = Duration::from_millis(100);
        let cap = Duration::from_secs(5);
        let mut backoff = Backoff::new(first, cap);
        let mut whole = first;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} is not within half to whole of {whole:?}");
            whole = (whole * 2).min(cap);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
