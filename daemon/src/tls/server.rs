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

use super::certificate::{NoClock, TlsError, provider};
use super::keyring::Rights;
use super::peer_certificate::{Any, key_in};
use super::shown::Shown;
use crate::identity::OwnKey;
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

/// Accepts TLS, and plain connections as far as the policy allows them. Clones share the configuration.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    policy: Policy,
    /// `None`: any key may call everything.
    rights: Option<Rights>,
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
        let provider = provider();
        let any = Any { algorithms: provider.signature_verification_algorithms };
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(any))
            .with_cert_resolver(Arc::new(Shown::new(key.into())?));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), policy, rights: None })
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
        let certificate = certificate.ok_or_else(|| io::Error::other("the client has shown no certificate"))?;
        let key = key_in(certificate).map_err(io::Error::other)?;
        if self.rights.as_ref().is_some_and(|rights| rights.keyring.has_changed(key.fingerprint())) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client has announced another key"));
        }
        Ok((Either::Right(stream), Some(PeerKey(key))))
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
