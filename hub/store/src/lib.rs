//! What the hub remembers: one SQLite database in the data directory. The only place that speaks SQL.
//!
//! One connection writes, a few read, in WAL mode: readers never wait for the writer. All SQL runs on blocking threads.
//! Times are nanoseconds since 1970 UTC everywhere in here.
//!
//! A killed process loses nothing that was committed. After a power cut, what [`Store::write`] committed in the last
//! moments may be gone (never half of it: SQLite rolls whole transactions back); what [`Store::write_durably`]
//! committed is there, and so is all that was written before it. The difference is one `fsync`, about 4 ms on a good
//! disk and wear on an SD card, so it is kept for what nobody can produce again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::metrics::Calls;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;
use tracing::{error, info};

pub mod analyses;
pub mod clips;
mod columns;
mod error;
pub mod events;
pub mod flac;
mod migrations;
pub mod notifications;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod waker;
mod words;

pub use error::{DatabaseError, StoreError};
pub use words::UnknownWord;

/// File name of the database within the data directory.
pub const DATABASE_FILE: &str = "hub.sqlite";

/// Locked by the process that keeps the database (the one with the analysis role) as long as it runs.
const LOCK_FILE: &str = "hub.lock";

/// How long SQLite waits for another process that writes, before a statement fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a caller waits for its turn at a connection, before it gets [`StoreError::Busy`].
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that read at the same time. More readers wait for their turn.
const READERS: usize = 4;

/// Names of what the store does, in `/metrics`.
const READ: &str = "read";
const WRITE: &str = "write";
const WRITE_DURABLY: &str = "write_durably";

/// Who opens a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Keeps it: locks the directory, repairs what is broken. One process at a time.
    Keeper,
    /// Works on a database that another process keeps, such as a gateway on its own.
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
    outbox: waker::Waker,
    /// Held for its lock.
    _lock: Option<File>,
}

impl Store {
    /// Opens the database in `data_dir`, both made when missing, and brings its schema up to date. Blocks.
    ///
    /// A keeper that finds a broken database moves it aside, says so loudly, and starts a new one: a hub that listens from
    /// now on is worth more than one that does not start.
    ///
    /// # Errors
    /// When the directory or the database cannot be used; see [`StoreError`].
    pub fn open(data_dir: &Path, access: Access) -> Result<Self, StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|source| StoreError::Directory { path: data_dir.to_path_buf(), source })?;
        let lock = match access {
            Access::Keeper => Some(lock(data_dir)?),
            Access::Guest => None,
        };
        let path = data_dir.join(DATABASE_FILE);
        let writer = match open_checked(&path) {
            Err(broken) if access == Access::Keeper && broken.is_corrupt() => {
                move_aside(&path, &broken)?;
                open_checked(&path)?
            }
            other => other?,
        };
        let readers = (0..READERS).map(|_| open_reader(&path)).collect::<Result<Vec<_>, _>>()?;
        info!(path = %path.display(), "database open");
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                writer: Arc::new(tokio::sync::Mutex::new(writer)),
                readers: Mutex::new(readers),
                reader_turns: Arc::new(Semaphore::new(READERS)),
                operations: Calls::new([READ, WRITE, WRITE_DURABLY]),
                outbox: waker::Waker::default(),
                _lock: lock,
            }),
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What it did and failed to do since the start, by [`READ`], [`WRITE`] and [`WRITE_DURABLY`].
    pub fn operations(&self) -> &Calls {
        &self.inner.operations
    }

    pub(crate) fn waker(&self) -> &waker::Waker {
        &self.inner.outbox
    }

    /// Whether the database takes a write lock now. For health and the watchdog.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.write(|_| Ok(())).await
    }

    /// Runs `work` in a transaction that is committed when it returns `Ok`, rolled back otherwise.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.counted(WRITE, self.transact("NORMAL", work)).await
    }

    /// As [`Store::write`], and what it commits survives a power cut.
    pub(crate) async fn write_durably<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.counted(WRITE_DURABLY, self.transact("FULL", work)).await
    }

    async fn transact<T: Send + 'static>(
        &self,
        synchronous: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.inner.writer).lock_owned();
        let mut connection = tokio::time::timeout(TURN_TIMEOUT, turn).await.map_err(|_| StoreError::Busy)?;
        blocking(move || {
            connection.pragma_update(None, "synchronous", synchronous)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
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

    /// Runs `work` on a connection that can only read. All that it reads is of one moment when it reads within one
    /// statement or transaction.
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
            // One is missing only after a panic within `work`.
            let reader = reader.map_or_else(|| open_reader(&inner.path), Ok)?;
            let answer = work(&reader);
            inner.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            drop(turn);
            answer
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Cut(error.to_string())))
}

fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let path = data_dir.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StoreError::Directory { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: data_dir.to_path_buf() }),
        Err(std::fs::TryLockError::Error(source)) => Err(StoreError::Directory { path, source }),
    }
}

/// Opens the writer, checks the file and migrates it.
fn open_checked(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    switch_to_wal(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)).into());
    }
    migrations::migrate(&mut connection)?;
    Ok(connection)
}

/// Two that switch a new database at the same time would wait for each other, so SQLite fails one of them immediately, whatever the
/// busy timeout (<https://sqlite.org/c3ref/busy_handler.html>). That one tries again.
fn switch_to_wal(connection: &Connection) -> Result<(), StoreError> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
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

/// Renames a broken database and what belongs to it, so that somebody can look at it later.
fn move_aside(path: &Path, broken: &StoreError) -> Result<(), StoreError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    for suffix in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        let to = PathBuf::from(format!("{}.broken-{stamp}{suffix}", path.display()));
        match std::fs::rename(&from, &to) {
            Ok(()) => {}
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Directory { path: from, source }),
        }
    }
    error!(path = %path.display(), moved_to = %format!("{}.broken-{stamp}", path.display()), error = %broken,
        "DATABASE BROKEN: moved aside, starting an empty one");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn table_count(store: &Store) -> i64 {
        store
            .read(|db| {
                Ok(db.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?)
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn missing_directory_and_database_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("a/b"), Access::Keeper).unwrap();
        assert!(table_count(&store).await > 0);
        store.check().await.unwrap();
    }

    #[test]
    fn several_can_open_a_new_database_at_the_same_time() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            std::thread::scope(|scope| {
                for access in [Access::Keeper, Access::Guest, Access::Guest, Access::Guest] {
                    let path = dir.path();
                    scope.spawn(move || Store::open(path, access).unwrap());
                }
            });
        }
    }

    #[tokio::test]
    async fn failed_work_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let before = table_count(&store).await;
        let failed: Result<(), _> = store
            .write(|db| {
                db.execute_batch("CREATE TABLE half_done (a INTEGER)")?;
                Err(StoreError::Cut("on purpose".into()))
            })
            .await;
        assert!(failed.is_err());
        assert_eq!(table_count(&store).await, before);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let result = store.read(|db| Ok(db.execute_batch("CREATE TABLE sneaked_in (a INTEGER)")?)).await;
        assert!(result.unwrap_err().to_string().contains("readonly"));
    }

    #[tokio::test]
    async fn reader_that_panics_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        for _ in 0..READERS * 2 {
            let result: Result<(), _> = store.read(|_| panic!("on purpose")).await;
            assert!(matches!(result, Err(StoreError::Cut(_))));
        }
        assert!(table_count(&store).await > 0);
    }

    #[tokio::test]
    async fn second_keeper_is_refused_and_a_guest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Store::open(dir.path(), Access::Keeper).unwrap();
        assert!(matches!(Store::open(dir.path(), Access::Keeper), Err(StoreError::InUse { .. })));
        let guest = Store::open(dir.path(), Access::Guest).unwrap();
        guest.check().await.unwrap();
        drop(keeper);
        Store::open(dir.path(), Access::Keeper).unwrap();
    }

    #[tokio::test]
    async fn broken_database_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE_FILE), "this is no database, whatever its name says".repeat(100))
            .unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert!(table_count(&store).await > 0);
        let kept = std::fs::read_dir(dir.path())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("hub.sqlite.broken-"));
        assert!(kept, "the broken file is gone");
    }

    #[tokio::test]
    async fn damaged_pages_are_found_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), Access::Keeper).unwrap());
        let path = dir.path().join(DATABASE_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 2 * 4096, "too small to damage: {}", bytes.len());
        bytes[4096..].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert!(table_count(&store).await > 0);
        assert!(std::fs::read_dir(dir.path()).unwrap().count() > 2);
    }

    #[tokio::test]
    async fn writers_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        store
            .write(|db| Ok(db.execute_batch("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)")?))
            .await
            .unwrap();
        let writes = (0..50).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                store.write_durably(|db| Ok(db.execute("UPDATE counter SET n = n + 1", [])?)).await.unwrap()
            })
        });
        for write in writes.collect::<Vec<_>>() {
            assert_eq!(write.await.unwrap(), 1);
        }
        let n: i64 = store.read(|db| Ok(db.query_row("SELECT n FROM counter", [], |row| row.get(0))?)).await.unwrap();
        assert_eq!(n, 50);
    }
}
