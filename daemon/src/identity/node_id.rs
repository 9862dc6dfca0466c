//! The id of a node.

use std::fmt;
use std::str::FromStr;

/// The SHA-256 of the SubjectPublicKeyInfo of a node's first key. It is shown as 64 hexadecimal digits, and to people
/// by the first 16 of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);

/// Number of hexadecimal digits that people see.
const SHORT_DIGITS: usize = 16;

impl NodeId {
    /// The id of the key with this SubjectPublicKeyInfo (DER).
    pub fn of_spki(spki: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        let mut id = [0; 32];
        id.copy_from_slice(digest.as_ref());
        Self(id)
    }

    /// The digest itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 digits, for people. Two nodes of one household differ in them.
    pub fn short(&self) -> String {
        let mut digits = self.to_string();
        digits.truncate(SHORT_DIGITS);
        digits
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the id of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 64 hexadecimal digits")]
pub struct NotANodeId;

impl FromStr for NodeId {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or(NotANodeId)?;
        let mut id = [0; 32];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_the_digest_in_hexadecimal_and_back() {
        let id = NodeId::of_spki(b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(id.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(id.short(), "ba7816bf8f01cfea");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn other_texts_are_no_ids() {
        let id = NodeId::of_spki(b"").to_string();
        for text in ["", "tom", &id[1..], &format!("{id}0"), &format!("{}g", &id[1..]), &format!("+{}", &id[1..])] {
            assert_eq!(text.parse::<NodeId>(), Err(NotANodeId), "{text:?}");
        }
    }
}
