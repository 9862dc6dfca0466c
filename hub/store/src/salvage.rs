//! Copies what can be read of a damaged database into a new one, table by table and row by row.
//!
//! A scan of a table stops at the first damaged page. Then single rows are tried by their number until one can be read
//! again, and the scan goes on from there. Rows that break a rule of the schema are left out. Indexes are not read.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Params, Row, Transaction, params, params_from_iter};

use crate::error::StoreError;

/// Time for the whole copy, because the hub starts only afterwards. What is not copied by then is left out.
const DEADLINE: Duration = Duration::from_secs(60);

/// Rows with a higher number are damaged. No hub ever stores this many.
const HIGHEST_ID: i64 = 1 << 40;

/// If nothing tells the highest number of a table, this many numbers after a damaged place are tried.
const TRIED_IDS: i64 = 100_000;

/// What a copy brought over.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salvaged {
    /// Rows that are in the new database.
    pub(crate) rows: usize,
    /// Places where a table could not be read.
    pub(crate) damaged_places: usize,
}

/// A table of the new database with the columns that both databases have.
struct Table {
    name: String,
    columns: String,
    insert: String,
    /// The primary key, if it is not the number of the row.
    key: Option<String>,
}

/// Copies what can be read of the database `damaged` into `new`, in one transaction. The damaged file stays as it is.
///
/// # Errors
/// If the new database fails, or nothing can be read of the damaged one.
pub(crate) fn salvage(damaged: &Path, new: &mut Connection) -> Result<Salvaged, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = Connection::open_with_flags(damaged, flags)?;
    // Nothing is written to the damaged file, not even what its log holds.
    old.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    old.pragma_update(None, "query_only", true)?;
    // A damaged entry of the schema then hides only its own table.
    old.pragma_update(None, "writable_schema", true)?;
    old.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;

    // Parents may be copied after their children.
    new.pragma_update(None, "foreign_keys", false)?;
    let copied = copy_all(&old, new);
    new.pragma_update(None, "foreign_keys", true)?;
    copied
}

fn copy_all(old: &Connection, new: &mut Connection) -> Result<Salvaged, StoreError> {
    let deadline = Instant::now() + DEADLINE;
    let new = new.transaction()?;
    let mut done = Salvaged::default();
    let tables = tables(old, &new)?;
    for table in &tables {
        let mut copy = Copy { old, new: &new, table, deadline, done: &mut done };
        match &table.key {
            None => copy.by_number()?,
            Some(key) => {
                let columns = &table.columns;
                let name = &table.name;
                copy.rows(&format!("SELECT 0, {columns} FROM {name} ORDER BY {key}"), [])?;
                // From the other end, up to the damaged place.
                copy.rows(&format!("SELECT 0, {columns} FROM {name} ORDER BY {key} DESC"), [])?;
            }
        }
    }
    continue_numbers(old, &new, &tables)?;
    for table in &tables {
        delete_orphans(&new, &table.name)?;
    }
    new.commit()?;
    Ok(done)
}

fn tables(old: &Connection, new: &Transaction<'_>) -> Result<Vec<Table>, StoreError> {
    // The new database has an identity of its own.
    let sql = "SELECT name, sql LIKE '%WITHOUT ROWID%' FROM sqlite_schema \
               WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'identity' ORDER BY rowid";
    let mut statement = new.prepare(sql)?;
    let names = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    let mut tables = Vec::new();
    for named in names {
        let (name, has_key) = named?;
        let known = columns(old, &name, false).unwrap_or_default();
        let mut shared = columns(new, &name, false)?;
        shared.retain(|column| known.contains(column));
        if shared.is_empty() {
            continue;
        }
        let insert = format!(
            "INSERT OR IGNORE INTO {name} ({}) VALUES (?{})",
            shared.join(", "),
            ", ?".repeat(shared.len() - 1)
        );
        let key = if has_key { Some(columns(new, &name, true)?.join(", ")) } else { None };
        tables.push(Table { name, columns: shared.join(", "), insert, key });
    }
    Ok(tables)
}

/// Names of a table's columns, or of those of its primary key.
fn columns(db: &Connection, table: &str, of_key: bool) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 OR NOT ?2 ORDER BY cid")?;
    statement.query_map(params![table, of_key], |row| row.get(0))?.collect()
}

struct Copy<'a> {
    old: &'a Connection,
    new: &'a Transaction<'a>,
    table: &'a Table,
    deadline: Instant,
    done: &'a mut Salvaged,
}

impl Copy<'_> {
    fn by_number(&mut self) -> Result<(), StoreError> {
        let Table { name, columns, .. } = self.table;
        let scan = format!("SELECT rowid, {columns} FROM {name} NOT INDEXED WHERE rowid > ?1 ORDER BY rowid");
        let single = format!("SELECT rowid, {columns} FROM {name} NOT INDEXED WHERE rowid = ?1");
        let highest = self.highest();
        let mut after = 0;
        loop {
            let (last, damaged) = self.rows(&scan, [after])?;
            after = last.unwrap_or(after);
            if !damaged {
                return Ok(());
            }
            let end = highest.unwrap_or(after + TRIED_IDS);
            loop {
                after += 1;
                if after > end || Instant::now() >= self.deadline {
                    return Ok(());
                }
                if self.rows(&single, [after])?.0.is_some() {
                    break;
                }
            }
        }
    }

    /// The highest number in the table, as far as it can be read.
    fn highest(&self) -> Option<i64> {
        let number = |sql: &str| self.old.query_row(sql, [], |row| row.get::<_, i64>(0)).ok();
        let name = &self.table.name;
        let ever = number(&format!("SELECT seq FROM sqlite_sequence WHERE name = '{name}'"));
        let now = number(&format!("SELECT max(rowid) FROM {name} NOT INDEXED"));
        ever.max(now).filter(|highest| (0..HIGHEST_ID).contains(highest))
    }

    /// Copies the rows of a statement whose first column is the number of the row. Returns the last number that could
    /// be read, and whether a row could not.
    fn rows(&mut self, sql: &str, parameters: impl Params) -> Result<(Option<i64>, bool), StoreError> {
        let mut last = None;
        // The table itself may be unreadable.
        let Ok(mut statement) = self.old.prepare_cached(sql) else { return Ok((last, self.damaged())) };
        let Ok(mut rows) = statement.query(parameters) else { return Ok((last, self.damaged())) };
        let mut insert = self.new.prepare_cached(&self.table.insert)?;
        let count = insert.parameter_count();
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok((last, false)),
                Err(_) => return Ok((last, self.damaged())),
            };
            let Ok(number) = row.get::<_, i64>(0) else { return Ok((last, self.damaged())) };
            if !(0..HIGHEST_ID).contains(&number) {
                return Ok((last, self.damaged()));
            }
            last = Some(number);
            if let Some(values) = values(row, count) {
                match insert.execute(params_from_iter(values)) {
                    Ok(inserted) => self.done.rows += inserted,
                    // The row breaks a rule of the schema.
                    Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if Instant::now() >= self.deadline {
                return Ok((last, false));
            }
        }
    }

    fn damaged(&mut self) -> bool {
        self.done.damaged_places += 1;
        true
    }
}

/// The values of a row after its number. `None` if a text is not valid.
fn values(row: &Row<'_>, count: usize) -> Option<Vec<Value>> {
    (1..=count).map(|column| row.get(column).ok()).collect()
}

/// Makes sure that no number is given out twice.
fn continue_numbers(old: &Connection, new: &Transaction<'_>, tables: &[Table]) -> Result<(), StoreError> {
    for Table { name, .. } in tables {
        let seq = old.query_row("SELECT seq FROM sqlite_sequence WHERE name = ?1", [name], |row| row.get::<_, i64>(0));
        let Some(seq) = seq.ok().filter(|seq| (1..HIGHEST_ID).contains(seq)) else { continue };
        let changed =
            new.execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", params![name, seq])?;
        if changed == 0 {
            new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", params![name, seq])?;
        }
    }
    Ok(())
}

/// Deletes rows whose parents could not be read.
fn delete_orphans(new: &Transaction<'_>, table: &str) -> Result<(), StoreError> {
    let mut statement = new.prepare("SELECT \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1)")?;
    let keys = statement
        .query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    for key in keys {
        let (parent, from, to) = key?;
        new.execute(&format!("DELETE FROM {table} WHERE {from} NOT IN (SELECT {to} FROM {parent})"), [])?;
    }
    Ok(())
}
