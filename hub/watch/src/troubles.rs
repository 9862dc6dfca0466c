//! Notifies owners of nodes that stop hearing: an owner who looks at nothing but the phone must not believe that a node
//! works which has been silent for a week.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use hub_base::time::now_ns;
use hub_nodes::Node;
use hub_owner::Outbox;
use hub_store::notifications::Subject;
use tracing::error;

use crate::condition::{Condition, HealthConfig, NodeHealth};
use crate::names::Names;

/// How often a failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Trouble is over when a node has heard for this long, or for `health.tell_after_s` if that is shorter. A node that
/// restarts again and again stays in trouble.
pub(crate) const CALM: Duration = Duration::from_secs(60);

/// The troubles of the nodes. Owners are notified of each once when it has lasted for `health.tell_after_s`, and once
/// when it is over. After a restart of the hub the time begins again.
#[derive(Debug)]
pub struct Troubles {
    outbox: Outbox,
    tell_after: Duration,
    by_url: HashMap<String, Trouble>,
    log: Quiet,
}

impl Troubles {
    /// No troubles.
    pub fn new(outbox: Outbox, config: &HealthConfig) -> Self {
        let tell_after = Duration::from_secs(u64::from(config.tell_after_s));
        Self { outbox, tell_after, by_url: HashMap::new(), log: Quiet::new(LOG_PERIOD) }
    }

    /// Takes the health of all nodes as it is now, and notifies the owners. If the store fails, the next call tries
    /// again.
    pub(crate) async fn look(&mut self, known: &[(Node, NodeHealth)], names: &Names) {
        self.by_url.retain(|_, trouble| trouble.since.is_some());
        names.follow(&mut self.by_url);
        let (now, now_ns) = (Instant::now(), now_ns());
        let (mut due, mut subjects) = (Vec::new(), Vec::new());
        for (node, health) in known {
            let is_ok = !health.condition.is_trouble();
            let trouble = self.by_url.entry(node.url().to_owned()).or_default();
            if let Some(lasted) = trouble.look(is_ok, self.tell_after, now) {
                due.push((node.url(), is_ok));
                subjects.push((subject_of(node, health, lasted, now_ns), node.cat()));
            }
        }
        if due.is_empty() {
            return;
        }
        match self.outbox.notify_of_nodes(subjects, now_ns).await {
            Ok(()) => {
                for (url, is_ok) in due {
                    self.by_url.entry(url.to_owned()).or_default().stored(is_ok);
                }
            }
            Err(error) => {
                if let Some(suppressed_lines) = self.log.allow() {
                    error!(%error, suppressed_lines, "cannot store a notification about a node; retrying");
                }
            }
        }
    }
}

/// The trouble of a node.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    /// Since when the node hears again. `None`: it does not.
    well_since: Option<Instant>,
    /// Whether the owners were notified.
    notified: bool,
}

impl Trouble {
    /// How long the trouble has lasted, or lasted, if the owners are to be notified now.
    fn look(&mut self, is_ok: bool, tell_after: Duration, now: Instant) -> Option<Duration> {
        if !is_ok {
            self.well_since = None;
            let lasts = now.duration_since(*self.since.get_or_insert(now));
            return (!self.notified && lasts >= tell_after).then_some(lasts);
        }
        let since = self.since?;
        let well_since = *self.well_since.get_or_insert(now);
        if now.duration_since(well_since) < CALM.min(tell_after) {
            return None;
        }
        if !self.notified {
            *self = Self::default();
            return None;
        }
        Some(well_since.duration_since(since))
    }

    /// The notification is in the outbox.
    fn stored(&mut self, is_ok: bool) {
        *self = if is_ok { Self::default() } else { Self { notified: true, ..std::mem::take(self) } };
    }
}

fn subject_of(node: &Node, health: &NodeHealth, lasted: Duration, now_ns: i64) -> Subject {
    // A node without sound counts as in trouble only a while after its last sound.
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
    fn owners_are_notified_of_trouble_that_lasts_once_and_of_its_end_once() {
        let (start, hour) = (Instant::now(), Duration::from_secs(3_600));
        let mut trouble = Trouble::default();
        let mut notified: Vec<(u64, bool, u64)> = Vec::new();
        for minute in 0..600_u64 {
            // Trouble for ten minutes; then for five hours, with short recoveries; then for ten minutes.
            let is_ok = !matches!(minute, 10..20 | 50..350 | 500..510) || matches!(minute, 80 | 300);
            if let Some(lasted) = trouble.look(is_ok, hour, start + Duration::from_secs(60 * minute)) {
                // The store fails the first time.
                if notified.last().is_some_and(|(at, ..)| at + 1 == minute) {
                    trouble.stored(is_ok);
                }
                notified.push((minute, is_ok, lasted.as_secs() / 60));
            }
        }
        assert_eq!(notified, [(110, false, 60), (111, false, 61), (351, true, 300), (352, true, 300)]);
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
