//! TLS for what the hub calls: ring, and the authorities that this machine trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

/// Reads the machine's authorities (`/etc/ssl/certs`, or `$SSL_CERT_FILE`). A machine that has none can call nobody by TLS,
/// and is told so.
pub(super) fn client_config() -> ClientConfig {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        warn!(errors = ?found.errors, "this machine trusts no authority: nobody can be told by https; install ca-certificates");
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
