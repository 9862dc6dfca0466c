use sound::detection::ContextLabel;
use sound::same_sound::Envelope;

use super::super::{Event, EventFilter, NewEvent, OwnerLabel};
use super::*;
use crate::Access;
use crate::notifications::{ChannelName, NotificationPlan, NotificationState, SuppressReason};
use crate::testing::{clip_of, event, put_for};

const CAT: Option<OwnerLabel> = Some(OwnerLabel::Context(ContextLabel::Brushing));
const NOT_A_CAT: Option<OwnerLabel> = Some(OwnerLabel::NotACat);

struct Home {
    store: Store,
    heard: u64,
    _dir: tempfile::TempDir,
}

impl Home {
    /// The node in the kitchen has this `min_score`, the others have none.
    fn with(min_score: f32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        store.set_min_scores([("kitchen".to_owned(), min_score)].into());
        Self { store, heard: 0, _dir: dir }
    }

    /// Stores a sound that a node heard, at another time than all before; Anna wants to be notified of each.
    async fn hear(&mut self, node: &str, score: f32) -> Event {
        self.heard += 1;
        self.put(NewEvent { score, ..event(node, self.heard * 16_000) }).await
    }

    async fn put(&self, found: NewEvent) -> Event {
        let clip = Ok(clip_of(&found));
        let channels = vec![ChannelName { name: "phone".into(), kind: "ntfy".into() }];
        let (owner, digest_due_ns) = ("Anna".to_owned(), Some(7));
        let plan = NotificationPlan { owner, channels, cooldown_ns: 0, hold: None, digest_due_ns, wait_ns: 0 };
        put_for(&self.store, found, clip, vec![plan]).await
    }

    async fn label(&self, event: &Event, label: Option<OwnerLabel>) {
        self.store.label_event(event.id, label).await.unwrap().unwrap();
    }

    async fn listed(&self, announced: bool) -> Vec<i64> {
        let filter = EventFilter { announced: Some(announced), ..EventFilter::default() };
        self.store.events(&filter, None, 100).await.unwrap().events.iter().map(|event| event.id).collect()
    }

    async fn counted(&self) -> usize {
        self.store.tallies(&EventFilter::default()).await.unwrap().len()
    }

    async fn notifications(&self, state: NotificationState) -> Vec<(i64, Option<SuppressReason>)> {
        let all = self.store.notifications(Some(state), None, 100).await.unwrap();
        all.iter().filter_map(|one| Some((one.subject.event_id()?, one.reason))).collect()
    }

    async fn preview(&self, node: &str, min_score: f32) -> ScorePreview {
        self.store.preview_min_score(node, min_score, 0, i64::MAX).await.unwrap()
    }
}

#[tokio::test]
async fn event_below_the_min_score_of_its_node_is_stored_and_neither_announced_nor_counted() {
    let mut home = Home::with(0.8);
    let low = home.hear("kitchen", 0.79).await;
    assert_eq!((low.below_min_score, low.is_set_aside(), low.clip.is_ok()), (Some(0.8), true, true));
    let suppressed = home.notifications(NotificationState::Suppressed).await;
    assert_eq!(suppressed, [(low.id, Some(SuppressReason::BelowMinScore))]);
    assert!(!home.store.digest_is_due(i64::MAX).await.unwrap(), "no digest counts it");

    let enough = home.hear("kitchen", 0.8).await;
    let elsewhere = home.hear("attic", 0.5).await;
    assert_eq!((enough.below_min_score, elsewhere.below_min_score), (None, None));
    assert_eq!(home.notifications(NotificationState::Pending).await, [(elsewhere.id, None), (enough.id, None)]);
    assert_eq!((home.listed(false).await, home.counted().await), (vec![low.id], 2));
    assert_eq!(home.listed(true).await, [elsewhere.id, enough.id]);
    // A label says that it was a cat after all.
    home.label(&low, CAT).await;
    assert_eq!((home.listed(false).await, home.counted().await), (vec![], 3));
}

#[tokio::test]
async fn later_min_score_changes_no_stored_event() {
    let mut home = Home::with(0.8);
    let (low, high) = (home.hear("kitchen", 0.6).await, home.hear("kitchen", 0.9).await);
    for min_scores in [[("kitchen".to_owned(), 0.95)].into(), HashMap::new()] {
        home.store.set_min_scores(min_scores);
        let as_stored = async |event: &Event| home.store.event(event.id).await.unwrap().unwrap().below_min_score;
        assert_eq!((as_stored(&low).await, as_stored(&high).await), (Some(0.8), None));
    }
    assert_eq!(home.hear("kitchen", 0.6).await.below_min_score, None, "later events follow the later setting");
}

#[tokio::test]
async fn recovered_event_is_marked_too() {
    let home = Home::with(0.95);
    let found = event("kitchen", 16_000);
    let clip = clip_of(&found);
    home.store.commit_recovered(found, None, clip).await.unwrap();
    assert_eq!(home.store.event(1).await.unwrap().unwrap().below_min_score, Some(0.95));
}

/// A sound that scores 0.7 at each node, by the recording of this one.
fn heard(node: &str, rms_dbfs: f32) -> NewEvent {
    let samples: Vec<i16> = (0..8_000_i16).map(|n| n.wrapping_mul(n)).collect();
    let mut found = NewEvent { envelope: Some(Box::new(Envelope::of(&samples))), ..event(node, 16_000) };
    (found.score, found.measurements.rms_dbfs) = (0.7, rms_dbfs);
    found
}

#[tokio::test]
async fn announced_event_stays_shown_when_clips_go() {
    for kitchen_is_first in [true, false] {
        let home = Home::with(0.8);
        let (kitchen, hall) = (heard("kitchen", -20.0), heard("hall", -40.0));
        let (first, second) = if kitchen_is_first { (kitchen, hall) } else { (hall, kitchen) };
        let ids = [home.put(first).await.id, home.put(second).await.id];
        let hall = ids[usize::from(kitchen_is_first)];
        for _ in 0..2 {
            assert_eq!(home.store.retire_oldest_clips(1).await.unwrap().len(), 1);
            assert_eq!((home.listed(true).await, home.counted().await), (vec![hall], 1), "{kitchen_is_first}");
        }
    }
}

#[tokio::test]
async fn announced_event_of_another_node_is_shown_when_the_shown_one_is_deleted() {
    let home = Home::with(0.8);
    let kitchen = home.put(heard("kitchen", -20.0)).await.id;
    let hall = home.put(heard("hall", -30.0)).await.id;
    let attic = home.put(heard("attic", -40.0)).await.id;
    assert_eq!(home.listed(true).await, [hall]);
    home.store.delete_event(hall).await.unwrap();
    assert_eq!((home.listed(true).await, home.counted().await), (vec![attic], 1));
    let low = home.store.event(kitchen).await.unwrap().unwrap();
    assert_eq!(low.same_sound_as, Some(attic));
}

#[tokio::test]
async fn sound_that_scores_enough_at_another_node_is_announced_and_shown_from_there() {
    // The kitchen's recording is the louder one.
    for kitchen_is_first in [true, false] {
        let home = Home::with(0.8);
        let (first, second) = if kitchen_is_first {
            (home.put(heard("kitchen", -20.0)).await, home.put(heard("hall", -40.0)).await)
        } else {
            (home.put(heard("hall", -40.0)).await, home.put(heard("kitchen", -20.0)).await)
        };
        let (kitchen, hall) = if kitchen_is_first { (first.id, second.id) } else { (second.id, first.id) };
        let stored = home.store.event(kitchen).await.unwrap().unwrap();
        assert_eq!((stored.same_sound_as, stored.below_min_score), (Some(hall), Some(0.8)), "{kitchen_is_first}");
        assert_eq!(home.notifications(NotificationState::Pending).await, [(hall, None)], "{kitchen_is_first}");
        assert_eq!((home.listed(true).await, home.counted().await), (vec![hall], 1), "{kitchen_is_first}");
    }
}

#[tokio::test]
async fn preview_counts_what_another_min_score_would_have_announced() {
    let mut home = Home::with(0.6);
    for score in [0.5, 0.55, 0.65, 0.75, 0.85, 0.95] {
        home.hear("kitchen", score).await;
    }
    home.hear("attic", 0.99).await;
    let (cat, no_cat) = (home.hear("kitchen", 0.7).await, home.hear("kitchen", 0.62).await);
    home.label(&cat, CAT).await;
    home.label(&no_cat, NOT_A_CAT).await;
    let gone = home.hear("kitchen", 0.9).await;
    home.store.delete_event(gone.id).await.unwrap();

    let higher = home.preview("kitchen", 0.8).await;
    let expected = ScorePreview { events: 2, events_at_present: 6, cats_missed: 1, false_alarms_spared: 1 };
    assert_eq!(higher, expected);
    let lower = home.preview("kitchen", 0.55).await;
    assert_eq!((lower.events, lower.events_at_present, lower.cats_missed), (7, 6, 0));
    let present = home.preview("kitchen", 0.6).await;
    assert_eq!(present.events, present.events_at_present);
    let before = home.store.preview_min_score("kitchen", 0.0, 0, event("kitchen", 16_000).started_at_ns).await;
    assert_eq!(before.unwrap(), ScorePreview::default());
    assert_eq!(home.preview("cellar", 0.0).await, ScorePreview::default());
}
