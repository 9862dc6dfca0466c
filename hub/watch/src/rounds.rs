//! Judges the nodes every few seconds, logs those that are deaf or away, and has their owners notified.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::time::in_words;
use hub_listen::Live;
use hub_nodes::{Node, Nodes};
use tracing::{info, warn};

use crate::condition::{Condition, HealthConfig, NodeHealth};
use crate::names::{Names, under_one_name};
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
        let names = Names::of(&nodes, &known);
        logs.retain(|_, log| log.trouble.is_some());
        names.follow(&mut logs);
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
            () = troubles.look(&known, &names) => {}
            () = stop.cancelled() => return,
        }
    }
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
}
