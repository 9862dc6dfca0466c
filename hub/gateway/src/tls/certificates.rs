//! The certificate that the gateway shows, and its renewal.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use daemon::shutdown::CancellationToken;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::authority::{Authority, fingerprint};
use super::clock::Clock;
use super::error::CertificateError;
use super::files::{Files, Marks};
use super::leaf::Leaf;
use super::names::Names;

/// How often the files of a certificate are looked at.
pub const RELOAD_PERIOD: Duration = Duration::from_secs(10);

/// The certificate that the gateway shows. It renews the hub's own one before it ends, also while the hub runs, and
/// reads files again when they change.
#[derive(Debug)]
pub struct Certificates {
    shown: RwLock<Arc<CertifiedKey>>,
    /// Whether browsers accept it as it is.
    is_public: AtomicBool,
    source: Source,
}

/// Where the certificate comes from.
#[derive(Debug)]
enum Source {
    Own(Box<Own>),
    Files {
        files: Files,
        /// The marks of the files when they were last read.
        seen: Mutex<Marks>,
    },
}

/// A certificate of the hub's own CA.
#[derive(Debug)]
struct Own {
    data_dir: PathBuf,
    authority: Authority,
    names: Names,
    clock: Clock,
    /// Locked for moments only.
    leaf: Mutex<Leaf>,
    /// Locked while the certificate is being written.
    storing: Mutex<()>,
}

/// What is known of the certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInUse {
    /// SHA-256 fingerprint: `AB:CD:...`.
    pub fingerprint: String,
    /// Its host names and addresses.
    pub names: Vec<String>,
    /// When it ends, in seconds since 1970. `None`: this is not known of a certificate from files.
    pub until_s: Option<u64>,
}

impl CertificateInUse {
    /// The certificate that the hub's own CA has signed. `None`: there is none yet.
    pub fn own(data_dir: &Path) -> Option<Self> {
        let leaf = Leaf::read(data_dir)?;
        let names = leaf.names.iter().cloned().chain(leaf.addresses.iter().map(ToString::to_string)).collect();
        Some(Self { fingerprint: fingerprint(&leaf.certificate().ok()?), names, until_s: Some(leaf.until_s) })
    }

    /// The certificate in a file.
    ///
    /// # Errors
    /// If the files cannot be used.
    pub fn in_files(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let loaded = Files { cert: cert.to_owned(), key: key.to_owned() }.load()?;
        let leaf = loaded.credentials.cert.first().ok_or(CertificateError::Key)?;
        let names = webpki::EndEntityCert::try_from(leaf)
            .map(|parsed| parsed.valid_dns_names().map(str::to_owned).collect())
            .unwrap_or_default();
        Ok(Self { fingerprint: fingerprint(leaf), names, until_s: None })
    }
}

impl Certificates {
    /// The certificate of the hub's own CA. Both are kept below the data folder, and made if they are missing. Blocks.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn own(data_dir: &Path, names: Names) -> Result<Self, CertificateError> {
        Self::own_by(data_dir, names, Clock::of_this_machine())
    }

    pub(super) fn own_by(data_dir: &Path, names: Names, clock: Clock) -> Result<Self, CertificateError> {
        let (authority, extended) = Authority::open(data_dir, &names)?;
        if extended {
            warn!(
                fingerprint = authority.fingerprint(),
                "the CA of this hub may sign more names now; install /ca.crt again on phones and computers"
            );
        }
        let stored = Leaf::read(data_dir);
        let addresses = stored.as_ref().map(|leaf| leaf.addresses.clone()).unwrap_or_default();
        let now_s = clock.now_s();
        let usable = stored.filter(|leaf| leaf.fits(&authority, &names) && leaf.is_good_at(now_s));
        let usable = usable.and_then(|leaf| Some((leaf.credentials().ok()?, leaf)));
        let (credentials, leaf) = match usable {
            Some(usable) => usable,
            None => {
                let leaf = Leaf::issue(&authority, &names, addresses, now_s)?;
                leaf.store(data_dir)?;
                (leaf.credentials()?, leaf)
            }
        };
        let own = Own {
            data_dir: data_dir.to_owned(),
            authority,
            names,
            clock,
            leaf: Mutex::new(leaf),
            storing: Mutex::new(()),
        };
        Ok(Self {
            shown: RwLock::new(credentials),
            is_public: AtomicBool::new(false),
            source: Source::Own(Box::new(own)),
        })
    }

    /// The certificate in `cert`, with the chain behind it, and its key, both in PEM. Blocks.
    ///
    /// # Errors
    /// If the files cannot be read or do not belong together.
    pub fn in_files(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { cert: cert.to_owned(), key: key.to_owned() };
        let seen = Mutex::new(files.marks());
        let loaded = files.load()?;
        Ok(Self {
            shown: RwLock::new(loaded.credentials),
            is_public: AtomicBool::new(loaded.is_public),
            source: Source::Files { files, seen },
        })
    }

    /// The hub's own CA. `None`: the certificate comes from files.
    pub fn authority(&self) -> Option<&Authority> {
        match &self.source {
            Source::Own(own) => Some(&own.authority),
            Source::Files { .. } => None,
        }
    }

    /// Whether the machine's roots vouch for the certificate, as browsers do.
    pub(crate) fn is_public(&self) -> bool {
        self.is_public.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn set_public(&self, is_public: bool) {
        self.is_public.store(is_public, Ordering::Relaxed);
    }

    /// Looks at the files of the certificate now and then, until `stop`. Returns at once if there are none.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let Source::Files { .. } = &self.source else { return };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_PERIOD) => {}
            }
            let this = Arc::clone(&self);
            // A reading that crashes keeps the certificate as it is.
            let read = tokio::task::spawn_blocking(move || this.reload());
            tokio::select! {
                () = stop.cancelled() => return,
                _ = read => {}
            }
        }
    }

    /// Reads the files again if they have changed. If they cannot be used, this is logged, and the old certificate
    /// stays.
    pub(super) fn reload(&self) {
        let Source::Files { files, seen } = &self.source else { return };
        let marks = files.marks();
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == marks {
                return;
            }
            *seen = marks;
        }
        match files.load() {
            Ok(loaded) => {
                self.is_public.store(loaded.is_public, Ordering::Relaxed);
                info!(file = %files.cert.display(), "the gateway's certificate has changed");
                self.show(loaded.credentials);
            }
            Err(error) => warn!(%error, "the new certificate cannot be used; the old one stays in use"),
        }
    }

    /// Makes the certificate fit for a client that has dialled `local`: renews it if it ends soon, and adds the address
    /// if it is a private one. If that fails, this is logged, and the old certificate stays.
    pub(super) async fn prepare(self: &Arc<Self>, local: Option<IpAddr>) {
        let Source::Own(own) = &self.source else { return };
        if own.is_good(&own.leaf.lock().unwrap_or_else(PoisonError::into_inner), local) {
            return;
        }
        let this = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || this.renew(local)).await;
    }

    fn renew(&self, local: Option<IpAddr>) {
        let Source::Own(own) = &self.source else { return };
        {
            let mut leaf = own.leaf.lock().unwrap_or_else(PoisonError::into_inner);
            // Another connection may have been faster.
            if own.is_good(&leaf, local) {
                return;
            }
            let made = Leaf::issue(&own.authority, &own.names, leaf.addresses_with(local), own.clock.now_s())
                .and_then(|leaf| Ok((leaf.credentials()?, leaf)));
            match made {
                Ok((credentials, made)) => {
                    info!(names = ?made.names, addresses = ?made.addresses, "the hub has renewed its certificate");
                    *leaf = made;
                    self.show(credentials);
                }
                Err(error) => return warn!(%error, "the certificate cannot be renewed; the old one stays in use"),
            }
        }
        own.store();
    }

    fn show(&self, credentials: Arc<CertifiedKey>) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// The certificate that clients are shown, for handshakes.
    pub(super) fn shown(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Own {
    /// Stores the certificate. No handshake waits for the disk: the one that is stored may be older than the one in use
    /// while this runs, and not afterwards.
    fn store(&self) {
        let Ok(_storing) = self.storing.try_lock() else { return };
        let latest = || self.leaf.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut leaf = latest();
        loop {
            if let Err(error) = leaf.store(&self.data_dir) {
                return warn!(%error, "the renewed certificate is not stored; the next start makes another one");
            }
            let now = latest();
            if now == leaf {
                return;
            }
            leaf = now;
        }
    }

    fn is_good(&self, leaf: &Leaf, local: Option<IpAddr>) -> bool {
        leaf.is_good_at(self.clock.now_s()) && local.is_none_or(|local| leaf.covers(local))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown())
    }
}
