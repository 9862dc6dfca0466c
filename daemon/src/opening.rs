//! How the connections of a server begin: as they are, or with a handshake.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::identity::PublicKey;

/// The key that a client has proved to hold. Requests on its connection carry it as an extension. It says who the
/// client is, and not what the client may do: any key gets this far, so whoever answers must look it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerKey(pub PublicKey);

/// What happens on a new connection before its first request is read.
pub trait Opening: Clone + Send + Sync + 'static {
    /// What requests are read from.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Opens a connection that was accepted. The result has the client's key, if the client has proved one.
    ///
    /// # Errors
    /// If the client may not connect in this way, or was too slow. The connection is then closed.
    fn open(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<PeerKey>)>> + Send;

    /// Whether a client with this key, or with none, may make the call with this path.
    fn allows(&self, _key: Option<&PeerKey>, _path: &str) -> bool {
        true
    }

    /// Whether the client has encrypted its connection and proved no key. Then [`Self::allows`] is not asked: the
    /// client may do what its token allows ([`Self::admits_token`]).
    fn is_anonymous(&self, _stream: &Self::Stream) -> bool {
        false
    }

    /// Whether the token of an anonymous client, from `Authorization: Bearer`, allows the request with this path.
    /// `None`: no token does.
    fn admits_token(&self, _path: &str, _token: Option<&str>) -> Option<bool> {
        None
    }

    /// Whether a client with this key may only do what every client may. Few of them are served at a time.
    fn is_stranger(&self, _key: PeerKey) -> bool {
        false
    }

    /// Waits until the connections of this key must end, because it is trusted no longer, or never was.
    fn revoked(&self, _key: PeerKey) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Connections begin with the first request.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Opening for Plain {
    type Stream = TcpStream;

    async fn open(&self, stream: TcpStream, _: SocketAddr) -> io::Result<(TcpStream, Option<PeerKey>)> {
        Ok((stream, None))
    }
}
