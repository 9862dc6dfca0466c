//! Whether the store can store anything now.
//!
//! A commit that changed rows a moment ago is proof enough. Otherwise a probe writes for real: a file in the data
//! folder, which needs room on the disk, and a page of the database. Both are synced. Before and after every
//! transaction the folder and the database are compared with those that were opened: SQLite goes on writing into a
//! file that was removed, and all of it would be gone after a restart.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{StoreError, Trouble};

/// A commit that changed something proves for this long that the store works.
const PROOF_AGE: Duration = Duration::from_secs(10);

/// A failure counts for this long, unless something is stored after it.
const FAILURE_AGE: Duration = Duration::from_secs(30);

/// The result of a probe is used for this long, however often the health is asked for: a probe wears an SD card.
const PROBE_AGE: Duration = Duration::from_secs(5);

/// Name of the file that a probe writes and removes.
const PROBE_FILE: &str = "hub.probe";

/// Size of that file in bytes: more than a transaction with an event takes.
const PROBE_BYTES: usize = 65_536;

/// What is known about the store's health.
#[derive(Debug)]
pub(crate) struct Health {
    data_dir: PathBuf,
    opened: Vec<(PathBuf, Identity)>,
    known: Mutex<Known>,
    /// Held during a probe, so that callers share its result.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// Device and inode: a file or folder, whatever its name.
type Identity = (u64, u64);

#[derive(Debug, Default)]
struct Known {
    stored_at: Option<Instant>,
    failed: Option<(Instant, Trouble)>,
    probed: Option<(Instant, Result<(), Trouble>)>,
}

impl Health {
    /// Remembers the folder and the files that were opened just now.
    pub(crate) fn of(data_dir: &Path, database: &Path) -> Result<Self, StoreError> {
        let log = PathBuf::from(format!("{}-wal", database.display()));
        let mut opened = Vec::new();
        for path in [data_dir.to_path_buf(), database.to_path_buf(), log] {
            match identity(&path) {
                Ok(found) => opened.push((path, found)),
                // SQLite creates its log when it needs it.
                Err(missing) if missing.kind() == std::io::ErrorKind::NotFound && opened.len() == 2 => {}
                Err(error) => return Err(StoreError::Directory { path, error }),
            }
        }
        let (known, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { data_dir: data_dir.to_path_buf(), opened, known, turn })
    }

    /// Checks that the folder and the files are still those that were opened. Blocks the thread.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if one was removed or replaced.
    pub(crate) fn in_place(&self) -> Result<(), StoreError> {
        let gone = self.opened.iter().find(|(path, was)| identity(path).ok() != Some(*was));
        gone.map_or(Ok(()), |(path, _)| Err(StoreError::Replaced { path: path.clone() }))
    }

    /// A transaction that changed something was committed.
    pub(crate) fn stored(&self) {
        let mut known = self.lock();
        known.stored_at = Some(Instant::now());
        known.failed = None;
    }

    /// Something could not be stored.
    pub(crate) fn failed(&self, error: &StoreError) {
        if error.is_about_the_disk() {
            self.lock().failed = Some((Instant::now(), Trouble::of(error)));
        }
    }

    /// What is known without a probe. `None`: a probe is due.
    pub(crate) fn known(&self) -> Option<Result<(), Trouble>> {
        let known = self.lock();
        let recent = |at: &Instant, age| at.elapsed() < age;
        let failed = known.failed.as_ref().filter(|(at, _)| recent(at, FAILURE_AGE));
        if failed.is_none() && known.stored_at.as_ref().is_some_and(|at| recent(at, PROOF_AGE)) {
            return Some(Ok(()));
        }
        let (_, probed) = known.probed.as_ref().filter(|(at, _)| recent(at, PROBE_AGE))?;
        Some(match (probed, failed) {
            (Ok(()), Some((_, trouble))) => Err(trouble.clone()),
            (probed, _) => probed.clone(),
        })
    }

    /// Remembers the result of a probe.
    pub(crate) fn probed(&self, result: Result<(), Trouble>) {
        self.lock().probed = Some((Instant::now(), result));
    }

    /// Writes a file in the data folder, syncs it and removes it. Blocks the thread.
    pub(crate) fn probe_folder(&self) -> Result<(), StoreError> {
        self.in_place()?;
        let path = self.data_dir.join(PROBE_FILE);
        let written = std::fs::File::create(&path).and_then(|mut file| {
            // Not zeros: some file systems store those without any room.
            file.write_all(&[0xA5; PROBE_BYTES])?;
            file.sync_all()
        });
        // Left over, it is overwritten by the next probe.
        let removed = std::fs::remove_file(&path);
        written.and(removed).map_err(|error| StoreError::Directory { path, error })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}
