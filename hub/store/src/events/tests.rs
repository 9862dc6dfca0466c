use rusqlite::params;
use sound::detection::ContextLabel;
use sound::testing::features;

use super::*;
use crate::testing::{self, as_if_another_network_heard, clip_of, event, open, put_with, watermark};
use crate::{Access, Store};

const SECOND_NS: i64 = 1_000_000_000;

async fn put(store: &Store, event: NewEvent) -> Event {
    let clip = Ok(clip_of(&event));
    put_with(store, event, clip).await
}

async fn listed(store: &Store, filter: EventFilter) -> Vec<u64> {
    let page = store.events(&filter, None, 100).await.unwrap();
    page.events.iter().map(|event| event.found.start_sample).collect()
}

#[tokio::test]
async fn stored_event_is_read_back_unchanged() {
    let (_dir, store) = open();
    let found = event("kitchen", 16_000);
    let stored = put(&store, found.clone()).await;
    assert_eq!(stored.found, found);
    assert_eq!(stored.clip, Ok(clip_of(&found)));
    assert_eq!(store.event(stored.id).await.unwrap().as_ref(), Some(&stored));
    assert_eq!(store.watermark("kitchen").await.unwrap(), Some(watermark("kitchen", found.end_sample)));
    assert_eq!(store.watermark("hall").await.unwrap(), None);
}

#[tokio::test]
async fn event_that_is_found_again_is_known_and_moves_only_the_watermark() {
    let (_dir, store) = open();
    put(&store, event("kitchen", 16_000)).await;
    let again = NewEvent { start_sample: 15_040, end_sample: 24_320, ..event("kitchen", 16_000) };
    assert!(store.knows_event(&again).await.unwrap());
    let mark = watermark("kitchen", 30_000);
    let committed = store.commit_event(again, Err(NoClip::Disabled), mark, |_| vec![]).await.unwrap();
    assert_eq!(committed, Committed::KnownAlready);
    assert_eq!(store.watermark("kitchen").await.unwrap().unwrap().settled_sample, 30_000);
    // Next to it, on another node, or after another start of the node, it is another event.
    for other in [event("kitchen", 24_000), event("hall", 16_000), NewEvent { boot_id: 7, ..event("kitchen", 16_000) }]
    {
        assert!(!store.knows_event(&other).await.unwrap(), "{other:?}");
    }
}

#[tokio::test]
async fn watermark_of_a_boot_does_not_move_back() {
    let (_dir, store) = open();
    let at = |settled_sample| vec![Progress { watermark: watermark("kitchen", settled_sample), gaps: vec![] }];
    for settled_sample in [64_000, 32_000] {
        store.commit_progress(at(settled_sample)).await.unwrap();
    }
    assert_eq!(store.watermark("kitchen").await.unwrap(), Some(watermark("kitchen", 64_000)));
}

#[tokio::test]
async fn deleted_event_does_not_come_back() {
    let (_dir, store) = open();
    let stored = put(&store, event("kitchen", 16_000)).await;
    let file = clip_of(&stored.found).file;
    assert_eq!(store.delete_event(stored.id).await.unwrap(), Some(Some(file)));
    assert_eq!(store.delete_event(stored.id).await.unwrap(), None);
    assert_eq!(store.event(stored.id).await.unwrap(), None);
    assert_eq!(store.clip_totals().await.unwrap(), ClipTotals::default());
    assert!(listed(&store, EventFilter::default()).await.is_empty());
    let mark = watermark("kitchen", 1);
    let again = store.commit_event(stored.found, Err(NoClip::Disabled), mark, |_| vec![]).await.unwrap();
    assert_eq!(again, Committed::KnownAlready);
}

#[tokio::test]
async fn each_filter_returns_the_matching_events() {
    let (_dir, store) = open();
    let first = put(&store, event("kitchen", 0)).await;
    put(&store, NewEvent { score: 0.6, ..event("hall", 16_000) }).await;
    put(&store, NewEvent { cat: "Ginny".into(), ..event("kitchen", 32_000) }).await;
    store.label_event(first.id, Some(OwnerLabel::NotACat)).await.unwrap();
    let at = |sample| Some(event("", sample).started_at_ns);
    let all = EventFilter::default();
    let cases = [
        (all.clone(), vec![32_000, 16_000, 0]),
        (EventFilter { cat: Some("Ginny".into()), ..all.clone() }, vec![32_000]),
        (EventFilter { node: Some("kitchen".into()), ..all.clone() }, vec![32_000, 0]),
        (EventFilter { from_ns: at(16_000), ..all.clone() }, vec![32_000, 16_000]),
        (EventFilter { to_ns: at(16_000), ..all.clone() }, vec![0]),
        (EventFilter { min_score: Some(0.7), ..all.clone() }, vec![32_000, 0]),
        (EventFilter { counts_as: Some(OwnerLabel::NotACat), ..all.clone() }, vec![0]),
        (EventFilter { counts_as: Some("isolation".parse().unwrap()), ..all.clone() }, vec![32_000, 16_000]),
        (EventFilter { node: Some("hall".into()), from_ns: at(16_001), ..all.clone() }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(listed(&store, filter.clone()).await, expected, "{filter:?}");
    }
    let counted = store.tallies(&all).await.unwrap();
    assert_eq!(counted.len(), 2, "an event that is no cat is counted");
}

#[tokio::test]
async fn pages_hold_every_event_once() {
    let (_dir, store) = open();
    for n in 0..25 {
        // Two events of each time, so that a cursor by time alone would skip the second.
        put(&store, NewEvent { started_at_ns: n / 2, ..event("kitchen", n.cast_unsigned() * 16_000) }).await;
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.events(&EventFilter::default(), after, 4).await.unwrap();
        seen.extend(page.events.iter().map(|event| event.id));
        pages += 1;
        match page.next {
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, (1..=25).rev().collect::<Vec<i64>>());
    assert_eq!(pages, 7);
}

#[tokio::test]
async fn labels_are_kept_with_their_history_and_can_be_removed() {
    let (_dir, store) = open();
    let id = put(&store, event("kitchen", 0)).await.id;
    let labelled = store.label_event(id, Some("brushing".parse().unwrap())).await.unwrap().unwrap();
    assert_eq!(labelled.counts_as().as_str(), "brushing");
    assert!(labelled.labelled_at_ns.is_some());
    let bare = store.label_event(id, None).await.unwrap().unwrap();
    assert_eq!((bare.label, bare.labelled_at_ns, bare.counts_as().as_str()), (None, None, "isolation"));
    let words: i64 =
        store.read(|db| Ok(db.query_row("SELECT count(*) FROM event_labels", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(words, 2);
    assert_eq!(store.label_event(99, None).await.unwrap(), None);
}

#[tokio::test]
async fn label_changes_are_listed_in_order_without_those_of_deleted_events() {
    let (_dir, store) = open();
    let (kept, deleted) = (put(&store, event("kitchen", 0)).await.id, put(&store, event("kitchen", 16_000)).await.id);
    let brushing = Some(OwnerLabel::Context(ContextLabel::Brushing));
    store.label_event(kept, brushing).await.unwrap();
    store.label_event(deleted, brushing).await.unwrap();
    store.label_event(kept, None).await.unwrap();
    store.delete_event(deleted).await.unwrap();
    let now = store.event(kept).await.unwrap().unwrap();
    let changes = store.label_changes(0, 10).await.unwrap();
    let labels: Vec<_> = changes.iter().map(|change| (change.id, change.label)).collect();
    assert_eq!(labels, [(1, brushing), (3, None)]);
    assert!(changes[0].changed_at_ns > 0 && changes[0].changed_at_ns <= changes[1].changed_at_ns);
    assert!(changes.iter().all(|change| change.event == now), "the event is not as it is now");
    assert_eq!(store.label_changes(1, 10).await.unwrap(), changes[1..]);
    assert_eq!(store.label_changes(0, 1).await.unwrap(), changes[..1]);
}

#[tokio::test]
async fn gap_that_continues_is_one_gap() {
    let (_dir, store) = open();
    let gap = |first_sequence, frames, reason| NewGap {
        node: "kitchen".into(),
        boot_id: 9,
        first_sequence,
        frame_count: frames,
        reason,
        detail: String::new(),
    };
    let gaps = vec![
        gap(10, Some(5), GapReason::DeviceLost),
        gap(15, Some(5), GapReason::DeviceLost),
        gap(20, Some(5), GapReason::Overrun),
        gap(30, None, GapReason::NodeRestarted),
    ];
    let again = vec![gap(12, Some(8), GapReason::DeviceLost), gap(30, None, GapReason::NodeRestarted)];
    for gaps in [gaps, again] {
        store.commit_progress(vec![Progress { watermark: watermark("kitchen", 8_000), gaps }]).await.unwrap();
    }
    let stored = store.gaps(Some("kitchen"), 10).await.unwrap();
    assert_eq!(
        stored,
        [
            gap(30, None, GapReason::NodeRestarted),
            gap(20, Some(5), GapReason::Overrun),
            gap(10, Some(10), GapReason::DeviceLost)
        ]
    );
    assert_eq!(store.gaps(Some("hall"), 10).await.unwrap(), []);
}

#[tokio::test]
async fn times_of_the_hubs_clock_are_corrected_once_the_node_knows_the_time() {
    let (_dir, store) = open();
    put(&store, NewEvent { clock: EventClock::Hub, ..event("kitchen", 16_000) }).await;
    let sure = put(&store, event("kitchen", 48_000)).await;
    assert_eq!(store.date_by_node_clock("kitchen", u64::MAX - 3, 5_000).await.unwrap(), 1);
    let page = store.events(&EventFilter::default(), None, 10).await.unwrap();
    let moved = &page.events[1].found;
    assert_eq!((moved.started_at_ns, moved.ended_at_ns), (5_000 + SECOND_NS, 5_000 + SECOND_NS + SECOND_NS / 2));
    assert_eq!(moved.clock, EventClock::Node);
    assert_eq!(page.events[0], sure);
}

#[tokio::test]
async fn events_dated_by_a_wrong_start_move_to_the_right_one() {
    let (_dir, store) = open();
    let wrong = put(&store, event("kitchen", 16_000)).await.found;
    let late = put(&store, NewEvent { started_at_ns: wrong.started_at_ns + 9 * SECOND_NS, ..event("kitchen", 48_000) });
    let right = late.await.found;
    let other_boot = put(&store, NewEvent { boot_id: 9, ..event("kitchen", 80_000) }).await.found;
    let start_ns = wrong.started_at_ns - wrong.started_monotonic_ns.cast_signed();
    let moved = store.date_again("kitchen", wrong.boot_id, start_ns, start_ns + 10 * SECOND_NS, EventClock::Hub, 0);
    assert_eq!(moved.await.unwrap(), 1);
    let times = async |id| {
        let found = store.event(id).await.unwrap().unwrap().found;
        (found.started_at_ns, found.ended_at_ns, found.clock)
    };
    let by = 10 * SECOND_NS;
    assert_eq!(times(1).await, (wrong.started_at_ns + by, wrong.ended_at_ns + by, EventClock::Hub));
    assert_eq!(times(2).await, (right.started_at_ns, right.ended_at_ns, EventClock::Node), "nearer to the new start");
    assert_eq!(times(3).await, (other_boot.started_at_ns, other_boot.ended_at_ns, EventClock::Node));
}

#[tokio::test]
async fn oldest_clips_are_retired_and_their_events_stay() {
    let (_dir, store) = open();
    for n in 0..5 {
        put(&store, event("kitchen", n * 16_000)).await;
    }
    assert_eq!(store.clip_totals().await.unwrap(), ClipTotals { count: 5, bytes: 5_000 });
    let retired = store.retire_oldest_clips(2).await.unwrap();
    assert_eq!(
        retired.iter().map(|clip| clip.file.as_str()).collect::<Vec<_>>(),
        ["kitchen-0.wav", "kitchen-16000.wav"]
    );
    let before = event("", 48_000).started_at_ns;
    assert_eq!(store.retire_clips_before(before, 10).await.unwrap().len(), 1);
    assert_eq!(store.clip_totals().await.unwrap(), ClipTotals { count: 2, bytes: 2_000 });
    assert_eq!(store.clip_files().await.unwrap().len(), 2);
    let page = store.events(&EventFilter::default(), None, 10).await.unwrap();
    assert_eq!(page.events.iter().filter(|event| event.clip == Err(NoClip::Expired)).count(), 3);
    store.clips_are_missing(vec!["kitchen-64000.wav".into()]).await.unwrap();
    assert_eq!(store.event(5).await.unwrap().unwrap().clip, Err(NoClip::Missing));
}

#[tokio::test]
async fn quotas_remove_what_was_stored_first_whatever_its_date() {
    let (_dir, store) = open();
    // The first was stored while the clock was ahead.
    for n in [9, 0, 1] {
        put(&store, event("kitchen", n * 16_000)).await;
    }
    assert_eq!(store.retire_oldest_clips(1).await.unwrap()[0].file, "kitchen-144000.wav");
    store.retire_oldest_clips(2).await.unwrap();
    assert_eq!(store.forget_surplus_events(2, 100).await.unwrap(), 1);
    assert_eq!(listed(&store, EventFilter::default()).await, [16_000, 0]);
}

#[tokio::test]
async fn retention_removes_old_deleted_and_surplus_events_without_clips() {
    let (_dir, store) = open();
    for n in 0..6 {
        put(&store, event("kitchen", n * 16_000)).await;
    }
    store.delete_event(6).await.unwrap();
    assert_eq!(store.forget_old_events(0, 0, 100).await.unwrap(), 0);
    assert_eq!(store.forget_old_events(i64::MAX, 0, 100).await.unwrap(), 1, "the deleted one");
    assert_eq!(store.forget_old_events(0, i64::MAX, 100).await.unwrap(), 0, "all have clips");
    store.retire_oldest_clips(3).await.unwrap();
    assert_eq!(store.forget_old_events(0, event("", 16_000).started_at_ns, 100).await.unwrap(), 1);
    assert_eq!(store.forget_surplus_events(3, 100).await.unwrap(), 1);
    assert_eq!(listed(&store, EventFilter::default()).await, [64_000, 48_000, 32_000]);
}

/// Stores a vocalisation of Tom in one of several voices, and returns the event's number.
async fn vocalise(store: &Store, voice: u32, take: u32) -> i64 {
    put(store, testing::vocalisation("kitchen", voice, take)).await.id
}

async fn context_of(store: &Store, id: i64) -> (ContextLabel, u32) {
    let event = store.event(id).await.unwrap().unwrap();
    (event.found.context.label, event.context_labels)
}

#[tokio::test]
async fn labels_teach_about_later_events_of_this_cat_and_move_no_stored_one() {
    let (dir, store) = open();
    let (chirp, growl) = (vocalise(&store, 1, 0).await, vocalise(&store, 2, 0).await);
    let others = put(&store, NewEvent { cat: "Ada".into(), ..event("attic", 16_000) }).await;
    let as_stored = (store.event(chirp).await.unwrap(), store.event(growl).await.unwrap());
    for take in 1..4 {
        let (chirp, growl) = (vocalise(&store, 1, take).await, vocalise(&store, 2, take).await);
        store.label_event(chirp, Some(OwnerLabel::Context(ContextLabel::Brushing))).await.unwrap();
        store.label_event(growl, Some(OwnerLabel::Context(ContextLabel::WaitingForFood))).await.unwrap();
    }
    assert_eq!((store.event(chirp).await.unwrap(), store.event(growl).await.unwrap()), as_stored);
    let later = vocalise(&store, 1, 9).await;
    assert_eq!(context_of(&store, later).await, (ContextLabel::Brushing, 6));
    let brushed =
        EventFilter { counts_as: Some(OwnerLabel::Context(ContextLabel::Brushing)), ..EventFilter::default() };
    assert_eq!(listed(&store, brushed).await.len(), 4, "three by label, one by the classifier");
    // Labels of one cat say nothing about another.
    assert_eq!(store.event(others.id).await.unwrap().unwrap(), others);
    assert_eq!(store.household("Ada").await.unwrap().labels(), 0);

    // The result is the same after a restart, because the classifier is learnt from the stored labels alone.
    let before = store.event(later).await.unwrap();
    let learnt = store.household("Tom").await.unwrap().context(&features(1, 11));
    drop(store);
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert_eq!(store.event(later).await.unwrap(), before);
    assert_eq!(store.household("Tom").await.unwrap().context(&features(1, 11)), learnt);
}

#[tokio::test]
async fn removed_labels_and_labels_of_deleted_events_teach_nothing() {
    let (_dir, store) = open();
    let (first, second) = (vocalise(&store, 1, 1).await, vocalise(&store, 1, 2).await);
    let general = store.event(first).await.unwrap().unwrap().found.context;
    let labels = async || store.household("Tom").await.unwrap().labels();
    store.label_event(first, Some(OwnerLabel::Context(ContextLabel::Brushing))).await.unwrap();
    store.label_event(second, Some(OwnerLabel::Context(ContextLabel::Brushing))).await.unwrap();
    assert_eq!(labels().await, 2);
    let taught = vocalise(&store, 1, 3).await;
    store.delete_event(second).await.unwrap();
    assert_eq!(labels().await, 1);
    store.label_event(first, Some(OwnerLabel::NotACat)).await.unwrap();
    assert_eq!(labels().await, 0);
    let later = vocalise(&store, 1, 4).await;
    assert_eq!(context_of(&store, later).await, (general.label, 0));
    // What a stored event says stays, and so does what a labelled one said before its label.
    assert_eq!(context_of(&store, taught).await, (ContextLabel::Brushing, 2));
    store.label_event(first, None).await.unwrap();
    let unlabelled = store.event(first).await.unwrap().unwrap();
    assert_eq!((unlabelled.found.context, unlabelled.context_labels), (general, 0));
}

#[tokio::test]
async fn events_of_another_network_teach_nothing() {
    let (_dir, store) = open();
    let brushed = Some(OwnerLabel::Context(ContextLabel::Brushing));
    let (old, current) = (vocalise(&store, 1, 1).await, vocalise(&store, 1, 2).await);
    store.label_event(old, brushed).await.unwrap();
    as_if_another_network_heard(&store, current).await;
    assert_eq!(store.household("Tom").await.unwrap().labels(), 0);
    store.label_event(current, brushed).await.unwrap();
    let later = vocalise(&store, 1, 3).await;
    assert_eq!(
        context_of(&store, later).await,
        (ContextLabel::Brushing, 1),
        "the one label that this network's features belong to"
    );
}

#[tokio::test]
async fn cats_without_a_name_are_distinguished_by_their_node() {
    let (_dir, store) = open();
    let nameless = |node: &str, take: u32| NewEvent {
        cat: String::new(),
        features: Some(Box::new(features(1, take))),
        ..event(node, u64::from(take) * 16_000)
    };
    let taught = put(&store, nameless("kitchen", 2)).await;
    store.label_event(taught.id, Some(OwnerLabel::Context(ContextLabel::Brushing))).await.unwrap();
    let kitchen = put(&store, nameless("kitchen", 3)).await;
    let hall = put(&store, nameless("hall", 3)).await;
    assert_eq!(context_of(&store, kitchen.id).await.1, 1);
    assert_eq!(context_of(&store, hall.id).await.1, 0);
}

#[tokio::test]
async fn events_that_came_back_are_not_deleted_by_age() {
    let (_dir, store) = open();
    for start_sample in [0, 16_000] {
        put(&store, event("kitchen", start_sample)).await;
    }
    // Its date comes from the clip, which was written by a clock that may have lied.
    store.write(|db| Ok(db.execute("UPDATE events SET recovered = 1 WHERE id = 1", [])?)).await.unwrap();
    assert_eq!(store.retire_clips_before(i64::MAX, 10).await.unwrap().len(), 1);
    assert_eq!(store.forget_old_events(0, i64::MAX, 10).await.unwrap(), 1);
    assert!(store.event(1).await.unwrap().is_some_and(|event| event.clip.is_ok()));
}

#[tokio::test]
async fn every_table_has_a_bound() {
    let (_dir, store) = open();
    for n in 0..6 {
        put_with(&store, event("kitchen", n * 16_000), Err(NoClip::Disabled)).await;
    }
    for id in 1..=3 {
        store.delete_event(id).await.unwrap();
    }
    for word in ["brushing", "isolation", "not_a_cat"] {
        store.label_event(4, Some(word.parse().unwrap())).await.unwrap();
    }
    store.label_event(5, Some("brushing".parse().unwrap())).await.unwrap();
    store
        .write(|db| {
            for n in 0..5_i64 {
                let sql = "INSERT INTO nodes (node_id, url, seen_at_ns) VALUES (?1, 'http://old:1', ?2)";
                db.execute(sql, params![format!("id{n}"), n])?;
                let sql = "INSERT INTO watermarks VALUES (?1, 1, 0, 0, ?2)";
                db.execute(sql, params![format!("http://old:{n}"), n])?;
            }
            Ok(db.execute("INSERT INTO node_boots VALUES ('http://old:1', 1, 'id0', 0)", [])?)
        })
        .await
        .unwrap();
    let rows = |sql: &'static str| {
        let store = store.clone();
        async move { store.read(move |db| Ok(db.query_row(sql, [], |row| row.get::<_, String>(0))?)).await.unwrap() }
    };
    let bounds = retention::Bounds { deleted_events: 1, label_changes: 2, watermarks: 3, nodes: 2 };
    while store.forget_surplus(100, bounds, 1).await.unwrap() > 0 {}
    assert_eq!(rows("SELECT group_concat(id) FROM events").await, "3,4,5,6", "the last one that was deleted stays");
    assert_eq!(rows("SELECT group_concat(event_id || label) FROM event_labels").await, "4not_a_cat,5brushing");
    let nodes = "SELECT group_concat(node) FROM (SELECT node FROM watermarks ORDER BY updated_at_ns DESC)";
    assert_eq!(rows(nodes).await, "kitchen,http://old:4,http://old:3");
    assert_eq!(rows("SELECT group_concat(node_id) FROM nodes").await, "id0,id3,id4", "the first has a boot");

    // Deleted events take no room from others.
    while store.forget_surplus(3, bounds, 1).await.unwrap() > 0 {}
    assert_eq!(rows("SELECT group_concat(id) FROM events").await, "3,4,5,6");
}
