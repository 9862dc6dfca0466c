//! What a program shows in handshakes: its present key.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{TlsError, credentials};
use crate::identity::{Key, OwnKey};

/// Shows the present key of a program. Connections that are open go on after a change of the key.
#[derive(Debug)]
pub(super) struct Shown {
    own: OwnKey,
    /// The key that was shown last, and its certificate.
    last: Mutex<(Arc<Key>, Arc<CertifiedKey>)>,
}

impl Shown {
    pub(super) fn new(own: OwnKey) -> Result<Self, TlsError> {
        let key = own.key();
        let certified = Arc::new(credentials(Arc::clone(&key))?);
        Ok(Self { own, last: Mutex::new((key, certified)) })
    }

    /// `None`: the certificate cannot be made. The handshake then fails.
    fn present(&self) -> Option<Arc<CertifiedKey>> {
        let key = self.own.key();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&key, &last.0) {
            *last = (Arc::clone(&key), Arc::new(credentials(key).ok()?));
        }
        Some(Arc::clone(&last.1))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.present()
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.present()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
