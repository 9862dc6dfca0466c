//! The node's time: a monotonic clock that starts with the node, and the wall clock where it can be trusted.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// 2025-01-01 00:00 UTC in nanoseconds since 1970. A machine without a battery-backed clock starts with an earlier
/// time.
const EARLIEST_PLAUSIBLE_UNIX_NS: i64 = 1_735_689_600_000_000_000;

/// systemd-timesyncd creates this folder when it starts, and the file in it once the time was set from the network.
const TIMESYNC_FOLDER: &str = "/run/systemd/timesync";
const TIMESYNC_DONE: &str = "/run/systemd/timesync/synchronized";

/// Monotonic time since the node's start, in nanoseconds. Frames are numbered and stamped by it. Wall time is derived
/// from it only when somebody asks, so a wall clock that is stepped or set late changes no frame.
#[derive(Debug, Clone, Copy)]
pub struct NodeClock {
    start: Instant,
}

impl NodeClock {
    /// A clock that reads 0 now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        // 2^64 ns are 584 years.
        self.start.elapsed().as_nanos() as u64
    }

    /// How to turn times of this clock into wall time now, or `None` while the wall time is unknown.
    pub fn wall(&self) -> Option<WallMapping> {
        let now_ns = self.now_ns();
        let unix_ns = unix_ns(SystemTime::now());
        if unix_ns < EARLIEST_PLAUSIBLE_UNIX_NS || waits_for_network_time(TIMESYNC_FOLDER, TIMESYNC_DONE) {
            return None;
        }
        Some(WallMapping { offset_ns: unix_ns - now_ns as i64 })
    }
}

/// Turns the node's monotonic time into wall time, by an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallMapping {
    offset_ns: i64,
}

impl WallMapping {
    /// Wall time that corresponds to a time of the node's monotonic clock, in nanoseconds since 1970 UTC.
    pub fn unix_ns(self, monotonic_ns: u64) -> i64 {
        self.offset_ns.saturating_add_unsigned(monotonic_ns)
    }
}

/// Keeps a mapping for a second, for callers that stamp frame after frame.
#[derive(Debug)]
pub struct WallClock {
    clock: NodeClock,
    read_at_ns: u64,
    mapping: Option<WallMapping>,
}

impl WallClock {
    /// How long a mapping is used before the wall clock is read again.
    const FRESH: Duration = Duration::from_secs(1);

    /// Reads the wall clock now.
    pub fn new(clock: NodeClock) -> Self {
        Self { clock, read_at_ns: clock.now_ns(), mapping: clock.wall() }
    }

    /// Wall time that corresponds to a time of the node's monotonic clock, in nanoseconds since 1970 UTC. 0 while it is
    /// unknown.
    pub fn unix_ns(&mut self, monotonic_ns: u64) -> i64 {
        let now_ns = self.clock.now_ns();
        if now_ns - self.read_at_ns >= Self::FRESH.as_nanos() as u64 {
            self.read_at_ns = now_ns;
            self.mapping = self.clock.wall();
        }
        self.mapping.map_or(0, |mapping| mapping.unix_ns(monotonic_ns))
    }
}

fn unix_ns(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Whether systemd-timesyncd runs and has not reached a time server since boot. Until then the wall clock shows when
/// the machine was last switched off.
fn waits_for_network_time(folder: &str, done: &str) -> bool {
    Path::new(folder).exists() && !Path::new(done).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_starts_at_the_start_and_never_goes_back() {
        let clock = NodeClock::start();
        let first = clock.now_ns();
        assert!(clock.now_ns() >= first);
    }

    #[test]
    fn wall_time_is_the_monotonic_time_shifted() {
        let mapping = WallMapping { offset_ns: EARLIEST_PLAUSIBLE_UNIX_NS };
        assert_eq!(mapping.unix_ns(20_000_000), EARLIEST_PLAUSIBLE_UNIX_NS + 20_000_000);
    }

    #[test]
    fn wall_time_is_unknown_until_timesyncd_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("synchronized");
        let (folder, done) = (folder.path().to_str().unwrap(), done.to_str().unwrap());
        assert!(waits_for_network_time(folder, done));
        std::fs::write(done, "").unwrap();
        assert!(!waits_for_network_time(folder, done));
        assert!(!waits_for_network_time("/nowhere/timesync", done));
    }
}
