//! A log of the owner's labels next to the database. If the database is lost, the labels come back from it.
//!
//! Each line is what the owner has said about one event, as JSON: its label and its cat. Lines are only appended, so a
//! power cut costs the last line at most. A log that is longer than [`MOST_BYTES`] is written again with the last line
//! of each event, and without the oldest ones above half of that. The log keeps the line of a label that was taken
//! back, because an older copy of the database may have the label.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use daemon::private;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::database::Store;
use crate::deletions::{Deletion, Fate};
use crate::error::StoreError;
use crate::events::LoggedLabel;
use crate::events::checked_cat;
use crate::events::event::Event;

/// File name within the data directory.
const FILE: &str = "labels.jsonl";

/// Size of the log above which it is written again, in bytes. This is room for about 20,000 labels.
const MOST_BYTES: u64 = 4_000_000;

/// Labels that are restored in one transaction, at most.
const RESTORE_BATCH: usize = 100;

/// Lines that are looked up in the database at a time.
const LOOKED_UP: usize = 500;

#[derive(Serialize, Deserialize)]
struct Line {
    node: String,
    /// 16 hexadecimal digits, as in the API.
    boot_id: String,
    start_sample: u64,
    end_sample: u64,
    label: Option<String>,
    /// Name of the owner's own label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<String>,
    /// The cat that the owner named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cat: Option<String>,
    /// When the owner named the cat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cat_at_ns: Option<i64>,
    /// When the owner set the label, if the cat was named later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label_at_ns: Option<i64>,
    /// When the owner last said something about the event.
    labelled_at_ns: i64,
}

impl Store {
    /// Appends what the owner has said about an event until now, and last at `at_ns` or later. A failure is logged; the
    /// label itself is stored in the database.
    pub(crate) async fn log_label(&self, id: i64, at_ns: i64) {
        let (path, store) = (log_of(self.path()), self.clone());
        let hub = tokio::runtime::Handle::current();
        let append = move || {
            store.with_label_log(|| {
                // A label and a cat that are said at once may come here in any order. So the event is read in the turn
                // of this line: the last line has both.
                let event = hub.block_on(store.event(id)).map_err(std::io::Error::other)?;
                event.map_or(Ok(()), |event| append(&path, &said_of(&event, at_ns), MOST_BYTES))
            })
        };
        let appended = tokio::task::spawn_blocking(append).await;
        if let Err(error) = appended.unwrap_or_else(|crash| Err(std::io::Error::other(crash))) {
            warn!(error = cause(&error), "a label is in the database, but not in the log of labels");
        }
    }

    /// Removes the lines about events that this deletion is about, or that a person has deleted, from the log. Returns
    /// how many. A line about an event that is not stored is removed if the deletion is about all cats and the label is
    /// older: then the event is older, too. `to_the_end`: so is a line that names the cat for such an event. The name
    /// of the cat is also taken out of lines about other events for which an owner once used it.
    pub(crate) async fn erase_logged_labels(
        &self,
        wanted: &Deletion,
        to_the_end: bool,
    ) -> std::result::Result<usize, StoreError> {
        let path = log_of(self.path());
        let failed = |error| StoreError::Directory { path: log_of(self.path()), error };
        let of_all_cats_before = wanted.scope.before_ns.filter(|_| !wanted.of_cat);
        let from = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&from)).await;
        let logged = read.unwrap_or_else(|crash| Err(std::io::Error::other(crash))).map_err(failed)?;
        let mut gone = HashSet::new();
        let cat = wanted.scope.cat.clone();
        let names_cat = move |one: &LoggedLabel| cat.is_some() && one.cat == cat;
        let is_named = logged.iter().any(&names_cat);
        for some in logged.chunks(LOOKED_UP) {
            let found = self.fates(wanted, some.iter().map(|one| (one.boot_id, one.start_sample)).collect()).await?;
            for (one, fate) in some.iter().zip(found) {
                let is_older = of_all_cats_before.is_some_and(|before_ns| one.at_ns < before_ns);
                let is_of_cat = to_the_end && names_cat(one) && wanted.scope.before_ns.is_none_or(|at| one.at_ns < at);
                if fate == Fate::Erased || fate == Fate::Unknown && (is_older || is_of_cat) {
                    gone.insert((one.boot_id, one.start_sample));
                }
            }
        }
        if gone.is_empty() && !is_named {
            return Ok(0);
        }
        let store = self.clone();
        // Lines that were added meanwhile are read too.
        let rewrite = move || {
            store.with_label_log(|| {
                let all = self::read(&path)?;
                let before = all.len();
                let last: HashMap<_, usize> = all.iter().enumerate().map(|(at, one)| (key_of(one), at)).collect();
                let counts = |at: usize, one: &LoggedLabel| last.get(&key_of(one)) == Some(&at);
                let stays = |at: usize, one: &LoggedLabel| {
                    !gone.contains(&(one.boot_id, one.start_sample)) && (counts(at, one) || !names_cat(one))
                };
                let stay: Vec<bool> = all.iter().enumerate().map(|(at, one)| stays(at, one)).collect();
                let kept: Vec<_> = all.into_iter().zip(stay).filter_map(|(one, stays)| stays.then_some(one)).collect();
                if kept.len() == before {
                    return Ok(0);
                }
                private::replace(&path, &text_of(&kept), true)?;
                Ok(before - kept.len())
            })
        };
        let done = tokio::task::spawn_blocking(rewrite).await;
        done.unwrap_or_else(|crash| Err(std::io::Error::other(crash))).map_err(failed)
    }

    /// Renames a label of the owner's own in the log, or takes it back there (`None`), so that a lost database does not
    /// bring the old name back. A failure is logged.
    pub(crate) async fn rename_in_label_log(&self, before: String, after: Option<String>) {
        let (path, store) = (log_of(self.path()), self.clone());
        let rewrite = move || {
            store.with_label_log(|| {
                let mut all = read(&path)?;
                let now_ns = hub_base::time::now_ns();
                for one in all.iter_mut().filter(|one| one.own_label.as_ref() == Some(&before)) {
                    one.own_label.clone_from(&after);
                    if after.is_none() {
                        (one.label, one.labelled_at_ns, one.at_ns) = (None, None, now_ns);
                    }
                }
                private::replace(&path, &text_of(&all), true)
            })
        };
        let done = tokio::task::spawn_blocking(rewrite).await;
        if let Err(error) = done.unwrap_or_else(|crash| Err(std::io::Error::other(crash))) {
            warn!(
                error = cause(&error),
                "a label of the owner's own is renamed in the database, but not in the log of labels"
            );
        }
    }

    /// Whether there is a log with labels.
    pub(crate) fn has_label_log(&self) -> bool {
        std::fs::metadata(log_of(self.path())).is_ok_and(|log| log.len() > 0)
    }

    /// Writes the log if there is none, with the labels that the database has.
    pub(crate) async fn begin_label_log(&self) -> std::result::Result<(), StoreError> {
        let path = log_of(self.path());
        if path.try_exists().is_ok_and(|exists| exists) {
            return Ok(());
        }
        let labels = self.current_labels().await?;
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || private::replace(&to, &text_of(&labels), true)).await;
        written
            .unwrap_or_else(|crash| Err(std::io::Error::other(crash)))
            .map_err(|error| StoreError::Directory { path, error })
    }

    /// The node that a boot id belongs to, as far as the log tells.
    pub(crate) async fn node_of_boot_by_labels(&self, boot_id: u64) -> Option<String> {
        let path = log_of(self.path());
        let labels = tokio::task::spawn_blocking(move || read(&path)).await.ok()?.ok()?;
        labels.into_iter().find(|logged| logged.boot_id == boot_id).map(|logged| logged.node)
    }

    /// The cats that owners named for events, as far as the log tells: by boot id and first sample.
    pub(crate) async fn logged_cats(&self) -> Result<HashMap<(u64, u64), String>> {
        let path = log_of(self.path());
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        let logged = read.unwrap_or_else(|crash| Err(std::io::Error::other(crash)))?;
        let place = |one: LoggedLabel| Some(((one.boot_id, one.start_sample), one.cat?));
        Ok(latest(logged).into_iter().filter_map(place).collect())
    }

    /// Gives events the labels of the log that are later than their own. Returns the number of changed events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn restore_labels_from_log(&self) -> std::result::Result<usize, StoreError> {
        let path = log_of(self.path());
        let from = path.clone();
        let read = tokio::task::spawn_blocking(move || read(&from)).await;
        let labels = read
            .unwrap_or_else(|crash| Err(std::io::Error::other(crash)))
            .map_err(|error| StoreError::Directory { path, error })?;
        let mut changed = 0;
        // Nobody else writes during a transaction, so it is short.
        for some in latest(labels).chunks(RESTORE_BATCH) {
            changed += self.restore_labels(some.to_vec()).await?;
        }
        Ok(changed)
    }
}

/// What the owner has said about an event, and last at `at_ns` or later.
fn said_of(event: &Event, at_ns: i64) -> LoggedLabel {
    let found = &event.found;
    let at_ns = [event.labelled_at_ns, event.said_cat_at_ns].into_iter().flatten().fold(at_ns, i64::max);
    LoggedLabel {
        node: found.node.clone(),
        boot_id: found.boot_id,
        start_sample: found.start_sample,
        end_sample: found.end_sample,
        label: event.label,
        own_label: event.own_label.clone(),
        cat: event.said_cat.clone(),
        cat_at_ns: event.said_cat_at_ns,
        labelled_at_ns: event.labelled_at_ns.filter(|labelled_at_ns| *labelled_at_ns < at_ns),
        at_ns,
    }
}

fn log_of(database: &Path) -> PathBuf {
    database.with_file_name(FILE)
}

fn append(path: &Path, logged: &LoggedLabel, most_bytes: u64) -> Result<()> {
    let mut log = private::options().append(true).create(true).open(path)?;
    // One write, so that lines of two processes do not mix. A line that a cut broke off ends here.
    let mut line = text_of(std::slice::from_ref(logged));
    if log.metadata()?.len() > 0 && !ends_with_newline(path)? {
        line.insert(0, b'\n');
    }
    log.write_all(&line)?;
    log.sync_data()?;
    if log.metadata()?.len() > most_bytes { compact(path, most_bytes / 2) } else { Ok(()) }
}

fn ends_with_newline(path: &Path) -> Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut log = std::fs::File::open(path)?;
    log.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    log.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Keeps the last label of each event, up to `keep_bytes`: the latest ones, and as many of those that were taken back
/// as there is room for.
fn compact(path: &Path, keep_bytes: u64) -> Result<()> {
    let labels = latest(read(path)?);
    let mut room = usize::try_from(keep_bytes).unwrap_or(usize::MAX);
    let mut kept = vec![false; labels.len()];
    let is_taken_back = |one: &LoggedLabel| one.label.is_none() && one.cat.is_none();
    for taken_back in [false, true] {
        for (at, logged) in labels.iter().enumerate().rev().filter(|(_, one)| is_taken_back(one) == taken_back) {
            let Some(left) = room.checked_sub(text_of(std::slice::from_ref(logged)).len()) else { break };
            room = left;
            kept[at] = true;
        }
    }
    let kept: Vec<_> = labels.into_iter().zip(kept).filter_map(|(logged, is_kept)| is_kept.then_some(logged)).collect();
    private::replace(path, &text_of(&kept), true)
}

/// The labels of the log, in order. Lines that cannot be read are left out.
fn read(path: &Path) -> Result<Vec<LoggedLabel>> {
    let text = match std::fs::read(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let lines = text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    Ok(lines.filter_map(label_of).collect())
}

fn label_of(line: Line) -> Option<LoggedLabel> {
    Some(LoggedLabel {
        boot_id: u64::from_str_radix(&line.boot_id, 16).ok()?,
        label: line.label.map(|word| word.parse()).transpose().ok()?,
        own_label: line.own,
        cat: line.cat.filter(|name| checked_cat(name).as_ref() == Ok(name)),
        cat_at_ns: line.cat_at_ns,
        labelled_at_ns: line.label_at_ns,
        node: line.node,
        start_sample: line.start_sample,
        end_sample: line.end_sample,
        at_ns: line.labelled_at_ns,
    })
}

fn text_of(labels: &[LoggedLabel]) -> Vec<u8> {
    let mut text = Vec::new();
    for logged in labels {
        let line = Line {
            node: logged.node.clone(),
            boot_id: format!("{:016x}", logged.boot_id),
            start_sample: logged.start_sample,
            end_sample: logged.end_sample,
            label: logged.label.map(|label| label.as_str().to_owned()),
            own: logged.own_label.clone(),
            cat: logged.cat.clone(),
            cat_at_ns: logged.cat_at_ns,
            label_at_ns: logged.labelled_at_ns,
            labelled_at_ns: logged.at_ns,
        };
        // Strings and integers can always be encoded.
        text.extend(serde_json::to_vec(&line).unwrap_or_default());
        text.push(b'\n');
    }
    text
}

/// What identifies the event of a line. Its node may have got another URL since then; its boot id is unique.
fn key_of(logged: &LoggedLabel) -> (u64, u64) {
    (logged.boot_id, logged.start_sample)
}

/// The last label of each event, in the order of the log. It is later than the ones before it, even if the clock was
/// set back in between.
fn latest(labels: Vec<LoggedLabel>) -> Vec<LoggedLabel> {
    let mut last: HashMap<_, (usize, i64)> = HashMap::new();
    for (position, logged) in labels.iter().enumerate() {
        let key = key_of(logged);
        let before = last.get(&key).map_or(i64::MIN, |(_, at_ns)| at_ns.saturating_add(1));
        last.insert(key, (position, logged.at_ns.max(before)));
    }
    let at: HashMap<usize, i64> = last.into_values().collect();
    let numbered = labels.into_iter().enumerate();
    numbered.filter_map(|(position, logged)| Some(LoggedLabel { at_ns: *at.get(&position)?, ..logged })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(start_sample: u64, word: Option<&str>) -> LoggedLabel {
        let label = word.map(|word| word.parse().unwrap());
        let (node, end_sample) = ("http://kitchen:1".to_owned(), start_sample + 8_000);
        LoggedLabel {
            node,
            boot_id: u64::MAX,
            start_sample,
            end_sample,
            label,
            own_label: None,
            cat: None,
            cat_at_ns: None,
            labelled_at_ns: None,
            at_ns: 5,
        }
    }

    #[test]
    fn word_that_is_taken_back_under_another_url_is_taken_back() {
        let before = LoggedLabel { cat: Some("Ada".to_owned()), ..logged(1, None) };
        let after = LoggedLabel { node: "http://192.0.2.7:1".to_owned(), at_ns: 6, ..logged(1, None) };
        assert_eq!(latest(vec![before, after.clone()]), [after]);
    }

    #[test]
    fn log_is_bounded_and_keeps_the_latest_labels() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path).unwrap(), []);
        append(&path, &logged(1, Some("brushing")), 4_000).unwrap();
        // A cut in the middle of a line costs that line alone.
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"node\":\"http").unwrap();
        append(&path, &logged(2, Some("isolation")), 4_000).unwrap();
        append(&path, &logged(1, None), 4_000).unwrap();
        let labels = [logged(1, Some("brushing")), logged(2, Some("isolation")), logged(1, None)];
        assert_eq!(read(&path).unwrap(), labels);
        let later = LoggedLabel { at_ns: 6, ..logged(1, None) };
        assert_eq!(latest(labels.to_vec()), [logged(2, Some("isolation")), later.clone()]);
        compact(&path, 4_000).unwrap();
        assert_eq!(read(&path).unwrap().last(), Some(&later), "what was taken back stays taken back");
        for n in 0..500 {
            append(&path, &logged(n, Some("not_a_cat")), 4_000).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= 4_000);
        }
        let kept = read(&path).unwrap();
        assert_eq!(kept.last(), Some(&logged(499, Some("not_a_cat"))));
        assert!(kept.len() > 10, "{}", kept.len());
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn damaged_log_keeps_its_other_lines_and_takes_further_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let logged = |start_sample: u64, label: Option<&str>| LoggedLabel {
            node: "http://kitchen:1".to_owned(),
            boot_id: u64::MAX - start_sample,
            start_sample,
            end_sample: start_sample + 8_000,
            label: label.map(|word| word.parse().unwrap()),
            own_label: None,
            cat: label.map(|_| "Ada".to_owned()),
            cat_at_ns: label.map(|_| 3),
            labelled_at_ns: label.map(|_| 4),
            at_ns: 5,
        };
        let all = [logged(1, Some("brushing")), logged(2, Some("not_a_cat")), logged(1, None)];
        let words = ["\n", "null", "-1", "99999999999999999999", "}", "\"label\":", "\0"];
        hold(200, &nearly(vec![text_of(&all), text_of(&all[..1]), Vec::new()], &words), |bytes| {
            std::fs::write(&path, &bytes).unwrap();
            let labels = read(&path).unwrap();
            prop_assert!(labels.len() <= bytes.iter().filter(|byte| **byte == b'\n').count() + 1);
            // Whatever can be read is written and read again as it is.
            std::fs::write(&path, text_of(&labels)).unwrap();
            prop_assert_eq!(&read(&path).unwrap(), &labels);
            // A further label gets a line of its own.
            std::fs::write(&path, &bytes).unwrap();
            append(&path, &all[0], MOST_BYTES).unwrap();
            prop_assert_eq!(read(&path).unwrap(), [labels.as_slice(), &all[..1]].concat());
            let most = 500;
            append(&path, &all[1], most).unwrap();
            prop_assert!(std::fs::metadata(&path).unwrap().len() <= most);
            Ok(())
        });
    }
}
