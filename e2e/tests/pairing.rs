//! A hub and a node that are paired by their commands, as a person does it.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use e2e::binaries::binaries;
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use serde_json::Value;

/// How long the test waits. A node that has stopped answering counts as reachable for a while.
const SOON: Duration = Duration::from_secs(120);

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// What a command that must succeed has printed.
fn printed(program: &Path, arguments: &[&str]) -> String {
    let done = run(program, arguments);
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// What the hub says of the node with this URL.
async fn known(hub: &Hub, url: &str) -> Option<Value> {
    let nodes = hub.get("/api/v1/nodes").await.json();
    nodes["nodes"].as_array().unwrap().iter().find(|node| node["url"] == url).cloned()
}

async fn becomes(hub: &Hub, url: &str, reachable: bool) {
    until(SOON, &format!("reachable is {reachable}"), || async {
        known(hub, url).await.filter(|node| node["reachable"] == reachable)
    })
    .await;
}

/// Opens a code at the node with this state folder.
fn code_of(folder: &str) -> String {
    let shown = printed(&binaries().cat_node, &["pair", "--state-dir", folder]);
    shown.lines().next().unwrap().to_owned()
}

/// Pairs the node with this state folder, at this address, with the hub whose data folder is `data`.
fn pair_by_code(folder: &str, host: &str, data: &str) {
    printed(&binaries().hub, &["pair", &code_of(folder), host, "--data-dir", data]);
}

#[tokio::test]
async fn node_is_paired_heard_over_tls_and_removed() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let options = NodeOptions { state_folder: Some(state.path().to_owned()), ..NodeOptions::new("http://127.0.0.1:9") };
    let node = Node::start(options).await;
    let hub = Hub::start(&[]).await;
    let data = hub.data_folder().to_str().unwrap().to_owned();
    let host = node.address().to_string();
    let (cat_node, hub_program) = (&binaries().cat_node, &binaries().hub);

    let code = code_of(folder);
    assert_eq!(code.len(), 9, "{code}");
    let wrong = run(hub_program, &["pair", "0000-0000", &host, "--data-dir", &data]);
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && error.contains("the code is wrong"), "{error}");
    assert_eq!(printed(cat_node, &["hubs", "--state-dir", folder]), "paired with no hub\n");

    let paired = printed(hub_program, &["pair", &code, &host, "--data-dir", &data]);
    assert_eq!(paired, format!("paired: {}\n", node.url()));
    becomes(&hub, &node.url(), true).await;
    let id = printed(cat_node, &["identity", "show", "--state-dir", folder]);
    until(SOON, "the node proves its id", || async {
        known(&hub, &node.url()).await.filter(|node| node["node_id"] == id.trim())
    })
    .await;
    // The node listens to this machine without TLS, so only its log and the hub's list show what the hub uses.
    let hubs = printed(cat_node, &["hubs", "--state-dir", folder]);
    assert_eq!(hubs.lines().count(), 1, "{hubs}");
    let hub_key = hubs.split_whitespace().next().unwrap();
    assert_eq!(hub.get("/cat/Tom").await.status, 200);

    // The pairing outlives a restart of the hub.
    let hub = hub.restart().await;
    becomes(&hub, &node.url(), true).await;

    // The node ends it: the hub is refused. It is paired again by a new code.
    printed(cat_node, &["forget", hub_key, "--state-dir", folder]);
    becomes(&hub, &node.url(), false).await;
    // Its log says who listened.
    let log = node.daemon.log();
    for end in ["subscriber connected", "subscriber disconnected"] {
        assert!(log.lines().any(|line| line.contains(end) && line.contains(" at 127.0.0.1:")), "{end}: {log}");
    }
    pair_by_code(folder, &host, &data);
    becomes(&hub, &node.url(), true).await;

    // The hub ends it.
    let removed = printed(hub_program, &["nodes", "remove", &node.url(), "--data-dir", &data]);
    assert!(removed.contains(&node.url()), "{removed}");
    assert_eq!(known(&hub, &node.url()).await, None);
    let hub = hub.restart().await;
    assert_eq!(known(&hub, &node.url()).await, None);
}

/// The only hub that a node is paired with, by its key.
fn hub_key(folder: &str) -> String {
    let hubs = printed(&binaries().cat_node, &["hubs", "--state-dir", folder]);
    assert_eq!(hubs.lines().count(), 1, "{hubs}");
    hubs.split_whitespace().next().unwrap().to_owned()
}

/// The key that a command says is new.
fn new_key(program: &Path, arguments: &[&str]) -> String {
    let said = printed(program, arguments);
    let key = said.trim().rsplit(' ').next().unwrap();
    assert!(said.contains("has a new key") && key.len() == 64, "{said}");
    key.to_owned()
}

#[tokio::test]
async fn node_and_hub_change_their_keys_while_the_hub_listens() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let options = NodeOptions { state_folder: Some(state.path().to_owned()), ..NodeOptions::new("http://127.0.0.1:9") };
    let node = Node::start(options).await;
    let hub = Hub::start(&[]).await;
    let data = hub.data_folder().to_str().unwrap().to_owned();
    let (cat_node, hub_program) = (&binaries().cat_node, &binaries().hub);
    pair_by_code(folder, &node.address().to_string(), &data);
    let id = printed(cat_node, &["identity", "show", "--state-dir", folder]);
    becomes(&hub, &node.url(), true).await;
    until(SOON, "the hub listens", || async { node.daemon.log().contains("subscriber connected").then_some(()) }).await;

    let url = node.url();
    let pinned = || {
        let list = printed(hub_program, &["nodes", "list", "--json", "--data-dir", &data]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let known = list["nodes"].as_array().unwrap().iter().find(|known| known["url"] == url).cloned().unwrap();
        assert_eq!(known["node_id"].as_str().unwrap_or(id.trim()), id.trim(), "the id stays");
        known["key_fingerprint"].as_str().unwrap().to_owned()
    };
    assert_eq!(pinned(), id.trim());
    // At once, so that the hub misses the first of them.
    let [missed, node_key] = [(); 2].map(|()| new_key(cat_node, &["rotate-key", "--state-dir", folder]));
    assert_ne!(missed, node_key);
    until(SOON, "the hub knows the new key of the node", || async { (pinned() == node_key).then_some(()) }).await;
    // An admin reads it on the page, and a person compares it on both machines.
    let token = printed(hub_program, &["token", "add", "auditor", "--role", "admin", "--data-dir", &data]);
    let audit = e2e::http::get_with_token(hub.at.http, "/api/v1/audit", token.trim()).await.json();
    let noted = audit["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "change_node_key");
    let noted: Vec<_> = noted.map(|entry| (&entry["who"], entry["subject"].as_str().unwrap())).collect();
    assert!(noted.iter().all(|(who, _)| **who == url.as_str()), "{audit}");
    // The hub may have seen the missed key too.
    assert!(noted.last().unwrap().1.starts_with(&format!("{} to ", id.trim())), "{audit}");
    assert!(noted[0].1.ends_with(&format!(" to {node_key}")), "{audit}");
    assert_eq!(printed(cat_node, &["identity", "key", "--state-dir", folder]).trim(), node_key);
    let table = printed(hub_program, &["nodes", "list", "--data-dir", &data]);
    assert!(table.contains(&node_key[..16]), "{table}");
    let own_key = new_key(hub_program, &["rotate-key", "--data-dir", &data]);
    until(SOON, "the node knows the new key of the hub", || async { (hub_key(folder) == own_key).then_some(()) }).await;
    until(SOON, "the hub describes the node again", || async {
        known(&hub, &node.url()).await.filter(|known| known["reachable"] == true && known["node_id"] == id.trim())
    })
    .await;
    let log = node.daemon.log();
    assert_eq!(log.matches("subscriber connected").count(), 1, "{log}");
    assert!(!log.contains("subscriber disconnected"), "{log}");

    // Both start again with their new keys, the hub after two more changes that the node has missed.
    let options = node.options();
    drop(node);
    let [missed, own_key] = [(); 2].map(|()| new_key(hub_program, &["rotate-key", "--data-dir", &data]));
    assert_ne!(missed, own_key);
    let hub = hub.restart().await;
    let node = Node::start(options).await;
    assert_eq!(printed(cat_node, &["identity", "show", "--state-dir", folder]), id);
    until(SOON, "the node follows", || async { (hub_key(folder) == own_key).then_some(()) }).await;
    becomes(&hub, &node.url(), true).await;
    until(SOON, "the hub listens", || async { node.daemon.log().contains("subscriber connected").then_some(()) }).await;
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    let pinned = pinned();
    assert_ne!(pinned, id.trim());

    // Another node in its place is not believed, although it says how its key has changed.
    let options = node.options();
    drop(node);
    let other = tempfile::tempdir().unwrap();
    let impostor = Node::start(NodeOptions { state_folder: Some(other.path().to_owned()), ..options }).await;
    new_key(cat_node, &["rotate-key", "--state-dir", other.path().to_str().unwrap()]);
    until(SOON, "the hub does not believe it", || async {
        hub.daemon.log().contains("it is not the paired node").then_some(())
    })
    .await;
    becomes(&hub, &impostor.url(), false).await;
}

/// A node with a secret, and a hub with another or the same one, which knows the address of the node.
async fn with_secrets(state: &Path, of_node: &str, of_hub: &str) -> (Node, Hub) {
    let options = NodeOptions {
        state_folder: Some(state.to_owned()),
        wrapper: vec!["env".into(), format!("MEOWLINK_NODE_PAIRING_SECRET={of_node}")],
        ..NodeOptions::new("http://127.0.0.1:9")
    };
    let node = Node::start(options).await;
    let toml = format!("pairing_secret = {of_hub:?}\n");
    let hub = Hub::start_with_config(Addresses::free(), &[("Tom", &node.url())], &toml).await;
    (node, hub)
}

#[tokio::test]
async fn programs_with_one_secret_pair_by_themselves_and_with_two_they_say_why_not() {
    let (secret, other) = ("a secret of both configs", "a secret of one config");
    let (state, lone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hubs = |state: &Path| printed(&binaries().cat_node, &["hubs", "--state-dir", state.to_str().unwrap()]);
    let (node, hub) = with_secrets(state.path(), secret, secret).await;
    let (lone_node, lone_hub) = with_secrets(lone.path(), secret, other).await;

    until(SOON, "the hub pairs", || async { hub.daemon.log().contains("paired with a node").then_some(()) }).await;
    assert_eq!(hubs(state.path()).lines().count(), 1);
    becomes(&hub, &node.url(), true).await;
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    until(SOON, "the hub hears the node", || async {
        let page = hub.get("/api/v1/events?limit=1").await.json();
        page["events"].as_array().is_some_and(|events| !events.is_empty()).then_some(())
    })
    .await;

    let why = "pairing_secret differs in the configs of the hub and the node";
    until(SOON, "both say why they do not pair", || async {
        (lone_hub.daemon.log().contains(why) && lone_node.daemon.log().contains(why)).then_some(())
    })
    .await;
    assert_eq!(hubs(lone.path()), "paired with no hub\n");

    // The config file of the test is readable by everybody. The node has the secret from elsewhere.
    let is_readable = "every user of this machine can read the pairing secret";
    assert!(hub.daemon.log().contains(is_readable) && !node.daemon.log().contains(is_readable));
    let config = printed(
        &binaries().hub,
        &["config", "show", "--config", &hub.data_folder().join("hub.toml").display().to_string()],
    );
    assert!(config.contains("pairing_secret = \"***\""), "{config}");
    for text in [&hub.daemon.log(), &lone_hub.daemon.log(), &node.daemon.log(), &lone_node.daemon.log(), &config] {
        assert!(!text.contains(secret) && !text.contains(other), "{text}");
    }
}

/// The ids of the events of the node with this id or URL, once there are some.
async fn events_of(hub: &Hub, node: &str) -> BTreeSet<i64> {
    until(SOON, "the node is heard", || async {
        let events = events_now(hub, node).await;
        (!events.is_empty()).then_some(events)
    })
    .await
}

async fn events_now(hub: &Hub, node: &str) -> BTreeSet<i64> {
    let page = hub.get(&format!("/api/v1/events?limit=500&node={node}")).await.json();
    page["events"].as_array().unwrap().iter().filter_map(|event| event["id"].as_i64()).collect()
}

#[tokio::test]
async fn node_that_lost_its_key_is_paired_again_and_gets_its_history_back() {
    let state = tempfile::tempdir().unwrap();
    let (first, second) = (state.path().join("first"), state.path().join("second"));
    let options = NodeOptions { state_folder: Some(first.clone()), ..NodeOptions::new("http://127.0.0.1:9") };
    let node = Node::start(options).await;
    let hub = Hub::start(&[]).await;
    let data = hub.data_folder().to_str().unwrap().to_owned();
    let host = node.address().to_string();
    let (cat_node, hub_program) = (&binaries().cat_node, &binaries().hub);
    let pair = |folder: &Path| {
        pair_by_code(folder.to_str().unwrap(), &host, &data);
        let id = printed(cat_node, &["identity", "show", "--state-dir", folder.to_str().unwrap()]);
        id.trim().to_owned()
    };
    let old = pair(&first);
    events_of(&hub, &old).await;

    // The memory card is lost: the node comes back at its address with another key.
    let reborn = NodeOptions { state_folder: Some(second.clone()), ..node.options() };
    drop(node);
    let before = events_of(&hub, &old).await;
    let node = Node::start(reborn).await;
    let new = pair(&second);
    assert_ne!(old, new);
    until(SOON, "the node proves its new id", || async {
        known(&hub, &node.url()).await.filter(|node| node["node_id"] == new)
    })
    .await;
    let after = events_of(&hub, &new).await;
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");

    let said = printed(hub_program, &["nodes", "replace", &old, &new, "--data-dir", &data]);
    assert!(said.starts_with(&format!("replaced: {} has the history now: ", node.url())), "{said}");
    let all = events_of(&hub, &new).await;
    assert!(all.is_superset(&before) && all.is_superset(&after), "{all:?} {before:?} {after:?}");
    assert!(events_now(&hub, &old).await.is_empty(), "no event is under two ids");
    let again = run(hub_program, &["nodes", "replace", &old, &new, "--data-dir", &data]);
    assert!(!again.status.success(), "{again:?}");

    // It stays so, and the node is heard on.
    let hub = hub.restart().await;
    becomes(&hub, &node.url(), true).await;
    assert!(events_of(&hub, &new).await.is_superset(&all));
}
