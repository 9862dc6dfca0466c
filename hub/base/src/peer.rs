//! How one role of the hub calls another: over gRPC, or by a function call if both run in this process.

use std::io;
use std::time::Duration;

use daemon::tls::TlsClient;
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, StdError};
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::route::Route;

/// Another role, as the generated gRPC clients call it, in this process or in another.
pub type Peer = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// How long connecting may take. Loopback and LAN need milliseconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle connection is probed, to notice a peer that vanished without closing the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a probe may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 flow-control window of a stream, in bytes: what a peer may send that nobody has read yet. Measured: only the
/// catch-up after an outage profits from more than the default of 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;

/// HTTP/2 flow-control window of a connection, in bytes. It is much larger than a stream's window: while the analysis
/// is behind and does not read its stream, the answers to other calls still need room.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Largest answer of a role, in bytes, before and after decompression. Answers hold a sentence.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Most bytes of the headers and trailers of an answer, which hold the text of an error.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// A role in this process: `server` is the generated server, such as `DogServer`.
pub fn local<S>(server: S) -> Peer
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(server.map_err(|error| Status::from_error(error.into())))
}

/// A role in another process.
///
/// # Errors
/// If `url` is not a valid URL.
pub fn remote(url: &str) -> Result<Peer, tonic::transport::Error> {
    Ok(BoxCloneSyncService::new(channel(url)?.map_err(|error| Status::from_error(error.into()))))
}

/// A channel that connects on first use, and reconnects after the connection broke. All callers of a peer share one
/// channel.
///
/// # Errors
/// If `url` is not a valid URL.
pub fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(endpoint(url)?.connect_lazy())
}

/// Like [`channel`], but along a route: to the addresses that the peer announces, if it announces any. With `tls`, the
/// connection is encrypted, and made to the keys that it expects only.
///
/// # Errors
/// If `url` is not a valid URL.
pub fn channel_along(url: &str, route: &Route, tls: Option<TlsClient>) -> Result<Channel, tonic::transport::Error> {
    Ok(route.channel(&endpoint(url)?, tls))
}

/// A channel over the one connection that `take` gives, for a peer that must not change. It fails once that is gone.
///
/// # Errors
/// If `url` is not a valid URL, or the connection does not speak HTTP/2.
pub async fn connected<S>(
    url: &str,
    take: impl Fn() -> Option<S> + Send + Sync + 'static,
) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connect = tower::service_fn(move |_: Uri| {
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection is gone");
        std::future::ready(take().map(TokioIo::new).ok_or_else(gone))
    });
    endpoint(url)?.connect_with_connector(connect).await
}

fn endpoint(url: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}
