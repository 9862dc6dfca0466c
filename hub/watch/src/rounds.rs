//! Judges the nodes every few seconds, logs those that are deaf or away, and has their owners notified.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_listen::Live;
use hub_nodes::{Node, Nodes};
use tracing::{info, warn};

use crate::condition::{Condition, HealthConfig, NodeHealth};
use crate::troubles::Troubles;

/// How often the nodes are judged.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Trouble that ends sooner is not logged here: a restart, or a plug that is moved.
const LOG_AFTER: Duration = Duration::from_secs(60);

/// How often lasting trouble is logged again.
const LOG_PERIOD: Duration = Duration::from_secs(6 * 3_600);

/// Watches over the nodes until `stop`. `troubles` notifies owners. `None`: there are no owners.
pub async fn watch(
    nodes: Nodes,
    live: Option<Live>,
    config: HealthConfig,
    mut troubles: Option<Troubles>,
    stop: CancellationToken,
) {
    let mut logs: HashMap<String, NodeLog> = HashMap::new();
    let mut ticks = tokio::time::interval(LOOK_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let known = nodes.distinct().into_iter().map(|node| {
            let health = NodeHealth::of(&node, live.as_ref(), &config);
            (node, health)
        });
        let known = under_one_name(known.collect());
        // At most one log per node.
        logs.retain(|url, _| known.iter().any(|(node, _)| node.url() == url));
        for (node, health) in &known {
            logs.entry(node.url().to_owned()).or_default().look(node.url(), health, Instant::now());
        }
        let Some(troubles) = &mut troubles else { continue };
        tokio::select! {
            () = troubles.look(&known) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reduces nodes that are known under several names to one name each, for the owners and for the log. If a discovered
/// name is away and the node answers under another name, the node is up. If it answers under none, the first name
/// represents it. The last boot id shows which names belong to the same node. A configured name always represents
/// itself.
fn under_one_name(known: Vec<(Node, NodeHealth)>) -> Vec<(Node, NodeHealth)> {
    let names: Vec<Name> = known.iter().map(|(node, health)| Name::of(node, health)).collect();
    let looked_after =
        known.into_iter().enumerate().filter_map(|(place, (node, health))| match place_of(&names, place) {
            Place::Own => Some((node, health)),
            Place::Moved => Some((node, NodeHealth { condition: Condition::Ok, detail: String::new(), ..health })),
            Place::Spare => None,
        });
    looked_after.collect()
}

/// A name of a node, and the condition of the node under that name.
#[derive(Debug, Clone, Copy)]
struct Name {
    /// The last boot id under this name. `None`: there never was one.
    boot_id: Option<u64>,
    is_discovered: bool,
    condition: Condition,
}

impl Name {
    fn of(node: &Node, health: &NodeHealth) -> Self {
        // 0: the node has no boot ids.
        let boot_id = node.description().map(|described| described.boot_id).filter(|id| *id != 0);
        Self { boot_id, is_discovered: node.is_discovered(), condition: health.condition }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The node in its condition under this name.
    Own,
    /// The node, which is up under another name.
    Moved,
    /// Nothing: another name represents the node.
    Spare,
}

fn place_of(names: &[Name], place: usize) -> Place {
    let name = names[place];
    if !name.is_discovered || name.condition != Condition::Away || name.boot_id.is_none() {
        return Place::Own;
    }
    let others = || names.iter().enumerate().filter(|(at, other)| *at != place && other.boot_id == name.boot_id);
    if others().any(|(_, other)| other.condition == Condition::Ok) {
        return Place::Moved;
    }
    if others().any(|(at, other)| other.condition != Condition::Away || at < place) { Place::Spare } else { Place::Own }
}

/// What has been logged about the trouble of a node.
#[derive(Debug)]
struct NodeLog {
    trouble: Option<(Condition, Instant)>,
    logged: bool,
    quiet: Quiet,
}

impl Default for NodeLog {
    fn default() -> Self {
        Self { trouble: None, logged: false, quiet: Quiet::new(LOG_PERIOD) }
    }
}

impl NodeLog {
    /// Logs the trouble of a node if that is due. Returns whether it logged.
    fn look(&mut self, node: &str, health: &NodeHealth, now: Instant) -> bool {
        if !health.condition.is_trouble() {
            self.trouble = None;
            self.quiet.reset();
            let had_logged = std::mem::take(&mut self.logged);
            if had_logged {
                info!(node, "the node hears again");
            }
            return had_logged;
        }
        let (condition, since) = *self.trouble.get_or_insert((health.condition, now));
        if condition != health.condition {
            // Another kind of trouble is logged at once.
            self.trouble = Some((health.condition, since));
            self.quiet.reset();
        }
        let lasts = now.duration_since(since);
        if lasts < LOG_AFTER || self.quiet.allow().is_none() {
            return false;
        }
        self.logged = true;
        let sound_s = health.heard.map(|heard| heard.sound.as_secs());
        let (state, why, for_s) = (health.condition.as_str(), &health.detail, lasts.as_secs());
        warn!(node, state, why, for_s, last_sound_s = sound_s, "THE NODE HEARS NOTHING");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_logged_once_and_so_is_its_end() {
        let start = Instant::now();
        let mut log = NodeLog::default();
        let health = |condition| NodeHealth { condition, detail: String::new(), heard: None };
        let mut logged = Vec::new();
        for second in (0..600).step_by(10) {
            let condition = if second < 500 { Condition::Silent } else { Condition::Ok };
            if log.look("http://kitchen:1", &health(condition), start + Duration::from_secs(second)) {
                logged.push(second);
            }
        }
        assert_eq!(logged, [60, 500]);
        assert!(!log.look("http://kitchen:1", &health(Condition::Away), start), "a trouble that ends at once");
    }

    #[test]
    fn node_with_two_names_is_looked_after_under_one() {
        use Condition::{Away, Ok, Silent};
        use Place::*;
        let places = |names: &[(u64, bool, Condition)]| {
            let known =
                |(id, is_discovered, condition)| Name { boot_id: (id != 0).then_some(id), is_discovered, condition };
            let names: Vec<Name> = names.iter().copied().map(known).collect();
            (0..names.len()).map(|place| place_of(&names, place)).collect::<Vec<_>>()
        };
        // Away under both names; moved; moved and in trouble there; two nodes; no boot ids.
        assert_eq!(places(&[(7, true, Away), (7, true, Away)]), [Own, Spare]);
        assert_eq!(places(&[(7, true, Away), (7, true, Ok)]), [Moved, Own]);
        assert_eq!(places(&[(7, true, Away), (7, true, Silent)]), [Spare, Own]);
        assert_eq!(places(&[(7, true, Away), (8, true, Ok)]), [Own, Own]);
        assert_eq!(places(&[(0, true, Away), (0, true, Away), (0, true, Ok)]), [Own, Own, Own]);
        // A configured name represents itself, whoever answers under other names.
        assert_eq!(places(&[(7, false, Away), (7, false, Away), (7, true, Ok)]), [Own, Own, Own]);
        assert_eq!(places(&[(7, false, Ok), (7, true, Away)]), [Own, Moved]);
    }
}
