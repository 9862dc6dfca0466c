//! `min_score` of a node.
//!
//! An event with a lower score is stored with its clip as any other, together with the `min_score` that it missed. No
//! owner is notified of it, and it is not counted. Another `min_score` later changes no stored event.

use std::collections::HashMap;

use rusqlite::{Transaction, named_params, params};

use crate::database::Store;
use crate::error::StoreError;
use crate::node_columns::is_of_node;

/// What another `min_score` would have changed about the events of a node. An event that sounded like false alarms when
/// it was stored is not among them, because no `min_score` would have announced it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScorePreview {
    /// Events with that score or a higher one.
    pub events: u64,
    /// Events that were announced.
    pub events_at_present: u64,
    /// Of the announced events with a lower score, those that the owner labelled as a cat.
    pub cats_missed: u64,
    /// Of the announced events with a lower score, those that the owner labelled "not a cat".
    pub false_alarms_spared: u64,
}

impl Store {
    /// Sets `min_score`, 0 to 1, by the URL of the node. It counts for events that are stored from now on. A node that
    /// is not named has none.
    pub fn set_min_scores(&self, min_scores: HashMap<String, f32>) {
        *self.min_scores() = min_scores;
    }

    /// `min_score` of the node with this URL. `None`: it has none.
    pub fn min_score(&self, node: &str) -> Option<f32> {
        self.min_scores().get(node).copied()
    }

    /// Counts the events of a node from `from_ns` to `to_ns`, in nanoseconds since 1970 UTC, as if its `min_score` had
    /// been another one. `node` is its URL or id. What another node heard too counts as well.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn preview_min_score(
        &self,
        node: &str,
        min_score: f32,
        from_ns: i64,
        to_ns: i64,
    ) -> Result<ScorePreview, StoreError> {
        let node = node.to_owned();
        self.read(move |db| {
            let sql = format!(
                "SELECT count(*) FILTER (WHERE score >= :least), count(*) FILTER (WHERE below_min_score IS NULL), \
                 count(*) FILTER (WHERE below_min_score IS NULL AND score < :least AND label <> 'not_a_cat'), \
                 count(*) FILTER (WHERE below_min_score IS NULL AND score < :least AND label = 'not_a_cat') \
                 FROM events WHERE deleted_at_ns IS NULL AND started_at_ns >= :from AND started_at_ns < :to \
                 AND like_false_alarms IS NULL AND {}",
                is_of_node(":node")
            );
            let parameters = named_params! { ":least": min_score, ":from": from_ns, ":to": to_ns, ":node": node };
            Ok(db.prepare_cached(&sql)?.query_row(parameters, |row| {
                let count = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.cast_unsigned());
                Ok(ScorePreview {
                    events: count(0)?,
                    events_at_present: count(1)?,
                    cats_missed: count(2)?,
                    false_alarms_spared: count(3)?,
                })
            })?)
        })
        .await
    }
}

/// Marks a new event if its score is below `min_score`.
pub(super) fn mark(db: &Transaction<'_>, id: i64, min_score: Option<f32>) -> Result<(), StoreError> {
    if let Some(least) = min_score {
        let sql = "UPDATE events SET below_min_score = ?2 WHERE id = ?1 AND score < ?2";
        db.prepare_cached(sql)?.execute(params![id, least])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
