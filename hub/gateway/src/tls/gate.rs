//! How a connection to the gateway begins: the first byte tells TLS from plain HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::opening::{Opening, PeerKey};
use daemon::tls::{HANDSHAKE_TIMEOUT, TlsOrPlain, choose_cipher, provider};
use rustls::ServerConfig;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::certificates::Certificates;
use super::error::CertificateError;

/// The first byte of a TLS connection: the content type "handshake" (RFC 8446, section 5.1). No request in plain HTTP
/// begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// The settings of TLS. The certificate is asked for at each handshake.
///
/// # Errors
/// If the library refuses them.
pub(crate) fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, CertificateError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    choose_cipher(&mut config);
    Ok(Arc::new(config))
}

/// Begins the connections of the gateway. Clones share the certificate.
#[derive(Clone)]
pub(crate) struct Gate {
    /// `None`: all connections are plain, and begin with the first request.
    tls: Option<(TlsAcceptor, Arc<Certificates>)>,
    /// How long to wait for the first byte.
    first_byte: Duration,
}

impl Gate {
    /// Takes plain connections alone.
    pub(crate) fn plain(first_byte: Duration) -> Self {
        Self { tls: None, first_byte }
    }

    /// Takes both.
    pub(crate) fn with_tls(config: Arc<ServerConfig>, certificates: Arc<Certificates>, first_byte: Duration) -> Self {
        Self { tls: Some((TlsAcceptor::from(config), certificates)), first_byte }
    }
}

impl Opening for Gate {
    type Stream = TlsOrPlain;

    async fn open(&self, stream: TcpStream, _: SocketAddr) -> io::Result<(TlsOrPlain, Option<PeerKey>)> {
        let Some((acceptor, certificates)) = &self.tls else { return Ok((Either::Left(stream), None)) };
        let mut first = [0];
        let read = tokio::time::timeout(self.first_byte, stream.peek(&mut first)).await??;
        // The server of plain HTTP knows what to do about a client that says nothing.
        if read == 0 || first[0] != TLS_HANDSHAKE {
            return Ok((Either::Left(stream), None));
        }
        let local = stream.local_addr().ok().map(|local| local.ip().to_canonical());
        let handshake = async {
            certificates.prepare(local).await;
            acceptor.accept(stream).await
        };
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await??;
        Ok((Either::Right(Box::new(stream)), None))
    }
}
