//! TLS for the servers that the hub connects to, with ring and the root certificates of this machine.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

/// Reads the machine's root certificates (`/etc/ssl/certs`, or `$SSL_CERT_FILE`). Without any, no connection by TLS
/// succeeds, and that is logged.
pub(super) fn client_config() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let errors = found.errors;
        warn!(?errors, "no root certificates found, so HTTPS notifications cannot be sent; install ca-certificates");
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
pub(crate) mod testing;
