//! What every crate of the hub shares. This crate depends on no other crate of the hub.

pub mod clock;
pub mod error;
pub mod links;
pub mod peer;
pub mod places;
pub mod raven;
pub mod role;
pub mod route;
pub mod table;
pub mod text;
pub mod time;

/// Longest accepted name of an animal, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 1024;
