//! Announcements against real gRPC servers; `e2e/tests/discovery.rs` has the network too.

use daemon::identity::Key;
use mdns_sd::ServiceInfo;

use super::*;
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
        if let Ok(answered) = answered {
            finder.judge(answered);
        }
    }
}

fn urls(nodes: &Nodes) -> Vec<String> {
    nodes.iter().map(|node| node.url().to_owned()).collect()
}

/// A registry with this node, which admits every other.
fn configured(url: &str) -> Nodes {
    let nodes = asking(url);
    nodes.admit_all();
    nodes
}

/// A registry with this node, where others wait to be admitted.
fn asking(url: &str) -> Nodes {
    Nodes::new(&[url.parse().unwrap()]).unwrap()
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
async fn one_address_with_many_names_takes_few_places() {
    let nodes = asking(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    for number in 0..63 {
        finder.take(at(&format!("http://fake-{number}.local:1"), "127.0.0.1:1".parse().unwrap()));
    }
    assert_eq!((finder.candidates.len(), nodes.refused()), (MAX_PER_ADDRESS, 63 - MAX_PER_ADDRESS as u64));
    assert!(finder.turned_away, "they get another try later");
}

/// Addresses of loopback, all different.
fn address_of(number: usize) -> SocketAddr {
    format!("127.0.{}.{}:1", 1 + number / 200, 1 + number % 200).parse().unwrap()
}

#[tokio::test]
async fn announcements_that_do_not_answer_give_way() {
    let nodes = asking(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    for number in 0..MAX_CANDIDATES {
        finder.take(at(&format!("http://fake-{number}.local:1"), address_of(number)));
    }
    finder.take(at("http://late.local:1", address_of(199)));
    assert_eq!((finder.candidates.len(), nodes.refused()), (MAX_CANDIDATES, 1), "they may still answer");
    let deadline = Instant::now() + SOON;
    while !finder.candidates.values().any(|candidate| candidate.has_failed.load(Ordering::Relaxed)) {
        assert!(Instant::now() < deadline, "no candidate failed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let real = FakeNode::with(Vec::new()).serve().await;
    finder.take(at("http://real.local:50056", real));
    let deadline = tokio::time::timeout(SOON, async {
        while nodes.waiting().is_empty() {
            let answered = finder.asking.join_next().await.unwrap();
            if let Ok(answered) = answered {
                finder.judge(answered);
            }
        }
    });
    deadline.await.unwrap();
    assert_eq!(nodes.waiting()[0].url, "http://real.local:50056");
}

#[tokio::test]
async fn new_announcements_are_followed_at_a_bounded_rate() {
    let start = Instant::now();
    let mut allowance = Allowance::new(NEW_AT_ONCE, NEW_A_SECOND, start.into_std());
    let taken = |allowance: &mut Allowance, at: Instant| (0..1_000).filter(|_| allowance.take(at.into_std())).count();
    assert_eq!(taken(&mut allowance, start), NEW_AT_ONCE as usize);
    assert_eq!(taken(&mut allowance, start + Duration::from_secs(10)), (10.0 * NEW_A_SECOND) as usize);
}

#[tokio::test]
async fn announced_node_waits_until_it_is_admitted_and_its_place_is_freed_when_it_goes() {
    let address = FakeNode::with(Vec::new()).serve().await;
    let nodes = asking(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let found = at("http://attic.local:50056", address);
    finder.take(found.clone());
    follow(&mut finder).await;
    assert_eq!(urls(&nodes), [NOBODY]);
    let waiting = nodes.waiting();
    let [waits] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert_eq!((waits.key.as_str(), waits.url.as_str()), (found.url.as_str(), found.url.as_str()));
    assert_eq!((waits.cat.as_deref(), waits.addresses.as_slice()), (Some("Tom"), &[address][..]));
    finder.forget(&found.name);
    assert_eq!(nodes.waiting(), []);

    finder.take(found.clone());
    follow(&mut finder).await;
    nodes.set_admitted([found.url.clone()].into(), []);
    assert_eq!((urls(&nodes), nodes.waiting().len()), (vec![NOBODY.to_owned(), found.url.clone()], 0));
    // Another look at the store changes nothing, and the end of the admission dismisses the node.
    nodes.set_admitted([found.url.clone()].into(), []);
    let node = nodes.get(&found.url).unwrap();
    assert!(!node.is_dismissed());
    nodes.set_admitted(BTreeSet::new(), []);
    assert!(node.is_dismissed());
    assert_eq!(urls(&nodes), [NOBODY]);
    assert!(node.describe().await.is_err(), "it is not called any more");
}

#[tokio::test]
async fn dismissed_node_waits_again_without_another_announcement() {
    let address = with_key(&new_key(), 1).await;
    let nodes = asking(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let found = at("http://attic.local:50056", address);
    for _ in 0..2 {
        // Browsing again reports what has been announced before.
        finder.take(found.clone());
        follow(&mut finder).await;
        let key = nodes.waiting()[0].key.clone();
        nodes.set_admitted([key].into(), []);
        finder.take(found.clone());
        follow(&mut finder).await;
        assert!(!nodes.get(&found.url).unwrap().is_dismissed());
        finder.turned_away = false;
        nodes.set_admitted(BTreeSet::new(), []);
        tokio::time::timeout(SOON, finder.dismissals.changed()).await.unwrap().unwrap();
        finder.ask_dismissed_again();
        assert!(finder.turned_away, "what is announced is looked at again");
    }
}

#[tokio::test]
async fn refused_node_does_not_wait_again() {
    let address = FakeNode::with(Vec::new()).serve().await;
    let nodes = asking(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let found = at("http://attic.local:50056", address);
    finder.take(found.clone());
    follow(&mut finder).await;
    nodes.refuse(&found.url);
    assert_eq!(nodes.waiting(), []);
    finder.forget(&found.name);
    finder.take(found.clone());
    follow(&mut finder).await;
    assert_eq!((nodes.waiting(), urls(&nodes)), (vec![], vec![NOBODY.to_owned()]));
    nodes.pardon(&found.url);
    finder.forget(&found.name);
    finder.take(found);
    follow(&mut finder).await;
    assert_eq!(nodes.waiting().len(), 1);
}

fn new_key() -> Arc<Key> {
    Arc::new(Key::generate().unwrap().0)
}

/// A node with this key.
async fn with_key(key: &Arc<Key>, boot_id: u64) -> SocketAddr {
    let node = FakeNode::with(Vec::new());
    node.change(|tape| (tape.key, tape.boot_id) = (Some(Arc::clone(key)), boot_id));
    node.serve().await
}

/// The answer of the node, after the end of a connection that was cut is noticed.
async fn described(node: &Node) -> proto::DescribeResponse {
    let answer = async {
        loop {
            match node.describe().await {
                Ok(answer) => return answer,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(SOON, answer).await.unwrap()
}

#[tokio::test]
async fn announcement_of_a_configured_name_without_its_key_gets_nothing() {
    let (key, other_key) = (new_key(), new_key());
    let real = with_key(&key, 1).await;
    let nodes = asking("http://kitchen.local:50056");
    let kitchen = nodes.iter().next().unwrap();
    let mut finder = Finder::new(nodes.clone());
    finder.take(at("http://kitchen.local:50056", real));
    kitchen.describe().await.unwrap();
    let id = kitchen.id().unwrap();

    // One without a key, which is not shown, and one with another, which waits.
    for impostor in [FakeNode::with(Vec::new()).serve().await, with_key(&other_key, 2).await] {
        finder.take(at("http://kitchen.local:50056", impostor));
        follow(&mut finder).await;
        assert_eq!(kitchen.addresses(), [real]);
        assert_eq!(described(&kitchen).await.boot_id, 1);
        assert_eq!(kitchen.id(), Some(id));
    }
    let other = other_key.id().to_string();
    assert_eq!(nodes.waiting().iter().map(|node| node.key.clone()).collect::<Vec<_>>(), std::slice::from_ref(&other));

    // Of several addresses, those that prove the id count.
    let moved = with_key(&key, 3).await;
    let mut both = at("http://kitchen.local:50056", moved);
    both.addresses.insert(0, with_key(&other_key, 2).await);
    finder.take(both);
    follow(&mut finder).await;
    assert_eq!(kitchen.addresses(), [moved]);

    // A person replaces the node.
    nodes.set_admitted([other].into(), []);
    assert_eq!(described(&kitchen).await.boot_id, 2);
    assert_eq!(nodes.iter().count(), 1);
}

#[tokio::test]
async fn id_that_the_store_knows_protects_a_name_from_the_start() {
    let (key, other_key) = (new_key(), new_key());
    let nodes = asking("http://kitchen.local:50056");
    nodes.set_admitted(BTreeSet::new(), [("http://kitchen.local:50056".to_owned(), key.id().to_string())]);
    let mut finder = Finder::new(nodes.clone());
    finder.take(at("http://kitchen.local:50056", with_key(&other_key, 2).await));
    follow(&mut finder).await;
    let kitchen = nodes.iter().next().unwrap();
    assert_eq!(kitchen.addresses(), []);
    let real = with_key(&key, 1).await;
    finder.take(at("http://kitchen.local:50056", real));
    follow(&mut finder).await;
    assert_eq!(kitchen.addresses(), [real]);
}

#[tokio::test]
async fn admitted_nodes_that_swap_their_names_are_heard_again() {
    let (one, two) = (new_key(), new_key());
    let (first, second) = (with_key(&one, 1).await, with_key(&two, 2).await);
    let nodes = asking(NOBODY);
    nodes.set_admitted([one.id().to_string(), two.id().to_string()].into(), []);
    let mut finder = Finder::new(nodes.clone());
    finder.take(at("http://a.local:1", first));
    finder.take(at("http://b.local:1", second));
    follow(&mut finder).await;
    assert_eq!(nodes.iter().count(), 3);
    finder.take(at("http://a.local:1", second));
    finder.take(at("http://b.local:1", first));
    follow(&mut finder).await;
    let addresses = |url| nodes.get(url).unwrap().addresses();
    assert_eq!((addresses("http://a.local:1"), addresses("http://b.local:1")), (vec![second], vec![first]));
}

#[tokio::test]
async fn admitted_url_counts_for_the_first_id_that_is_proved_there() {
    let (key, other_key) = (new_key(), new_key());
    let url = "http://attic.local:1".to_owned();
    let nodes = asking(NOBODY);
    nodes.set_admitted([url.clone()].into(), []);
    let mut finder = Finder::new(nodes.clone());
    finder.take(at(&url, with_key(&key, 1).await));
    follow(&mut finder).await;
    assert_eq!(urls(&nodes), [NOBODY, &url]);
    finder.take(at(&url, with_key(&other_key, 2).await));
    follow(&mut finder).await;
    assert_eq!(nodes.get(&url).unwrap().describe().await.unwrap().boot_id, 1);
    assert_eq!(nodes.waiting().len(), 1);
}

#[tokio::test]
async fn address_of_another_network_is_not_dialled() {
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    finder.networks = Networks::loopback;
    for elsewhere in ["192.0.2.1:50056", "[2001:db8::1]:50056"] {
        finder.take(at("http://elsewhere.local:50056", elsewhere.parse().unwrap()));
        assert_eq!(finder.candidates.len(), 0, "{elsewhere}");
    }
    let mut mixed = at("http://attic.local:50056", "192.0.2.1:50056".parse().unwrap());
    let near = FakeNode::with(Vec::new()).serve().await;
    mixed.addresses.push(near);
    finder.take(mixed);
    follow(&mut finder).await;
    assert_eq!(nodes.get("http://attic.local:50056").unwrap().addresses(), [near]);
}

#[tokio::test]
async fn two_trusted_nodes_at_one_name_do_not_cut_each_other_off() {
    let (one, two) = (new_key(), new_key());
    let (first, second) = (with_key(&one, 1).await, with_key(&two, 2).await);
    let nodes = asking(NOBODY);
    nodes.set_admitted([one.id().to_string(), two.id().to_string()].into(), []);
    let mut finder = Finder::new(nodes.clone());
    let mut found = at("http://attic.local:1", first);
    finder.take(found.clone());
    follow(&mut finder).await;
    let node = nodes.get(&found.url).unwrap();
    assert_eq!(node.describe().await.unwrap().boot_id, 1);
    found.addresses.push(second);
    finder.take(found);
    follow(&mut finder).await;
    assert_eq!(node.addresses(), [first, second]);
    assert_eq!(node.describe().await.unwrap().boot_id, 1, "the connection goes on");
}

#[tokio::test]
async fn address_that_is_silent_at_first_is_asked_again_a_few_times() {
    let key = new_key();
    let first = with_key(&key, 1).await;
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    // Nothing listens there yet.
    let late = tokio::net::TcpSocket::new_v4().unwrap();
    late.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut found = at("http://attic.local:1", first);
    found.addresses.push(late.local_addr().unwrap());
    for _ in 0..MAX_LOOKS_FOR_SILENT {
        finder.turned_away = false;
        finder.take(found.clone());
        follow(&mut finder).await;
        assert_eq!(nodes.get(&found.url).unwrap().addresses(), [first]);
        assert!(finder.turned_away && finder.followed.is_empty(), "it is looked at again");
    }
    let node = nodes.get(&found.url).unwrap();
    node.describe().await.unwrap();

    let fake = FakeNode::with(Vec::new());
    fake.change(|tape| (tape.key, tape.boot_id) = (Some(key), 1));
    fake.serve_at(late.listen(8).unwrap());
    finder.turned_away = false;
    finder.take(found.clone());
    follow(&mut finder).await;
    assert_eq!(node.addresses(), found.addresses);
    assert_eq!((finder.turned_away, finder.followed.len()), (false, 1));
    node.describe().await.unwrap();
}

#[tokio::test]
async fn address_that_never_answers_is_not_asked_forever() {
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes);
    let mut found = at("http://attic.local:1", with_key(&new_key(), 1).await);
    found.addresses.push("127.0.0.1:1".parse().unwrap());
    for _ in 0..=MAX_LOOKS_FOR_SILENT {
        finder.turned_away = false;
        finder.take(found.clone());
        follow(&mut finder).await;
    }
    assert_eq!((finder.turned_away, finder.followed.len()), (false, 1));
}

#[tokio::test]
async fn address_that_counted_and_is_silent_for_a_while_is_kept() {
    let key = new_key();
    let (first, second) = (with_key(&key, 1).await, with_key(&key, 1).await);
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let mut found = at("http://attic.local:1", first);
    found.addresses.push(second);
    finder.take(found.clone());
    follow(&mut finder).await;
    let node = nodes.get(&found.url).unwrap();
    // Only the second one answers.
    let again = Node::discovered(found.url.clone()).unwrap();
    again.set_addresses(vec![second]);
    again.describe().await.unwrap();
    finder.judge(Answered { announcement: found.clone(), nodes: vec![again] });
    assert_eq!(node.addresses(), found.addresses);
    assert!(finder.turned_away);
}

#[tokio::test]
async fn address_that_never_proved_the_id_is_not_kept_while_it_is_silent() {
    let key = new_key();
    let real = with_key(&key, 1).await;
    let nodes = asking("http://kitchen.local:50056");
    let kitchen = nodes.iter().next().unwrap();
    let mut finder = Finder::new(nodes.clone());
    let mut found = at("http://kitchen.local:50056", real);
    found.addresses.push("127.0.0.1:1".parse().unwrap());
    finder.take(found.clone());
    assert_eq!(kitchen.addresses(), found.addresses, "no id is known yet");
    kitchen.describe().await.unwrap();
    finder.take(found);
    follow(&mut finder).await;
    assert_eq!(kitchen.addresses(), [real]);
}

#[tokio::test]
async fn strangers_do_not_keep_known_nodes_out() {
    let (one, two) = (new_key(), new_key());
    let (first, second) = (with_key(&one, 1).await, with_key(&two, 2).await);
    let nodes = asking("http://kitchen.local:50056");
    let known = ["http://kitchen.local:50056", "http://attic.local:50056"];
    let ids = known.into_iter().zip([&one, &two]).map(|(url, key)| (url.to_owned(), key.id().to_string()));
    nodes.set_admitted([two.id().to_string()].into(), ids);
    let mut finder = Finder::new(nodes.clone());
    for number in 0..NEW_AT_ONCE as usize {
        finder.take(at(&format!("http://fake-{number}.local:1"), address_of(number)));
    }
    // The clock has gone on a little.
    finder.allowance = Allowance::new(0.0, 0.0, Instant::now().into_std());
    assert_eq!(finder.candidates.len(), MAX_CANDIDATES);
    finder.take(at("http://stranger.local:1", address_of(199)));
    assert!(!finder.candidates.contains_key("http://stranger.local:1"));
    finder.take(at(known[0], first));
    finder.take(at(known[1], second));
    assert!(known.iter().all(|url| finder.candidates.contains_key(*url)));
    assert_eq!(finder.candidates.len(), MAX_CANDIDATES + 2);

    // Their places are bounded too.
    let url = |number: usize| format!("http://known-{number}.local:1");
    let ids: Vec<_> = (0..2 * KNOWN_RESERVE).map(|number| (url(number), one.id().to_string())).collect();
    nodes.set_admitted(BTreeSet::new(), ids);
    for number in 0..2 * KNOWN_RESERVE {
        finder.take(at(&url(number), address_of(number)));
    }
    assert_eq!(finder.candidates.len(), MAX_CANDIDATES + KNOWN_RESERVE);
}

#[tokio::test]
async fn id_at_one_address_of_a_new_name_keeps_those_without_one_out() {
    let keyed = with_key(&new_key(), 1).await;
    let without_id = FakeNode::with(Vec::new()).serve().await;
    let nodes = configured(NOBODY);
    let mut finder = Finder::new(nodes.clone());
    let mut found = at("http://attic.local:1", without_id);
    found.addresses.push(keyed);
    finder.take(found.clone());
    follow(&mut finder).await;
    assert_eq!(nodes.get(&found.url).unwrap().addresses(), [keyed]);
}
