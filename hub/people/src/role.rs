//! What a user or a token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a user or a token may do. Each role may do what the roles before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Sees everything on the page and plays clips.
    Viewer,
    /// Also listens to live audio.
    Listener,
    /// Also labels and deletes, answers notifications, calls animals and starts analyses.
    Owner,
    /// Also changes nodes, users and tokens, starts backups and reads the audit log.
    Admin,
}

impl UserRole {
    /// All roles, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Listener, Self::Owner, Self::Admin];

    /// The word for the role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Listener => "listener",
            Self::Owner => "owner",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for UserRole {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == word);
        found.ok_or_else(|| format!("unknown role {word:?} (expected viewer, listener, owner or admin)"))
    }
}
