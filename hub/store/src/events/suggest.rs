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
use sound::context::{Features, NAMED_FROM};
use sound::detection::{Context, ContextLabel, ContextProbabilities};
use sound::own_labels::{MOST_OTHERS, Suggester};

use super::learning::{HAS_FEATURES, SAME_CAT};
use crate::error::StoreError;

/// Number and probability of a suggested label, as they are stored.
pub(super) type Suggested = Option<(i64, f32)>;

/// Events with labels of the owner's own that are read for a cat: the latest ones. Enough for 32 labels with as many
/// sounds each as are learnt from.
const MOST_OWN: usize = 32 * sound::own_labels::MOST_OF_A_LABEL;

/// What the owner's own labels of a cat teach. For events without a cat's name, `node` identifies the cat.
pub(super) fn learn(db: &Connection, cat: &str, node: &str) -> Result<Suggester, StoreError> {
    let heard = format!("{SAME_CAT} AND deleted_at_ns IS NULL AND {HAS_FEATURES}");
    let latest = "ORDER BY labelled_at_ns DESC, id DESC LIMIT";
    let own = format!(
        "SELECT features, own_label FROM events INDEXED BY events_labelled WHERE {heard} AND own_label IS NOT NULL AND label IS NOT NULL \
         {latest} {MOST_OWN}"
    );
    let mut labelled = read(db, &own, cat, node)?;
    if labelled.is_empty() {
        return Ok(Suggester::default());
    }
    let others = format!(
        "SELECT features, NULL FROM events INDEXED BY events_labelled WHERE {heard} AND own_label IS NULL AND label IS NOT NULL \
         {latest} {MOST_OTHERS}"
    );
    labelled.extend(read(db, &others, cat, node)?);
    Ok(Suggester::learn(labelled.iter().map(|(features, label)| (features, *label))))
}

fn read(db: &Connection, sql: &str, cat: &str, node: &str) -> Result<Vec<(Features, Option<i64>)>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() })?;
    let mut labelled = Vec::new();
    while let Some(row) = rows.next()? {
        let features = Features::from_bytes(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        let label = row.get(1)?;
        labelled.extend(features.map(|features| (features, label)));
    }
    Ok(labelled)
}

/// The context of an event for which a label is suggested, or no longer is.
pub(super) fn context_with(suggested: Suggested, probabilities: ContextProbabilities) -> Context {
    let named = [
        (probabilities.brushing, ContextLabel::Brushing),
        (probabilities.isolation, ContextLabel::Isolation),
        (probabilities.waiting_for_food, ContextLabel::WaitingForFood),
    ];
    let named = named.into_iter().find(|(probability, _)| suggested.is_none() && *probability >= NAMED_FROM);
    Context { label: named.map_or(ContextLabel::Uncertain, |(_, label)| label), probabilities }
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
    let named = |prefix: &str| {
        let p = |context: &str| format!("WHEN {prefix}p_{context} >= {NAMED_FROM} THEN '{context}'");
        format!("CASE {} {} {} ELSE 'uncertain' END", p("brushing"), p("isolation"), p("waiting_for_food"))
    };
    for (table, column, rest, prefix) in [
        ("events", "suggested", ", p_suggested = NULL", ""),
        ("events", "first_suggested", "", "first_"),
        ("reevaluated_events", "suggested", ", p_suggested = NULL", ""),
    ] {
        let set = format!("{prefix}context = {}, {column} = NULL{rest}", named(prefix));
        db.execute(&format!("UPDATE {table} SET {set} WHERE {column} = ?1"), [label])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
