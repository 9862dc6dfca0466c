//! The node's side of pairing by the secret of both configs.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exchange::{Ends, NodeExchange};
use super::offer::{MAX_TRIES, Refusal};
use super::secret::PairingSecret;
use super::tries::Tries;
use crate::identity::Fingerprint;

/// The node's side of a pairing by the secret. Within ten minutes, an address has [`super::TRIES`], and all addresses
/// together have [`MAX_TRIES`], wrong tries and right ones together.
#[derive(Debug)]
pub struct StandingOffer {
    secret: PairingSecret,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tries: Tries,
    /// The exchanges that were begun, by the key of the hub. At most [`MAX_TRIES`].
    begun: VecDeque<(Fingerprint, NodeExchange)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("tries", &self.tries.len()).finish_non_exhaustive()
    }
}

impl StandingOffer {
    /// Pairs with hubs that know this secret.
    pub fn new(secret: PairingSecret) -> Self {
        Self { secret, state: Mutex::default() }
    }

    /// Answers the first message of a hub at this address with the node's message and proof. This is a try.
    ///
    /// # Errors
    /// If the secret was tried too often, or the message is none.
    pub fn begin(&self, ends: Ends, from: Option<IpAddr>, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let mut state = self.lock();
        let taken = state.tries.take(from)?;
        let Ok(exchange) = NodeExchange::answer(self.secret.bytes(), ends, message) else {
            state.tries.give_back(taken);
            return Err(Refusal::BadMessage);
        };
        let answer = (exchange.message.clone(), exchange.proof.clone());
        state.begun.retain(|(hub, _)| *hub != ends.hub);
        if state.begun.len() >= MAX_TRIES {
            state.begun.pop_front();
        }
        state.begun.push_back((ends.hub, exchange));
        Ok(answer)
    }

    /// Checks the proof of the hub. An empty one ends the exchange: the hub found the node's proof to be wrong.
    ///
    /// # Errors
    /// If the hub has begun no exchange, or its proof is wrong.
    pub fn confirm(&self, hub: Fingerprint, proof: &[u8]) -> Result<(), Refusal> {
        let mut state = self.lock();
        let place = state.begun.iter().position(|(key, _)| *key == hub).ok_or(Refusal::NotBegun)?;
        // One proof for each exchange.
        let (_, exchange) = state.begun.remove(place).ok_or(Refusal::NotBegun)?;
        exchange.finish(proof).map_err(|_| Refusal::WrongSecret)
    }

    /// Drops the exchange of a hub that begins another one by a code.
    pub fn abandon(&self, hub: Fingerprint) {
        self.lock().begun.retain(|(key, _)| *key != hub);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::identity::Key;
    use crate::pairing::{BadExchange, CODE_HOLDS, HubExchange, TRIES};

    fn secret(text: &str) -> PairingSecret {
        PairingSecret::new(&Secret::new(text)).unwrap()
    }

    fn pair(offer: &StandingOffer, number: u8, text: &str, ends: Ends) -> Result<(), Refusal> {
        let hub = HubExchange::begin_with_secret(&secret(text), ends);
        let from = Some(IpAddr::from([192, 0, 2, number]));
        let (message, proof) = offer.begin(ends, from, hub.message())?;
        let proof = hub.finish(&message, &proof).map_err(|BadExchange| Refusal::WrongSecret);
        offer.confirm(ends.hub, &proof.unwrap_or_default())
    }

    #[tokio::test(start_paused = true)]
    async fn same_secret_pairs_and_wrong_ones_have_bounds() {
        let [hub, node] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
        let (ends, right, wrong) = (Ends { hub, node }, "a secret of both sides", "a secret of one side");
        let offer = StandingOffer::new(secret(right));
        assert_eq!(pair(&offer, 0, right, ends), Ok(()));
        for _ in 0..MAX_TRIES {
            assert_eq!(offer.begin(ends, None, b"junk"), Err(Refusal::BadMessage));
        }
        assert_eq!(offer.confirm(hub, &[0; 32]), Err(Refusal::NotBegun));
        for _ in 0..TRIES {
            assert_eq!(pair(&offer, 1, wrong, ends), Err(Refusal::WrongSecret));
        }
        assert_eq!(pair(&offer, 1, right, ends), Err(Refusal::SecretTriedTooOften));
        assert_eq!(pair(&offer, 2, right, ends), Ok(()));
        for number in 3..30 {
            let _ = pair(&offer, number, wrong, ends);
        }
        assert_eq!(pair(&offer, 40, right, ends), Err(Refusal::SecretTriedTooOften));
        tokio::time::advance(CODE_HOLDS).await;
        assert_eq!(pair(&offer, 1, right, ends), Ok(()));
    }
}
