//! The cat-nodes of the hub: their connections, what they say about themselves, and how they are discovered.

pub mod address;
pub mod discover;
mod node;
mod registry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use node::{Description, Node, state_word};
pub use registry::{Full, MAX_NODES, Nodes};
