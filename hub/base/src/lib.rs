//! The ground floor of the hub: what all its other crates share, and what knows none of them.

pub mod error;
pub mod links;
pub mod peer;
pub mod places;
pub mod role;
pub mod table;
pub mod time;

/// Longest name of an animal that is accepted, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 1024;
