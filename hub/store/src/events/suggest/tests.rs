use sound::detection::ContextLabel;
use sound::own_labels::{FEWEST_OF_A_LABEL, FEWEST_OTHERS, SUGGESTED_FROM};
use sound::testing::distinct;

use super::*;
use crate::deletions::DeletionScope;
use crate::events::{Event, EventFilter, NewEvent, NoClip, OwnLabel, OwnerLabel, Reevaluation};
use crate::testing::{as_if_another_network_heard, distinct_vocalisation, put_with};
use crate::{Access, Store};

/// The voice of sounds that have the owner's own label, and that of others.
const OUT: u32 = 1;
const OTHER: u32 = 2;

const BRUSHING: OwnerLabel = OwnerLabel::Context(ContextLabel::Brushing);
const FOOD: OwnerLabel = OwnerLabel::Context(ContextLabel::WaitingForFood);

async fn open() -> (tempfile::TempDir, Store, OwnLabel) {
    let (dir, store) = crate::testing::open();
    let label = store.add_own_label("let me out").await.unwrap().unwrap();
    (dir, store, label)
}

/// Stores a sound of a cat.
async fn heard(store: &Store, cat: &str, voice: u32, take: u32) -> Event {
    let found = NewEvent { cat: cat.into(), ..distinct_vocalisation("kitchen", voice, take) };
    put_with(store, found, Err(NoClip::Disabled)).await
}

async fn own(store: &Store, id: i64, label: &OwnLabel) -> Option<Reevaluation> {
    let event = store.label_event_own(id, label.id).await.unwrap().unwrap();
    store.reevaluate(&event).await.unwrap()
}

async fn hubs(store: &Store, id: i64, label: Option<OwnerLabel>) -> Option<Reevaluation> {
    let event = store.label_event(id, label).await.unwrap().unwrap();
    store.reevaluate(&event).await.unwrap()
}

async fn read(store: &Store, id: i64) -> Event {
    store.event(id).await.unwrap().unwrap()
}

/// Stores sounds of Tom and labels them: as many with the own label as it needs but for one, and as many others as it
/// needs. Returns the one that is missing.
async fn almost_taught(store: &Store, label: &OwnLabel) -> i64 {
    for take in 0..FEWEST_OTHERS as u32 {
        let id = heard(store, "Tom", OTHER, 100 + take).await.id;
        assert_eq!(hubs(store, id, Some(BRUSHING)).await, None);
    }
    let mut ids = Vec::new();
    for take in 0..FEWEST_OF_A_LABEL as u32 {
        ids.push(heard(store, "Tom", OUT, 100 + take).await.id);
    }
    let last = ids.pop().unwrap();
    for id in ids {
        assert_eq!(own(store, id, label).await, None, "a label before there are enough");
    }
    last
}

fn name_of(event: &Event) -> Option<&str> {
    event.suggested.as_ref().map(|suggestion| suggestion.name.as_str())
}

#[tokio::test]
async fn enough_labels_suggest_the_label_and_undoing_gives_the_first_answers_back_exactly() {
    let (dir, store, label) = open().await;
    let (out, other) = (heard(&store, "Tom", OUT, 0).await, heard(&store, "Tom", OTHER, 0).await);
    let stranger = heard(&store, "Ada", OUT, 50).await;
    let last = almost_taught(&store, &label).await;
    assert_eq!(read(&store, out.id).await, out, "one label too few");
    let done = own(&store, last, &label).await.unwrap();
    assert_eq!(done.changed, 1);
    let after = read(&store, out.id).await;
    assert_eq!((name_of(&after), after.label, after.label_word()), (Some("let me out"), None, None));
    assert!(after.suggested.as_ref().unwrap().probability >= SUGGESTED_FROM, "{:?}", after.suggested);
    assert_eq!(after.found.context.probabilities, out.found.context.probabilities);
    let first = after.first.as_ref().unwrap();
    assert_eq!((first.context, first.labels, &first.suggested), (out.found.context, 0, &None));
    assert_eq!(read(&store, other.id).await, other);
    assert_eq!(read(&store, stranger.id).await, stranger, "an event of another cat changed");
    let own_labels = store.own_labels().await.unwrap();
    assert_eq!((own_labels[0].events, own_labels[0].suggested), (5, 1));

    // New events are judged at once. What they said first is what they say.
    let new = heard(&store, "Tom", OUT, 1).await;
    assert_eq!(
        (name_of(&new), new.found.context.label, &new.first),
        (Some("let me out"), ContextLabel::Uncertain, &None)
    );
    assert_eq!(name_of(&heard(&store, "Tom", OTHER, 1).await), None);
    assert_eq!(name_of(&heard(&store, "Ada", OUT, 51).await), None);

    drop(store);
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert_eq!(read(&store, out.id).await, after, "a restart changes nothing");
    assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(1));
    assert_eq!(read(&store, out.id).await, out);
    assert_eq!(read(&store, new.id).await, new);
}

#[tokio::test]
async fn event_with_a_suggestion_is_uncertain_wherever_there_are_four_words() {
    let (_dir, store, label) = open().await;
    let out = heard(&store, "Tom", OUT, 0).await;
    let last = almost_taught(&store, &label).await;
    own(&store, last, &label).await.unwrap();
    let after = read(&store, out.id).await;
    let uncertain = OwnerLabel::Context(ContextLabel::Uncertain);
    assert_eq!((after.counts_as(), after.found.context.label), (uncertain, ContextLabel::Uncertain));
    assert!(serde_json::to_string(&after.subject()).unwrap().contains(r#""context":"uncertain""#));
    let filter = EventFilter { counts_as: Some(uncertain), ..EventFilter::default() };
    assert_eq!(store.tallies(&filter).await.unwrap().len(), FEWEST_OF_A_LABEL + 1);
    // What analyses and the original's clients ask knows contexts alone.
    let known = store.household("Tom").await.unwrap();
    assert_eq!(known.labels() as usize, FEWEST_OTHERS);
    // The owner has the last word.
    let said = store.label_event(out.id, Some(FOOD)).await.unwrap().unwrap();
    assert_eq!((said.counts_as(), said.label_word()), (FOOD, Some("waiting_for_food")));
}

#[tokio::test]
async fn too_few_labels_take_suggestions_back_and_that_can_be_undone() {
    let (_dir, store, label) = open().await;
    let out = heard(&store, "Tom", OUT, 0).await;
    let last = almost_taught(&store, &label).await;
    own(&store, last, &label).await.unwrap();
    let taught = read(&store, out.id).await;
    let new = heard(&store, "Tom", OUT, 1).await;
    let removed = hubs(&store, last, None).await.unwrap();
    assert_eq!(removed.changed, 2, "the event whose label was removed counts for itself");
    let back = read(&store, out.id).await;
    assert_eq!((name_of(&back), back.found.context), (None, out.found.context));
    // The new event never had another answer: it gets the context that its probabilities name.
    let context = context_with(None, new.found.context.probabilities);
    let bare = read(&store, new.id).await;
    assert_eq!((name_of(&bare), bare.found.context), (None, context));
    assert_eq!(bare.first.unwrap().suggested.as_deref(), Some("let me out"), "the first answer is kept");
    assert_eq!(hubs(&store, last, None).await, None, "there is nothing left to take back");
    assert_eq!(store.undo_reevaluation(removed.id).await.unwrap(), Some(2));
    assert_eq!((read(&store, out.id).await, read(&store, new.id).await), (taught, new));
    let sql = "SELECT count(first_suggested) + count(first_p_suggested) FROM events";
    let kept = store.read(move |db| Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)).await;
    assert_eq!(kept.unwrap(), 0, "a first answer is left of an event that has one answer");
}

#[tokio::test]
async fn renamed_label_renames_suggestions_and_a_removed_one_takes_them_back_everywhere() {
    let (_dir, store, label) = open().await;
    let out = heard(&store, "Tom", OUT, 0).await;
    let last = almost_taught(&store, &label).await;
    own(&store, last, &label).await.unwrap();
    let new = heard(&store, "Tom", OUT, 1).await;
    store.rename_own_label(label.id, "door").await.unwrap().unwrap();
    assert_eq!(
        (name_of(&read(&store, out.id).await), name_of(&read(&store, new.id).await)),
        (Some("door"), Some("door"))
    );
    // After this, undoing would bring suggestions back, and the new event's first answer is one.
    let removed = hubs(&store, last, None).await.unwrap();
    own(&store, last, &label).await.unwrap();
    assert_eq!(store.remove_own_label(label.id).await.unwrap().unwrap().label.suggested, 2);
    for (event, context) in [(&out, out.found.context), (&new, context_with(None, new.found.context.probabilities))] {
        let bare = read(&store, event.id).await;
        assert_eq!((&bare.suggested, bare.found.context), (&None, context));
        assert!(bare.first.is_none_or(|first| first.suggested.is_none() && first.context == context));
    }
    store.undo_reevaluation(removed.id).await.unwrap();
    let sql = "SELECT (SELECT count(suggested) + count(p_suggested) + count(first_suggested) + \
               count(first_p_suggested) FROM events) + \
               (SELECT count(suggested) + count(p_suggested) FROM reevaluated_events)";
    let left = async || store.read(move |db| Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)).await.unwrap();
    assert_eq!(left().await, 0);

    // Nothing of suggestions is left of a cat that is erased, either.
    let again = store.add_own_label("door").await.unwrap().unwrap();
    for take in 100..100 + FEWEST_OF_A_LABEL as u32 + 1 {
        let id = heard(&store, "Tom", OUT, 100 + take).await.id;
        own(&store, id, &again).await;
    }
    assert_ne!(left().await, 0);
    let wanted = store.request_deletion(DeletionScope { cat: Some("Tom".into()), before_ns: None }).await;
    store.erase_events(&wanted.unwrap().unwrap()).await.unwrap();
    assert_eq!(left().await, 0);
}

/// A cat whose label is suggested for a stored event. Returns that event as it is then, and the last labelled event.
async fn taught(store: &Store, label: &OwnLabel) -> (Event, i64) {
    let out = heard(store, "Tom", OUT, 0).await;
    let last = almost_taught(store, label).await;
    own(store, last, label).await.unwrap();
    (read(store, out.id).await, last)
}

#[tokio::test]
async fn taking_back_the_suggestions_of_a_label_reads_no_whole_table() {
    let (_dir, store, _) = open().await;
    let plans = store.read(|db| {
        let mut plans = Vec::new();
        for sql in forgetting() {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let steps = plan.query_map([1], |row| row.get::<_, String>("detail"))?;
            plans.push(steps.collect::<Result<Vec<_>, _>>()?.join("; "));
        }
        Ok(plans)
    });
    for plan in plans.await.unwrap() {
        assert!(plan.contains("SEARCH") && plan.contains("by_") && !plan.contains("SCAN"), "{plan}");
    }
}

#[tokio::test]
async fn label_after_an_update_leaves_suggestions_until_the_labelled_clips_are_heard_again() {
    let (_dir, store, label) = open().await;
    let (out, _) = taught(&store, &label).await;
    // The clips of the labelled events are there.
    let with_clips = "UPDATE events SET clip_file = id || '.wav', clip_bytes = 1, clip_start_sample = 0, \
                      clip_samples = 1, no_clip_reason = NULL WHERE label IS NOT NULL";
    store.write(move |db| Ok(db.execute(with_clips, [])?)).await.unwrap();
    as_if_another_network_heard(&store, i64::MAX).await;
    let old = read(&store, out.id).await;
    assert!(old.found.features.is_none());
    let new = heard(&store, "Tom", OTHER, 50).await.id;
    assert_eq!(hubs(&store, new, Some(BRUSHING)).await, None, "a label changed what the hub will learn again");
    assert_eq!(read(&store, out.id).await, old);
    // Once they are, the label is learnt again. The hub cannot judge the old event, so that it keeps its answer.
    let again = store.labelled_of_another_network(100).await.unwrap();
    assert_eq!(again.len(), FEWEST_OF_A_LABEL + FEWEST_OTHERS);
    let voice = |event: &Event| if event.own_label.is_some() { OUT } else { OTHER };
    let sounds = again.iter().map(|event| (event.id, Some(distinct(voice(event), 100 + event.id as u32))));
    store.put_reheard(sounds.collect()).await.unwrap();
    assert_eq!(hubs(&store, new, Some(FOOD)).await, None, "the old answer went");
    assert_eq!(read(&store, out.id).await, old);
    // From then on, too few labels take suggestions back.
    let last = again.iter().find(|event| event.own_label.is_some()).unwrap();
    assert!(hubs(&store, last.id, None).await.unwrap().changed > 0);
    assert_eq!(name_of(&read(&store, out.id).await), None);
}

#[tokio::test]
async fn suggestion_that_was_the_first_answer_comes_back_as_probable_as_it_was() {
    let (_dir, store, label) = open().await;
    taught(&store, &label).await;
    let new = heard(&store, "Tom", OUT, 1).await;
    assert!(new.suggested.as_ref().unwrap().probability < 1.0, "{new:?}");
    // What had the label gets another one, which is suggested instead.
    let hairball = store.add_own_label("hairball").await.unwrap().unwrap();
    let filter = EventFilter { own_label: Some("let me out".into()), ..EventFilter::default() };
    for event in store.events(&filter, None, 100).await.unwrap().events {
        own(&store, event.id, &hairball).await;
    }
    assert_eq!(name_of(&read(&store, new.id).await), Some("hairball"));
    // After an update, the hub cannot judge the event: its first answer stands, if that label is learnt again.
    as_if_another_network_heard(&store, i64::MAX).await;
    let mut last = None;
    for take in 200..200 + (FEWEST_OF_A_LABEL + FEWEST_OTHERS) as u32 {
        let id = heard(&store, "Tom", OUT + take % 2, take).await.id;
        last = if take % 2 == 0 {
            store.label_event_own(id, label.id).await.unwrap()
        } else {
            store.label_event(id, Some(BRUSHING)).await.unwrap()
        };
    }
    store.reevaluate(&last.unwrap()).await.unwrap();
    assert_eq!(read(&store, new.id).await.suggested, new.suggested);
}

#[tokio::test]
async fn removed_label_that_was_all_others_of_another_takes_its_suggestions_back_too() {
    for cat in ["Tom", ""] {
        let (_dir, store, door) = open().await;
        let hairball = store.add_own_label("hairball").await.unwrap().unwrap();
        let out = heard(&store, cat, OUT, 0).await;
        for take in 0..FEWEST_OTHERS as u32 {
            own(&store, heard(&store, cat, OTHER, 100 + take).await.id, &hairball).await;
            own(&store, heard(&store, cat, OUT, 100 + take).await.id, &door).await;
        }
        assert_eq!(name_of(&read(&store, out.id).await), Some("let me out"));
        let removed = store.remove_own_label(hairball.id).await.unwrap().unwrap();
        let [done] = removed.reevaluations[..] else { panic!("{:?}", removed.reevaluations) };
        assert_eq!((removed.label.events, removed.label.suggested, done.changed), (5, 0, 1), "{cat:?}");
        let bare = read(&store, out.id).await;
        assert_eq!((&bare.suggested, bare.found.context), (&None, out.found.context), "{cat:?}");
        assert_eq!(store.undo_reevaluation(done.id).await.unwrap(), Some(1));
        assert_eq!(name_of(&read(&store, out.id).await), Some("let me out"), "{cat:?}");
    }
}

#[tokio::test]
async fn many_labels_of_one_kind_leave_those_of_another() {
    let (_dir, store, door) = open().await;
    let (out, _) = taught(&store, &door).await;
    let hairball = store.add_own_label("hairball").await.unwrap().unwrap();
    let one = heard(&store, "Tom", 3, 0).await;
    store.label_event_own(one.id, hairball.id).await.unwrap().unwrap();
    // As many newer ones as all labels together are learnt from.
    let many = crate::events::MAX_OWN_LABELS * MOST_OF_A_LABEL;
    let copied = store.write(move |db| {
        let columns = "SELECT group_concat(name) FROM pragma_table_info('events') \
                       WHERE name NOT IN ('id', 'start_sample', 'started_at_ns')";
        let columns: String = db.query_row(columns, [], |row| row.get(0))?;
        let sql = format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2) \
             INSERT INTO events (start_sample, started_at_ns, {columns}) \
             SELECT start_sample + n, started_at_ns + n, {columns} FROM events, n WHERE id = ?1"
        );
        Ok(db.execute(&sql, rusqlite::params![one.id, many as i64])?)
    });
    assert_eq!(copied.await.unwrap(), many);
    assert_eq!(hubs(&store, heard(&store, "Tom", OTHER, 9).await.id, Some(BRUSHING)).await, None);
    assert_eq!(name_of(&read(&store, out.id).await), Some("let me out"));
    assert_eq!(name_of(&heard(&store, "Tom", OUT, 1).await), Some("let me out"));
}

#[tokio::test]
async fn contexts_and_own_labels_are_learnt_side_by_side() {
    let (_dir, store, label) = open().await;
    let (out, food) = (heard(&store, "Tom", OUT, 0).await, heard(&store, "Tom", 3, 0).await);
    let last = almost_taught(&store, &label).await;
    own(&store, last, &label).await.unwrap();
    let mut done = None;
    for take in 1..4 {
        done = hubs(&store, heard(&store, "Tom", 3, take).await.id, Some(FOOD)).await.or(done);
    }
    assert!(done.unwrap().changed >= 1);
    let [out, food] = [read(&store, out.id).await, read(&store, food.id).await];
    assert_eq!((name_of(&out), out.found.context.label), (Some("let me out"), ContextLabel::Uncertain));
    assert_eq!((name_of(&food), food.found.context.label), (None, ContextLabel::WaitingForFood));
    // Without the own label, the event has the context that the other labels teach.
    let learnt = store.household("Tom").await.unwrap().context(&distinct(OUT, 0));
    hubs(&store, last, None).await.unwrap();
    assert_eq!(read(&store, out.id).await.found.context, learnt);
}

#[test]
fn contexts_without_a_suggestion_are_those_that_the_classifier_names() {
    let db = Connection::open_in_memory().unwrap();
    for logits in [[0.0; 3], [3.0, 0.0, 0.0], [0.0, 3.0, 0.5], [0.1, 0.2, 2.0], [0.4, 0.3, 0.5]] {
        let context = sound::context::context_of(&logits);
        assert_eq!(context_with(None, context.probabilities), context);
        assert_eq!(context_with(Some((1, 0.9)), context.probabilities).label, ContextLabel::Uncertain);
        let ContextProbabilities { waiting_for_food, isolation, brushing } = context.probabilities;
        let sql = format!(
            "SELECT {} FROM (SELECT ?1 AS p_waiting_for_food, ?2 AS p_isolation, ?3 AS p_brushing)",
            named_in_sql("")
        );
        let name: String = db.query_row(&sql, [waiting_for_food, isolation, brushing], |row| row.get(0)).unwrap();
        assert_eq!(name, context.label.as_str());
    }
}
