//! Snapshots: copies of the database alone, in the data folder. They help when a person or a program spoils the
//! database, but not when the disk fails.
//!
//! One is made each day if something has changed, and one before each change of the schema. They are numbered, because
//! a clock may lie.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::shutdown::CancellationToken;
use hub_base::time::now_ns;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use tracing::{info, warn};

use super::copy::{self, COPY_DEADLINE, TAKEN_BACK, copy_database, forget_taken_back, has_column, has_table};
use super::error::BackupError;
use super::files::{self, Scratch, UNFINISHED};
use crate::DATABASE_FILE;
use crate::deletions::{Condition, Deletion, ERASED};
use crate::events::which_cat::OF_CAT;
use crate::migrations;

/// Folder within the data folder.
const FOLDER: &str = "snapshots";

/// Daily snapshots that are kept: those of a week. The oldest is deleted.
pub const KEEP: usize = 7;

/// A snapshot is made once in this time.
const PERIOD_NS: i64 = 23 * HOUR_NS;

/// A snapshot that was made before a change of the schema is kept this long, and until there is a later one.
const MIGRATION_KEEP_NS: i64 = 7 * 24 * HOUR_NS;

const HOUR_NS: i64 = 3_600 * 1_000_000_000;

/// A snapshot may take the free space divided by this. A larger one is not made.
const ROOM_PARTS: u64 = 4;

/// How long the snapshot before a change of the schema may take, and its check again as long. The start of the hub
/// waits for both, and systemd waits 90 s for the start.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(25);

/// What the names of snapshots before a change of the schema contain.
const BEFORE_SCHEMA: &str = "before-schema";

/// The form of the time in the names.
const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// When it was made, in nanoseconds since 1970 UTC, by the clock of that time.
    pub(super) made_at_ns: i64,
    /// Whether it was made before a change of the schema.
    pub(super) before_migration: bool,
}

/// What became of a snapshot that was due or not.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Made(PathBuf),
    /// The last one is not old enough.
    NotDue,
    /// Nothing has changed since the last one.
    Unchanged,
    /// The disk is too full.
    NoRoom,
}

/// The snapshots of a data folder, the oldest first.
pub(super) fn list(data_dir: &Path) -> Result<Vec<Snapshot>, BackupError> {
    let folder = data_dir.join(FOLDER);
    let names = files::names(&folder).map_err(BackupError::io(&folder))?;
    let mut all: Vec<Snapshot> = names.iter().filter_map(|name| parse(&folder, name)).collect();
    all.sort_by_key(|one| one.number);
    Ok(all)
}

fn parse(folder: &Path, name: &str) -> Option<Snapshot> {
    let stem = name.strip_suffix(".sqlite")?;
    let number = stem.split_once('-')?.0.parse().ok()?;
    let at = DateTime::strptime(STAMP, stem.rsplit_once('-')?.1).ok()?.to_zoned(TimeZone::UTC).ok()?;
    let made_at_ns = i64::try_from(at.timestamp().as_nanosecond()).ok()?;
    Some(Snapshot { number, path: folder.join(name), made_at_ns, before_migration: stem.contains(BEFORE_SCHEMA) })
}

/// Makes today's snapshot, if one is due, something has changed, and there is room. Removes those above [`KEEP`].
pub(super) fn take(data_dir: &Path, stop: &CancellationToken) -> Result<Taken, BackupError> {
    let all = list(data_dir)?;
    let age = |one: &Snapshot| now_ns().saturating_sub(one.made_at_ns).saturating_abs();
    if all.last().is_some_and(|last| age(last) < PERIOD_NS) {
        return Ok(Taken::NotDue);
    }
    let database = data_dir.join(DATABASE_FILE);
    if !database.is_file() {
        return Err(BackupError::NoDatabase { path: data_dir.to_path_buf() });
    }
    let now = fingerprint(&copy::open(&database)?)?;
    // A snapshot that cannot be read is one more reason for a new one.
    let then = all.last().and_then(|last| fingerprint(&copy::open(&last.path).ok()?).ok());
    if now.is_none() || now == then.flatten() {
        return Ok(Taken::Unchanged);
    }
    if !has_room(data_dir, &database)? {
        return Ok(Taken::NoRoom);
    }
    let path = new_name(data_dir, &all, "")?;
    let unfinished = Scratch(files::unfinished(&path));
    copy_database(data_dir, &unfinished.0, COPY_DEADLINE, stop)?;
    std::fs::rename(&unfinished.0, &path).map_err(BackupError::io(&path))?;
    prune(data_dir)?;
    Ok(Taken::Made(path))
}

/// Makes a snapshot if this version of the program is about to change the schema of the database. Call it before the
/// database is opened. A failure is logged and stops nothing: a hub that hears is worth more. Blocks the thread.
pub fn keep_before_upgrade(data_dir: &Path) {
    match take_before_migration(data_dir) {
        Ok(Some(Taken::Made(path))) => info!(path = %path.display(), "kept a copy of the database before its upgrade"),
        Ok(Some(_)) => warn!("the disk is too full to keep a copy of the database before its upgrade"),
        Ok(None) => {}
        Err(error) => warn!(%error, "cannot keep a copy of the database before its upgrade"),
    }
}

fn take_before_migration(data_dir: &Path) -> Result<Option<Taken>, BackupError> {
    let database = data_dir.join(DATABASE_FILE);
    if !database.is_file() {
        return Ok(None);
    }
    let db = copy::open(&database)?;
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 || version >= migrations::LATEST {
        return Ok(None);
    }
    let kind = format!("{BEFORE_SCHEMA}-{}-", migrations::LATEST);
    let all = list(data_dir)?;
    if all.iter().any(|one| one.path.to_string_lossy().contains(&kind) && is_before(&one.path, version, &db)) {
        // An earlier start was killed before the upgrade ended.
        return Ok(None);
    }
    if !has_room(data_dir, &database)? {
        return Ok(Some(Taken::NoRoom));
    }
    let path = new_name(data_dir, &all, &kind)?;
    let unfinished = Scratch(files::unfinished(&path));
    copy_database(data_dir, &unfinished.0, MIGRATION_DEADLINE, &CancellationToken::new())?;
    std::fs::rename(&unfinished.0, &path).map_err(BackupError::io(&path))?;
    Ok(Some(Taken::Made(path)))
}

/// Whether a snapshot holds what a database of this version holds, perhaps in an earlier schema.
fn is_before(snapshot: &Path, version: u32, live: &Connection) -> bool {
    let held = copy::open(snapshot).and_then(|db| {
        let its_version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok((its_version, figures(&db)?))
    });
    let (Ok((its_version, then)), Ok(now)) = (held, figures(live)) else { return false };
    its_version <= version && then.iter().all(|(table, figures)| now.get(table) == Some(figures))
}

/// What left the snapshots.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// Events that a person deleted.
    pub(super) events: usize,
    /// Labels that a person took back.
    pub(super) labels: usize,
}

/// An event, by node, boot id and first sample.
type EventName = (String, i64, i64);

/// Removes the events that a person has deleted since, and the labels that a person has taken back since, from all
/// snapshots, and overwrites them. A snapshot that cannot be changed is logged and does not stop the rest.
pub(super) fn forget_deleted(data_dir: &Path) -> Result<Forgotten, BackupError> {
    let all = list(data_dir)?;
    let database = data_dir.join(DATABASE_FILE);
    let mut forgotten = Forgotten::default();
    if all.is_empty() || !database.is_file() {
        return Ok(forgotten);
    }
    let live = copy::open(&database)?;
    let named = |condition: &str| -> Result<Vec<EventName>, BackupError> {
        let mut statement =
            live.prepare(&format!("SELECT node, boot_id, start_sample FROM events WHERE {condition}"))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let deleted = named("deleted_at_ns IS NOT NULL")?;
    let unlabelled = named(&format!("deleted_at_ns IS NULL AND {TAKEN_BACK}"))?;
    for snapshot in &all {
        match forget_in(&snapshot.path, &deleted, &unlabelled) {
            Ok(here) => {
                forgotten.events += here.events;
                forgotten.labels += here.labels;
            }
            Err(error) => {
                let path = snapshot.path.display();
                warn!(%path, %error, "what a person deleted cannot be removed from a snapshot");
            }
        }
    }
    Ok(forgotten)
}

fn forget_in(snapshot: &Path, deleted: &[EventName], unlabelled: &[EventName]) -> Result<Forgotten, BackupError> {
    let mut here = Forgotten::default();
    let mut db = copy::open(snapshot)?;
    if !has_table(&db, "events")? {
        return Ok(here);
    }
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "foreign_keys", true)?;
    let transaction = db.transaction()?;
    for (node, boot_id, start_sample) in deleted {
        let sql = "DELETE FROM events WHERE node = ?1 AND boot_id = ?2 AND start_sample = ?3";
        here.events += transaction.prepare_cached(sql)?.execute(params![node, boot_id, start_sample])?;
    }
    for (node, boot_id, start_sample) in unlabelled {
        let sql = "UPDATE events SET label = NULL, labelled_at_ns = NULL \
                   WHERE node = ?1 AND boot_id = ?2 AND start_sample = ?3 AND label IS NOT NULL";
        here.labels += transaction.prepare_cached(sql)?.execute(params![node, boot_id, start_sample])?;
    }
    forget_taken_back(&transaction)?;
    commit_changes(transaction)?;
    rewrite_if_marked(&db, snapshot);
    Ok(here)
}

/// Pragma of a snapshot that says whether it is to be rewritten. SQLite does not use it.
const REWRITING: &str = "application_id";

/// Commits the first transaction of a connection to a snapshot, and marks the snapshot for rewriting. If the
/// transaction has changed nothing, it is rolled back, and the file stays untouched.
fn commit_changes(transaction: Transaction<'_>) -> Result<(), BackupError> {
    if transaction.total_changes() == 0 {
        return Ok(transaction.rollback()?);
    }
    transaction.pragma_update(None, REWRITING, 1)?;
    Ok(transaction.commit()?)
}

/// Rewrites a snapshot if it is marked. SQLite moves rows from page to page when a table grows and shrinks, and
/// leaves copies of them in the unused parts of pages, where no deletion overwrites them. This needs as much room as
/// the snapshot. If it fails, the next daily round tries it again.
fn rewrite_if_marked(snapshot: &Connection, path: &Path) {
    let rewrite = || -> Result<(), rusqlite::Error> {
        if snapshot.pragma_query_value(None, REWRITING, |row| row.get::<_, i64>(0))? == 0 {
            return Ok(());
        }
        snapshot.execute_batch("VACUUM")?;
        snapshot.pragma_update(None, REWRITING, 0)
    };
    if let Err(error) = rewrite() {
        let path = path.display();
        warn!(%path, %error, "unused parts of a snapshot may still hold what was deleted; it is tried again each day");
    }
}

/// Removes what a deletion is about from all snapshots, and overwrites it. Returns the number of removed events. What
/// the owner has said since about the cats of events counts. A snapshot that cannot be changed is logged and does not
/// stop the rest.
pub(super) fn erase(data_dir: &Path, wanted: &Deletion) -> Result<u64, BackupError> {
    let mut erased = 0;
    let database = data_dir.join(DATABASE_FILE);
    let live = identity(&copy::open(&database)?)?;
    remove_unfinished(&data_dir.join(FOLDER))?;
    for snapshot in list(data_dir)? {
        match erase_in(&snapshot.path, &database, live.as_deref(), wanted) {
            Ok(here) => erased += here,
            Err(error) => {
                let path = snapshot.path.display();
                warn!(%path, %error, "what a person deleted cannot be removed from a snapshot");
            }
        }
    }
    Ok(erased)
}

/// SQL condition: `now` is the event of the present database for an event of the copy.
const NOW: &str = "now.node = events.node AND now.boot_id = events.boot_id AND now.start_sample = events.start_sample";

/// Gives the events of a copy the cats that owners named since, and takes back what owners took back. `live` is the
/// present database. Returns the SQL expression for the cat of an event.
fn follow_words(copy: &Connection) -> Result<String, BackupError> {
    if !has_column(copy, "events", "said_cat")? {
        let said = format!("SELECT now.said_cat FROM live.events AS now WHERE {NOW} AND now.deleted_at_ns IS NULL");
        return Ok(format!("coalesce(({said}), cat)"));
    }
    let sql = format!(
        "UPDATE main.events SET said_cat = now.said_cat, said_cat_at_ns = now.said_cat_at_ns FROM live.events AS now \
         WHERE {NOW} AND now.said_cat_at_ns IS NOT NULL AND now.deleted_at_ns IS NULL \
         AND events.said_cat IS NOT now.said_cat"
    );
    copy.execute(&sql, [])?;
    Ok(OF_CAT.to_owned())
}

fn erase_in(snapshot: &Path, database: &Path, live: Option<&str>, wanted: &Deletion) -> Result<u64, BackupError> {
    let mut db = copy::open(snapshot)?;
    // Numbers of another database mean nothing here. It was there before the request.
    let same = live.is_some() && identity(&db)?.as_deref() == live;
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.execute("ATTACH DATABASE ?1 AS live", [database.to_string_lossy()])?;
    let transaction = db.transaction()?;
    let of_cat = if has_table(&transaction, "events")? { follow_words(&transaction)? } else { OF_CAT.to_owned() };
    let wanted_events = || {
        let mut events = wanted.events_of_copy(same, &of_cat);
        if wanted.of_cat {
            // The present database may have erased an event as one of this cat because of what its owner said after the
            // copy was made.
            events.sql = format!(
                "(({}) OR EXISTS (SELECT 1 FROM live.events AS now WHERE {NOW} AND now.deleted_at_ns IS NOT NULL \
                 AND now.no_clip_reason = '{ERASED}'))",
                events.sql
            );
        }
        events
    };
    let delete = |table: &str, which: Condition| -> Result<usize, BackupError> {
        if !has_table(&transaction, table)? {
            return Ok(0);
        }
        let sql = format!("DELETE FROM main.{table} WHERE {}", which.sql);
        Ok(transaction.execute(&sql, params_from_iter(which.values))?)
    };
    if has_table(&transaction, "notices")? {
        let events = wanted_events();
        let sql = format!(
            "DELETE FROM main.notices WHERE kind = 'event' AND event_id IN (SELECT id FROM main.events WHERE {})",
            events.sql
        );
        transaction.execute(&sql, params_from_iter(events.values))?;
    }
    let events = delete("events", wanted_events())?;
    delete("notices", wanted.notifications(same))?;
    if let Some(digests) = wanted.digests(same) {
        delete("notices", digests)?;
    }
    delete("analyses", wanted.analyses(same))?;
    if let Some(gaps) = wanted.gaps() {
        delete("gaps", gaps)?;
    }
    if has_table(&transaction, "deletions")? {
        let sql = "UPDATE main.deletions SET ended_at_ns = ?1, cat = NULL \
                   WHERE id <= ?2 AND (ended_at_ns IS NULL OR cat IS NOT NULL)";
        transaction.execute(sql, [now_ns(), wanted.id])?;
    }
    commit_changes(transaction)?;
    db.execute_batch("DETACH DATABASE live")?;
    rewrite_if_marked(&db, snapshot);
    Ok(events as u64)
}

/// Which database this is. `None`: an early version made it.
fn identity(db: &Connection) -> Result<Option<String>, BackupError> {
    if !has_table(db, "identity")? {
        return Ok(None);
    }
    Ok(Some(db.query_row("SELECT database_id FROM identity", [], |row| row.get(0))?))
}

/// Checks the whole database of a data folder.
pub(super) fn check(data_dir: &Path, stop: &CancellationToken) -> Result<(), BackupError> {
    let path = data_dir.join(DATABASE_FILE);
    copy::check_intact(&path, &copy::open(&path)?, COPY_DEADLINE, stop)
}

/// What tells whether a person would miss something: the watermarks, which change all the time, do not count. `None`:
/// the database holds nothing.
fn fingerprint(db: &Connection) -> Result<Option<Vec<f64>>, BackupError> {
    let all: Vec<f64> = figures(db)?.into_values().flatten().collect();
    Ok(Some(all).filter(|all| all.iter().any(|figure| *figure != 0.0)))
}

/// Figures of the tables in which a person would miss something, by table.
fn figures(db: &Connection) -> Result<BTreeMap<&'static str, Vec<f64>>, BackupError> {
    let mut all = BTreeMap::new();
    for (table, columns) in [
        ("events", "count(*), total(id), count(clip_file), count(label), total(labelled_at_ns), total(started_at_ns)"),
        ("notices", "count(*), total(id), total(ended_at_ns)"),
        ("analyses", "count(*), total(id), total(ended_at_ns)"),
        ("admitted_nodes", "count(*), total(admitted_at_ns)"),
    ] {
        if !has_table(db, table)? {
            continue;
        }
        let condition = if table == "events" { " WHERE deleted_at_ns IS NULL" } else { "" };
        let mut statement = db.prepare(&format!("SELECT {columns} FROM {table}{condition}"))?;
        let width = statement.column_count();
        let row =
            statement.query_row([], |row| (0..width).map(|at| row.get::<_, f64>(at)).collect::<Result<Vec<_>, _>>())?;
        all.insert(table, row);
    }
    // Earlier schemas have no such column.
    if has_column(db, "events", "said_cat_at_ns")? {
        let sql = "SELECT total(said_cat_at_ns) FROM events WHERE deleted_at_ns IS NULL";
        all.insert("said_cats", vec![db.query_row(sql, [], |row| row.get(0))?]);
    }
    for (table, columns) in [("users", "name, role, hash"), ("tokens", "name, role, token_hash")] {
        if has_table(db, table)? {
            all.insert(table, vec![checksum(db, &format!("SELECT {columns} FROM {table} ORDER BY id"))?]);
        }
    }
    Ok(all)
}

/// A figure that changes with these texts. 0: there are none.
fn checksum(db: &Connection, sql: &str) -> Result<f64, BackupError> {
    let mut statement = db.prepare(sql)?;
    let width = statement.column_count();
    let (mut rows, mut hasher, mut is_empty) = (statement.query([])?, DefaultHasher::new(), true);
    while let Some(row) = rows.next()? {
        is_empty = false;
        for at in 0..width {
            row.get_ref(at)?.as_bytes_or_null().unwrap_or_default().hash(&mut hasher);
        }
    }
    // 32 bits are enough to notice a change, and fit.
    let upper = u32::try_from(hasher.finish() >> 32).unwrap_or_default();
    Ok(if is_empty { 0.0 } else { f64::from(upper.max(1)) })
}

fn has_room(data_dir: &Path, database: &Path) -> Result<bool, BackupError> {
    let bytes = std::fs::metadata(database).map_err(BackupError::io(database))?.len();
    let free = files::free_bytes(data_dir).map_err(BackupError::io(data_dir))?;
    Ok(bytes <= free / ROOM_PARTS)
}

/// The name of the next snapshot. Creates the folder, and removes what an interrupted snapshot left.
fn new_name(data_dir: &Path, all: &[Snapshot], kind: &str) -> Result<PathBuf, BackupError> {
    let folder = data_dir.join(FOLDER);
    files::create_folder(&folder).map_err(BackupError::io(&folder))?;
    remove_unfinished(&folder)?;
    let number = all.last().map_or(0, |last| last.number) + 1;
    Ok(folder.join(format!("{number:06}-{kind}{}.sqlite", jiff::Timestamp::now().strftime(STAMP))))
}

/// Removes what interrupted snapshots left.
fn remove_unfinished(folder: &Path) -> Result<(), BackupError> {
    for name in files::names(folder).map_err(BackupError::io(folder))? {
        if name.ends_with(UNFINISHED) {
            drop(Scratch(folder.join(name)));
        }
    }
    Ok(())
}

/// Removes the oldest snapshots.
fn prune(data_dir: &Path) -> Result<(), BackupError> {
    let (before_migrations, daily): (Vec<_>, Vec<_>) =
        list(data_dir)?.into_iter().partition(|one| one.before_migration);
    let surplus = daily.len().saturating_sub(KEEP);
    let old = |one: &Snapshot| now_ns().saturating_sub(one.made_at_ns) > MIGRATION_KEEP_NS;
    let past = before_migrations.into_iter().filter(old);
    for one in daily.into_iter().take(surplus).chain(past) {
        std::fs::remove_file(&one.path).map_err(BackupError::io(&one.path))?;
    }
    Ok(())
}
