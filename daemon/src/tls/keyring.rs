//! The keys that a server trusts, and what clients with other keys may call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::identity::Fingerprint;

/// How long a connection of a key that is not trusted may last. Pairing takes 11 seconds at most.
pub(super) const STRANGER_LIFETIME: Duration = Duration::from_secs(30);

/// The trusted keys. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Arc<watch::Sender<BTreeSet<Fingerprint>>>,
}

impl Keyring {
    /// Replaces the trusted keys. Connections of keys that are trusted no longer end at once.
    pub fn set(&self, keys: impl IntoIterator<Item = Fingerprint>) {
        self.keys.send_replace(keys.into_iter().collect());
    }

    /// Whether a key is trusted.
    pub fn trusts(&self, key: Fingerprint) -> bool {
        self.keys.borrow().contains(&key)
    }

    /// Waits until a connection of this key must end: the key is trusted no longer, or was not within
    /// [`STRANGER_LIFETIME`].
    pub async fn revoked(&self, key: Fingerprint) {
        let mut keys = self.keys.subscribe();
        let late = tokio::time::timeout(STRANGER_LIFETIME, keys.wait_for(|keys| keys.contains(&key))).await.is_err();
        if late {
            return;
        }
        if keys.wait_for(|keys| !keys.contains(&key)).await.is_err() {
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
        self.keyring.trusts(key) || self.for_strangers.iter().any(|service| path.starts_with(service))
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
