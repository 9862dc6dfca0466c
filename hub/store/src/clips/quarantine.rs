//! The quarantine: clips that no event refers to, although the database never released them.
//!
//! Such a clip may be all that is left of an event: its database was lost, replaced or restored from a backup. So it is
//! not deleted but moved to `quarantine/DATE/` in the data directory. Events are recovered from there. What is left
//! over is deleted after [`KEEP_DAYS`] days, or earlier if the quarantine exceeds [`KEEP_BYTES`]. A folder from which
//! events are still to be recovered is never deleted.

use std::fs::DirEntry;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub_base::time::now_ns;
use jiff::civil::Date;

use super::codec::ClipFormat;
use crate::private;

/// Directory of the quarantine within the data directory.
const DIRECTORY: &str = "quarantine";

/// A folder with this file has clips from which events are to be recovered.
const TO_RECOVER: &str = ".recover";

/// Files in the quarantine are deleted after this many days.
pub const KEEP_DAYS: i64 = 30;

/// Size of all files in the quarantine, in bytes, above which the oldest are deleted.
pub const KEEP_BYTES: u64 = 2_000_000_000;

/// Nothing is deleted by age before the wall clock has agreed with the monotonic clock for this long.
const STEADY_FOR: Duration = Duration::from_secs(86_400);

/// How far the two clocks may drift apart within that time.
const STEADY_WITHIN_NS: i64 = 300 * 1_000_000_000;

/// The quarantine of one data directory.
#[derive(Debug)]
pub(super) struct Quarantine {
    root: PathBuf,
    clock: Mutex<Steady>,
}

/// Compares the wall clock with the monotonic clock.
#[derive(Debug)]
struct Steady {
    since: Instant,
    wall_ns: i64,
}

impl Steady {
    fn now() -> Self {
        Self { since: Instant::now(), wall_ns: now_ns() }
    }

    /// Whether the clocks have agreed long enough. If they disagree, the comparison begins again.
    fn is_trusted(&mut self, now: Instant, wall_ns: i64) -> bool {
        let elapsed = now.duration_since(self.since);
        let expected = self.wall_ns.saturating_add(i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX));
        if expected.abs_diff(wall_ns) > STEADY_WITHIN_NS.unsigned_abs() {
            *self = Self { since: now, wall_ns };
            return false;
        }
        elapsed >= STEADY_FOR
    }
}

impl Quarantine {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join(DIRECTORY), clock: Mutex::new(Steady::now()) }
    }

    /// Today's folder. `lost`: events are to be recovered from it.
    pub(super) fn open_folder(&self, lost: bool) -> Result<PathBuf> {
        let folder = self.root.join(jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
        private::create_folder(&self.root)?;
        private::create_folder(&folder)?;
        if lost {
            private::replace(&folder.join(TO_RECOVER), b"", true)?;
        }
        Ok(folder)
    }

    /// Moves a file into a folder of the quarantine, and replaces no other file there.
    pub(super) fn take(path: &Path, folder: &Path) -> Result<()> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
        let mut to = folder.join(name);
        for copy in 2_u32.. {
            if !to.try_exists()? {
                break;
            }
            to = folder.join(format!("{copy}-{name}"));
        }
        private::tighten(path)?;
        match std::fs::rename(path, &to) {
            // The clips are on a disk of their own.
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                private::replace(&to, &std::fs::read(path)?, true)?;
                std::fs::remove_file(path)
            }
            done => done,
        }
    }

    /// Clips from which events are to be recovered, in order of name.
    pub(super) fn to_recover(&self) -> Result<Vec<PathBuf>> {
        let mut clips = Vec::new();
        for folder in self.folders_to_recover()? {
            clips.extend(clips_in(&folder)?.iter().map(DirEntry::path));
        }
        clips.sort();
        Ok(clips)
    }

    /// Whether events are to be recovered.
    pub(super) fn has_to_recover(&self) -> Result<bool> {
        Ok(!self.folders_to_recover()?.is_empty())
    }

    /// Events were recovered from everything that [`Quarantine::to_recover`] listed.
    pub(super) fn all_recovered(&self) -> Result<()> {
        for folder in self.folders_to_recover()? {
            std::fs::remove_file(folder.join(TO_RECOVER))?;
            // Only an empty folder is removed.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    }

    /// Removes the copies of a clip that its owner deleted.
    pub(super) fn forget(&self, name: &str) -> Result<()> {
        for folder in self.folders()? {
            missing_is_fine(std::fs::remove_file(folder.join(name)))?;
        }
        Ok(())
    }

    /// Deletes what is too old, and the oldest files above `keep_bytes`. Returns the number of deleted files.
    pub(super) fn tidy(&self, keep_bytes: u64) -> Result<usize> {
        let wall_ns = now_ns();
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let today = if clock.is_trusted(Instant::now(), wall_ns) { date_of(wall_ns) } else { None };
        drop(clock);
        self.tidy_at(today, keep_bytes)
    }

    /// `today`: `None` while the date is not certain; then nothing is deleted by age.
    fn tidy_at(&self, today: Option<Date>, keep_bytes: u64) -> Result<usize> {
        let mut deleted = 0;
        let mut kept = Vec::new();
        for folder in self.folders()? {
            if folder.join(TO_RECOVER).try_exists()? {
                continue;
            }
            let clips = clips_in(&folder)?;
            let too_old = today.is_some_and(|today| age_days(&folder, today).is_some_and(|days| days > KEEP_DAYS));
            if too_old {
                for clip in &clips {
                    missing_is_fine(std::fs::remove_file(clip.path()))?;
                    deleted += 1;
                }
            } else {
                for clip in &clips {
                    kept.push((clip.path(), clip.metadata()?.len()));
                }
            }
            // Only an empty folder is removed.
            let _ = std::fs::remove_dir(&folder);
        }
        let mut bytes: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        kept.sort();
        for (path, size) in kept {
            if bytes <= keep_bytes {
                break;
            }
            missing_is_fine(std::fs::remove_file(path))?;
            bytes -= size;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn folders_to_recover(&self) -> Result<Vec<PathBuf>> {
        let mut folders = self.folders()?;
        folders.retain(|folder| folder.join(TO_RECOVER).exists());
        Ok(folders)
    }

    fn folders(&self) -> Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        folders.sort();
        Ok(folders)
    }
}

fn clips_in(folder: &Path) -> Result<Vec<DirEntry>> {
    let mut clips = std::fs::read_dir(folder)?.collect::<Result<Vec<_>>>()?;
    clips.retain(|entry| entry.file_name().to_str().is_some_and(ClipFormat::is_clip));
    Ok(clips)
}

fn missing_is_fine(done: Result<()>) -> Result<()> {
    match done {
        Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn date_of(wall_ns: i64) -> Option<Date> {
    let moment = jiff::Timestamp::from_nanosecond(i128::from(wall_ns)).ok()?;
    Some(moment.to_zoned(jiff::tz::TimeZone::UTC).date())
}

fn age_days(folder: &Path, today: Date) -> Option<i64> {
    let date: Date = folder.file_name()?.to_str()?.parse().ok()?;
    Some(i64::from((today - date).get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_NS: i64 = 86_400 * 1_000_000_000;

    fn put(root: &Path, date: &str, name: &str, bytes: usize) -> PathBuf {
        let folder = root.join(DIRECTORY).join(date);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), vec![0; bytes]).unwrap();
        folder.join(name)
    }

    #[test]
    fn old_files_and_files_above_the_quota_go_and_those_to_recover_stay() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path());
        let old = put(dir.path(), "2026-01-01", "a.wav", 10);
        let waiting = put(dir.path(), "2026-01-02", "b.wav", 1_000);
        std::fs::write(waiting.with_file_name(TO_RECOVER), "").unwrap();
        let first = put(dir.path(), "2026-02-01", "c.wav", 10);
        let second = put(dir.path(), "2026-02-02", "d.flac", 10);
        assert_eq!(quarantine.tidy_at(None, 100).unwrap(), 0, "the date is not certain");
        assert_eq!(quarantine.tidy_at(Some("2026-02-01".parse().unwrap()), 100).unwrap(), 1);
        assert_eq!([&old, &waiting, &first, &second].map(|path| path.exists()), [false, true, true, true]);
        assert!(!old.parent().unwrap().exists());
        assert_eq!(quarantine.tidy_at(None, 10).unwrap(), 1);
        assert_eq!([&waiting, &first, &second].map(|path| path.exists()), [true, false, true]);
        quarantine.all_recovered().unwrap();
        assert_eq!(quarantine.tidy_at(None, 10).unwrap(), 1, "the larger, older one");
        assert!(!waiting.exists() && second.exists());
    }

    #[test]
    fn date_is_certain_after_a_day_without_steps_of_the_clock() {
        let start = Instant::now();
        let at = |hours: u64| start + Duration::from_secs(3_600 * hours);
        let steady = || Steady { since: start, wall_ns: 5 };
        assert!(steady().is_trusted(at(24), 5 + DAY_NS));
        assert!(!steady().is_trusted(at(23), 5 + DAY_NS / 24 * 23));
        assert!(!steady().is_trusted(at(24), 5), "the clock jumped back");
        let mut jumped = steady();
        assert!(!jumped.is_trusted(at(24), 5 + 100 * DAY_NS), "the clock jumped ahead");
        assert!(!jumped.is_trusted(at(47), 5 + 100 * DAY_NS + DAY_NS / 24 * 23));
        assert!(jumped.is_trusted(at(48), 5 + 101 * DAY_NS), "a day has passed since the jump");
    }

    #[test]
    fn files_of_one_name_do_not_replace_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path());
        let folder = quarantine.open_folder(false).unwrap();
        for content in ["first", "second", "third"] {
            let path = dir.path().join("a.wav");
            std::fs::write(&path, content).unwrap();
            Quarantine::take(&path, &folder).unwrap();
        }
        assert_eq!(clips_in(&folder).unwrap().len(), 3);
        assert_eq!(std::fs::read_to_string(folder.join("3-a.wav")).unwrap(), "third");
        assert!(!quarantine.has_to_recover().unwrap());
    }
}
