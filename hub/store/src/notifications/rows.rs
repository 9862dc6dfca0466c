//! Rows of the table `notices`.

use rusqlite::Row;
use rusqlite::types::Type;

use super::types::{ChannelName, Notification};
use crate::words::{optional_word, word};

/// The columns that [`from_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, key, owner, channel, channel_kind, subject, state, reason, created_at_ns, \
                                  queued_at_ns, tries, error, ended_at_ns";

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let subject = serde_json::from_str(row.get_ref(5)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))?;
    let kind: Option<String> = row.get(4)?;
    let channel = kind.map(|kind| Ok::<_, rusqlite::Error>(ChannelName { name: row.get(3)?, kind })).transpose()?;
    Ok(Notification {
        id: row.get(0)?,
        key: row.get(1)?,
        owner: row.get(2)?,
        channel,
        subject,
        state: word(row, 6)?,
        reason: optional_word(row, 7)?,
        created_at_ns: row.get(8)?,
        queued_at_ns: row.get(9)?,
        tries: row.get(10)?,
        error: row.get(11)?,
        ended_at_ns: row.get(12)?,
    })
}
