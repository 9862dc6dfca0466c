use super::*;
use crate::Store;
use crate::events::{EventClock, EventFilter, NewGap, OwnerLabel, Progress};
use crate::testing::{clip_of, event, open, put_with, watermark};

const KITCHEN: &str = "http://kitchen:1";
const ADDRESS: &str = "http://192.0.2.7:1";
const BOOT: u64 = u64::MAX - 3;

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn seen(url: &str, id: Option<String>) -> SeenNode {
    SeenNode { url: url.into(), node_id: id, claimed_id: None, boot_id: BOOT, captured_samples: 100_000 }
}

/// The sample up to which the node was heard.
async fn heard(store: &Store, node: SeenNode) -> Option<u64> {
    match store.see_node(node).await.unwrap() {
        KnownNode::HeardUntil(mark) => mark.map(|mark| mark.settled_sample),
        KnownNode::Impostor => panic!("an impostor"),
    }
}

async fn hear_until(store: &Store, url: &str, boot_id: u64, settled_sample: u64) {
    let watermark = Watermark { boot_id, ..watermark(url, settled_sample) };
    store.commit_progress(vec![Progress { watermark, gaps: vec![] }]).await.unwrap();
}

async fn listed(store: &Store, node: &str) -> Vec<(String, Option<String>, u64)> {
    let filter = EventFilter { node: Some(node.into()), ..EventFilter::default() };
    let page = store.events(&filter, None, 100).await.unwrap();
    page.events.into_iter().rev().map(|event| (event.found.node, event.node_id, event.found.start_sample)).collect()
}

#[tokio::test]
async fn node_with_an_id_goes_on_under_any_url() {
    let (_dir, store) = open();
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, None);
    put_with(&store, event(KITCHEN, 16_000), Err(NoClip::Disabled)).await;
    assert_eq!(heard(&store, seen(ADDRESS, Some(id('a')))).await, Some(24_000));
    // What is heard again is known, under whichever URL.
    assert!(store.knows_event(&event(ADDRESS, 16_000)).await.unwrap());
    put_with(&store, event(ADDRESS, 40_000), Err(NoClip::Disabled)).await;
    // The events show the URL that the node used last, and are found by it, by the id and by its first digits.
    let expected = vec![(ADDRESS.to_owned(), Some(id('a')), 16_000), (ADDRESS.to_owned(), Some(id('a')), 40_000)];
    for name in [ADDRESS, &id('a'), &id('A')[..16]] {
        assert_eq!(listed(&store, name).await, expected, "{name}");
    }
    assert_eq!(listed(&store, KITCHEN).await, []);
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, Some(48_000));
    assert_eq!(listed(&store, KITCHEN).await.len(), 2);
}

#[tokio::test]
async fn history_of_a_url_becomes_that_of_the_first_id_there() {
    let (_dir, store) = open();
    put_with(&store, event(KITCHEN, 16_000), Err(NoClip::Disabled)).await;
    let gap = NewGap {
        node: KITCHEN.into(),
        boot_id: BOOT,
        first_sequence: 100,
        frame_count: Some(1),
        reason: crate::events::GapReason::Overrun,
        detail: String::new(),
    };
    let progress = Progress { watermark: watermark(KITCHEN, 32_320), gaps: vec![gap] };
    store.commit_progress(vec![progress]).await.unwrap();
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, Some(32_320));
    assert_eq!(listed(&store, &id('a')).await.len(), 1);
    assert_eq!(store.gaps(Some(&id('a')), 9).await.unwrap().len(), 1);
    // Another node that comes to that URL gets nothing of it.
    let other = SeenNode { boot_id: 9, ..seen(KITCHEN, Some(id('b'))) };
    assert_eq!(heard(&store, other).await, None);
    assert_eq!(listed(&store, &id('a')).await.len(), 1);
    assert_eq!(listed(&store, &id('b')).await, []);
}

#[tokio::test]
async fn two_urls_of_one_node_become_one_history_without_doubles() {
    let (_dir, store) = open();
    for url in [KITCHEN, ADDRESS] {
        for start_sample in [16_000, 40_000, 64_000] {
            let found = event(url, start_sample);
            let clip = Ok(clip_of(&found));
            put_with(&store, found, clip).await;
        }
        if url == KITCHEN {
            hear_until(&store, url, BOOT, 80_000).await;
        }
    }
    let labelled = store.events(&EventFilter { node: Some(ADDRESS.into()), ..EventFilter::default() }, None, 9).await;
    let labelled = labelled.unwrap().events.into_iter().find(|event| event.found.start_sample == 40_000).unwrap();
    store.label_event(labelled.id, Some(OwnerLabel::NotACat)).await.unwrap();

    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, Some(80_000));
    // The one further on counts.
    assert_eq!(heard(&store, seen(ADDRESS, Some(id('a')))).await, Some(80_000));
    let starts: Vec<u64> = listed(&store, &id('a')).await.into_iter().map(|(_, _, start)| start).collect();
    assert_eq!(starts, [16_000, 40_000, 64_000]);
    assert!(store.event(labelled.id).await.unwrap().is_some(), "the one with the label stays");
    assert_eq!(store.clip_files().await.unwrap().len(), 3);
}

#[tokio::test]
async fn cat_that_the_owner_named_stays_when_two_urls_become_one_history() {
    let (_dir, store) = open();
    let mut ids = Vec::new();
    for url in [KITCHEN, ADDRESS] {
        for start_sample in [16_000, 40_000, 64_000, 88_000] {
            let found = event(url, start_sample);
            let clip = Ok(clip_of(&found));
            ids.push(put_with(&store, found, clip).await.id);
        }
    }
    let say =
        async |id: i64, cat: Option<&str>| store.say_cat(id, cat).await.unwrap().unwrap().unwrap().event.said_cat_at_ns;
    // Of one only, of both, taken back on one, and of the one that its owner did not label.
    let said_at = say(ids[4], Some("Ada")).await;
    say(ids[5], Some("Ada")).await;
    say(ids[1], Some("Kim")).await;
    say(ids[2], Some("Ada")).await;
    say(ids[6], Some("Ada")).await;
    say(ids[6], None).await;
    store.label_event(ids[3], Some(OwnerLabel::NotACat)).await.unwrap();
    say(ids[7], Some("Ada")).await;
    for url in [KITCHEN, ADDRESS] {
        heard(&store, seen(url, Some(id('a')))).await;
    }
    let filter = EventFilter { node: Some(id('a')), ..EventFilter::default() };
    let joined = store.events(&filter, None, 9).await.unwrap().events;
    let cats: Vec<_> = joined.iter().rev().map(|event| (event.found.start_sample, event.cat())).collect();
    assert_eq!(cats, [(16_000, "Ada"), (40_000, "Kim"), (64_000, "Tom"), (88_000, "Ada")]);
    assert_eq!(joined.last().unwrap().said_cat_at_ns, said_at, "it was said then");
}

#[tokio::test]
async fn another_spelling_of_the_url_of_a_node_without_an_id_goes_on() {
    let (_dir, store) = open();
    hear_until(&store, KITCHEN, BOOT, 64_000).await;
    assert_eq!(heard(&store, seen("http://kitchen:1/", None)).await, Some(64_000));
    // Its own watermark of this boot counts before an earlier one of another URL.
    hear_until(&store, ADDRESS, BOOT, 32_000).await;
    assert_eq!(heard(&store, seen(ADDRESS, None)).await, Some(32_000));
    // It went back to the first URL, and returns.
    hear_until(&store, KITCHEN, BOOT, 64_320).await;
    assert_eq!(heard(&store, seen(ADDRESS, None)).await, Some(64_320));
    // Nobody was heard further than it has captured.
    hear_until(&store, "http://liar:1", 5, 1 << 50).await;
    let other = SeenNode { boot_id: 5, ..seen("http://hall:1", None) };
    assert_eq!(heard(&store, other).await, None);
    // A node that proves an id takes no place from one that does not, nor the other way round.
    assert_eq!(heard(&store, seen("http://cellar:1", Some(id('c')))).await, None);
    hear_until(&store, "http://cellar:1", BOOT, 96_000).await;
    assert_eq!(heard(&store, seen("http://new:1", None)).await, Some(64_320));
}

#[tokio::test]
async fn node_that_cannot_prove_its_id_goes_on_where_that_id_was_heard() {
    let (_dir, store) = open();
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, None);
    hear_until(&store, KITCHEN, BOOT, 64_000).await;
    let forwarded = SeenNode { claimed_id: Some(id('a')), ..seen(ADDRESS, None) };
    assert_eq!(heard(&store, forwarded.clone()).await, Some(64_000));
    hear_until(&store, ADDRESS, BOOT, 96_000).await;
    assert_eq!(heard(&store, forwarded.clone()).await, Some(96_000));
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, Some(64_000), "the id itself stays where it was");
    assert_eq!(heard(&store, SeenNode { claimed_id: Some(id('b')), ..seen("http://new:1", None) }).await, Some(96_000));
    assert_eq!(heard(&store, SeenNode { boot_id: 5, ..forwarded }).await, Some(96_000), "where its URL was left");
}

#[tokio::test]
async fn boot_of_a_node_with_an_id_is_not_believed_without_the_key() {
    let (_dir, store) = open();
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, None);
    for claimed in [None, Some(id('b'))] {
        assert_eq!(store.see_node(seen(KITCHEN, claimed)).await.unwrap(), KnownNode::Impostor);
    }
    // After a restart it may be another machine: an older one without ids, for example.
    assert_eq!(heard(&store, SeenNode { boot_id: 5, ..seen(KITCHEN, None) }).await, None);
}

#[tokio::test]
async fn two_boots_of_one_id_do_not_move_each_other() {
    let (_dir, store) = open();
    let copy = SeenNode { boot_id: 5, ..seen(ADDRESS, Some(id('a'))) };
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, None);
    hear_until(&store, KITCHEN, BOOT, 64_000).await;
    // It was heard last in another boot, which is over as far as the hub knows.
    assert_eq!(heard(&store, copy.clone()).await, Some(64_000));
    hear_until(&store, ADDRESS, 5, 32_000).await;
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, Some(64_000));
    assert_eq!(heard(&store, copy).await, Some(32_000));
}

#[tokio::test]
async fn watermarks_of_old_boots_and_old_boots_are_forgotten() {
    let (_dir, store) = open();
    for boot_id in 1..=20 {
        hear_until(&store, KITCHEN, boot_id, 32_000).await;
    }
    let kept = store.read(|db| Ok(db.query_row("SELECT count(*) FROM watermarks", [], |row| row.get::<_, i64>(0))?));
    let kept = kept.await.unwrap();
    assert!((1..=8).contains(&kept), "{kept}");
    assert_eq!(heard(&store, SeenNode { boot_id: 20, ..seen(KITCHEN, None) }).await, Some(32_000));
}

#[tokio::test]
async fn events_of_a_boot_are_dated_again_under_every_url() {
    const BOOT_START_NS: i64 = 1_700_000_000_000_000_000;
    const HOUR_NS: i64 = 3_600_000_000_000;
    let (_dir, store) = open();
    assert_eq!(heard(&store, seen(KITCHEN, Some(id('a')))).await, None);
    let before = put_with(&store, event(KITCHEN, 16_000), Err(NoClip::Disabled)).await;
    heard(&store, seen(ADDRESS, Some(id('a')))).await;
    let (from, to) = (BOOT_START_NS, BOOT_START_NS + HOUR_NS);
    assert_eq!(store.date_again(ADDRESS, BOOT, from, to, EventClock::Node, 0).await.unwrap(), 1);
    let after = store.event(before.id).await.unwrap().unwrap();
    assert_eq!(after.found.started_at_ns, before.found.started_at_ns + HOUR_NS);
}

#[tokio::test]
async fn node_that_was_heard_before_it_had_an_id_stays_known_by_its_url() {
    let (_dir, store) = open();
    let by = async |url: &str, id: Option<&str>| store.known_by(url, id).await.unwrap();
    let (a, b, c) = (id('a'), id('b'), id('c'));
    // Heard by its URL alone, then with an id.
    hear_until(&store, KITCHEN, BOOT, 100).await;
    assert_eq!(by(KITCHEN, None).await, None);
    heard(&store, seen(KITCHEN, Some(a.clone()))).await;
    assert_eq!(by(KITCHEN, Some(&a)).await, Some(KnownBy::Url(KITCHEN.into())));
    // It moves.
    heard(&store, seen(ADDRESS, Some(a.clone()))).await;
    assert_eq!(by(ADDRESS, Some(&a)).await, Some(KnownBy::Url(KITCHEN.into())));
    assert_eq!(by(ADDRESS, None).await, Some(KnownBy::Url(KITCHEN.into())), "before it has answered");
    // A new one comes to its first URL, and then one that is heard at the URL of this one.
    heard(&store, SeenNode { boot_id: 7, ..seen(KITCHEN, Some(b.clone())) }).await;
    assert_eq!(by(KITCHEN, Some(&b)).await, Some(KnownBy::Id(b.clone())));
    hear_until(&store, "http://attic:1", 8, 100).await;
    heard(&store, SeenNode { boot_id: 8, ..seen("http://attic:1", Some(c.clone())) }).await;
    heard(&store, SeenNode { boot_id: 9, ..seen("http://attic:1", Some(b.clone())) }).await;
    assert_eq!(by("http://attic:1", Some(&c)).await, Some(KnownBy::Url("http://attic:1".into())));
    assert_eq!(by("http://attic:1", Some(&b)).await, Some(KnownBy::Id(b)));
}
