//! Pairing: two programs that know nothing of each other learn each other's keys, by a short code that a person carries
//! from the node to the hub, or by a secret in the configs of both.
//!
//! The connection is encrypted, but at first neither side knows whose key it sees. Both prove by SPAKE2 (RFC 9382) that
//! they know the code. Both keys are part of the proof, so it holds only if no other program is between the two. A
//! program between them, or one that guesses, learns nothing from an exchange except whether its one guess was right.

mod begun;
mod code;
mod exchange;
mod hub_secret;
mod offer;
mod refusal;
mod secret;
mod standing;
mod tries;

pub use code::{Code, NotACode};
pub use exchange::{BadExchange, Ends, HubExchange, MESSAGE_BYTES, PROOF_BYTES};
pub use hub_secret::{HubSecret, HubTry};
pub use offer::Offers;
pub use refusal::Refusal;
pub use secret::{PairingSecret, SECRET_CHARACTERS, warn_of_readable_secret};
pub use standing::StandingOffer;
pub use tries::{CODE_HOLDS, MAX_TRIES, TRIES};
