//! Looks after the nodes: judges each again and again, and has the log and the owners told of those that do not hear.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use tracing::{info, warn};

use crate::listen::Live;
use crate::node_client::{Node, Nodes};
use crate::node_health::{Condition, HealthConfig, NodeHealth};
use crate::owner::nodes::Troubles;

/// How often the nodes are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Trouble that is over sooner is not logged here: a restart, a plug that is moved.
const LOG_AFTER: Duration = Duration::from_secs(60);

/// How often trouble that lasts is logged again.
const LOG_PERIOD: Duration = Duration::from_secs(6 * 3_600);

/// Looks after the nodes until `stop`. `troubles` tells owners; `None`: there are none.
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
        // As many as there are nodes.
        logs.retain(|url, _| known.iter().any(|(node, _)| node.url() == url));
        for (node, health) in &known {
            logs.entry(node.url().to_owned()).or_default().look(node.url(), health, Instant::now());
        }
        if let Some(troubles) = &mut troubles {
            troubles.look(&known).await;
        }
    }
}

/// Without the names under which a node is away that has another: one under which it answers, or, when there is none, one that
/// stands before. Which names are of one node is told by the boot id that was last heard under each.
fn under_one_name(known: Vec<(Node, NodeHealth)>) -> Vec<(Node, NodeHealth)> {
    let names: Vec<Name> = known
        .iter()
        .map(|(node, health)| (node.told().map(|told| told.boot_id), health.condition == Condition::Away))
        .collect();
    let mut places = 0..;
    let is_kept = |_: &(Node, NodeHealth)| places.next().is_some_and(|place| !is_spare(&names, place));
    known.into_iter().filter(is_kept).collect()
}

/// The boot id that was last heard under a name, and whether its node is away.
type Name = (Option<u64>, bool);

fn is_spare(names: &[Name], place: usize) -> bool {
    let (Some(boot_id), true) = names[place] else { return false };
    names.iter().enumerate().any(|(other, (id, is_away))| *id == Some(boot_id) && (!is_away || other < place))
}

/// What of a node's trouble was logged.
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
    /// Returns whether it logged.
    fn look(&mut self, node: &str, health: &NodeHealth, now: Instant) -> bool {
        if health.condition == Condition::Ok {
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
            // Another trouble: that is news.
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
        assert!(!log.look("http://kitchen:1", &health(Condition::Away), start), "one that is over at once");
    }

    #[test]
    fn node_with_two_names_is_looked_after_under_one() {
        let kept = |names: &[Name]| (0..names.len()).filter(|place| !is_spare(names, *place)).collect::<Vec<_>>();
        // Away under both; moved, and answers under the second; another node; one that never answered.
        assert_eq!(kept(&[(Some(7), true), (Some(7), true)]), [0]);
        assert_eq!(kept(&[(Some(7), true), (Some(7), false)]), [1]);
        assert_eq!(kept(&[(Some(7), true), (Some(8), false)]), [0, 1]);
        assert_eq!(kept(&[(None, true), (None, true), (Some(7), false)]), [0, 1, 2]);
    }
}
