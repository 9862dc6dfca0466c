//! Announcements against real gRPC servers; `e2e/tests/discovery.rs` has the network too.

use mdns_sd::ServiceInfo;

use super::*;
use crate::address::NodeConfig;
use crate::testing::FakeNode;

/// What any wait may take before it counts as a failure. Nothing is expected to come near it.
const SOON: Duration = Duration::from_secs(60);

fn announcement(host: &str, addresses: &str) -> Option<Announcement> {
    let keys: [(&str, &str); 0] = [];
    let service = ServiceInfo::new(NODE_SERVICE, "Tom at home", host, addresses, 50056, &keys[..]).unwrap();
    Announcement::of(&service.as_resolved_service())
}

#[test]
fn name_is_that_of_the_machine_and_its_port() {
    let found = announcement("Attic-Pi.local.", "192.168.7.5,10.0.0.5").unwrap();
    assert_eq!(found.url, "http://attic-pi.local:50056");
    assert_eq!(found.addresses, ["10.0.0.5:50056".parse().unwrap(), "192.168.7.5:50056".parse().unwrap()]);
    assert_eq!(found.name, "Tom at home._cat-node._tcp.local.");
}

#[test]
fn what_no_url_can_be_made_of_is_no_node() {
    let long = format!("{}.local.", "a".repeat(64));
    for host in
        ["a b.local.", "a/b.local.", "a@b.local.", "attic.pi.local.", ".local.", "attic.example.", "ö.local.", &long]
    {
        assert_eq!(announcement(host, "10.0.0.5"), None, "{host}");
    }
    let nowhere = announcement("attic.local.", "127.0.0.1,::1,0.0.0.0,224.0.0.251").unwrap();
    assert!(nowhere.addresses.is_empty(), "{nowhere:?}");
}

/// A node under a name, at an address of this machine.
fn at(url: &str, address: SocketAddr) -> Announcement {
    Announcement { name: format!("{url} of a test"), url: url.into(), addresses: vec![address] }
}

/// Follows announcements until there are none any more, and all candidates have been asked.
async fn follow(finder: &mut Finder) {
    while let Some(answered) = tokio::time::timeout(SOON, finder.asking.join_next()).await.unwrap() {
        if let Ok(node) = answered {
            finder.admit(node);
        }
    }
}

fn urls(nodes: &Nodes) -> Vec<String> {
    nodes.iter().map(|node| node.url().to_owned()).collect()
}

fn configured(url: &str) -> Nodes {
    Nodes::new(&[NodeConfig { cat: None, url: url.parse().unwrap() }]).unwrap()
}

/// Nothing listens there.
const NOBODY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn announced_node_joins_once_it_has_answered_and_stays() {
    let address = FakeNode::with(Vec::new()).serve().await;
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let found = at("http://attic.local:50056", address);
    finder.take(found.clone());
    finder.take(found.clone());
    assert_eq!(urls(&nodes), [NOBODY]);
    follow(&mut finder).await;
    assert_eq!(urls(&nodes), [NOBODY, &found.url]);
    finder.forget(&found.name);
    finder.take(found.clone());
    follow(&mut finder).await;
    assert_eq!(urls(&nodes), [NOBODY, &found.url]);
}

#[tokio::test]
async fn node_that_is_configured_is_no_second_one() {
    let address = FakeNode::with(Vec::new()).serve().await;
    let nodes = configured(&format!("http://{address}"));
    let mut finder = Finder::new(nodes.clone());
    finder.take(at("http://attic.local:50056", address));
    follow(&mut finder).await;
    assert_eq!(nodes.iter().count(), 1);
}

#[tokio::test]
async fn configured_name_in_local_is_dialled_where_it_is_announced_to_be() {
    let address = FakeNode::with(Vec::new()).serve().await;
    let nodes = configured("http://attic.local:50056");
    let mut finder = Finder::new(nodes.clone());
    finder.take(at("http://attic.local:50056", address));
    follow(&mut finder).await;
    assert_eq!(nodes.iter().count(), 1);
    let node = nodes.iter().next().unwrap();
    assert!(!node.is_discovered());
    assert_eq!(node.describe().await.unwrap().cat_name, "Tom");
}

#[tokio::test]
async fn new_address_of_a_node_counts_from_the_next_connection_on() {
    let (first, second) = (FakeNode::with(Vec::new()), FakeNode::with(Vec::new()));
    second.change(|tape| tape.boot_id = 2);
    let (first_address, second_address) = (first.serve().await, second.serve().await);
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    // One of its addresses leads nowhere from here.
    let mut found = at("http://attic.local:50056", first_address);
    found.addresses.insert(0, "127.0.0.1:1".parse().unwrap());
    finder.take(found);
    follow(&mut finder).await;
    let node = nodes.get("http://attic.local:50056").unwrap();
    assert_eq!(node.describe().await.unwrap().boot_id, 0xB007);
    finder.take(at("http://attic.local:50056", second_address));
    let again = Node::discovered("http://attic.local:50056".into()).unwrap();
    again.set_addresses(vec![second_address]);
    assert_eq!(again.describe().await.unwrap().boot_id, 2);
    assert_eq!(nodes.iter().count(), 2);
}

#[tokio::test]
async fn name_that_leads_to_a_known_node_too_is_that_of_the_other_node() {
    let (first, second) = (FakeNode::with(Vec::new()), FakeNode::with(Vec::new()));
    second.change(|tape| tape.boot_id = 2);
    let (first_address, second_address) = (first.serve().await, second.serve().await);
    let nodes = configured(&format!("http://{first_address}"));
    let mut finder = Finder::new(nodes.clone());
    let mut found = at("http://attic.local:50056", first_address);
    found.addresses.push(second_address);
    finder.take(found);
    follow(&mut finder).await;
    assert_eq!(nodes.get("http://attic.local:50056").unwrap().description().unwrap().boot_id, 2);
}

#[tokio::test]
async fn announcement_that_is_taken_back_before_it_answers_is_forgotten() {
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let found = at("http://attic.local:50056", "127.0.0.1:1".parse().unwrap());
    finder.take(found.clone());
    assert_eq!(finder.candidates.len(), 1);
    finder.forget(&found.name);
    follow(&mut finder).await;
    assert_eq!((finder.candidates.len(), urls(&nodes)), (0, vec![NOBODY.to_owned()]));
}

#[tokio::test]
async fn no_more_announcements_are_followed_than_there_may_be_nodes() {
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    for number in 0..=MAX_NODES {
        finder.take(at(&format!("http://pi-{number}.local:1"), "127.0.0.1:1".parse().unwrap()));
    }
    assert_eq!((finder.candidates.len(), nodes.refused()), (MAX_NODES, 1));
}
