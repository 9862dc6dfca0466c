//! The two messages and the two proofs by which a hub and a node show each other that they know one code.

use ring::hmac;
use spake2::{Ed25519Group, Identity, Password, Spake2};

use super::code::Code;
use super::secret::PairingSecret;
use crate::identity::Fingerprint;

/// Bytes of a message of SPAKE2: the side and a point of the curve.
pub const MESSAGE_BYTES: usize = 33;

/// Bytes of a proof (HMAC-SHA256).
pub const PROOF_BYTES: usize = 32;

/// What proofs begin with, so that neither side's proof can be sent back as the other's.
const OF_NODE: &[u8] = b"meowlink pairing v1 node\0";
const OF_HUB: &[u8] = b"meowlink pairing v1 hub\0";

/// The keys at the ends of a connection, as one side sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The hub's key.
    pub hub: Fingerprint,
    /// The node's key.
    pub node: Fingerprint,
}

/// The other side does not know the code, or another program is between the two, or the message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code is wrong, or another program is between the two")]
pub struct BadExchange;

/// The hub's side, after its message was made.
pub struct HubExchange {
    state: Spake2<Ed25519Group>,
    message: Vec<u8>,
    ends: Ends,
}

impl std::fmt::Debug for HubExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubExchange").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl HubExchange {
    /// Begins the hub's side with a code that a person has typed.
    pub fn begin(code: &Code, ends: Ends) -> Self {
        Self::begin_with(code.symbols(), ends)
    }

    /// Begins the hub's side with the secret of both configs.
    pub fn begin_with_secret(secret: &PairingSecret, ends: Ends) -> Self {
        Self::begin_with(secret.bytes(), ends)
    }

    fn begin_with(password: &[u8], ends: Ends) -> Self {
        let (password, [hub, node]) = (Password::new(password), identities(ends));
        let (state, message) = Spake2::<Ed25519Group>::start_a(&password, &hub, &node);
        Self { state, message, ends }
    }

    /// The message for the node.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Checks what the node has answered. Returns the hub's own proof.
    ///
    /// # Errors
    /// If the node has not proved that it knows the code and sees the same keys.
    pub fn finish(self, answer: &[u8], proof: &[u8]) -> Result<Vec<u8>, BadExchange> {
        let secret = self.state.finish(answer).map_err(|_| BadExchange)?;
        let transcript = Transcript { secret, ends: self.ends, messages: [self.message, answer.to_vec()].concat() };
        transcript.check(OF_NODE, proof)?;
        Ok(transcript.proof(OF_HUB))
    }
}

/// The node's side, after it has answered.
pub(super) struct NodeExchange {
    /// The message for the hub.
    pub(super) message: Vec<u8>,
    /// The proof for the hub.
    pub(super) proof: Vec<u8>,
    transcript: Transcript,
}

impl NodeExchange {
    /// Answers the hub's message. `password`: the symbols of the code, or the secret.
    pub(super) fn answer(password: &[u8], ends: Ends, hub_message: &[u8]) -> Result<Self, BadExchange> {
        let (password, [hub, node]) = (Password::new(password), identities(ends));
        let (state, message) = Spake2::<Ed25519Group>::start_b(&password, &hub, &node);
        let secret = state.finish(hub_message).map_err(|_| BadExchange)?;
        let transcript = Transcript { secret, ends, messages: [hub_message, &message].concat() };
        Ok(Self { proof: transcript.proof(OF_NODE), message, transcript })
    }

    /// Checks the hub's proof.
    pub(super) fn finish(&self, proof: &[u8]) -> Result<(), BadExchange> {
        self.transcript.check(OF_HUB, proof)
    }
}

fn identities(ends: Ends) -> [Identity; 2] {
    [ends.hub, ends.node].map(|key| Identity::new(key.to_string().as_bytes()))
}

/// All that both sides must agree on.
struct Transcript {
    secret: Vec<u8>,
    ends: Ends,
    /// The hub's message, then the node's.
    messages: Vec<u8>,
}

impl Transcript {
    fn signed(&self, side: &[u8]) -> Vec<u8> {
        let Ends { hub, node } = self.ends;
        [side, hub.to_string().as_bytes(), node.to_string().as_bytes(), &self.messages].concat()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.secret)
    }

    fn proof(&self, side: &[u8]) -> Vec<u8> {
        hmac::sign(&self.key(), &self.signed(side)).as_ref().to_vec()
    }

    /// Compares in constant time.
    fn check(&self, side: &[u8], proof: &[u8]) -> Result<(), BadExchange> {
        hmac::verify(&self.key(), &self.signed(side), proof).map_err(|_| BadExchange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Key;

    fn ends() -> Ends {
        let [hub, node] = [(); 2].map(|()| Key::generate().unwrap().0.public().fingerprint());
        Ends { hub, node }
    }

    fn exchange(hub: (&Code, Ends), node: (&Code, Ends)) -> Result<(), BadExchange> {
        let begun = HubExchange::begin(hub.0, hub.1);
        assert_eq!(begun.message().len(), MESSAGE_BYTES);
        let answered = NodeExchange::answer(node.0.symbols(), node.1, begun.message())?;
        assert_eq!((answered.message.len(), answered.proof.len()), (MESSAGE_BYTES, PROOF_BYTES));
        let proof = begun.finish(&answered.message, &answered.proof)?;
        answered.finish(&proof)
    }

    #[test]
    fn one_code_and_the_same_keys_agree_and_nothing_else_does() {
        let (code, seen) = (Code::random(), ends());
        assert_eq!(exchange((&code, seen), (&code, seen)), Ok(()));
        assert_eq!(exchange((&code, seen), (&Code::random(), seen)), Err(BadExchange));
        let stranger = ends().hub;
        for between in [Ends { hub: stranger, ..seen }, Ends { node: stranger, ..seen }] {
            assert_eq!(exchange((&code, seen), (&code, between)), Err(BadExchange));
        }
    }

    #[test]
    fn proof_of_one_side_is_not_one_of_the_other_and_no_message_passes_for_one() {
        let (code, seen) = (Code::random(), ends());
        let begun = HubExchange::begin(&code, seen);
        let answered = NodeExchange::answer(code.symbols(), seen, begun.message()).unwrap();
        assert_eq!(answered.finish(&answered.proof), Err(BadExchange));
        assert_eq!(answered.finish(&[]), Err(BadExchange));
        // The hub's own message, sent back.
        let own = begun.message().to_vec();
        assert_eq!(begun.finish(&own, &answered.proof), Err(BadExchange));
        for message in [&[][..], &[0x41; 33], &[0x42; 33], &[0xff; 33], &own[..32], &[&own[..], b"x"].concat()] {
            assert!(NodeExchange::answer(code.symbols(), seen, message).is_err(), "{message:?}");
        }
    }
}
