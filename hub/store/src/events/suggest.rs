//! Suggests labels of the owner's own for events that sound like those that have them.
//!
//! A suggestion is stored with the event as the number of the label, so that a new name of the label is its name. The
//! context of such an event is `uncertain`, as that of an event which has the label: wherever there are only the
//! contexts, it counts as unclear. If the label is removed, the event gets the context back that its probabilities
//! name.
//!
//! What is learnt belongs to a cat, as its contexts do ([`super::learning`]). Labels "not a cat" count among the
//! others.

use rusqlite::{Connection, Transaction, named_params, params};
use sound::context::{Features, NAMED_FROM, named_by};
use sound::detection::{Context, ContextLabel, ContextProbabilities};
use sound::own_labels::{MOST_OF_A_LABEL, MOST_OTHERS, Suggester};

use super::learning::{HAS_FEATURES, SAME_CAT, sounds};
use crate::error::StoreError;

/// Number and probability of a suggested label, as they are stored.
pub(super) type Suggested = Option<(i64, f32)>;

/// What the owner's own labels of a cat teach. For events without a cat's name, `node` identifies the cat.
pub(super) fn learn(db: &Connection, cat: &str, node: &str) -> Result<Suggester, StoreError> {
    let heard = format!("{SAME_CAT} AND deleted_at_ns IS NULL AND {HAS_FEATURES}");
    let latest = "ORDER BY labelled_at_ns DESC, id DESC LIMIT";
    // The latest of each label, so that many labels of one kind leave those of another. There are at most 32.
    let own = format!(
        "SELECT features, own_label FROM events WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER \
         (PARTITION BY own_label ORDER BY labelled_at_ns DESC, id DESC) AS place FROM events \
         INDEXED BY events_labelled WHERE {heard} AND own_label IS NOT NULL AND label IS NOT NULL) \
         WHERE place <= {MOST_OF_A_LABEL}) ORDER BY labelled_at_ns DESC, id DESC"
    );
    let find = |sql: &str| {
        let parameters = named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() };
        sounds(db, sql, parameters, |row| row.get(1))
    };
    let mut labelled = find(&own)?;
    if labelled.is_empty() {
        return Ok(Suggester::default());
    }
    let others = format!(
        "SELECT features, NULL FROM events INDEXED BY events_labelled WHERE {heard} AND own_label IS NULL AND label IS NOT NULL \
         {latest} {MOST_OTHERS}"
    );
    labelled.extend(find(&others)?);
    Ok(Suggester::learn(labelled.iter().map(|(features, label)| (features, *label))))
}

/// The context of an event for which a label is suggested, or no longer is.
pub(super) fn context_with(suggested: Suggested, probabilities: ContextProbabilities) -> Context {
    let label = if suggested.is_some() { ContextLabel::Uncertain } else { named_by(&probabilities) };
    Context { label, probabilities }
}

/// Stores what is suggested for a new event, whose context says so already.
pub(super) fn mark(db: &Transaction<'_>, id: i64, suggested: Suggested) -> Result<(), StoreError> {
    if let Some((label, probability)) = suggested {
        let sql = "UPDATE events SET suggested = ?2, p_suggested = ?3 WHERE id = ?1";
        db.prepare_cached(sql)?.execute(params![id, label, probability])?;
    }
    Ok(())
}

/// Takes back all suggestions of a label that is removed, also first ones and those that undoing would bring back.
pub(super) fn forget(db: &Transaction<'_>, label: i64) -> Result<(), StoreError> {
    for sql in forgetting() {
        db.execute(&sql, [label])?;
    }
    Ok(())
}

/// What [`forget`] does, in SQL, with the label as the parameter. An index of each table finds the rows.
fn forgetting() -> [String; 3] {
    [("events", ""), ("events", "first_"), ("reevaluated_events", "")].map(|(table, prefix)| {
        let context = named_in_sql(prefix);
        format!(
            "UPDATE {table} SET {prefix}context = {context}, {prefix}suggested = NULL, {prefix}p_suggested = NULL \
             WHERE {prefix}suggested = ?1"
        )
    })
}

/// The name of a context as by [`named_by`], as an SQL expression. The names of its columns begin with `prefix`.
fn named_in_sql(prefix: &str) -> String {
    let p = |context: &str| format!("WHEN {prefix}p_{context} >= {NAMED_FROM} THEN '{context}'");
    format!("CASE {} {} {} ELSE 'uncertain' END", p("brushing"), p("isolation"), p("waiting_for_food"))
}

#[cfg(test)]
mod tests;
