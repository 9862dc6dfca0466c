//! A delivery: one attempt to send a notification through a channel.

use std::time::Duration;

/// Why a delivery failed, and what that means for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// What happened, in words for people.
    pub reason: String,
    /// Another delivery of this notification would fail too.
    pub is_final: bool,
    /// How long the server asks the hub to wait.
    pub retry_after: Option<Duration>,
}

impl DeliveryFailure {
    /// A failure that may not happen again.
    pub(super) fn temporary(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: false, retry_after: None }
    }

    /// A failure that would happen again.
    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_final: true, retry_after: None }
    }
}
