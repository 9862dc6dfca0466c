//! The database file: opening, checking and locking it, and sharing its connections among callers.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::metrics::Calls;
use daemon::private;
use hub_base::clock::Clock;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{Notify, Semaphore};
use tracing::{error, info, warn};

use crate::error::{StoreError, TURN_TIMEOUT, Trouble};
use crate::health::Health;
use crate::migrations;
use crate::salvage::{Salvaged, salvage};
use crate::waker::Waker;

/// File name of the database within the data directory.
pub const DATABASE_FILE: &str = "hub.sqlite";

/// The process with the analysis role locks this file as long as it runs.
pub(crate) const LOCK_FILE: &str = "hub.lock";

/// What SQLite appends to the name of the database for its own files. The first is the database itself.
const FILE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// How long SQLite waits while another process writes, before a statement fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long opening waits while another process writes, such as a hub that migrates a large database after an update.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections that read at the same time. Further readers wait for a connection.
const READERS: usize = 4;

/// Names of the operations in `/metrics`.
const READ: &str = "read";
const WRITE: &str = "write";
const WRITE_DURABLY: &str = "write_durably";

/// How a process uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Owns the database: locks the directory and replaces a damaged file. One process at a time.
    Keeper,
    /// Uses a database that another process owns, as a gateway in a process of its own does.
    Guest,
}

/// The database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Arc<tokio::sync::Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
    reader_turns: Arc<Semaphore>,
    operations: Calls,
    outbox: Waker,
    /// Somebody wants something deleted.
    deletion_wish: Notify,
    /// The history of a node is to move to another one.
    move_wish: Notify,
    /// Whether sounds like labelled false alarms are set aside.
    sets_aside: AtomicBool,
    /// `min_score` by the URL of the node.
    min_scores: Mutex<HashMap<String, f32>>,
    /// Held while the log of labels is changed.
    label_log: Mutex<()>,
    health: Health,
    clock: Clock,
    /// Held for its lock.
    _lock: Option<File>,
}

impl Store {
    /// Opens the database in `data_dir` and brings its schema up to date. Creates the directory and the database if
    /// they are missing. Blocks the thread.
    ///
    /// A keeper that finds a damaged database renames it, logs an error and starts with a new one, which has what could
    /// be read of the damaged one. A hub that listens from now on is worth more than a hub that does not start.
    ///
    /// # Errors
    /// If the directory or the database cannot be used; see [`StoreError`].
    pub fn open(data_dir: &Path, access: Access) -> Result<Self, StoreError> {
        let owned = (access == Access::Keeper).then_some(data_dir);
        Self::open_with(data_dir, access, Clock::of_machine(owned))
    }

    /// Does what [`Store::open`] does, with another clock for deletions by age.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_with(data_dir: &Path, access: Access, clock: Clock) -> Result<Self, StoreError> {
        private::create_folder(data_dir)
            .map_err(|error| StoreError::Directory { path: data_dir.to_path_buf(), error })?;
        let lock = match access {
            Access::Keeper => Some(lock(data_dir)?),
            Access::Guest => None,
        };
        let path = data_dir.join(DATABASE_FILE);
        let salvaged = with_suffix(&path, SALVAGED);
        if access == Access::Keeper && !path.exists() && salvaged.exists() {
            // An earlier start was killed after it had moved the damaged database aside.
            move_in(&salvaged, &path)?;
        }
        let writer = match open_checked(&path) {
            Err(damage) if access == Access::Keeper && damage.is_corrupt() => {
                let salvaged = salvage_beside(&path)?;
                rename_damaged(&path, &damage)?;
                move_in(&salvaged, &path)?;
                open_checked(&path)?
            }
            other => other?,
        };
        let readers = (0..READERS).map(|_| open_reader(&path)).collect::<Result<Vec<_>, _>>()?;
        let health = Health::of(data_dir, &path)?;
        info!(path = %path.display(), "database open");
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                readers: Mutex::new(readers),
                reader_turns: Arc::new(Semaphore::new(READERS)),
                operations: Calls::new([READ, WRITE, WRITE_DURABLY]),
                outbox: Waker::default(),
                deletion_wish: Notify::new(),
                move_wish: Notify::new(),
                sets_aside: AtomicBool::new(true),
                min_scores: Mutex::default(),
                label_log: Mutex::new(()),
                health,
                clock,
                _lock: lock,
            }),
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The clock by which things are deleted for their age.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Operations since the start and their results, by [`READ`], [`WRITE`] and [`WRITE_DURABLY`].
    pub fn operations(&self) -> &Calls {
        &self.inner.operations
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.inner.outbox
    }

    pub(crate) fn sets_aside(&self) -> &AtomicBool {
        &self.inner.sets_aside
    }

    pub(crate) fn min_scores(&self) -> MutexGuard<'_, HashMap<String, f32>> {
        self.inner.min_scores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn deletion_wish(&self) -> &Notify {
        &self.inner.deletion_wish
    }

    pub(crate) fn move_wish(&self) -> &Notify {
        &self.inner.move_wish
    }

    /// Does something to the log of labels, while nobody else in this process changes it. Blocks the thread.
    pub(crate) fn with_label_log<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.inner.label_log.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Moves what was committed from the log of the database into its file, and empties the log, so that it no longer
    /// holds what was deleted. If readers keep the log busy, it stays as it is.
    pub(crate) async fn empty_log(&self) -> Result<(), StoreError> {
        let turn = Arc::clone(&self.inner.writer).lock_owned();
        let connection = tokio::time::timeout(TURN_TIMEOUT, turn).await.map_err(|_| StoreError::Busy)?;
        blocking(move || Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)).await
    }

    /// Checks whether something can be stored now: something was stored a moment ago, or a probe writes to the data
    /// folder and to the database. Health checks and the watchdog use it. A result is used for a few seconds.
    ///
    /// # Errors
    /// [`StoreError::Replaced`], [`StoreError::Unwritable`] with the reason, or [`StoreError::Busy`] if a probe hangs.
    pub async fn check(&self) -> Result<(), StoreError> {
        let place = Arc::clone(&self.inner);
        blocking(move || place.health.in_place()).await?;
        let health = &self.inner.health;
        let turn = tokio::time::timeout(TURN_TIMEOUT, health.turn.lock()).await.map_err(|_| StoreError::Busy)?;
        if health.known().is_none() {
            health.probed(self.probe().await.map_err(|error| Trouble::of(&error)));
        }
        drop(turn);
        health.known().unwrap_or(Ok(())).map_err(StoreError::Unwritable)
    }

    /// Writes for real, and survives a power cut.
    async fn probe(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.health.probe_folder()).await?;
        // Writing the version again writes its page, and changes nothing.
        let rewrite = self.transact("FULL", |db| {
            let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            Ok(db.pragma_update(None, "user_version", version)?)
        });
        self.counted(WRITE_DURABLY, rewrite).await
    }

    /// Runs `work` in a transaction. If `work` returns `Ok`, the transaction is committed, otherwise it is rolled back.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.counted(WRITE, self.transact("NORMAL", work)).await;
        done.inspect_err(|error| self.inner.health.failed(error))
    }

    /// Does what [`Store::write`] does; the committed transaction survives a power cut.
    pub(crate) async fn write_durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.counted(WRITE_DURABLY, self.transact("FULL", work)).await;
        done.inspect_err(|error| self.inner.health.failed(error))
    }

    async fn transact<T: Send + 'static>(
        &self,
        synchronous: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.inner.writer).lock_owned();
        let mut connection = tokio::time::timeout(TURN_TIMEOUT, turn).await.map_err(|_| StoreError::Busy)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.health.in_place()?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            let changes = connection.total_changes();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            // What was committed to a file that has just been removed is lost.
            inner.health.in_place()?;
            if connection.total_changes() > changes {
                inner.health.stored();
            }
            Ok(result)
        })
        .await
    }

    async fn counted<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut call = self.inner.operations.begin(operation, "given_up");
        let done = work.await;
        call.answered();
        call.end(done.as_ref().map_or_else(StoreError::word, |_| "ok"));
        done
    }

    /// Runs `work` on a connection that can only read. Within one statement or one transaction, `work` reads a
    /// consistent snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.counted(READ, self.read_in_turn(work)).await
    }

    async fn read_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.inner.reader_turns).acquire_owned();
        let turn = tokio::time::timeout(TURN_TIMEOUT, turn).await.map_err(|_| StoreError::Busy)?;
        let turn = turn.map_err(|closed| StoreError::Cut(closed.to_string()))?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let reader = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // A connection is missing only after `work` panicked.
            let reader = reader.map_or_else(|| open_reader(&inner.path), Ok)?;
            let result = work(&reader);
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            drop(turn);
            result
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Cut(error.to_string())))
}

pub(crate) fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join(LOCK_FILE);
    let file = private::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|error| StoreError::Directory { path: path.clone(), error })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: data_dir.to_path_buf() }),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::Directory { path, error }),
    }
}

/// Opens the connection that writes, checks the file and migrates it.
fn open_checked(path: &Path) -> Result<Connection, StoreError> {
    keep_private(path).map_err(|error| StoreError::Directory { path: path.to_path_buf(), error })?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(OPEN_TIMEOUT)?;
    switch_to_wal(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    overwrite_deleted(&connection, false)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)).into());
    }
    migrations::migrate(&mut connection)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Makes this connection overwrite what it deletes. `thoroughly`: in pages that become free, too, which costs more
/// writes. Otherwise only in pages that are written anyway.
pub(crate) fn overwrite_deleted(connection: &Connection, thoroughly: bool) -> Result<(), StoreError> {
    Ok(connection.pragma_update(None, "secure_delete", if thoroughly { "ON" } else { "FAST" })?)
}

/// Creates the file if it is missing, because SQLite would create it with permissions for others. SQLite gives its
/// other files the permissions of this one.
fn keep_private(path: &Path) -> std::io::Result<()> {
    private::options().create(true).append(true).open(path)?;
    for suffix in FILE_SUFFIXES {
        private::tighten(&with_suffix(path, suffix))?;
    }
    Ok(())
}

/// Suffix of a database into which a damaged one is being copied.
const SALVAGING: &str = ".salvaging";

/// Suffix of that database once it is complete.
const SALVAGED: &str = ".salvaged";

/// Copies what can be read of a damaged database into a new one beside it, and returns its name. The damaged one stays
/// in its place until the copy is complete, so that a start that is killed begins again.
fn salvage_beside(path: &Path) -> Result<PathBuf, StoreError> {
    let (unfinished, finished) = (with_suffix(path, SALVAGING), with_suffix(path, SALVAGED));
    if finished.exists() {
        // An earlier start was killed before it could move it in.
        return Ok(finished);
    }
    for file in FILE_SUFFIXES.map(|suffix| with_suffix(&unfinished, suffix)) {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Directory { path: file, error });
            }
            _ => {}
        }
    }
    let mut new = open_checked(&unfinished)?;
    match salvage(path, &mut new) {
        Ok(Salvaged { rows, damaged_places }) => {
            warn!(rows, damaged_places, "copied what can be read of the damaged database");
        }
        Err(error) => warn!(%error, "nothing can be read of the damaged database; starting with an empty one"),
    }
    // One file, without a log.
    new.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    new.close().map_err(|(_, error)| error)?;
    move_in(&unfinished, &finished)?;
    Ok(finished)
}

/// Renames a database that is one file, durably.
fn move_in(from: &Path, to: &Path) -> Result<(), StoreError> {
    let moved = std::fs::rename(from, to).and_then(|()| match to.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    });
    moved.map_err(|error| StoreError::Directory { path: to.to_path_buf(), error })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Switches the database to WAL mode. If two processes switch a new database at the same time, they would wait for each
/// other, so SQLite fails one of them immediately, whatever the busy timeout
/// (<https://sqlite.org/c3ref/busy_handler.html>). That one retries here.
fn switch_to_wal(connection: &Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return Ok(other?),
        }
    }
}

fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Renames a damaged database and its WAL files, so that a person can examine them later. The database comes last:
/// while it is there, a start that was killed begins again, and its log can never meet another database.
fn rename_damaged(path: &Path, damage: &StoreError) -> Result<(), StoreError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let failed = |from: &Path| {
        let path = from.to_path_buf();
        move |error| StoreError::Directory { path, error }
    };
    let mut moved = with_suffix(path, &format!(".broken-{stamp}"));
    // An earlier damaged database stays.
    for copy in 2_u32.. {
        if !moved.try_exists().map_err(failed(&moved))? {
            break;
        }
        moved = with_suffix(path, &format!(".broken-{stamp}-{copy}"));
    }
    for suffix in FILE_SUFFIXES.into_iter().rev() {
        let from = with_suffix(path, suffix);
        match std::fs::rename(&from, with_suffix(&moved, suffix)) {
            Ok(()) => {}
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&from)(source)),
        }
    }
    error!(path = %path.display(), moved_to = %moved.display(), error = %damage,
        "DATABASE DAMAGED: the file was renamed, and the hub starts with a new database");
    Ok(())
}

#[cfg(test)]
mod tests;
