//! The way into the outbox for the rest of the hub: it plans whom to notify, and stores the notifications.
//!
//! The store itself wakes the tasks that deliver, after each commit, so no caller can forget to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hub_store::events::Event;
use hub_store::notifications::{NotificationPlan, Subject};
use hub_store::{Store, StoreError};

use crate::channels::KINDS;
use crate::config::OwnerConfig;
use crate::rules::Rules;

/// The owners of this process, and the store. Clones share it.
#[derive(Debug, Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Rules>,
    store: Store,
    counters: Counters,
}

/// Counts since the start of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Notifications that a channel accepted.
    pub delivered: PerKind,
    /// Deliveries that failed.
    pub failed: PerKind,
    /// Notifications that were given up.
    pub dead: PerKind,
    /// Calls of `Notify` that notify no owner, because the store was too slow for too long, or the hub was stopping.
    pub calls_dropped: AtomicU64,
    /// Calls of `Notify` that were answered before they were stored.
    pub calls_late: AtomicU64,
}

/// A number for each kind of channel.
#[derive(Debug, Default)]
pub struct PerKind([AtomicU64; KINDS.len()]);

impl PerKind {
    /// The number for a kind. Of an unknown kind it is 0.
    pub fn get(&self, kind: &str) -> u64 {
        self.of(kind).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn add_one(&self, kind: &str) {
        if let Some(count) = self.of(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, kind: &str) -> Option<&AtomicU64> {
        KINDS.iter().zip(&self.0).find(|(known, _)| **known == kind).map(|(_, count)| count)
    }
}

impl Outbox {
    /// The outbox for these owners, of whom there must be one at least.
    pub fn new(owners: &[OwnerConfig], store: Store) -> Self {
        let rules = owners.iter().map(Rules::new).collect();
        Self { inner: Arc::new(Inner { rules, store, counters: Counters::default() }) }
    }

    /// Whom to notify of an event. The event is stored with these plans.
    pub fn plan_event(&self, event: &Event, now_ns: i64) -> Vec<NotificationPlan> {
        self.inner.rules.iter().filter_map(|rules| rules.event(event.cat(), &event.found, now_ns)).collect()
    }

    /// Whom to notify of a call of an animal.
    pub(super) fn plan_call(&self, animal: &str, now_ns: i64) -> Vec<NotificationPlan> {
        self.inner.rules.iter().filter_map(|rules| rules.call(animal, now_ns)).collect()
    }

    /// Notifies the owners of calls that were planned before.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub(super) async fn notify_of_calls(
        &self,
        calls: Vec<(Subject, Vec<NotificationPlan>)>,
        now_ns: i64,
    ) -> Result<(), StoreError> {
        self.inner.store.commit_notifications(calls, now_ns).await.map(|_| ())
    }

    /// Notifies the owners of nodes: each a subject, and the cat that the node hears. `None`: the cat is unknown.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub async fn notify_of_nodes(&self, nodes: Vec<(Subject, Option<String>)>, now_ns: i64) -> Result<(), StoreError> {
        let plans = |cat: Option<&str>| self.inner.rules.iter().filter_map(|rules| rules.node(cat, now_ns)).collect();
        let planned = nodes.into_iter().map(|(subject, cat)| (subject, plans(cat.as_deref()))).collect();
        self.inner.store.commit_notifications(planned, now_ns).await.map(|_| ())
    }

    /// Sends the owners their digests, as far as any are due.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing has changed.
    pub(super) async fn notify_of_digests(&self, now_ns: i64) -> Result<(), StoreError> {
        if self.inner.store.digest_is_due(now_ns).await? {
            let plans = self.inner.rules.iter().map(Rules::digest).collect();
            self.inner.store.make_digests(plans, now_ns).await?;
        }
        Ok(())
    }

    /// The store that holds the notifications.
    pub(super) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The counts.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}
