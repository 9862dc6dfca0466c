//! Who a program is, whatever its address: a key of its own, the id made from it, and the proof that it holds the key.
//!
//! An address can be taken by another machine, and a host name too. A key cannot. The id of a node is the SHA-256 of
//! the public half of its first key (its SubjectPublicKeyInfo, RFC 5280), in hexadecimal. The key lies in the state
//! folder of the program. Beside it lies what tells machines apart, so that a copied memory card is noticed: on another
//! machine the program makes a new key.

mod files;
mod folder;
mod key;
mod machine;
mod node_id;
mod own_key;
mod proof;
mod public_key;
pub mod rotation;

pub use files::IdentityError;
pub use folder::{Identity, Origin};
pub use key::{Key, KeyError};
pub use machine::Machine;
pub use node_id::NodeId;
pub use own_key::OwnKey;
pub use proof::{CHALLENGE_BYTES, ProofError, prove, verify};
pub use public_key::{Fingerprint, PublicKey, SPKI_BYTES};
