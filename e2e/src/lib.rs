//! Starts the real binaries of Meowlink on free ports and talks to them as their users do.
//!
//! The tests lie in `tests/`, one file a subject. What a daemon logged is shown when its test fails.

pub mod binaries;
pub mod daemon;
pub mod fakes;
pub mod http;
pub mod hub;
pub mod node;
pub mod ports;
pub mod wait;
