//! The public half of a key, and the fingerprint by which others remember it.

use std::fmt;
use std::str::FromStr;

use super::key::{Key, SPKI_PREFIX, is_signed_by};
use super::node_id::{NodeId, NotANodeId};

/// Bytes of the SubjectPublicKeyInfo of an Ed25519 key.
pub const SPKI_BYTES: usize = 44;

/// The public half of an Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; SPKI_BYTES]);

impl PublicKey {
    /// The key with this SubjectPublicKeyInfo (DER). `None`: it is not an Ed25519 key.
    pub fn from_spki(spki: &[u8]) -> Option<Self> {
        <[u8; SPKI_BYTES]>::try_from(spki).ok().filter(|spki| spki.starts_with(&SPKI_PREFIX)).map(Self)
    }

    /// Its SubjectPublicKeyInfo (DER).
    pub fn spki(&self) -> &[u8; SPKI_BYTES] {
        &self.0
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(NodeId::of_spki(&self.0))
    }

    /// Whether `signature` is the signature of `message` by this key.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        is_signed_by(&self.0, message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.fingerprint()).finish()
    }
}

impl Key {
    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut spki = [0; SPKI_BYTES];
        spki.copy_from_slice(self.spki());
        PublicKey(spki)
    }
}

/// The SHA-256 of the SubjectPublicKeyInfo of a key, as 64 hexadecimal digits. The fingerprint of a node's first key is
/// the id of the node. A node that changes its key has another fingerprint and the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(NodeId);

impl From<NodeId> for Fingerprint {
    /// The fingerprint of the node's first key.
    fn from(id: NodeId) -> Self {
        Self(id)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Fingerprint {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_of_the_first_key_is_the_id() {
        let (key, _) = Key::generate().unwrap();
        let public = key.public();
        assert_eq!(public.fingerprint(), Fingerprint::from(key.id()));
        assert_eq!(public.fingerprint().to_string(), key.id().to_string());
        assert_eq!(public.fingerprint().to_string().parse(), Ok(public.fingerprint()));
        assert_eq!(PublicKey::from_spki(key.spki()), Some(public));
        assert!(public.has_signed(b"meow", &key.sign(b"meow")) && !public.has_signed(b"woof", &key.sign(b"meow")));
    }

    #[test]
    fn other_keys_are_not_read() {
        let (key, _) = Key::generate().unwrap();
        let mut rsa = key.spki().to_vec();
        rsa[8] ^= 1;
        for spki in [&key.spki()[1..], &key.spki()[..43], &[key.spki(), b"\0"].concat(), &rsa, b""] {
            assert_eq!(PublicKey::from_spki(spki), None, "{spki:?}");
        }
    }
}
