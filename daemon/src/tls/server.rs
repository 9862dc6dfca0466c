//! The server's side. TLS and plain connections come to one socket; the first byte tells them apart.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::certificate::{NoClock, TlsError};
use super::ciphers::{choose_cipher, provider};
use super::keyring::Rights;
use super::peer_certificate::{Any, key_in};
use super::shown::Shown;
use crate::identity::OwnKey;
use crate::metrics::PATH as METRICS;
use crate::opening::{Opening, PeerKey};

/// How long a handshake may take, first byte included.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection: the content type "handshake" (RFC 8446, section 5.1). No request in plain HTTP
/// begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Who may connect without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nobody.
    TlsOnly,
    /// Programs of this machine.
    PlainOnLoopback,
    /// Everybody. Their traffic is unencrypted and they are not authenticated.
    PlainEverywhere,
}

impl Policy {
    fn allows_plain(self, peer: SocketAddr) -> bool {
        match self {
            Self::TlsOnly => false,
            Self::PlainOnLoopback => peer.ip().to_canonical().is_loopback(),
            Self::PlainEverywhere => true,
        }
    }
}

/// The programs that may read `/metrics` without a key, by their tokens.
pub trait Scrapers: Send + Sync + 'static {
    /// Whether a program may read `/metrics` with this token. Counts as a use of the token.
    fn admit(&self, token: &str) -> bool;
}

/// Accepts TLS, and plain connections as far as the policy allows them. Clones share the configuration.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    policy: Policy,
    /// `None`: any key may call everything.
    rights: Option<Rights>,
    /// `None`: every client with TLS needs a key.
    scrapers: Option<Arc<dyn Scrapers>>,
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Shows `key` to clients.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(key: impl Into<OwnKey>, policy: Policy) -> Result<Self, TlsError> {
        Self::with(key.into(), policy, None)
    }

    /// As [`Self::new`], and scrapers may connect without a key. They read `/metrics` with a token, and nothing else.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn with_scrapers(
        key: impl Into<OwnKey>,
        policy: Policy,
        scrapers: Arc<dyn Scrapers>,
    ) -> Result<Self, TlsError> {
        Self::with(key.into(), policy, Some(scrapers))
    }

    fn with(key: OwnKey, policy: Policy, scrapers: Option<Arc<dyn Scrapers>>) -> Result<Self, TlsError> {
        let provider = provider();
        let any = Any { is_key_needed: scrapers.is_none(), algorithms: provider.signature_verification_algorithms };
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(any))
            .with_cert_resolver(Arc::new(Shown::new(key)?));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        choose_cipher(&mut config);
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), policy, rights: None, scrapers })
    }

    /// Limits what clients may call by their keys.
    #[must_use]
    pub fn with_rights(self, rights: Rights) -> Self {
        Self { rights: Some(rights), ..self }
    }

    async fn begin(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<(TlsOrPlain, Option<PeerKey>)> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if first[0] != TLS_HANDSHAKE {
            return if self.policy.allows_plain(peer) {
                Ok((Either::Left(stream), None))
            } else {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "this port needs TLS"))
            };
        }
        let stream = Box::new(self.acceptor.accept(stream).await?);
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let key = certificate.map(key_in).transpose().map_err(io::Error::other)?;
        match key {
            None if self.scrapers.is_none() => Err(io::Error::other("the client has shown no certificate")),
            Some(key) if self.rights.as_ref().is_some_and(|rights| rights.keyring.has_changed(key.fingerprint())) => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client has announced another key"))
            }
            key => Ok((Either::Right(stream), key.map(PeerKey))),
        }
    }
}

/// A connection with or without TLS.
pub type TlsOrPlain = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Opening for TlsServer {
    type Stream = TlsOrPlain;

    async fn open(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<(TlsOrPlain, Option<PeerKey>)> {
        let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.begin(stream, peer));
        begun.await.unwrap_or_else(|late| Err(late.into()))
    }

    fn is_anonymous(&self, stream: &TlsOrPlain) -> bool {
        matches!(stream, Either::Right(tls) if tls.get_ref().1.peer_certificates().is_none())
    }

    fn admits_token(&self, path: &str, token: Option<&str>) -> Option<bool> {
        let scrapers = self.scrapers.as_ref().filter(|_| path == METRICS)?;
        Some(token.is_some_and(|token| scrapers.admit(token)))
    }

    fn allows(&self, key: Option<&PeerKey>, path: &str) -> bool {
        self.rights.as_ref().zip(key).is_none_or(|(rights, PeerKey(key))| rights.allow(key.fingerprint(), path))
    }

    fn is_stranger(&self, PeerKey(key): PeerKey) -> bool {
        self.rights.as_ref().is_some_and(|rights| !rights.keyring.trusts_open(key.fingerprint()))
    }

    async fn revoked(&self, PeerKey(key): PeerKey) {
        match &self.rights {
            Some(rights) => rights.keyring.revoked(key.fingerprint()).await,
            None => std::future::pending().await,
        }
    }
}

/// With TLS, or without: a program that has no key yet.
impl Opening for Option<TlsServer> {
    type Stream = TlsOrPlain;

    async fn open(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<(TlsOrPlain, Option<PeerKey>)> {
        match self {
            Some(tls) => tls.open(stream, peer).await,
            None => Ok((TlsOrPlain::Left(stream), None)),
        }
    }

    fn is_anonymous(&self, stream: &TlsOrPlain) -> bool {
        self.as_ref().is_some_and(|tls| tls.is_anonymous(stream))
    }

    fn admits_token(&self, path: &str, token: Option<&str>) -> Option<bool> {
        self.as_ref().and_then(|tls| tls.admits_token(path, token))
    }

    fn allows(&self, key: Option<&PeerKey>, path: &str) -> bool {
        self.as_ref().is_none_or(|tls| tls.allows(key, path))
    }

    fn is_stranger(&self, key: PeerKey) -> bool {
        self.as_ref().is_some_and(|tls| tls.is_stranger(key))
    }

    async fn revoked(&self, key: PeerKey) {
        match self {
            Some(tls) => tls.revoked(key).await,
            None => std::future::pending().await,
        }
    }
}
