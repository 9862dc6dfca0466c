//! Waits between retries: exponential back-off with a cap and jitter.

use std::time::Duration;

use rand::RngExt;

/// Waits that double from `first` to `cap`. Each is a random length between half of that and all of it (jitter), so
/// that the clients of a server that went down do not all come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// A back-off whose first wait is at most `first` and whose later waits are at most `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, next: first }
    }

    /// How long to wait before the next attempt.
    pub fn next_wait(&mut self) -> Duration {
        let whole = self.next.min(self.cap);
        self.next = (whole * 2).min(self.cap);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Call it when an attempt has succeeded: the next wait is at most `first` again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over_after_reset() {
        let first = Duration::from_millis(100);
        let cap = Duration::from_secs(5);
        let mut backoff = Backoff::new(first, cap);
        let mut whole = first;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} is not between half of {whole:?} and all of it");
            whole = (whole * 2).min(cap);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
