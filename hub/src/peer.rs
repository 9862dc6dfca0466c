//! How one role of the hub reaches another: over gRPC, or by a function call when both live in this process.

use std::time::Duration;

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, StdError};
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// Another role. The generated gRPC clients call it, wherever it lives.
pub type Peer = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// How long a connection may take to come about. Loopback and LAN need milliseconds.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle connection is probed, so that a peer that vanished without a word is noticed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to such a probe may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// HTTP/2 flow-control window of a stream in bytes. Measured: only the catch-up after an outage profits from more than the
/// default 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same of a connection. Well above a stream's: one that is not read for a while, because the analysis is behind, must
/// leave room for the answers to other calls.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

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
/// When `url` is not one.
pub fn remote(url: &str) -> Result<Peer, tonic::transport::Error> {
    Ok(BoxCloneSyncService::new(channel(url)?.map_err(|error| Status::from_error(error.into()))))
}

/// A channel that connects when it is first used, and again whenever the connection broke. One for each peer, shared by
/// all callers.
///
/// # Errors
/// When `url` is not one.
pub fn channel(url: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_lazy())
}
