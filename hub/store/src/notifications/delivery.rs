//! Takes notifications out of the outbox: what is due, and what became of it.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::rows::{COLUMNS, from_row};
use super::types::Notification;
use crate::database::Store;
use crate::error::StoreError;

/// Longest wait for the next delivery of a notification. One that is due later than that got its time from a wall clock
/// that was ahead, and is due now.
pub const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

impl Store {
    /// Notifications of a channel that are due, those that have waited longest first, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn due_notifications(
        &self,
        owner: &str,
        channel: &str,
        now_ns: i64,
        limit: usize,
    ) -> Result<Vec<Notification>, StoreError> {
        let (owner, channel) = (owner.to_owned(), channel.to_owned());
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM notices WHERE state = 'pending' AND owner = ?1 AND channel = ?2 \
                 AND (due_at_ns <= ?3 OR due_at_ns > ?4) ORDER BY due_at_ns, id LIMIT {limit}"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let longest_ns = i64::try_from(LONGEST_WAIT.as_nanos()).unwrap_or(i64::MAX);
            let parameters = params![owner, channel, now_ns, now_ns.saturating_add(longest_ns)];
            let rows = statement.query_map(parameters, from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The channel accepted a notification.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notification_delivered(&self, id: i64, now_ns: i64) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "UPDATE notices SET state = 'delivered', ended_at_ns = ?2, error = NULL \
                       WHERE id = ?1 AND state = 'pending'";
            db.prepare_cached(sql)?.execute(params![id, now_ns])?;
            Ok(())
        })
        .await
    }

    /// A delivery failed: the notification is due again at `due_at_ns`. `None`: it is given up.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notification_failed(
        &self,
        id: i64,
        error: String,
        due_at_ns: Option<i64>,
        now_ns: i64,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "UPDATE notices SET tries = tries + 1, error = ?2, due_at_ns = coalesce(?3, due_at_ns), \
                       state = iif(?3 IS NULL, 'dead', state), ended_at_ns = iif(?3 IS NULL, ?4, NULL) \
                       WHERE id = ?1 AND state = 'pending'";
            db.prepare_cached(sql)?.execute(params![id, error, due_at_ns, now_ns])?;
            Ok(())
        })
        .await
    }

    /// Gives up what is pending for channels that are not among `known` (owner and channel), because no task delivers
    /// it. Returns how many notifications that were.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn bury_unknown(&self, known: Vec<(String, String)>, now_ns: i64) -> Result<usize, StoreError> {
        self.write(move |db| {
            let mut statement = db.prepare("SELECT DISTINCT owner, channel FROM notices WHERE state = 'pending'")?;
            let waiting = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let waiting = waiting.collect::<Result<Vec<(String, String)>, _>>()?;
            let sql = "UPDATE notices SET state = 'dead', ended_at_ns = ?3, \
                       error = 'the channel was removed from the config' \
                       WHERE state = 'pending' AND owner = ?1 AND channel = ?2";
            let mut buried = 0;
            for (owner, channel) in waiting.iter().filter(|pair| !known.contains(pair)) {
                buried += db.execute(sql, params![owner, channel, now_ns])?;
            }
            Ok(buried)
        })
        .await
    }

    /// Queues a dead notification again: its tries and its age count from now. Wakes those who deliver. Returns the
    /// notification as it is afterwards, and whether it was dead; `None` if there is no such notification.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retry_notification(&self, id: i64, now_ns: i64) -> Result<Option<(Notification, bool)>, StoreError> {
        let queued = self.write(move |db| {
            let sql = "UPDATE notices SET state = 'pending', tries = 0, queued_at_ns = ?2, due_at_ns = ?2, \
                       ended_at_ns = NULL WHERE id = ?1 AND state = 'dead'";
            let was_dead = db.execute(sql, params![id, now_ns])? > 0;
            let sql = format!("SELECT {COLUMNS} FROM notices WHERE id = ?1");
            let notification = db.query_row(&sql, [id], from_row).optional()?;
            Ok(notification.map(|notification| (notification, was_dead)))
        });
        let queued = queued.await?;
        if queued.as_ref().is_some_and(|(_, was_dead)| *was_dead) {
            self.waker().retry();
        }
        Ok(queued)
    }
}
