//! Keys that change: the hub learns the new keys of its paired nodes, and announces its own to them.
//!
//! A node shows its new key in new handshakes, where the hub expects the earlier one, and says it in its description on
//! connections that are still open. The hub then asks the node for the statements that lead to that key. A hub with a
//! new key is a stranger to its nodes until it has announced the key to each of them; a node that is away learns it
//! when it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::identity::{Fingerprint, OwnKey};
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use futures_util::{StreamExt, stream};
use hub_base::error::{Code, Error, Who};
use hub_nodes::Node;
use hub_nodes::pairing::{Place, follow_key};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::admission::Admission;

/// How often the hub looks whether a key has changed.
const PERIOD: Duration = Duration::from_secs(2);

/// Shortest and longest wait before the hub asks a node again, such as one that does not answer.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How many nodes are asked at a time.
const AT_A_TIME: usize = 8;

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// What the hub knows of a paired node.
struct Standing {
    /// The hub's key that the node knows.
    told: Option<Fingerprint>,
    again: Instant,
    backoff: Backoff,
    quiet: Quiet,
}

impl Standing {
    fn new() -> Self {
        let (backoff, quiet) = (Backoff::new(AGAIN.0, AGAIN.1), Quiet::new(LOG_PERIOD));
        Self { told: None, again: Instant::now(), backoff, quiet }
    }

    /// Notes that an exchange with this node is done, in which the hub's key was `own`, and logs if it failed.
    fn note(&mut self, node: &Node, own: Fingerprint, done: Result<(), Error>) {
        match done {
            Ok(()) => {
                self.told = Some(own);
                self.quiet.reset();
                // A node that keeps failing is asked less and less often.
                if !node.has_failed() {
                    self.backoff.reset();
                }
            }
            // Its description says already that it is away.
            Err(error) if error.code == Code::Unavailable(Who::Node) => {}
            Err(error) => {
                if let Some(suppressed_lines) = self.quiet.allow() {
                    warn!(node = node.url(), %error, suppressed_lines, "keys are not exchanged with a node");
                }
            }
        }
    }
}

/// Follows the keys of the paired nodes, and announces the hub's own, until `stop`.
pub async fn follow(admission: Admission, stop: CancellationToken) {
    let Some(own) = admission.own_key() else { return };
    let (mut standings, mut quiet) = (BTreeMap::new(), Quiet::new(LOG_PERIOD));
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
        read_again(&own, &mut quiet).await;
        tokio::select! {
            () = look(&admission, &own, &mut standings) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Another process of the hub may have changed the hub's key.
async fn read_again(own: &OwnKey, quiet: &mut Quiet) {
    let file = own.clone();
    match tokio::task::spawn_blocking(move || file.read_again()).await {
        Ok(Ok(false)) | Err(_) => {}
        Ok(Ok(true)) => info!(key = %own.fingerprint(), "the hub has a new key, which another process has made"),
        Ok(Err(error)) => {
            if let Some(suppressed_lines) = quiet.allow() {
                warn!(%error, suppressed_lines, "cannot read the key of the hub again");
            }
        }
    }
}

/// Asks each node for which that is due.
async fn look(admission: &Admission, own: &OwnKey, standings: &mut BTreeMap<String, Standing>) {
    let paired: Vec<Node> = admission.paired_nodes();
    standings.retain(|url, _| paired.iter().any(|node| node.url() == url));
    let (key, history) = own.present();
    let now = Instant::now();
    let due: Vec<Node> = paired
        .into_iter()
        .filter(|node| {
            let standing = standings.entry(node.url().to_owned()).or_insert_with(Standing::new);
            let must_tell = !history.statements().is_empty() && standing.told != Some(history.present());
            let is_odd = must_tell || node.has_failed() || node.has_other_key();
            is_odd && now >= standing.again
        })
        .collect();
    let (key, history) = (&key, &history);
    let asked = stream::iter(due).map(async |node: Node| {
        let pinned = (node.paired_id()?, node.pinned_key()?);
        let place = Place { url: node.url().to_owned(), addresses: node.addresses() };
        Some((node, pinned, follow_key(key, history, &place, pinned).await))
    });
    let asked: Vec<_> = asked.buffer_unordered(AT_A_TIME).collect().await;
    for (node, (id, old), done) in asked.into_iter().flatten() {
        let done = match done {
            Ok(new) if new != old => admission.change_node_key(node.url(), id, old, new).await.map_err(Into::into),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(standing) = standings.get_mut(node.url()) {
            standing.again = now + standing.backoff.next_wait();
            standing.note(&node, history.present(), done);
        }
    }
}
