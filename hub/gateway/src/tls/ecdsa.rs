//! Private keys of the kind that browsers accept in certificates: ECDSA with the curve P-256.

use std::fmt;

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::error::CertificateError;

/// Bytes of a key's name in certificates.
const KEY_ID_BYTES: usize = 20;

/// A private key.
pub(super) struct EcdsaKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    random: SystemRandom,
}

impl fmt::Debug for EcdsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcdsaKey").finish_non_exhaustive()
    }
}

impl EcdsaKey {
    /// Makes a key.
    pub(super) fn generate() -> Result<Self, CertificateError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        Self::read(document.map_err(|_| CertificateError::Key)?.as_ref())
    }

    /// Reads a key from its PKCS #8 form.
    pub(super) fn read(pkcs8: &[u8]) -> Result<Self, CertificateError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random);
        Ok(Self { pair: pair.map_err(|_| CertificateError::Key)?, pkcs8: pkcs8.to_vec(), random })
    }

    /// The PKCS #8 form.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The key's name in certificates, made from its public half.
    pub(super) fn id(&self) -> Vec<u8> {
        digest(&SHA256, self.pair.public_key().as_ref()).as_ref()[..KEY_ID_BYTES].to_vec()
    }
}

impl PublicKeyData for EcdsaKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for EcdsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed = self.pair.sign(&self.random, message);
        signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}
