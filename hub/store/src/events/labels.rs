//! The history of the owner's labels. An export of it lets another program learn from all labels.

use super::event::{COLUMNS, Event, OwnerLabel, from_row};
use crate::database::Store;
use crate::error::StoreError;

/// One change of an event's label by its owner.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelChange {
    /// Number of the change, in the order of the changes.
    pub id: i64,
    /// The new label. `None`: the owner removed the label.
    pub label: Option<OwnerLabel>,
    /// The owner's own label, if the owner chose one. `label` is `uncertain` then.
    pub own_label: Option<String>,
    /// When the owner changed the label, in nanoseconds since 1970 UTC.
    pub changed_at_ns: i64,
    /// The event as it is now.
    pub event: Event,
}

impl Store {
    /// The changes after change `after_id`, in order, at most `limit`. Changes of deleted events are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn label_changes(&self, after_id: i64, limit: usize) -> Result<Vec<LabelChange>, StoreError> {
        self.read(move |db| {
            // Renamed, because both tables have the columns id and label.
            let sql = format!(
                "SELECT {COLUMNS}, change_id, new_label, new_own, changed_at_ns FROM events JOIN \
                 (SELECT id AS change_id, event_id, label AS new_label, labelled_at_ns AS changed_at_ns, \
                 (SELECT name FROM own_labels WHERE own_labels.id = event_labels.own_label) AS new_own \
                 FROM event_labels) \
                 ON event_id = id WHERE change_id > ?1 AND deleted_at_ns IS NULL ORDER BY change_id LIMIT ?2"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map([after_id, limit], |row| {
                let new_label: Option<String> = row.get("new_label")?;
                Ok(LabelChange {
                    id: row.get("change_id")?,
                    // The database holds only words of this program.
                    label: new_label.and_then(|word| word.parse().ok()),
                    own_label: row.get("new_own")?,
                    changed_at_ns: row.get("changed_at_ns")?,
                    event: from_row(row)?,
                })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }
}
