//! A hub and a node that are paired by their commands, as a person does it.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

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

    let shown = printed(cat_node, &["pair", "--state-dir", folder]);
    let code = shown.lines().next().unwrap();
    assert_eq!(code.len(), 9, "{shown}");
    let wrong = run(hub_program, &["pair", "0000-0000", &host, "--data-dir", &data]);
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && error.contains("the code is wrong"), "{error}");
    assert_eq!(printed(cat_node, &["hubs", "--state-dir", folder]), "paired with no hub\n");

    let paired = printed(hub_program, &["pair", code, &host, "--data-dir", &data]);
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
    let shown = printed(cat_node, &["pair", "--state-dir", folder]);
    printed(hub_program, &["pair", shown.lines().next().unwrap(), &host, "--data-dir", &data]);
    becomes(&hub, &node.url(), true).await;

    // The hub ends it.
    let removed = printed(hub_program, &["nodes", "remove", &node.url(), "--data-dir", &data]);
    assert!(removed.contains(&node.url()), "{removed}");
    assert_eq!(known(&hub, &node.url()).await, None);
    let hub = hub.restart().await;
    assert_eq!(known(&hub, &node.url()).await, None);
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
