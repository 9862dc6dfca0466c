//! Whether the wall clock can be believed.
//!
//! A machine without a battery-backed clock starts at any date, and one with an empty battery too. What is deleted by
//! its age while the clock lies is gone. So nothing is deleted by age unless the clock is plausible:
//!
//! - the kernel calls it synchronised (see the crate `kernel-clock`, also for containers and virtual machines), or
//! - it has agreed with the machine's steady clock for [`AGREEMENT`] since the hub started, without a jump, or
//! - an admin said so by `hub clock accept`, since the start or the last jump.
//!
//! Dates of events are no evidence, neither for the clock nor against it.

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::time::now_ns;

/// A clock that is not synchronised must agree with the steady clock for this long.
pub const AGREEMENT: Duration = Duration::from_secs(24 * 3_600);

/// The wall clock has jumped if it moved against the steady clock by more than this. A leap second is no jump.
pub const JUMP: Duration = Duration::from_secs(2);

/// How soon the running hub notices `hub clock accept`.
pub const LOOK_PERIOD: Duration = Duration::from_secs(30);

/// Jumps of the wall clock that are remembered, to tell how long ago it said a time.
const REMEMBERED_JUMPS: usize = 64;

/// An acceptance that a hub finds at its start counts only if it is younger than this.
const ACCEPTANCE_AGE: Duration = Duration::from_secs(3_600);

/// The file in the data folder by which `hub clock accept` reaches the hub. The hub removes it.
const ACCEPT_FILE: &str = "clock.accept";

/// The file in the data folder with what the running hub thinks of the clock, for `hub clock status`.
const STATE_FILE: &str = "clock.state";

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Nanoseconds since the machine's start, time asleep included. Nobody can set this clock.
    pub steady_ns: i64,
    /// The wall clock, in nanoseconds since 1970 UTC.
    pub unix_ns: i64,
    /// Whether the kernel calls the wall clock synchronised. `None`: it does not say.
    pub synchronised: Option<bool>,
}

/// What is thought of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Plausible: the kernel calls it synchronised.
    Synchronised,
    /// Plausible: it has agreed with the steady clock for [`AGREEMENT`].
    Agreed,
    /// Plausible: an admin accepted it.
    Accepted,
    /// Not plausible: nothing is deleted by age, for this long already.
    Doubted {
        /// Since the start of the hub, the last jump, or the end of the synchronisation.
        lasts: Duration,
    },
}

/// The hub's view of the wall clock. Clones share it.
#[derive(Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

struct Inner {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    /// Where an admin is heard. `None`: another process listens to the admin.
    folder: Option<PathBuf>,
    judge: Mutex<Judge>,
    /// Both clocks at the start of the hub and after each jump. At most [`REMEMBERED_JUMPS`].
    stretches: Mutex<VecDeque<Reading>>,
}

/// Judges the clock by readings alone.
#[derive(Debug, Clone, Copy)]
struct Judge {
    /// Wall time less steady time, when the agreement began.
    offset_ns: i64,
    agrees_since_ns: i64,
    accepted: bool,
    doubted_since_ns: Option<i64>,
}

impl Clock {
    /// The machine's clock. `folder`: the data folder, if this process owns it. Any other process cannot hear an admin.
    pub fn of_machine(folder: Option<&Path>) -> Self {
        Self::with(folder, read_machine)
    }

    /// A clock of a test.
    pub fn with(folder: Option<&Path>, read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let (now, folder) = (read(), folder.map(Path::to_path_buf));
        let (judge, stretches) = (Mutex::new(Judge::new(now)), Mutex::new(VecDeque::from([now])));
        let clock = Self { inner: Arc::new(Inner { read: Box::new(read), folder, judge, stretches }) };
        if clock.take_acceptance(ACCEPTANCE_AGE) {
            clock.lock().accepted = true;
        }
        clock
    }

    /// Judges the clock now. Blocks for a moment: it looks for a file.
    pub fn look(&self) -> Standing {
        self.judged().1
    }

    /// The wall time, if things may be deleted by their age. `None`: the clock is not plausible.
    pub fn for_deletion_ns(&self) -> Option<i64> {
        let (reading, standing) = self.judged();
        standing.is_plausible().then_some(reading.unix_ns)
    }

    /// How long ago the wall clock said `unix_ns`, whatever jumps it has made since then.
    ///
    /// # Errors
    /// If the wall clock has not said so in this run of the hub, as far as is known: how long this run has lasted.
    pub fn age_of(&self, unix_ns: i64) -> Result<Duration, Duration> {
        let (now, _) = self.judged();
        let stretches = self.inner.stretches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end_ns = now.steady_ns;
        // Of several times at which the clock may have said so, the last one counts.
        for (place, stretch) in stretches.iter().enumerate().rev() {
            let at_ns = unix_ns.saturating_sub(stretch.unix_ns).saturating_add(stretch.steady_ns);
            // A jump is noticed a while after it.
            let slack_ns = if place == 0 { 0 } else { nanoseconds(2 * LOOK_PERIOD) };
            let began_ns = stretch.steady_ns.saturating_sub(slack_ns);
            if (began_ns..=end_ns.saturating_add(nanoseconds(JUMP))).contains(&at_ns) {
                return Ok(since(at_ns, now.steady_ns));
            }
            end_ns = stretch.steady_ns;
        }
        Err(since(stretches.front().map_or(now.steady_ns, |start| start.steady_ns), now.steady_ns))
    }

    /// Writes down what is thought of the clock, for `hub clock status`. A failure is of no consequence.
    pub fn write_state(&self, standing: Standing) {
        let Some(folder) = &self.inner.folder else { return };
        let beside = folder.join(format!("{STATE_FILE}.part"));
        let written = std::fs::write(&beside, format!("{standing}\n"));
        let _ = written.and_then(|()| std::fs::rename(&beside, folder.join(STATE_FILE)));
    }

    fn judged(&self) -> (Reading, Standing) {
        let accepted = self.take_acceptance(Duration::MAX);
        let reading = (self.inner.read)();
        let mut judge = self.lock();
        let offset_ns = judge.offset_ns;
        let standing = judge.look(reading, accepted);
        if judge.offset_ns != offset_ns {
            let mut stretches = self.inner.stretches.lock().unwrap_or_else(PoisonError::into_inner);
            if stretches.len() == REMEMBERED_JUMPS {
                stretches.pop_front();
            }
            stretches.push_back(reading);
        }
        (reading, standing)
    }

    /// Whether an admin has accepted the clock within `age` by the wall clock. Removes the file.
    fn take_acceptance(&self, age: Duration) -> bool {
        let Some(folder) = &self.inner.folder else { return false };
        let path = folder.join(ACCEPT_FILE);
        let Ok(made) = std::fs::metadata(&path).and_then(|found| found.modified()) else { return false };
        // A file that cannot be removed would accept every later jump.
        let removed = std::fs::remove_file(&path).is_ok();
        removed && (age == Duration::MAX || SystemTime::now().duration_since(made).is_ok_and(|past| past < age))
    }

    fn lock(&self) -> MutexGuard<'_, Judge> {
        self.inner.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Clock").field("judge", &self.lock()).finish_non_exhaustive()
    }
}

impl Standing {
    /// Whether things may be deleted by their age.
    pub fn is_plausible(self) -> bool {
        !matches!(self, Self::Doubted { .. })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synchronised => out.write_str("plausible: synchronised by NTP"),
            Self::Agreed => out.write_str("plausible: it has run without a jump for a day"),
            Self::Accepted => out.write_str("plausible: accepted by an admin"),
            Self::Doubted { .. } => out.write_str(
                "in doubt: not synchronised by NTP, and not yet a day without a jump; nothing is deleted by age",
            ),
        }
    }
}

impl Judge {
    fn new(now: Reading) -> Self {
        Self {
            offset_ns: now.unix_ns.saturating_sub(now.steady_ns),
            agrees_since_ns: now.steady_ns,
            accepted: false,
            doubted_since_ns: None,
        }
    }

    fn look(&mut self, now: Reading, accepts: bool) -> Standing {
        let offset_ns = now.unix_ns.saturating_sub(now.steady_ns);
        if u128::from(offset_ns.abs_diff(self.offset_ns)) > JUMP.as_nanos() {
            *self = Self::new(now);
        }
        self.accepted |= accepts;
        let agreed_ns = now.steady_ns.saturating_sub(self.agrees_since_ns).max(0).unsigned_abs();
        let standing = if now.synchronised == Some(true) {
            Standing::Synchronised
        } else if Duration::from_nanos(agreed_ns) >= AGREEMENT {
            Standing::Agreed
        } else if self.accepted {
            Standing::Accepted
        } else {
            let since_ns = *self.doubted_since_ns.get_or_insert(now.steady_ns);
            let lasts = Duration::from_nanos(now.steady_ns.saturating_sub(since_ns).max(0).unsigned_abs());
            return Standing::Doubted { lasts };
        };
        self.doubted_since_ns = None;
        standing
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The time from one reading of the steady clock to a later one.
fn since(earlier_ns: i64, later_ns: i64) -> Duration {
    Duration::from_nanos(later_ns.saturating_sub(earlier_ns).max(0).unsigned_abs())
}

/// Nanoseconds of the machine's steady clock, time asleep included.
pub fn steady_ns() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

fn read_machine() -> Reading {
    Reading { steady_ns: steady_ns(), unix_ns: now_ns(), synchronised: kernel_clock::is_synchronised() }
}

/// Asks the hub that uses this data folder to accept the clock, as `hub clock accept` does. Works without a hub, too:
/// one that starts within an hour accepts it.
///
/// # Errors
/// If the folder cannot be written.
pub fn accept(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join(ACCEPT_FILE), [])
}

/// What `hub clock status` prints: what the kernel says, and what the hub thinks.
///
/// # Errors
/// If the folder cannot be read.
pub fn status(folder: &Path) -> std::io::Result<String> {
    let kernel = match kernel_clock::is_synchronised() {
        Some(true) => "synchronised",
        Some(false) => "not synchronised",
        None => "unknown, because the call adjtimex is denied here",
    };
    let hub = match std::fs::read_to_string(folder.join(STATE_FILE)) {
        Ok(state) => state.trim_end().to_owned(),
        Err(missing) if missing.kind() == ErrorKind::NotFound && folder.is_dir() => {
            "no hub has used this folder".into()
        }
        Err(error) => return Err(error),
    };
    Ok(format!("kernel: {kernel}\nhub: {hub}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;

    fn at(steady_ns: i64, unix_ns: i64) -> Reading {
        Reading { steady_ns, unix_ns, synchronised: Some(false) }
    }

    fn doubted(standing: Standing) -> bool {
        !standing.is_plausible()
    }

    #[test]
    fn clock_without_ntp_is_believed_after_a_day_without_a_jump() {
        let mut judge = Judge::new(at(0, 100 * DAY));
        assert!(doubted(judge.look(at(0, 100 * DAY), false)));
        let almost = DAY - SECOND;
        let lasts = Duration::from_secs(86_399);
        assert_eq!(judge.look(at(almost, 100 * DAY + almost), false), Standing::Doubted { lasts });
        assert_eq!(judge.look(at(DAY, 101 * DAY + SECOND), false), Standing::Agreed, "a leap second is no jump");
    }

    #[test]
    fn jump_needs_a_new_day_unless_the_clock_is_synchronised() {
        let mut judge = Judge::new(at(0, 0));
        assert_eq!(judge.look(at(DAY, DAY), false), Standing::Agreed);
        // Ahead by eleven years.
        let ahead = |steady: i64| at(steady, steady + 4_000 * DAY);
        assert!(doubted(judge.look(ahead(DAY + SECOND), false)));
        assert!(doubted(judge.look(ahead(2 * DAY), false)));
        let by_ntp = Reading { synchronised: Some(true), ..ahead(2 * DAY) };
        assert_eq!(judge.look(by_ntp, false), Standing::Synchronised);
        assert!(doubted(judge.look(ahead(2 * DAY), false)), "NTP is gone again, and the day is not over");
        assert_eq!(judge.look(ahead(2 * DAY + SECOND), false), Standing::Agreed);
    }

    #[test]
    fn acceptance_lasts_until_the_next_jump() {
        let mut judge = Judge::new(at(0, 0));
        assert_eq!(judge.look(at(SECOND, SECOND), true), Standing::Accepted);
        assert_eq!(judge.look(at(2 * SECOND, 2 * SECOND), false), Standing::Accepted);
        assert!(doubted(judge.look(at(3 * SECOND, 9 * DAY), false)));
    }

    #[test]
    fn age_goes_by_the_steady_clock_whatever_the_wall_clock_said() {
        let now = Arc::new(Mutex::new(at(1_000 * SECOND, 100 * DAY)));
        let read = Arc::clone(&now);
        let clock = Clock::with(None, move || *read.lock().unwrap());
        let seconds = |count: u64| Duration::from_secs(count);
        let pass = |count: i64| {
            let mut now = now.lock().unwrap();
            *now = at(now.steady_ns + count * SECOND, now.unix_ns + count * SECOND);
        };
        pass(60);
        assert_eq!(clock.age_of(100 * DAY + 50 * SECOND), Ok(seconds(10)));
        assert_eq!(clock.age_of(99 * DAY), Err(seconds(60)), "before this run of the hub");
        // It steps ahead by years; what is written right after that is young, too, and what was written before it.
        now.lock().unwrap().unix_ns = 4_000 * DAY;
        pass(20);
        assert_eq!(clock.age_of(4_000 * DAY), Ok(seconds(20)));
        assert_eq!(clock.age_of(100 * DAY + 50 * SECOND), Ok(seconds(30)));
        // And back again: what was written in between does not lie in the future.
        now.lock().unwrap().unix_ns = 100 * DAY + 80 * SECOND;
        clock.look();
        pass(3_600);
        assert_eq!(clock.age_of(4_000 * DAY), Ok(seconds(3_620)));
        assert_eq!(clock.age_of(100 * DAY + 100 * SECOND), Ok(seconds(3_580)));
        for step in 0..1_000 {
            now.lock().unwrap().unix_ns = step * DAY;
            clock.look();
        }
        assert_eq!(clock.inner.stretches.lock().unwrap().len(), REMEMBERED_JUMPS);
    }

    #[test]
    fn sleep_of_the_machine_is_no_jump() {
        let mut judge = Judge::new(at(0, 0));
        assert_eq!(judge.look(at(3 * DAY, 3 * DAY), false), Standing::Agreed);
    }

    #[test]
    fn admin_is_heard_by_a_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::with(Some(folder.path()), || at(0, 0));
        assert_eq!(clock.for_deletion_ns(), None);
        accept(folder.path()).unwrap();
        assert_eq!(clock.look(), Standing::Accepted);
        assert_eq!(clock.for_deletion_ns(), Some(0));
        assert!(!folder.path().join(ACCEPT_FILE).exists(), "it would accept the next jump, too");
        assert!(doubted(Clock::with(Some(folder.path()), || at(0, 0)).look()), "another start of the hub");
        accept(folder.path()).unwrap();
        assert_eq!(
            Clock::with(Some(folder.path()), || at(0, 0)).look(),
            Standing::Accepted,
            "said just before the start"
        );
    }

    #[test]
    fn status_tells_what_kernel_and_hub_think() {
        let folder = tempfile::tempdir().unwrap();
        assert!(status(folder.path()).unwrap().ends_with("hub: no hub has used this folder\n"));
        let clock = Clock::with(Some(folder.path()), || at(0, 0));
        clock.write_state(clock.look());
        let said = status(folder.path()).unwrap();
        assert!(said.starts_with("kernel: ") && said.contains("hub: in doubt: not"), "{said}");
        assert!(status(&folder.path().join("missing")).is_err());
    }
}
