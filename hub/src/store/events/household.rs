//! Each cat's own context classifier, from the labels that are stored.
//!
//! Whatever changes a cat's labels judges its earlier events anew in the same transaction, so that lists, filters, counts and
//! exports say the same. A cat is its name; events without one belong to their node. What was heard by another network, before an
//! update, is left out: its answers stay as they were, and its labels stand for their own events alone.

use rusqlite::{Connection, Transaction, named_params, params};
use sound::context::Features;
use sound::detection::ContextLabel;

use super::{OwnerLabel, context_word, word};
use crate::analysis::household::{Household, MOST_LABELS};
use crate::store::{Store, StoreError};

/// Events of a cat that are judged anew when a label changes: the latest without a label. Older ones keep the answer that they
/// had. So many take some tenths of a second.
const MOST_JUDGED_ANEW: usize = 2_000;

/// Whose event it is, as SQL: `:cat` and `:node` of one event.
const SAME_CAT: &str = "cat = :cat AND (cat <> '' OR node = :node)";

impl Store {
    /// What the labels of a cat teach about it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn household(&self, cat: &str) -> Result<Household, StoreError> {
        let cat = cat.to_owned();
        self.read(move |db| learn(db, &cat, "")).await
    }
}

/// As [`Store::household`]; `node` counts for a cat without a name.
pub(super) fn learn(db: &Connection, cat: &str, node: &str) -> Result<Household, StoreError> {
    let sql = format!(
        "SELECT features, label FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND substr(features, 1, 8) = :mark \
         AND label IN ('waiting_for_food', 'isolation', 'brushing') ORDER BY labelled_at_ns DESC, id DESC LIMIT {MOST_LABELS}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() }, |row| {
        let label: OwnerLabel = word(row, 1)?;
        Ok((Features::from_bytes(row.get_ref(0)?.as_blob()?), label))
    })?;
    let mut labelled: Vec<(Features, ContextLabel)> = Vec::new();
    for row in rows {
        if let (Some(features), OwnerLabel::Context(context)) = row? {
            labelled.push((features, context));
        }
    }
    Ok(Household::learn(labelled))
}

/// The labels of the cat of event `id` have changed: judges its latest unlabelled events anew.
pub(super) fn judge_anew(db: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
    let (cat, node): (String, String) =
        db.query_row("SELECT cat, node FROM events WHERE id = ?1", [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let household = learn(db, &cat, &node)?;
    // Without labels, only what rested on some changes.
    let sql = format!(
        "SELECT id, features FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND substr(features, 1, 8) = :mark \
         AND label IS NULL AND (:labels > 0 OR context_labels > 0) \
         ORDER BY started_at_ns DESC, id DESC LIMIT {MOST_JUDGED_ANEW}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":cat": cat, ":node": node, ":labels": household.labels(), ":mark": Features::mark(),
    };
    let rows = statement
        .query_map(parameters, |row| Ok((row.get::<_, i64>(0)?, Features::from_bytes(row.get_ref(1)?.as_blob()?))))?;
    let known = rows.collect::<Result<Vec<_>, _>>()?;
    let mut update = db.prepare_cached(
        "UPDATE events SET context = ?2, p_waiting_for_food = ?3, p_isolation = ?4, p_brushing = ?5, context_labels = ?6 \
         WHERE id = ?1",
    )?;
    for (id, features) in known {
        let Some(features) = features else { continue };
        let context = household.context(&features);
        let shares = &context.probabilities;
        update.execute(params![
            id,
            context_word(context.label),
            shares.waiting_for_food,
            shares.isolation,
            shares.brushing,
            household.labels(),
        ])?;
    }
    Ok(())
}
