use sound::context::Features;
use sound::detection::ContextLabel;
use sound::testing::features;

use super::super::{Event, EventFilter, NewEvent, OwnerLabel};
use crate::notifications::{ChannelName, NotificationPlan, NotificationState, SuppressReason};
use crate::testing::{as_if_another_network_heard, clip_of, event, put_for};
use crate::{Access, Store};

const DOOR: u32 = 1;
const CAT: u32 = 3;
const NOT_A_CAT: Option<OwnerLabel> = Some(OwnerLabel::NotACat);

struct Home {
    store: Store,
    heard: u64,
    _dir: tempfile::TempDir,
}

impl Home {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path(), Access::Keeper).unwrap(), heard: 0, _dir: dir }
    }

    /// Stores a sound that a node heard; Anna wants to be notified of each.
    async fn hear(&mut self, node: &str, voice: u32) -> Event {
        self.heard += 1;
        let made = features(voice, 0);
        // Far from the mean meow, so that voices do not share the direction from there.
        let sound = Features { embedding: made.embedding.map(|number| 100.0 * number), ..made };
        let found = NewEvent { features: Some(Box::new(sound)), ..event(node, self.heard * 16_000) };
        let clip = Ok(clip_of(&found));
        let plan = NotificationPlan {
            owner: "Anna".into(),
            channels: vec![ChannelName { name: "webhook".into(), kind: "webhook".into() }],
            cooldown_ns: 0,
            hold: None,
            digest_due_ns: Some(7),
            wait_ns: 0,
        };
        put_for(&self.store, found, clip, vec![plan]).await
    }

    async fn label(&self, event: &Event, label: Option<OwnerLabel>) {
        self.store.label_event(event.id, label).await.unwrap().unwrap();
    }

    /// Hears the door twice, and labels both.
    async fn teach(&mut self) -> (Event, Event) {
        let (first, second) = (self.hear("kitchen", DOOR).await, self.hear("kitchen", DOOR).await);
        self.label(&first, NOT_A_CAT).await;
        self.label(&second, NOT_A_CAT).await;
        (first, second)
    }

    async fn listed(&self, announced: bool) -> Vec<i64> {
        let filter = EventFilter { announced: Some(announced), ..EventFilter::default() };
        self.store.events(&filter, None, 100).await.unwrap().events.iter().map(|event| event.id).collect()
    }

    async fn counted(&self) -> usize {
        self.store.tallies(&EventFilter::default()).await.unwrap().len()
    }
}

#[tokio::test]
async fn sound_like_two_labelled_ones_is_stored_and_neither_announced_nor_counted() {
    let mut home = Home::open();
    let (first, second) = home.teach().await;
    let like = home.hear("kitchen", DOOR).await;
    assert_eq!(like.like_false_alarms, [second.id, first.id], "the latest label first");
    assert!(like.is_set_aside() && like.clip.is_ok());
    let held = home.store.notifications(Some(NotificationState::Suppressed), None, 100).await.unwrap();
    let about = held.iter().find(|one| one.subject.event_id() == Some(like.id)).unwrap();
    assert_eq!(about.reason, Some(SuppressReason::LikeNotACat));
    assert!(!home.store.digest_is_due(i64::MAX).await.unwrap(), "no digest counts it");

    let meow = home.hear("kitchen", CAT).await;
    assert_eq!(meow.like_false_alarms, [0_i64; 0], "unlike");
    let elsewhere = home.hear("attic", DOOR).await;
    assert!(!elsewhere.is_set_aside(), "another node");
    let pending = home.store.notifications(Some(NotificationState::Pending), None, 100).await.unwrap();
    let pending: Vec<_> = pending.iter().filter_map(|one| one.subject.event_id()).collect();
    assert_eq!(pending, [elsewhere.id, meow.id]);
    assert_eq!((home.listed(false).await, home.counted().await), (vec![like.id], 2));
    assert_eq!(home.listed(true).await, [elsewhere.id, meow.id, second.id, first.id]);
}

#[tokio::test]
async fn one_label_sets_nothing_aside_and_removed_labels_do_not_either() {
    let mut home = Home::open();
    let first = home.hear("kitchen", DOOR).await;
    home.label(&first, NOT_A_CAT).await;
    let second = home.hear("kitchen", DOOR).await;
    assert!(!second.is_set_aside(), "one label");
    home.label(&second, NOT_A_CAT).await;
    let third = home.hear("kitchen", DOOR).await;
    assert!(third.is_set_aside());

    home.label(&first, None).await;
    assert!(!home.hear("kitchen", DOOR).await.is_set_aside(), "one label is left");
    let as_stored = home.store.event(third.id).await.unwrap().unwrap();
    assert_eq!(as_stored.like_false_alarms, [second.id, first.id], "a stored event stays as it is");

    home.label(&first, NOT_A_CAT).await;
    assert!(home.hear("kitchen", DOOR).await.is_set_aside());
    home.store.delete_event(second.id).await.unwrap();
    assert!(!home.hear("kitchen", DOOR).await.is_set_aside(), "a deleted event teaches nothing");
}

#[tokio::test]
async fn sound_that_the_owner_labels_as_a_cat_is_counted_and_teaches() {
    let mut home = Home::open();
    home.teach().await;
    let like = home.hear("kitchen", DOOR).await;
    assert_eq!(home.counted().await, 0);
    home.label(&like, Some(OwnerLabel::Context(ContextLabel::Brushing))).await;
    assert_eq!((home.counted().await, home.listed(false).await), (1, vec![]));
    assert!(!home.hear("kitchen", DOOR).await.is_set_aside(), "the owner's cat sounds like that");
}

#[tokio::test]
async fn switched_off_it_sets_nothing_aside() {
    let mut home = Home::open();
    home.teach().await;
    home.store.set_aside_false_alarms(false);
    let sound = home.hear("kitchen", DOOR).await;
    assert!(!sound.is_set_aside());
    let features = sound.found.features.unwrap();
    assert!(home.store.false_alarms("kitchen").await.unwrap().like(&features).is_empty());
    home.store.set_aside_false_alarms(true);
    assert_eq!(home.store.false_alarms("kitchen").await.unwrap().like(&features).len(), 2);
}

#[tokio::test]
async fn labels_of_another_network_teach_nothing_and_are_to_be_heard_again() {
    let mut home = Home::open();
    let (first, second) = home.teach().await;
    as_if_another_network_heard(&home.store, i64::MAX).await;
    assert!(!home.hear("kitchen", DOOR).await.is_set_aside());
    let again = home.store.labelled_of_another_network(10).await.unwrap();
    assert_eq!(again.iter().map(|event| event.id).collect::<Vec<_>>(), [second.id, first.id]);
}
