//! Twenty nodes and a hub with the memory that their units allow, under attack.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::attack::{half_sent, idle, rapid_resets, slow_readers};
use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::node::{Node, NodeOptions};
use proto::ListenRequest;

use super::{Outcome, Scale};
use crate::sandbox::MemoryLimit;
use crate::watch::{Answers, listening, live};

/// Nodes of a shelter.
const NODES: u64 = 20;

/// `MemoryMax` of the units, in megabytes.
pub(super) const HUB_MB: u64 = 512;
const NODE_MB: u64 = 96;

/// Shapes of the attack with half-sent messages: connections, and calls on each.
const HALF_SENT: [(usize, usize); 2] = [(20, 1000), (60, 250)];

/// The length that each half-sent message announces.
const LYING_BYTES: u32 = 60_000;

/// Connections and subscribers that never read.
const SLOW: usize = 60;

pub(super) async fn run(scale: Scale) -> Outcome {
    let waves = if scale == Scale::Short { 1 } else { 6 };
    let limits: Result<Vec<_>, String> = (0..NODES).map(|n| MemoryLimit::new(&format!("node{n}"), NODE_MB)).collect();
    let (hub_limit, limits) = match (MemoryLimit::new("hub", HUB_MB), limits) {
        (Ok(hub), Ok(nodes)) => (Some(hub), nodes),
        _ => (None, Vec::new()),
    };
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let wrapper = limits.get(n as usize).map(MemoryLimit::wrapper).unwrap_or_default();
        nodes.push(Node::start(NodeOptions { seed: n, wrapper, ..NodeOptions::new("http://127.0.0.1:9") }).await);
    }
    let configured: Vec<_> = nodes.iter().enumerate().map(|(n, node)| (format!("Cat {n}"), node.url())).collect();
    let configured: Vec<_> = configured.iter().map(|(cat, url)| (cat.as_str(), url.as_str())).collect();
    let surroundings = Surroundings {
        wrapper: hub_limit.as_ref().map(MemoryLimit::wrapper).unwrap_or_default(),
        ..Surroundings::default()
    };
    let mut hub = Hub::start_in(surroundings, Addresses::free(), &configured, "").await;
    for (_, url) in &configured {
        live(&hub, url, 50).await;
    }
    let (answers, sent) = Answers::during(&hub, async {
        let mut sent = Sent::default();
        for _ in 0..waves {
            Box::pin(attack(&hub, &nodes[0], &mut sent)).await;
        }
        sent
    })
    .await;

    assert!(hub.daemon.is_running(), "the hub was killed: {}", hub.daemon.log());
    for (node, (_, url)) in nodes.iter_mut().zip(&configured) {
        assert!(node.daemon.is_running(), "a node was killed: {}", node.daemon.log());
        let before = listening(&hub, url).await.and_then(|node| node["frames"].as_u64()).unwrap_or(0);
        live(&hub, url, before + 50).await;
        let heard = listening(&hub, url).await.expect("a known node");
        assert!(heard["gaps"] == 0 && heard["lost_frames"] == serde_json::json!({}), "frames were lost: {heard}");
        let counters = node.describe().await.counters.expect("counters");
        assert_eq!((counters.frames_lost_overrun, counters.frames_lost_device), (0, 0), "{url}");
    }
    let hub_mb = hub.daemon.memory().most >> 20;
    let node_mb = nodes.iter().map(|node| node.daemon.memory().most >> 20).max().unwrap_or(0);
    assert!(hub_mb < HUB_MB && node_mb < NODE_MB, "hub {hub_mb} MB, node {node_mb} MB");
    let by = if hub_limit.is_some() { "in memory cgroups" } else { "no memory cgroup: by VmHWM alone" };
    Outcome::Held(format!(
        "{by}: hub at most {hub_mb} of {HUB_MB} MB, node {node_mb} of {NODE_MB} MB; {sent}; 0 frames of {NODES} nodes \
            lost; {}",
        answers.must_be_prompt()
    ))
}

/// What was sent.
#[derive(Debug, Default)]
struct Sent {
    half_sent: usize,
    bytes: usize,
    resets: usize,
    idle: usize,
    slow: usize,
}

impl std::fmt::Display for Sent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { half_sent, bytes, resets, idle, slow } = self;
        let megabytes = bytes >> 20;
        write!(
            out,
            "{half_sent} half-sent calls ({megabytes} MB), {resets} resets, {idle} idle connections, {slow} slow readers"
        )
    }
}

/// One wave of all attacks at the same time, on all ports of the hub and on one node.
async fn attack(hub: &Hub, node: &Node, sent: &mut Sent) {
    let running = AtomicBool::new(true);
    let targets = [
        (hub.at.owner, "/proto.Owner/Notify"),
        (hub.at.dog, "/proto.dog/CallDog"),
        (hub.at.analysis, "/grpc.health.v1.Health/Check"),
        (node.address(), "/proto.cat/CallCat"),
    ];
    let resets = |(server, path): (SocketAddr, &'static str)| rapid_resets(server, path, 500, &running);
    let others = async {
        // Whatever is refused is refused; what was opened stays open until the wave ends.
        let mut open = Vec::new();
        let mut slow = Vec::new();
        for (server, text) in [
            (hub.at.http, "GET / HTTP/1.1\r\nA: "),
            (hub.at.owner, ""),
            (node.address(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ] {
            for from in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
                open.extend(idle(server, IpAddr::V4(from), 300, text).await.unwrap_or_default());
            }
        }
        for path in ["/api/v1/stream", "/api/v1/events.csv", "/metrics"] {
            slow.extend(slow_readers(hub.at.http, path, SLOW).await.unwrap_or_default());
        }
        let mut subscribers = Vec::new();
        for _ in 0..SLOW {
            subscribers.extend(node.client().listen(ListenRequest::default()).await.ok());
        }
        let mut half = Vec::new();
        for (server, path) in targets {
            for (connections, calls) in HALF_SENT {
                let attack = half_sent(server, path, connections, calls, LYING_BYTES).await;
                sent.bytes += attack.bytes;
                sent.half_sent += connections * calls;
                half.push(attack);
            }
        }
        // Long enough for all bytes to arrive, and shorter than a server waits for a request.
        tokio::time::sleep(Duration::from_secs(6)).await;
        sent.idle += open.len();
        sent.slow += slow.len() + subscribers.len();
        running.store(false, Ordering::Relaxed);
    };
    let [a, b, c, d] = targets;
    let (made, ..) = tokio::join!(async { tokio::join!(resets(a), resets(b), resets(c), resets(d)) }, others);
    sent.resets += made.0 + made.1 + made.2 + made.3;
}
