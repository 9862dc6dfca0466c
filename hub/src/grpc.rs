//! A gRPC port: one role, with health and reflection beside it, and `/metrics` for plain HTTP.

use std::convert::Infallible;
use std::time::Duration;

use daemon::metrics::Meter;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use futures_util::Stream;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::{debug, error, warn};

/// Calls in flight on one connection at most; further ones wait at the client.
const MAX_STREAMS: u32 = 1024;

/// How often a client that says nothing is probed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long its answer may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after the system refused a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a refused connection is logged.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// Serves a role on its addresses until `stop`, then finishes the calls that are in flight and returns.
pub async fn serve<S>(service: S, meter: Meter, listeners: Vec<TcpListener>, stop: CancellationToken)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<S>().await;
    let mut routes = Routes::new(service).add_service(health_service);
    // Both versions: grpcurl of Debian 12 speaks the older one only.
    match (reflection::<S>().build_v1(), reflection::<S>().build_v1alpha()) {
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
                error!(role = S::NAME, %error, "server ended");
            }
        });
    }
    servers.close();
    stop.cancelled().await;
    health.set_not_serving::<S>().await;
    servers.wait().await;
}

fn reflection<S: NamedService>() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .with_service_name(S::NAME)
        .with_service_name("grpc.health.v1.Health")
        .with_service_name("grpc.reflection.v1.ServerReflection")
}

/// The connections to a listener; one that cannot be had is logged, and the next one is waited for.
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
                    if let Some(held_back) = quiet.allow() {
                        warn!(%error, held_back, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
