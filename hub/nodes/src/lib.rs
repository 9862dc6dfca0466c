//! The cat-nodes of the hub: their connections, what they say about themselves, and how they are discovered.

pub mod address;
pub mod discover;
mod lobby;
mod networks;
mod node;
pub mod pairing;
mod registry;
mod setting;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use lobby::{MAX_PER_ADDRESS, MAX_WAITING, WaitingNode};
pub use node::{Description, Node, state_word};
pub use registry::{Full, MAX_NODES, Newcomers, Nodes};
pub use setting::Discover;
