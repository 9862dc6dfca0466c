//! kill -9 of hub and node.

use std::time::Duration;

use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};

use super::{Outcome, Scale};
use crate::audit::Audit;
use crate::watch::live;

/// Seed of the synthetic cat.
const SEED: u64 = 42;

/// How often the hub is killed during one life of the node.
const HUB_KILLS: u64 = 3;

/// Frames that a hub may not have yet when its node is killed, although it hears it live: two seconds.
const ON_THE_WAY: u64 = 100;

pub(super) async fn run(scale: Scale) -> Outcome {
    let rounds = if scale == Scale::Short { 2 } else { 20 };
    let mut node = Node::start(NodeOptions { seed: SEED, ..NodeOptions::new("http://127.0.0.1:9") }).await;
    let mut hub = Hub::start(&[("Tom", &node.url())]).await;
    let mut reached = Vec::new();
    for round in 0..rounds {
        // Moments that are others in each round, but the same in each run.
        for kill in 0..HUB_KILLS {
            let moment = round * HUB_KILLS + kill;
            tokio::time::sleep(Duration::from_millis(1_500 + moment * 1_237 % 3_500)).await;
            hub.daemon.kill();
            tokio::time::sleep(Duration::from_millis(moment * 311 % 900)).await;
            hub = hub.restart().await;
            live(&hub, &node.url(), 0).await;
        }
        let described = node.describe().await;
        reached.push((described.boot_id, described.tape.expect("a tape").next_sequence));
        node.daemon.kill();
        node = Node::start(node.options()).await;
        live(&hub, &node.url(), 100).await;
    }
    // Long enough for the last events to be stored.
    let heard = live(&hub, &node.url(), 0).await;
    live(&hub, &node.url(), heard + 400).await;
    hub.daemon.kill();
    let audit = Audit::of(hub.data_folder(), SEED);
    audit.must_be_whole();
    for (boot, frames) in reached {
        let end = audit.gaps.iter().find(|gap| gap.0 == boot.cast_signed()).expect("the end of a boot is known");
        assert!(end.1 + ON_THE_WAY >= frames, "heard {} of {frames} frames before the node was killed", end.1);
    }
    Outcome::Held(format!("{} kills of the hub, {rounds} of the node; {audit}", rounds * HUB_KILLS))
}
