//! Each cat's own context classifier, from the labels that are stored.
//!
//! Whatever changes a cat's labels judges its earlier events anew in the same transaction, so that lists, filters, counts and
//! exports say the same. A cat is its name; events without one belong to their node. What was heard by another network, before an
//! update, is left out: its answers stay as they were, and its labels stand for their own events alone until their clips are heard
//! again ([`crate::rehear`]).

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};
use sound::context::Features;
use sound::detection::ContextLabel;
use sound::household::{Household, MOST_LABELS};

use super::event::{COLUMNS, Event, OwnerLabel, from_row};
use crate::database::Store;
use crate::error::StoreError;
use crate::words::word;

/// Events of a cat that are judged anew when a label changes: the latest without a label. Older ones keep the answer that they
/// had. So many take some tenths of a second.
const MOST_JUDGED_ANEW: usize = 2_000;

/// Labels that teach, as SQL.
const TEACHES: &str = "label IN ('waiting_for_food', 'isolation', 'brushing')";

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

    /// Events with a clip and a label that would teach, had this network heard them; those that were labelled last come first, at most
    /// `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn labelled_of_another_network(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |db| {
            // By the index of labelled events: they are few.
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

    /// Stores what this network heard of events, `None` where it heard nothing, and judges the events of their cats anew. Those that were
    /// deleted meanwhile are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_reheard(&self, heard: Vec<(i64, Option<Features>)>) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut cats = BTreeMap::new();
            for (id, features) in heard {
                // The mark alone: it was tried.
                let features = features.map_or_else(|| Features::mark().to_vec(), |features| features.to_bytes());
                let sql = "UPDATE events SET features = ?2 WHERE id = ?1 AND deleted_at_ns IS NULL \
                           RETURNING cat, iif(cat = '', node, '')";
                let cat: Option<(String, String)> =
                    db.query_row(sql, params![id, features], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                if let Some(cat) = cat {
                    cats.insert(cat, id);
                }
            }
            cats.into_values().try_for_each(|id| judge_anew(db, id))
        })
        .await
    }
}

/// As [`Store::household`]; `node` counts for a cat without a name.
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
            context.label.as_str(),
            shares.waiting_for_food,
            shares.isolation,
            shares.brushing,
            household.labels(),
        ])?;
    }
    Ok(())
}
