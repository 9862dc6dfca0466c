//! One sound that several nodes heard: its events are linked, and the loudest is shown.
//!
//! Rows are linked, never merged: each node's event keeps its own place, times and clip. `0018_same_sound.sql` has
//! triggers that show another event of the sound when the shown one is deleted or loses its clip.

use rusqlite::{Transaction, named_params, params};
use sound::same_sound::{Envelope, Heard, MAX_CLOCK_ERROR_NS, MAX_ENVELOPE_NS, same_sound};

use super::event::{Event, NewEvent};
use crate::database::Store;
use crate::error::StoreError;
use crate::notifications::{NotificationPlan, SuppressReason, follow_shown_event};

/// How long envelopes are kept after the start of their event, in seconds. A node that was away and sends what it heard
/// within this time links to the events of other nodes.
pub const KEEP_ENVELOPES_S: i64 = 3_600;

/// Most events that a new event is compared with.
const MAX_COMPARED: usize = 64;

/// Stores the envelope of a new event, and links the event to an event of another node that is the same sound. Of the
/// new event and the one that was shown so far, a labelled one is shown, else one whose score its node's `min_score`
/// allows, else one with a clip, else the louder one.
/// Returns the number of the event that was shown so far. `None`: no other node heard the sound.
pub(super) fn link(db: &Transaction<'_>, id: i64, event: &NewEvent) -> Result<Option<i64>, StoreError> {
    let Some(envelope) = &event.envelope else { return Ok(None) };
    db.prepare_cached("UPDATE events SET envelope = ?2 WHERE id = ?1")?.execute(params![id, envelope.as_bytes()])?;
    let sql = format!(
        "SELECT coalesce(same_sound_as, id), started_at_ns, ended_at_ns, envelope FROM events \
         WHERE envelope IS NOT NULL AND started_at_ns BETWEEN :start - :most AND :start + :most \
         AND deleted_at_ns IS NULL AND id <> :id AND coalesce(node_id, node) <> \
         (SELECT coalesce(node_id, node) FROM events WHERE id = :id) ORDER BY abs(started_at_ns - :start) LIMIT {MAX_COMPARED}"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let most_ns = MAX_ENVELOPE_NS + MAX_CLOCK_ERROR_NS;
    let parameters = named_params! { ":id": id, ":start": event.started_at_ns, ":most": most_ns };
    let mut rows = statement.query(parameters)?;
    let (mut shown, mut others) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        // Another version of the program may have stored something else.
        let Some(envelope) = Envelope::from_bytes(&row.get::<_, Vec<u8>>(3)?) else { continue };
        shown.push(row.get::<_, i64>(0)?);
        others.push(Heard { started_at_ns: row.get(1)?, ended_at_ns: row.get(2)?, envelope });
    }
    let (started_at_ns, ended_at_ns) = (event.started_at_ns, event.ended_at_ns);
    let heard = Heard { started_at_ns, ended_at_ns, envelope: (**envelope).clone() };
    let Some(shown) = same_sound(&heard, &others).and_then(|place| shown.get(place).copied()) else { return Ok(None) };
    let sql = "SELECT id FROM events WHERE id IN (?1, ?2) \
               ORDER BY label IS NULL, below_min_score IS NOT NULL, clip_file IS NULL, rms_dbfs DESC, id LIMIT 1";
    let best: i64 = db.prepare_cached(sql)?.query_row([shown, id], |row| row.get(0))?;
    let other = if best == id { shown } else { id };
    let sql = "UPDATE events SET same_sound_as = ?1 WHERE id = ?2 OR same_sound_as = ?2";
    db.prepare_cached(sql)?.execute([best, other])?;
    Ok(Some(shown))
}

/// The plans for a linked event, without those for owners who were notified of the sound already. That nobody was
/// notified because the score was below one node's `min_score` keeps no notification about another node's event back.
/// If another event is shown now, notifications that wait for their delivery are about that one.
pub(super) fn plans_for_linked(
    db: &Transaction<'_>,
    shown_before: i64,
    stored: &Event,
    plans: Vec<NotificationPlan>,
) -> Result<Vec<NotificationPlan>, StoreError> {
    let mut know = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM notices WHERE owner = ?1 AND kind = 'event' AND event_id IN \
         (SELECT id FROM events WHERE id = ?2 OR same_sound_as = ?2 OR id = ?3 OR same_sound_as = ?3) \
         AND (reason IS NOT ?4 OR ?5))",
    )?;
    let mut kept = Vec::new();
    for plan in plans {
        let shown = stored.same_sound_as.unwrap_or(stored.id);
        let low = SuppressReason::BelowMinScore;
        let parameters = params![plan.owner, shown_before, shown, low.as_str(), plan.hold == Some(low)];
        let knows: bool = know.query_row(parameters, |row| row.get(0))?;
        if !knows {
            kept.push(plan);
        }
    }
    if stored.same_sound_as.is_none() {
        follow_shown_event(db, shown_before, &stored.subject())?;
    }
    Ok(kept)
}

impl Store {
    /// Deletes the envelopes of events that began before `before_ns`. Returns their number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_envelopes(&self, before_ns: i64) -> Result<usize, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE events SET envelope = NULL WHERE envelope IS NOT NULL AND started_at_ns < ?1";
            Ok(db.execute(sql, [before_ns])?)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
