//! The schema, in steps. `user_version` counts the steps that a database has taken.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::StoreError;

/// The steps in order. Append only: a released step is never edited, because databases have taken it already.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_analyses.sql"),
    include_str!("migrations/0002_events.sql"),
    include_str!("migrations/0003_event_features.sql"),
    include_str!("migrations/0004_notices.sql"),
    include_str!("migrations/0005_household.sql"),
    include_str!("migrations/0006_node_notices.sql"),
    include_str!("migrations/0007_any_channel.sql"),
    include_str!("migrations/0008_node_ids.sql"),
    include_str!("migrations/0009_clip_safety.sql"),
    include_str!("migrations/0010_any_reason.sql"),
    include_str!("migrations/0011_indexes.sql"),
    include_str!("migrations/0012_admitted_nodes.sql"),
    include_str!("migrations/0013_device_urls.sql"),
    include_str!("migrations/0014_paired_nodes.sql"),
    include_str!("migrations/0015_people.sql"),
    include_str!("migrations/0016_deletions.sql"),
    include_str!("migrations/0017_replaced_nodes.sql"),
    include_str!("migrations/0018_same_sound.sql"),
    include_str!("migrations/0019_reevaluations.sql"),
    include_str!("migrations/0020_like_false_alarms.sql"),
    include_str!("migrations/0021_below_min_score.sql"),
    include_str!("migrations/0022_moved_histories.sql"),
    include_str!("migrations/0023_which_cat.sql"),
    include_str!("migrations/0024_suggested_labels.sql"),
];

/// The schema version that this program makes, and the latest that it supports.
pub(super) const LATEST: u32 = STEPS.len() as u32;

/// Takes the steps that the database has not taken yet, each in its own transaction. Two processes may do this at once.
///
/// # Errors
/// [`StoreError::TooNew`] if a later version of the program wrote the database.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_by(connection, STEPS)
}

fn migrate_by(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if taken as usize > steps.len() {
            return Err(StoreError::TooNew { version: taken, known: steps.len() });
        }
        let Some(step) = steps.get(taken as usize) else { return Ok(()) };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", taken + 1)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests;
