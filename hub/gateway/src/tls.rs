//! TLS of the gateway: its certificate, and how a connection begins. TLS and plain HTTP come to one socket.
//!
//! The certificate is a leaf of a CA of the hub's own ([`authority`]), or comes from files ([`files`]). Browsers and
//! phones need keys of the kind ECDSA P-256, so neither is made from the hub's id. TLS 1.3 and 1.2 are offered: phones
//! since Android 5 and iOS 9 speak 1.2 with such a key.

mod authority;
mod certificates;
mod clock;
mod ecdsa;
mod error;
mod files;
mod gate;
mod leaf;
mod names;

pub use authority::{AUTHORITY_FILE, Authority, FOLDER};
pub use certificates::{CertificateInUse, Certificates, RELOAD_PERIOD};
pub use error::CertificateError;
pub use names::Names;

pub(super) use gate::{Gate, server_config};

/// Where the gateway serves the certificate of the CA.
pub(super) const AUTHORITY_PATH: &str = "/ca.crt";

#[cfg(test)]
mod tests;
