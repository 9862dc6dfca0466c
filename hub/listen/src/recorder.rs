//! Stores findings: the clip first, then the event and the watermark in one transaction.

use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use hub_base::clock::steady_ns;
use hub_base::time::{DAY_NS, days_before, now_ns};
use hub_owner::Outbox;
use hub_store::clips::{Clips, Cut};
use hub_store::events::{Clip, Committed, Event, KEEP_ENVELOPES_S, NewEvent, NoClip, Progress, Watermark};
use hub_store::{Store, StoreError};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::clock::Dating;
use crate::config::{EventsConfig, Settings};
use crate::ear::Finding;
use crate::live::{Live, News, NodeState, WatchedNode};
use crate::past::PastBoots;
use crate::worker::Report;

/// Findings queued for the recorder. While the queue is full, the analysis waits, and so does every stage before it.
pub(super) const REPORT_QUEUE: usize = 64;

/// Most watermarks and gaps that are stored in one transaction.
const BATCH: usize = 64;

/// First and longest wait before the store is tried again. Only a stop of the hub ends the tries.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Tries after the hub was asked to stop. What is not stored then is analysed again after the next start.
const LAST_TRIES: u32 = 2;

/// How often a failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// How often a gap is logged. All of them are stored.
const GAP_LOG_PERIOD: Duration = Duration::from_secs(10);

/// How often old clips and events are deleted.
const TIDY_PERIOD: Duration = Duration::from_secs(600);

/// How often the recorder looks whether the hub's wall clock was stepped, for boots that are over.
const STEP_PERIOD: Duration = Duration::from_secs(10);

/// Most rows that are deleted in one transaction. Also the most events that are deleted for their age each
/// [`TIDY_PERIOD`], so that a clock that lied costs little until somebody notices.
const FORGET_BATCH: usize = 1_000;

/// How long notifications of an event wait while other nodes are live, so that they are about the loudest event of a
/// sound. The outbox is read once a second, so the owner is notified within 3 s.
const LOUDEST_WAIT: Duration = Duration::from_secs(2);

/// How long the deletion of an event is remembered, so that analysing its audio again does not bring it back. This is
/// far longer than any tape. In days.
pub const REMEMBER_DELETED_DAYS: i64 = 7;

/// Stores findings in the order in which they come.
pub(super) struct Recorder {
    pub(super) store: Store,
    pub(super) clips: Clips,
    pub(super) outbox: Option<Outbox>,
    pub(super) events: EventsConfig,
    /// Whether events of several nodes that are one sound are linked.
    pub(super) one_event_per_sound: bool,
    pub(super) live: Live,
    pub(super) stop: daemon::shutdown::CancellationToken,
    past_boots: PastBoots,
    failure_log: Quiet,
    gap_log: Quiet,
}

impl Recorder {
    pub(super) fn new(
        store: Store,
        clips: Clips,
        outbox: Option<Outbox>,
        settings: &Settings,
        live: Live,
        stop: daemon::shutdown::CancellationToken,
    ) -> Self {
        Self {
            store,
            clips,
            outbox,
            events: settings.events.clone(),
            one_event_per_sound: settings.listen.one_event_per_sound,
            live,
            stop,
            past_boots: PastBoots::default(),
            failure_log: Quiet::new(LOG_PERIOD),
            gap_log: Quiet::new(GAP_LOG_PERIOD),
        }
    }

    /// Stores findings until the analysis has ended and all of them are stored.
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut tidy = tokio::time::interval(TIDY_PERIOD);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(STEP_PERIOD);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = reports.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.store_batch(batch.drain(..)).await;
                }
                _ = tidy.tick() => self.tidy().await,
                _ = look.tick() => self.date_past_boots(now_ns().saturating_sub(steady_ns())).await,
            }
        }
    }

    /// Stores reports in order. Consecutive progress goes into one transaction.
    async fn store_batch(&mut self, batch: impl Iterator<Item = Report>) {
        let mut progress: Vec<Progress> = Vec::new();
        for report in batch {
            match report {
                Report::Progress(one, _weight) => progress.push(one),
                Report::Found { finding: Finding::Gap { gap, watermark }, .. } => {
                    if let Some(suppressed_lines) = self.gap_log.allow() {
                        info!(
                            node = gap.node,
                            first = gap.first_sequence,
                            frames = gap.frame_count,
                            reason = gap.reason.as_str(),
                            detail = gap.detail,
                            suppressed_lines,
                            "gap"
                        );
                    }
                    self.live.tell(News::Gap(gap.clone()));
                    progress.push(Progress { watermark, gaps: vec![gap] });
                }
                Report::Found { node, finding: Finding::StartedAt { boot_id, dating }, .. } => {
                    self.store_progress(std::mem::take(&mut progress)).await;
                    self.date(node.url().to_owned(), boot_id, dating).await;
                }
                Report::Found { node, finding: Finding::Ended { boot_id, start }, .. } => {
                    self.past_boots.end(node.url(), boot_id, start);
                }
                Report::Found { node, finding: Finding::Event { event, cut, watermark }, weight: _weight } => {
                    self.store_progress(std::mem::take(&mut progress)).await;
                    // The node that has answered last at this URL may be another one.
                    let cat = node.cat_of_boot(event.boot_id).unwrap_or_default();
                    self.store_event(NewEvent { cat, ..*event }, cut, watermark).await;
                }
            }
        }
        self.store_progress(progress).await;
    }

    async fn store_progress(&mut self, progress: Vec<Progress>) {
        if progress.is_empty() {
            return;
        }
        let store = self.store.clone();
        self.until_stored(|| store.commit_progress(progress.clone())).await;
    }

    /// `offset_ns`: the hub's wall clock less its steady clock.
    async fn date_past_boots(&mut self, offset_ns: i64) {
        for (node, boot_id, dating) in self.past_boots.date_again(offset_ns) {
            self.date(node, boot_id, dating).await;
        }
    }

    async fn date(&mut self, name: String, boot_id: u64, dating: Dating) {
        let store = self.store.clone();
        let Dating { start_unix_ns, clock, instead_of_ns, from_monotonic_ns } = dating;
        let moved = match instead_of_ns {
            None => self.until_stored(|| store.date_by_node_clock(&name, boot_id, start_unix_ns)).await,
            Some(old_ns) => {
                let again = || store.date_again(&name, boot_id, old_ns, start_unix_ns, clock, from_monotonic_ns);
                self.until_stored(again).await
            }
        };
        if let Some(old_ns) = instead_of_ns {
            let step_s = start_unix_ns.saturating_sub(old_ns) / 1_000_000_000;
            warn!(node = name, step_s, "the node's wall clock or the hub's was set, or the node slept");
        }
        if moved.is_some_and(|moved| moved > 0) {
            info!(node = name, moved, "events of the node are dated again");
            self.live.tell(News::Redated { node: name });
        }
    }

    async fn store_event(&mut self, mut event: NewEvent, cut: Result<Cut, NoClip>, watermark: Watermark) {
        let store = self.store.clone();
        if !self.one_event_per_sound {
            event.envelope = None;
        }
        // After a restart an event may be found again. If it is stored, it needs no clip.
        let known = self.until_stored(|| store.knows_event(&event)).await;
        let mut clip = match (known, cut) {
            (None, _) => return,
            (Some(true), _) => Err(NoClip::AudioGone),
            (Some(false), Ok(cut)) => self.clips.keep(cut, &event).await,
            (Some(false), Err(why)) => {
                if why == NoClip::Speech {
                    self.clips.counters().speech.fetch_add(1, Ordering::Relaxed);
                }
                Err(why)
            }
        };
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        let mut last_tries = LAST_TRIES;
        let mut tried_before = false;
        loop {
            let outbox = self.outbox.clone();
            let wait_ns = self.wait_for_others_ns(&event);
            let plan = move |event: &Event| {
                let mut plans = outbox.map_or_else(Vec::new, |outbox| outbox.plan_event(event, now_ns()));
                plans.iter_mut().for_each(|plan| plan.wait_ns = wait_ns);
                plans
            };
            match store.commit_event(event.clone(), clip.clone(), watermark.clone(), plan).await {
                Ok(Committed::Stored(stored)) => {
                    info!(
                        id = stored.id,
                        node = event.node,
                        cat = event.cat,
                        score = event.score,
                        duration_s = stored.duration_s(),
                        clip = clip.is_ok(),
                        "{}",
                        match (stored.is_set_aside(), stored.below_min_score) {
                            (false, _) => "cat heard",
                            (true, None) => "a sound like labelled false alarms",
                            (true, Some(_)) => "a sound below min_score of its node",
                        }
                    );
                    self.clips.stored(stored.id).await;
                    self.tell(stored).await;
                    return;
                }
                Ok(Committed::KnownAlready) => {
                    // If an earlier try failed, the event may have been stored with this very clip, so the clip stays.
                    // If no event uses it, the next start deletes it.
                    if !tried_before {
                        self.give_up_clip(clip).await;
                    }
                    return;
                }
                Err(error) => {
                    tried_before = true;
                    if error.is_disk_full() {
                        // This was rolled back for certain. The database may need the space that the clip takes.
                        self.give_up_clip(std::mem::replace(&mut clip, Err(NoClip::DiskFull))).await;
                    }
                    if !self.wait(&error, &mut backoff, &mut last_tries).await {
                        return;
                    }
                }
            }
        }
    }

    /// How long notifications of an event wait for louder events of the same sound, in nanoseconds. 0: no other node is
    /// live that could have heard it.
    fn wait_for_others_ns(&self, event: &NewEvent) -> i64 {
        let is_other = |node: &WatchedNode| node.name() != event.node && node.report().state == NodeState::Live;
        let waits = event.envelope.is_some() && self.live.nodes().iter().any(|node| is_other(node));
        if waits { i64::try_from(LOUDEST_WAIT.as_nanos()).unwrap_or(i64::MAX) } else { 0 }
    }

    /// Tells watchers of a stored event. A sound that they were told of is told again as the change of the events that
    /// were linked: first those that are not shown, then the one that is.
    async fn tell(&self, stored: Box<Event>) {
        if stored.same_sound_as.is_none() && stored.same_sound.is_empty() {
            self.live.tell(News::Event(stored));
            return;
        }
        let mut changed: Vec<i64> = stored.same_sound.iter().map(|other| other.id).collect();
        changed.extend(stored.same_sound_as);
        let is_shown = stored.same_sound_as.is_none();
        let mut linked = Vec::new();
        for id in changed {
            // If this fails or the event was deleted meanwhile, watchers see the change when they load the event.
            if let Ok(Some(event)) = self.store.event(id).await {
                linked.push(Box::new(event));
            }
        }
        if is_shown && is_new_to_watchers(&stored, linked.iter().map(|event| &**event)) {
            linked.into_iter().for_each(|event| self.live.tell(News::Linked(event)));
            self.live.tell(News::Event(stored));
            return;
        }
        linked.insert(if is_shown { linked.len() } else { 0 }, stored);
        linked.into_iter().for_each(|event| self.live.tell(News::Linked(event)));
    }

    async fn give_up_clip(&self, clip: Result<Clip, NoClip>) {
        if let Ok(clip) = clip {
            self.clips.give_up(clip.file).await;
        }
    }

    /// Tries until it works. `None`: the hub stopped first.
    async fn until_stored<T, F: Future<Output = Result<T, StoreError>>>(
        &mut self,
        mut work: impl FnMut() -> F,
    ) -> Option<T> {
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        let mut last_tries = LAST_TRIES;
        loop {
            match work().await {
                Ok(answer) => return Some(answer),
                Err(error) => {
                    if !self.wait(&error, &mut backoff, &mut last_tries).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits before the next try. `false`: there is none.
    async fn wait(&mut self, error: &StoreError, backoff: &mut Backoff, last_tries: &mut u32) -> bool {
        if let Some(suppressed_lines) = self.failure_log.allow() {
            error!(%error, suppressed_lines, "events and gaps cannot be stored; retrying");
        }
        let wait = backoff.next_wait();
        if self.stop.is_cancelled() {
            *last_tries = last_tries.saturating_sub(1);
            if *last_tries == 0 {
                return false;
            }
            tokio::time::sleep(STORE_AGAIN.0).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
        }
        true
    }

    async fn tidy(&mut self) {
        // Ages mean nothing while the clock is in doubt. Quotas go on.
        let now_ns = self.store.clock().for_deletion_ns();
        let tidied = async {
            self.clips.tidy(now_ns).await?;
            if let Some(now_ns) = now_ns {
                self.store.forget_envelopes(now_ns.saturating_sub(KEEP_ENVELOPES_S * 1_000_000_000)).await?;
                let keep_days = self.events.keep_days;
                let began_before_ns = if keep_days > 0 { days_before(now_ns, keep_days) } else { i64::MIN };
                let deleted_before_ns = now_ns.saturating_sub(REMEMBER_DELETED_DAYS * DAY_NS);
                self.store.forget_old_events(deleted_before_ns, began_before_ns, FORGET_BATCH).await?;
            }
            while self.store.forget_surplus_events(self.events.keep_count, FORGET_BATCH).await? > 0 {}
            Ok::<_, StoreError>(())
        };
        if let Err(error) = tidied.await {
            warn!(%error, "cannot delete old clips and events");
        }
    }
}

/// Whether watchers passed over the sound of `stored` so far: each other event of it scored below the `min_score` of
/// its node. `others` are those events.
fn is_new_to_watchers<'a>(stored: &Event, others: impl IntoIterator<Item = &'a Event>) -> bool {
    let mut others = others.into_iter().peekable();
    let is_low = |event: &Event| event.is_set_aside() && event.below_min_score.is_some();
    !stored.is_set_aside() && others.peek().is_some() && others.all(is_low)
}

#[cfg(test)]
mod tests {
    use hub_store::Access;
    use hub_store::testing::{event, put_with};

    use super::*;

    #[tokio::test]
    async fn sound_that_scored_too_low_elsewhere_is_new_to_watchers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        store.set_min_scores([("kitchen".to_owned(), 0.95)].into());
        let low = put_with(&store, event("kitchen", 16_000), Err(NoClip::Disabled)).await;
        let [hall, attic] = ["hall", "attic"].map(|node| put_with(&store, event(node, 16_000), Err(NoClip::Disabled)));
        let (hall, attic) = (hall.await, attic.await);
        assert!(is_new_to_watchers(&hall, [&low]));
        assert!(!is_new_to_watchers(&low, [&low]), "it is set aside itself");
        assert!(!is_new_to_watchers(&hall, [&low, &attic]), "they know the attic's");
        assert!(!is_new_to_watchers(&hall, []), "the other event could not be read");
    }
}
