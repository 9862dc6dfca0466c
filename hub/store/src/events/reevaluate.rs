//! Evaluates stored events again, once the owner's labels tell contexts apart or teach a label of the owner's own.
//!
//! A label must not change in silence what the owner has read before. So one label changes no stored event. From
//! several labels of two contexts on ([`Household::knows_contexts_apart`]), or from several labels of the owner's own
//! ([`Suggester::is_empty`]), a label makes the classifiers evaluate the cat's stored events again that have no label:
//! the latest [`MOST_EVENTS`]. An event changes only if its context or its suggested label does, so that the number
//! that the owner is told is the number of changed events. It keeps its first answer, and the owner can undo the last
//! re-evaluation of a cat. If labels are removed until too few are left, the events get their first answers back, and
//! that can be undone, too.
//!
//! After an update of the network, the hub analyses the labelled clips again. Until it has those of a cat, too few
//! labels teach, and events that the earlier network heard keep their answers.

use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};
use sound::context::Features;
use sound::detection::{Context, ContextLabel, ContextProbabilities};
use sound::household::Household;
use sound::own_labels::Suggester;

use super::event::{Event, first_of};
use super::learning::{HAS_FEATURES, SAME_CAT, is_to_hear_again, learn};
use super::suggest::{self, Suggested, context_with};
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
    /// How many events have another context or another suggested label now. At least 1.
    pub changed: usize,
}

/// An answer about an event.
#[derive(Clone, Copy)]
struct Answer {
    context: Context,
    /// Number of labels that the context is based on.
    labels: u32,
    /// The owner's own label that is suggested. The context is `uncertain` then.
    suggested: Suggested,
}

impl Answer {
    /// The answer with another suggestion, or with none.
    fn with(self, suggested: Suggested) -> Self {
        if suggested.is_none() && self.suggested.is_none() {
            return self;
        }
        Self { context: context_with(suggested, self.context.probabilities), suggested, ..self }
    }

    /// Without a suggestion of a label that is not learnt any more.
    fn without_forgotten(self, suggester: &Suggester) -> Self {
        let is_forgotten = self.suggested.is_some_and(|(label, _)| !suggester.knows(label));
        if is_forgotten { self.with(None) } else { self }
    }
}

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
        self.reevaluate_cat(labelled.found.cat.clone(), labelled.found.node.clone(), Some(labelled.id)).await
    }

    /// Does what [`Store::reevaluate`] does for a cat; for events without a cat's name, `node` identifies the cat. The
    /// event with the number `spared` stays as it is.
    pub(super) async fn reevaluate_cat(
        &self,
        cat: String,
        node: String,
        spared: Option<i64>,
    ) -> Result<Option<Reevaluation>, StoreError> {
        self.write_durably(move |db| {
            let household = learn(db, &cat, &node)?;
            let suggester = suggest::learn(db, &cat, &node)?;
            let mut changes = changes(db, &cat, &node, &household, &suggester)?;
            changes.retain(|change| Some(change.id) != spared);
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
                       context_labels = old.context_labels, suggested = old.suggested, \
                       p_suggested = old.p_suggested, \
                       first_suggested = iif(was_first, NULL, first_suggested), \
                       first_p_suggested = iif(was_first, NULL, first_p_suggested), \
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

/// The events whose answers change.
fn changes(
    db: &Connection,
    cat: &str,
    node: &str,
    household: &Household,
    suggester: &Suggester,
) -> Result<Vec<Change>, StoreError> {
    let apart = household.knows_contexts_apart();
    // If nothing is learnt, only events that have left their first answer can change.
    let which = if apart || !suggester.is_empty() {
        format!("({HAS_FEATURES} OR suggested IS NOT NULL)")
    } else {
        "(suggested IS NOT NULL OR first_suggested IS NOT NULL OR first_context <> context)".to_owned()
    };
    let heard = if is_to_hear_again(db, cat, node)? { HAS_FEATURES } else { "TRUE" };
    let sql = format!(
        "SELECT id, context, p_waiting_for_food, p_isolation, p_brushing, context_labels, suggested, p_suggested, \
         first_context, first_p_waiting_for_food, first_p_isolation, first_p_brushing, first_context_labels, \
         first_suggested, first_p_suggested, NULL AS first_suggested_name, \
         iif({HAS_FEATURES}, features, NULL) AS features \
         FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND label IS NULL AND {which} AND {heard} \
         ORDER BY started_at_ns DESC, id DESC LIMIT {MOST_EVENTS}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() })?;
    let knows = |suggested: Suggested| suggested.is_some_and(|(label, _)| suggester.knows(label));
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let features = row.get_ref("features")?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let features = features.and_then(Features::from_bytes);
        let (before, first) = (present(row)?, first(row)?);
        let after = match features {
            Some(features) => {
                let base = if apart {
                    Answer { context: household.context(&features), labels: household.labels(), suggested: None }
                } else {
                    first.unwrap_or(before).with(None)
                };
                base.with(suggester.suggests(&features))
            }
            // Another network heard it.
            None if apart || knows(before.suggested) => before.without_forgotten(suggester),
            None => first.unwrap_or(before).without_forgotten(suggester),
        };
        let labels = |answer: &Answer| (answer.context.label, answer.suggested.map(|(label, _)| label));
        if labels(&before) != labels(&after) {
            changes.push(Change { id: row.get("id")?, before, was_first: first.is_none(), after });
        }
    }
    Ok(changes)
}

/// What is stored as the present answer about an event.
fn present(row: &Row<'_>) -> Result<Answer, StoreError> {
    let context = Context {
        label: ContextLabel::from_word(row.get_ref("context")?.as_str().map_err(rusqlite::Error::from)?),
        probabilities: ContextProbabilities {
            waiting_for_food: row.get("p_waiting_for_food")?,
            isolation: row.get("p_isolation")?,
            brushing: row.get("p_brushing")?,
        },
    };
    let label: Option<i64> = row.get("suggested")?;
    let probability: Option<f32> = row.get("p_suggested")?;
    Ok(Answer { context, labels: row.get("context_labels")?, suggested: label.zip(probability) })
}

/// The first answer about an event that was evaluated again.
fn first(row: &Row<'_>) -> Result<Option<Answer>, StoreError> {
    let Some(first) = first_of(row)? else { return Ok(None) };
    let label: Option<i64> = row.get("first_suggested")?;
    let probability: Option<f32> = row.get("first_p_suggested")?;
    Ok(Some(Answer { context: first.context, labels: first.labels, suggested: label.zip(probability) }))
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
    let ContextProbabilities { waiting_for_food, isolation, brushing } = before.context.probabilities;
    let sql = "INSERT INTO reevaluated_events (reevaluation, event_id, context, p_waiting_for_food, p_isolation, \
               p_brushing, context_labels, was_first, suggested, p_suggested) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let (word, (label, probability)) = (before.context.label.as_str(), before.suggested.unzip());
    let row =
        params![number, id, word, waiting_for_food, isolation, brushing, before.labels, was_first, label, probability];
    db.prepare_cached(sql)?.execute(row)?;
    if *was_first {
        let sql = "UPDATE events SET first_context = context, first_p_waiting_for_food = p_waiting_for_food, \
                   first_p_isolation = p_isolation, first_p_brushing = p_brushing, \
                   first_context_labels = context_labels, first_suggested = suggested, \
                   first_p_suggested = p_suggested WHERE id = ?1";
        db.prepare_cached(sql)?.execute([id])?;
    }
    let ContextProbabilities { waiting_for_food, isolation, brushing } = after.context.probabilities;
    let sql = "UPDATE events SET context = ?2, p_waiting_for_food = ?3, p_isolation = ?4, p_brushing = ?5, \
               context_labels = ?6, suggested = ?7, p_suggested = ?8 WHERE id = ?1";
    let (word, (label, probability)) = (after.context.label.as_str(), after.suggested.unzip());
    let row = params![id, word, waiting_for_food, isolation, brushing, after.labels, label, probability];
    db.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

#[cfg(test)]
mod tests;
