//! Puts notifications into the outbox.

use rusqlite::{Transaction, named_params, params};
use tokio::sync::watch;

use super::subject::Subject;
use super::types::{ChannelName, NotificationPlan, NotificationState, SuppressReason};
use crate::database::Store;
use crate::error::StoreError;
use crate::waker::PutIn;

/// Most notifications in the outbox, whatever their state. When it is full the oldest are deleted; those that were
/// pending are counted.
pub const MAX_NOTIFICATIONS: i64 = 20_000;

impl Store {
    /// Changes whenever this process has put a notification into the outbox that is to be delivered. What another
    /// process puts in does not change it.
    pub fn outbox_changed(&self) -> watch::Receiver<()> {
        self.waker().changed()
    }

    /// Changes whenever this process has queued a notification again that was given up.
    pub fn notification_retried(&self) -> watch::Receiver<()> {
        self.waker().retried()
    }

    /// Notifications that this process has put in and that are not sent by themselves.
    pub fn suppressed_notifications(&self) -> u64 {
        self.waker().suppressed()
    }

    /// Notifications that this process has deleted undelivered, because the outbox was full.
    pub fn crowded_out_notifications(&self) -> u64 {
        self.waker().crowded_out()
    }

    /// Stores notifications: each a subject, with the plans for it. Wakes those who deliver.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub async fn commit_notifications(
        &self,
        notifications: Vec<(Subject, Vec<NotificationPlan>)>,
        now_ns: i64,
    ) -> Result<PutIn, StoreError> {
        let put_in = self.write(move |db| {
            let mut all = PutIn::default();
            for (subject, plans) in &notifications {
                all += put_notifications(db, subject, plans, now_ns)?;
            }
            Ok(all)
        });
        let put_in = put_in.await?;
        self.waker().committed(put_in);
        Ok(put_in)
    }
}

/// Puts notifications into the outbox, within the transaction that stores what they are about. After the commit, the
/// caller passes the sum to [`Waker::committed`](crate::waker::Waker::committed).
pub(crate) fn put_notifications(
    db: &Transaction<'_>,
    subject: &Subject,
    plans: &[NotificationPlan],
    now_ns: i64,
) -> Result<PutIn, StoreError> {
    let mut put_in = PutIn::default();
    for plan in plans {
        let reason = match plan.hold {
            Some(reason) => Some(reason),
            None if is_cooling(db, plan, subject, now_ns)? => Some(SuppressReason::Cooldown),
            None => None,
        };
        if let Some(reason) = reason {
            insert(db, plan, None, subject, Some(reason), now_ns)?;
            put_in.suppressed += 1;
        } else {
            for channel in &plan.channels {
                insert(db, plan, Some(channel), subject, None, now_ns)?;
                put_in.pending += 1;
            }
        }
    }
    if put_in != PutIn::default() {
        put_in.crowded_out = make_room(db)?;
    }
    Ok(put_in)
}

fn is_cooling(
    db: &Transaction<'_>,
    plan: &NotificationPlan,
    subject: &Subject,
    now_ns: i64,
) -> Result<bool, StoreError> {
    if plan.cooldown_ns == 0 {
        return Ok(false);
    }
    // The upper bound is for a clock that was set back: it must not silence the owner until it has caught up.
    let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE owner = ?1 AND kind = ?2 AND animal = ?3 \
               AND created_at_ns > ?4 AND created_at_ns <= ?5 AND state <> 'suppressed')";
    let since_ns = now_ns.saturating_sub(plan.cooldown_ns);
    let parameters = params![plan.owner, subject.kind(), subject.animal(), since_ns, now_ns];
    Ok(db.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))?)
}

/// Puts a notification for one channel into the outbox, to be delivered now.
pub(super) fn put_into(
    db: &Transaction<'_>,
    owner: &str,
    channel: &ChannelName,
    subject: &Subject,
    now_ns: i64,
) -> Result<(), StoreError> {
    let channels = vec![channel.clone()];
    let plan = NotificationPlan {
        owner: owner.to_owned(),
        channels,
        cooldown_ns: 0,
        hold: None,
        wait_ns: 0,
        digest_due_ns: None,
    };
    insert(db, &plan, Some(channel), subject, None, now_ns)
}

fn insert(
    db: &Transaction<'_>,
    plan: &NotificationPlan,
    channel: Option<&ChannelName>,
    subject: &Subject,
    reason: Option<SuppressReason>,
    now_ns: i64,
) -> Result<(), StoreError> {
    let subject_json = serde_json::to_string(subject).map_err(|why| StoreError::Cut(why.to_string()))?;
    let state = if reason.is_some() { NotificationState::Suppressed } else { NotificationState::Pending };
    db.prepare_cached(
        "INSERT INTO notices (key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason, \
         digest_due_ns, created_at_ns, queued_at_ns, due_at_ns, ended_at_ns) VALUES (:key, :owner, :channel, \
         :channel_kind, :kind, :animal, :event_id, :subject, :state, :reason, :digest_due, :now, :now, :due, :ended)",
    )?
    .execute(named_params! {
        ":key": format!("{:032x}", rand::random::<u128>()),
        ":owner": plan.owner,
        ":channel": channel.map_or("", |channel| &channel.name),
        ":channel_kind": channel.map(|channel| &channel.kind),
        ":kind": subject.kind(),
        ":animal": subject.animal(),
        ":event_id": subject.event_id(),
        ":subject": subject_json,
        ":state": state.as_str(),
        ":reason": reason.map(SuppressReason::as_str),
        ":digest_due": plan.digest_due_ns.filter(|_| reason.is_some()),
        ":now": now_ns,
        ":due": now_ns.saturating_add(plan.wait_ns),
        ":ended": reason.map(|_| now_ns),
    })?;
    Ok(())
}

/// Deletes the oldest notifications beyond [`MAX_NOTIFICATIONS`] and returns how many of them were pending. Numbers are
/// assigned in order, so the difference of two numbers is at least the number of rows between them.
fn make_room(db: &Transaction<'_>) -> Result<u64, StoreError> {
    let sql = "DELETE FROM notices WHERE id <= (SELECT max(id) FROM notices) - ?1 RETURNING state = 'pending'";
    let mut statement = db.prepare_cached(sql)?;
    let gone = statement.query_map([MAX_NOTIFICATIONS], |row| row.get::<_, bool>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(gone.into_iter().filter(|pending| *pending).count() as u64)
}

/// The owner named the cat of an event: notifications about it whose delivery has not been tried, and those that a
/// digest will count, name this cat from now on. They still go to the owners for whom they were made.
pub(crate) fn follow_cat(db: &Transaction<'_>, subject: &Subject) -> Result<(), StoreError> {
    let subject_json = serde_json::to_string(subject).map_err(|why| StoreError::Cut(why.to_string()))?;
    let sql = "UPDATE notices SET animal = ?2, subject = ?3 WHERE kind = 'event' AND event_id = ?1 \
               AND (state = 'pending' AND tries = 0 OR digest_due_ns IS NOT NULL)";
    db.prepare_cached(sql)?.execute(params![subject.event_id(), subject.animal(), subject_json])?;
    Ok(())
}

/// Another event is shown for a sound: pending notifications whose delivery has not been tried are about that event
/// from now on. Those that were suppressed or delivered stay as they were.
pub(crate) fn follow_shown_event(db: &Transaction<'_>, shown_before: i64, subject: &Subject) -> Result<(), StoreError> {
    let subject_json = serde_json::to_string(subject).map_err(|why| StoreError::Cut(why.to_string()))?;
    let sql = "UPDATE notices SET event_id = ?2, animal = ?3, subject = ?4 \
               WHERE state = 'pending' AND tries = 0 AND kind = 'event' AND event_id = ?1";
    db.prepare_cached(sql)?.execute(params![shown_before, subject.event_id(), subject.animal(), subject_json])?;
    Ok(())
}
