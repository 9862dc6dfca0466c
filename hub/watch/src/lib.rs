//! Watches over the hub and its nodes: readiness, the condition of each node, troubles that owners are notified of, and
//! metrics.

pub mod admission;
pub mod condition;
pub mod metrics;
mod names;
pub mod readiness;
pub mod rounds;
pub mod secret;
pub mod troubles;
