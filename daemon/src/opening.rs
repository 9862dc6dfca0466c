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
