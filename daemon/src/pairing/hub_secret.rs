//! The hub's side of pairing by the secret of both configs.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exchange::{Ends, HubExchange};
use super::refusal::Refusal;
use super::secret::PairingSecret;
use super::tries::{Tries, Try};
use crate::identity::Fingerprint;
use crate::tls::Keyring;

/// The secret at the hub. Whatever announces itself as a node can guess it once in each exchange, so the hub counts
/// exchanges that failed: within ten minutes, an address has [`super::TRIES`], and all have [`super::MAX_TRIES`].
pub struct HubSecret {
    secret: PairingSecret,
    /// The keys of the paired nodes.
    paired: Keyring,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tries: Tries,
    /// The nodes of the exchanges that go on. There is one [`HubTry`] for each.
    underway: BTreeSet<Fingerprint>,
}

impl fmt::Debug for HubSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSecret").field("tries", &self.lock().tries.len()).finish_non_exhaustive()
    }
}

impl HubSecret {
    /// Pairs with nodes that know this secret and have none of these keys.
    pub fn new(secret: PairingSecret, paired: Keyring) -> Self {
        Self { secret, paired, state: Mutex::default() }
    }

    /// Begins an exchange with the node at this address.
    ///
    /// # Errors
    /// [`Refusal::AlreadyPaired`] if the node is paired, or another exchange with it goes on: a node may have several
    /// names. [`Refusal::SecretTriedTooOften`] if too many exchanges have failed.
    pub fn begin(&self, ends: Ends, node: Option<IpAddr>) -> Result<(HubExchange, HubTry<'_>), Refusal> {
        let mut state = self.lock();
        if self.paired.trusts(ends.node) || state.underway.contains(&ends.node) {
            return Err(Refusal::AlreadyPaired);
        }
        let taken = state.tries.take(node).ok_or(Refusal::SecretTriedTooOften)?;
        state.underway.insert(ends.node);
        drop(state);
        let exchange = HubExchange::begin_with_secret(&self.secret, ends);
        Ok((exchange, HubTry { secret: self, taken, node: ends.node, is_wrong: false }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A try of the hub, until the exchange ends. It counts only if the proof of the node is wrong: another end of the
/// exchange guesses nothing.
#[derive(Debug)]
pub struct HubTry<'a> {
    secret: &'a HubSecret,
    taken: Try,
    node: Fingerprint,
    is_wrong: bool,
}

impl HubTry<'_> {
    /// The proof of the node was wrong.
    pub fn count(&mut self) {
        self.is_wrong = true;
    }
}

impl Drop for HubTry<'_> {
    fn drop(&mut self) {
        let mut state = self.secret.lock();
        state.underway.remove(&self.node);
        if !self.is_wrong {
            state.tries.give_back(self.taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::identity::Key;
    use crate::pairing::{CODE_HOLDS, MAX_TRIES, TRIES};

    #[tokio::test(start_paused = true)]
    async fn wrong_proofs_use_tries_up_and_nothing_else_does() {
        let text = "a secret of both sides";
        let paired = Keyring::default();
        let secret = HubSecret::new(PairingSecret::new(&Secret::new(text)).unwrap(), paired.clone());
        assert!(!format!("{secret:?}").contains(text));
        let [hub, node] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
        let begin = |number: u8| secret.begin(Ends { hub, node }, Some(IpAddr::from([192, 0, 2, number])));
        for _ in 0..2 * MAX_TRIES {
            begin(1).unwrap();
        }
        for _ in 0..TRIES {
            begin(1).unwrap().1.count();
        }
        assert_eq!(begin(1).err(), Some(Refusal::SecretTriedTooOften));
        for number in 2..=20 {
            if let Ok((_, mut tried)) = begin(number) {
                tried.count();
            }
        }
        assert_eq!(begin(40).err(), Some(Refusal::SecretTriedTooOften), "all addresses together");
        tokio::time::advance(CODE_HOLDS).await;
        let underway = begin(1).unwrap();
        assert_eq!(begin(2).err(), Some(Refusal::AlreadyPaired), "another exchange with this node goes on");
        drop(underway);
        assert!(begin(2).is_ok());
        paired.set([node]);
        assert_eq!(begin(2).err(), Some(Refusal::AlreadyPaired));
    }
}
