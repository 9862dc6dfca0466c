//! Disks that fill up or fail.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use serde_json::json;

use super::{Outcome, Scale};
use crate::audit::Audit;
use crate::sandbox::{Mount, have_namespaces};
use crate::watch::{PATIENCE, live, ready};

/// Seed of the synthetic cat.
const SEED: u64 = 44;

/// Size of the disk, in megabytes.
const DISK_MB: u32 = 64;

/// Clips may fill the disk to the last megabyte.
const CONFIG: &str = "[clips]\nreserve_mb = 1\n";

async fn start(disk: &Mount) -> (Node, Hub) {
    let node = Node::start(NodeOptions { seed: SEED, ..NodeOptions::new("http://127.0.0.1:9") }).await;
    let surroundings = Surroundings { data_parent: Some(disk.path().to_owned()), ..Surroundings::default() };
    let hub = Hub::start_in(surroundings, Addresses::free(), &[("Tom", &node.url())], CONFIG).await;
    until(PATIENCE, "an event is stored", || async {
        hub.get("/api/v1/events").await.json()["events"].get(0).map(drop)
    })
    .await;
    (node, hub)
}

/// Requires that a label is refused. Returns the answer's status.
async fn refused(hub: &Hub) -> u16 {
    let answer = hub.put_json("/api/v1/events/1/label", &json!({ "label": "brushing" })).await;
    assert!(answer.status >= 500, "a label was accepted: {} {}", answer.status, answer.text());
    answer.status
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).expect("a file");
    // Small pieces, so that no room is left. The error says that the disk is full.
    while file.write_all(&[0; 512]).is_ok() {}
}

pub(super) async fn full(scale: Scale) -> Outcome {
    let held = Duration::from_secs(if scale == Scale::Short { 10 } else { 45 });
    let disk = match have_namespaces().and_then(|()| Mount::memory(DISK_MB)) {
        Ok(disk) => disk,
        Err(why) => return Outcome::NotRun(why),
    };
    let (node, mut hub) = start(&disk).await;
    let file = disk.path().join("fill");
    fill(&file);
    let ((noticed, _), status) = (ready(&hub, 503).await, refused(&hub).await);
    let start = Instant::now();
    while start.elapsed() < held {
        // What the hub gave up is filled too.
        fill(&file);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    std::fs::remove_file(file).expect("the file is removed");
    let (recovered, _) = ready(&hub, 200).await;
    let heard = live(&hub, &node.url(), 0).await;
    live(&hub, &node.url(), heard + 400).await;
    hub.daemon.kill();
    let audit = Audit::of(hub.data_folder(), SEED);
    audit.must_be_whole();
    Outcome::Held(format!(
        "full for {} s: 503 after {:.1} s, label {status}, ready again after {:.1} s; {audit}",
        held.as_secs(),
        noticed.as_secs_f64(),
        recovered.as_secs_f64()
    ))
}

pub(super) async fn failed(_: Scale) -> Outcome {
    let images = tempfile::tempdir().expect("a temporary folder");
    let disk = match have_namespaces().and_then(|()| Mount::image(images.path(), DISK_MB)) {
        Ok(disk) => disk,
        Err(why) => return Outcome::NotRun(why),
    };
    let (node, mut hub) = start(&disk).await;
    if let Err(why) = disk.fail() {
        return Outcome::NotRun(format!("a disk cannot be made to fail: {why}"));
    }
    let ((noticed, _), status) = (ready(&hub, 503).await, refused(&hub).await);
    hub.daemon.kill();
    disk.repair();
    let mut hub = hub.restart().await;
    ready(&hub, 200).await;
    let heard = live(&hub, &node.url(), 0).await;
    live(&hub, &node.url(), heard + 400).await;
    hub.daemon.kill();
    let audit = Audit::of(hub.data_folder(), SEED);
    audit.must_be_whole();
    Outcome::Held(format!(
        "503 after {:.1} s, label {status}; after fsck and a restart: {audit}",
        noticed.as_secs_f64()
    ))
}
