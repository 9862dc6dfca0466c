//! Who hears live audio now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_base::time::now_ns;

/// Those who hear live audio now, at most as many as there are places for live audio. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(super) struct Listeners {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    now: BTreeMap<u64, Listener>,
}

/// Somebody who hears live audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    /// A user, `token NAME`, `this machine` or `anyone`.
    pub(super) who: String,
    /// URL of the node.
    pub(super) node: String,
    /// Since when, in nanoseconds since 1970 UTC.
    pub(super) since_ns: i64,
}

/// Dropping it takes the listener off the list.
#[derive(Debug)]
pub(super) struct Listed {
    id: u64,
    all: Listeners,
}

impl Listeners {
    /// Puts somebody on the list.
    pub(super) fn add(&self, who: String, node: String) -> Listed {
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        inner.now.insert(id, Listener { who, node, since_ns: now_ns() });
        Listed { id, all: self.clone() }
    }

    /// The list, in the order in which they began.
    pub(super) fn list(&self) -> Vec<Listener> {
        self.lock().now.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.lock().now.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_has_those_who_have_not_stopped() {
        let listeners = Listeners::default();
        let first = listeners.add("anna".into(), "http://kitchen:1".into());
        let _second = listeners.add("ben".into(), "http://kitchen:1".into());
        drop(first);
        let who: Vec<_> = listeners.list().into_iter().map(|listener| listener.who).collect();
        assert_eq!(who, ["ben"]);
    }
}
