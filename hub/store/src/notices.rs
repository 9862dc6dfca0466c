//! The outbox: what owners are to be told, were told, or were spared.
//!
//! A notice is put in by the transaction that stores what it is about, so neither is there without the other. It leaves
//! the state `pending` once it is delivered, given up (`dead`), or is never to be told by itself (`suppressed`).

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};
use serde::{Deserialize, Serialize};

use crate::database::Store;
use crate::error::StoreError;
use crate::events::event::Event;
use crate::words::{optional_word, word, words};

mod delivery;

/// What a notice is about. Kept as JSON: receivers of different versions read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// Somebody called `Owner.Notify`.
    Call {
        /// Name of the animal.
        animal: String,
        /// What it is, as the caller says: `cat`, `Dog`.
        animal_type: String,
        /// When, in nanoseconds since 1970 UTC.
        called_at_ns: i64,
    },
    /// Listening found a cat event.
    Event {
        /// Number of the event.
        id: i64,
        /// Name of the cat. Empty: none is known.
        cat: String,
        /// Name of the node.
        node: String,
        /// The word for its context.
        context: String,
        /// The word for its kind of sound. `None`: not told apart.
        sound: Option<String>,
        /// How sure it is a cat, 0 to 1.
        score: f32,
        /// When it began, in nanoseconds since 1970 UTC.
        started_at_ns: i64,
        /// Whether its sound was kept.
        clip: bool,
    },
    /// A node does not hear, or hears again.
    Node {
        /// Name of the node.
        node: String,
        /// Name of its cat. Empty: none is known.
        cat: String,
        /// The word for how it is, as in `/readyz`. `ok`: it hears again.
        condition: String,
        /// One sentence about it. Empty: it hears again.
        detail: String,
        /// When that was seen, in nanoseconds since 1970 UTC.
        at_ns: i64,
        /// How long it has not columns, or did not, in seconds.
        lasted_s: u64,
    },
    /// What was gathered instead of being told one by one.
    Digest {
        /// When the first of it was gathered, in nanoseconds since 1970 UTC.
        from_ns: i64,
        /// When the last was.
        to_ns: i64,
        /// How often, by animal and then by context, `call`, or `node_` and how the node was.
        counts: BTreeMap<String, BTreeMap<String, u64>>,
    },
}

impl Subject {
    /// What there is to say about an event.
    pub fn of_event(event: &Event) -> Self {
        Self::Event {
            id: event.id,
            cat: event.found.cat.clone(),
            node: event.found.node.clone(),
            context: event.found.context.label.as_str().to_owned(),
            sound: event.found.kind.clone(),
            score: event.found.score,
            started_at_ns: event.found.started_at_ns,
            clip: event.clip.is_ok(),
        }
    }

    /// The word for what it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call { .. } => "call",
            Self::Event { .. } => "event",
            Self::Node { .. } => "node",
            Self::Digest { .. } => "digest",
        }
    }

    /// The animal it is about. Empty: none in particular.
    pub fn animal(&self) -> &str {
        match self {
            Self::Call { animal, .. } | Self::Event { cat: animal, .. } | Self::Node { cat: animal, .. } => animal,
            Self::Digest { .. } => "",
        }
    }

    fn event_id(&self) -> Option<i64> {
        if let Self::Event { id, .. } = self { Some(*id) } else { None }
    }
}

/// A way to tell an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// The hub's log.
    Log,
    /// An HTTP POST.
    Webhook,
    /// A push message by an ntfy server.
    Ntfy,
    /// A message to an MQTT broker.
    Mqtt,
}

impl ChannelKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Log, Self::Webhook, Self::Ntfy, Self::Mqtt];
}

words!(ChannelKind {
    ChannelKind::Log => "log" => ChannelKind::Log,
    ChannelKind::Webhook => "webhook" => ChannelKind::Webhook,
    ChannelKind::Ntfy => "ntfy" => ChannelKind::Ntfy,
    ChannelKind::Mqtt => "mqtt" => ChannelKind::Mqtt,
});

/// Why something is not told by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressReason {
    /// The owner was told of this animal a moment ago.
    Cooldown,
    /// The owner's quiet hours.
    QuietHours,
    /// The owner wants digests and nothing else.
    DigestOnly,
}

words!(SuppressReason {
    SuppressReason::Cooldown => "cooldown" => SuppressReason::Cooldown,
    SuppressReason::QuietHours => "quiet_hours" => SuppressReason::QuietHours,
    SuppressReason::DigestOnly => "digest_only" => SuppressReason::DigestOnly,
});

/// Where a notice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeState {
    /// To be delivered.
    Pending,
    /// The channel took it.
    Delivered,
    /// Given up: too many tries, too old, or its channel is gone.
    Dead,
    /// Not told by itself.
    Suppressed,
}

words!(NoticeState {
    NoticeState::Pending => "pending" => NoticeState::Pending,
    NoticeState::Delivered => "delivered" => NoticeState::Delivered,
    NoticeState::Dead => "dead" => NoticeState::Dead,
    NoticeState::Suppressed => "suppressed" => NoticeState::Suppressed,
});

/// How an owner is to be told of something. Whether the cool-down spares them is decided when it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoticePlan {
    /// Name of the owner.
    pub owner: String,
    /// The owner's channels, by name.
    pub channels: Vec<(String, ChannelKind)>,
    /// After an alert, the owner is spared further ones of this kind about this animal for so long. 0: never.
    pub cooldown_ns: i64,
    /// The owner is to be spared this one, whatever the cool-down says.
    pub hold: Option<SuppressReason>,
    /// When the owner is spared: goes into the digest of this moment. `None`: into none.
    pub digest_due_ns: Option<i64>,
}

/// A notice as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Number of the notice. Never given out twice.
    pub id: i64,
    /// Stays the same over all tries: 32 hexadecimal digits.
    pub key: String,
    /// Name of the owner.
    pub owner: String,
    /// Name of the owner's channel, and its kind. `None`: suppressed.
    pub channel: Option<(String, ChannelKind)>,
    /// What it is about.
    pub subject: Subject,
    /// Where it stands.
    pub state: NoticeState,
    /// Why it is suppressed.
    pub reason: Option<SuppressReason>,
    /// When it was put in, in nanoseconds since 1970 UTC.
    pub created_at_ns: i64,
    /// Its age counts from here.
    pub queued_at_ns: i64,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it was delivered, given up or suppressed.
    pub ended_at_ns: Option<i64>,
}

/// What became of plans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutIn {
    /// Notices to be delivered.
    pub pending: u64,
    /// Notices that are not told by themselves.
    pub suppressed: u64,
    /// Old notices that had not been delivered and gave way, because the outbox was full.
    pub crowded_out: u64,
}

impl std::ops::AddAssign for PutIn {
    fn add_assign(&mut self, other: Self) {
        self.pending += other.pending;
        self.suppressed += other.suppressed;
        self.crowded_out += other.crowded_out;
    }
}

/// Rows of the outbox at most. The oldest give way, whatever their state; those that were pending are counted.
pub const MAX_NOTICES: i64 = 20_000;

impl Store {
    /// Stores what the owners are to be told: of each call or node, what there is to say and the plans for it.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub async fn commit_notices(
        &self,
        notices: Vec<(Subject, Vec<NoticePlan>)>,
        now_ns: i64,
    ) -> Result<PutIn, StoreError> {
        self.write(move |db| {
            let mut all = PutIn::default();
            for (subject, plans) in &notices {
                all += put_notices(db, subject, plans, now_ns)?;
            }
            Ok(all)
        })
        .await
    }
}

/// Puts notices into the outbox, within the transaction that stores what they are about.
pub(super) fn put_notices(
    db: &Transaction<'_>,
    subject: &Subject,
    plans: &[NoticePlan],
    now_ns: i64,
) -> Result<PutIn, StoreError> {
    let mut put = PutIn::default();
    for plan in plans {
        let reason = match plan.hold {
            Some(reason) => Some(reason),
            None if is_cooling(db, plan, subject, now_ns)? => Some(SuppressReason::Cooldown),
            None => None,
        };
        if let Some(reason) = reason {
            insert(db, plan, None, subject, Some(reason), now_ns)?;
            put.suppressed += 1;
        } else {
            for channel in &plan.channels {
                insert(db, plan, Some(channel), subject, None, now_ns)?;
                put.pending += 1;
            }
        }
    }
    if put != PutIn::default() {
        put.crowded_out = make_room(db)?;
    }
    Ok(put)
}

fn is_cooling(db: &Transaction<'_>, plan: &NoticePlan, subject: &Subject, now_ns: i64) -> Result<bool, StoreError> {
    if plan.cooldown_ns == 0 {
        return Ok(false);
    }
    // A clock that was set back must not silence the owner until it has caught up.
    let sql = "SELECT EXISTS (SELECT 1 FROM notices WHERE owner = ?1 AND kind = ?2 AND animal = ?3 \
               AND created_at_ns > ?4 AND created_at_ns <= ?5 AND state <> 'suppressed')";
    let since_ns = now_ns.saturating_sub(plan.cooldown_ns);
    let parameters = params![plan.owner, subject.kind(), subject.animal(), since_ns, now_ns];
    Ok(db.prepare_cached(sql)?.query_row(parameters, |row| row.get(0))?)
}

fn insert(
    db: &Transaction<'_>,
    plan: &NoticePlan,
    channel: Option<&(String, ChannelKind)>,
    subject: &Subject,
    reason: Option<SuppressReason>,
    now_ns: i64,
) -> Result<(), StoreError> {
    let subject_json = serde_json::to_string(subject).map_err(|why| StoreError::Cut(why.to_string()))?;
    let state = if reason.is_some() { NoticeState::Suppressed } else { NoticeState::Pending };
    db.prepare_cached(
        "INSERT INTO notices (key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason, \
         digest_due_ns, created_at_ns, queued_at_ns, due_at_ns, ended_at_ns) VALUES (:key, :owner, :channel, \
         :channel_kind, :kind, :animal, :event_id, :subject, :state, :reason, :digest_due, :now, :now, :now, :ended)",
    )?
    .execute(named_params! {
        ":key": format!("{:032x}", rand::random::<u128>()),
        ":owner": plan.owner,
        ":channel": channel.map_or("", |(name, _)| name),
        ":channel_kind": channel.map(|(_, kind)| kind.as_str()),
        ":kind": subject.kind(),
        ":animal": subject.animal(),
        ":event_id": subject.event_id(),
        ":subject": subject_json,
        ":state": state.as_str(),
        ":reason": reason.map(SuppressReason::as_str),
        ":digest_due": plan.digest_due_ns.filter(|_| reason.is_some()),
        ":now": now_ns,
        ":ended": reason.map(|_| now_ns),
    })?;
    Ok(())
}

/// Numbers are given out in order, so the difference of two is no less than the rows between. Returns how many pending
/// notices gave way.
fn make_room(db: &Transaction<'_>) -> Result<u64, StoreError> {
    let sql = "DELETE FROM notices WHERE id <= (SELECT max(id) FROM notices) - ?1 RETURNING state = 'pending'";
    let mut statement = db.prepare_cached(sql)?;
    let gone = statement.query_map([MAX_NOTICES], |row| row.get::<_, bool>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(gone.into_iter().filter(|pending| *pending).count() as u64)
}

/// The columns that [`from_row`] reads, in its order.
const COLUMNS: &str = "id, key, owner, channel, channel_kind, subject, state, reason, created_at_ns, queued_at_ns, tries, \
                       error, ended_at_ns";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Notice> {
    let subject = serde_json::from_str(row.get_ref(5)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, Box::new(error)))?;
    let kind = optional_word::<ChannelKind>(row, 4)?;
    Ok(Notice {
        id: row.get(0)?,
        key: row.get(1)?,
        owner: row.get(2)?,
        channel: kind.map(|kind| Ok::<_, rusqlite::Error>((row.get(3)?, kind))).transpose()?,
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

#[cfg(test)]
mod tests;
