//! Tells owners of nodes that do not hear: one that is silent for a week must not look healthy to somebody who only looks at
//! their phone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use hub_base::time::now_ns;
use hub_nodes::Node;
use hub_owner::Outbox;
use hub_store::Store;
use hub_store::notices::Subject;
use tracing::error;

use crate::condition::{Condition, HealthConfig, NodeHealth};

/// How often a failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Trouble is over when a node has heard again for so long, or for `health.tell_after_s` when that is shorter: one that starts
/// again and again is in trouble all the time.
const CALM: Duration = Duration::from_secs(60);

/// The troubles of the nodes, each told once when it has lasted for `health.tell_after_s`, and once when it is over. A hub that is
/// started anew counts from there.
#[derive(Debug)]
pub struct Troubles {
    outbox: Outbox,
    store: Store,
    tell_after: Duration,
    /// By the node's URL.
    of: HashMap<String, Trouble>,
    log: Quiet,
}

impl Troubles {
    /// None yet.
    pub fn new(outbox: Outbox, store: Store, config: &HealthConfig) -> Self {
        let tell_after = Duration::from_secs(u64::from(config.tell_after_s));
        Self { outbox, store, tell_after, of: HashMap::new(), log: Quiet::new(LOG_PERIOD) }
    }

    /// How all nodes are now. Puts into the outbox what is to be told of it; a store that fails is asked again the next time.
    pub async fn look(&mut self, known: &[(Node, NodeHealth)]) {
        // As many as there are nodes.
        self.of.retain(|url, _| known.iter().any(|(node, _)| node.url() == url));
        let (now, now_ns) = (Instant::now(), now_ns());
        let (mut due, mut notices) = (Vec::new(), Vec::new());
        for (node, health) in known {
            let is_ok = health.condition == Condition::Ok;
            let trouble = self.of.entry(node.url().to_owned()).or_default();
            if let Some(lasted) = trouble.look(is_ok, self.tell_after, now) {
                due.push((node.url(), is_ok));
                let plans = self.outbox.plan_node(node.cat().as_deref(), now_ns);
                notices.push((subject_of(node, health, lasted, now_ns), plans));
            }
        }
        if due.is_empty() {
            return;
        }
        match self.store.commit_notices(notices, now_ns).await {
            Ok(put_in) => {
                self.outbox.put_in(put_in);
                for (url, is_ok) in due {
                    self.of.entry(url.to_owned()).or_default().stored(is_ok);
                }
            }
            Err(error) => {
                if let Some(held_back) = self.log.allow() {
                    error!(%error, held_back, "a notice about a node cannot be stored; trying again");
                }
            }
        }
    }
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
