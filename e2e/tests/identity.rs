//! A node is its id, whatever its address is.

use std::process::Command;

use e2e::binaries::binaries;
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::{SOON, until};
use serde_json::Value;

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
