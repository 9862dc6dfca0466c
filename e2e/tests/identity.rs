//! A node is its id, whatever its address is.

use std::process::Command;
use std::time::Duration;

use e2e::binaries::binaries;
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::{SOON, until};
use serde_json::Value;

/// Two nodes of one id are a duplicate once they have been so for half a minute.
const DUPLICATE_WITHIN: Duration = Duration::from_secs(120);

/// The events of a node, as (URL, boot id), once there are some of `boots` boots.
async fn events(hub: &Hub, node: &str, boots: usize) -> Vec<(String, String)> {
    until(SOON, &format!("events of {boots} boots"), || async {
        let page = hub.get(&format!("/api/v1/events?limit=500&node={node}")).await.json();
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events: Vec<_> =
            page["events"].as_array()?.iter().map(|event| (word(event, "node"), word(event, "boot_id"))).collect();
        let different: std::collections::BTreeSet<_> = events.iter().map(|(_, boot_id)| boot_id).collect();
        (different.len() == boots).then_some(events)
    })
    .await
}

#[tokio::test]
async fn history_of_a_node_goes_on_at_another_address() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state_folder = Some(folder.path().join("state"));
    let node = Node::start(NodeOptions { state_folder, ..NodeOptions::new("http://127.0.0.1:1") }).await;
    let hub = Hub::start(&[("Tom", &node.url())]).await;

    let mut show = Command::new(&binaries().cat_node);
    show.args(["identity", "show", "--state-dir"]).arg(folder.path().join("state"));
    let shown = show.output().expect("the node shows its id");
    let id = String::from_utf8(shown.stdout).expect("an id").trim().to_owned();
    assert_eq!(id.len(), 64, "{id:?} {}", String::from_utf8_lossy(&shown.stderr));
    until(SOON, "the node proves its id", || async {
        (hub.get("/api/v1/nodes").await.json()["nodes"][0]["node_id"] == id).then_some(())
    })
    .await;
    events(&hub, &id, 1).await;

    let moved = NodeOptions { listen: ports::free(), ..node.options() };
    drop(node);
    let node = Node::start(moved).await;
    let hub = hub.restart_with(&[("Tom", &node.url())]).await;
    let events = events(&hub, &id[..16], 2).await;
    assert!(events.iter().all(|(url, _)| *url == node.url()), "{events:?}");
}

#[tokio::test]
async fn two_nodes_with_one_copied_key_are_both_heard_and_named_in_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (first, copy) = (folder.path().join("first"), folder.path().join("copy"));
    let options = |state: &std::path::Path| NodeOptions {
        state_folder: Some(state.to_owned()),
        ..NodeOptions::new("http://127.0.0.1:1")
    };
    let one = Node::start(options(&first)).await;
    std::fs::create_dir(&copy).expect("a folder");
    for file in std::fs::read_dir(&first).expect("the state of the node") {
        let file = file.expect("a file");
        // The socket for commands is no file to copy.
        if file.file_type().expect("its type").is_file() {
            std::fs::copy(file.path(), copy.join(file.file_name())).expect("it is copied");
        }
    }
    let other = Node::start(options(&copy)).await;
    let hub = Hub::start(&[("Tom", &one.url()), ("Ada", &other.url())]).await;
    until(DUPLICATE_WITHIN, "the duplicate is logged", || async {
        let log = hub.daemon.log();
        let line = log.lines().find(|line| line.contains("duplicate identity"))?.to_owned();
        (line.contains(&one.url()) && line.contains(&other.url())).then_some(())
    })
    .await;
    let nodes = hub.get("/api/v1/nodes").await.json()["nodes"].as_array().expect("a list").clone();
    assert_eq!(nodes[0]["node_id"], nodes[1]["node_id"]);
    assert!(nodes.iter().all(|node| node["node_id"].is_string() && node["reachable"] == true), "{nodes:?}");
}
