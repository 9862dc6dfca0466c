//! How a program changes its key: a statement over the new key, signed with the old one.
//!
//! A statement has three parts: the SubjectPublicKeyInfo of the old key (44 bytes), that of the new key (44 bytes), and
//! the signature by the old key (64 bytes, Ed25519). What is signed is [`PREFIX`], the id of the program (32 bytes),
//! and the first two parts. The id does not change, so a statement of one program says nothing about another. That
//! whoever made the statement holds the new key too is proved by the next handshake.

use crate::identity::{Fingerprint, Key, NodeId, PublicKey, SPKI_BYTES};

/// What every signed message begins with, so that a signature made for another purpose is no statement.
const PREFIX: &[u8] = b"meowlink key rotation v1\0";

/// Bytes of a statement.
pub const STATEMENT_BYTES: usize = 2 * SPKI_BYTES + 64;

/// Why a statement is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// It does not have the form of a statement.
    #[error("it is not a statement about a new key")]
    Form,
    /// It is about a key that is not the one that was known until now.
    #[error("the old key of the statement is not the known one")]
    OtherKey,
    /// The old key has not signed it.
    #[error("the statement is not signed by the old key for this id")]
    Signature,
}

/// States that the program `id` has the key `new` from now on, in place of the key `old`.
pub fn announce(id: NodeId, old: &Key, new: &PublicKey) -> Vec<u8> {
    let keys = [old.public().spki().as_slice(), new.spki()].concat();
    let signature = old.sign(&message(id, &keys));
    [keys, signature].concat()
}

/// Returns the new key of the program `id`, whose key had the fingerprint `known` until now.
///
/// # Errors
/// If the statement is not one of that program with that key.
pub fn verify(id: NodeId, known: Fingerprint, statement: &[u8]) -> Result<PublicKey, RotationError> {
    if statement.len() != STATEMENT_BYTES {
        return Err(RotationError::Form);
    }
    let (keys, signature) = statement.split_at(2 * SPKI_BYTES);
    let (old, new) = keys.split_at(SPKI_BYTES);
    let (Some(old), Some(new)) = (PublicKey::from_spki(old), PublicKey::from_spki(new)) else {
        return Err(RotationError::Form);
    };
    if old.fingerprint() != known {
        return Err(RotationError::OtherKey);
    }
    if old.has_signed(&message(id, keys), signature) { Ok(new) } else { Err(RotationError::Signature) }
}

fn message(id: NodeId, keys: &[u8]) -> Vec<u8> {
    [PREFIX, id.bytes(), keys].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::generate().unwrap().0
    }

    #[test]
    fn new_key_is_believed_again_and_again() {
        let (first, second, third) = (key(), key(), key());
        let id = first.id();
        let statement = announce(id, &first, &second.public());
        assert_eq!(verify(id, first.id().into(), &statement), Ok(second.public()));
        let statement = announce(id, &second, &third.public());
        assert_eq!(verify(id, second.public().fingerprint(), &statement), Ok(third.public()));
    }

    #[test]
    fn statement_has_the_documented_form() {
        let (old, new) = (key(), key());
        let statement = announce(old.id(), &old, &new.public());
        let mut signed = b"meowlink key rotation v1\0".to_vec();
        let digits = old.id().to_string();
        signed.extend((0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()));
        signed.extend_from_slice(&statement[..88]);
        assert_eq!(statement[..88], [old.spki(), new.spki()].concat());
        assert!(old.public().has_signed(&signed, &statement[88..]));
    }

    #[test]
    fn other_statements_are_not_believed() {
        let (old, new, stranger) = (key(), key(), key());
        let id = old.id();
        let known = Fingerprint::from(id);
        let good = announce(id, &old, &new.public());
        assert_eq!(verify(id, stranger.id().into(), &good), Err(RotationError::OtherKey));
        // A statement that came before: the key has changed since.
        assert_eq!(verify(id, new.id().into(), &good), Err(RotationError::OtherKey));
        // The old key belongs to another program, by its id.
        assert_eq!(verify(stranger.id(), known, &good), Err(RotationError::Signature));
        // A stranger puts the old key in front, and signs with a key of its own.
        let mut forged = announce(id, &stranger, &stranger.public());
        forged[..44].copy_from_slice(old.spki());
        assert_eq!(verify(id, known, &forged), Err(RotationError::Signature));
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(verify(id, known, &changed).is_err(), "byte {at}");
        }
        for statement in [&good[1..], &good[..151], &[&good[..], b"\0"].concat(), b""] {
            assert_eq!(verify(id, known, statement), Err(RotationError::Form));
        }
    }
}
