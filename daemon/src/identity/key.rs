//! A key pair (Ed25519, RFC 8032).

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::node_id::NodeId;

/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
pub(super) const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A key pair. Its private half leaves it only as the document that [`Key::generate`] returns.
pub struct Key {
    pair: Ed25519KeyPair,
    spki: Vec<u8>,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a private key.
    #[error("it is not an Ed25519 key in PKCS #8 form")]
    NotAKey,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

impl Key {
    /// A new key pair, and the document (PKCS #8 v2, RFC 8410) that [`Key::read`] reads.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?.as_ref().to_vec();
        Ok((Self::read(&document)?, document))
    }

    /// The key pair of a document.
    ///
    /// # Errors
    /// If it is not one.
    pub fn read(document: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| KeyError::NotAKey)?;
        let spki = [&SPKI_PREFIX[..], pair.public_key().as_ref()].concat();
        Ok(Self { pair, spki })
    }

    /// The public half, as a SubjectPublicKeyInfo (DER, 44 bytes).
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The id that this key gives.
    pub fn id(&self) -> NodeId {
        NodeId::of_spki(&self.spki)
    }

    /// The signature of a message, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

/// Whether `signature` is that of `message` by the key with this SubjectPublicKeyInfo. Other kinds of keys sign
/// nothing.
pub(super) fn is_signed_by(spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    spki.strip_prefix(&SPKI_PREFIX)
        .is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_read_back_and_signs() {
        let (key, document) = Key::generate().unwrap();
        let again = Key::read(&document).unwrap();
        assert_eq!((again.id(), again.spki()), (key.id(), key.spki()));
        let signature = again.sign(b"meow");
        assert!(is_signed_by(key.spki(), b"meow", &signature));
        assert!(!is_signed_by(key.spki(), b"woof", &signature));
        assert!(!is_signed_by(Key::generate().unwrap().0.spki(), b"meow", &signature));
        for spki in [&key.spki()[1..], &key.spki()[..43], b""] {
            assert!(!is_signed_by(spki, b"meow", &signature), "{spki:?}");
        }
    }

    #[test]
    fn public_half_is_the_one_of_the_standard() {
        // RFC 8410, section 10.3 (the document) and 10.1 (its public key).
        let document = [
            &[0x30, 0x72, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20][..],
            &hex("d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842"),
            &hex("a01f301d060a2a864886f70d01090914310f0c0d437572646c6520436861697273"),
            &hex("812100"),
            &hex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"),
        ]
        .concat();
        let expected = hex("302a300506032b657003210019bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
        assert_eq!(Key::read(&document).unwrap().spki(), expected);
    }

    #[test]
    fn secret_half_is_not_shown() {
        let (key, document) = Key::generate().unwrap();
        let seed: String = document[16..48].iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = format!("{key:?}");
        assert!(shown.contains(&key.id().to_string()) && !shown.contains(&seed), "{shown}");
    }

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }
}
