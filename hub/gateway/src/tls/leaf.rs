//! The certificate that the hub's CA signs for the hub: valid for a year, with the names and the addresses by which
//! clients reach the hub.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daemon::private;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::authority::{Authority, FOLDER};
use super::clock::FLOOR_S;
use super::ecdsa::EcdsaKey;
use super::error::CertificateError;
use super::names::{Names, is_permitted, is_private};

/// The file of the certificate and its key, next to that of the CA.
const LEAF_FILE: &str = "certificate.json";

/// How long the certificate is valid. Apple's devices accept no longer ones (398 days).
pub(super) const VALID: Duration = Duration::from_secs(397 * DAY_S);

/// How long before its end it is renewed.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(60 * DAY_S);

/// It counts from a day before, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(DAY_S);

const DAY_S: u64 = 86_400;

/// Most addresses in the certificate, loopback aside. Beyond that, the one that was added first is left out.
pub(super) const MAX_ADDRESSES: usize = 16;

/// The certificate in use, as it is stored. The bytes are in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leaf {
    /// Tells which CA has signed it.
    authority: String,
    key: String,
    certificate: String,
    pub(super) names: BTreeSet<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) from_s: u64,
    pub(super) until_s: u64,
}

impl Leaf {
    /// Reads the stored certificate. `None`: there is none, or it is damaged; then another one is made.
    pub(super) fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data_dir.join(FOLDER).join(LEAF_FILE)).ok()?).ok()
    }

    /// Makes a certificate for the `names`, as far as the CA may sign them.
    pub(super) fn issue(
        authority: &Authority,
        names: &Names,
        addresses: Vec<IpAddr>,
        now_s: u64,
    ) -> Result<Self, CertificateError> {
        Self::with_names(authority, own_names(authority, names), addresses, now_s)
    }

    fn with_names(
        authority: &Authority,
        names: BTreeSet<String>,
        addresses: Vec<IpAddr>,
        now_s: u64,
    ) -> Result<Self, CertificateError> {
        let key = EcdsaKey::generate()?;
        let from_s = now_s.max(FLOOR_S) - BACKDATED.as_secs();
        // Both ends count.
        let until_s = from_s + VALID.as_secs() - 1;
        let certificate = authority.sign(params(&names, &addresses, from_s, until_s)?, &key)?;
        let (authority, key) = (authority.key_id(), BASE64.encode(key.pkcs8()));
        Ok(Self { authority, key, certificate: BASE64.encode(&certificate), names, addresses, from_s, until_s })
    }

    /// Makes a certificate for names that the CA may not sign, too.
    #[cfg(test)]
    pub(super) fn issue_beyond(
        authority: &Authority,
        names: &Names,
        addresses: Vec<IpAddr>,
        now_s: u64,
    ) -> Result<Self, CertificateError> {
        Self::with_names(authority, names.own.clone(), addresses, now_s)
    }

    /// The certificate and its key, as other programs write them.
    #[cfg(test)]
    pub(super) fn pem(&self) -> (String, String) {
        let pem = |kind: &str, body: &str| format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
        (pem("CERTIFICATE", &self.certificate), pem("PRIVATE KEY", &self.key))
    }

    /// Stores it.
    pub(super) fn store(&self, data_dir: &Path) -> Result<(), CertificateError> {
        let path = data_dir.join(FOLDER).join(LEAF_FILE);
        let written = serde_json::to_vec_pretty(self).map_err(Into::into);
        let written = written.and_then(|text| private::replace(&path, &text, false));
        written.map_err(CertificateError::file(&path))
    }

    /// Whether the certificate is signed by this CA and has all names that it may have.
    pub(super) fn fits(&self, authority: &Authority, names: &Names) -> bool {
        self.authority == authority.key_id() && own_names(authority, names).is_subset(&self.names)
    }

    /// Whether it needs no renewal now. A clock that shows a time before [`FLOOR_S`] says nothing.
    pub(super) fn is_good_at(&self, now_s: u64) -> bool {
        // It was made while the clock was ahead.
        let from_the_future = now_s >= FLOOR_S && now_s < self.from_s;
        !from_the_future && now_s + RENEW_BEFORE.as_secs() <= self.until_s
    }

    /// Whether clients that dial the address find it in the certificate, as far as it may be there.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        address.is_loopback() || !is_private(address) || self.addresses.contains(&address)
    }

    /// The addresses, and a further one.
    pub(super) fn addresses_with(&self, further: Option<IpAddr>) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        addresses.extend(further.filter(|address| !self.covers(*address)));
        let too_many = addresses.len().saturating_sub(MAX_ADDRESSES);
        addresses.split_off(too_many)
    }

    /// In DER.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, CertificateError> {
        Ok(BASE64.decode(&self.certificate).map_err(|_| CertificateError::Key)?.into())
    }

    /// For handshakes.
    pub(super) fn credentials(&self) -> Result<Arc<CertifiedKey>, CertificateError> {
        let key = BASE64.decode(&self.key).map_err(|_| CertificateError::Key)?;
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)))?;
        let credentials = CertifiedKey::new(vec![self.certificate()?], key);
        credentials.keys_match()?;
        Ok(Arc::new(credentials))
    }
}

fn own_names(authority: &Authority, names: &Names) -> BTreeSet<String> {
    names.own.iter().filter(|name| is_permitted(name, authority.permitted_names())).cloned().collect()
}

fn params(
    names: &BTreeSet<String>,
    addresses: &[IpAddr],
    from_s: u64,
    until_s: u64,
) -> Result<CertificateParams, CertificateError> {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Meowlink hub");
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut alternatives = Vec::new();
    for name in names {
        alternatives.push(SanType::DnsName(name.as_str().try_into()?));
    }
    alternatives.extend(loopback.iter().chain(addresses).map(|address| SanType::IpAddress(*address)));
    let date = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = alternatives;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (date(from_s), date(until_s));
    Ok(params)
}
