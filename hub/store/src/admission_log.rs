//! A log of admissions next to the database. If the database is lost, or replaced by an older one, the admissions come
//! back from it, as the events do from their clips.
//!
//! Each line is one decision as JSON. Lines are only appended, so a cut costs the last line at most. A log that is
//! longer than [`MOST_BYTES`] is written again with the last decision about each node: all admissions, and as many of
//! those that were taken back as there is room for.

use std::collections::HashMap;
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use daemon::private;
use hub_base::time::now_ns;
use rusqlite::params;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::admitted::MAX_ADMITTED;
use crate::database::Store;
use crate::error::StoreError;

/// File name within the data directory.
const FILE: &str = "admissions.jsonl";

/// Size of the log above which it is written again, in bytes. The admissions of [`MAX_ADMITTED`] nodes take half of it.
const MOST_BYTES: u64 = 400_000;

/// A decision about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    /// The key of the node: its id, or else its URL.
    key: String,
    /// Who admitted it. `None`: the admission was taken back.
    admitted_by: Option<String>,
    at_ns: i64,
}

impl Store {
    /// Appends that these keys were admitted, or that their admission was taken back (`None`). A failure is logged; the
    /// decision itself is stored in the database.
    pub(crate) async fn log_admissions(&self, keys: Vec<String>, admitted_by: Option<String>) {
        let at_ns = now_ns();
        let line = |key| Line { key, admitted_by: admitted_by.clone(), at_ns };
        let lines: Vec<Line> = keys.into_iter().map(line).collect();
        let path = log_of(self.path());
        if let Err(error) = blocking(move || append(&path, &lines, MOST_BYTES)).await {
            warn!(%error, "an admission is in the database, but not in the log of admissions");
        }
    }

    /// Brings the admissions of the log into the database, and takes those back which are taken back there, except
    /// admissions that are younger than the log says. Begins the log if there is none. Only the process that owns the
    /// store calls this, at its start. Returns how many nodes changed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn follow_admission_log(&self) -> std::result::Result<usize, StoreError> {
        let path = log_of(self.path());
        let from = path.clone();
        let failed = |error| StoreError::Directory { path: path.clone(), error };
        let Some(lines) = blocking(move || read(&from)).await.map_err(failed)? else {
            let admitted = self.read(admitted).await?;
            let to = path.clone();
            blocking(move || private::replace(&to, &text_of(&admitted), true)).await.map_err(failed)?;
            return Ok(0);
        };
        let lines = latest(lines);
        let changed = self
            .write_durably(move |db| {
                let mut changed = 0;
                for Line { key, admitted_by, at_ns } in &lines {
                    changed += match admitted_by {
                        Some(by) => db.prepare_cached(ADMIT)?.execute(params![key, at_ns, by, most()])?,
                        None => db.prepare_cached(FORGET)?.execute(params![key, at_ns])?,
                    };
                }
                Ok(changed)
            })
            .await?;
        if changed > 0 {
            info!(nodes = changed, "the log of admissions is younger than the database; its admissions count again");
        }
        Ok(changed)
    }
}

const ADMIT: &str = "INSERT OR IGNORE INTO admitted_nodes (key, admitted_at_ns, admitted_by) SELECT ?1, ?2, ?3 \
                     WHERE (SELECT count(*) FROM admitted_nodes) < ?4";

const FORGET: &str = "DELETE FROM admitted_nodes WHERE key = ?1 AND admitted_at_ns <= ?2";

fn most() -> i64 {
    i64::try_from(MAX_ADMITTED).unwrap_or(i64::MAX)
}

fn admitted(db: &rusqlite::Connection) -> std::result::Result<Vec<Line>, StoreError> {
    let mut rows =
        db.prepare("SELECT key, admitted_by, admitted_at_ns FROM admitted_nodes ORDER BY admitted_at_ns, key")?;
    let rows = rows.query_map([], |row| Ok(Line { key: row.get(0)?, admitted_by: row.get(1)?, at_ns: row.get(2)? }))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|crash| Err(std::io::Error::other(crash)))
}

fn log_of(database: &Path) -> PathBuf {
    database.with_file_name(FILE)
}

fn append(path: &Path, lines: &[Line], most_bytes: u64) -> Result<()> {
    let mut log = private::options().append(true).create(true).open(path)?;
    // One write, so that lines of two processes do not mix. A line that a cut broke off ends here: a line without text
    // is none.
    let mut text = if log.metadata()?.len() > 0 { vec![b'\n'] } else { Vec::new() };
    text.extend(text_of(lines));
    log.write_all(&text)?;
    log.sync_data()?;
    if log.metadata()?.len() > most_bytes { compact(path, most_bytes / 2) } else { Ok(()) }
}

/// Keeps the last decision about each node, up to `keep_bytes`: first the admissions, then the latest of the others.
fn compact(path: &Path, keep_bytes: u64) -> Result<()> {
    let (admitted, taken_back): (Vec<Line>, Vec<Line>) =
        latest(read(path)?.unwrap_or_default()).into_iter().partition(|line| line.admitted_by.is_some());
    let mut room = usize::try_from(keep_bytes).unwrap_or(usize::MAX);
    let mut kept: Vec<Line> = Vec::new();
    for line in admitted.into_iter().rev().chain(taken_back.into_iter().rev()) {
        let Some(left) = room.checked_sub(text_of(std::slice::from_ref(&line)).len()) else { break };
        room = left;
        kept.push(line);
    }
    kept.reverse();
    private::replace(path, &text_of(&kept), true)
}

/// The decisions of the log, in order. Lines that cannot be read are left out. `None`: there is no log.
fn read(path: &Path) -> Result<Option<Vec<Line>>> {
    let text = match std::fs::read(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(Some(text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()))
}

fn text_of(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        // Strings and integers can always be encoded.
        text.extend(serde_json::to_vec(line).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

/// The last decision about each node, in the order of the log.
fn latest(lines: Vec<Line>) -> Vec<Line> {
    let last: HashMap<String, usize> =
        lines.iter().enumerate().map(|(position, line)| (line.key.clone(), position)).collect();
    let numbered = lines.into_iter().enumerate();
    numbered.filter(|(position, line)| last.get(&line.key) == Some(position)).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::database::Access;

    const ATTIC: &str = "http://attic.local:1";
    const CELLAR: &str = "http://cellar.local:1";

    async fn keys(store: &Store) -> BTreeSet<String> {
        store.admitted().await.unwrap().keys
    }

    fn set(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[tokio::test]
    async fn admissions_come_back_when_the_database_is_lost_or_older() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Access::Keeper).unwrap();
        let store = open();
        assert_eq!(store.follow_admission_log().await.unwrap(), 0);
        assert!(store.admit(ATTIC.into(), "page").await.unwrap());
        let (older, database) = (dir.path().join("older.sqlite"), store.path().to_owned());
        let copy = rusqlite::Connection::open(&database).unwrap();
        copy.execute("VACUUM INTO ?1", [older.display().to_string()]).unwrap();
        drop(copy);
        assert!(store.admit(CELLAR.into(), "command").await.unwrap());
        store.forget_admitted(vec![ATTIC.into()]).await.unwrap();
        drop(store);
        for copy in [None, Some(&older)] {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
            }
            if let Some(copy) = copy {
                std::fs::copy(copy, &database).unwrap();
            }
            let store = open();
            assert_eq!(keys(&store).await, set(if copy.is_some() { &[ATTIC] } else { &[] }));
            assert!(store.follow_admission_log().await.unwrap() > 0);
            assert_eq!(keys(&store).await, set(&[CELLAR]));
            assert_eq!(store.follow_admission_log().await.unwrap(), 0, "once");
        }
    }

    #[tokio::test]
    async fn admission_that_is_not_in_the_log_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert!(store.admit(ATTIC.into(), "page").await.unwrap());
        store.forget_admitted(vec![ATTIC.into()]).await.unwrap();
        // It is admitted again while the log cannot be written, and the log is there again later.
        let (log, away) = (dir.path().join(FILE), dir.path().join("away"));
        std::fs::rename(&log, &away).unwrap();
        std::fs::create_dir(&log).unwrap();
        assert!(store.admit(ATTIC.into(), "page").await.unwrap());
        std::fs::remove_dir(&log).unwrap();
        std::fs::rename(&away, &log).unwrap();
        assert_eq!(store.follow_admission_log().await.unwrap(), 0);
        assert_eq!(keys(&store).await, set(&[ATTIC]));
        // Without a log, one is begun with what the database has.
        std::fs::remove_file(&log).unwrap();
        store.follow_admission_log().await.unwrap();
        assert_eq!(read(&log).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn log_is_bounded_and_keeps_the_admissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let line = |key: &str, by: Option<&str>| Line { key: key.into(), admitted_by: by.map(Into::into), at_ns: 5 };
        append(&path, &[line(ATTIC, Some("page"))], 4_000).unwrap();
        // A cut in the middle of a line costs that line alone.
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"key\":\"http").unwrap();
        for n in 0..500 {
            append(&path, &[line(&format!("http://{n}.local:1"), None)], 4_000).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= 4_000);
        }
        let kept = latest(read(&path).unwrap().unwrap());
        assert!(kept.contains(&line(ATTIC, Some("page"))), "{kept:?}");
        assert!(kept.contains(&line("http://499.local:1", None)), "{kept:?}");
        append(&path, &[line(ATTIC, None)], 4_000).unwrap();
        assert_eq!(latest(read(&path).unwrap().unwrap()).last(), Some(&line(ATTIC, None)));
    }
}
