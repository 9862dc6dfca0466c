//! The time by which certificates are made and renewed.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01, in seconds since 1970. An earlier time is that of a machine without a clock before it has asked for the
/// time.
pub(super) const FLOOR_S: u64 = 1_767_225_600;

/// Gives the wall clock's time. Tests give another one.
#[derive(Clone)]
pub(super) struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The clock of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    #[cfg(test)]
    pub(super) fn of(time: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(time))
    }

    /// Seconds since 1970.
    pub(super) fn now_s(&self) -> u64 {
        (self.0)().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }
}
