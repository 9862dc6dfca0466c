//! The hub daemon of Meowlink: Owner, dog, cat analysis and the HTTP gateway, in one process or in several.

pub mod address;
pub mod analysis;
pub mod cli;
pub mod clips;
pub mod config;
pub mod discover;
pub mod dog;
pub mod error;
pub mod files;
mod flac;
pub mod gateway;
pub mod grpc;
pub mod health;
pub mod links;
pub mod listen;
pub mod metrics;
pub mod node_client;
pub mod node_health;
pub mod node_watch;
pub mod owner;
pub mod peer;
pub mod places;
pub mod rehear;
pub mod role;
pub mod run;
pub mod store;
pub mod table;
pub mod time;

/// Longest name of an animal that is taken, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 1024;
