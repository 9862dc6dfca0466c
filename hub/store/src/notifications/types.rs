//! A notification, its channel, its state, and the plan that it comes from.

use super::subject::Subject;
use crate::words::words;

/// A channel of an owner, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelName {
    /// Name among the owner's channels.
    pub name: String,
    /// Kind of channel, such as `webhook`. The store accepts any kind.
    pub kind: String,
}

/// Why a notification is not sent by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressReason {
    /// The owner was notified of this animal a moment ago.
    Cooldown,
    /// The owner's quiet hours.
    QuietHours,
    /// The owner wants nothing but digests.
    DigestOnly,
    /// Its channel was down for so long that a digest took its place.
    Backlog,
    /// A person deleted its event before it was delivered.
    EventDeleted,
    /// A person said that its event was no cat before it was delivered.
    NotACat,
    /// Its event sounds like those that the owner labelled "not a cat".
    LikeNotACat,
    /// The score of its event is below `min_score` of the node.
    BelowMinScore,
}

words!(SuppressReason {
    SuppressReason::Cooldown => "cooldown" => SuppressReason::Cooldown,
    SuppressReason::QuietHours => "quiet_hours" => SuppressReason::QuietHours,
    SuppressReason::DigestOnly => "digest_only" => SuppressReason::DigestOnly,
    SuppressReason::Backlog => "backlog" => SuppressReason::Backlog,
    SuppressReason::EventDeleted => "event_deleted" => SuppressReason::EventDeleted,
    SuppressReason::NotACat => "not_a_cat" => SuppressReason::NotACat,
    SuppressReason::LikeNotACat => "like_not_a_cat" => SuppressReason::LikeNotACat,
    SuppressReason::BelowMinScore => "below_min_score" => SuppressReason::BelowMinScore,
});

/// State of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationState {
    /// To be delivered.
    Pending,
    /// The channel accepted it.
    Delivered,
    /// Given up: refused, tried too often, too old, or its channel was removed from the config.
    Dead,
    /// Not sent by itself.
    Suppressed,
}

words!(NotificationState {
    NotificationState::Pending => "pending" => NotificationState::Pending,
    NotificationState::Delivered => "delivered" => NotificationState::Delivered,
    NotificationState::Dead => "dead" => NotificationState::Dead,
    NotificationState::Suppressed => "suppressed" => NotificationState::Suppressed,
});

/// How an owner is to be notified of something. Whether the cool-down suppresses it is decided when it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationPlan {
    /// Name of the owner.
    pub owner: String,
    /// The owner's channels.
    pub channels: Vec<ChannelName>,
    /// Cool-down: after a notification, further ones of this kind about this animal are suppressed for this long. 0:
    /// none are.
    pub cooldown_ns: i64,
    /// Suppress this notification, whatever the cool-down says.
    pub hold: Option<SuppressReason>,
    /// It is delivered this long after it is stored, in nanoseconds.
    pub wait_ns: i64,
    /// If it is suppressed: the moment of the digest that counts it. `None`: no digest does.
    pub digest_due_ns: Option<i64>,
}

/// A notification as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Number of the notification. Never used twice.
    pub id: i64,
    /// Idempotency key: 32 hexadecimal digits that stay the same over all deliveries.
    pub key: String,
    /// Name of the owner.
    pub owner: String,
    /// The owner's channel. `None`: suppressed.
    pub channel: Option<ChannelName>,
    /// What it is about.
    pub subject: Subject,
    /// Its state.
    pub state: NotificationState,
    /// Why it is suppressed.
    pub reason: Option<SuppressReason>,
    /// When it was stored, in nanoseconds since 1970 UTC.
    pub created_at_ns: i64,
    /// When it was last queued: its age counts from here.
    pub queued_at_ns: i64,
    /// Deliveries that failed.
    pub tries: u32,
    /// Why the last delivery failed.
    pub error: Option<String>,
    /// When it was delivered, given up or suppressed.
    pub ended_at_ns: Option<i64>,
}
