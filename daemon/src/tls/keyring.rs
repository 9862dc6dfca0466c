//! The keys that a server trusts, and what clients with other keys may call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::identity::Fingerprint;

/// How long a connection of a key that is not trusted may last. Pairing takes 11 seconds at most.
pub(super) const STRANGER_LIFETIME: Duration = Duration::from_secs(30);

/// Most former keys whose open connections go on. Those of others end.
const MAX_FORMER: usize = 64;

/// The trusted keys. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Arc<watch::Sender<Keys>>,
}

#[derive(Debug, Default)]
struct Keys {
    trusted: BTreeSet<Fingerprint>,
    /// Former keys, and the trusted key that each has changed to.
    former: BTreeMap<Fingerprint, Fingerprint>,
}

impl Keys {
    fn trusts_open(&self, key: Fingerprint) -> bool {
        self.trusted.contains(&key) || self.former.contains_key(&key)
    }
}

impl Keyring {
    /// Replaces the trusted keys. Connections of keys that are trusted no longer end at once, with those of the keys
    /// that they had before.
    pub fn set(&self, keys: impl IntoIterator<Item = Fingerprint>) {
        self.keys.send_modify(|all| {
            all.trusted = keys.into_iter().collect();
            let trusted = &all.trusted;
            all.former.retain(|old, new| trusted.contains(new) && !trusted.contains(old));
        });
    }

    /// Trusts `new` in place of `old`, which a peer has changed. Connections that the peer has open go on; new ones
    /// with the old key are refused. Does nothing if `old` is not trusted.
    pub fn change(&self, old: Fingerprint, new: Fingerprint) {
        self.keys.send_modify(|all| {
            if old == new || !all.trusted.remove(&old) {
                return;
            }
            all.trusted.insert(new);
            all.former.values_mut().filter(|present| **present == old).for_each(|present| *present = new);
            all.former.remove(&new);
            if all.former.len() >= MAX_FORMER {
                all.former.pop_first();
            }
            all.former.insert(old, new);
        });
    }

    /// Whether a key is trusted.
    pub fn trusts(&self, key: Fingerprint) -> bool {
        self.keys.borrow().trusted.contains(&key)
    }

    /// Whether a connection of this key may go on: the key is trusted, or was, and its holder has changed it.
    pub fn trusts_open(&self, key: Fingerprint) -> bool {
        self.keys.borrow().trusts_open(key)
    }

    /// Whether the holder of this key has changed it.
    pub fn has_changed(&self, key: Fingerprint) -> bool {
        self.keys.borrow().former.contains_key(&key)
    }

    /// The present key of a peer that has, or had, this key.
    pub fn present(&self, key: Fingerprint) -> Fingerprint {
        self.keys.borrow().former.get(&key).copied().unwrap_or(key)
    }

    /// Waits until a connection of this key must end: the key is trusted no longer, or was not within
    /// [`STRANGER_LIFETIME`].
    pub async fn revoked(&self, key: Fingerprint) {
        let mut keys = self.keys.subscribe();
        let trusted = keys.wait_for(|keys| keys.trusts_open(key));
        if tokio::time::timeout(STRANGER_LIFETIME, trusted).await.is_err() {
            return;
        }
        if keys.wait_for(|keys| !keys.trusts_open(key)).await.is_err() {
            // The sender is dropped after this, which holds a clone of it.
            std::future::pending::<()>().await;
        }
    }
}

/// Who may call what on a port with TLS: trusted keys everything, other keys the services for strangers. Plain
/// connections may call everything, as far as they are accepted.
#[derive(Debug, Clone)]
pub struct Rights {
    /// The trusted keys.
    pub keyring: Keyring,
    /// What paths of calls begin with that any key may make, such as `/proto.Pairing/`.
    pub for_strangers: &'static [&'static str],
}

impl Rights {
    pub(super) fn allow(&self, key: Fingerprint, path: &str) -> bool {
        self.keyring.trusts_open(key) || self.for_strangers.iter().any(|service| path.starts_with(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Key;

    #[tokio::test]
    async fn revocation_is_noticed_and_only_once_a_key_was_trusted() {
        let [one, other] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
        let keyring = Keyring::default();
        let waits = keyring.clone();
        let revoked = tokio::spawn(async move { waits.revoked(one).await });
        tokio::task::yield_now().await;
        assert!(!keyring.trusts(one) && !revoked.is_finished(), "it was never trusted");
        keyring.set([one, other]);
        tokio::task::yield_now().await;
        assert!(keyring.trusts(one) && !revoked.is_finished());
        keyring.set([other]);
        tokio::time::timeout(Duration::from_secs(30), revoked).await.expect("it is noticed").unwrap();
        assert!(!keyring.trusts(one) && keyring.trusts(other));
    }

    #[tokio::test]
    async fn connections_of_a_former_key_go_on_until_its_holder_is_forgotten() {
        let [first, second, third, other] = [(); 4].map(|()| Key::generate().unwrap().0.public().fingerprint());
        let keyring = Keyring::default();
        keyring.set([first, other]);
        let waits = keyring.clone();
        let revoked = tokio::spawn(async move { waits.revoked(first).await });
        for (old, new) in [(first, second), (second, third)] {
            keyring.change(old, new);
            tokio::task::yield_now().await;
            assert!(!keyring.trusts(old) && keyring.has_changed(old) && keyring.trusts(new), "{old}");
            assert!(keyring.trusts_open(first) && !revoked.is_finished() && keyring.present(first) == new);
            // The list is read again, with other changes.
            keyring.set([new]);
            assert!(keyring.trusts_open(first) && !keyring.has_changed(new));
        }
        keyring.change(other, first);
        assert!(!keyring.trusts(first), "a key that is not trusted changes nothing");
        keyring.set([]);
        tokio::time::timeout(Duration::from_secs(30), revoked).await.expect("it is noticed").unwrap();
        assert!(!keyring.trusts_open(first) && !keyring.has_changed(first), "it is a stranger's key again");
        for _ in 0..2 * MAX_FORMER {
            let [old, new] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
            keyring.set([old]);
            keyring.change(old, new);
        }
        assert!(keyring.keys.borrow().former.len() <= MAX_FORMER);
    }

    #[test]
    fn strangers_call_only_what_is_for_them() {
        let key = Key::generate().unwrap().0.public().fingerprint();
        let rights = Rights { keyring: Keyring::default(), for_strangers: &["/proto.Pairing/"] };
        assert!(rights.allow(key, "/proto.Pairing/Begin"));
        for path in ["/proto.cat/Listen", "/metrics", "/proto.PairingMore/Begin", "/"] {
            assert!(!rights.allow(key, path), "{path}");
        }
        rights.keyring.set([key]);
        assert!(rights.allow(key, "/proto.cat/Listen"));
    }
}
