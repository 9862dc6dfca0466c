use std::time::Instant;

use daemon::identity::NodeId;

use super::*;
use crate::node::{DESCRIPTION_HOLDS, Description};
use crate::testing::FakeNode;

fn nodes(configs: &[(Option<&str>, &str)]) -> Nodes {
    let configs: Vec<_> = configs
        .iter()
        .map(|(cat, url)| NodeConfig { cat: cat.map(Into::into), url: url.parse().unwrap(), min_score: None })
        .collect();
    Nodes::new(&configs).unwrap()
}

fn describe_as(nodes: &Nodes, url: &str, cat: &str) {
    let node = nodes.iter().find(|node| node.url() == url).unwrap();
    node.set_description(Description { cat_name: cat.to_owned(), ..Description::default() });
}

#[tokio::test]
async fn name_goes_to_the_node_that_is_configured_for_it() {
    let nodes = nodes(&[(Some("Tom"), "http://one:1"), (Some("Ada"), "http://two:1")]);
    assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
    assert_eq!(nodes.for_cat("Tom").url(), "http://one:1");
}

#[tokio::test]
async fn name_goes_to_the_node_that_says_it_has_it() {
    let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
    assert_eq!(nodes.for_cat("Ada").url(), "http://one:1");
    describe_as(&nodes, "http://two:1", "Ada");
    assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
}

#[tokio::test]
async fn any_other_name_goes_to_the_first_node() {
    let nodes = nodes(&[(Some("Tom"), "http://one:1"), (Some("Ada"), "http://two:1")]);
    assert_eq!(nodes.for_cat("Nobody").url(), "http://one:1");
    assert_eq!(nodes.for_cat("").url(), "http://one:1");
}

#[tokio::test]
async fn config_counts_for_more_than_what_a_node_says() {
    let nodes = nodes(&[(None, "http://one:1"), (Some("Ada"), "http://two:1")]);
    describe_as(&nodes, "http://one:1", "Ada");
    describe_as(&nodes, "http://two:1", "Tom");
    assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
    assert_eq!(nodes.for_cat("Tom").url(), "http://one:1");
}

fn answer_with(node: &Node, boot_id: u64) {
    node.set_description(Description { boot_id, ..Description::default() });
}

#[tokio::test]
async fn nodes_are_added_at_the_end_and_up_to_the_limit() {
    let nodes = nodes(&[(Some("Tom"), "http://one:1")]);
    let mut watch = nodes.watch();
    for number in 1..MAX_NODES {
        nodes.add(Node::discovered(format!("http://pi-{number}.local:1")).unwrap()).unwrap();
    }
    assert!(watch.has_changed().unwrap());
    watch.mark_unchanged();
    assert_eq!(nodes.add(Node::discovered("http://one-more.local:1".into()).unwrap()), Err(Full));
    assert!(!watch.has_changed().unwrap());
    assert_eq!(nodes.iter().count(), MAX_NODES);
    assert_eq!(nodes.iter().next().unwrap().url(), "http://one:1");
    assert!(nodes.get("http://pi-63.local:1").is_some_and(|node| node.is_discovered()));
    describe_as(&nodes, "http://pi-9.local:1", "Ada");
    assert_eq!(nodes.for_cat("Ada").url(), "http://pi-9.local:1");
}

fn default_at(address: std::net::SocketAddr) -> Nodes {
    Nodes::with_default(&format!("http://{address}").parse().unwrap()).unwrap()
}

#[tokio::test]
async fn default_node_that_never_answers_is_called_only_while_there_is_no_other() {
    let nodes = default_at("127.0.0.1:9".parse().unwrap());
    assert!(!nodes.ask_default().await);
    assert!(nodes.distinct().is_empty(), "nobody misses it");
    assert_eq!(
        (nodes.expected().unwrap().url(), nodes.for_cat("Tom").url()),
        ("http://127.0.0.1:9", "http://127.0.0.1:9")
    );
    nodes.add(Node::discovered("http://pi.local:1".into()).unwrap()).unwrap();
    assert!(!nodes.ask_default().await);
    assert!(nodes.expected().is_none());
    assert_eq!(nodes.for_cat("Tom").url(), "http://pi.local:1");
}

#[tokio::test]
async fn default_node_that_answers_joins_once_and_comes_first() {
    let nodes = default_at(FakeNode::with(vec![]).serve().await);
    nodes.add(Node::discovered("http://pi.local:1".into()).unwrap()).unwrap();
    assert!(nodes.ask_default().await && nodes.ask_default().await);
    assert_eq!(nodes.distinct().len(), 2);
    let default = nodes.iter().nth(1).unwrap();
    assert_eq!(nodes.for_cat("Nobody").url(), default.url());
}

#[tokio::test]
async fn default_node_that_is_known_under_another_name_does_not_join() {
    let address = FakeNode::with(vec![]).serve().await;
    let nodes = default_at(address);
    let found = Node::discovered("http://pi.local:1".into()).unwrap();
    found.set_addresses(vec![address]);
    nodes.add(found).unwrap();
    assert!(nodes.ask_default().await, "there is nothing more to ask");
    assert_eq!(nodes.iter().count(), 1);
}

#[tokio::test]
async fn node_with_the_boot_id_of_one_before_it_is_that_one() {
    let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
    let (one, two) = (nodes.get("http://one:1").unwrap(), nodes.get("http://two:1").unwrap());
    let found = Node::discovered("http://pi.local:1".into()).unwrap();
    assert!(nodes.twin_of(&found).is_none(), "nothing is known of either");
    answer_with(&two, 7);
    answer_with(&found, 7);
    assert_eq!(nodes.twin_of(&found).unwrap().url(), "http://two:1");
    // A node that is configured twice is so on purpose.
    answer_with(&one, 7);
    assert!(nodes.twin_of(&two).is_none());
    // After a restart, or without a recent answer, a boot id proves nothing.
    answer_with(&one, 8);
    let long_ago = Instant::now().checked_sub(DESCRIPTION_HOLDS).unwrap();
    two.set_description(Description { at: long_ago, boot_id: 7, ..Description::default() });
    assert!(nodes.twin_of(&found).is_none());
    // Later entries are not considered.
    nodes.add(found.clone()).unwrap();
    let other = Node::discovered("http://other.local:1".into()).unwrap();
    answer_with(&other, 7);
    nodes.add(other.clone()).unwrap();
    assert!(nodes.twin_of(&found).is_none());
    assert_eq!(nodes.twin_of(&other).unwrap().url(), "http://pi.local:1");
}

fn answer_as(node: &Node, boot_id: u64, id: Option<&[u8]>) {
    node.set_description(Description { boot_id, id: id.map(NodeId::of_spki), ..Description::default() });
}

#[tokio::test]
async fn configured_urls_of_one_id_are_one_node() {
    let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
    let (one, two) = (nodes.get("http://one:1").unwrap(), nodes.get("http://two:1").unwrap());
    answer_as(&one, 7, Some(b"key"));
    answer_as(&two, 7, Some(b"key"));
    assert_eq!(nodes.twin_of(&two).unwrap().url(), one.url());
    assert!(nodes.twin_of(&one).is_none());
    assert_eq!(nodes.distinct().len(), 1);
    let id = NodeId::of_spki(b"key");
    for name in [one.url(), &id.to_string(), &id.short().to_uppercase()] {
        assert_eq!(nodes.named(name).map(|node| node.url().to_owned()).as_deref(), Some(one.url()), "{name}");
    }
    assert!(nodes.named(&id.to_string()[..15]).is_none());
    assert!(nodes.of_one_id().is_empty());
    // Two boots of one id: a copied key. Both are heard.
    answer_as(&two, 8, Some(b"key"));
    assert!(nodes.twin_of(&two).is_none());
    assert_eq!(nodes.of_one_id().len(), 1);
}

#[tokio::test]
async fn node_that_repeats_what_another_says_does_not_take_its_place() {
    let nodes = nodes(&[(None, "http://nobody:1")]);
    let impostor = Node::discovered("http://impostor.local:1".into()).unwrap();
    let real = Node::discovered("http://real.local:1".into()).unwrap();
    nodes.add(impostor.clone()).unwrap();
    nodes.add(real.clone()).unwrap();
    for claimed in [None, Some(&b"another key"[..])] {
        answer_as(&impostor, 7, claimed);
        answer_as(&real, 7, Some(b"key"));
        assert!(nodes.twin_of(&real).is_none(), "{claimed:?}");
    }
    answer_as(&impostor, 7, None);
    assert_eq!(nodes.twin_of(&impostor).unwrap().url(), real.url());
}

#[tokio::test]
async fn configured_node_without_proof_gives_way_only_to_the_id_that_it_claims() {
    let nodes = nodes(&[(Some("Tom"), "http://forwarded:1")]);
    let configured = nodes.iter().next().unwrap();
    let found = Node::discovered("http://pi.local:1".into()).unwrap();
    nodes.add(found.clone()).unwrap();
    answer_as(&found, 7, Some(b"key"));
    let claims = |boot_id, key: Option<&[u8]>| {
        let claimed_id = key.map(NodeId::of_spki);
        configured.set_description(Description { boot_id, claimed_id, ..Description::default() });
        nodes.twin_of(&configured).map(|twin| twin.url().to_owned())
    };
    assert_eq!(claims(7, Some(b"key")).as_deref(), Some(found.url()));
    assert!(nodes.twin_of(&found).is_none(), "one of them is heard");
    // A stranger with a key of its own repeats the boot id of a configured node, and cannot silence it.
    for (boot_id, key) in [(7, None), (7, Some(&b"another"[..])), (8, Some(b"key"))] {
        assert_eq!(claims(boot_id, key), None, "{boot_id} {key:?}");
    }
    found.stands_for(&configured);
    assert_eq!(found.cat().as_deref(), Some("Tom"), "the configured name is shown");
}

#[tokio::test]
async fn node_that_is_configured_behind_a_forwarded_port_does_not_wait() {
    let nodes = nodes(&[(Some("Tom"), "http://forwarded:1")]);
    let configured = nodes.iter().next().unwrap();
    let (url, id) = ("http://pi.local:1", NodeId::of_spki(b"key"));
    let found = || {
        let found = Node::discovered(url.into()).unwrap();
        answer_as(&found, 7, Some(b"key"));
        found
    };
    // The configured address does not answer yet, or another node is there.
    assert!(matches!(nodes.receive(found(), url), Received::Waits(true)));
    answer_as(&configured, 7, Some(b"another"));
    assert!(matches!(nodes.receive(found(), url), Received::Waits(false)));
    configured.set_description(Description { boot_id: 7, claimed_id: Some(id), ..Description::default() });
    assert!(matches!(nodes.receive(found(), url), Received::Known(known) if known.url() == configured.url()));
    nodes.set_admitted(BTreeSet::new(), []);
    assert!(nodes.waiting().is_empty());
    // It is heard under the name where it proves its id, if a person wants that.
    nodes.set_admitted([id.to_string()].into(), []);
    assert!(matches!(nodes.receive(found(), url), Received::Joined));
}

#[tokio::test]
async fn password_of_a_node_is_not_in_its_name() {
    let nodes = Nodes::new(&["Tom=http://anna:98765@kitchen:1".parse().unwrap()]).unwrap();
    assert_eq!(nodes.iter().next().unwrap().url(), "http://anna:***@kitchen:1");
    assert!(nodes.get("http://anna:***@kitchen:1").is_some());
    assert!(!format!("{nodes:?}").contains("98765"));
}

#[tokio::test]
async fn another_id_at_the_url_of_a_discovered_node_is_not_heard_until_it_is_admitted() {
    let nodes = nodes(&[(None, "http://one:1")]);
    let found = Node::discovered("http://pi.local:1".into()).unwrap();
    nodes.add(found.clone()).unwrap();
    answer_as(&found, 7, Some(b"key"));
    assert!(nodes.may_be_heard(&found), "the first id there");
    for stranger in [None, Some(&b"stranger"[..])] {
        answer_as(&found, 8, stranger);
        assert!(!nodes.may_be_heard(&found), "{stranger:?}");
    }
    answer_as(&found, 7, Some(b"key"));
    assert!(nodes.may_be_heard(&found));
    answer_as(&found, 8, Some(b"stranger"));
    nodes.set_admitted([NodeId::of_spki(b"stranger").to_string()].into(), []);
    assert!(nodes.may_be_heard(&found), "it is admitted now");
}

#[tokio::test]
async fn id_that_took_the_place_of_another_at_a_configured_url_is_trusted_nowhere_else() {
    let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
    let (one, two) = (nodes.get("http://one:1").unwrap(), nodes.get("http://two:1").unwrap());
    let id = |key| NodeId::of_spki(key).to_string();
    let found = Node::discovered("http://pi.local:1".into()).unwrap();
    nodes.add(found.clone()).unwrap();
    let seen = [(&one, &b"one"[..]), (&two, b"two"), (&found, b"key")];
    nodes.set_admitted(BTreeSet::new(), seen.map(|(node, key)| (node.url().to_owned(), id(key))));
    answer_as(&one, 8, Some(b"stranger"));
    assert!(nodes.may_be_heard(&one), "the board may have been replaced");
    nodes.set_admitted(BTreeSet::new(), [(one.url().to_owned(), id(b"stranger"))]);
    answer_as(&found, 8, Some(b"stranger"));
    assert!(!nodes.may_be_heard(&found));
    answer_as(&found, 7, Some(b"two"));
    assert!(nodes.may_be_heard(&found), "two nodes have swapped their names");
}

#[tokio::test]
async fn cat_of_a_boot_stays_that_of_the_node_that_was_heard() {
    let node = Node::discovered("http://kitchen.local:1".into()).unwrap();
    assert_eq!(node.cat_of_boot(1), None);
    let boots: Vec<(u64, &str)> = vec![(1, "Tom"), (2, "Ada"), (3, "")];
    for (boot_id, cat) in boots {
        node.set_description(Description { boot_id, cat_name: cat.into(), ..Description::default() });
    }
    assert_eq!(node.cat_of_boot(1).as_deref(), Some("Tom"));
    assert_eq!(node.cat_of_boot(2).as_deref(), Some("Ada"));
    assert_eq!(node.cat_of_boot(3), None, "it says none");
    // Of a boot that is not remembered, the present name is the best guess.
    for boot_id in 10..30 {
        node.set_description(Description { boot_id, cat_name: "Mia".into(), ..Description::default() });
    }
    assert_eq!(node.cat_of_boot(1).as_deref(), Some("Mia"));
    let configured = Node::new(&"Tom=http://127.0.0.1:9".parse().unwrap()).unwrap();
    configured.set_description(Description { boot_id: 1, cat_name: "Ada".into(), ..Description::default() });
    assert_eq!(configured.cat_of_boot(1).as_deref(), Some("Tom"));
}

fn paired(url: &str, cat: Option<&str>) -> Option<Node> {
    paired_as(url, cat, b"a node")
}

fn paired_as(url: &str, cat: Option<&str>, spki: &[u8]) -> Option<Node> {
    let key = daemon::identity::Key::generate().unwrap().0;
    let id = NodeId::of_spki(spki);
    let tls = daemon::tls::TlsClient::new(Arc::new(key), vec![id.into()]).unwrap();
    Node::paired(url.to_owned(), cat, id, tls).ok()
}

fn urls(urls: &[&str]) -> Vec<String> {
    urls.iter().map(|url| (*url).to_owned()).collect()
}

#[tokio::test]
async fn paired_nodes_are_those_of_the_list_and_configured_ones_keep_their_cat_and_place() {
    let nodes = nodes(&[(Some("Tom"), "http://one:1"), (None, "http://two:1")]);
    let found = Node::discovered("http://attic.local:1".into()).unwrap();
    nodes.add(found.clone()).unwrap();
    let list = urls(&["http://one:1", "http://attic.local:1", "http://shed:1"]);
    assert_eq!(nodes.set_paired(&list, paired), Ok(()));
    let attic = nodes.get("http://attic.local:1").unwrap();
    assert!(attic.is_paired() && found.is_dismissed(), "the paired node takes the place of the discovered one");
    // A configured node is not called in plain once it is paired.
    let first = nodes.iter().next().unwrap();
    assert_eq!((first.url(), first.is_paired(), first.cat().as_deref()), ("http://one:1", true, Some("Tom")));
    assert!(!nodes.get("http://two:1").unwrap().is_paired());
    let shed = nodes.get("http://shed:1").unwrap();
    assert_eq!(nodes.set_paired(&list, |_, _| panic!("nothing is new")), Ok(()));
    assert_eq!(nodes.set_paired(&list[..2], paired), Ok(()));
    assert!(shed.is_dismissed() && nodes.get("http://shed:1").is_none() && !attic.is_dismissed());
    // Paired again: with another key it is another node.
    nodes.dismiss_paired("http://attic.local:1");
    assert!(attic.is_dismissed());
    assert_eq!(nodes.set_paired(&list, paired), Ok(()));
    assert!(nodes.get("http://attic.local:1").is_some() && nodes.get("http://shed:1").is_some());
}

#[tokio::test]
async fn paired_node_is_heard_where_another_one_was_before() {
    let nodes = nodes(&[(None, "http://one:1")]);
    let id = |key| NodeId::of_spki(key).to_string();
    nodes.set_admitted(BTreeSet::new(), [("http://attic.local:1".to_owned(), id(b"before"))]);
    nodes.set_paired(&urls(&["http://attic.local:1"]), paired).unwrap();
    let attic = nodes.get("http://attic.local:1").unwrap();
    answer_as(&attic, 7, Some(b"now"));
    assert!(nodes.may_be_heard(&attic));
    // The list of admitted nodes does not dismiss it.
    nodes.set_admitted(BTreeSet::new(), []);
    assert!(!attic.is_dismissed());
}

#[tokio::test]
async fn stranger_without_tls_takes_nothing_from_a_paired_node() {
    let nodes = nodes(&[(None, "http://one:1")]);
    let attic = "http://attic.local:1";
    nodes.set_paired(&urls(&[attic]), |url, cat| paired_as(url, cat, b"attic")).unwrap();
    let entry = nodes.get(attic).unwrap();
    let plain = |spki: Option<&[u8]>| {
        let node = Node::discovered(attic.to_owned()).unwrap();
        answer_as(&node, 7, spki);
        nodes.receive(node, attic)
    };
    // The paired node has not answered since the hub's start.
    assert!(matches!(plain(None), Received::Impostor));
    assert!(matches!(plain(Some(b"another")), Received::Waits(true)));
    assert!(matches!(plain(Some(b"attic")), Received::AtHome));
    nodes.set_admitted(BTreeSet::new(), []);
    assert!(!entry.is_dismissed());
}

#[tokio::test]
async fn closed_node_waits_for_its_code_and_is_dialled_where_it_was_announced() {
    let nodes = nodes(&[(None, "http://one.local:1")]);
    let address = |last| std::net::SocketAddr::from(([10, 0, 0, last], 50056));
    let closed = |url: &str, spki: &[u8], last| {
        let node = Node::needing_code(url.to_owned(), NodeId::of_spki(spki)).unwrap();
        node.set_addresses(vec![address(last)]);
        nodes.receive(node, url)
    };
    let attic = "http://attic.local:1";
    // Neither "admit-all" nor the admission of its id makes the hub listen to it.
    nodes.admit_all();
    assert!(matches!(closed(attic, b"attic", 7), Received::Waits(true)));
    nodes.set_admitted([NodeId::of_spki(b"attic").to_string()].into(), []);
    let waiting = nodes.waiting();
    assert!(waiting.len() == 1 && waiting[0].needs_code, "{waiting:?}");
    // Whoever announces the name of a configured node gets nothing.
    assert!(matches!(closed("http://one.local:1", b"impostor", 9), Received::Known(_)));
    assert_eq!(nodes.get("http://one.local:1").unwrap().addresses(), []);

    nodes.set_paired(&urls(&[attic]), |url, cat| paired_as(url, cat, b"attic")).unwrap();
    assert_eq!(nodes.get(attic).unwrap().addresses(), [address(7)]);
    assert_eq!(nodes.waiting(), []);
    assert!(matches!(closed(attic, b"attic", 8), Received::AtHome));
    // Another board at its name waits for a code of its own.
    assert!(matches!(closed(attic, b"another", 8), Received::Waits(true)));
    nodes.set_paired(&urls(&[attic]), |_, _| panic!("nothing is new")).unwrap();
    assert_eq!(nodes.waiting().len(), 1);
}

#[tokio::test]
async fn node_of_this_machine_does_not_wait_for_a_code_under_its_own_name() {
    let nodes = nodes(&[(None, "http://localhost:50056")]);
    let closed = |spki: &[u8]| {
        let node = Node::needing_code("http://attic.local:50056".to_owned(), NodeId::of_spki(spki)).unwrap();
        nodes.receive(node, "attic")
    };
    // It listens on all addresses: without TLS on loopback, for paired hubs elsewhere.
    answer_as(&nodes.get("http://localhost:50056").unwrap(), 7, Some(b"attic"));
    assert!(matches!(closed(b"attic"), Received::Known(_)));
    assert_eq!(nodes.waiting(), []);
    assert!(matches!(closed(b"another"), Received::Waits(true)));
}

#[tokio::test]
async fn what_has_the_key_of_a_paired_node_is_not_heard_in_plain() {
    let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
    let (one, two) = (nodes.get("http://one:1").unwrap(), nodes.get("http://two:1").unwrap());
    answer_as(&one, 7, Some(b"attic"));
    answer_as(&two, 8, Some(b"another"));
    assert!(nodes.twin_of(&one).is_none());
    // Paired under another name. It has not answered there yet.
    nodes.set_paired(&urls(&["http://attic.local:1"]), |url, cat| paired_as(url, cat, b"attic")).unwrap();
    assert_eq!(nodes.twin_of(&one).unwrap().url(), "http://attic.local:1");
    assert!(nodes.twin_of(&nodes.get("http://attic.local:1").unwrap()).is_none() && nodes.twin_of(&two).is_none());
    // Found in plain under a third name, although its id is admitted still.
    nodes.set_admitted([NodeId::of_spki(b"attic").to_string()].into(), []);
    let third = Node::discovered("http://attic-2.local:1".into()).unwrap();
    answer_as(&third, 7, Some(b"attic"));
    assert!(matches!(nodes.receive(third, "attic-2"), Received::Known(known) if known.is_paired()));
}
