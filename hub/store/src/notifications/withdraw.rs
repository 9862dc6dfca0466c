//! Takes back notifications about an event that a person deleted, or said was no cat.

use rusqlite::{OptionalExtension, Transaction, params};

use super::types::SuppressReason;
use crate::database::Store;
use crate::error::StoreError;
use crate::waker::PutIn;

/// Withdraws, within the transaction that changes the event, all notifications about it that were not delivered: none
/// of them is sent, by itself or in a digest. After the commit, the caller passes the result to
/// [`Waker::committed`](crate::waker::Waker::committed).
pub(crate) fn withdraw(
    db: &Transaction<'_>,
    event_id: i64,
    reason: SuppressReason,
    now_ns: i64,
) -> Result<PutIn, StoreError> {
    let sql = "UPDATE notices SET state = 'suppressed', reason = ?2, channel = '', channel_kind = NULL, error = NULL, \
               ended_at_ns = ?3 WHERE state IN ('pending', 'dead') AND kind = 'event' AND event_id = ?1";
    let suppressed = db.prepare_cached(sql)?.execute(params![event_id, reason.as_str(), now_ns])? as u64;
    let sql = "UPDATE notices SET digest_due_ns = NULL, reason = ?2 \
               WHERE digest_due_ns IS NOT NULL AND kind = 'event' AND event_id = ?1";
    db.prepare_cached(sql)?.execute(params![event_id, reason.as_str()])?;
    Ok(PutIn { suppressed, ..PutIn::default() })
}

impl Store {
    /// Whether a notification that was read a moment ago is still to be delivered. It is not if somebody has withdrawn
    /// it since.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notification_is_pending(&self, id: i64) -> Result<bool, StoreError> {
        self.read(move |db| {
            let sql = "SELECT state = 'pending' FROM notices WHERE id = ?1";
            Ok(db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?.unwrap_or(false))
        })
        .await
    }
}
