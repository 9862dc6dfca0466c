//! Helpers for tests that start the real binaries of Meowlink on free ports and talk to them as users do.
//!
//! The tests are in `tests/`, one file for each subject. If a test fails, it shows the logs of its daemons.

pub mod attack;
pub mod binaries;
pub mod daemon;
pub mod fakes;
pub mod http;
pub mod hub;
pub mod namespaces;
pub mod node;
pub mod ports;
pub mod wait;
