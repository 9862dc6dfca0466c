//! Makes the nightly backups and the daily snapshots, checks the database once a day, and says how they went.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::shutdown::CancellationToken;
use hub_base::time::now_ns;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::config::BackupConfig;
use super::error::BackupError;
use super::folder::{back_up_to_folder, is_marked};
use super::manifest::Source;
use super::snapshots::{self, Forgotten, Taken};
use super::state::{self, LastBackup, remembered};
use crate::deletions::Deletion;
use crate::error::StoreError;

/// The first round begins so long after the start, when the hub has caught up with its nodes.
const FIRST_ROUND: Duration = Duration::from_secs(60);

/// Time between two rounds. A round does what is due; most do nothing.
const ROUND: Duration = Duration::from_secs(3_600);

/// Time between two checks of the database.
const CHECK_PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// The hours of local time in which the nightly backup begins.
const NIGHT: std::ops::Range<i8> = 2..5;

/// In these hours, a backup is made if the last one is older than this.
const NIGHTLY_AGE_NS: i64 = 12 * HOUR_NS;

/// At any hour, a backup is made if the last one is older than this: the hub was off at night, or the disk away.
const OVERDUE_AGE_NS: i64 = 30 * HOUR_NS;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;

/// Nightly backups, daily snapshots and daily checks of the database. Clones share them.
#[derive(Debug, Clone)]
pub struct Backups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    config: BackupConfig,
    /// Somebody asks for a backup now.
    wish: Notify,
    progress: Mutex<Progress>,
    /// Held while snapshots are made or changed.
    snapshots: Mutex<()>,
}

#[derive(Debug, Default)]
struct Progress {
    running: bool,
    failure: Option<Failure>,
    check: Option<(Instant, Check)>,
}

/// How the backups of a hub are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupState {
    /// The folder for backups. `None`: none is configured.
    pub to: Option<PathBuf>,
    /// Whether a backup is under way.
    pub running: bool,
    /// The last good backup, in whatever place. `None`: none is known.
    pub last: Option<LastBackup>,
    /// Whether no known backup is on another device than the data folder.
    pub only_on_data_disk: bool,
    /// Why the last backup failed. `None`: it did not.
    pub failure: Option<Failure>,
    /// Snapshots of the database in the data folder.
    pub snapshots: usize,
    /// When the last of them was made, in nanoseconds since 1970 UTC. `None`: there is none.
    pub last_snapshot_ns: Option<i64>,
    /// The last check of the database. `None`: there was none since the start.
    pub check: Option<Check>,
}

/// A backup that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When, in nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Why, and what to do.
    pub message: String,
}

/// A check of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// When, in nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What is damaged. `None`: nothing.
    pub fault: Option<String>,
}

impl Backups {
    /// Backups of this source.
    pub fn new(source: Source, config: BackupConfig) -> Self {
        let (wish, progress, snapshots) = (Notify::new(), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { source, config, wish, progress, snapshots }) }
    }

    /// Asks for a backup now. `false`: no folder for backups is configured.
    pub fn request(&self) -> bool {
        if self.inner.config.to.is_none() {
            return false;
        }
        self.inner.progress().running = true;
        self.inner.wish.notify_one();
        true
    }

    /// Removes what a deletion is about from the snapshots. Returns the number of removed events. A snapshot that is
    /// being made is waited for.
    ///
    /// # Errors
    /// If the snapshots cannot be read.
    pub(crate) async fn erase(&self, wanted: Deletion) -> Result<u64, BackupError> {
        let inner = Arc::clone(&self.inner);
        let erase = move || {
            let _turn = inner.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
            snapshots::erase(&inner.source.data_dir, &wanted)
        };
        let done = tokio::task::spawn_blocking(erase).await;
        done.unwrap_or_else(|crash| Err(StoreError::Cut(crash.to_string()).into()))
    }

    /// How the backups are now. Reads a few small files.
    pub async fn state(&self) -> BackupState {
        let inner = Arc::clone(&self.inner);
        let read = tokio::task::spawn_blocking(move || {
            let data_dir = &inner.source.data_dir;
            (remembered(data_dir), snapshots::list(data_dir).unwrap_or_default())
        });
        let (known, snapshots) = read.await.unwrap_or_default();
        let progress = self.inner.progress();
        BackupState {
            to: self.inner.config.to.clone(),
            running: progress.running,
            only_on_data_disk: !known.iter().any(|one| one.other_device),
            last: known.into_iter().next(),
            failure: progress.failure.clone(),
            snapshots: snapshots.len(),
            last_snapshot_ns: snapshots.last().map(|last| last.made_at_ns),
            check: progress.check.as_ref().map(|(_, check)| check.clone()),
        }
    }

    /// What the last check found damaged in the database. `None`: nothing, or there was no check yet.
    pub fn fault(&self) -> Option<String> {
        self.inner.progress().check.as_ref().and_then(|(_, check)| check.fault.clone())
    }

    /// Works until `stop` is cancelled. Only the process that owns the store calls it.
    pub async fn run(self, stop: CancellationToken) {
        let mut next = tokio::time::Instant::now() + FIRST_ROUND;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.wish.notified() => true,
                () = tokio::time::sleep_until(next) => false,
            };
            let (inner, stopping) = (Arc::clone(&self.inner), stop.clone());
            let work = move || if asked { inner.back_up(&stopping) } else { inner.round(&stopping) };
            // At the stop, a running copy is interrupted. A disk that hangs is not waited for.
            tokio::select! {
                done = tokio::task::spawn_blocking(work) => {
                    if let Err(crash) = done {
                        error!(error = %crash, "the work on backups was interrupted");
                        self.inner.progress().running = false;
                    }
                }
                () = stop.cancelled() => return,
            }
            if !asked {
                next = tokio::time::Instant::now() + ROUND;
            }
        }
    }
}

impl Inner {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due.
    fn round(&self, stop: &CancellationToken) {
        let data_dir = &self.source.data_dir;
        let turn = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        match snapshots::forget_deleted(data_dir) {
            Ok(Forgotten { events: 0, labels: 0 }) => {}
            Ok(Forgotten { events, labels }) => {
                info!(events, labels, "removed deleted events and labels that were taken back from the snapshots");
            }
            Err(error) => warn!(%error, "cannot remove deleted events from the snapshots"),
        }
        match snapshots::take(data_dir, stop) {
            Ok(Taken::Made(path)) => info!(path = %path.display(), "made a snapshot of the database"),
            Ok(Taken::NoRoom) => warn!("the disk is too full for a snapshot of the database"),
            Ok(Taken::NotDue | Taken::Unchanged) | Err(BackupError::Interrupted) => {}
            Err(error) => warn!(%error, "cannot make a snapshot of the database"),
        }
        drop(turn);
        if let Some(to) = &self.config.to {
            let place = to.display().to_string();
            let last = remembered(data_dir).into_iter().find(|one| one.to == place);
            if is_due(last.map(|last| last.made_at_ns), now_ns(), jiff::Zoned::now().hour()) {
                self.back_up(stop);
            }
        }
        let last_check = self.progress().check.as_ref().map(|(at, _)| *at);
        if last_check.is_none_or(|at| at.elapsed() >= CHECK_PERIOD) {
            self.check(stop);
        }
    }

    /// Makes a backup in the configured folder.
    fn back_up(&self, stop: &CancellationToken) {
        let Some(to) = &self.config.to else { return };
        self.progress().running = true;
        let begun = Instant::now();
        let data_dir = &self.source.data_dir;
        let made = check_place(to, data_dir)
            .and_then(|()| back_up_to_folder(&self.source, to, self.config.keep, stop))
            .and_then(|made| match state::remember(data_dir, to, &made) {
                Ok(()) => Ok(made),
                Err(error) => Err(BackupError::io(data_dir)(error)),
            });
        let mut progress = self.progress();
        progress.running = false;
        progress.failure = match made {
            Ok(made) => {
                let (events, missing) = (made.manifest.counts.events, made.manifest.missing_clips);
                let seconds = begun.elapsed().as_secs();
                info!(to = %made.path.display(), events, new_clips = made.copied, missing, seconds, "backup made");
                None
            }
            Err(BackupError::Interrupted) => None,
            Err(error) => {
                error!(to = %to.display(), %error, "the backup failed");
                Some(Failure { at_ns: now_ns(), message: error.to_string() })
            }
        };
    }

    fn check(&self, stop: &CancellationToken) {
        let fault = match snapshots::check(&self.source.data_dir, stop) {
            Ok(()) => None,
            Err(BackupError::Damaged { what, .. }) => {
                error!(fault = what, "THE DATABASE IS DAMAGED: restore a backup or a snapshot");
                Some(what)
            }
            Err(BackupError::Interrupted) => return,
            Err(error) => {
                warn!(%error, "the database cannot be checked");
                return;
            }
        };
        self.progress().check = Some((Instant::now(), Check { at_ns: now_ns(), fault }));
    }
}

/// Whether a backup is to be made now. A clock that was set back does not stop the backups.
fn is_due(last_ns: Option<i64>, now_ns: i64, hour: i8) -> bool {
    let Some(last_ns) = last_ns else { return true };
    let age_ns = now_ns.saturating_sub(last_ns).saturating_abs();
    age_ns >= OVERDUE_AGE_NS || age_ns >= NIGHTLY_AGE_NS && NIGHT.contains(&hour)
}

/// Checks that the folder is not the empty mount point of a disk that is away.
fn check_place(to: &Path, data_dir: &Path) -> Result<(), BackupError> {
    if is_marked(to) {
        return Ok(());
    }
    let wrong = |why| Err(BackupError::NotMounted { path: to.to_path_buf(), why });
    if !to.is_dir() {
        return wrong("the folder for backups is not there: mount its disk, or create the folder");
    }
    let place = to.display().to_string();
    if remembered(data_dir).iter().any(|one| one.to == place) {
        return wrong(
            "the backups that were here are gone: mount their disk, or make a new first backup with `hub backup` and \
             this folder",
        );
    }
    if state::device(to).map_err(BackupError::io(to))? == state::device(Path::new("/")).map_err(BackupError::io(to))? {
        return wrong(
            "this folder is on the system disk, so its own disk is probably not mounted: mount it; if the folder is \
             right, make the first backup with `hub backup` and this folder",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backup_is_due_at_night_or_when_it_is_overdue() {
        let hours = |age: i64| Some(-age * HOUR_NS);
        for (last, hour, due) in [
            (None, 12, true),
            (hours(1), 3, false),
            (hours(13), 3, true),
            (hours(13), 12, false),
            (hours(29), 12, false),
            (hours(31), 12, true),
            (hours(-2_400), 12, true),
        ] {
            assert_eq!(is_due(last, 0, hour), due, "{last:?} at {hour}");
        }
    }
}
