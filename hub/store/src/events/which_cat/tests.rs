use sound::detection::ContextLabel;

use super::*;
use crate::events::{Committed, EventFilter, NewEvent, NoClip, OwnerLabel};
use crate::notifications::{ChannelName, NotificationPlan, SuppressReason};
use crate::testing::{self, event, open, put_with, same_meow, watermark};

async fn put(store: &Store, found: NewEvent) -> Event {
    put_with(store, found, Err(NoClip::Disabled)).await
}

async fn say(store: &Store, id: i64, cat: Option<&str>) -> Event {
    store.say_cat(id, cat).await.unwrap().unwrap().unwrap().event
}

async fn one(store: &Store, id: i64) -> Event {
    store.event(id).await.unwrap().unwrap()
}

/// The events of a cat, the earliest first, and how many the counts have.
async fn of(store: &Store, cat: &str) -> (Vec<i64>, usize) {
    let filter = EventFilter { cat: Some(cat.into()), ..EventFilter::default() };
    let events = store.events(&filter, None, 100).await.unwrap().events;
    assert_eq!(store.count_events(&filter, 100).await.unwrap(), events.len());
    let ids = events.iter().rev().map(|event| event.id).collect();
    (ids, store.tallies(&filter).await.unwrap().len())
}

#[tokio::test]
async fn filters_and_counts_follow_the_owner_and_the_word_of_the_node_stays() {
    let (_dir, store) = open();
    let ids = [put(&store, event("kitchen", 0)).await.id, put(&store, event("kitchen", 16_000)).await.id];
    let nameless = put(&store, NewEvent { cat: String::new(), ..event("hall", 32_000) }).await.id;
    let before = one(&store, ids[0]).await;
    assert_eq!((before.cat(), &before.said_cat, before.said_cat_at_ns), ("Tom", &None, None));

    let said = say(&store, ids[0], Some(" Ada ")).await;
    assert_eq!((said.cat(), said.found.cat.as_str(), said.subject().animal()), ("Ada", "Tom", "Ada"));
    assert!(said.said_cat_at_ns.is_some());
    assert_eq!(one(&store, ids[0]).await, said);
    assert_eq!(Event { said_cat: None, said_cat_at_ns: None, ..said.clone() }, before, "nothing else changes");
    say(&store, nameless, Some("Ada")).await;
    assert_eq!(of(&store, "Ada").await, (vec![ids[0], nameless], 2));
    assert_eq!(of(&store, "Tom").await, (vec![ids[1]], 1));

    let named = |name: &str, events| NamedCat { name: name.into(), events };
    say(&store, ids[1], Some("Tom")).await;
    assert_eq!(store.named_cats(None).await.unwrap(), [named("Ada", 2), named("Tom", 1)]);
    assert_eq!(store.named_cats(Some("hall")).await.unwrap(), [named("Ada", 1)]);
    assert_eq!(store.named_cats(Some("attic")).await.unwrap(), []);

    let back = say(&store, ids[0], None).await;
    assert_eq!(back, before, "it is undone");
    assert_eq!(of(&store, "Tom").await, (ids.to_vec(), 2));
    assert_eq!(say(&store, ids[0], None).await, before, "twice is once");
    store.delete_event(ids[0]).await.unwrap();
    assert_eq!(store.say_cat(ids[0], Some("Ada")).await.unwrap(), Ok(None), "a deleted event");
    assert_eq!(store.say_cat(99, None).await.unwrap(), Ok(None));
}

#[tokio::test]
async fn names_are_checked_and_the_list_of_them_is_bounded() {
    let (_dir, store) = open();
    let id = put(&store, event("kitchen", 0)).await.id;
    let long = "x".repeat(MAX_CAT_BYTES + 1);
    for bad in ["", "  ", "two\nlines", "\u{202e}adA", &long] {
        assert_eq!(store.say_cat(id, Some(bad)).await.unwrap(), Err(CatNameError), "{bad:?}");
    }
    assert_eq!(one(&store, id).await.cat(), "Tom");
    assert_eq!(say(&store, id, Some(&long[1..])).await.cat(), &long[1..]);
    for number in 1..=MAX_NAMED_CATS as u64 {
        let id = put(&store, event("kitchen", number * 16_000)).await.id;
        say(&store, id, Some(&format!("cat {number}"))).await;
    }
    assert_eq!(store.named_cats(Some("kitchen")).await.unwrap().len(), MAX_NAMED_CATS);
}

#[tokio::test]
async fn word_about_a_sound_is_about_every_event_of_it() {
    let (_dir, store) = open();
    let far = put(&store, same_meow("hall", -40.0)).await;
    let near = put(&store, same_meow("kitchen", -20.0)).await;
    assert_eq!(one(&store, far.id).await.same_sound_as, Some(near.id), "the control: they are one sound");
    say(&store, near.id, Some("Ada")).await;
    assert_eq!(one(&store, far.id).await.cat(), "Ada", "the event that is not shown");
    // A third node hears the sound best and is shown from now on.
    let best = put(&store, same_meow("attic", -10.0)).await;
    assert_eq!((best.same_sound_as, best.cat()), (None, "Ada"));
    assert_eq!(store.named_cats(None).await.unwrap(), [NamedCat { name: "Ada".into(), events: 1 }]);
    assert_eq!(of(&store, "Ada").await, (vec![best.id], 1));
    assert_eq!(of(&store, "Tom").await, (vec![], 0));
    // The shown one is deleted, and another takes its place.
    store.delete_event(best.id).await.unwrap();
    assert_eq!(of(&store, "Ada").await, (vec![near.id], 1));
    // The word is taken back on an event that is not shown.
    say(&store, far.id, None).await;
    assert_eq!(of(&store, "Tom").await, (vec![near.id], 1));
}

#[tokio::test]
async fn labels_and_reevaluation_keep_the_word_and_learn_from_the_cat_of_the_node() {
    let (_dir, store) = open();
    for (voice, take) in [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)] {
        put(&store, testing::vocalisation("kitchen", voice, take)).await;
    }
    let first = say(&store, 1, Some("Ada")).await;
    say(&store, 2, Some("Ada")).await;
    let label = |context| Some(OwnerLabel::Context(context));
    let (brushing, food) = (label(ContextLabel::Brushing), label(ContextLabel::WaitingForFood));
    let mut changed = Vec::new();
    for (id, label) in [(2, brushing), (3, brushing), (4, food), (5, food)] {
        let labelled = store.label_event(id, label).await.unwrap().unwrap();
        changed.push(store.reevaluate(&labelled).await.unwrap().map(|done| (done.id, done.changed)));
    }
    let [None, None, None, Some((reevaluation, 1))] = changed[..] else { panic!("{changed:?}") };
    let after = one(&store, 1).await;
    assert_eq!((after.cat(), after.found.context.label), ("Ada", ContextLabel::Brushing));
    store.undo_reevaluation(reevaluation).await.unwrap();
    assert_eq!(one(&store, 1).await, first);
    assert_eq!(store.household("Tom").await.unwrap().labels(), 4);
    assert_eq!(store.household("Ada").await.unwrap().labels(), 0);
}

#[tokio::test]
async fn notifications_that_wait_name_the_cat_that_the_owner_named() {
    let (_dir, store) = open();
    let plan = |owner: &str, hold: Option<SuppressReason>| NotificationPlan {
        owner: owner.into(),
        channels: vec![ChannelName { name: "phone".into(), kind: "ntfy".into() }],
        cooldown_ns: 0,
        hold,
        wait_ns: 0,
        digest_due_ns: hold.map(|_| 1_000),
    };
    let found = event("kitchen", 0);
    let mark = watermark("kitchen", found.end_sample);
    let plans = vec![plan("Anna", None), plan("Ben", Some(SuppressReason::QuietHours))];
    let committed = store.commit_event(found, Err(NoClip::Disabled), mark, |_| plans).await.unwrap();
    assert!(matches!(committed, Committed::Stored(_)));
    let told = async || {
        let all = store.notifications(None, None, 10).await.unwrap();
        let mut all: Vec<_> = all.iter().map(|one| (one.owner.clone(), one.subject.animal().to_owned())).collect();
        all.sort();
        all
    };
    let names = |cat: &str| vec![("Anna".to_owned(), cat.to_owned()), ("Ben".to_owned(), cat.to_owned())];
    assert_eq!(told().await, names("Tom"));
    say(&store, 1, Some("Ada")).await;
    assert_eq!(told().await, names("Ada"));
    // What is no longer pending stays as it was sent.
    let all = store.notifications(None, None, 10).await.unwrap();
    let sent = all.iter().find(|one| one.owner == "Anna").unwrap().id;
    store.notification_delivered(sent, 2_000).await.unwrap();
    say(&store, 1, Some("Kim")).await;
    assert_eq!(told().await, [("Anna".to_owned(), "Ada".to_owned()), ("Ben".to_owned(), "Kim".to_owned())]);
}

#[tokio::test]
async fn word_comes_back_from_the_log_and_so_do_labels_with_their_times() {
    let (dir, store) = open();
    for number in 0..4 {
        put(&store, event("kitchen", number * 16_000)).await;
    }
    let label: OwnerLabel = "brushing".parse().unwrap();
    let labelled = store.label_event(1, Some(label)).await.unwrap().unwrap();
    say(&store, 1, Some("Ada")).await;
    say(&store, 2, Some("Ada")).await;
    say(&store, 3, Some("Ada")).await;
    say(&store, 3, None).await;
    say(&store, 4, Some("Ada")).await;
    let last = store.label_event(4, Some(label)).await.unwrap().unwrap();
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 0, "the database has it all");
    let forget = "DELETE FROM event_labels; \
                  UPDATE events SET label = NULL, labelled_at_ns = NULL, said_cat = NULL, said_cat_at_ns = NULL";
    store.write(move |db| Ok(db.execute_batch(forget)?)).await.unwrap();
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 3);
    let mut cats = Vec::new();
    for id in 1..=4 {
        cats.push(one(&store, id).await.cat().to_owned());
    }
    assert_eq!(cats, ["Ada", "Ada", "Tom", "Ada"]);
    let (first, fourth) = (one(&store, 1).await, one(&store, 4).await);
    assert_eq!((first.label, first.labelled_at_ns), (Some(label), labelled.labelled_at_ns));
    assert_eq!((fourth.label, fourth.labelled_at_ns), (Some(label), last.labelled_at_ns));
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 0, "once");
    // A new log has what the database has.
    std::fs::remove_file(dir.path().join("labels.jsonl")).unwrap();
    store.begin_label_log().await.unwrap();
    store.write(move |db| Ok(db.execute_batch(forget)?)).await.unwrap();
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 3);
    assert_eq!(one(&store, 2).await.cat(), "Ada");
    // A name that the hub would not store is not taken from a damaged log.
    let log = std::fs::read_to_string(dir.path().join("labels.jsonl")).unwrap();
    std::fs::write(dir.path().join("labels.jsonl"), log.replace("\"Ada\"", "\"A\\nda\"")).unwrap();
    store.write(move |db| Ok(db.execute_batch(forget)?)).await.unwrap();
    store.restore_labels_from_log().await.unwrap();
    assert_eq!(one(&store, 2).await.cat(), "Tom");
}

#[tokio::test]
async fn label_and_cat_come_back_whichever_of_the_two_lines_is_written_last() {
    let (_dir, store) = open();
    let id = put(&store, event("kitchen", 0)).await.id;
    let labelled = store.label_event(id, Some("brushing".parse().unwrap())).await.unwrap().unwrap();
    let said = say(&store, id, Some("Ada")).await;
    // The line of the label comes late.
    store.log_label(id, labelled.labelled_at_ns.unwrap()).await;
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 0, "the database has it all");
    let forget = "DELETE FROM event_labels; \
                  UPDATE events SET label = NULL, labelled_at_ns = NULL, said_cat = NULL, said_cat_at_ns = NULL";
    store.write(move |db| Ok(db.execute_batch(forget)?)).await.unwrap();
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 1);
    let back = one(&store, id).await;
    assert_eq!((back.cat(), back.label, back.said_cat_at_ns), ("Ada", labelled.label, said.said_cat_at_ns));
    // A deleted event gets no further line.
    let log = store.path().with_file_name("labels.jsonl");
    let before = std::fs::read_to_string(&log).unwrap();
    store.delete_event(id).await.unwrap();
    store.log_label(id, 0).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), before);
}

#[tokio::test]
async fn cat_comes_back_with_the_time_when_it_was_named() {
    let (dir, store) = open();
    let id = put(&store, event("kitchen", 0)).await.id;
    let said = say(&store, id, Some("Ada")).await;
    let labelled = store.label_event(id, Some("brushing".parse().unwrap())).await.unwrap().unwrap();
    assert!(labelled.labelled_at_ns > said.said_cat_at_ns, "the control");
    let forget = "DELETE FROM event_labels; \
                  UPDATE events SET label = NULL, labelled_at_ns = NULL, said_cat = NULL, said_cat_at_ns = NULL";
    for is_new_log in [false, true] {
        if is_new_log {
            std::fs::remove_file(dir.path().join("labels.jsonl")).unwrap();
            store.begin_label_log().await.unwrap();
        }
        store.write(move |db| Ok(db.execute_batch(forget)?)).await.unwrap();
        assert_eq!(store.restore_labels_from_log().await.unwrap(), 1);
        assert_eq!(one(&store, id).await, labelled, "new log: {is_new_log}");
    }
}
