//! People and programs that use the hub: users with roles, their sessions, tokens of programs, and the audit log. Who
//! may do what from where is decided by the gateway; this crate says who it is.
//!
//! Everything is in the database, so several processes of a hub and its commands agree at once. Passwords are kept as
//! argon2id ([`password`]), random numbers of sessions and tokens as SHA-256.

mod attempts;
mod audit;
mod identity;
pub mod password;
mod people;
mod role;
mod secret;

pub use attempts::Client;
pub use audit::AuditLog;
pub use identity::{Identity, Who};
pub use people::{By, MAX_NAME_BYTES, NewUser, People, SESSION_DAYS, USERS_LOST};
pub use role::UserRole;
pub use secret::{Secret, is_token};
