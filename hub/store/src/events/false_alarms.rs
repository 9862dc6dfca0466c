//! The false alarms of a node, learnt from the events that the owner labelled "not a cat".
//!
//! An event that sounds like them is stored with its clip as any other, together with the labels behind this. No owner
//! is notified of it, and it is not counted. Removing the labels teaches the node again; events that are stored already
//! stay as they are.
//!
//! False alarms belong to a node and not to a cat: a baby next door is heard in one room.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, named_params};
use sound::context::Features;
use sound::rejector::{MOST_EXAMPLES, Rejector};

use super::learning::{HAS_FEATURES, sounds};
use crate::database::Store;
use crate::error::StoreError;

/// What the labels of a node say about sounds that are no cats.
#[derive(Clone)]
pub struct FalseAlarms {
    rejector: Rejector,
    /// The events behind the false alarms of the rejector, in its order.
    events: Vec<i64>,
}

impl std::fmt::Debug for FalseAlarms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FalseAlarms").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Default for FalseAlarms {
    /// No false alarms: no sound is like them.
    fn default() -> Self {
        Self { rejector: Rejector::learn([], []), events: Vec::new() }
    }
}

impl FalseAlarms {
    /// The labelled events that a sound is like. Empty: it is to be treated as a cat.
    #[must_use]
    pub fn like(&self, sound: &Features) -> Vec<i64> {
        let places = self.rejector.rejects(sound).unwrap_or_default();
        places.into_iter().filter_map(|place| self.events.get(place).copied()).collect()
    }
}

impl Store {
    /// Whether sounds like those that the owner labelled "not a cat" are set aside. They are by default.
    pub fn set_aside_false_alarms(&self, is_on: bool) {
        self.sets_aside().store(is_on, Ordering::Relaxed);
    }

    /// The false alarms that the labels of a node teach. `node` is its URL.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn false_alarms(&self, node: &str) -> Result<FalseAlarms, StoreError> {
        if !self.sets_aside().load(Ordering::Relaxed) {
            return Ok(FalseAlarms::default());
        }
        let node = node.to_owned();
        self.read(move |db| learn(db, &node)).await
    }
}

/// Does what [`Store::false_alarms`] does, whatever the setting.
pub(super) fn learn(db: &Connection, node: &str) -> Result<FalseAlarms, StoreError> {
    let false_alarms = labelled(db, node, "label = 'not_a_cat'")?;
    if false_alarms.is_empty() {
        return Ok(FalseAlarms::default());
    }
    let cats = labelled(db, node, "label <> 'not_a_cat'")?;
    let rejector = Rejector::learn(false_alarms.iter().map(|(sound, _)| sound), cats.iter().map(|(sound, _)| sound));
    Ok(FalseAlarms { rejector, events: false_alarms.into_iter().map(|(_, id)| id).collect() })
}

/// The sounds of a node whose labels meet a condition, as this network hears them, and their events. The latest label
/// comes first.
fn labelled(db: &Connection, node: &str, label: &str) -> Result<Vec<(Features, i64)>, StoreError> {
    let sounds_of = |node: &str| {
        format!(
            "SELECT features, id, labelled_at_ns FROM events INDEXED BY events_labelled_by_node \
             WHERE label IS NOT NULL AND {label} AND deleted_at_ns IS NULL AND {node} AND {HAS_FEATURES}"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY labelled_at_ns DESC, id DESC LIMIT {MOST_EXAMPLES}",
        sounds_of("node_id IS NULL AND node = :node"),
        sounds_of("node_id IN (SELECT node_id FROM nodes WHERE url = :node)")
    );
    let parameters = named_params! { ":node": node, ":mark": Features::mark() };
    sounds(db, &sql, parameters, |row| row.get(1))
}

#[cfg(test)]
mod tests;
