//! Takes notices out of the outbox and tells the owners.
//!
//! A task for each channel: one that hangs holds up no other. A notice is tried until the channel takes it, so a hub that
//! is killed in between tells it again after its start, with the same key.

use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::time::now_ns;
use hub_store::notices::Notice;
use hub_store::{Store, StoreError};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::channels::Channel;
use super::config::NoticesConfig;
use super::outbox::Outbox;

/// How long a channel may take for a notice, all in all.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(10);

/// How much of that is left once the hub was told to stop.
const LAST_DELIVERY: Duration = Duration::from_secs(2);

/// How often the outbox is looked at for what another process put in, or what has become due.
const POLL: Duration = Duration::from_secs(2);

/// Notices of a channel that are read at once.
const BATCH: usize = 16;

/// First and longest wait after a try that failed. The whole channel waits: it is the server that is down, not the notice.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// First and longest wait before the store is tried again.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How often like failures are logged.
const LOG_PERIOD: Duration = Duration::from_secs(300);

/// How often old notices are looked for.
const TIDY_PERIOD: Duration = Duration::from_secs(600);

/// Notices that are forgotten in one transaction.
const FORGET_BATCH: usize = 1_000;

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// What all tasks share.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// Where the outbox is.
    pub store: Store,
    /// Says when to look.
    pub outbox: Outbox,
    /// When to give up.
    pub config: NoticesConfig,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Dispatcher {
    /// Begins to tell the owners.
    pub fn start(self, channels: Vec<Channel>, tasks: &TaskTracker) {
        let known = channels.iter().map(|channel| (channel.owner.clone(), channel.name.clone())).collect();
        info!(channels = channels.len(), "owners are told");
        for channel in channels {
            let failure_log = Quiet::new(LOG_PERIOD);
            let backoff = Backoff::new(TRY_AGAIN.0, TRY_AGAIN.1);
            tasks.spawn(Worker { shared: self.clone(), channel, backoff, failure_log }.run());
        }
        tasks.spawn(self.keep_house(known));
    }

    /// Makes digests when they are due, and forgets what is old.
    async fn keep_house(self, known: Vec<(String, String)>) {
        let mut failure_log = Quiet::new(LOG_PERIOD);
        match self.store.bury_unknown(known, now_ns()).await {
            Ok(0) => {}
            Ok(buried) => warn!(buried, "notices for channels that are no longer configured are given up"),
            Err(error) => warn!(%error, "the outbox was not looked through"),
        }
        let mut tidy = tokio::time::interval(TIDY_PERIOD);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tidy.tick() => self.forget().await,
                () = tokio::time::sleep(POLL) => self.make_digests().await,
            };
            if let Err(error) = done
                && let Some(held_back) = failure_log.allow()
            {
                warn!(%error, held_back, "the outbox is not kept in order");
            }
        }
    }

    async fn make_digests(&self) -> Result<(), StoreError> {
        let now_ns = now_ns();
        if self.store.digest_is_due(now_ns).await? {
            let put_in = self.store.make_digests(self.outbox.plan_digests(), now_ns).await?;
            self.outbox.put_in(put_in);
        }
        Ok(())
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let before_ns = now_ns() - i64::from(self.config.keep_days) * DAY_NS;
        while self.store.forget_notices(before_ns, FORGET_BATCH).await? == FORGET_BATCH {}
        Ok(())
    }
}

/// Tells by one channel.
struct Worker {
    shared: Dispatcher,
    channel: Channel,
    backoff: Backoff,
    failure_log: Quiet,
}

impl Worker {
    async fn run(mut self) {
        let mut changed = self.shared.outbox.changed();
        while !self.shared.stop.is_cancelled() {
            let Channel { owner, name, .. } = &self.channel;
            let due = match self.shared.store.due_notices(owner, name, now_ns(), BATCH).await {
                Ok(due) => due,
                Err(error) => {
                    if let Some(held_back) = self.failure_log.allow() {
                        warn!(%error, held_back, "the outbox cannot be read");
                    }
                    Vec::new()
                }
            };
            if due.is_empty() {
                tokio::select! {
                    // An error cannot be: this task holds the sender too.
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = self.shared.stop.cancelled() => {}
                }
            }
            for notice in due {
                if self.shared.stop.is_cancelled() || !self.tell(&notice).await {
                    break;
                }
            }
        }
    }

    /// Tries one notice. `false`: look again before the next.
    async fn tell(&mut self, notice: &Notice) -> bool {
        let stop = self.shared.stop.clone();
        let told = tokio::select! {
            told = tokio::time::timeout(DELIVERY_DEADLINE, self.channel.deliver(notice)) => told,
            // It is pending still: the next start tells it.
            () = async { stop.cancelled().await; tokio::time::sleep(LAST_DELIVERY).await } => return false,
        };
        let told = told.unwrap_or_else(|_| Err(format!("no answer within {} s", DELIVERY_DEADLINE.as_secs())));
        let (counters, kind) = (self.shared.outbox.counters(), self.channel.kind);
        let store = self.shared.store.clone();
        match told {
            Ok(()) => {
                counters.delivered.add_one(kind);
                self.backoff.reset();
                self.failure_log.reset();
                self.until_stored(|| store.notice_delivered(notice.id, now_ns())).await
            }
            Err(error) => {
                counters.failed.add_one(kind);
                let wait = self.backoff.next_wait();
                let given_up = self.gives_up(notice);
                if given_up {
                    counters.dead.add_one(kind);
                }
                if let Some(held_back) = self.failure_log.allow() {
                    let Channel { owner, name, .. } = &self.channel;
                    warn!(owner, channel = name, error, given_up, held_back, "a notice was not taken");
                }
                let due_at_ns = (!given_up).then(|| now_ns() + wait.as_nanos() as i64);
                self.until_stored(|| store.notice_failed(notice.id, error.clone(), due_at_ns, now_ns())).await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => {}
                }
                false
            }
        }
    }

    /// Whether a notice whose try has just failed is dead.
    fn gives_up(&self, notice: &Notice) -> bool {
        let age_ns = now_ns().saturating_sub(notice.queued_at_ns);
        notice.tries + 1 >= self.shared.config.max_tries
            || age_ns >= i64::from(self.shared.config.max_age_h) * 3_600 * 1_000_000_000
    }

    /// Tries until it works: what was told must not be told again and again because the store is slow. `false`: the hub
    /// stops, and it did not.
    async fn until_stored<F: Future<Output = Result<(), StoreError>>>(&mut self, mut work: impl FnMut() -> F) -> bool {
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        loop {
            match work().await {
                Ok(()) => return true,
                Err(error) => {
                    if let Some(held_back) = self.failure_log.allow() {
                        error!(%error, held_back, "what became of a notice cannot be stored; trying again");
                    }
                }
            }
            if self.shared.stop.is_cancelled() {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.shared.stop.cancelled() => {}
            }
        }
    }
}
