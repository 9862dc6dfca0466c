//! Lists, counts and deletes notifications.

use rusqlite::params;

use super::rows::{COLUMNS, from_row};
use super::types::{Notification, NotificationState};
use crate::database::Store;
use crate::error::StoreError;

impl Store {
    /// Notifications in a state, or all, the latest first, at most `limit`, with numbers below `before_id`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notifications(
        &self,
        state: Option<NotificationState>,
        before_id: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        self.read(move |db| {
            let state = state.map(NotificationState::as_str);
            let sql = format!(
                "SELECT {COLUMNS} FROM notices WHERE {} AND id < ?2 ORDER BY id DESC LIMIT {limit}",
                if state.is_some() { "state = ?1" } else { "?1 IS NULL" }
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(params![state, before_id.unwrap_or(i64::MAX)], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// How many notifications are pending, by kind of channel. Kinds without any are left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pending_notifications(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.read(|db| {
            let sql = "SELECT channel_kind, count(*) FROM notices WHERE state = 'pending' GROUP BY channel_kind";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Deletes notifications that ended before `before_ns`, at most `limit`, but none that waits for its digest.
    /// Returns how many were deleted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_notifications(&self, before_ns: i64, limit: usize) -> Result<usize, StoreError> {
        self.write(move |db| {
            let sql = format!(
                "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE state <> 'pending' \
                 AND created_at_ns < ?1 AND digest_due_ns IS NULL LIMIT {limit})"
            );
            Ok(db.execute(&sql, [before_ns])?)
        })
        .await
    }
}
