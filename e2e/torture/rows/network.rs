//! A network that fails, in namespaces.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::ports;

use super::{Outcome, Scale};
use crate::audit::Audit;
use crate::sandbox::{Network, have_namespaces, must, on, shell};
use crate::watch::{listening, live};

/// Seed of the synthetic cat.
const SEED: u64 = 43;

/// A node on a machine of its own, and a hub that hears it.
struct Pair {
    hub: Hub,
    node: Node,
    machine: String,
    // Dropped last: the programs end before their network.
    _network: Network,
}

impl Pair {
    async fn start(subnet: u8) -> Self {
        let mut network = Network::start(subnet);
        let (machine, address) = network.machine();
        let node = Node::start(NodeOptions {
            listen: SocketAddr::new(address, ports::free().port()),
            seed: SEED,
            wrapper: on(&machine),
            ..NodeOptions::new("http://127.0.0.1:9")
        })
        .await;
        let hub = Hub::start(&[("Tom", &node.url())]).await;
        live(&hub, &node.url(), 100).await;
        Self { hub, node, machine, _network: network }
    }

    /// Waits for what is still on its way, ends the hub and looks at what it has stored.
    async fn audit(mut self) -> Audit {
        let heard = live(&self.hub, &self.node.url(), 0).await;
        live(&self.hub, &self.node.url(), heard + 400).await;
        self.hub.daemon.kill();
        let audit = Audit::of(self.hub.data_folder(), SEED);
        audit.must_be_whole();
        audit
    }
}

pub(super) async fn cut(scale: Scale) -> Outcome {
    if let Err(why) = have_namespaces() {
        return Outcome::NotRun(why);
    }
    // Shorter and longer than it takes to notice that the other end is gone.
    let cuts: &[u64] = if scale == Scale::Short { &[1, 12] } else { &[1, 3, 12, 1, 45, 5, 20] };
    let pair = Pair::start(1).await;
    let mut slowest = Duration::ZERO;
    for &seconds in cuts {
        let before = frames(&pair).await;
        Network::plug(&pair.machine, false);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Network::plug(&pair.machine, true);
        let start = Instant::now();
        live(&pair.hub, &pair.node.url(), before + seconds * 50).await;
        slowest = slowest.max(start.elapsed());
    }
    let audit = pair.audit().await;
    Outcome::Held(format!("cuts of {cuts:?} s, caught up within {:.1} s; {audit}", slowest.as_secs_f64()))
}

pub(super) async fn loss(scale: Scale) -> Outcome {
    if let Err(why) = have_namespaces() {
        return Outcome::NotRun(why);
    }
    let seconds = if scale == Scale::Short { 15 } else { 60 };
    let pair = Pair::start(2).await;
    let before = frames(&pair).await;
    // Not every kernel can lose packets at random. A narrow link with a short queue loses what does not fit.
    let choices = [
        ("20 % of the packets lost, 50 ms of delay", "netem loss 20% delay 50ms"),
        ("a link of 160 kbit/s with a queue of 6 kB (the sound needs 256)", "tbf rate 160kbit burst 4kb limit 6kb"),
    ];
    let add = |discipline: &str| format!("ip netns exec {} tc qdisc add dev eth0 root {discipline}", pair.machine);
    let Some((words, _)) = choices.iter().find(|(_, discipline)| shell(&add(discipline)).is_ok()) else {
        return Outcome::NotRun("the kernel has neither netem nor tbf".into());
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    must(&format!("ip netns exec {} tc qdisc delete dev eth0 root", pair.machine));
    let heard = frames(&pair).await - before;
    let start = Instant::now();
    live(&pair.hub, &pair.node.url(), before + seconds * 50).await;
    let took = start.elapsed();
    let audit = pair.audit().await;
    Outcome::Held(format!(
        "{words} for {seconds} s: {} of {seconds} s came through, caught up within {:.1} s; {audit}",
        heard / 50,
        took.as_secs_f64()
    ))
}

async fn frames(pair: &Pair) -> u64 {
    listening(&pair.hub, &pair.node.url()).await.and_then(|node| node["frames"].as_u64()).expect("a known node")
}
