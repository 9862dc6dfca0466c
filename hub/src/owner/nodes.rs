//! Tells owners of nodes that do not hear: one that is silent for a week must not look healthy to somebody who only looks at
//! their phone.

use std::collections::HashMap;
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
        for node in nodes.distinct() {
            let health = NodeHealth::of(&node, live.as_ref(), &config);
            // As many as there are nodes.
            let trouble = troubles.entry(node.url().to_owned()).or_default();
            let Some(lasted) = trouble.look(health.condition, tell_after, Instant::now()) else { continue };
            let (subject, now_ns) = (subject_of(&node, &health, lasted), now_ns());
            let plans = outbox.plan_node(node.cat().as_deref(), now_ns);
            match store.commit_notices(vec![(subject, plans)], now_ns).await {
                Ok(put_in) => {
                    outbox.put_in(put_in);
                    trouble.told = health.condition != Condition::Ok;
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

/// The trouble of a node.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    /// How long it took, once it is over and that is to be told.
    lasted: Option<Duration>,
    /// Whether the owners know of it.
    told: bool,
}

impl Trouble {
    /// How long it has lasted, or did, when that is to be told now.
    fn look(&mut self, condition: Condition, tell_after: Duration, now: Instant) -> Option<Duration> {
        if condition == Condition::Ok {
            let lasted = self.since.take().map(|since| now.duration_since(since));
            self.lasted = lasted.or(self.lasted);
            return self.lasted.filter(|_| self.told);
        }
        let lasts = now.duration_since(*self.since.get_or_insert(now));
        (!self.told && lasts >= tell_after).then_some(lasts)
    }
}

fn subject_of(node: &Node, health: &NodeHealth, lasted: Duration) -> Subject {
    let at_ns = now_ns();
    Subject::Node {
        node: node.url().to_owned(),
        cat: node.cat().unwrap_or_default(),
        condition: health.condition.as_str().to_owned(),
        detail: health.detail.clone(),
        at_ns,
        lasted_s: lasted.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_and_so_is_its_end() {
        let (start, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut trouble = Trouble::default();
        let mut told: Vec<(u64, Condition, u64)> = Vec::new();
        for minute in 0..400_u64 {
            // Ten minutes, then five hours in two ways, then well.
            let condition = match minute {
                10..20 => Condition::Away,
                50..200 => Condition::Silent,
                200..350 => Condition::Away,
                _ => Condition::Ok,
            };
            let lasted = trouble.look(condition, hour, start + Duration::from_secs(60 * minute));
            if let Some(lasted) = lasted {
                // The store fails the first time.
                if told.last().is_some_and(|(at, ..)| at + 1 == minute) {
                    trouble.told = condition != Condition::Ok;
                }
                told.push((minute, condition, lasted.as_secs() / 60));
            }
        }
        let expected = [
            (110, Condition::Silent, 60),
            (111, Condition::Silent, 61),
            (350, Condition::Ok, 300),
            (351, Condition::Ok, 300),
        ];
        assert_eq!(told, expected);
    }
}
