//! Judges the nodes every few seconds, logs those that are deaf or away, and has their owners notified.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::identity::NodeId;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::time::in_words;
use hub_listen::Live;
use hub_nodes::{Node, Nodes};
use tracing::{info, warn};

use crate::condition::{Condition, HealthConfig, NodeHealth};
use crate::troubles::{CALM, Troubles};

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
    let mut duplicates = DuplicateLog::default();
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
            let now = Instant::now();
            let Some(line) = logs.entry(node.url().to_owned()).or_default().look(health, now) else { continue };
            let node = node.url();
            match line {
                Line::Back(lasted) => info!(node, "node is back after {}", in_words(lasted.as_secs())),
                Line::Trouble(lasted) => {
                    let last_sound_s = health.heard.map(|heard| heard.sound.as_secs());
                    let (state, why, for_s) = (health.condition.as_str(), &health.detail, lasted.as_secs());
                    warn!(node, state, why, for_s, last_sound_s, "{}", health.condition.sentence());
                }
            }
        }
        duplicates.look(&nodes.of_one_id());
        let Some(troubles) = &mut troubles else { continue };
        tokio::select! {
            () = troubles.look(&known) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reduces nodes that are known under several names to one name each, for the owners and for the log. If a discovered
/// name is away and the node answers under another name, the node is up. If it answers under none, the first name
/// represents it. The id, or else the last boot id, shows which names belong to the same node. A configured name
/// without an id always represents itself.
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
    /// The last id that was proved under this name. `None`: none was.
    id: Option<NodeId>,
    /// The last boot id under this name. `None`: there never was one.
    boot_id: Option<u64>,
    is_discovered: bool,
    condition: Condition,
}

impl Name {
    fn of(node: &Node, health: &NodeHealth) -> Self {
        // 0: the node has no boot ids.
        let boot_id = node.description().map(|described| described.boot_id).filter(|id| *id != 0);
        Self { id: node.id(), boot_id, is_discovered: node.is_discovered(), condition: health.condition }
    }

    /// Whether both are names of one node.
    fn is_of_node_of(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.boot_id.is_some() && self.boot_id == other.boot_id,
        }
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
    if name.condition != Condition::Away || !(name.is_discovered || name.id.is_some()) {
        return Place::Own;
    }
    let others = || names.iter().enumerate().filter(|(at, other)| *at != place && name.is_of_node_of(other));
    if others().any(|(_, other)| other.condition == Condition::Ok) {
        return Place::Moved;
    }
    if others().any(|(at, other)| other.condition != Condition::Away || at < place) { Place::Spare } else { Place::Own }
}

/// What has been logged about the trouble of a node.
#[derive(Debug)]
struct NodeLog {
    trouble: Option<(Condition, Instant)>,
    /// Since when the node is well. `None`: it is not.
    well_since: Option<Instant>,
    logged: bool,
    quiet: Quiet,
}

/// A line of the log about a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// The node is in trouble, for this long.
    Trouble(Duration),
    /// The trouble is over. It lasted this long.
    Back(Duration),
}

impl Default for NodeLog {
    fn default() -> Self {
        Self { trouble: None, well_since: None, logged: false, quiet: Quiet::new(LOG_PERIOD) }
    }
}

impl NodeLog {
    /// The line about the node that is due. A recovery that is shorter than [`CALM`] does not end the trouble, as for
    /// the owners: otherwise the time would begin again, and an outage of hours would look like one of minutes.
    fn look(&mut self, health: &NodeHealth, now: Instant) -> Option<Line> {
        if !health.condition.is_trouble() {
            let (_, since) = self.trouble?;
            let well_since = *self.well_since.get_or_insert(now);
            if now.duration_since(well_since) < CALM {
                return None;
            }
            let ended = std::mem::take(self);
            return ended.logged.then(|| Line::Back(well_since.duration_since(since)));
        }
        self.well_since = None;
        let (condition, since) = *self.trouble.get_or_insert((health.condition, now));
        if condition != health.condition {
            // Another kind of trouble is logged at once.
            self.trouble = Some((health.condition, since));
            self.quiet.reset();
        }
        let lasts = now.duration_since(since);
        if lasts < LOG_AFTER || self.quiet.allow().is_none() {
            return None;
        }
        self.logged = true;
        Some(Line::Trouble(lasts))
    }
}

/// Tells of nodes that prove the same id in different boots: a state folder was copied. Both are heard.
#[derive(Debug)]
struct DuplicateLog {
    /// Rounds in a row.
    rounds: u32,
    quiet: Quiet,
}

impl Default for DuplicateLog {
    fn default() -> Self {
        Self { rounds: 0, quiet: Quiet::new(LOG_PERIOD) }
    }
}

impl DuplicateLog {
    /// A node that restarts under two names is in two boots for some rounds.
    const ROUNDS: u32 = 6;

    fn look(&mut self, duplicates: &[(Node, Node)]) {
        self.rounds = if duplicates.is_empty() { 0 } else { self.rounds + 1 };
        if self.rounds < Self::ROUNDS || self.quiet.allow().is_none() {
            return;
        }
        for (one, other) in duplicates {
            let (node, other) = (one.url(), other.url());
            warn!(
                node,
                other, "duplicate identity: two nodes have the same key; delete the state folder of one of them"
            );
        }
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
            if let Some(line) = log.look(&health(condition), start + Duration::from_secs(second)) {
                logged.push((second, line));
            }
        }
        let seconds = Duration::from_secs;
        assert_eq!(logged, [(60, Line::Trouble(seconds(60))), (560, Line::Back(seconds(500)))]);
        assert_eq!(log.look(&health(Condition::Away), start), None, "a trouble that ends at once");
    }

    #[test]
    fn short_recovery_does_not_end_an_outage() {
        let start = Instant::now();
        let mut log = NodeLog::default();
        let mut logged = Vec::new();
        for second in (0..7_400).step_by(10) {
            let condition = if second < 7_200 && second != 3_600 { Condition::Away } else { Condition::Ok };
            let health = NodeHealth { condition, detail: String::new(), heard: None };
            logged.extend(log.look(&health, start + Duration::from_secs(second)));
        }
        assert_eq!(logged, [Line::Trouble(LOG_AFTER), Line::Back(Duration::from_secs(7_200))]);
    }

    #[test]
    fn node_with_two_names_is_looked_after_under_one() {
        use Condition::{Away, Ok, Silent};
        use Place::*;
        let places = |names: &[(u64, bool, Condition)]| {
            let known = |(id, is_discovered, condition)| Name {
                id: None,
                boot_id: (id != 0).then_some(id),
                is_discovered,
                condition,
            };
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
        // With an id, a configured name is one of the node's names too, whatever its boot.
        let named = |key: &[u8], boot_id, condition| Name {
            id: Some(NodeId::of_spki(key)),
            boot_id: Some(boot_id),
            is_discovered: false,
            condition,
        };
        let names = [named(b"a", 7, Away), named(b"a", 8, Ok), named(b"b", 8, Away)];
        assert_eq!((0..3).map(|place| place_of(&names, place)).collect::<Vec<_>>(), [Moved, Own, Own]);
    }
}
