//! What the rest of the hub knows of owners: it asks for the plans of what it is about to store, and says when it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hub_store::events::Event;
use hub_store::notices::{ChannelKind, NoticePlan, PutIn};
use tokio::sync::watch;

use super::config::OwnerConfig;
use super::rules::Rules;

/// The outbox of this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Vec<Rules>,
    changed: watch::Sender<()>,
    counters: Counters,
}

/// What was counted since the start of this process. What is pending is counted by
/// [`pending_notices`](hub_store::Store::pending_notices).
#[derive(Debug, Default)]
pub struct Counters {
    /// Notices that a channel took.
    pub delivered: PerKind,
    /// Tries that failed.
    pub failed: PerKind,
    /// Notices that were given up.
    pub dead: PerKind,
    /// Notices that were not told by themselves: cool-down, quiet hours, digests.
    pub suppressed: AtomicU64,
    /// Notices that were lost, not delivered, because the outbox was full.
    pub crowded_out: AtomicU64,
    /// Calls of `Notify` that nobody is told of, because the store was too slow for too long, or the hub
    /// was stopping.
    pub calls_dropped: AtomicU64,
    /// Calls of `Notify` that were answered before they were stored.
    pub calls_late: AtomicU64,
}

/// A number for each kind of channel.
#[derive(Debug, Default)]
pub struct PerKind([AtomicU64; ChannelKind::ALL.len()]);

impl PerKind {
    /// The number for a kind.
    pub fn get(&self, kind: ChannelKind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self, kind: ChannelKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Outbox {
    /// The outbox for these owners. `None`: there are none, and nobody is told anything.
    pub fn new(owners: &[OwnerConfig]) -> Option<Self> {
        let rules: Vec<_> = owners.iter().map(Rules::new).collect();
        let inner = Inner { rules, changed: watch::Sender::new(()), counters: Counters::default() };
        (!owners.is_empty()).then(|| Self { inner: Arc::new(inner) })
    }

    /// Who is to be told of an event, to be stored with it.
    pub fn plan_event(&self, event: &Event, now_ns: i64) -> Vec<NoticePlan> {
        self.inner.rules.iter().filter_map(|rules| rules.event(&event.found, now_ns)).collect()
    }

    /// Who is to be told that an animal was called.
    pub fn plan_call(&self, animal: &str, now_ns: i64) -> Vec<NoticePlan> {
        self.inner.rules.iter().filter_map(|rules| rules.call(animal, now_ns)).collect()
    }

    /// Who is to be told of a node, which hears this cat. `None`: nobody knows which.
    pub fn plan_node(&self, cat: Option<&str>, now_ns: i64) -> Vec<NoticePlan> {
        self.inner.rules.iter().filter_map(|rules| rules.node(cat, now_ns)).collect()
    }

    /// Who may be sent a digest.
    pub fn plan_digests(&self) -> Vec<NoticePlan> {
        self.inner.rules.iter().map(Rules::digest).collect()
    }

    /// Notices were put in: they are counted, and sent by this process at once if it is the one that sends.
    pub fn put_in(&self, put_in: PutIn) {
        let counters = &self.inner.counters;
        counters.suppressed.fetch_add(put_in.suppressed, Ordering::Relaxed);
        counters.crowded_out.fetch_add(put_in.crowded_out, Ordering::Relaxed);
        if put_in.crowded_out > 0 {
            tracing::warn!(lost = put_in.crowded_out, "the outbox is full, the oldest notices give way");
        }
        if put_in.pending > 0 {
            self.wake();
        }
    }

    /// Something may be due.
    pub fn wake(&self) {
        self.inner.changed.send_replace(());
    }

    /// Changes whenever something may be due.
    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.inner.changed.subscribe()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}
