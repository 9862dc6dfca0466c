//! A certificate and its key in files that another program writes, such as certbot or Tailscale.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::error::CertificateError;

/// Most bytes of a file with certificates or a key.
const MAX_BYTES: u64 = 1 << 20;

/// What tells one content of a file from another: inode, length, and the time of the last change.
type Mark = (u64, u64, i64, i64);

/// The marks of both files. A file that is missing has none.
pub(super) type Marks = [Option<Mark>; 2];

/// The files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// What the files hold.
pub(super) struct Loaded {
    pub(super) credentials: Arc<CertifiedKey>,
    /// Whether the machine's own roots vouch for the certificate, as browsers do.
    pub(super) is_public: bool,
}

impl Files {
    /// Changes when one of the files does.
    pub(super) fn marks(&self) -> Marks {
        [&self.cert, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        })
    }

    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read, is not PEM, or if the key is not that of the certificate.
    pub(super) fn load(&self) -> Result<Loaded, CertificateError> {
        let pem = read(&self.cert)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let no_certificate = || CertificateError::content(&self.cert, "has no certificate in PEM form");
        let chain = chain.map_err(|_| no_certificate())?;
        let leaf = chain.first().ok_or_else(no_certificate)?.clone();
        let no_key = || CertificateError::content(&self.key, "has no private key in PEM form");
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|_| no_key())?;
        let signer = default_provider().key_provider.load_private_key(key).map_err(|error| {
            CertificateError::content(&self.key, format!("has a private key that cannot be used: {error}"))
        })?;
        let is_public = is_public(&leaf, &chain[1..]);
        let credentials = CertifiedKey::new(chain, signer);
        credentials.keys_match().map_err(|_| {
            CertificateError::content(
                &self.key,
                format!("is not the key of the certificate in {}", self.cert.display()),
            )
        })?;
        Ok(Loaded { credentials: Arc::new(credentials), is_public })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    read.map_err(CertificateError::file(path))?;
    Ok(bytes)
}

/// Whether the machine's roots vouch for the certificate now.
fn is_public(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
    let Ok(parsed) = ParsedCertificate::try_from(leaf) else { return false };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let algorithms = default_provider().signature_verification_algorithms;
    let now = UnixTime::since_unix_epoch(now);
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms.all).is_ok()
}
