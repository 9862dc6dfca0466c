//! Copies of the database, made while others use it.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use daemon::shutdown::CancellationToken;
use rusqlite::{Connection, OpenFlags};

use super::error::BackupError;
use super::files;
use super::manifest::Counts;
use crate::database::DATABASE_FILE;

/// How long a copy or a check of a database may take. A gigabyte takes minutes on an SD card.
pub(super) const COPY_DEADLINE: Duration = Duration::from_secs(1_800);

/// How often a running statement looks whether it has to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How long SQLite waits for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a copy of a database holds.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) schema_version: u32,
    pub(super) counts: Counts,
    /// Names and sizes of the clips that the database refers to.
    pub(super) clips: Vec<(String, u64)>,
}

/// Copies the database of a data folder to a file, without the events that a person deleted and the labels that a
/// person took back, and checks the copy. Writers do not wait for it.
///
/// # Errors
/// If there is no database, if the copy fails or is not intact, after the deadline, and when `stop` is cancelled.
pub(super) fn copy_database(
    data_dir: &Path,
    to: &Path,
    deadline: Duration,
    stop: &CancellationToken,
) -> Result<Copied, BackupError> {
    let from = data_dir.join(DATABASE_FILE);
    if !from.is_file() {
        return Err(BackupError::NoDatabase { path: data_dir.to_path_buf() });
    }
    // Made before, so that nobody else can ever read it. SQLite accepts an empty file.
    files::create(to).map_err(BackupError::io(to))?;
    let absolute = std::path::absolute(to).map_err(BackupError::io(to))?;
    let name = absolute.to_str().ok_or_else(|| {
        BackupError::io(to)(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8"))
    })?;
    let source = open(&from)?;
    // Otherwise unused parts of the copy's pages hold deleted rows, which no deletion in the copy overwrites.
    source.pragma_update(None, "secure_delete", true)?;
    interruptible(&source, deadline, stop, |db| db.execute("VACUUM INTO ?1", [name]).map(drop))?;
    let copy = open(to)?;
    forget_deleted(&copy)?;
    check_intact(to, &copy, deadline, stop)?;
    let copied = read(&copy)?;
    copy.close().map_err(|(_, error)| error)?;
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(BackupError::io(to))?;
    Ok(copied)
}

/// Opens a database that exists.
pub(super) fn open(path: &Path) -> Result<Connection, BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// What a database holds.
pub(super) fn read(db: &Connection) -> Result<Copied, BackupError> {
    let schema_version = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // Earlier schemas lack tables.
    let count = |table: &str, condition: &str| -> Result<u64, BackupError> {
        if !has_table(db, table)? {
            return Ok(0);
        }
        let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
        Ok(db.query_row(&sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let counts = Counts {
        events: count("events", "deleted_at_ns IS NULL")?,
        labelled: count("events", "label IS NOT NULL")?,
        clips: count("events", "clip_file IS NOT NULL")?,
        notifications: count("notices", "true")?,
        analyses: count("analyses", "true")?,
    };
    let mut clips = Vec::new();
    if has_table(db, "events")? {
        let mut statement = db.prepare("SELECT clip_file, clip_bytes FROM events WHERE clip_file IS NOT NULL")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        clips = rows.collect::<Result<_, _>>()?;
    }
    Ok(Copied { schema_version, counts, clips })
}

/// SQL condition: the event had a label, and a person took it back.
pub(super) const TAKEN_BACK: &str =
    "label IS NULL AND id IN (SELECT event_id FROM event_labels WHERE label IS NOT NULL)";

/// Removes the events that a person deleted and the labels that a person took back from a copy, and overwrites them.
fn forget_deleted(copy: &Connection) -> Result<(), BackupError> {
    copy.pragma_update(None, "secure_delete", true)?;
    copy.pragma_update(None, "foreign_keys", true)?;
    if has_table(copy, "events")? {
        copy.execute("DELETE FROM events WHERE deleted_at_ns IS NOT NULL", [])?;
    }
    forget_taken_back(copy)
}

/// Removes what the history of labels says about labels that a person took back.
pub(super) fn forget_taken_back(copy: &Connection) -> Result<(), BackupError> {
    if has_table(copy, "event_labels")? {
        let sql = format!(
            "DELETE FROM event_labels WHERE label IS NOT NULL AND event_id IN (SELECT id FROM events WHERE {TAKEN_BACK})"
        );
        copy.execute(&sql, [])?;
    }
    Ok(())
}

pub(super) fn has_table(db: &Connection, table: &str) -> Result<bool, BackupError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(db.query_row(sql, [table], |row| row.get(0))?)
}

/// Whether a table of this database, not of one that is attached, has a column.
pub(super) fn has_column(db: &Connection, table: &str, column: &str) -> Result<bool, BackupError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1, 'main') WHERE name = ?2)";
    Ok(db.query_row(sql, [table, column], |row| row.get(0))?)
}

/// Checks a whole database.
///
/// # Errors
/// [`BackupError::Damaged`] with what SQLite says; after the deadline, and when `stop` is cancelled.
pub(super) fn check_intact(
    path: &Path,
    db: &Connection,
    deadline: Duration,
    stop: &CancellationToken,
) -> Result<(), BackupError> {
    let damaged = |what: String| BackupError::Damaged { path: path.to_path_buf(), what };
    let check = |db: &Connection| db.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
    match interruptible(db, deadline, stop, check) {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(damaged(verdict)),
        Err(BackupError::Store(error)) if error.is_corrupt() => Err(damaged(error.to_string())),
        Err(other) => Err(other),
    }
}

/// Runs a statement, and interrupts it after the deadline or when `stop` is cancelled.
fn interruptible<T>(
    db: &Connection,
    limit: Duration,
    stop: &CancellationToken,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, BackupError> {
    let handle = db.get_interrupt_handle();
    let end = Instant::now() + limit;
    let (done, waiting) = channel::<()>();
    let (result, why) = std::thread::scope(|scope| {
        let watching = move || {
            let mut why = None;
            while waiting.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if stop.is_cancelled() {
                    why = Some(BackupError::Interrupted);
                } else if Instant::now() >= end {
                    why = Some(BackupError::TooSlow { limit });
                }
                // Again and again: an interrupt before the statement begins has no effect.
                if why.is_some() {
                    handle.interrupt();
                }
            }
            why
        };
        let watcher = std::thread::Builder::new().name("copy-watch".into()).spawn_scoped(scope, watching);
        let result = if stop.is_cancelled() { Err(rusqlite::Error::InvalidQuery) } else { work(db) };
        drop(done);
        (result, watcher.ok().and_then(|watcher| watcher.join().ok()).flatten())
    });
    match result {
        Ok(value) => Ok(value),
        Err(_) if stop.is_cancelled() => Err(BackupError::Interrupted),
        Err(error) => Err(why.unwrap_or_else(|| error.into())),
    }
}
