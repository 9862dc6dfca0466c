//! How a program changes its key: a statement over the new key, signed with the old one.
//!
//! A statement has three parts: the SubjectPublicKeyInfo of the old key (44 bytes), that of the new key (44 bytes), and
//! the signature by the old key (64 bytes, Ed25519). What is signed is [`PREFIX`], the id of the program (32 bytes),
//! and the first two parts. The id does not change, so a statement of one program says nothing about another. That
//! whoever made the statement holds the new key too is proved by the next handshake.

use super::key::Key;
use super::node_id::NodeId;
use super::public_key::{Fingerprint, PublicKey, SPKI_BYTES};

/// What every signed message begins with, so that a signature made for another purpose is no statement.
const PREFIX: &[u8] = b"meowlink key rotation v1\0";

/// Bytes of a statement.
pub const STATEMENT_BYTES: usize = 2 * SPKI_BYTES + 64;

/// Most changes of a program's key. After that it needs a new identity, and must be paired again.
pub const MAX_CHANGES: usize = 16;

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
    /// There are more statements than [`MAX_CHANGES`].
    #[error("the key has changed more than {MAX_CHANGES} times")]
    TooMany,
    /// The statements lead to another key than the one that the program has proved to hold.
    #[error("the statements do not lead to the key that the program has")]
    OtherEnd,
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

/// All keys that a program has had, and how each followed the one before. Whoever has read it knows that the statements
/// are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHistory {
    id: NodeId,
    present: PublicKey,
    statements: Vec<Vec<u8>>,
}

impl KeyHistory {
    /// The history of a program whose first key is its present one.
    pub fn begin(first: PublicKey) -> Self {
        Self { id: NodeId::of_spki(first.spki()), present: first, statements: Vec::new() }
    }

    /// Reads the statements of a program, from its first key on, that has proved to hold the key `present`.
    ///
    /// # Errors
    /// If there are too many, one is not good, or they lead to another key.
    pub fn read(statements: Vec<Vec<u8>>, present: &PublicKey) -> Result<Self, RotationError> {
        if statements.len() > MAX_CHANGES {
            return Err(RotationError::TooMany);
        }
        let Some(first) = statements.first() else { return Ok(Self::begin(*present)) };
        let first = first.get(..SPKI_BYTES).and_then(PublicKey::from_spki).ok_or(RotationError::Form)?;
        let id = NodeId::of_spki(first.spki());
        let end = statements.iter().try_fold(first, |key, next| verify(id, key.fingerprint(), next))?;
        if end == *present { Ok(Self { id, present: end, statements }) } else { Err(RotationError::OtherEnd) }
    }

    /// The history after the change from the present key, which is `old`, to `new`.
    ///
    /// # Errors
    /// If there are [`MAX_CHANGES`] already.
    pub fn changed(&self, old: &Key, new: &PublicKey) -> Result<Self, RotationError> {
        let mut statements = self.statements.clone();
        statements.push(announce(self.id, old, new));
        Self::read(statements, new)
    }

    /// The id of the program: the fingerprint of its first key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Fingerprint of its present key.
    pub fn present(&self) -> Fingerprint {
        self.present.fingerprint()
    }

    /// Whether it has, or has had, the key with this fingerprint.
    pub fn has_had(&self, key: Fingerprint) -> bool {
        let old = |statement: &Vec<u8>| statement.get(..SPKI_BYTES).and_then(PublicKey::from_spki);
        key == self.present() || self.statements.iter().filter_map(old).any(|old| old.fingerprint() == key)
    }

    /// The statements, from the first key on. Empty: the key has not changed.
    pub fn statements(&self) -> &[Vec<u8>] {
        &self.statements
    }
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

    /// A program that has changed its key this many times: its keys and its history.
    fn program(changes: usize) -> (Vec<Key>, KeyHistory) {
        let mut keys = vec![key()];
        let mut history = KeyHistory::begin(keys[0].public());
        for _ in 0..changes {
            let new = key();
            history = history.changed(keys.last().unwrap(), &new.public()).unwrap();
            keys.push(new);
        }
        (keys, history)
    }

    #[test]
    fn history_leads_from_each_key_to_the_present_one_under_one_id() {
        for changes in [0, 1, 3, MAX_CHANGES] {
            let (keys, history) = program(changes);
            let present = keys.last().unwrap().public();
            let read = KeyHistory::read(history.statements().to_vec(), &present).unwrap();
            assert_eq!(read, history);
            assert_eq!((read.id(), read.present()), (keys[0].id(), present.fingerprint()));
            assert!(keys.iter().all(|key| read.has_had(key.public().fingerprint())));
            assert!(!read.has_had(key().public().fingerprint()));
        }
        let (keys, history) = program(MAX_CHANGES);
        assert_eq!(history.changed(keys.last().unwrap(), &key().public()), Err(RotationError::TooMany));
    }

    #[test]
    fn histories_that_do_not_hold_together_are_not_believed() {
        let (keys, history) = program(3);
        let present = keys[3].public();
        let good = history.statements();
        let read = |statements: &[&Vec<u8>], end: &PublicKey| {
            KeyHistory::read(statements.iter().map(|one| (*one).clone()).collect(), end).map(|history| history.id())
        };
        let [first, second, third] = [&good[0], &good[1], &good[2]];
        assert_eq!(read(&[first, second, third], &present), Ok(keys[0].id()));
        assert_eq!(read(&[first, second], &present), Err(RotationError::OtherEnd), "it is not up to date");
        assert_eq!(read(&[first, third], &present), Err(RotationError::OtherKey), "one is missing");
        assert_eq!(read(&[second, first, third], &present), Err(RotationError::Signature), "in another order");
        // Without the first one it is the history of another id, for which nobody has signed.
        assert_eq!(read(&[second, third], &present), Err(RotationError::Signature));
        assert_eq!(read(&[first, second, third], &key().public()), Err(RotationError::OtherEnd));
        assert_eq!(read(&[&Vec::new()], &present), Err(RotationError::Form));
        assert_eq!(read(&[first; MAX_CHANGES + 1], &present), Err(RotationError::TooMany));
        // A thief of the first key makes a history of his own: it does not have the later keys in it.
        let thief = key();
        let forged = KeyHistory::begin(keys[0].public()).changed(&keys[0], &thief.public()).unwrap();
        assert!(forged.id() == keys[0].id() && !forged.has_had(keys[1].public().fingerprint()));
        // The history of another program, with the statement of this one put in.
        let (others, other) = program(1);
        let mixed: Vec<&Vec<u8>> = other.statements().iter().chain([first]).collect();
        assert_eq!(read(&mixed, &keys[1].public()), Err(RotationError::OtherKey));
        assert_eq!(read(&[first], &others[1].public()), Err(RotationError::OtherEnd));
    }
}
