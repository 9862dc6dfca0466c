//! A gRPC port: one service, with health and reflection next to it, and `/metrics` for plain HTTP.

mod half_sent;
mod intake;
mod limits;

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use futures_util::future::Either;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpConnectInfo;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::{Layer, ServiceExt};
use tracing::error;

use crate::accept::{Client, Limits, accept};
use crate::bearer::bearer;
use crate::connections::Caps;
use crate::descriptors;
use crate::metrics::{Counted, Meter, needs_token};
use crate::opening::Opening;
use intake::Intake;
pub use limits::MAX_REQUEST_BYTES;
use limits::{
    DESCRIPTOR_SHARE, FIRST_CALL_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_HEADER_BYTES, MAX_STREAMS, SEND_BUFFER_BYTES, STALL_TIMEOUT,
    WINDOW_BYTES,
};

/// What a port serves.
#[derive(Debug, Clone)]
pub struct Services<S> {
    /// The service that the port is for. Reflection shows it.
    pub main: S,
    /// Further services.
    pub others: Routes,
}

impl<S> Services<S> {
    /// One service and no others.
    pub fn only(main: S) -> Self {
        Self { main, others: Routes::default() }
    }
}

/// Serves services on their addresses until `stop`, then finishes the calls that are in flight and returns.
/// `descriptors` is the encoded `FileDescriptorSet` that reflection shows. `opening` begins the connections,
/// without TLS ([`Plain`](crate::opening::Plain)) or with it ([`TlsServer`](crate::tls::TlsServer)).
pub async fn serve<S>(
    services: Services<S>,
    health: HealthServer<impl Health>,
    descriptors: &'static [u8],
    meter: Meter,
    listeners: Vec<TcpListener>,
    opening: impl Opening,
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
    let mut routes = services.others.add_service(services.main).add_service(health);
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
    let limits = Limits {
        connections: Caps {
            all: descriptors::connections(MAX_CONNECTIONS, DESCRIPTOR_SHARE),
            per_address: MAX_CONNECTIONS_PER_ADDRESS,
            first_request: FIRST_CALL_TIMEOUT,
            idle: IDLE_TIMEOUT,
        },
        stall: STALL_TIMEOUT,
    };
    let guard = opening.clone();
    let serve = move |stream, client| connection(stream, client, guard.clone(), service.clone());
    accept(limits, listeners, opening, serve, stop).await;
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

/// The server of one connection, whatever carries its bytes.
fn connection<S, I>(
    stream: I,
    client: Client,
    guard: impl Opening,
    service: S,
) -> impl GracefulConnection<Error = Box<dyn std::error::Error + Send + Sync>> + Send
where
    S: Service<Request<Body>, Response = Response<Counted>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Client { peer, local, key, is_anonymous, place } = client;
    let addresses = TcpConnectInfo { local_addr: local, remote_addr: Some(peer) };
    let service = TowerToHyperService::new(tower::service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path();
        let admitted = if is_anonymous {
            guard
                .admits_token(path, request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.to_str().ok()?)))
        } else {
            guard.allows(key.as_ref(), path).then_some(true)
        };
        match admitted {
            Some(true) => {}
            Some(false) => return Either::Left(ready(Ok(needs_token()))),
            None => return Either::Left(ready(Ok(refusal(request.version())))),
        }
        if request.version() != Version::HTTP_2 {
            // `/metrics`, answered at once. Calls of gRPC count from when they have arrived.
            drop(place.begin());
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(addresses.clone());
        request.extensions_mut().insert(Arc::clone(&place));
        if let Some(key) = key {
            request.extensions_mut().insert(key);
        }
        Either::Right(service.clone().oneshot(request))
    }));
    builder().serve_connection(TokioIo::new(stream), service).into_owned()
}

/// The answer to a client whose key is not trusted, or that has none.
fn refusal(version: Version) -> Response<Counted> {
    if version == Version::HTTP_2 {
        let why = "this hub and this node are not paired; run `cat-node pair` on the node, then `hub pair CODE HOST`";
        return Status::permission_denied(why).into_http::<Body>().map(Counted::from);
    }
    let mut answer = Response::new(Counted::from(Body::empty()));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer
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
