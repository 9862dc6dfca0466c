//! The node's side of pairing by the secret of both configs.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::begun::Begun;
use super::exchange::Ends;
use super::refusal::Refusal;
use super::secret::PairingSecret;
use crate::identity::Fingerprint;

/// The node's side of a pairing by the secret. Within ten minutes, an address has [`super::TRIES`], and all addresses
/// together have [`super::MAX_TRIES`], wrong tries and right ones together.
pub struct StandingOffer {
    secret: PairingSecret,
    begun: Mutex<Begun>,
}

impl fmt::Debug for StandingOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandingOffer").field("tries", &self.lock().tries.len()).finish_non_exhaustive()
    }
}

impl StandingOffer {
    /// Pairs with hubs that know this secret.
    pub fn new(secret: PairingSecret) -> Self {
        Self { secret, begun: Mutex::default() }
    }

    /// Answers the first message of a hub at this address with the node's message and proof. This is a try.
    ///
    /// # Errors
    /// If the secret was tried too often, or the message is no message of SPAKE2.
    pub fn begin(&self, ends: Ends, from: Option<IpAddr>, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        self.lock().begin(self.secret.bytes(), ends, from, message, Refusal::SecretTriedTooOften)
    }

    /// Checks the proof of the hub. An empty one ends the exchange: the hub found the node's proof to be wrong.
    ///
    /// # Errors
    /// If the hub has begun no exchange, or its proof is wrong.
    pub fn confirm(&self, hub: Fingerprint, proof: &[u8]) -> Result<(), Refusal> {
        self.lock().finish(hub, proof, Refusal::WrongSecret)
    }

    /// Drops the exchange of a hub that begins another one by a code.
    pub fn abandon(&self, hub: Fingerprint) {
        self.lock().abandon(hub);
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::identity::Key;
    use crate::pairing::{BadExchange, CODE_HOLDS, HubExchange, MAX_TRIES, TRIES};

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
