//! Who it is.

use std::fmt;

use crate::role::UserRole;

/// A user or a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user who has logged in, with the number of the session.
    User {
        /// The name.
        name: String,
        /// Number of the session.
        session: i64,
    },
    /// A program, by the name of its token.
    Token(String),
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { name, .. } => out.write_str(name),
            Self::Token(name) => write!(out, "token {name}"),
        }
    }
}

/// Who it is, and what they may do at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user or program.
    pub who: Who,
    /// The role.
    pub role: UserRole,
}
