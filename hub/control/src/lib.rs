//! Commands to the running hub, over a Unix socket. Whoever may open the socket, by the rights of its file, may give
//! commands.
//!
//! A client connects, sends one line of JSON and reads one line of JSON: [`protocol`].

pub mod client;
mod deletion;
pub mod people;
pub mod place;
pub mod protocol;
mod replacement;
pub mod server;
