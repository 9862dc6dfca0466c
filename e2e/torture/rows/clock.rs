//! Wall clocks that are wrong, and are set right.

use std::time::{Duration, SystemTime};

use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use rusqlite::Connection;

use super::{Outcome, Scale};
use crate::audit::Audit;
use crate::sandbox::Clock;
use crate::watch::{PATIENCE, live};

/// Seed of the synthetic cat.
const SEED: u64 = 45;

/// How far from the truth an event may be dated in the end, in seconds.
const NEAR_S: f64 = 4.0;

/// The offsets of the clock, one after the other, and how long each stays.
const OFFSETS: [(&str, u64); 4] = [("-14d", 8), ("+0", 6), ("+100d", 6), ("+0", 8)];

pub(super) async fn run(_: Scale) -> Outcome {
    let clock = match Clock::off_by(OFFSETS[0].0) {
        Ok(clock) => clock,
        Err(why) => return Outcome::NotRun(why),
    };
    let node =
        Node::start(NodeOptions { seed: SEED, wrapper: clock.wrapper(), ..NodeOptions::new("http://127.0.0.1:9") });
    let node = node.await;
    let surroundings = Surroundings { wrapper: clock.wrapper(), ..Surroundings::default() };
    let config = "[clips]\nkeep_days = 10\n[events]\nkeep_days = 10\n";
    let mut hub = Hub::start_in(surroundings, Addresses::free(), &[("Tom", &node.url())], config).await;
    live(&hub, &node.url(), 100).await;
    for (offset, seconds) in OFFSETS {
        clock.set(offset);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    let uptime = Duration::from_nanos(node.describe().await.uptime_ns);
    let start = SystemTime::now() - uptime;
    let start_s = start.duration_since(SystemTime::UNIX_EPOCH).expect("a right clock").as_secs_f64();
    let worst = until(PATIENCE, "all events are dated well", || async {
        Some(worst_s(&hub, start_s)).filter(|worst| *worst < NEAR_S)
    })
    .await;
    let heard = live(&hub, &node.url(), 0).await;
    live(&hub, &node.url(), heard + 400).await;
    hub.daemon.kill();
    let worst = worst.max(worst_s(&hub, start_s));
    assert!(worst < NEAR_S, "an event is dated {worst} s wrong");
    let audit = Audit::of(hub.data_folder(), SEED);
    audit.must_be_whole();
    let offsets: Vec<_> = OFFSETS.iter().map(|(offset, _)| *offset).collect();
    Outcome::Held(format!("{}: at most {worst:.2} s wrong; {audit}", offsets.join(", ")))
}

/// By how much the time of an event is wrong at most, in seconds.
fn worst_s(hub: &Hub, start_s: f64) -> f64 {
    let database = Connection::open(hub.data_folder().join("hub.sqlite")).expect("the database opens");
    let mut statement = database.prepare("SELECT start_sample, started_at_ns FROM events").expect("a table");
    let wrong = statement.query_map([], |row| {
        let (sample, unix_ns) = (row.get::<_, i64>(0)? as f64, row.get::<_, i64>(1)? as f64);
        Ok((unix_ns / 1e9 - start_s - sample / 16_000.0).abs())
    });
    wrong.expect("rows").map(|wrong| wrong.expect("a row")).fold(0.0, f64::max)
}
