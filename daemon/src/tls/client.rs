//! The client's side.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::certificate::{NoClock, TlsError};
use super::ciphers::provider;
use super::peer_certificate::{Expected, key_in};
use super::server::HANDSHAKE_TIMEOUT;
use super::shown::Shown;
use crate::identity::{Fingerprint, OwnKey, PublicKey};

/// A connection of a client with TLS.
pub type TlsStream<S> = tokio_rustls::client::TlsStream<S>;

/// The key that the server has proved to hold.
///
/// # Errors
/// If the handshake is not complete.
pub fn server_key<S>(stream: &TlsStream<S>) -> io::Result<PublicKey> {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| io::Error::other("the server has shown no certificate"))?;
    key_in(certificate).map_err(io::Error::other)
}

/// Makes connections to servers with expected keys. Clones share the configuration.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    expected: Option<Arc<RwLock<Vec<Fingerprint>>>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Shows `key` to servers, and accepts those that have a key with one of the `expected` fingerprints.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(key: impl Into<OwnKey>, expected: Vec<Fingerprint>) -> Result<Self, TlsError> {
        Self::with(key.into(), Some(expected))
    }

    /// Shows `key` to servers, and accepts any key. For pairing alone: [`server_key`] then says which key it is, and
    /// nothing may be believed until the pairing has proved it.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn to_anybody(key: impl Into<OwnKey>) -> Result<Self, TlsError> {
        Self::with(key.into(), None)
    }

    /// Accepts servers with one of these keys from now on, in clones too. Connections that are open go on.
    pub fn expect(&self, keys: Vec<Fingerprint>) {
        if let Some(expected) = &self.expected {
            *expected.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
    }

    /// The keys of the servers that it accepts. Empty for [`TlsClient::to_anybody`].
    pub fn expected(&self) -> Vec<Fingerprint> {
        let expected = self.expected.as_ref();
        expected.map_or_else(Vec::new, |keys| keys.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn with(key: OwnKey, expected: Option<Vec<Fingerprint>>) -> Result<Self, TlsError> {
        let provider = provider();
        let fingerprints = expected.map(|keys| Arc::new(RwLock::new(keys)));
        let expected =
            Expected { fingerprints: fingerprints.clone(), algorithms: provider.signature_verification_algorithms };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(expected))
            .with_client_cert_resolver(Arc::new(Shown::new(key)?));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), expected: fingerprints })
    }

    /// Makes the handshake over `stream`. A server that refuses this client's key says so only afterwards: the first
    /// read then fails.
    ///
    /// # Errors
    /// If the server does not speak TLS 1.3, has another key than expected, or takes longer than
    /// [`HANDSHAKE_TIMEOUT`].
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        // A name is needed and means nothing: it is not sent, and the server is known by its key.
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let handshake = self.connector.connect(name, stream);
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|late| Err(late.into()))
    }
}
