//! The owner's words about events, all of them: what labels teach can be taught again elsewhere.

use super::event::{COLUMNS, Event, OwnerLabel, from_row};
use crate::database::Store;
use crate::error::StoreError;

/// One thing that the owner said about an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Saying {
    /// Its number, in the order in which things were said.
    pub id: i64,
    /// What the event was. `None`: an earlier word is taken back.
    pub label: Option<OwnerLabel>,
    /// When it was said, in nanoseconds since 1970 UTC.
    pub said_at_ns: i64,
    /// The event, as it is now.
    pub event: Event,
}

impl Store {
    /// What the owner said after the saying of that number, in order, at most `limit`. Not about events that were deleted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sayings(&self, after_id: i64, limit: usize) -> Result<Vec<Saying>, StoreError> {
        self.read(move |db| {
            // Names of its own, for both tables have an id and a label.
            let sql = format!(
                "SELECT {COLUMNS}, saying_id, word, said_at_ns FROM events JOIN \
                 (SELECT id AS saying_id, event_id, label AS word, labelled_at_ns AS said_at_ns FROM event_labels) \
                 ON event_id = id WHERE saying_id > ?1 AND deleted_at_ns IS NULL ORDER BY saying_id LIMIT ?2"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map([after_id, limit], |row| {
                let word: Option<String> = row.get("word")?;
                Ok(Saying {
                    id: row.get("saying_id")?,
                    // The database holds words of ours only.
                    label: word.and_then(|word| word.parse().ok()),
                    said_at_ns: row.get("said_at_ns")?,
                    event: from_row(row)?,
                })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }
}
