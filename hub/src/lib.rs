//! The hub daemon of Meowlink: Owner, dog, cat analysis and the HTTP gateway, in one process or in several.

pub mod backup;
pub mod cert;
pub mod cli;
pub mod config;
mod day;
pub mod delete;
pub mod dog;
pub mod files;
pub mod homeassistant;
pub mod nodes;
pub mod people;
pub mod run;
