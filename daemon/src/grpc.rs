//! A gRPC port: one service, with health and reflection next to it, and `/metrics` for plain HTTP. Both daemons use
//! this accept loop.

mod half_sent;
mod intake;
mod limits;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::{Layer, ServiceExt};
use tracing::{debug, error, warn};

use crate::cause::cause;
use crate::connections::{Caps, Connections, Place};
use crate::descriptors;
use crate::metrics::{Counted, Meter};
use crate::quiet::Quiet;
use intake::Intake;
pub use limits::MAX_REQUEST_BYTES;
use limits::{
    DESCRIPTOR_SHARE, FIRST_CALL_TIMEOUT, GOODBYE_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL,
    KEEP_ALIVE_TIMEOUT, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_HEADER_BYTES, MAX_STREAMS, SEND_BUFFER_BYTES,
    STALL_TIMEOUT, WINDOW_BYTES,
};

/// How long to wait after the system refused a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a refused connection is logged.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// Serves one service on its addresses until `stop`, then finishes the calls that are in flight and returns.
/// `descriptors` is the encoded `FileDescriptorSet` that reflection shows.
pub async fn serve<S>(
    service: S,
    health: HealthServer<impl Health>,
    descriptors: &'static [u8],
    meter: Meter,
    listeners: Vec<TcpListener>,
    stop: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let health = health.max_decoding_message_size(MAX_REQUEST_BYTES).accept_compressed(CompressionEncoding::Gzip);
    let mut routes = Routes::new(service).add_service(health);
    let reflection = || reflection(S::NAME, descriptors);
    // Both versions: grpcurl of Debian 12 knows only the older one.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            let (v1, v1alpha) =
                (v1.max_decoding_message_size(MAX_REQUEST_BYTES), v1alpha.max_decoding_message_size(MAX_REQUEST_BYTES));
            routes = routes.add_service(v1).add_service(v1alpha);
        }
        (Err(error), _) | (_, Err(error)) => error!(%error, "no gRPC reflection"),
    }
    let service = meter.layer(Intake::default().layer(routes.prepare()));
    let connections = Connections::new(Caps {
        all: descriptors::connections(MAX_CONNECTIONS, DESCRIPTOR_SHARE),
        per_address: MAX_CONNECTIONS_PER_ADDRESS,
        first_request: FIRST_CALL_TIMEOUT,
        idle: IDLE_TIMEOUT,
    });
    let tasks = TaskTracker::new();
    for listener in listeners {
        tasks.spawn(accept(listener, service.clone(), connections.clone(), stop.clone(), tasks.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

fn reflection(service: &'static str, descriptors: &'static [u8]) -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(descriptors)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .with_service_name(service)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
}

/// Accepts connections until `stop`. A connection that cannot be accepted is logged, and the next one is awaited.
async fn accept<S>(
    listener: TcpListener,
    service: S,
    connections: Connections,
    stop: CancellationToken,
    tasks: TaskTracker,
) where
    S: Service<Request<Body>, Response = Response<Counted>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (mut quiet, mut full) = (Quiet::new(LOG_PERIOD), Quiet::new(LOG_PERIOD));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.admit(peer.ip()) {
                Some(place) => {
                    tasks.spawn(connection(stream, peer, service.clone(), Arc::new(place), stop.clone()));
                    // A connection that made room closes before the next one is accepted.
                    tokio::task::yield_now().await;
                }
                None => {
                    if let Some(suppressed_lines) = full.allow() {
                        warn!(%peer, suppressed_lines, "connection refused: too many are in use");
                    }
                }
            },
            Err(error) => {
                if let Some(suppressed_lines) = quiet.allow() {
                    warn!(error = cause(&error), suppressed_lines, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends, is idle for too long or has to make room. After `stop` it finishes its calls.
async fn connection<S>(stream: TcpStream, peer: SocketAddr, service: S, place: Arc<Place>, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Counted>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_TIMEOUT)) {
        debug!(%error, "no TCP_USER_TIMEOUT");
    }
    let client = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
    let at = Arc::clone(&place);
    let service = TowerToHyperService::new(service.map_request(move |request: Request<Incoming>| {
        if request.version() != Version::HTTP_2 {
            // `/metrics`, answered at once. Calls of gRPC count from when they have arrived.
            drop(at.begin());
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(client.clone());
        request.extensions_mut().insert(Arc::clone(&at));
        request
    }));
    let builder = builder();
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut connection => return log_end(peer, ended),
        () = place.taken_over() => return debug!(%peer, "connection ended: another one needed its place"),
        () = place.idle_for_too_long() => {
            debug!(%peer, "connection ends: it was idle");
            connection.as_mut().graceful_shutdown();
            if let Ok(ended) = tokio::time::timeout(GOODBYE_TIMEOUT, connection).await {
                log_end(peer, ended);
            }
            return;
        }
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = connection => log_end(peer, ended),
        () = place.taken_over() => {}
        () = place.idle_for_too_long() => {}
    }
}

fn log_end(peer: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}
