//! Evaluates the contexts of stored events again, once the owner's labels tell contexts apart.
//!
//! A label must not change in silence what the owner has read before. So one label changes no stored event. From
//! several labels of two contexts on ([`Household::knows_contexts_apart`]), a label makes the classifier evaluate the
//! cat's stored events again that have no label: the latest [`MOST_EVENTS`]. An event changes only if its context does,
//! so that the number that the owner is told is the number of changed events. It keeps its first answer, and the owner
//! can undo the last re-evaluation of a cat. If labels are removed until too few are left, the events get their first
//! answers back, and that can be undone, too.

use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use sound::context::Features;
use sound::detection::{Context, ContextLabel, ContextProbabilities};
use sound::household::Household;

use super::event::{Event, FirstAnswer, first_of};
use super::learning::{HAS_FEATURES, SAME_CAT, learn};
use crate::database::Store;
use crate::error::StoreError;

/// Events of a cat that are evaluated again: the latest ones. Older ones keep their context. While this many are
/// evaluated, some tenths of a second, nothing else can be stored.
const MOST_EVENTS: usize = 10_000;

/// Re-evaluations that can be undone, one for each cat: the latest ones.
const MOST_KEPT: usize = 32;

/// What a re-evaluation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reevaluation {
    /// Its number, to undo it. Never reused.
    pub id: i64,
    /// How many events have another context now. At least 1.
    pub changed: usize,
}

/// An answer about an event: the context and the number of labels that it is based on.
type Answer = (Context, u32);

/// An event whose context changes.
struct Change {
    id: i64,
    before: Answer,
    was_first: bool,
    after: Answer,
}

impl Store {
    /// Evaluates again the stored events of the cat of `labelled`, an event whose label has just been set or removed.
    /// Labelled events and `labelled` itself stay as they are. All of it is one transaction. `None`: nothing changed.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed in that case; the next label does what was left undone.
    pub async fn reevaluate(&self, labelled: &Event) -> Result<Option<Reevaluation>, StoreError> {
        let (id, cat, node) = (labelled.id, labelled.found.cat.clone(), labelled.found.node.clone());
        self.write_durably(move |db| {
            let household = learn(db, &cat, &node)?;
            let mut changes = if household.knows_contexts_apart() {
                evaluated(db, &cat, &node, &household)?
            } else {
                back_to_first(db, &cat, &node)?
            };
            changes.retain(|change| change.id != id);
            if changes.is_empty() {
                return Ok(None);
            }
            forget_last(db, &cat, &node)?;
            db.execute("INSERT INTO reevaluations (done_at_ns) VALUES (?1)", [now_ns()])?;
            let number = db.last_insert_rowid();
            for change in &changes {
                carry_out(db, number, change)?;
            }
            let sql =
                "DELETE FROM reevaluations WHERE id NOT IN (SELECT id FROM reevaluations ORDER BY id DESC LIMIT ?1)";
            db.execute(sql, [i64::try_from(MOST_KEPT).unwrap_or(i64::MAX)])?;
            Ok(Some(Reevaluation { id: number, changed: changes.len() }))
        })
        .await
    }

    /// Gives the events of a re-evaluation the answers back that they had before, exactly. Events that were deleted
    /// since are left out. Returns the number of events that changed, or `None` if there is no such re-evaluation: it
    /// was undone before, or a later one of the cat followed.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing has changed in that case.
    pub async fn undo_reevaluation(&self, id: i64) -> Result<Option<usize>, StoreError> {
        self.write_durably(move |db| {
            let known = db.query_row("SELECT 1 FROM reevaluations WHERE id = ?1", [id], |_| Ok(())).optional()?;
            if known.is_none() {
                return Ok(None);
            }
            let sql = "UPDATE events SET context = old.context, p_waiting_for_food = old.p_waiting_for_food, \
                       p_isolation = old.p_isolation, p_brushing = old.p_brushing, \
                       context_labels = old.context_labels, \
                       first_context = iif(was_first, NULL, first_context), \
                       first_p_waiting_for_food = iif(was_first, NULL, first_p_waiting_for_food), \
                       first_p_isolation = iif(was_first, NULL, first_p_isolation), \
                       first_p_brushing = iif(was_first, NULL, first_p_brushing), \
                       first_context_labels = iif(was_first, NULL, first_context_labels) \
                       FROM reevaluated_events AS old \
                       WHERE reevaluation = ?1 AND event_id = events.id AND deleted_at_ns IS NULL";
            let changed = db.execute(sql, [id])?;
            db.execute("DELETE FROM reevaluations WHERE id = ?1", [id])?;
            Ok(Some(changed))
        })
        .await
    }
}

/// The events that this classifier gives another context.
fn evaluated(db: &Connection, cat: &str, node: &str, household: &Household) -> Result<Vec<Change>, StoreError> {
    let sql = format!(
        "SELECT id, context, p_waiting_for_food, p_isolation, p_brushing, context_labels, first_context, features \
         FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND label IS NULL AND {HAS_FEATURES} \
         ORDER BY started_at_ns DESC, id DESC LIMIT {MOST_EVENTS}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() })?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = row.get_ref("features")?.as_blob().map_err(rusqlite::Error::from)?;
        let Some(features) = Features::from_bytes(bytes) else { continue };
        changes.extend(change(row, (household.context(&features), household.labels()))?);
    }
    Ok(changes)
}

/// The events that have another context than their first one.
fn back_to_first(db: &Connection, cat: &str, node: &str) -> Result<Vec<Change>, StoreError> {
    let sql = format!(
        "SELECT id, context, p_waiting_for_food, p_isolation, p_brushing, context_labels, first_context, \
         first_p_waiting_for_food, first_p_isolation, first_p_brushing, first_context_labels \
         FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND label IS NULL AND first_context <> context \
         ORDER BY started_at_ns DESC, id DESC LIMIT {MOST_EVENTS}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":cat": cat, ":node": node })?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        if let Some(FirstAnswer { context, labels }) = first_of(row)? {
            changes.extend(change(row, (context, labels))?);
        }
    }
    Ok(changes)
}

/// The change of the event in this row, if its context changes.
fn change(row: &Row<'_>, after: Answer) -> Result<Option<Change>, StoreError> {
    let before = Context {
        label: ContextLabel::from_word(row.get_ref("context")?.as_str().map_err(rusqlite::Error::from)?),
        probabilities: ContextProbabilities {
            waiting_for_food: row.get("p_waiting_for_food")?,
            isolation: row.get("p_isolation")?,
            brushing: row.get("p_brushing")?,
        },
    };
    if before.label == after.0.label {
        return Ok(None);
    }
    let was_first = row.get::<_, Option<String>>("first_context")?.is_none();
    Ok(Some(Change { id: row.get("id")?, before: (before, row.get("context_labels")?), was_first, after }))
}

/// Forgets the re-evaluations of this cat. They can no longer be undone.
fn forget_last(db: &Transaction<'_>, cat: &str, node: &str) -> Result<(), StoreError> {
    let sql = format!(
        "DELETE FROM reevaluations WHERE id IN (SELECT reevaluation FROM reevaluated_events \
         JOIN events ON events.id = event_id WHERE {SAME_CAT})"
    );
    db.execute(&sql, named_params! { ":cat": cat, ":node": node })?;
    Ok(())
}

fn carry_out(db: &Transaction<'_>, number: i64, change: &Change) -> Result<(), StoreError> {
    let Change { id, before, was_first, after } = change;
    let (context, labels) = before;
    let ContextProbabilities { waiting_for_food, isolation, brushing } = context.probabilities;
    let sql = "INSERT INTO reevaluated_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let word = context.label.as_str();
    let row = params![number, id, word, waiting_for_food, isolation, brushing, labels, was_first];
    db.prepare_cached(sql)?.execute(row)?;
    if *was_first {
        let sql = "UPDATE events SET first_context = context, first_p_waiting_for_food = p_waiting_for_food, \
                   first_p_isolation = p_isolation, first_p_brushing = p_brushing, \
                   first_context_labels = context_labels WHERE id = ?1";
        db.prepare_cached(sql)?.execute([id])?;
    }
    let (context, labels) = after;
    let ContextProbabilities { waiting_for_food, isolation, brushing } = context.probabilities;
    let sql = "UPDATE events SET context = ?2, p_waiting_for_food = ?3, p_isolation = ?4, p_brushing = ?5, \
               context_labels = ?6 WHERE id = ?1";
    let row = params![id, context.label.as_str(), waiting_for_food, isolation, brushing, labels];
    db.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

#[cfg(test)]
mod tests;
