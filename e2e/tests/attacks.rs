//! Clients that try to overwhelm the programs: memory, connections, descriptors.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use e2e::attack::{half_sent, idle};
use e2e::binaries::binaries;
use e2e::daemon::Daemon;
use e2e::http;
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::{SOON, until};
use proto::ListenRequest;
use proto::listen_response::Event;

/// How soon `/readyz` answers while an attack runs. The product promises this for the median of the answers, because
/// one answer may wait for a busy machine.
const PROMPT: Duration = Duration::from_secs(1);

/// How late one answer may be. A server that lets others wait for idle connections needs half a minute.
const SLOWEST: Duration = Duration::from_secs(15);

/// Shapes of the attack with half-sent messages: connections, and calls on each. The first exceeds what a connection
/// may have, the second what a port may have.
const SHAPES: [(usize, usize); 2] = [(20, 1000), (60, 250)];

/// The length that each message announces. It is within the limit, so that the server waits for the rest.
const LYING_BYTES: u32 = 60_000;

/// Most bytes of RAM that an attack may cost a program: a fraction of what the units allow (512 MB and 96 MB).
const COST: u64 = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_messages_cost_little_memory_and_no_frame() {
    let mut node = Node::start(NodeOptions::new("http://127.0.0.1:9")).await;
    let mut hub = Hub::start(&[("Tom", &node.url())]).await;
    let mut stream = node.client().listen(ListenRequest::default()).await.unwrap().into_inner();
    let subscriber = tokio::spawn(async move {
        let mut next = None;
        loop {
            let Ok(Some(message)) = stream.message().await else { return };
            match message.event.unwrap() {
                Event::Frame(frame) => {
                    assert_eq!(frame.sequence, next.unwrap_or(frame.sequence));
                    next = Some(frame.sequence + u64::from(frame.sample_count) / 320);
                }
                Event::Gap(gap) => panic!("the subscriber lost frames: {gap:?}"),
            }
        }
    });
    let before = (hub.daemon.memory(), node.daemon.memory());
    let targets = [
        (hub.at.owner, "/proto.Owner/Notify"),
        (hub.at.dog, "/proto.dog/CallDog"),
        (hub.at.analysis, "/grpc.health.v1.Health/Check"),
        (node.address(), "/proto.cat/CallCat"),
    ];
    let (took, ()) = hub
        .asked_during(async {
            let mut attacks = Vec::new();
            for (server, path) in targets {
                for (connections, calls) in SHAPES {
                    attacks.push(half_sent(server, path, connections, calls, LYING_BYTES).await);
                }
            }
            let bytes: usize = attacks.iter().map(|attack| attack.bytes).sum();
            println!("half-sent calls of {bytes} bytes");
            // Long enough for all bytes to arrive, and shorter than a server waits for a request.
            tokio::time::sleep(Duration::from_secs(6)).await;
        })
        .await;
    assert!(hub.daemon.is_running() && node.daemon.is_running(), "the attack ended a program");
    let (hub_after, node_after) = (hub.daemon.memory(), node.daemon.memory());
    println!("hub: {:?} -> {hub_after:?}; node: {:?} -> {node_after:?}", before.0, before.1);
    println!("/readyz: {} answers, median {:?}, slowest {:?}", took.len(), took[took.len() / 2], took[took.len() - 1]);
    assert!(took[took.len() / 2] < PROMPT, "{took:?}");
    assert!(hub_after.most < before.0.now + COST, "hub: {:?} -> {hub_after:?}", before.0);
    assert!(node_after.most < before.1.now + COST, "node: {:?} -> {node_after:?}", before.1);
    assert!(!subscriber.is_finished(), "the subscriber lost its stream: {:?}", subscriber.await);
    // Calls work at once.
    node.describe().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_make_nobody_wait() {
    let node = Node::start(NodeOptions::new("http://127.0.0.1:9")).await;
    let hub = Hub::start(&[("Tom", &node.url())]).await;
    let mut open = Vec::new();
    for text in ["", "GET / HTTP/1.1\r\nA: "] {
        for from in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
            let (took, ()) = hub
                .asked_during(async {
                    open.extend(idle(hub.at.http, IpAddr::V4(from), 700, text).await.unwrap());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                })
                .await;
            println!("{} idle connections, last with {text:?}: slowest /readyz {:?}", open.len(), took[took.len() - 1]);
            assert!(took[took.len() / 2] < PROMPT, "{took:?}");
            assert!(took[took.len() - 1] < SLOWEST, "{took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_descriptors_for_files() {
    const HARD: usize = 300;
    /// More files than a hub opens at a time.
    const KEPT: usize = 100;
    let (at, data) = (Addresses::free(), tempfile::tempdir().unwrap());
    let script = format!("ulimit -Sn 64 && ulimit -Hn {HARD} && exec \"$0\" \"$@\"");
    let mut arguments = vec!["-c".to_owned(), script, binaries().hub.display().to_string(), "serve".into()];
    arguments.extend(["--discover=false".into(), "--data-dir".into(), data.path().display().to_string()]);
    for (flag, address) in [("--http", at.http), ("--owner", at.owner), ("--dog", at.dog), ("--analysis", at.analysis)]
    {
        arguments.extend([flag.to_owned(), address.to_string()]);
    }
    let hub = Daemon::start("hub", Path::new("/bin/sh"), &arguments);
    let answers = || async { http::try_exchange(at.http, "GET", "/healthz").await.ok() };
    until(SOON, "the hub answers", answers).await;
    let mut open = Vec::new();
    for (server, text) in
        [(at.http, "GET / HTTP/1.1\r\nA: "), (at.owner, ""), (at.dog, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
    {
        open.extend(idle(server, IpAddr::V4(Ipv4Addr::LOCALHOST), HARD, text).await.unwrap());
        until(SOON, "the hub answers", answers).await;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count();
        println!("{} idle connections: the hub has {descriptors} of {HARD} descriptors", open.len());
        assert!(descriptors + KEPT <= HARD, "{descriptors} descriptors are open");
    }
    assert!(!hub.log().contains("Too many open files"));
}
