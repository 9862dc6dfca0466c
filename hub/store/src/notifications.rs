//! Notifications: pending, delivered, given up and suppressed ones. Together they are the outbox.
//!
//! A notification is stored in the transaction of what it is about, so neither is ever there without the other. It
//! leaves the state `pending` when it is delivered, given up (`dead`), or never to be sent by itself (`suppressed`).
//!
//! Outside this program a notification is called a notice: the table `notices`, `/api/v1/notices`, `[notices]` in the
//! config file and `meowlink_hub_notices_total` were released under that name.

mod backlog;
mod delivery;
mod digest;
mod list;
mod put;
mod rows;
mod subject;
mod tally;
mod types;
mod withdraw;

pub use backlog::{BACKLOG_AFTER_S, BACKLOG_OF};
pub use delivery::LONGEST_WAIT;
pub use put::MAX_NOTIFICATIONS;
pub(crate) use put::{follow_cat, follow_shown_event, put_notifications};
pub use subject::Subject;
pub use tally::MOST_ANIMALS;
pub use types::{ChannelName, Notification, NotificationPlan, NotificationState, SuppressReason};
pub(crate) use withdraw::withdraw;

pub use crate::waker::PutIn;

#[cfg(test)]
mod tests;
