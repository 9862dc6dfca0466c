//! The audit log: who did what, from where.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::quiet::Quiet;
use hub_base::text::clean;
use hub_store::Store;
use hub_store::people::{AuditEntry, Repeats};
use tracing::warn;

/// Longest text of an entry, in bytes. Longer texts are cut.
const MAX_TEXT_BYTES: usize = 200;

/// How often it is logged that entries cannot be stored.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Folds what can be repeated without end and changes nothing. The address of a failed log-in does not matter, because
/// a guesser may have many. Of the changes of one node's key only the last are kept, because a node may change its key
/// as often as it likes.
fn repeats(action: &str) -> Repeats {
    match action {
        "live_listening" => Repeats::FoldByAddress,
        "log_in_failed" => Repeats::Fold,
        "change_node_key" => Repeats::Last,
        _ => Repeats::Stay,
    }
}

/// Writes the audit log. Clones share it.
#[derive(Debug, Clone)]
pub struct AuditLog {
    store: Store,
    quiet: Arc<Mutex<Quiet>>,
}

impl AuditLog {
    /// The audit log in this database.
    pub fn new(store: Store) -> Self {
        Self { store, quiet: Arc::new(Mutex::new(Quiet::new(LOG_PERIOD))) }
    }

    /// Adds an entry, unless it repeats one of the last ten minutes and changes nothing. What was done is done, so a
    /// failure is logged and not reported.
    pub async fn add(&self, who: &str, address: Option<IpAddr>, action: &str, subject: &str) {
        let entry = AuditEntry {
            id: 0,
            at_ns: 0,
            who: clean(who, MAX_TEXT_BYTES),
            address: address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            action: clean(action, MAX_TEXT_BYTES),
            subject: clean(subject, MAX_TEXT_BYTES),
        };
        if let Err(error) = self.store.add_audit(entry, repeats(action)).await
            && let Some(suppressed_lines) = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).allow()
        {
            warn!(%error, suppressed_lines, "the audit log lacks an entry");
        }
    }
}
