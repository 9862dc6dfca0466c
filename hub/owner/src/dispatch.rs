//! Takes notifications out of the outbox and delivers them.
//!
//! Each channel has its own task, so one that hangs delays no other. A notification is tried until the channel accepts
//! it or it is given up. A hub that is killed in between delivers it again after its start, with the same key.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::clock::Clock;
use hub_base::time::{days_before, now_ns};
use hub_store::StoreError;
use hub_store::notifications::{ChannelName, LONGEST_WAIT, Notification};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::channels::Channel;
use crate::config::NotificationsConfig;
use crate::delivery::DeliveryFailure;
use crate::outbox::Outbox;

/// Time limit for a delivery.
const DELIVERY_DEADLINE: Duration = Duration::from_secs(10);

/// Time left to a delivery once the hub is stopping.
const LAST_DELIVERY: Duration = Duration::from_secs(2);

/// How often the outbox is searched for notifications that another process put in, or that have become due.
const POLL: Duration = Duration::from_secs(1);

/// Notifications of a channel that are read at once.
const BATCH: usize = 16;

/// First and longest wait after a failed delivery, unless the server asks for another. The whole channel waits, because
/// the cause is most likely the server.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// First and longest wait before the store is tried again.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(300);

/// How often old notifications are deleted.
const TIDY_PERIOD: Duration = Duration::from_secs(600);

/// Notifications that are deleted each [`TIDY_PERIOD`], at most: a clock that lied costs little until somebody notices.
const FORGET_BATCH: usize = 1_000;

const HOUR: Duration = Duration::from_secs(3_600);

/// What all tasks share.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    /// Where the notifications are.
    pub outbox: Outbox,
    /// When to give up, and what to delete.
    pub config: NotificationsConfig,
    /// Stops the tasks.
    pub stop: CancellationToken,
}

impl Dispatcher {
    /// Starts the tasks.
    pub fn start(self, channels: Vec<Channel>, tasks: &TaskTracker) {
        let known = channels.iter().map(|channel| (channel.owner.clone(), channel.name.clone())).collect();
        let owners: HashSet<&str> = channels.iter().map(|channel| channel.owner.as_str()).collect();
        info!(owners = owners.len(), channels = channels.len(), "notifications enabled");
        for channel in channels {
            let failure_log = Quiet::new(LOG_PERIOD);
            let backoff = Backoff::new(TRY_AGAIN.0, TRY_AGAIN.1);
            tasks.spawn(Worker { shared: self.clone(), channel, backoff, works: false, failure_log }.run());
        }
        tasks.spawn(self.keep_house(known));
    }

    /// Makes digests when they are due, and deletes old notifications.
    async fn keep_house(self, known: Vec<(String, String)>) {
        let mut failure_log = Quiet::new(LOG_PERIOD);
        match self.outbox.store().bury_unknown(known, now_ns()).await {
            Ok(0) => {}
            Ok(count) => warn!(count, "gave up notifications for channels that are no longer configured"),
            Err(error) => warn!(%error, "cannot look for notifications for channels that are no longer configured"),
        }
        let mut tidy = tokio::time::interval(TIDY_PERIOD);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tidy.tick() => self.forget().await,
                () = tokio::time::sleep(POLL) => self.outbox.notify_of_digests(now_ns()).await,
            };
            if let Err(error) = done
                && let Some(suppressed_lines) = failure_log.allow()
            {
                warn!(%error, suppressed_lines, "cannot make digests or delete old notifications; retrying");
            }
        }
    }

    async fn forget(&self) -> Result<(), StoreError> {
        let store = self.outbox.store();
        // While the clock is in doubt, nothing is too old.
        if let Some(now_ns) = store.clock().for_deletion_ns() {
            store.forget_notifications(days_before(now_ns, self.config.keep_days), FORGET_BATCH).await?;
        }
        Ok(())
    }
}

/// Delivers through one channel.
struct Worker {
    shared: Dispatcher,
    channel: Channel,
    backoff: Backoff,
    /// Whether the channel accepted the last notification. At the start it is unknown what waits, and why.
    works: bool,
    failure_log: Quiet,
}

impl Worker {
    async fn run(mut self) {
        let mut changed = self.shared.outbox.store().outbox_changed();
        while !self.shared.stop.is_cancelled() {
            let due = self.due().await;
            if due.is_empty() {
                tokio::select! {
                    // This cannot fail: this task holds the store, which holds the sender.
                    _ = changed.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = self.shared.stop.cancelled() => {}
                }
            }
            for notification in due {
                if self.shared.stop.is_cancelled() {
                    break;
                }
                // Its event may have been deleted while the notifications before it were delivered.
                if self.is_withdrawn(notification.id).await {
                    continue;
                }
                if !self.deliver(&notification).await {
                    break;
                }
            }
        }
    }

    async fn due(&mut self) -> Vec<Notification> {
        let Channel { owner, name, .. } = &self.channel;
        match self.shared.outbox.store().due_notifications(owner, name, now_ns(), BATCH).await {
            Ok(due) => due,
            Err(error) => {
                if let Some(suppressed_lines) = self.failure_log.allow() {
                    warn!(%error, suppressed_lines, "cannot read the outbox; retrying");
                }
                Vec::new()
            }
        }
    }

    /// If the store does not answer, the notification is delivered: rather one too many than one too few.
    async fn is_withdrawn(&self, id: i64) -> bool {
        matches!(self.shared.outbox.store().notification_is_pending(id).await, Ok(false))
    }

    /// Tries one notification. `false`: read the outbox again before the next one.
    async fn deliver(&mut self, notification: &Notification) -> bool {
        let stop = &self.shared.stop;
        let delivered = tokio::select! {
            delivered = tokio::time::timeout(DELIVERY_DEADLINE, self.channel.deliver(notification)) => delivered,
            // The notification is still pending: it is delivered after the next start.
            () = async { stop.cancelled().await; tokio::time::sleep(LAST_DELIVERY).await } => return false,
        };
        let too_slow = || format!("no answer within {} s", DELIVERY_DEADLINE.as_secs());
        match delivered.unwrap_or_else(|_| Err(DeliveryFailure::temporary(too_slow()))) {
            Ok(()) => {
                self.shared.outbox.counters().delivered.add_one(self.channel.kind);
                self.backoff.reset();
                self.failure_log.reset();
                let store = self.shared.outbox.store().clone();
                let is_stored = self.until_stored(|| store.notification_delivered(notification.id, now_ns())).await;
                if is_stored && !self.works {
                    self.works = true;
                    self.catch_up().await;
                    return false;
                }
                is_stored
            }
            Err(failure) => {
                self.failed(notification, failure).await;
                false
            }
        }
    }

    /// After an outage: what waits is due now. A digest takes the place of a backlog, so that a phone does not ring
    /// hundreds of times.
    async fn catch_up(&mut self) {
        let Channel { owner, name, kind, .. } = &self.channel;
        let (owner, channel) = (owner.clone(), ChannelName { name: name.clone(), kind: (*kind).to_owned() });
        let store = self.shared.outbox.store().clone();
        let summed_up = AtomicU64::new(0);
        self.until_stored(async || {
            let put_in = store.channel_works_again(&owner, &channel, now_ns()).await?;
            summed_up.store(put_in.suppressed, Ordering::Relaxed);
            Ok(())
        })
        .await;
        let count = summed_up.into_inner();
        if count > 0 {
            info!(owner, channel = channel.name, count, "the channel works again; one digest replaces what piled up");
        }
    }

    /// Stores a failed delivery, and waits until the next one may begin.
    async fn failed(&mut self, notification: &Notification, failure: DeliveryFailure) {
        if failure.is_final {
            // The server works. It is this notification that it does not accept.
            self.backoff.reset();
        } else {
            self.works = false;
        }
        let mut retried = self.shared.outbox.store().notification_retried();
        let age = age_of(self.shared.outbox.store().clock(), notification.queued_at_ns, now_ns());
        let patience = Patience::of(&self.shared.config, notification, age);
        let (backoff, counters) = (self.backoff.next_wait(), self.shared.outbox.counters());
        let next = patience.after(&failure, backoff);
        counters.failed.add_one(self.channel.kind);
        if next.is_none() {
            counters.dead.add_one(self.channel.kind);
        }
        if let Some(suppressed_lines) = self.failure_log.allow() {
            let Channel { owner, name, .. } = &self.channel;
            let then = next.map_or_else(
                || "giving up".into(),
                |wait| format!("trying again in {:.0} s", wait.as_secs_f64().ceil()),
            );
            let given_up = next.is_none();
            let reason = &failure.reason;
            warn!(
                owner,
                channel = name,
                given_up,
                suppressed_lines,
                "Notification to {owner} ({name}) failed: {reason}; {then}"
            );
        }
        let store = self.shared.outbox.store().clone();
        let due_at_ns = next.map(|wait| now_ns().saturating_add(nanoseconds(wait)));
        let (id, reason) = (notification.id, failure.reason);
        self.until_stored(|| store.notification_failed(id, reason.clone(), due_at_ns, now_ns())).await;
        // Whoever wants a notification to be tried again wants that now.
        tokio::select! {
            () = tokio::time::sleep(next.unwrap_or(backoff)) => {}
            // This cannot fail: this task holds the store, which holds the sender.
            _ = retried.changed() => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// Tries until the result of a delivery is stored. Otherwise a slow store would make the hub deliver the
    /// notification again and again. `false`: the hub is stopping, and the result is not stored.
    async fn until_stored<F: Future<Output = Result<(), StoreError>>>(&mut self, mut work: impl FnMut() -> F) -> bool {
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        loop {
            match work().await {
                Ok(()) => return true,
                Err(error) => {
                    if let Some(suppressed_lines) = self.failure_log.allow() {
                        error!(%error, suppressed_lines, "cannot store the result of a delivery; retrying");
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

/// Longest wait that a server can ask for with `Retry-After`. The channel rests meanwhile, so one answer must not
/// silence it for a day.
const LONGEST_ASKED_WAIT: Duration = LONGEST_WAIT;

/// How long a notification has waited: by the steady clock, if it was queued in this run of the hub. One of an earlier
/// run has the age that the wall clock says if that is plausible, and otherwise waits since the start of the hub.
fn age_of(clock: &Clock, queued_at_ns: i64, now_ns: i64) -> Duration {
    clock.age_of(queued_at_ns).unwrap_or_else(|since_start| {
        let by_wall = u64::try_from(now_ns.saturating_sub(queued_at_ns)).unwrap_or(0);
        if clock.look().is_plausible() { since_start.max(Duration::from_nanos(by_wall)) } else { since_start }
    })
}

/// How much longer a notification is tried after its delivery has failed.
#[derive(Debug, Clone, Copy)]
struct Patience {
    tries_left: u32,
    age_left: Duration,
}

impl Patience {
    fn of(config: &NotificationsConfig, notification: &Notification, age: Duration) -> Self {
        Self {
            tries_left: config.max_tries.saturating_sub(notification.tries + 1),
            age_left: (config.max_age_h * HOUR).saturating_sub(age),
        }
    }

    /// The wait until the next delivery. `None`: the notification is given up.
    ///
    /// A server that asks for a wait gets it, up to [`LONGEST_ASKED_WAIT`]. If the age limit comes first, there is one
    /// last delivery at the limit.
    fn after(self, failure: &DeliveryFailure, backoff: Duration) -> Option<Duration> {
        if failure.is_final || self.tries_left == 0 || self.age_left.is_zero() {
            return None;
        }
        let asked = failure.retry_after.unwrap_or_default().min(LONGEST_ASKED_WAIT).min(self.age_left);
        Some(backoff.max(asked))
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hub_base::clock::Reading;
    use hub_store::events::{NoClip, Watermark};
    use hub_store::notifications::{NotificationPlan, NotificationState};
    use hub_store::testing::event_notification;
    use hub_store::{Access, Store};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;
    use crate::config::{OwnerConfig, open_channels};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn after(tries: u32, age: Duration, failure: &DeliveryFailure) -> Option<Duration> {
        let config = NotificationsConfig { max_tries: 5, max_age_h: 2, ..NotificationsConfig::default() };
        let notification = Notification { tries, ..event_notification(7) };
        Patience::of(&config, &notification, age).after(failure, 10 * SECOND)
    }

    /// The number of the event that a request to a webhook is about.
    async fn read_event(stream: &mut TcpStream) -> i64 {
        let mut request = Vec::new();
        loop {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            let text = String::from_utf8_lossy(&request);
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            if let Ok(json) = serde_json::from_str::<serde_json::Value>(body) {
                return json["event"]["id"].as_i64().unwrap();
            }
        }
    }

    /// A webhook that answers as told, and the numbers of the events that it accepted.
    async fn webhook(answer: watch::Receiver<&'static str>) -> (String, Arc<Mutex<Vec<i64>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let accepted = Arc::<Mutex<Vec<i64>>>::default();
        let all = Arc::clone(&accepted);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let event = read_event(&mut stream).await;
                let answer = *answer.borrow();
                if answer.starts_with("204") {
                    all.lock().unwrap().push(event);
                }
                let head = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        });
        (url, accepted)
    }

    async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what}: not in time"));
    }

    /// A notification of an owner by all channels, at once.
    fn plan_for(owner: &OwnerConfig) -> Vec<NotificationPlan> {
        let channels = owner.channels.iter().map(ChannelName::from).collect();
        vec![NotificationPlan {
            owner: owner.name.clone(),
            channels,
            cooldown_ns: 0,
            hold: None,
            wait_ns: 0,
            digest_due_ns: None,
        }]
    }

    #[tokio::test]
    async fn wait_that_a_server_asked_for_ends_with_a_retry_by_hand_and_then_for_all() {
        let (answer, answers) = watch::channel("429 Too Many Requests\r\nretry-after: 3600");
        let (url, accepted) = webhook(answers).await;
        let toml = format!("name = \"Anna\"\n[[channels]]\ntype = \"webhook\"\nurl = \"{url}\"");
        let anna: OwnerConfig = toml::from_str(&toml).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let outbox = Outbox::new(std::slice::from_ref(&anna), store.clone());
        let put = [1, 2].map(|id| (event_notification(id).subject, plan_for(&anna)));
        store.commit_notifications(put.to_vec(), now_ns()).await.unwrap();
        store.notification_failed(2, "an earlier failure".into(), None, now_ns()).await.unwrap();

        let (config, stop) = (NotificationsConfig::default(), CancellationToken::new());
        let channels = open_channels([&anna], None, None).unwrap();
        Dispatcher { outbox, config, stop: stop.clone() }.start(channels, &TaskTracker::new());
        let tries = async |id| {
            let all = store.notifications(None, None, 10).await.unwrap();
            all.iter().find(|one| one.id == id).map_or(0, |one| one.tries)
        };
        until("the first one waits", async || tries(1).await == 1).await;
        answer.send_replace("204 No Content");
        store.retry_notification(2, now_ns()).await.unwrap();
        until("both have arrived", async || accepted.lock().unwrap().len() == 2).await;
        assert_eq!(*accepted.lock().unwrap(), [2, 1]);
        stop.cancel();
    }

    #[tokio::test]
    async fn notification_of_an_event_that_is_deleted_while_others_are_sent_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let toml = format!(
            "name = \"Anna\"\n[[channels]]\ntype = \"webhook\"\nurl = \"http://{}\"",
            listener.local_addr().unwrap()
        );
        let anna: OwnerConfig = toml::from_str(&toml).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let mark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
        for n in 0..3 {
            let found = hub_store::testing::event("kitchen", n * 16_000);
            let plans = plan_for(&anna);
            store.commit_event(found, Err(NoClip::Disabled), mark.clone(), |_| plans).await.unwrap();
        }
        let (config, stop) = (NotificationsConfig::default(), CancellationToken::new());
        let outbox = Outbox::new(std::slice::from_ref(&anna), store.clone());
        let channels = open_channels([&anna], None, None).unwrap();
        Dispatcher { outbox, config, stop: stop.clone() }.start(channels, &TaskTracker::new());
        // After the first, the worker reads the outbox again. The second is in one batch with the third.
        let mut arrived = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = tokio::time::timeout(MINUTE, listener.accept()).await.unwrap().unwrap();
            let event = read_event(&mut stream).await;
            arrived.push(event);
            if event == 2 {
                store.delete_event(3).await.unwrap().unwrap();
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
        }
        let delivered = async || store.notifications(Some(NotificationState::Delivered), None, 9).await.unwrap().len();
        until("the second one is delivered", async || delivered().await == 2).await;
        let fourth = hub_store::testing::event("kitchen", 48_000);
        let plans = plan_for(&anna);
        store.commit_event(fourth, Err(NoClip::Disabled), mark, |_| plans).await.unwrap();
        let (mut stream, _) = tokio::time::timeout(MINUTE, listener.accept()).await.unwrap().unwrap();
        arrived.push(read_event(&mut stream).await);
        assert_eq!(arrived, [1, 2, 4]);
        stop.cancel();
    }

    #[test]
    fn notification_is_tried_until_it_was_tried_too_often_or_is_too_old() {
        let down = DeliveryFailure::temporary("down");
        assert_eq!(after(0, Duration::ZERO, &down), Some(10 * SECOND));
        assert_eq!(after(3, HOUR, &down), Some(10 * SECOND));
        assert_eq!(after(4, HOUR, &down), None);
        assert_eq!(after(0, 2 * HOUR, &down), None);
    }

    #[test]
    fn clock_that_steps_neither_ages_a_notification_nor_keeps_it_young() {
        const DAY_NS: i64 = 86_400_000_000_000;
        let now = Arc::new(Mutex::new(Reading { steady_ns: 0, unix_ns: 20_000 * DAY_NS, synchronised: Some(true) }));
        let read = Arc::clone(&now);
        let clock = Clock::with(None, move || *read.lock().unwrap());
        let age = |queued_at_ns| {
            let unix_ns = now.lock().unwrap().unix_ns;
            age_of(&clock, queued_at_ns, unix_ns)
        };
        let set = |steady_ns, unix_ns, synchronised| {
            *now.lock().unwrap() = Reading { steady_ns, unix_ns, synchronised: Some(synchronised) };
        };
        let day = 24 * HOUR;
        assert_eq!(age(19_998 * DAY_NS), 2 * day, "of an earlier run");
        set(DAY_NS, 30_000 * DAY_NS, false);
        assert_eq!(age(20_000 * DAY_NS), day, "of this run, before a step ahead");
        assert_eq!(age(19_998 * DAY_NS), day, "of an earlier run, while the clock is in doubt");
        set(2 * DAY_NS, 10_000 * DAY_NS, false);
        assert_eq!(age(20_000 * DAY_NS), 2 * day, "of this run, before a step back");
        assert_eq!(age(25_000 * DAY_NS), 2 * day, "from the future");
    }

    #[test]
    fn final_failure_is_given_up_at_once() {
        assert_eq!(after(0, Duration::ZERO, &DeliveryFailure::permanent("gone")), None);
    }

    #[test]
    fn server_gets_the_wait_that_it_asks_for_within_the_age_limit() {
        let asks = |wait| DeliveryFailure { retry_after: Some(wait), ..DeliveryFailure::temporary("busy") };
        assert_eq!(after(0, Duration::ZERO, &asks(HOUR)), Some(HOUR));
        assert_eq!(after(0, Duration::ZERO, &asks(SECOND)), Some(10 * SECOND), "not sooner than without");
        assert_eq!(after(0, HOUR, &asks(30 * HOUR)), Some(HOUR));
        assert_eq!(after(0, HOUR, &asks(Duration::MAX)), Some(HOUR));
    }
}
