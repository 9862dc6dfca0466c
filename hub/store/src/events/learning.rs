//! Each cat's own context classifier, learnt from the stored labels.
//!
//! When the labels of a cat change, its earlier events are re-evaluated in the same transaction, so that lists,
//! filters, counts and exports agree. A cat is identified by its name; events without a cat's name belong to their
//! node. Events that another network heard, before an update, are left out: they keep their contexts, and the
//! classifier does not learn from their labels until the hub has analysed their clips again (`hub-listen`'s `rehear`).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};
use sound::context::Features;
use sound::detection::ContextLabel;
use sound::household::{Household, MOST_LABELS};

use super::event::{COLUMNS, Event, OwnerLabel, from_row};
use crate::database::Store;
use crate::error::StoreError;
use crate::words::word;

/// Events of a cat that are re-evaluated when a label changes, at most: the latest ones without a label. Older ones
/// keep their contexts. This many take a few tenths of a second.
const MAX_REEVALUATED: usize = 2_000;

/// SQL condition: the classifier learns from this label.
const TEACHES: &str = "label IN ('waiting_for_food', 'isolation', 'brushing')";

/// SQL condition: the event is of the same cat as one with `:cat` and `:node`.
const SAME_CAT: &str = "cat = :cat AND (cat <> '' OR (node_id IS NULL AND node = :node) \
                        OR node_id IN (SELECT node_id FROM nodes WHERE url = :node))";

impl Store {
    /// The classifier that the labels of a cat teach.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn household(&self, cat: &str) -> Result<Household, StoreError> {
        let cat = cat.to_owned();
        self.read(move |db| learn(db, &cat, "")).await
    }

    /// Events with a clip and a label from which the classifier could learn if this network had heard them. The latest
    /// labels come first. Returns `limit` events at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn labelled_of_another_network(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |db| {
            // The index of labelled events is small.
            let sql = format!(
                "SELECT {COLUMNS} FROM events INDEXED BY events_labelled WHERE label IS NOT NULL AND {TEACHES} \
                 AND deleted_at_ns IS NULL AND clip_file IS NOT NULL \
                 AND (features IS NULL OR substr(features, 1, 8) <> ?1) ORDER BY labelled_at_ns DESC, id DESC LIMIT ?2"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![Features::mark(), limit], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Stores the features that this network found in events' clips, or `None` where it found no vocalisation, and
    /// re-evaluates the events of their cats. Events that were deleted in the meantime are skipped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_reheard(&self, heard: Vec<(i64, Option<Features>)>) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut cats = BTreeMap::new();
            for (id, features) in heard {
                // The mark alone means that the clip was analysed, and no vocalisation was found.
                let features = features.map_or_else(|| Features::mark().to_vec(), |features| features.to_bytes());
                let sql = "UPDATE events SET features = ?2 WHERE id = ?1 AND deleted_at_ns IS NULL \
                           RETURNING cat, iif(cat = '', node, '')";
                let cat: Option<(String, String)> =
                    db.query_row(sql, params![id, features], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                if let Some(cat) = cat {
                    cats.insert(cat, id);
                }
            }
            cats.into_values().try_for_each(|id| reevaluate(db, id))
        })
        .await
    }
}

/// Does what [`Store::household`] does; for events without a cat's name, `node` identifies the cat.
pub(super) fn learn(db: &Connection, cat: &str, node: &str) -> Result<Household, StoreError> {
    let sql = format!(
        "SELECT features, label FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND substr(features, 1, 8) = :mark \
         AND length(features) > 8 AND {TEACHES} ORDER BY labelled_at_ns DESC, id DESC LIMIT {MOST_LABELS}"
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

/// Re-evaluates the latest unlabelled events of the cat of event `id`, after one of its labels changed.
pub(super) fn reevaluate(db: &Transaction<'_>, id: i64) -> Result<(), StoreError> {
    let (cat, node): (String, String) =
        db.query_row("SELECT cat, node FROM events WHERE id = ?1", [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let household = learn(db, &cat, &node)?;
    // If no labels are left, only events whose contexts were based on labels change.
    let sql = format!(
        "SELECT id, features FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND substr(features, 1, 8) = :mark \
         AND label IS NULL AND (:labels > 0 OR context_labels > 0) \
         ORDER BY started_at_ns DESC, id DESC LIMIT {MAX_REEVALUATED}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let parameters = named_params! {
        ":cat": cat, ":node": node, ":labels": household.labels(), ":mark": Features::mark(),
    };
    let rows = statement
        .query_map(parameters, |row| Ok((row.get::<_, i64>(0)?, Features::from_bytes(row.get_ref(1)?.as_blob()?))))?;
    let events = rows.collect::<Result<Vec<_>, _>>()?;
    let mut update = db.prepare_cached(
        "UPDATE events SET context = ?2, p_waiting_for_food = ?3, p_isolation = ?4, p_brushing = ?5, context_labels = ?6 \
         WHERE id = ?1",
    )?;
    for (id, features) in events {
        let Some(features) = features else { continue };
        let context = household.context(&features);
        let probabilities = &context.probabilities;
        update.execute(params![
            id,
            context.label.as_str(),
            probabilities.waiting_for_food,
            probabilities.isolation,
            probabilities.brushing,
            household.labels(),
        ])?;
    }
    Ok(())
}
