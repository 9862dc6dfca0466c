//! A gRPC port: one service, with health and reflection next to it, and `/metrics` for plain HTTP. Both daemons use
//! this accept loop.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::Stream;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::{Health, HealthServer};
use tracing::{debug, error, warn};

use crate::cause::cause;
use crate::metrics::Meter;
use crate::quiet::Quiet;

/// Calls in flight on one connection at most; further ones wait at the client.
const MAX_STREAMS: u32 = 1024;

/// How often a silent client is probed, so that one whose machine vanished does not keep its place.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long the answer to a probe may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

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
    let mut routes = Routes::new(service).add_service(health);
    let reflection = || reflection(S::NAME, descriptors);
    // Both versions: grpcurl of Debian 12 knows only the older one.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes = routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => error!(%error, "no gRPC reflection"),
    }
    let routes = routes.prepare();
    let servers = TaskTracker::new();
    for listener in listeners {
        let server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .accept_http1(true)
            .layer(meter.clone())
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(connections(listener), stop.clone().cancelled_owned());
        servers.spawn(async move {
            if let Err(error) = server.await {
                error!(service = S::NAME, %error, "server ended");
            }
        });
    }
    servers.close();
    servers.wait().await;
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

/// The connections to a listener. A connection that cannot be accepted is logged, and the next one is awaited.
fn connections(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    let quiet = Quiet::new(LOG_PERIOD);
    futures_util::stream::unfold((listener, quiet), |(listener, mut quiet)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(%error, "no TCP_NODELAY");
                    }
                    return Some((Ok(stream), (listener, quiet)));
                }
                Err(error) => {
                    if let Some(suppressed_lines) = quiet.allow() {
                        warn!(error = cause(&error), suppressed_lines, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
