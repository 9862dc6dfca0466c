//! Random numbers that prove who somebody is: cookies of sessions, tokens, the secret of the set-up link.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daemon::bearer::bearer;
use ring::digest::{SHA256, digest};

/// How the text of a token begins. Only texts that begin so are checked and taken out of metadata; others belong to
/// somebody else.
const TOKEN_PREFIX: &str = "meowlink_";

/// Bytes of a secret: 256 random bits.
const BYTES: usize = 32;

/// A random secret. It is shown once, and kept as its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Draws a secret.
    pub fn random() -> Self {
        Self(random())
    }

    /// Draws the secret of a token, which begins with a word by which it is recognised.
    pub(crate) fn token() -> Self {
        Self(format!("{TOKEN_PREFIX}{}", random()))
    }

    /// The text for the one who is to know it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub(crate) fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret")
    }
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())
}

/// SHA-256. A secret has 256 random bits, so nothing slower is needed.
pub(crate) fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

/// Whether the value of `Authorization` is a token of a hub: `Bearer meowlink_...`. Returns the token.
pub fn is_token(authorization: &str) -> Option<&str> {
    bearer(authorization).filter(|token| token.starts_with(TOKEN_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_differ_and_are_not_printed() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one, other);
        assert_eq!(one.expose().len(), 43, "256 bits in base64");
        assert!(!format!("{one:?}").contains(one.expose()));
        assert!(is_token(&format!("bearer  {}", Secret::token().expose())).is_some());
        for other in ["", "Bearer", "Bearer abc", "Basic meowlink_abc", "meowlink_abc"] {
            assert_eq!(is_token(other), None, "{other}");
        }
    }
}
