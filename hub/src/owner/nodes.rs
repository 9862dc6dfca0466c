//! Tells owners of nodes that do not hear: one that is silent for a week must not look healthy to somebody who only looks at
//! their phone.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use tracing::error;

use super::Outbox;
use crate::listen::Live;
use crate::node_client::{Node, Nodes};
use crate::node_health::{Condition, HealthConfig, NodeHealth};
use crate::store::notices::Subject;
use crate::store::{Store, now_ns};

/// How often the nodes are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// How often a failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Trouble is over when a node has heard again for so long, or for `health.tell_after_s` when that is shorter: one that starts
/// again and again is in trouble all the time.
const CALM: Duration = Duration::from_secs(60);

/// Looks after the nodes and puts notices into the outbox, until `stop`: once when trouble has lasted for `health.tell_after_s`,
/// and once when it is over. A hub that is started anew counts from there.
pub async fn watch(
    nodes: Nodes,
    live: Option<Live>,
    config: HealthConfig,
    outbox: Outbox,
    store: Store,
    stop: CancellationToken,
) {
    let tell_after = Duration::from_secs(u64::from(config.tell_after_s));
    let mut troubles: HashMap<String, Trouble> = HashMap::new();
    let mut log = Quiet::new(LOG_PERIOD);
    let mut ticks = tokio::time::interval(LOOK_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let known = under_one_name(nodes.distinct());
        troubles.retain(|url, _| known.iter().any(|node| node.url() == url));
        for node in known {
            let health = NodeHealth::of(&node, live.as_ref(), &config);
            // As many as there are nodes.
            let trouble = troubles.entry(node.url().to_owned()).or_default();
            let is_ok = health.condition == Condition::Ok;
            let Some(lasted) = trouble.look(is_ok, tell_after, Instant::now()) else { continue };
            let now_ns = now_ns();
            let plans = outbox.plan_node(node.cat().as_deref(), now_ns);
            match store.commit_notices(vec![(subject_of(&node, &health, lasted, now_ns), plans)], now_ns).await {
                Ok(put_in) => {
                    outbox.put_in(put_in);
                    trouble.stored(is_ok);
                }
                Err(error) => {
                    if let Some(held_back) = log.allow() {
                        error!(%error, held_back, "a notice about a node cannot be stored; trying again");
                    }
                }
            }
        }
    }
}

/// Without those that were an earlier one under another name when they last answered: of a node that is away, nobody knows better.
fn under_one_name(nodes: Vec<Node>) -> Vec<Node> {
    let mut boots = HashSet::new();
    nodes.into_iter().filter(|node| node.told().is_none_or(|told| boots.insert(told.boot_id))).collect()
}

/// The trouble of a node.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    /// Since when it hears again. `None`: it does not.
    well_since: Option<Instant>,
    /// Whether the owners know of it.
    told: bool,
}

impl Trouble {
    /// How long it has lasted, or did, when that is to be told now.
    fn look(&mut self, is_ok: bool, tell_after: Duration, now: Instant) -> Option<Duration> {
        if !is_ok {
            self.well_since = None;
            let lasts = now.duration_since(*self.since.get_or_insert(now));
            return (!self.told && lasts >= tell_after).then_some(lasts);
        }
        let since = self.since?;
        let well_since = *self.well_since.get_or_insert(now);
        if now.duration_since(well_since) < CALM.min(tell_after) {
            return None;
        }
        if !self.told {
            *self = Self::default();
            return None;
        }
        Some(well_since.duration_since(since))
    }

    /// What was to be told is in the outbox.
    fn stored(&mut self, is_ok: bool) {
        *self = if is_ok { Self::default() } else { Self { told: true, ..std::mem::take(self) } };
    }
}

fn subject_of(node: &Node, health: &NodeHealth, lasted: Duration, now_ns: i64) -> Subject {
    // It had heard nothing long before that was called trouble.
    let without_sound = health.heard.filter(|_| health.condition == Condition::NoSound).map(|heard| heard.sound);
    Subject::Node {
        node: node.url().to_owned(),
        cat: node.cat().unwrap_or_default(),
        condition: health.condition.as_str().to_owned(),
        detail: health.detail.clone(),
        at_ns: now_ns,
        lasted_s: without_sound.unwrap_or(lasted).as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_and_so_is_its_end() {
        let (start, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut trouble = Trouble::default();
        let mut told: Vec<(u64, bool, u64)> = Vec::new();
        for minute in 0..600_u64 {
            // Ten minutes; then five hours, with starts that come to nothing; then ten minutes again.
            let is_ok = !matches!(minute, 10..20 | 50..350 | 500..510) || matches!(minute, 80 | 300);
            if let Some(lasted) = trouble.look(is_ok, hour, start + Duration::from_secs(60 * minute)) {
                // The store fails the first time.
                if told.last().is_some_and(|(at, ..)| at + 1 == minute) {
                    trouble.stored(is_ok);
                }
                told.push((minute, is_ok, lasted.as_secs() / 60));
            }
        }
        assert_eq!(told, [(110, false, 60), (111, false, 61), (351, true, 300), (352, true, 300)]);
    }

    #[test]
    fn short_waits_end_as_soon_as_they_began() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut trouble = Trouble::default();
        assert_eq!(trouble.look(false, second, start), None);
        assert_eq!(trouble.look(false, second, start + second), Some(second));
        trouble.stored(false);
        assert_eq!(trouble.look(true, second, start + 5 * second), None);
        assert_eq!(trouble.look(true, second, start + 6 * second), Some(5 * second));
    }
}
