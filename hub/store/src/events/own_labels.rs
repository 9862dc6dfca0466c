//! Labels of the owner's own, next to the contexts: "let me out", "hairball".
//!
//! An event with such a label counts as uncertain everywhere that knows only the four contexts: notifications, counts,
//! and what clients of the original system get. Its row holds the label `uncertain` and the number of the owner's own
//! label, so that a label has one name in one place. What the hub learns from them is in [`super::suggest`].

use hub_base::text::clean;
use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sound::detection::ContextLabel;
use tracing::warn;

use super::event::{Event, OwnerLabel};
use super::reevaluate::Reevaluation;
use super::suggest;
use crate::database::Store;
use crate::error::StoreError;
use crate::node_columns::url_of;

/// Most labels of the owner's own.
pub const MAX_OWN_LABELS: usize = 32;

/// Longest label of the owner's own, in characters.
pub const MAX_OWN_LABEL_CHARS: usize = 40;

/// What the page calls the words of the hub that it does not show as they are: `isolation`, `brushing` and `uncertain`.
/// A label of such a name would be a second button of that name.
const SHOWN: [&str; 3] = ["alone", "being brushed", "unclear"];

/// A label of the owner's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnLabel {
    /// Its number. Never reused.
    pub id: i64,
    /// Its name: 1 to [`MAX_OWN_LABEL_CHARS`] characters. New ones are none of [`OwnerLabel::WORDS`], nor what the page
    /// shows for one of them.
    pub name: String,
    /// How many events have it.
    pub events: u64,
    /// For how many events without a label the hub suggests it.
    pub suggested: u64,
}

/// What the removal of a label of the owner's own did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedOwnLabel {
    /// The label as it was.
    pub label: OwnLabel,
    /// The re-evaluations of the cats whose events had the label: events without a label, including those that had
    /// this one, changed because the events of the removed label no longer teach. Events for which the label itself was
    /// suggested are counted in [`OwnLabel::suggested`].
    pub reevaluations: Vec<Reevaluation>,
}

/// Why a label of the owner's own was not added, renamed or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnLabelError {
    /// The name is invalid.
    #[error("the name of a label has 1 to {MAX_OWN_LABEL_CHARS} characters in one line")]
    BadName,
    /// The hub uses the name itself.
    #[error("the hub has a label of this name")]
    Reserved,
    /// There is another label with this name.
    #[error("you have a label of this name")]
    Taken,
    /// There are [`MAX_OWN_LABELS`] labels.
    #[error("there are {MAX_OWN_LABELS} labels of your own; remove one first")]
    Full,
    /// There is no label with this number.
    #[error("there is no such label")]
    Unknown,
}

/// The name as it is stored: without spaces before and after.
///
/// # Errors
/// [`OwnLabelError::BadName`].
fn checked(name: &str) -> Result<String, OwnLabelError> {
    let name = name.trim();
    let is_one_line = clean(name, usize::MAX) == name;
    if !is_one_line || !(1..=MAX_OWN_LABEL_CHARS).contains(&name.chars().count()) {
        return Err(OwnLabelError::BadName);
    }
    Ok(name.to_owned())
}

/// Whether the hub or its page uses this name itself. A label may have such a name from an earlier version.
fn is_reserved(name: &str) -> bool {
    let as_word = name.replace([' ', '-'], "_");
    OwnerLabel::WORDS.iter().any(|word| word.eq_ignore_ascii_case(&as_word))
        || SHOWN.iter().any(|shown| shown.eq_ignore_ascii_case(name))
}

impl Store {
    /// The labels of the owner's own, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn own_labels(&self) -> Result<Vec<OwnLabel>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            let rows = statement.query_map([], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The number of the label of the owner's own with this name, in upper or lower case.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn own_label_named(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let name = name.trim().to_owned();
        self.read(move |db| named(db, &name)).await
    }

    /// Adds a label of the owner's own.
    ///
    /// # Errors
    /// The outer error: see [`StoreError`]. The inner one: the name is invalid or taken, or there are too many labels.
    pub async fn add_own_label(&self, name: &str) -> Result<Result<OwnLabel, OwnLabelError>, StoreError> {
        let name = match checked(name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        self.write_durably(move |db| {
            if named(db, &name)?.is_some() {
                return Ok(Err(OwnLabelError::Taken));
            }
            if is_reserved(&name) {
                return Ok(Err(OwnLabelError::Reserved));
            }
            Ok(match add(db, &name)? {
                Some(id) => Ok(OwnLabel { id, name, events: 0, suggested: 0 }),
                None => Err(OwnLabelError::Full),
            })
        })
        .await
    }

    /// Renames a label of the owner's own. All events with the label have the new name at once.
    ///
    /// # Errors
    /// The outer error: see [`StoreError`]. The inner one: the name is invalid or taken, or there is no such label.
    pub async fn rename_own_label(&self, id: i64, name: &str) -> Result<Result<OwnLabel, OwnLabelError>, StoreError> {
        let name = match checked(name) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error)),
        };
        let renamed = self.write_durably(move |db| {
            let Some(before) = one(db, id)? else { return Ok(Err(OwnLabelError::Unknown)) };
            match named(db, &name)? {
                Some(other) if other != id => return Ok(Err(OwnLabelError::Taken)),
                None if is_reserved(&name) => return Ok(Err(OwnLabelError::Reserved)),
                _ => {}
            }
            db.execute("UPDATE own_labels SET name = ?2 WHERE id = ?1", params![id, name])?;
            Ok(Ok((before.name.clone(), OwnLabel { name, ..before })))
        });
        match renamed.await? {
            Err(error) => Ok(Err(error)),
            Ok((before, label)) => {
                self.rename_in_label_log(before, Some(label.name.clone())).await;
                Ok(Ok(label))
            }
        }
    }

    /// Removes a label of the owner's own. Its events have no label any more, and events for which it was suggested get
    /// their contexts back. Then the cats of those events are evaluated again ([`Store::reevaluate`]): their other
    /// labels may have too few others now. If that fails, the next label of the cat does it.
    ///
    /// # Errors
    /// The outer error: see [`StoreError`]. The inner one: there is no such label.
    pub async fn remove_own_label(&self, id: i64) -> Result<Result<RemovedOwnLabel, OwnLabelError>, StoreError> {
        let removed = self.write_durably(move |db| {
            let Some(label) = one(db, id)? else { return Ok(Err(OwnLabelError::Unknown)) };
            let cats = cats_with(db, id)?;
            let sql = "INSERT INTO event_labels (event_id, label, labelled_at_ns) \
                       SELECT id, NULL, ?2 FROM events WHERE own_label = ?1 AND deleted_at_ns IS NULL";
            db.execute(sql, params![id, now_ns()])?;
            let sql = "UPDATE events SET label = NULL, labelled_at_ns = NULL, own_label = NULL WHERE own_label = ?1";
            db.execute(sql, [id])?;
            suggest::forget(db, id)?;
            db.execute("DELETE FROM own_labels WHERE id = ?1", [id])?;
            Ok(Ok((label, cats)))
        });
        let (label, cats) = match removed.await? {
            Ok(removed) => removed,
            Err(error) => return Ok(Err(error)),
        };
        self.rename_in_label_log(label.name.clone(), None).await;
        let mut reevaluations = Vec::new();
        for (cat, node) in cats {
            match self.reevaluate_cat(cat, node, None).await {
                Ok(done) => reevaluations.extend(done),
                Err(error) => {
                    warn!(%error, "cannot evaluate the events of a cat again after a label of the owner's was removed");
                }
            }
        }
        Ok(Ok(RemovedOwnLabel { label, reevaluations }))
    }

    /// Gives an event a label of the owner's own. `None`: there is no such event or no such label.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn label_event_own(&self, id: i64, own_label: i64) -> Result<Option<Event>, StoreError> {
        self.set_label(id, Some(OwnerLabel::Context(ContextLabel::Uncertain)), Some(own_label)).await
    }
}

const SELECT: &str = "SELECT id, name, (SELECT count(*) FROM events WHERE own_label = own_labels.id \
                      AND deleted_at_ns IS NULL), (SELECT count(*) FROM events WHERE suggested = own_labels.id \
                      AND label IS NULL AND deleted_at_ns IS NULL) FROM own_labels";

fn from_row(row: &Row<'_>) -> rusqlite::Result<OwnLabel> {
    let [events, suggested] = [row.get::<_, i64>(2)?, row.get::<_, i64>(3)?].map(i64::cast_unsigned);
    Ok(OwnLabel { id: row.get(0)?, name: row.get(1)?, events, suggested })
}

fn one(db: &Connection, id: i64) -> Result<Option<OwnLabel>, StoreError> {
    Ok(db.query_row(&format!("{SELECT} WHERE id = ?1"), [id], from_row).optional()?)
}

fn named(db: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    Ok(db.query_row("SELECT id FROM own_labels WHERE name = ?1", [name], |row| row.get(0)).optional()?)
}

/// The cats with events that have this label: their names and, for events without a cat's name, the node.
fn cats_with(db: &Connection, id: i64) -> Result<Vec<(String, String)>, StoreError> {
    let sql = concat!(
        "SELECT DISTINCT cat, iif(cat = '', ",
        url_of!("events"),
        ", '') FROM events WHERE own_label = ?1 AND deleted_at_ns IS NULL"
    );
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a label with a checked name. `None`: there are too many.
fn add(db: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let sql = "INSERT INTO own_labels (name, created_at_ns) SELECT ?1, ?2 \
               WHERE (SELECT count(*) FROM own_labels) < ?3";
    let most = i64::try_from(MAX_OWN_LABELS).unwrap_or(i64::MAX);
    Ok((db.execute(sql, params![name, now_ns(), most])? > 0).then(|| db.last_insert_rowid()))
}

/// The label with this name, which comes from a log. It is added if it is missing, also with a reserved name: an
/// earlier version allowed some of them. `None`: the name is invalid, or there are too many labels.
pub(super) fn known_or_added(db: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    let Ok(name) = checked(name) else { return Ok(None) };
    match named(db, &name)? {
        Some(id) => Ok(Some(id)),
        None => add(db, &name),
    }
}

#[cfg(test)]
mod tests;
