//! TLS between programs that know each other's keys: version 1.3, both sides show a certificate.
//!
//! Nobody signs certificates but their holders. A certificate only carries an Ed25519 key ([`crate::identity`]). Names
//! and dates in it mean nothing, so neither a name service nor a clock is needed. The handshake proves that the peer
//! holds the key. A client accepts the keys that it expects and no others. A server accepts any key and passes it on as
//! [`PeerKey`](crate::opening::PeerKey); whoever answers a request decides what that key may do.
//!
//! Sessions are not resumed: each connection proves its key again.

mod certificate;
mod ciphers;
mod client;
mod keyring;
mod peer_certificate;
mod server;
mod shown;

pub use certificate::{CERTIFICATE_NAME, TlsError, certificate_pem};
pub use ciphers::{choose_cipher, provider};
pub use client::{TlsClient, TlsStream, server_key};
pub use keyring::{Keyring, Rights};
pub use server::{HANDSHAKE_TIMEOUT, Policy, Scrapers, TlsOrPlain, TlsServer};

#[cfg(test)]
mod tests;
