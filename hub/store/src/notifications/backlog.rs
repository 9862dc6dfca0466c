//! What piled up for a channel while nothing could be delivered.

use rusqlite::{Transaction, params};

use super::put::put_into;
use super::tally::Tally;
use super::types::{ChannelName, SuppressReason};
use crate::database::Store;
use crate::error::StoreError;
use crate::waker::PutIn;

/// Age in seconds from which a notification that waits belongs to a backlog.
pub const BACKLOG_AFTER_S: i64 = 60;

/// If more notifications than this have waited for longer than [`BACKLOG_AFTER_S`], a digest takes their place.
pub const BACKLOG_OF: i64 = 5;

/// SQL condition: waits for the channel `?2` of the owner `?1`. A digest is not put into a digest.
const WAITS: &str = "state = 'pending' AND owner = ?1 AND channel = ?2 AND kind <> 'digest'";

impl Store {
    /// A channel accepts notifications again. Those that wait are due now, or, if they are a backlog, one digest takes
    /// their place.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing has changed.
    pub async fn channel_works_again(
        &self,
        owner: &str,
        channel: &ChannelName,
        now_ns: i64,
    ) -> Result<PutIn, StoreError> {
        let (owner, channel) = (owner.to_owned(), channel.clone());
        let put_in = self.write(move |db| {
            let sql = "UPDATE notices SET due_at_ns = ?3 \
                       WHERE state = 'pending' AND owner = ?1 AND channel = ?2 AND due_at_ns > ?3";
            db.execute(sql, params![owner, channel.name, now_ns])?;
            sum_up(db, &owner, &channel, now_ns)
        });
        let put_in = put_in.await?;
        self.waker().committed(put_in);
        Ok(put_in)
    }
}

fn sum_up(db: &Transaction<'_>, owner: &str, channel: &ChannelName, now_ns: i64) -> Result<PutIn, StoreError> {
    let late_ns = now_ns.saturating_sub(BACKLOG_AFTER_S * 1_000_000_000);
    let sql = format!("SELECT count(*) FROM notices WHERE {WAITS} AND queued_at_ns < ?3");
    let late: i64 = db.query_row(&sql, params![owner, channel.name, late_ns], |row| row.get(0))?;
    if late <= BACKLOG_OF {
        return Ok(PutIn::default());
    }
    let mut tally = Tally::default();
    let mut statement = db.prepare(&format!("SELECT subject, created_at_ns FROM notices WHERE {WAITS}"))?;
    let mut rows = statement.query(params![owner, channel.name])?;
    while let Some(row) = rows.next()? {
        tally.add(&row.get::<_, String>(0)?, row.get(1)?);
    }
    let Some(digest) = tally.digest(true) else { return Ok(PutIn::default()) };
    let sql = format!(
        "UPDATE notices SET state = 'suppressed', reason = ?3, channel = '', channel_kind = NULL, ended_at_ns = ?4 \
         WHERE {WAITS}"
    );
    let reason = SuppressReason::Backlog.as_str();
    let suppressed = db.execute(&sql, params![owner, channel.name, reason, now_ns])? as u64;
    put_into(db, owner, channel, &digest, now_ns)?;
    Ok(PutIn { pending: 1, suppressed, crowded_out: 0 })
}
