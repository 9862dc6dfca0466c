//! The code that a node has open: one at a time, for ten minutes and a few tries from each address.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::begun::Begun;
use super::code::Code;
use super::exchange::Ends;
use super::refusal::Refusal;
use super::tries::{CODE_HOLDS, MAX_TRIES};
use crate::identity::Fingerprint;

/// The code that is open, if there is one.
#[derive(Debug, Default)]
pub struct Offers {
    open: Mutex<Option<Offer>>,
}

struct Offer {
    code: Code,
    until: Instant,
    begun: Begun,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("tries", &self.begun.tries.len()).finish_non_exhaustive()
    }
}

impl Offers {
    /// Opens a new code, in place of an earlier one.
    pub fn open(&self) -> Code {
        let code = Code::random();
        let until = Instant::now() + CODE_HOLDS;
        *self.lock() = Some(Offer { code: code.clone(), until, begun: Begun::default() });
        code
    }

    /// Whether a code is open and may be tried.
    pub fn is_open(&self) -> bool {
        self.lock().as_ref().is_some_and(|offer| offer.begun.tries.len() < MAX_TRIES)
    }

    /// Answers the first message of a hub at this address with the node's message and proof. This uses one of the
    /// [`super::TRIES`] of the address, because the proof shows whether the hub's guess was right.
    ///
    /// # Errors
    /// If no code is open, if it was tried too often, and if the message is not one of SPAKE2.
    pub fn begin(&self, ends: Ends, from: Option<IpAddr>, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let mut open = self.lock();
        let Offer { code, begun, .. } = open.as_mut().ok_or(Refusal::NoCode)?;
        begun.begin(code.symbols(), ends, from, message, Refusal::TriedTooOften)
    }

    /// Checks the proof of the hub. If it is right, the code is closed: it is good for one hub.
    ///
    /// # Errors
    /// If the code has expired, the hub has begun no exchange, or its proof is wrong.
    pub fn confirm(&self, hub: Fingerprint, proof: &[u8]) -> Result<(), Refusal> {
        let mut open = self.lock();
        open.as_mut().ok_or(Refusal::NoCode)?.begun.finish(hub, proof, Refusal::WrongProof)?;
        *open = None;
        Ok(())
    }

    /// The open code, without one that has expired.
    fn lock(&self) -> MutexGuard<'_, Option<Offer>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.take_if(|offer| Instant::now() >= offer.until);
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Key;
    use crate::pairing::{BadExchange, HubExchange, TRIES};

    fn ends() -> Ends {
        let [hub, node] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
        Ends { hub, node }
    }

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn pair(offers: &Offers, code: &Code, ends: Ends) -> Result<(), Refusal> {
        pair_from(offers, HERE, code, ends)
    }

    fn pair_from(offers: &Offers, from: Option<IpAddr>, code: &Code, ends: Ends) -> Result<(), Refusal> {
        let hub = HubExchange::begin(code, ends);
        let (message, proof) = offers.begin(ends, from, hub.message())?;
        let proof = hub.finish(&message, &proof).map_err(|BadExchange| Refusal::WrongProof)?;
        offers.confirm(ends.hub, &proof)
    }

    #[tokio::test]
    async fn code_is_good_once() {
        let (offers, ends) = (Offers::default(), ends());
        assert_eq!(pair(&offers, &Code::random(), ends), Err(Refusal::NoCode));
        assert!(!offers.is_open());
        let code = offers.open();
        assert!(offers.is_open());
        assert_eq!(pair(&offers, &code, ends), Ok(()));
        assert!(!offers.is_open());
        assert_eq!(pair(&offers, &code, ends), Err(Refusal::NoCode));
    }

    #[tokio::test]
    async fn guesses_use_the_code_up() {
        let (offers, ends) = (Offers::default(), ends());
        let code = offers.open();
        for _ in 0..TRIES {
            assert_eq!(pair(&offers, &Code::random(), ends), Err(Refusal::WrongProof));
        }
        assert_eq!(pair(&offers, &code, ends), Err(Refusal::TriedTooOften));
    }

    #[tokio::test]
    async fn messages_that_guess_nothing_use_no_try() {
        let (offers, ends) = (Offers::default(), ends());
        let code = offers.open();
        for _ in 0..10 * MAX_TRIES {
            assert_eq!(offers.begin(ends, HERE, b"junk"), Err(Refusal::BadMessage));
        }
        assert_eq!(pair(&offers, &code, ends), Ok(()));
    }

    #[tokio::test]
    async fn one_address_cannot_use_a_code_up_and_all_together_have_a_bound() {
        let (offers, ends) = (Offers::default(), ends());
        let address = |number: u8| Some(IpAddr::from([192, 0, 2, number]));
        let guess = |number| pair_from(&offers, address(number), &Code::random(), ends);
        let code = offers.open();
        for _ in 0..TRIES {
            assert_eq!(guess(1), Err(Refusal::WrongProof));
        }
        let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
        for from in [address(1), mapped] {
            assert_eq!(pair_from(&offers, from, &code, ends), Err(Refusal::TriedTooOften));
        }
        assert!(offers.is_open());
        assert_eq!(pair_from(&offers, address(2), &code, ends), Ok(()), "others may still try");

        let code = offers.open();
        for number in 0..MAX_TRIES {
            assert_eq!(guess(u8::try_from(number).unwrap()), Err(Refusal::WrongProof));
        }
        assert!(!offers.is_open());
        assert_eq!(pair_from(&offers, address(99), &code, ends), Err(Refusal::TriedTooOften));
    }

    #[tokio::test]
    async fn wrong_proof_ends_its_exchange_and_no_other() {
        let (offers, honest, stranger) = (Offers::default(), ends(), ends());
        let code = offers.open();
        let hub = HubExchange::begin(&code, honest);
        let (message, proof) = offers.begin(honest, HERE, hub.message()).unwrap();
        let guess = HubExchange::begin(&Code::random(), stranger);
        offers.begin(stranger, HERE, guess.message()).unwrap();
        assert_eq!(offers.confirm(stranger.hub, &[0; 32]), Err(Refusal::WrongProof));
        assert_eq!(offers.confirm(stranger.hub, &[0; 32]), Err(Refusal::NotBegun));
        let proof = hub.finish(&message, &proof).unwrap();
        assert_eq!(offers.confirm(stranger.hub, &proof), Err(Refusal::NotBegun), "a proof that was overheard");
        assert_eq!(offers.confirm(honest.hub, &proof), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn code_expires_even_amid_an_exchange() {
        let (offers, ends) = (Offers::default(), ends());
        let code = offers.open();
        let hub = HubExchange::begin(&code, ends);
        let (message, proof) = offers.begin(ends, HERE, hub.message()).unwrap();
        let proof = hub.finish(&message, &proof).unwrap();
        tokio::time::advance(CODE_HOLDS).await;
        assert_eq!(offers.confirm(ends.hub, &proof), Err(Refusal::NoCode));
        assert_eq!(pair(&offers, &code, ends), Err(Refusal::NoCode));
    }
}
