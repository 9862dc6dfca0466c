//! The certificate of a key, and how the key signs a handshake.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::identity::Key;

/// Years of the dates in a certificate, first and last. Meowlink ignores them; other programs may not.
const YEARS: (i32, i32) = (1970, 9999);

/// The host name in every certificate. Meowlink ignores it. Other programs, which want a name, expect this one.
pub const CERTIFICATE_NAME: &str = "meowlink";

/// Length of a line in a PEM file (RFC 7468).
const PEM_LINE: usize = 64;

/// Bytes of the SubjectPublicKeyInfo before the key itself.
const PREFIX_BYTES: usize = 12;

/// Bytes of a serial number. It is made from the key.
const SERIAL_BYTES: usize = 16;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The library refuses the settings.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// What a program shows in a handshake: the certificate of its key, and the key to sign with.
pub(super) fn credentials(key: Arc<Key>) -> Result<CertifiedKey, TlsError> {
    let certificate = certificate(&key, YEARS)?;
    Ok(CertifiedKey::new(vec![certificate], Arc::new(HandshakeKey(key))))
}

/// The certificate of a key as a PEM file, with which other programs check who shows it. It stays the same as long as
/// the key does.
///
/// # Errors
/// If the certificate cannot be made.
pub fn certificate_pem(key: &Key) -> Result<String, TlsError> {
    let text = STANDARD.encode(certificate(key, YEARS)?);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    Ok(pem)
}

/// A certificate over `key`, by itself, from the first day of the first year to the last day of the last one.
pub(super) fn certificate(key: &Key, years: (i32, i32)) -> Result<CertificateDer<'static>, TlsError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, key.id().short());
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = vec![SanType::DnsName(CERTIFICATE_NAME.try_into()?)];
    params.serial_number = Some(SerialNumber::from_slice(&key.spki()[PREFIX_BYTES..][..SERIAL_BYTES]));
    (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 12, 31));
    Ok(params.self_signed(&CertificateKey(key))?.der().clone())
}

/// The clock of a handshake. Nothing in it depends on the time, and a Raspberry Pi starts in 1970.
#[derive(Debug)]
pub(super) struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

/// A key that signs its certificate.
struct CertificateKey<'a>(&'a Key);

impl PublicKeyData for CertificateKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.spki()[PREFIX_BYTES..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl rcgen::SigningKey for CertificateKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message))
    }
}

/// A key that signs handshakes.
#[derive(Debug, Clone)]
pub(super) struct HandshakeKey(pub(super) Arc<Key>);

impl SigningKey for HandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.spki()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for HandshakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
