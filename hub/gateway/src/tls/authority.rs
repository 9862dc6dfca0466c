//! The CA of the hub: a key, and a certificate that people install on their phones and computers. It can sign names of
//! the home network, configured names and private addresses, and no others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daemon::private;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, NameConstraints, SerialNumber, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::ecdsa::EcdsaKey;
use super::error::CertificateError;
use super::names::{Names, V4_NETWORKS, V6_NETWORKS};

/// The folder of the CA and the certificate, in the data folder.
pub const FOLDER: &str = "tls";

/// The file of the CA, in [`FOLDER`]. It holds the private key.
pub const AUTHORITY_FILE: &str = "authority.json";

/// Years of the CA's dates, first and last. The certificates that it signs are short-lived, and the CA is not: whoever
/// uses the hub would have to install it again.
const YEARS: (i32, i32) = (2020, 2049);

/// Bytes of a serial number.
const SERIAL_BYTES: usize = 16;

/// The CA as it is stored. The bytes are in base64.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    certificate: String,
    subject: String,
    permitted: BTreeSet<String>,
}

/// The CA of a hub.
#[derive(Debug)]
pub struct Authority {
    key: EcdsaKey,
    certificate: CertificateDer<'static>,
    subject: String,
    permitted: BTreeSet<String>,
}

impl Authority {
    /// Reads the CA below the data folder. `None`: there is none yet.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, CertificateError> {
        let path = file_below(data_dir);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CertificateError::file(&path)(error)),
        };
        let damaged = || {
            let why = "is damaged; restore it from a backup, or delete it: the hub makes another CA at its next start, \
                       which has to be installed again";
            CertificateError::content(&path, why)
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|_| damaged())?;
        let key = BASE64.decode(stored.key).map_err(|_| damaged())?;
        let certificate = BASE64.decode(stored.certificate).map_err(|_| damaged())?;
        Ok(Some(Self {
            key: EcdsaKey::read(&key).map_err(|_| damaged())?,
            certificate: certificate.into(),
            subject: stored.subject,
            permitted: stored.permitted,
        }))
    }

    /// Reads the CA below the data folder, or makes it. If the hub has configured names that the CA may not sign yet,
    /// the CA gets another certificate over its key. The result says so.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub(super) fn open(data_dir: &Path, names: &Names) -> Result<(Self, bool), CertificateError> {
        let Some(mut authority) = Self::read(data_dir)? else {
            let permitted = names.permitted.union(&names.home).cloned().collect();
            let key = EcdsaKey::generate()?;
            let short = hexadecimal(&key.id()[..4], "");
            let authority = Self::new(key, format!("Meowlink hub {short}"), permitted)?;
            authority.store(data_dir)?;
            return Ok((authority, false));
        };
        if names.permitted.is_subset(&authority.permitted) {
            return Ok((authority, false));
        }
        let permitted = names.permitted.union(&authority.permitted).cloned().collect();
        authority = Self::new(authority.key, authority.subject, permitted)?;
        authority.store(data_dir)?;
        Ok((authority, true))
    }

    fn new(key: EcdsaKey, subject: String, permitted: BTreeSet<String>) -> Result<Self, CertificateError> {
        let mut params = params(&key, &subject);
        params.serial_number = Some(serial_number()?);
        (params.not_before, params.not_after) = (date_time_ymd(YEARS.0, 1, 1), date_time_ymd(YEARS.1, 12, 31));
        params.name_constraints =
            Some(NameConstraints { permitted_subtrees: subtrees(&permitted), excluded_subtrees: Vec::new() });
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key, certificate, subject, permitted })
    }

    fn store(&self, data_dir: &Path) -> Result<(), CertificateError> {
        let path = file_below(data_dir);
        let stored = Stored {
            key: BASE64.encode(self.key.pkcs8()),
            certificate: BASE64.encode(&self.certificate),
            subject: self.subject.clone(),
            permitted: self.permitted.clone(),
        };
        let text = serde_json::to_vec_pretty(&stored).map_err(|error| CertificateError::file(&path)(error.into()))?;
        let written =
            private::create_folder(&data_dir.join(FOLDER)).and_then(|()| private::replace(&path, &text, true));
        written.map_err(CertificateError::file(&path))
    }

    /// Signs a certificate. `params` has everything that is in it but the serial number and who signs.
    pub(super) fn sign(
        &self,
        mut leaf: CertificateParams,
        key: &EcdsaKey,
    ) -> Result<CertificateDer<'static>, CertificateError> {
        leaf.serial_number = Some(serial_number()?);
        leaf.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(params(&self.key, &self.subject), &self.key);
        Ok(leaf.signed_by(key, &issuer)?.der().clone())
    }

    /// The certificate that people install, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its SHA-256 fingerprint as phones and browsers show it: `AB:CD:...`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Its name, as phones and browsers show it.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The names that it can sign, each with the names below it. Beside them it can sign private addresses.
    pub fn permitted(&self) -> impl Iterator<Item = &str> {
        self.permitted.iter().map(String::as_str)
    }

    pub(super) fn permitted_names(&self) -> &BTreeSet<String> {
        &self.permitted
    }

    /// What tells this CA's key from others.
    pub(super) fn key_id(&self) -> String {
        hexadecimal(&self.key.id(), "")
    }
}

/// The SHA-256 fingerprint of a certificate: `AB:CD:...`.
pub(super) fn fingerprint(certificate: &[u8]) -> String {
    hexadecimal(digest(&SHA256, certificate).as_ref(), ":")
}

fn hexadecimal(bytes: &[u8], between: &str) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(between)
}

fn file_below(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER).join(AUTHORITY_FILE)
}

/// What the certificates that the CA signs repeat of it.
fn params(key: &EcdsaKey, subject: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.id());
    params
}

fn subtrees(permitted: &BTreeSet<String>) -> Vec<GeneralSubtree> {
    let names = permitted.iter().map(|name| GeneralSubtree::DnsName(name.clone()));
    let v4 = V4_NETWORKS.map(|(network, bits)| CidrSubnet::from_v4_prefix(network.octets(), bits));
    let v6 = V6_NETWORKS.map(|(network, bits)| CidrSubnet::from_v6_prefix(network.octets(), bits));
    names.chain(v4.into_iter().chain(v6).map(GeneralSubtree::IpAddress)).collect()
}

fn serial_number() -> Result<SerialNumber, CertificateError> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CertificateError::Key)?;
    // Serial numbers are positive.
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}
