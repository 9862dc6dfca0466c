//! Which keys are accepted in a handshake. That the peer holds the key is checked by its signature over the handshake.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};

use crate::identity::{Fingerprint, PublicKey};

/// Only TLS 1.3 is configured, so this is never sent.
const NO_TLS12: &str = "TLS 1.2 is not offered";

/// The key in a certificate.
///
/// # Errors
/// If it is not a certificate, or its key is not an Ed25519 key.
pub(super) fn key_in(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let certificate = ParsedCertificate::try_from(certificate)?;
    PublicKey::from_spki(&certificate.subject_public_key_info()).ok_or_else(|| refusal(Refused::NotEd25519))
}

/// Why a certificate was refused.
#[derive(Clone, Copy, thiserror::Error)]
enum Refused {
    #[error("the peer's key is not an Ed25519 key")]
    NotEd25519,
    #[error("the peer has another key than expected; its fingerprint is {0}")]
    Unexpected(Fingerprint),
}

impl fmt::Debug for Refused {
    /// In words: the library shows errors of others by `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn refusal(why: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Accepts servers with one of the expected keys.
#[derive(Debug)]
pub(super) struct Expected {
    /// `None`: any key.
    pub(super) fingerprints: Option<Arc<RwLock<Vec<Fingerprint>>>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let fingerprint = key_in(certificate)?.fingerprint();
        let is_expected = |expected: &Arc<RwLock<Vec<Fingerprint>>>| {
            expected.read().unwrap_or_else(PoisonError::into_inner).contains(&fingerprint)
        };
        if self.fingerprints.as_ref().is_none_or(is_expected) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refusal(Refused::Unexpected(fingerprint)))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Accepts clients with any key. A client without a key is refused, or accepted if no key is needed.
#[derive(Debug)]
pub(super) struct Any {
    pub(super) is_key_needed: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Any {
    fn client_auth_mandatory(&self) -> bool {
        self.is_key_needed
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key_in(certificate).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
