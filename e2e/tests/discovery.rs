//! Discovery by mDNS, on a network of its own: the test starts itself a second time in new network and host name
//! namespaces, so that it neither finds nor disturbs anything else on this machine.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use e2e::binaries::binaries;
use e2e::daemon::{Daemon, Signal};
use e2e::http;
use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::namespaces;
use e2e::ports;
use e2e::wait::until;
use mdns_sd::{ServiceDaemon, ServiceInfo};
use proto::cat_client::CatClient;
use proto::owner_client::OwnerClient;
use proto::{CatRequest, NotifyRequest};
use serde_json::Value;
use tonic::transport::Channel;

/// How long the test waits. Announcements, reconnections and time-outs take seconds each, so this is ample.
const SOON: Duration = Duration::from_secs(120);

/// A machine called attic with one interface.
const NETWORK: &str = "hostname attic && ip link set lo up && ip link add cats0 type veth peer name cats1 \
    && ip link set cats1 up && ip link set cats0 up && ip address add 10.99.0.5/24 dev cats0";

const MOVE: &str = "ip address delete 10.99.0.5/24 dev cats0 && ip address add 10.99.0.9/24 dev cats0";

#[test]
fn hub_finds_a_node_that_announces_itself_and_follows_it() {
    on_own_network("hub_finds_a_node_that_announces_itself_and_follows_it", find_and_follow);
}

#[test]
fn strangers_that_announce_nodes_get_nothing() {
    on_own_network("strangers_that_announce_nodes_get_nothing", strangers);
}

#[test]
fn closed_node_waits_for_its_code_and_is_paired() {
    on_own_network("closed_node_waits_for_its_code_and_is_paired", pair_a_closed_node);
}

#[test]
fn node_that_mdns_finds_is_paired_by_the_secret_and_one_without_it_waits() {
    on_own_network("node_that_mdns_finds_is_paired_by_the_secret_and_one_without_it_waits", pair_by_secret);
}

/// Runs a test in a process of its own, in new namespaces. `name` is the name of the test.
fn on_own_network<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    namespaces::inside(name, &["--net", "--uts"], NETWORK, test);
}

/// Fake nodes that one machine announces.
const FAKES: usize = 63;

async fn strangers() {
    shell(NETWORK);
    shell("ip address add 10.99.0.6/24 dev cats0");
    let folder = tempfile::tempdir().unwrap();
    let (port, late_port) = (ports::free().port(), ports::free().port());
    let url = format!("http://attic.local:{port}");
    let hub = Hub::start_discovering(&[("Tom", &url)]).await;
    let start = |address: &str, port: u16, state: &str, announce: &str| {
        let (listen, state) = (format!("{address}:{port}"), folder.path().join(state).display().to_string());
        let arguments = ["serve", "--listen", &listen, "--insecure", "--cat", "Tom", "--source", "synthetic"];
        let more = ["--owner", "http://127.0.0.1:1", "--state-dir", &state, announce];
        Daemon::start("cat-node", &binaries().cat_node, &[&arguments[..], &more].concat())
    };
    let node = start("10.99.0.5", port, "real", "--announce=true");
    until(SOON, "the configured node is heard", || async { frames(&hub, &url, "live").await.filter(|n| *n > 0) }).await;
    let id = nodes(&hub).await[0]["node_id"].clone();
    assert!(id.is_string(), "the node has proved its id");
    assert!(node.log().contains("pair this node with its hub"), "it says what is better than insecure: {}", node.log());

    // Another machine takes the name of the configured node, which announces itself again.
    let _impostor = start("10.99.0.6", port, "impostor", "--announce=false");
    let stranger = ServiceDaemon::new().unwrap();
    let announce = |instance: &str, host: &str, address: &str, port: u16| {
        let keys: [(&str, &str); 0] = [];
        let mut service = ServiceInfo::new(proto::NODE_SERVICE, instance, host, address, port, &keys[..]).unwrap();
        service.set_requires_probe(false);
        stranger.register(service).unwrap();
    };
    announce("Tom at attic, really", "attic.local.", "10.99.0.6", port);
    for number in 0..FAKES {
        announce(&format!("fake {number}"), &format!("fake-{number}.local."), "10.99.0.5", 9);
    }
    until(SOON, "the fakes have filled their places", || async {
        (hub.get("/api/v1/nodes").await.json()["refused"].as_u64()? > 0).then_some(())
    })
    .await;
    until(SOON, "the impostor was asked and waits", || async {
        let answer = hub.get("/api/v1/nodes").await.json();
        let addresses = &answer["waiting"].as_array()?.iter().find(|node| node["url"] == url.as_str())?["addresses"];
        (addresses == &serde_json::json!([format!("10.99.0.6:{port}")])).then_some(())
    })
    .await;

    // A real node that comes after all of them is found.
    let _late = start("0.0.0.0", late_port, "late", "--announce=true");
    waiting(&hub, &format!("http://attic.local:{late_port}")).await;

    // All the while the configured node was heard, over one connection, and nobody else was.
    let before = frames(&hub, &url, "live").await.expect("it is live");
    until(SOON, "the configured node is heard on", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > before)
    })
    .await;
    let listening = hub.get("/api/v1/listening").await.json();
    assert_eq!((listening["nodes"].as_array().unwrap().len(), &listening["nodes"][0]["disconnects"]), (1, &0.into()));
    let known = nodes(&hub).await;
    assert_eq!((known.len(), &known[0]["node_id"]), (1, &id));
}

async fn find_and_follow() {
    shell(NETWORK);
    let hub = Hub::start_discovering(&[("Nobody", "http://127.0.0.1:1")]).await;
    let port = ports::free().port();
    let url = format!("http://attic.local:{port}");
    let node = start_node(port, &hub.owner_url());

    // Until it is admitted, the node is neither listed as a node nor heard nor called.
    let key = waiting(&hub, &url).await;
    assert_eq!(nodes(&hub).await.len(), 1);
    assert_eq!(frames_of_any(&hub, &url).await, None);
    assert_ne!(hub.get("/cat/Tom").await.status, 200);
    assert!(hub.get("/metrics").await.text().contains("meowlink_hub_nodes_waiting 1"));
    assert!(hub.daemon.log().contains("a node waits to be admitted: hub nodes admit attic"), "{}", hub.daemon.log());
    admit(&hub, &key).await;

    until(SOON, "the node is found and heard", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > 0)
    })
    .await;
    let found = nodes(&hub).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0]["discovered"], &found[0]["reachable"]), (&false.into(), &false.into()));
    assert_eq!((&found[1]["url"], &found[1]["cat"]), (&url.as_str().into(), &"Tom".into()));
    assert_eq!((&found[1]["discovered"], &found[1]["reachable"]), (&true.into(), &true.into()));
    assert_eq!(hub.get("/cat/Tom").await.text(), "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n");

    // A configured node is not admitted a second time.
    let configured = Hub::start_discovering(&[("Tom", &format!("http://127.0.0.1:{port}"))]).await;
    until(SOON, "the announcement is known to be of the same node", || async {
        configured.daemon.log().contains("announced node is already known").then_some(())
    })
    .await;
    assert_eq!(nodes(&configured).await.len(), 1);
    drop(configured);

    // A hub without configured nodes, on a machine without a node at the default port, misses nobody.
    let alone = Hub::start_discovering(&[]).await;
    waiting(&alone, &url).await;
    let listed = hub_nodes(&alone, &["list"]);
    assert!(listed.contains("waiting") && listed.contains("hub nodes admit http://attic.local"), "{listed}");
    assert_eq!(hub_nodes(&alone, &["admit", "attic"]), format!("admitted: {url}\n"));
    until(SOON, "the only node is heard", || async { frames(&alone, &url, "live").await.filter(|frames| *frames > 0) })
        .await;
    assert_eq!(nodes(&alone).await.len(), 1);
    let ready = alone.get("/readyz?strict=true").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    assert_eq!(hub_nodes(&alone, &["forget", "attic"]), format!("forgotten: {url}\n"));
    until(SOON, "the forgotten node is not listened to", || async {
        frames_of_any(&alone, &url).await.is_none().then_some(())
    })
    .await;
    assert!(nodes(&alone).await.iter().all(|node| node["url"] != url.as_str()));
    // It still announces itself, so it waits again.
    waiting(&alone, &url).await;
    drop(alone);

    // The node gets another address, as after a restart of the router.
    let before = frames(&hub, &url, "live").await.unwrap_or(0);
    shell(MOVE);
    until(SOON, "the node is heard at its new address", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > before + 1_000)
    })
    .await;

    // A node that announces its departure is away, but stays in the list.
    node.signal(Signal::TERM);
    until(SOON, "the node is away", || async { frames(&hub, &url, "away").await }).await;
    assert_eq!(nodes(&hub).await.len(), 2);
    drop(node);
    let before = frames(&hub, &url, "away").await.expect("it is away");
    let _node = start_node(port, &hub.owner_url());
    until(SOON, "the node is heard again", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > before)
    })
    .await;
    assert_eq!(nodes(&hub).await.len(), 2);

    // The admission outlives the hub.
    let hub = hub.restart().await;
    until(SOON, "the node is heard after a restart of the hub", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > 0)
    })
    .await;
}

/// The node listens beyond loopback without `insecure`, so it answers others by TLS only.
async fn pair_a_closed_node() {
    shell(NETWORK);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let (listen, port) = ("10.99.0.5", ports::free().port());
    let url = format!("http://attic.local:{port}");
    // The hub's owner service listens beyond loopback, without `insecure` too.
    let at = Addresses { owner: format!("10.99.0.5:{}", ports::free().port()).parse().unwrap(), ..Addresses::free() };
    let surroundings = Surroundings { discover: true, ..Surroundings::default() };
    let hub = Hub::start_in(surroundings, at, &[], "").await;
    let (listen, local) = (format!("{listen}:{port}"), format!("127.0.0.1:{port}"));
    let arguments = ["serve", "--listen", &listen, "--listen", &local, "--cat", "Tom", "--source", "synthetic"];
    let arguments = [&arguments[..], &["--state-dir", state]].concat();
    let _node = Daemon::start("cat-node", &binaries().cat_node, &arguments);

    let id = waiting(&hub, &url).await;
    let answer = hub.get("/api/v1/nodes").await.json();
    let waits = &answer["waiting"][0];
    assert_eq!((&waits["needs_code"], &waits["node_id"]), (&true.into(), &id.as_str().into()));
    assert_eq!(waits["addresses"], serde_json::json!([listen]));
    let said = hub.daemon.log();
    assert!(said.contains("waits for its pairing code") && !said.contains("announced node does not answer"), "{said}");
    let listed = hub_nodes(&hub, &["list"]);
    assert!(listed.contains("hub pair CODE") && !listed.contains("hub nodes admit"), "{listed}");

    // It cannot be admitted, and no code is tried while it shows none.
    let pair = |code: &str, more: &[&str]| {
        let mut command = Command::new(&binaries().hub);
        let done = command.args(["pair", code]).args(more).arg("--data-dir").arg(hub.data_folder()).output().unwrap();
        let text = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(text).unwrap())
    };
    let admitted = http::exchange(hub.at.http, "POST", &format!("/api/v1/nodes/waiting/{id}/admit")).await;
    assert_eq!((admitted.status, admitted.text().contains("hub pair CODE")), (409, true), "{}", admitted.text());
    let (paired, said) = pair("0000-0000", &[]);
    assert!(!paired && said.contains("no waiting node shows a pairing code"), "{said}");

    let shown = Command::new(&binaries().cat_node).args(["pair", "--state-dir", state]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let code = shown.lines().next().unwrap();
    let (paired, said) = pair("0000-0000", &[]);
    assert!(!paired && said.contains("the code is wrong"), "{said}");
    assert_eq!(pair(code, &[]), (true, format!("paired: {url}\n")));
    assert_eq!(hub.get("/api/v1/nodes").await.json()["waiting"], serde_json::json!([]));
    until(SOON, "the paired node is heard", || async { frames(&hub, &url, "live").await.filter(|frames| *frames > 0) })
        .await;

    // A program that calls the cat at the node itself: the node notifies the hub, over TLS. Nothing else was set.
    let channel = Channel::from_shared(format!("http://{local}")).unwrap().connect_lazy();
    let mut cat = CatClient::new(channel);
    let request = || CatRequest { cat_name: "Tom".into(), caller_tells_owner: false };
    assert_eq!(cat.call_cat(request()).await.unwrap().into_inner().cat_meaw, "Tom: MEEEWWWWW");
    assert_eq!(hub.get("/cat/Tom").await.status, 200);

    // Without a name server for .local, it is found again by its announcement.
    let hub = hub.restart().await;
    until(SOON, "it is heard after a restart", || async { frames(&hub, &url, "live").await.filter(|n| *n > 0) }).await;

    // Removed, it is not heard a second later, and waits for another code.
    hub_nodes(&hub, &["remove", "attic"]);
    until(Duration::from_secs(1), "it is not listened to", || async {
        frames_of_any(&hub, &url).await.is_none().then_some(())
    })
    .await;
    assert_eq!(waiting(&hub, &url).await, id);
    // Nor may it notify the hub: neither with its key nor without TLS.
    let refused = cat.call_cat(request()).await.unwrap_err();
    assert!(refused.message().contains("not paired"), "{refused:?}");
    let plain = Channel::from_shared(hub.owner_url()).unwrap().connect_lazy();
    OwnerClient::new(plain).notify(NotifyRequest::default()).await.unwrap_err();
}

/// Nobody gives the hub an address or a code: it finds the nodes by mDNS and tries its secret at them.
async fn pair_by_secret() {
    shell(NETWORK);
    let secret = "a secret of image and hub";
    let surroundings = Surroundings { discover: true, ..Surroundings::default() };
    let hub = Hub::start_in(surroundings, Addresses::free(), &[], &format!("pairing_secret = {secret:?}\n")).await;
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [mine, other] = folders.each_ref().map(|folder| folder.path().to_str().unwrap());
    let start = |state: &str, secret: &str| {
        let port = ports::free().port();
        let listen = format!("10.99.0.5:{port}");
        let arguments = ["serve", "--listen", &listen, "--cat", "Tom", "--source", "synthetic", "--state-dir", state];
        let wrapper = ["env".to_owned(), format!("MEOWLINK_NODE_PAIRING_SECRET={secret}")];
        let node = Daemon::start_within(&wrapper, "cat-node", &binaries().cat_node, &arguments);
        (node, format!("http://attic.local:{port}"))
    };
    let (stranger, strange_url) = start(other, "a secret of another image");
    let strange_id = waiting(&hub, &strange_url).await;
    let (node, url) = start(mine, secret);

    until(SOON, "the hub pairs with the node and hears it", || async {
        frames(&hub, &url, "live").await.filter(|frames| *frames > 0)
    })
    .await;
    let show = |what: &[&str], state: &str| {
        let done = Command::new(&binaries().cat_node).args(what).args(["--state-dir", state]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let known = nodes(&hub).await;
    let id = show(&["identity", "show"], mine);
    assert_eq!((known.len(), &known[0]["url"], &known[0]["node_id"]), (1, &url.as_str().into(), &id.trim().into()));
    // It listens beyond loopback without `insecure`, so this connection has TLS.
    let log = node.log();
    assert!(log.lines().any(|line| line.contains("subscriber connected") && line.contains(" at 10.99.0.5:")), "{log}");

    // The other one was tried, is not paired, and waits for its code.
    until(SOON, "both logs say why", || async {
        let differs = "pairing_secret differs in the configs";
        (hub.daemon.log().contains(differs) && stranger.log().contains(differs)).then_some(())
    })
    .await;
    assert_eq!(waiting(&hub, &strange_url).await, strange_id);
    let hubs_of = |state: &str| show(&["hubs"], state);
    assert_eq!((hubs_of(mine).lines().count(), hubs_of(other)), (1, "paired with no hub\n".to_owned()));

    // Nobody gave a command, so an admin reads in the audit log what was paired.
    let mut command = Command::new(&binaries().hub);
    command.args(["token", "add", "auditor", "--role", "admin", "--data-dir"]).arg(hub.data_folder());
    let token = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let noted = until(SOON, "the pairing is noted", || async {
        let audit = http::get_with_token(hub.at.http, "/api/v1/audit", token.trim()).await.json();
        audit["entries"].as_array()?.iter().find(|entry| entry["action"] == "pair_node").cloned()
    })
    .await;
    assert_eq!((&noted["who"], &noted["subject"]), (&"pairing_secret".into(), &url.as_str().into()));

    // The pairing outlives the hub, and does not need the secret any more.
    std::fs::write(hub.data_folder().join("hub.toml"), "").unwrap();
    let hub = hub.restart().await;
    until(SOON, "the node is heard again", || async { frames(&hub, &url, "live").await.filter(|n| *n > 0) }).await;
}

/// The key of the node with this URL, once it waits to be admitted.
async fn waiting(hub: &Hub, url: &str) -> String {
    until(SOON, "the node waits to be admitted", || async {
        let answer = hub.get("/api/v1/nodes").await.json();
        let node = answer["waiting"].as_array()?.iter().find(|node| node["url"] == url)?.clone();
        node["key"].as_str().map(str::to_owned)
    })
    .await
}

/// What `hub nodes` prints about a running hub.
fn hub_nodes(hub: &Hub, arguments: &[&str]) -> String {
    let mut command = Command::new(&binaries().hub);
    command.arg("nodes").args(arguments).arg("--data-dir").arg(hub.data_folder());
    let done = command.output().expect("hub nodes runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("text")
}

async fn admit(hub: &Hub, key: &str) {
    let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = http::exchange(hub.at.http, "POST", &format!("/api/v1/nodes/waiting/{key}/admit")).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Frames received from a node in any state. `None`: the hub does not listen to the node.
async fn frames_of_any(hub: &Hub, url: &str) -> Option<u64> {
    let listening = hub.get("/api/v1/listening").await.json();
    listening["nodes"].as_array()?.iter().find(|node| node["node"] == url)?["frames"].as_u64()
}

fn shell(commands: &str) {
    assert!(Command::new("sh").args(["-c", commands]).status().expect("a shell").success(), "{commands}");
}

fn start_node(port: u16, owner_url: &str) -> Daemon {
    let listen = format!("0.0.0.0:{port}");
    let arguments =
        ["serve", "--listen", &listen, "--insecure", "--owner", owner_url, "--cat", "Tom", "--source", "synthetic"];
    Daemon::start("cat-node", &binaries().cat_node, &arguments)
}

async fn nodes(hub: &Hub) -> Vec<Value> {
    hub.get("/api/v1/nodes").await.json()["nodes"].as_array().expect("a list of nodes").clone()
}

/// Frames received from a node in the given state. `None`: the node is unknown or in another state.
async fn frames(hub: &Hub, url: &str, state: &str) -> Option<u64> {
    let listening = hub.get("/api/v1/listening").await.json();
    let node = listening["nodes"].as_array()?.iter().find(|node| node["node"] == url)?;
    (node["state"] == state).then(|| node["frames"].as_u64())?
}
