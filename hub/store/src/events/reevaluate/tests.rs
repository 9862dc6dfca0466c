use super::*;
use crate::Access;
use crate::deletions::DeletionScope;
use crate::events::{FirstAnswer, NewEvent, NoClip, OwnerLabel};
use crate::testing::{self, distinct_vocalisation, open, put_with};

const BRUSHING: ContextLabel = ContextLabel::Brushing;
const FOOD: ContextLabel = ContextLabel::WaitingForFood;

/// Stores a sound of a cat in one of several voices.
async fn heard(store: &Store, cat: &str, node: &str, voice: u32, take: u32) -> Event {
    let found = NewEvent { cat: cat.into(), ..testing::vocalisation(node, voice, take) };
    put_with(store, found, Err(NoClip::Disabled)).await
}

async fn label(store: &Store, id: i64, context: Option<ContextLabel>) -> Option<Reevaluation> {
    let event = store.label_event(id, context.map(OwnerLabel::Context)).await.unwrap().unwrap();
    store.reevaluate(&event).await.unwrap()
}

/// Stores sounds of Tom in two voices, and labels two of each but for the last one, which it returns.
async fn almost_taught(store: &Store) -> i64 {
    let mut last = 0;
    for (voice, context) in [(1, BRUSHING), (2, FOOD)] {
        for take in 1..3 {
            last = heard(store, "Tom", "kitchen", voice, take).await.id;
            if (voice, take) != (2, 2) {
                assert_eq!(label(store, last, Some(context)).await, None, "a label before there are enough");
            }
        }
    }
    last
}

async fn read(store: &Store, ids: &[i64]) -> Vec<Event> {
    let mut events = Vec::new();
    for id in ids {
        events.push(store.event(*id).await.unwrap().unwrap());
    }
    events
}

/// What the events count as.
async fn contexts(store: &Store, ids: &[i64]) -> Vec<ContextLabel> {
    read(store, ids).await.iter().map(|event| event.found.context.label).collect()
}

#[tokio::test]
async fn several_labels_change_unlabelled_events_which_keep_their_first_answers_and_are_put_back_exactly() {
    let (dir, store) = open();
    let ids = [heard(&store, "Tom", "kitchen", 1, 0).await.id, heard(&store, "Tom", "hall", 2, 0).await.id];
    let others = heard(&store, "Ada", "kitchen", 1, 9).await;
    let last = almost_taught(&store).await;
    let labelled: Vec<i64> = (4..last).collect();
    let (before, said) = (read(&store, &ids).await, read(&store, &labelled).await);
    let done = label(&store, last, Some(FOOD)).await.unwrap();
    assert_eq!(done.changed, 2);
    let after = read(&store, &ids).await;
    assert_eq!(contexts(&store, &ids).await, [BRUSHING, FOOD]);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((after.first.clone(), after.context_labels), (Some(first_answer(before)), 4));
        assert_eq!(before.first, None);
    }
    assert_eq!(read(&store, &labelled).await, said, "a labelled event changed");
    assert_eq!(read(&store, &[others.id]).await, [others], "an event of another cat changed");

    // The answers and the way back survive a restart.
    drop(store);
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert_eq!(read(&store, &ids).await, after);
    assert_eq!(store.undo_reevaluation(done.id + 1).await.unwrap(), None);
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(2));
    assert_eq!(read(&store, &ids).await, before);
    assert_eq!(read(&store, &labelled).await, said, "undoing changed a labelled event");
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), None, "undone twice");
}

fn first_answer(event: &Event) -> FirstAnswer {
    FirstAnswer { context: event.found.context, labels: event.context_labels, suggested: None }
}

#[tokio::test]
async fn labels_of_one_context_change_no_stored_event() {
    let (_dir, store) = open();
    let stored = heard(&store, "Tom", "kitchen", 2, 0).await;
    for take in 1..9 {
        let id = heard(&store, "Tom", "kitchen", 1, take).await.id;
        assert_eq!(label(&store, id, Some(BRUSHING)).await, None);
    }
    assert_eq!(read(&store, &[stored.id]).await, [stored]);
}

#[tokio::test]
async fn events_get_their_first_answers_back_when_too_few_labels_are_left() {
    let (_dir, store) = open();
    let id = heard(&store, "Tom", "kitchen", 1, 0).await.id;
    let before = read(&store, &[id]).await.remove(0);
    let last = almost_taught(&store).await;
    label(&store, last, Some(FOOD)).await.unwrap();
    let taught = read(&store, &[id]).await;
    let removed = label(&store, last, None).await.unwrap();
    let back = read(&store, &[id]).await.remove(0);
    assert_eq!(removed.changed, 1, "the event whose label was removed counts for itself");
    assert_eq!((back.found.context, back.context_labels), (before.found.context, 0));
    // Removing the label again finds nothing to do; what it did can be undone.
    assert_eq!(label(&store, last, None).await, None);
    assert_eq!(store.undo_reevaluation(removed.id).await.unwrap(), Some(1));
    assert_eq!(read(&store, &[id]).await, taught);
}

#[tokio::test]
async fn only_the_last_reevaluation_of_a_cat_can_be_undone_and_first_answers_stay_the_first() {
    let (_dir, store) = open();
    let id = heard(&store, "Tom", "kitchen", 1, 0).await.id;
    let before = read(&store, &[id]).await.remove(0);
    let last = almost_taught(&store).await;
    let first = label(&store, last, Some(FOOD)).await.unwrap();
    let taught = read(&store, &[id]).await;
    assert_eq!(taught[0].found.context.label, BRUSHING);
    // What was called brushing until now is called isolation.
    let mut second = None;
    for brushed in [last - 3, last - 2] {
        second = label(&store, brushed, Some(ContextLabel::Isolation)).await.or(second);
    }
    let second = second.unwrap();
    let again = read(&store, &[id]).await.remove(0);
    assert_eq!((again.found.context.label, again.first), (ContextLabel::Isolation, Some(first_answer(&before))));
    assert_eq!(store.undo_reevaluation(first.id).await.unwrap(), None, "a later one followed");
    assert_eq!(store.undo_reevaluation(second.id).await.unwrap(), Some(1));
    assert_eq!(read(&store, &[id]).await, taught);
}

#[tokio::test]
async fn undoing_leaves_out_deleted_events_and_cats_without_a_name_are_those_of_their_node() {
    let (_dir, store) = open();
    let mut ids = Vec::new();
    for (node, take) in [("kitchen", 0), ("kitchen", 1), ("hall", 0)] {
        ids.push(heard(&store, "", node, 1, take).await.id);
    }
    let mut done = None;
    for (voice, context) in [(1, BRUSHING), (2, FOOD)] {
        for take in 5..7 {
            let id = heard(&store, "", "kitchen", voice, take).await.id;
            done = label(&store, id, Some(context)).await;
        }
    }
    let isolation = ContextLabel::Isolation;
    assert_eq!(contexts(&store, &ids).await, [BRUSHING, BRUSHING, isolation]);
    store.delete_event(ids[0]).await.unwrap();
    assert_eq!(store.undo_reevaluation(done.unwrap().id).await.unwrap(), Some(1));
    assert_eq!(contexts(&store, &ids[1..]).await, [isolation, isolation]);
}

#[tokio::test]
async fn nothing_of_a_reevaluation_is_left_of_a_cat_that_was_erased() {
    let (_dir, store) = open();
    let id = heard(&store, "Tom", "kitchen", 1, 0).await.id;
    let last = almost_taught(&store).await;
    let done = label(&store, last, Some(FOOD)).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM reevaluated_events), count(first_context) + count(first_p_brushing) + \
                count(first_context_labels) FROM events";
    let left = async || {
        let row = store.read(move |db| Ok(db.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?)))?));
        row.await.unwrap()
    };
    assert_eq!(left().await, (1_i64, 3_i64));
    let scope = DeletionScope { cat: Some("Tom".into()), before_ns: None };
    let wanted = store.request_deletion(scope).await.unwrap().unwrap();
    store.erase_events(&wanted).await.unwrap();
    assert_eq!(left().await, (0, 0));
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(0));
    assert_eq!(store.event(id).await.unwrap(), None);
}

/// Stores copies of the only event of the store.
async fn copy(store: &Store, copies: usize) {
    let many = i64::try_from(copies).unwrap();
    let copied = store.write(move |db| {
        let mut columns = db.prepare(
            "SELECT group_concat(name) FROM pragma_table_info('events') WHERE name NOT IN \
                                      ('id', 'start_sample', 'started_at_ns')",
        )?;
        let columns: String = columns.query_row([], |row| row.get(0))?;
        let sql = format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1) \
             INSERT INTO events (start_sample, started_at_ns, {columns}) \
             SELECT start_sample - n, started_at_ns - n, {columns} FROM events, n"
        );
        Ok(db.execute(&sql, [many])?)
    });
    assert_eq!(copied.await.unwrap(), copies);
}

#[tokio::test]
async fn latest_ten_thousand_events_are_evaluated_again_for_own_labels() {
    let (_dir, store) = open();
    let own = store.add_own_label("let me out").await.unwrap().unwrap();
    let put = async |voice: u32, take: u32| {
        put_with(&store, distinct_vocalisation("kitchen", voice, take), Err(NoClip::Disabled)).await.id
    };
    put(1, 0).await;
    copy(&store, MOST_EVENTS).await;
    let mut last = None;
    for take in 1..=20 {
        store.label_event(put(2, take).await, Some(OwnerLabel::Context(BRUSHING))).await.unwrap().unwrap();
        last = store.label_event_own(put(1, take).await, own.id).await.unwrap();
    }
    let began = std::time::Instant::now();
    let done = store.reevaluate(&last.unwrap()).await.unwrap().unwrap();
    eprintln!("{MOST_EVENTS} events, 40 labels: {:?}", began.elapsed());
    assert_eq!(done.changed, MOST_EVENTS);
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(MOST_EVENTS));
}

#[tokio::test]
async fn latest_ten_thousand_events_are_evaluated_again() {
    let (_dir, store) = open();
    heard(&store, "Tom", "kitchen", 1, 0).await;
    let many = i64::try_from(MOST_EVENTS).unwrap() + 4;
    copy(&store, MOST_EVENTS + 4).await;
    let last = almost_taught(&store).await;
    let began = std::time::Instant::now();
    let done = label(&store, last, Some(FOOD)).await.unwrap();
    eprintln!("{MOST_EVENTS} events: {:?}", began.elapsed());
    assert_eq!(done.changed, MOST_EVENTS);
    let filter = crate::events::EventFilter {
        counts_as: Some(OwnerLabel::Context(ContextLabel::Isolation)),
        ..Default::default()
    };
    let page = store.events(&filter, None, 100).await.unwrap();
    let old: Vec<i64> = page.events.iter().map(|event| event.id).collect();
    assert_eq!(old, (many - 3..=many + 1).collect::<Vec<_>>(), "not the oldest ones are left");
    let began = std::time::Instant::now();
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(MOST_EVENTS));
    eprintln!("undone: {:?}", began.elapsed());
}
