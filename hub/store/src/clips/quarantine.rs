//! The quarantine: clips that no event refers to, although the database never released them.
//!
//! Such a clip may be all that is left of an event: its database was lost, replaced or restored from a backup. So it is
//! not deleted but moved to `quarantine/DATE/` in the data directory. Events are recovered from there. What is left
//! over is deleted after [`KEEP_DAYS`] days, or earlier if the quarantine exceeds [`KEEP_BYTES`]. A folder from which
//! events are still to be recovered is never deleted.

use std::collections::HashSet;
use std::fs::DirEntry;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use daemon::private;
use jiff::civil::Date;
use tracing::warn;

use super::codec::ClipFormat;

/// Directory of the quarantine within the data directory.
const DIRECTORY: &str = "quarantine";

/// A folder with this file has clips from which events are to be recovered. It holds the number of recoveries that left
/// a clip of the folder because of an error.
const TO_RECOVER: &str = ".recover";

/// The file with the age of a folder: the number of days on which the hub saw the folder while its clock was plausible,
/// and the last of these days.
const AGE: &str = ".age";

/// Files in the quarantine are deleted after this many days on which the hub ran and its clock was plausible. The date
/// in the name of a folder does not count, because a clock that lied may have named it.
pub const KEEP_DAYS: u32 = 30;

/// Size of all files in the quarantine, in bytes, above which the oldest are deleted.
pub const KEEP_BYTES: u64 = 2_000_000_000;

/// Recoveries that may leave clips of a folder because of errors. After the last one, the folder ages like others.
const MOST_RECOVERIES: u32 = 10;

/// The quarantine of one data directory.
#[derive(Debug)]
pub(super) struct Quarantine {
    root: PathBuf,
}

impl Quarantine {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join(DIRECTORY) }
    }

    /// Today's folder. `lost`: events are to be recovered from it.
    pub(super) fn open_folder(&self, lost: bool) -> Result<PathBuf> {
        let folder = self.root.join(jiff::Timestamp::now().strftime("%Y-%m-%d").to_string());
        private::create_folder(&self.root)?;
        private::create_folder(&folder)?;
        if lost {
            private::replace(&folder.join(TO_RECOVER), b"0", true)?;
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
        private::move_file(path, &to)
    }

    /// Moves the files of these names to `directory`, and removes their names from the list. Returns their number.
    /// Files that could not be moved stay on the list.
    pub(super) fn return_to(&self, directory: &Path, names: &mut HashSet<String>) -> Result<usize> {
        let before = names.len();
        for folder in self.folders()? {
            for clip in clips_in(&folder)? {
                let file_name = clip.file_name();
                let Some(name) = file_name.to_str().filter(|name| names.contains(*name)) else { continue };
                match private::move_file(&clip.path(), &directory.join(name)) {
                    Ok(()) => {
                        names.remove(name);
                    }
                    Err(error) => {
                        let error = cause(&error);
                        warn!(file = %clip.path().display(), error, "a clip cannot leave the quarantine");
                    }
                }
            }
        }
        Ok(before - names.len())
    }

    /// Names of all clips in the quarantine.
    pub(super) fn names(&self) -> Result<HashSet<String>> {
        let mut names = HashSet::new();
        for folder in self.folders()? {
            names.extend(clips_in(&folder)?.into_iter().filter_map(|clip| clip.file_name().into_string().ok()));
        }
        Ok(names)
    }

    /// All clips in the quarantine.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>> {
        let mut clips = Vec::new();
        for folder in self.folders()? {
            clips.extend(clips_in(&folder)?.iter().map(DirEntry::path));
        }
        Ok(clips)
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

    /// Events were recovered from everything that [`Quarantine::to_recover`] listed, except from these `failed` files.
    /// The next start tries the folders of those again, up to [`MOST_RECOVERIES`] times.
    pub(super) fn recovered(&self, failed: &[PathBuf]) -> Result<()> {
        let failed: HashSet<&Path> = failed.iter().filter_map(|path| path.parent()).collect();
        for folder in self.folders_to_recover()? {
            let mark = folder.join(TO_RECOVER);
            let recoveries = std::fs::read_to_string(&mark)?.trim().parse::<u32>().unwrap_or(0).saturating_add(1);
            if failed.contains(folder.as_path()) && recoveries < MOST_RECOVERIES {
                private::replace(&mark, recoveries.to_string().as_bytes(), true)?;
            } else {
                std::fs::remove_file(mark)?;
                remove_if_empty(&folder);
            }
        }
        Ok(())
    }

    /// Removes the copies of a clip that its owner deleted.
    pub(super) fn forget(&self, name: &str) -> Result<()> {
        for folder in self.folders()? {
            for clip in clips_in(&folder)? {
                if clip.file_name().to_str().is_some_and(|found| original_name(found) == name) {
                    missing_is_fine(std::fs::remove_file(clip.path()))?;
                }
            }
        }
        Ok(())
    }

    /// Deletes what is too old, and the oldest files above `keep_bytes`. Returns the number of deleted files. `now_ns`:
    /// the time, in nanoseconds since 1970 UTC. `None`: the clock is in doubt; then nothing ages.
    pub(super) fn tidy(&self, now_ns: Option<i64>, keep_bytes: u64) -> Result<usize> {
        let today = now_ns.and_then(date_of);
        let mut deleted = 0;
        let mut kept = Vec::new();
        for folder in self.folders()? {
            if folder.join(TO_RECOVER).try_exists()? {
                continue;
            }
            let clips = clips_in(&folder)?;
            if clips.is_empty() {
                remove_if_empty(&folder);
                continue;
            }
            let days = age(&folder, today)?;
            if days > KEEP_DAYS {
                for clip in &clips {
                    missing_is_fine(std::fs::remove_file(clip.path()))?;
                    deleted += 1;
                }
                remove_if_empty(&folder);
            } else {
                for clip in &clips {
                    kept.push((std::cmp::Reverse(days), clip.path(), clip.metadata()?.len()));
                }
            }
        }
        let mut bytes: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        kept.sort();
        for (_, path, size) in kept {
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
    clips.retain(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        !is_folder && entry.file_name().to_str().is_some_and(ClipFormat::is_clip)
    });
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

/// The age of a folder in days. Each date on which the clock is plausible counts as one day, so a clock that jumps adds
/// one day at most.
fn age(folder: &Path, today: Option<Date>) -> Result<u32> {
    let path = folder.join(AGE);
    let text = match std::fs::read_to_string(&path) {
        Err(missing) if matches!(missing.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => String::new(),
        other => other?,
    };
    let known = text.split_once(' ').and_then(|(days, last)| Some((days.parse().ok()?, last.parse().ok()?)));
    let (days, last): (u32, Option<Date>) = known.map_or((0, None), |(days, last)| (days, Some(last)));
    match today {
        Some(today) if last != Some(today) => {
            let days = days.saturating_add(1);
            private::replace(&path, format!("{days} {today}").as_bytes(), false)?;
            Ok(days)
        }
        _ => Ok(days),
    }
}

/// Removes a folder without clips. A folder with other files stays.
fn remove_if_empty(folder: &Path) {
    if clips_in(folder).is_ok_and(|clips| clips.is_empty()) {
        let _ = std::fs::remove_file(folder.join(AGE));
        let _ = std::fs::remove_dir(folder);
    }
}

/// The name that a clip had before [`Quarantine::take`] put a number before it.
pub(super) fn original_name(name: &str) -> &str {
    match name.split_once('-') {
        // A boot id has 16 digits.
        Some((copy, rest)) if copy.len() < 16 && copy.parse::<u32>().is_ok_and(|copy| copy > 1) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use hub_base::time::DAY_NS;

    use super::*;

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
        for day in 0..30 {
            assert_eq!(quarantine.tidy(Some(day * DAY_NS), 100).unwrap(), 0, "day {day}");
            assert_eq!(quarantine.tidy(Some(day * DAY_NS), 100).unwrap(), 0, "the same day counts once");
        }
        let first = put(dir.path(), "2026-02-01", "c.wav", 10);
        assert_eq!(quarantine.tidy(None, 100).unwrap(), 0, "the date is not certain");
        assert_eq!(quarantine.tidy(Some(30 * DAY_NS), 100).unwrap(), 1);
        assert_eq!([&old, &waiting, &first].map(|path| path.exists()), [false, true, true]);
        assert!(!old.parent().unwrap().exists());
        // By its name, this folder is older.
        let second = put(dir.path(), "1970-01-01", "d.flac", 10);
        assert_eq!(quarantine.tidy(None, 10).unwrap(), 1);
        assert_eq!([&waiting, &first, &second].map(|path| path.exists()), [true, false, true]);
        quarantine.recovered(&[]).unwrap();
        quarantine.tidy(Some(40 * DAY_NS), 2_000).unwrap();
        assert_eq!(quarantine.tidy(None, 1_000).unwrap(), 1, "the older one");
        assert!(waiting.exists() && !second.exists());
    }

    #[test]
    fn folders_that_a_lying_clock_named_are_kept_as_long_as_others() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path());
        let clips = ["1970-01-01", "2099-01-01", "2026-11-01"].map(|date| put(dir.path(), date, "a.wav", 10));
        let today = 20_785 * DAY_NS;
        // A jump of the clock is one day, too.
        quarantine.tidy(Some(0), 100).unwrap();
        for day in 0..29 {
            assert_eq!(quarantine.tidy(Some(today + day * DAY_NS), 100).unwrap(), 0, "day {day}");
        }
        assert!(clips.iter().all(|clip| clip.exists()));
        assert_eq!(quarantine.tidy(Some(today + 29 * DAY_NS), 100).unwrap(), 3);
        assert_eq!(std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count(), 0);
    }

    #[test]
    fn copies_are_forgotten_with_the_clip() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path());
        let name = "fffffffffffffffc-000000000000.wav";
        let copies = [name.to_owned(), format!("2-{name}"), format!("13-{name}")];
        let copies = copies.map(|name| put(dir.path(), "2026-01-01", &name, 10));
        let other = put(dir.path(), "2026-01-01", "2-fffffffffffffffc-000000016000.wav", 10);
        quarantine.forget(name).unwrap();
        assert_eq!(copies.map(|copy| copy.exists()), [false; 3]);
        assert!(other.exists());
    }

    #[test]
    fn folder_with_a_clip_that_failed_is_recovered_again_some_times() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(dir.path());
        let folder = quarantine.open_folder(true).unwrap();
        let clip = put(dir.path(), folder.file_name().unwrap().to_str().unwrap(), "a.wav", 10);
        for _ in 1..MOST_RECOVERIES {
            quarantine.recovered(std::slice::from_ref(&clip)).unwrap();
            assert_eq!(quarantine.to_recover().unwrap(), std::slice::from_ref(&clip));
        }
        quarantine.recovered(std::slice::from_ref(&clip)).unwrap();
        assert!(!quarantine.has_to_recover().unwrap() && clip.exists());
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
