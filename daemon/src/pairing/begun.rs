//! The exchanges that a node has begun, and how often it may be asked to.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::exchange::{BadExchange, Ends, NodeExchange};
use super::refusal::Refusal;
use super::tries::{MAX_TRIES, Tries};
use crate::identity::Fingerprint;

/// The exchanges of hubs that try one code or one secret. At most [`MAX_TRIES`].
#[derive(Default)]
pub(super) struct Begun {
    pub(super) tries: Tries,
    /// By the key of the hub.
    exchanges: VecDeque<(Fingerprint, NodeExchange)>,
}

impl Begun {
    /// Answers the first message of a hub at this address with the node's message and proof, in place of an earlier
    /// exchange with it. This is a try, because the proof shows whether the hub's guess of `password` was right.
    ///
    /// # Errors
    /// `too_often` if no try is left, and [`Refusal::BadMessage`], which is no try.
    pub(super) fn begin(
        &mut self,
        password: &[u8],
        ends: Ends,
        from: Option<IpAddr>,
        message: &[u8],
        too_often: Refusal,
    ) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
        let taken = self.tries.take(from).ok_or(too_often)?;
        let Ok(exchange) = NodeExchange::answer(password, ends, message) else {
            self.tries.give_back(taken);
            return Err(Refusal::BadMessage);
        };
        let answer = (exchange.message.clone(), exchange.proof.clone());
        self.abandon(ends.hub);
        if self.exchanges.len() >= MAX_TRIES {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back((ends.hub, exchange));
        Ok(answer)
    }

    /// Checks the proof of a hub, and ends its exchange.
    ///
    /// # Errors
    /// `wrong` if the proof is, and [`Refusal::NotBegun`].
    pub(super) fn finish(&mut self, hub: Fingerprint, proof: &[u8], wrong: Refusal) -> Result<(), Refusal> {
        let place = self.exchanges.iter().position(|(key, _)| *key == hub).ok_or(Refusal::NotBegun)?;
        // One proof for each exchange.
        let (_, exchange) = self.exchanges.remove(place).ok_or(Refusal::NotBegun)?;
        exchange.finish(proof).map_err(|BadExchange| wrong)
    }

    /// Drops the exchange of a hub.
    pub(super) fn abandon(&mut self, hub: Fingerprint) {
        self.exchanges.retain(|(key, _)| *key != hub);
    }
}
