//! Pairs by itself with the nodes that have the hub's `pairing_secret` in their configs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::pairing::{HubSecret, PairingSecret};
use daemon::shutdown::CancellationToken;
use futures_util::{StreamExt, stream};
use hub_base::error::{Code, Error};
use hub_nodes::pairing::{Known, Place};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::admission::Admission;

/// How often the hub looks for nodes that it may pair with.
const PERIOD: Duration = Duration::from_secs(2);

/// Time for a pairing with one node. A small machine that is busy needs seconds for the exchange.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most nodes that are tried at the same time.
const AT_ONCE: usize = 8;

/// First and longest wait, at most, before the secret is tried again at a node that has refused it. A node takes five
/// tries in ten minutes, and these waits make no more of them.
const AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// The wait before a node is tried again that does not answer. That is no try.
const AWAY_AGAIN: Duration = Duration::from_secs(20);

/// Most nodes that the hub remembers to have paired by the secret. One beyond that, the first one is forgotten.
const MAX_PAIRED: usize = 1024;

/// Pairs by this secret until `stop`: with configured nodes that are not paired, and with nodes that wait for a code. A
/// node that was paired by the secret and then removed by a person is left alone until the hub is restarted.
pub async fn pair(admission: Admission, secret: PairingSecret, stop: CancellationToken) {
    let Some(paired) = admission.keyring() else {
        warn!("pairing_secret is ignored, because the hub has no key");
        return;
    };
    let known = Known::Secret(HubSecret::new(secret, paired));
    let mut tries = Tries::default();
    loop {
        let round = async {
            let due = tries.due(admission.unpaired(), Instant::now());
            let paired = stream::iter(due).map(async |target| {
                let done = admission.pair_by_secret(&target.place, &known, DEADLINE).await;
                (target, done)
            });
            let done: Vec<_> = paired.buffer_unordered(AT_ONCE).collect().await;
            for (target, done) in done {
                tries.note(target, done, Instant::now());
            }
            tokio::time::sleep(PERIOD).await;
        };
        tokio::select! {
            () = round => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A node that could be paired.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    place: Place,
    /// Its id, if it is known.
    id: Option<String>,
}

/// What became of the tries.
#[derive(Debug, Default)]
struct Tries {
    /// By URL. Only nodes that could be paired.
    failed: BTreeMap<String, Failed>,
    /// URLs and proved ids of nodes that were paired, at most [`MAX_PAIRED`].
    paired: VecDeque<(String, String)>,
}

#[derive(Debug)]
struct Failed {
    due: Instant,
    backoff: Backoff,
    /// What was logged.
    reason: String,
}

impl Tries {
    /// Those of the nodes that are to be tried now.
    fn due(&mut self, unpaired: Vec<(Place, Option<String>)>, now: Instant) -> Vec<Target> {
        self.failed.retain(|url, _| unpaired.iter().any(|(place, _)| place.url == *url));
        let targets = unpaired.into_iter().map(|(place, id)| Target { place, id });
        let is_due = |url: &str| self.failed.get(url).is_none_or(|failed| now >= failed.due);
        let was_paired = |target: &Target| {
            self.paired
                .iter()
                .any(|(url, id)| *url == target.place.url && target.id.as_ref().is_none_or(|now| now == id))
        };
        targets.filter(|target| is_due(&target.place.url) && !was_paired(target)).collect()
    }

    /// Notes and logs what became of a try. The same reason is logged once for each node.
    fn note(&mut self, target: Target, done: Result<String, Error>, now: Instant) {
        let node = target.place.url;
        let error = match done {
            Ok(id) => {
                self.failed.remove(&node);
                if self.paired.len() >= MAX_PAIRED {
                    self.paired.pop_front();
                }
                self.paired.push_back((node, id));
                return;
            }
            Err(error) => error,
        };
        let new = || Failed { due: now, backoff: Backoff::new(AGAIN.0, AGAIN.1), reason: String::new() };
        let failed = self.failed.entry(node.clone()).or_insert_with(new);
        let has_refused = error.code == Code::Conflict;
        let wait = if has_refused { failed.backoff.next_wait() } else { AWAY_AGAIN };
        failed.due = now + wait;
        let reason = error.to_string();
        let retry_s = wait.as_secs();
        if failed.reason == reason {
            debug!(node, reason, retry_s, "no pairing by the secret");
        } else if has_refused {
            warn!(node, reason, retry_s, "no pairing by the secret");
        } else {
            info!(node, reason, retry_s, "no pairing by the secret");
        }
        failed.reason = reason;
    }
}

#[cfg(test)]
mod tests {
    use daemon::identity::Key;
    use hub_nodes::Nodes;
    use hub_store::{Access, PairedNode, Store};

    use super::*;

    #[tokio::test]
    async fn paired_nodes_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let [one, two] = ["http://127.0.0.1:9", "http://127.0.0.1:10"];
        let nodes = Nodes::new(&[one.parse().unwrap(), two.parse().unwrap()]).unwrap();
        let key = Key::generate().unwrap().0.public().fingerprint().to_string();
        store.pair_node(PairedNode { url: one.into(), node_id: key.clone(), key }).await.unwrap();
        let admission = Admission::open(nodes, store).await.unwrap();
        assert_eq!(admission.unpaired(), [(place(two), None)]);
    }

    fn place(url: &str) -> Place {
        Place { url: url.into(), addresses: Vec::new() }
    }

    fn waiting(id: &str) -> Vec<(Place, Option<String>)> {
        vec![(place("http://one.local:1"), Some(id.into()))]
    }

    /// Tries the node with this id at once, if that is due.
    fn try_it(tries: &mut Tries, id: &str, done: &Result<(), Error>, now: Instant) -> bool {
        let due = tries.due(waiting(id), now);
        let is_due = !due.is_empty();
        due.into_iter().for_each(|target| tries.note(target, done.clone().map(|()| id.to_owned()), now));
        is_due
    }

    #[test]
    fn refusals_are_tried_again_less_and_less_often() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        let refused = || Err(Error::new(Code::Conflict, "pairing_secret differs"));
        let times: Vec<u64> =
            (0..7200).filter(|s| try_it(&mut tries, "a", &refused(), start + Duration::from_secs(*s))).collect();
        assert_eq!(times[0], 0);
        for window in 0..7200 - 600 {
            let tried = times.iter().filter(|at| (window..window + 600).contains(*at)).count();
            assert!(tried <= daemon::pairing::TRIES, "{tried} tries in ten minutes: {times:?}");
        }
        assert!(times.len() >= 12, "{times:?}");
        tries.due(Vec::new(), start);
        assert!(tries.failed.is_empty(), "what is gone is not remembered");
    }

    #[test]
    fn node_that_is_away_is_tried_again_soon() {
        let (mut tries, start) = (Tries::default(), Instant::now());
        let away = || Err(Error::new(Code::Unavailable(hub_base::error::Who::Node), "away"));
        for _ in 0..10 {
            assert!(try_it(&mut tries, "a", &away(), start + AWAY_AGAIN * 10));
            tries.failed.values_mut().for_each(|failed| failed.due -= AWAY_AGAIN);
        }
    }

    #[test]
    fn node_that_was_paired_and_removed_is_left_alone_and_another_one_there_is_not() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        assert!(try_it(&mut tries, "a", &Ok(()), now));
        assert!(!try_it(&mut tries, "a", &Ok(()), now));
        assert!(try_it(&mut tries, "b", &Ok(()), now), "a new card");
        // A configured node whose id was not known before it was paired.
        let configured = || vec![(place("http://two.local:1"), None)];
        let target = tries.due(configured(), now).remove(0);
        tries.note(target, Ok("c".into()), now);
        assert_eq!(tries.due(configured(), now), []);
        assert_eq!(tries.due(vec![(place("http://two.local:1"), Some("c".into()))], now), []);
        assert_eq!(tries.due(vec![(place("http://two.local:1"), Some("d".into()))], now).len(), 1, "a new card");
    }
}
