//! The client's side.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::certificate::{NoClock, TlsError, credentials, provider};
use super::peer_certificate::{Expected, key_in};
use super::server::HANDSHAKE_TIMEOUT;
use crate::identity::{Fingerprint, Key, PublicKey};

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
    pub fn new(key: Arc<Key>, expected: Vec<Fingerprint>) -> Result<Self, TlsError> {
        Self::with(key, Some(expected))
    }

    /// Shows `key` to servers, and accepts any key. For pairing alone: [`server_key`] then says which key it is, and
    /// nothing may be believed until the pairing has proved it.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn to_anybody(key: Arc<Key>) -> Result<Self, TlsError> {
        Self::with(key, None)
    }

    fn with(key: Arc<Key>, expected: Option<Vec<Fingerprint>>) -> Result<Self, TlsError> {
        let provider = provider();
        let expected = Expected { fingerprints: expected, algorithms: provider.signature_verification_algorithms };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(expected))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials(key)?)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
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
