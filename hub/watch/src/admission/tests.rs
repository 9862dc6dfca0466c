#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use daemon::identity::Key;
use hub_nodes::pairing::HubCard;
use hub_nodes::testing::{FakeNode, announce};
use hub_store::events::{Progress, Watermark};
use hub_store::{Access, PairedNode, SeenNode};

use super::names::is_named;
use super::pairing::takes_a_place;
use super::*;

const KITCHEN: &str = "http://kitchen.local:50056";

/// A hub without discovered nodes, whose store knows nodes with these ids at [`KITCHEN`].
async fn admission(dir: &std::path::Path, ids: &[&str]) -> Admission {
    let store = Store::open(dir, Access::Keeper).unwrap();
    for (id, boot_id) in ids.iter().zip(1..) {
        let (url, node_id) = (KITCHEN.to_owned(), Some(id.repeat(64)));
        let seen = SeenNode { url, node_id, claimed_id: None, boot_id, captured_samples: 0 };
        store.see_node(seen).await.unwrap();
    }
    let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
    Admission::open(nodes, store).await.unwrap()
}

#[tokio::test]
async fn node_that_would_not_be_heard_is_not_said_to_be_admitted() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &["a"]).await;
    announce(&admission.nodes, KITCHEN, FakeNode::with(vec![]).serve().await).await;
    let error = admission.admit("kitchen", By::Page).await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(error.message.contains(&format!("hub nodes forget {KITCHEN}")), "{}", error.message);
    assert!(admission.store.admitted().await.unwrap().keys.is_empty());
    assert_eq!(admission.forget(KITCHEN).await.unwrap().url, KITCHEN);
    admission.admit("kitchen", By::Page).await.unwrap();
    assert!(admission.nodes.get(KITCHEN).is_some());
}

#[tokio::test]
async fn admitted_node_that_was_heard_is_missed_after_a_restart_until_it_comes_back_under_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, key) = (FakeNode::with(vec![]), Arc::new(Key::generate().unwrap().0));
    fake.change(|tape| tape.key = Some(Arc::clone(&key)));
    let id = key.id().to_string();
    let before = admission(dir.path(), &[]).await;
    announce(&before.nodes, KITCHEN, fake.serve().await).await;
    before.admit("kitchen", By::Page).await.unwrap();
    let seen = |url: &str, node_id: &str| SeenNode {
        url: url.to_owned(),
        node_id: Some(node_id.to_owned()),
        claimed_id: None,
        boot_id: 7,
        captured_samples: 0,
    };
    before.store.see_node(seen(KITCHEN, &id)).await.unwrap();
    let heard = Watermark { node: KITCHEN.into(), boot_id: 7, resume_sequence: 1, settled_sample: 320 };
    before.store.commit_progress(vec![Progress { watermark: heard, gaps: vec![] }]).await.unwrap();
    // Heard, and not admitted.
    before.store.see_node(seen("http://attic.local:50056", &"b".repeat(64))).await.unwrap();
    drop(before);

    let after = admission(dir.path(), &[]).await;
    after.expect_heard().await.unwrap();
    let discovered = || after.nodes.iter().filter(|node| node.is_discovered()).map(|node| node.url().to_owned());
    assert_eq!(discovered().collect::<Vec<_>>(), [KITCHEN]);
    after.read_again().await.unwrap();
    assert_eq!(discovered().collect::<Vec<_>>(), [KITCHEN], "it is still admitted");
    let cellar = "http://cellar.local:50056";
    announce(&after.nodes, cellar, fake.serve().await).await;
    assert_eq!(discovered().collect::<Vec<_>>(), [cellar], "it is not missed under its former name");
}

#[tokio::test]
async fn node_that_replaces_a_lost_one_is_admitted_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let [(old, old_key), (new, new_key)] = [(); 2].map(|()| {
        let (fake, key) = (FakeNode::with(vec![]), Arc::new(Key::generate().unwrap().0));
        fake.change(|tape| tape.key = Some(Arc::clone(&key)));
        (fake, key.id().to_string())
    });
    let shed = "http://shed.local:50056";
    let before = admission(dir.path(), &[]).await;
    announce(&before.nodes, KITCHEN, old.serve().await).await;
    before.admit("kitchen", By::Page).await.unwrap();
    let seen = |url: &str, id: &str, boot_id| SeenNode {
        url: url.to_owned(),
        node_id: Some(id.to_owned()),
        claimed_id: None,
        boot_id,
        captured_samples: 0,
    };
    before.store.see_node(seen(KITCHEN, &old_key, 7)).await.unwrap();
    let heard = Watermark { node: KITCHEN.into(), boot_id: 7, resume_sequence: 1, settled_sample: 320 };
    before.store.commit_progress(vec![Progress { watermark: heard, gaps: vec![] }]).await.unwrap();
    announce(&before.nodes, shed, new.serve().await).await;
    let refused = before.replace("kitchen", "shed", true).await.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.message.contains("that key is not lost"), "{refused:?}");
    drop(before);

    let after = admission(dir.path(), &[]).await;
    after.expect_heard().await.unwrap();
    announce(&after.nodes, shed, new.serve().await).await;
    for (old, new, code, why) in [
        ("kitchen", "attic", Code::NotFound, "the hub has no node \"attic\""),
        ("attic", "shed", Code::NotFound, "has heard no node with the name \"attic\""),
        ("kitchen", "kitchen", Code::Conflict, "has not proved an id"),
    ] {
        let refused = after.replace(old, new, false).await.unwrap_err();
        assert!(refused.code == code && refused.message.contains(why), "{refused:?}");
    }
    let done = after.replace("kitchen", "shed", false).await.unwrap();
    assert_eq!((&done.old, &done.new, done.url.as_str()), (&old_key, &new_key, shed));
    assert!(after.nodes.get(KITCHEN).is_none() && after.nodes.get(shed).is_some());
    assert_eq!(after.store.admitted().await.unwrap().keys, BTreeSet::from([new_key.clone()]));
    assert_eq!(after.store.watermark(&new_key).await.unwrap().unwrap().boot_id, 7);
    let refused = after.replace(&new_key[..16], "shed", false).await.unwrap_err();
    assert!(refused.message.contains("cannot replace itself"), "{refused:?}");
    // Whoever has the lost card gets nothing.
    announce(&after.nodes, KITCHEN, old.serve().await).await;
    assert!(after.nodes.get(KITCHEN).is_none());
    assert_eq!(after.nodes.waiting().len(), 1);
}

#[tokio::test]
async fn hub_without_a_key_lists_its_paired_nodes_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let own = admission(dir.path(), &[]).await;
    // What answers there without TLS is not called.
    let url = format!("http://{}", FakeNode::with(vec![]).serve().await);
    let id = Key::generate().unwrap().0.id().to_string();
    own.store.pair_node(PairedNode { url: url.clone(), node_id: id.clone(), key: id }).await.unwrap();
    own.read_again().await.unwrap();
    let node = own.nodes.get(&url).expect("it is listed");
    let error = node.describe().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable(hub_base::error::Who::Node));
    assert!(error.message.contains("the hub has no usable key"), "{}", error.message);
    assert!(node.is_paired() && node.recent_description().is_none());
    assert_eq!(own.forget(&url).await.unwrap().url, url);
    assert!(own.nodes.get(&url).is_none());
}

#[tokio::test]
async fn new_key_of_a_node_is_in_the_audit_log_once() {
    let dir = tempfile::tempdir().unwrap();
    let own = admission(dir.path(), &[]).await;
    let [old, new] = [(); 2].map(|()| Key::generate().unwrap().0);
    let (id, [old, new]) = (old.id(), [&old, &new].map(|key| key.public().fingerprint()));
    let paired = PairedNode { url: KITCHEN.into(), node_id: id.to_string(), key: old.to_string() };
    own.store.pair_node(paired).await.unwrap();
    // The second time it is known: another process of the hub may have asked the node too.
    for _ in 0..2 {
        own.change_node_key(KITCHEN, id, old, new).await.unwrap();
    }
    let entries = own.store.audit(None, 9).await.unwrap();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.who.as_str(), entry.action.as_str()), (KITCHEN, "change_node_key"));
    assert_eq!((entry.address.as_str(), entry.subject.as_str()), ("", format!("{old} to {new}").as_str()));
}

#[tokio::test]
async fn paired_node_with_a_new_key_is_forgotten_by_its_id_or_its_key() {
    let [id, old, new] = ["a", "a", "b"].map(|digit| digit.repeat(64));
    // A hub without a key of its own cannot call its paired nodes, and can still forget them.
    for has_key in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let Admission { nodes, store, .. } = admission(dir.path(), &[]).await;
        let card = HubCard { name: "hub".into(), owner_port: None };
        let pairing = has_key.then(|| HubPairing::new(Arc::new(Key::generate().unwrap().0).into(), card));
        let own = Admission::open_with(nodes, store, pairing).await.unwrap();
        for name in [id.as_str(), &id[..16], new.as_str(), &new[..16], &new.to_uppercase()] {
            let paired = PairedNode { url: KITCHEN.into(), node_id: id.clone(), key: old.clone() };
            assert!(own.store.pair_node(paired).await.unwrap());
            let [old, new] = [&old, &new].map(|key| key.parse().unwrap());
            own.change_node_key(KITCHEN, id.parse().unwrap(), old, new).await.unwrap();
            let listed = own.nodes.get(KITCHEN).unwrap().pinned_key();
            assert_eq!(listed, has_key.then_some(new), "the control");
            assert_eq!(own.forget(&"c".repeat(16)).await.unwrap_err().code, Code::NotFound);
            assert_eq!(own.forget(name).await.unwrap().url, KITCHEN, "{name}");
            assert!(own.nodes.get(KITCHEN).is_none() && own.store.paired_nodes().await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn name_of_a_cat_selects_a_node_only_if_no_host_has_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &[]).await;
    // The cat of a fake node is Tom.
    for host in ["stranger", "tom"] {
        announce(&admission.nodes, &format!("http://{host}.local:1"), FakeNode::with(vec![]).serve().await).await;
    }
    assert_eq!(admission.admit("tom", By::Page).await.unwrap().url, "http://tom.local:1");
    assert_eq!(admission.admit("tom", By::Page).await.unwrap_err().code, Code::NotFound);
    assert!(admission.nodes.get("http://stranger.local:1").is_none());
    admission.forget("tom.local").await.unwrap();
    assert_eq!(admission.admit("tom", By::Page).await.unwrap().url, "http://stranger.local:1");
}

#[tokio::test]
async fn node_that_was_admitted_by_its_url_is_admitted_by_the_first_id_that_it_proves() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &[]).await;
    let fake = FakeNode::with(vec![]);
    announce(&admission.nodes, KITCHEN, fake.serve().await).await;
    admission.admit("kitchen", By::Page).await.unwrap();
    let node = admission.nodes.get(KITCHEN).unwrap();
    let mut known = BTreeSet::from([KITCHEN.to_owned()]);
    for is_first in [true, false] {
        fake.change(|tape| tape.key = Some(Arc::new(Key::generate().unwrap().0)));
        node.describe().await.unwrap();
        admission.follow_once().await.unwrap();
        assert_eq!(admission.store.admitted().await.unwrap().keys, known, "the id is not checked yet");
        assert_eq!(admission.nodes.may_be_heard(&node), is_first);
        if is_first {
            known.insert(node.id().unwrap().to_string());
        }
        admission.follow_once().await.unwrap();
        assert_eq!(admission.store.admitted().await.unwrap().keys, known);
    }
}

#[tokio::test]
async fn node_is_forgotten_whatever_answers_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &[]).await;
    let fake = FakeNode::with(vec![]);
    fake.change(|tape| tape.key = Some(Arc::new(Key::generate().unwrap().0)));
    announce(&admission.nodes, KITCHEN, fake.serve().await).await;
    admission.admit("kitchen", By::Page).await.unwrap();
    let node = admission.nodes.get(KITCHEN).unwrap();
    assert!(node.id().is_some());
    fake.change(|tape| tape.key = None);
    node.describe().await.unwrap();
    assert!(node.id().is_none());
    assert_eq!(admission.forget("kitchen").await.unwrap().url, KITCHEN);
    assert!(admission.nodes.get(KITCHEN).is_none() && node.is_dismissed());
    assert!(admission.store.admitted().await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn forgotten_node_is_not_listened_to_whatever_it_was_admitted_by() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &["a", "b"]).await;
    for id in ["a", "b"] {
        assert!(admission.store.admit(id.repeat(64), "page").await.unwrap());
    }
    // Nothing has announced itself. Both ids are the node at this URL.
    assert_eq!(admission.forget("kitchen").await.unwrap().url, KITCHEN);
    assert!(admission.store.admitted().await.unwrap().keys.is_empty());
    assert!(admission.forget("kitchen").await.is_err(), "it is forgotten already");
    for host in ["attic", "cellar"] {
        assert!(admission.store.admit(format!("http://{host}:1"), "page").await.unwrap());
        assert!(admission.store.admit(format!("http://{host}:2"), "page").await.unwrap());
    }
    let error = admission.forget("attic").await.unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    assert!(error.message.contains("http://attic:1, http://attic:2"), "{}", error.message);
}

#[tokio::test]
async fn person_hears_why_a_node_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let admission = admission(dir.path(), &[]).await;
    let address = FakeNode::with(vec![]).serve().await;
    for host in ["kitchen", "attic"] {
        announce(&admission.nodes, &format!("http://{host}.local:50056"), address).await;
    }
    // The cat of both is Tom.
    let several = admission.admit("Tom", By::Page).await.unwrap_err().message;
    assert!(several.ends_with("use one of these: http://kitchen.local:50056, http://attic.local:50056"), "{several}");
    admission.admit("kitchen.local:50056", By::Page).await.unwrap();
    admission.refuse("http://attic.local:50056/").await.unwrap();
    for (name, said) in [
        ("kitchen", "http://kitchen.local:50056 does not wait: it is admitted already"),
        ("127.0.0.1:9", "http://127.0.0.1:9 does not wait: it needs no admission"),
        ("attic", "http://attic.local:50056 was refused; it waits again once the hub is restarted"),
        ("shed", "no node with the name \"shed\" waits to be admitted; see hub nodes list"),
    ] {
        let error = admission.admit(name, By::Command).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::NotFound, said));
    }
}

#[tokio::test]
async fn person_who_forgets_a_node_hears_how_long_that_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let own = FakeNode::with(vec![]).serve().await;
    let config = format!("http://{own}").parse().unwrap();
    let nodes = Nodes::with_default_heard(&config).unwrap();
    let admission = Admission::open(nodes.clone(), store).await.unwrap();
    let error = admission.forget(&format!("http://{own}")).await.unwrap_err().message;
    assert!(error.contains("is the node on this machine"), "{error}");
    let address = FakeNode::with(vec![]).serve().await;
    announce(&nodes, KITCHEN, address).await;
    admission.admit("kitchen", By::Page).await.unwrap();
    assert!(!admission.forget("kitchen").await.unwrap().until_restart);
    nodes.admit_all();
    announce(&nodes, KITCHEN, address).await;
    assert!(admission.forget("kitchen").await.unwrap().until_restart);
}

#[test]
fn node_has_the_names_by_which_people_know_it() {
    let id = "0123456789abcdef".repeat(4);
    let addresses = ["192.168.1.7:50056", "[fd00::7]:50056"].map(|address| address.parse().unwrap());
    let is_meant = |name| is_named(name, "http://kitchen.local:50056", Some(&id), Some("Tom"), &addresses);
    for name in ["http://kitchen.local:50056", "kitchen.local", "Kitchen", "tom", "0123456789ABCDEF", &id] {
        assert!(is_meant(name), "{name}");
    }
    for name in ["http://kitchen.local:50056/", "kitchen.local:50056", "kitchen:50056"] {
        assert!(is_meant(name), "{name}");
    }
    for name in ["192.168.1.7", "192.168.1.7:50056", "fd00::7", "[fd00::7]:50056"] {
        assert!(is_meant(name), "{name}");
    }
    for name in ["kit", "", "/", "0123456789", "local", "50056", "192.168.1.70", "kitchen:1", "kitchen:"] {
        assert!(!is_meant(name), "{name}");
    }
    assert!(is_named("fd00::7", "http://[fd00::7]:50056", None, None, &[]));
}

#[test]
fn who_knows_the_secret_and_a_former_key_takes_no_paired_place() {
    let node = |url: &str, id: &str, key: &str| PairedNode { url: url.into(), node_id: id.into(), key: key.into() };
    let paired = [node("http://kitchen:1", "kitchen", "present")];
    assert!(takes_a_place(&node("http://thief:1", "kitchen", "former"), &paired));
    assert!(takes_a_place(&node("http://kitchen:1", "thief", "other"), &paired));
    assert!(!takes_a_place(&node("http://attic:1", "attic", "other"), &paired));
}
