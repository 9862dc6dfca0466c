//! How much may still happen: some at once, and then so many a second.

use std::time::Instant;

/// What is left of an allowance. It grows with time, up to its size.
#[derive(Debug)]
pub struct Allowance {
    /// The most that may be left.
    size: f64,
    /// What it grows by, a second.
    grows_a_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    /// A full allowance.
    pub fn new(size: f64, grows_a_second: f64, now: Instant) -> Self {
        Self { size, grows_a_second, left: size, at: now }
    }

    /// Takes one. `false`: none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let grown = now.duration_since(self.at).as_secs_f64() * self.grows_a_second;
        let left = (self.left + grown).min(self.size);
        if left < 1.0 {
            // Nothing is added up here, so that no rounding adds up either.
            return false;
        }
        (self.left, self.at) = (left - 1.0, now);
        true
    }
}
