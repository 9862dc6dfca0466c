//! Why a pairing does not go on.

/// Why an exchange does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no code, or it has expired.
    #[error("no pairing code is open; run `cat-node pair` on the node")]
    NoCode,
    /// The code has been tried too often.
    #[error("the pairing code was tried too often; run `cat-node pair` on the node for a new one")]
    TriedTooOften,
    /// The secret has been tried too often.
    #[error("the pairing secret was tried too often; it can be tried again in ten minutes")]
    SecretTriedTooOften,
    /// The node has no secret.
    #[error(
        "the node takes no pairing secret: its config has none, or the node was paired before; run `cat-node pair` on \
         the node for a code"
    )]
    NoSecret,
    /// The hub knows the node's key already.
    #[error("the hub is paired with this node already, or is pairing with it, under another name")]
    AlreadyPaired,
    /// The message is not one of SPAKE2.
    #[error("the message is not one of a pairing")]
    BadMessage,
    /// This client has begun no exchange.
    #[error("the pairing has not begun")]
    NotBegun,
    /// The proof is wrong.
    #[error("the pairing code is wrong, or another program is between the hub and the node")]
    WrongProof,
    /// The proof is wrong, in an exchange by the secret.
    #[error("pairing_secret differs in the configs of the hub and the node, or another program is between the two")]
    WrongSecret,
}
