//! Wakes those who deliver notifications, and counts notifications that are never delivered.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// What a transaction put into the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutIn {
    /// Notifications to be delivered.
    pub pending: u64,
    /// Notifications that are not sent by themselves.
    pub suppressed: u64,
    /// Old notifications that were deleted undelivered, because the outbox was full.
    pub crowded_out: u64,
}

impl std::ops::AddAssign for PutIn {
    fn add_assign(&mut self, other: Self) {
        self.pending += other.pending;
        self.suppressed += other.suppressed;
        self.crowded_out += other.crowded_out;
    }
}

/// What a store keeps in memory about its outbox.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    changed: watch::Sender<()>,
    retried: watch::Sender<()>,
    suppressed: AtomicU64,
    crowded_out: AtomicU64,
}

impl Waker {
    /// Notifications were committed.
    pub(crate) fn committed(&self, put_in: PutIn) {
        self.suppressed.fetch_add(put_in.suppressed, Ordering::Relaxed);
        self.crowded_out.fetch_add(put_in.crowded_out, Ordering::Relaxed);
        if put_in.crowded_out > 0 {
            tracing::warn!(lost = put_in.crowded_out, "the outbox is full; the oldest notifications were deleted");
        }
        if put_in.pending > 0 {
            self.changed.send_replace(());
        }
    }

    /// Somebody wants a notification to be tried again now.
    pub(crate) fn retry(&self) {
        self.retried.send_replace(());
        self.changed.send_replace(());
    }

    pub(crate) fn retried(&self) -> watch::Receiver<()> {
        self.retried.subscribe()
    }

    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }

    pub(crate) fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed)
    }
}
