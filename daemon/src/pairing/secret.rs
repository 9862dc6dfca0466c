//! The secret in the configs of a node and a hub, which pair by it without a code: for images of machines without a
//! screen.

use std::path::Path;

use tracing::warn;

use crate::config::Secret;
use crate::private;

/// Characters of a secret, at least and at most.
pub const SECRET_CHARACTERS: std::ops::RangeInclusive<usize> = 16..=128;

/// A secret that both sides know. It is never shown, not even by `Debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingSecret(Secret);

impl PairingSecret {
    /// Takes the value of a setting.
    ///
    /// # Errors
    /// If it does not have [`SECRET_CHARACTERS`]. The text says so, without the secret.
    pub fn new(secret: &Secret) -> Result<Self, String> {
        let length = secret.expose().chars().count();
        if SECRET_CHARACTERS.contains(&length) {
            return Ok(Self(secret.clone()));
        }
        let (least, most) = (SECRET_CHARACTERS.start(), SECRET_CHARACTERS.end());
        Err(format!(
            "has {length} characters; a pairing secret has {least} to {most} (`openssl rand -base64 24` makes one)"
        ))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// Warns if every user of this machine can read the file that the secret comes from. `None`: it comes from no file.
pub fn warn_of_readable_secret(config_file: Option<&Path>) {
    if let Some(file) = config_file.filter(|file| private::is_world_readable(file)) {
        let file = file.display();
        warn!(%file, "every user of this machine can read the pairing secret; take the right away: chmod o-r");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_has_a_length_and_is_never_shown() {
        let error = PairingSecret::new(&Secret::new("fifteen letters")).unwrap_err();
        assert!(error.contains("has 15 characters") && !error.contains("fifteen"), "{error}");
        assert!(PairingSecret::new(&Secret::new("x".repeat(129))).is_err());
        let secret = PairingSecret::new(&Secret::new("sixteen letters!")).unwrap();
        assert_eq!(format!("{secret:?}"), "PairingSecret(***)");
    }
}
