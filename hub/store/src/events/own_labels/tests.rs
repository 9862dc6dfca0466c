use super::*;
use crate::events::EventFilter;
use crate::testing::{event, put_with};
use crate::{Access, events::NoClip};

async fn added(store: &Store, name: &str) -> Result<OwnLabel, OwnLabelError> {
    store.add_own_label(name).await.unwrap()
}

async fn heard(store: &Store, take: u64) -> i64 {
    put_with(store, event("kitchen", take * 16_000), Err(NoClip::Disabled)).await.id
}

#[tokio::test]
async fn names_are_checked_and_there_are_at_most_thirty_two() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    for (name, error) in [
        ("", OwnLabelError::BadName),
        ("  ", OwnLabelError::BadName),
        ("two\nlines", OwnLabelError::BadName),
        ("\u{202e}backwards", OwnLabelError::BadName),
        ("Not_a_cat", OwnLabelError::Reserved),
        ("uncertain", OwnLabelError::Reserved),
        ("Waiting for food", OwnLabelError::Reserved),
        ("not-a-cat", OwnLabelError::Reserved),
        ("Alone", OwnLabelError::Reserved),
        ("being brushed", OwnLabelError::Reserved),
    ] {
        assert_eq!(added(&store, name).await, Err(error), "{name:?}");
    }
    let longest = "ü".repeat(MAX_OWN_LABEL_CHARS);
    assert_eq!(added(&store, &format!("{longest}x")).await, Err(OwnLabelError::BadName));
    let first = added(&store, &format!(" {longest} ")).await.unwrap();
    assert_eq!((first.name.as_str(), first.events), (longest.as_str(), 0));
    let out = added(&store, "Let me out").await.unwrap();
    assert_eq!(added(&store, "let ME out").await, Err(OwnLabelError::Taken));
    assert_eq!(store.rename_own_label(first.id, "let me out").await.unwrap(), Err(OwnLabelError::Taken));
    assert_eq!(store.rename_own_label(out.id, "let me out").await.unwrap().unwrap().name, "let me out");
    assert_eq!(store.rename_own_label(99, "other").await.unwrap(), Err(OwnLabelError::Unknown));
    for n in 2..MAX_OWN_LABELS {
        added(&store, &format!("label {n}")).await.unwrap();
    }
    assert_eq!(added(&store, "one more").await, Err(OwnLabelError::Full));
    assert_eq!(store.own_labels().await.unwrap().len(), MAX_OWN_LABELS);
    store.remove_own_label(out.id).await.unwrap().unwrap();
    assert_ne!(added(&store, "one more").await.unwrap().id, out.id, "a number is used twice");
}

#[tokio::test]
async fn event_with_an_own_label_counts_as_uncertain_and_has_the_name_of_the_label() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let ids = [heard(&store, 0).await, heard(&store, 1).await];
    let out = added(&store, "let me out").await.unwrap();
    let labelled = store.label_event_own(ids[0], out.id).await.unwrap().unwrap();
    assert_eq!((labelled.label_word(), labelled.counts_as().as_str()), (Some("let me out"), "uncertain"));
    assert_eq!(store.label_event_own(ids[0], 99).await.unwrap(), None, "no such label");
    assert_eq!(store.label_event_own(99, out.id).await.unwrap(), None, "no such event");
    assert_eq!(store.household("Tom").await.unwrap().labels(), 0, "it teaches a context");
    let found = async |name: &str| {
        let filter = EventFilter { own_label: Some(name.into()), min_score: Some(0.5), ..EventFilter::default() };
        let page = store.events(&filter, None, 9).await.unwrap();
        page.events.iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!((found("let me out").await, found("hairball").await), (vec![ids[0]], vec![]));
    assert_eq!(store.own_labels().await.unwrap()[0].events, 1);

    store.rename_own_label(out.id, "door").await.unwrap().unwrap();
    let renamed = store.event(ids[0]).await.unwrap().unwrap();
    assert_eq!(renamed.label_word(), Some("door"));
    let history = store.label_changes(0, 9).await.unwrap();
    assert_eq!(history.iter().map(|one| one.own_label.as_deref()).collect::<Vec<_>>(), [Some("door")]);
    // Another label takes its place.
    let food = store.label_event(ids[0], Some("brushing".parse().unwrap())).await.unwrap().unwrap();
    assert_eq!((food.label_word(), &food.own_label), (Some("brushing"), &None));
    store.label_event_own(ids[0], out.id).await.unwrap().unwrap();
    assert_eq!(store.remove_own_label(out.id).await.unwrap().unwrap().label.events, 1);
    let bare = store.event(ids[0]).await.unwrap().unwrap();
    assert_eq!((bare.label, bare.labelled_at_ns, bare.label_word()), (None, None, None));
}

#[tokio::test]
async fn own_labels_come_back_from_the_log_by_their_present_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let ids = [heard(&store, 0).await, heard(&store, 1).await, heard(&store, 2).await];
    let (out, gone) = (added(&store, "let me out").await.unwrap(), added(&store, "hairball").await.unwrap());
    store.label_event_own(ids[0], out.id).await.unwrap().unwrap();
    store.label_event_own(ids[1], gone.id).await.unwrap().unwrap();
    store.rename_own_label(out.id, "door").await.unwrap().unwrap();
    store.remove_own_label(gone.id).await.unwrap().unwrap();
    // From a version that did not reserve the name.
    let alone = "INSERT INTO own_labels (name, created_at_ns) VALUES ('Alone', 1)";
    store.write(move |db| Ok(db.execute(alone, [])?)).await.unwrap();
    let alone = store.own_label_named("alone").await.unwrap().unwrap();
    assert_eq!(store.rename_own_label(alone, "alone").await.unwrap().unwrap().name, "alone");
    store.label_event_own(ids[2], alone).await.unwrap().unwrap();
    let forget = "UPDATE events SET label = NULL, labelled_at_ns = NULL, own_label = NULL";
    store
        .write(move |db| {
            db.execute(forget, [])?;
            db.execute("DELETE FROM event_labels", [])?;
            Ok(db.execute("DELETE FROM own_labels", [])?)
        })
        .await
        .unwrap();
    assert_eq!(store.restore_labels_from_log().await.unwrap(), 2);
    let mut words = Vec::new();
    for id in ids {
        words.push(store.event(id).await.unwrap().unwrap().label_word().map(str::to_owned));
    }
    assert_eq!(words, [Some("door".to_owned()), None, Some("alone".to_owned())]);
    let own = store.own_labels().await.unwrap();
    assert_eq!(own.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["alone", "door"]);
}
