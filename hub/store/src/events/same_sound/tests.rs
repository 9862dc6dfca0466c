use super::super::{Event, EventFilter, NewEvent, NoClip, OwnerLabel, SameSound};
use super::*;
use crate::notifications::{ChannelName, NotificationState};
use crate::testing::{clip_of, envelope, open, put_for, same_meow, watermark};

const MS_NS: i64 = 1_000_000;

/// What a node heard of one meow, if its clock is ahead by this many milliseconds.
fn meow(node: &str, ahead_ms: i64, rms_dbfs: f32) -> NewEvent {
    let mut heard = same_meow(node, rms_dbfs);
    heard.started_at_ns += ahead_ms * MS_NS;
    heard.ended_at_ns += ahead_ms * MS_NS;
    heard
}

fn plan(owner: &str, wait_ns: i64) -> NotificationPlan {
    let channels = vec![ChannelName { name: "phone".into(), kind: "ntfy".into() }];
    NotificationPlan { owner: owner.into(), channels, cooldown_ns: 0, hold: None, wait_ns, digest_due_ns: None }
}

/// Stores an event that Anna is to be notified of.
async fn put(store: &Store, found: NewEvent) -> Event {
    let clip = Ok(clip_of(&found));
    put_for(store, found, clip, vec![plan("Anna", 0)]).await
}

async fn ids(store: &Store, filter: EventFilter) -> Vec<i64> {
    store.events(&filter, None, 100).await.unwrap().events.iter().map(|event| event.id).collect()
}

/// The events that notifications are about.
async fn notified(store: &Store) -> Vec<i64> {
    let sql = "SELECT event_id FROM notices ORDER BY id";
    let read = move |db: &rusqlite::Connection| {
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<Vec<i64>, _>>()?)
    };
    store.read(read).await.unwrap()
}

#[tokio::test]
async fn what_two_nodes_hear_is_one_event_with_the_loudest_clip() {
    let (_dir, store) = open();
    let far = put(&store, meow("hall", 0, -40.0)).await;
    let near = put(&store, meow("kitchen", 180, -20.0)).await;
    assert_eq!((near.same_sound_as, near.also_heard_by()), (None, vec!["hall"]));
    assert_eq!(near.same_sound, [SameSound { id: far.id, node: "hall".into() }]);
    let far = store.event(far.id).await.unwrap().unwrap();
    assert_eq!((far.same_sound_as, far.also_heard_by()), (Some(near.id), vec![]));
    // A third node hears it least, and changes nothing but the list.
    let third = put(&store, meow("attic", -150, -50.0)).await;
    assert_eq!(third.same_sound_as, Some(near.id));
    assert_eq!(ids(&store, EventFilter::default()).await, [near.id]);
    assert_eq!(ids(&store, EventFilter { linked: true, ..EventFilter::default() }).await.len(), 3);
    assert_eq!(store.tallies(&EventFilter::default()).await.unwrap().len(), 1);
    assert_eq!(store.events_stored_after(0, 9).await.unwrap().len(), 1);
    for node in ["hall", "kitchen", "attic"] {
        let of_node = EventFilter { node: Some(node.into()), ..EventFilter::default() };
        assert_eq!(ids(&store, of_node).await, [near.id], "{node}");
    }
}

#[tokio::test]
async fn other_sounds_and_the_same_node_are_events_of_their_own() {
    let (_dir, store) = open();
    let one = put(&store, meow("hall", 0, -40.0)).await;
    let others = [
        NewEvent { envelope: envelope(1_500.0, 500.0), ..meow("kitchen", 0, -20.0) },
        meow("attic", 700, -20.0),
        NewEvent { start_sample: 32_000, end_sample: 40_000, ..meow("hall", 100, -20.0) },
        NewEvent { envelope: None, ..meow("cellar", 0, -20.0) },
    ];
    for other in others {
        let stored = put(&store, other).await;
        assert_eq!((stored.same_sound_as, stored.same_sound), (None, vec![]), "{}", stored.found.node);
    }
    assert_eq!(store.event(one.id).await.unwrap().unwrap().same_sound, []);
}

#[tokio::test]
async fn owner_is_notified_once_of_the_event_that_is_shown() {
    let (_dir, store) = open();
    put(&store, meow("hall", 0, -40.0)).await;
    let near = put(&store, meow("kitchen", 50, -20.0)).await;
    assert_eq!(notified(&store).await, [near.id]);
    let due = store.due_notifications("Anna", "phone", i64::MAX, 9).await.unwrap();
    assert_eq!((due.len(), due[0].state), (1, NotificationState::Pending));
    assert_eq!(due[0].subject, near.subject());
    // Bert's rules let only the third node's event through.
    let third = meow("attic", 0, -50.0);
    let mark = watermark("attic", third.end_sample);
    let plans = |_: &Event| vec![plan("Anna", 0), plan("Bert", 0)];
    store.commit_event(third, Err(NoClip::Disabled), mark, plans).await.unwrap();
    assert_eq!(store.due_notifications("Anna", "phone", i64::MAX, 9).await.unwrap().len(), 1);
    assert_eq!(store.due_notifications("Bert", "phone", i64::MAX, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn late_node_links_to_the_stored_event_after_it_was_delivered() {
    let (_dir, store) = open();
    let first = put(&store, meow("hall", 0, -40.0)).await;
    let due = store.due_notifications("Anna", "phone", i64::MAX, 9).await.unwrap();
    store.notification_delivered(due[0].id, 1).await.unwrap();
    let late = put(&store, meow("kitchen", 0, -20.0)).await;
    assert_eq!(late.same_sound[0].id, first.id);
    // What was delivered stays as it was delivered.
    assert_eq!(notified(&store).await, [first.id]);
}

#[tokio::test]
async fn notification_waits_as_planned() {
    let (_dir, store) = open();
    let heard = meow("hall", 0, -40.0);
    let mark = watermark("hall", heard.end_sample);
    let before_ns = hub_base::time::now_ns();
    store.commit_event(heard, Err(NoClip::Disabled), mark, |_| vec![plan("Anna", 2_000 * MS_NS)]).await.unwrap();
    let due = async |at_ns| store.due_notifications("Anna", "phone", at_ns, 9).await.unwrap().len();
    assert_eq!(due(before_ns + 1_999 * MS_NS).await, 0);
    assert_eq!(due(hub_base::time::now_ns() + 2_000 * MS_NS).await, 1);
}

#[tokio::test]
async fn when_the_shown_event_goes_the_loudest_of_the_others_is_shown() {
    let (_dir, store) = open();
    let [hall, kitchen, attic] = [("hall", -40.0), ("kitchen", -20.0), ("attic", -30.0)];
    let (hall, kitchen) =
        (put(&store, meow(hall.0, 0, hall.1)).await, put(&store, meow(kitchen.0, 0, kitchen.1)).await);
    let attic = put(&store, meow(attic.0, 0, attic.1)).await;
    store.delete_event(kitchen.id).await.unwrap();
    assert_eq!(ids(&store, EventFilter::default()).await, [attic.id]);
    let shown = store.event(attic.id).await.unwrap().unwrap();
    assert_eq!((shown.same_sound_as, shown.also_heard_by()), (None, vec!["hall"]));
    // Its clip goes: the one that has a clip is shown, and names it.
    store.clips_are_missing(vec![clip_of(&attic.found).file]).await.unwrap();
    let shown = store.event(hall.id).await.unwrap().unwrap();
    assert_eq!((shown.same_sound_as, shown.also_heard_by()), (None, vec!["attic"]));
    // No other has a clip: it stays.
    store.clips_are_missing(vec![clip_of(&hall.found).file]).await.unwrap();
    assert_eq!(ids(&store, EventFilter::default()).await, [hall.id]);
    store.forget_old_events(i64::MAX, i64::MAX, 100).await.unwrap();
    assert_eq!(ids(&store, EventFilter { linked: true, ..EventFilter::default() }).await, Vec::<i64>::new());
}

#[tokio::test]
async fn labelled_event_stays_shown() {
    let (_dir, store) = open();
    let first = put(&store, meow("hall", 0, -40.0)).await;
    store.label_event(first.id, Some(OwnerLabel::NotACat)).await.unwrap();
    let louder = put(&store, meow("kitchen", 0, -20.0)).await;
    assert_eq!(louder.same_sound_as, Some(first.id));
    assert_eq!(store.tallies(&EventFilter::default()).await.unwrap(), []);
}

#[tokio::test]
async fn envelopes_go_after_their_time_and_links_stay() {
    let (_dir, store) = open();
    put(&store, meow("hall", 0, -40.0)).await;
    let near = put(&store, meow("kitchen", 0, -20.0)).await;
    assert_eq!(store.forget_envelopes(near.found.started_at_ns).await.unwrap(), 0);
    assert_eq!(store.forget_envelopes(near.found.started_at_ns + 1).await.unwrap(), 2);
    assert_eq!(put(&store, meow("attic", 0, -10.0)).await.same_sound, []);
    assert_eq!(store.event(near.id).await.unwrap().unwrap().also_heard_by(), ["hall"]);
}
