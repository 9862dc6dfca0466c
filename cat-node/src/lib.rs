//! The device daemon of Meowlink: sources of audio, the capture thread, the tape of numbered frames, and the `cat`
//! service that streams them. It is a library so that tests can start the real daemon.

pub mod announce;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod hubs;
pub mod listen;
pub mod metrics;
pub mod node;
mod own_tape;
pub mod owner;
pub mod pairing;
pub mod record;
pub mod run;
pub mod service;
pub mod source;
pub mod status;
pub mod subscribers;
pub mod tape;
pub mod tokens;
pub mod watch;
