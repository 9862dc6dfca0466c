//! Connections of the gateway: HTTP/1.1, over TLS also HTTP/2, with a limit on everything that a client could exhaust.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::STRICT_TRANSPORT_SECURITY;
use axum::response::IntoResponse;
use daemon::accept::{Client, Limits, accept};
use daemon::connections::{Busy, Caps, Place};
use daemon::descriptors;
use daemon::shutdown::CancellationToken;
use daemon::tls::TlsOrPlain;
use hub_base::error::{Code, Error};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpListener;
use tokio_util::either::Either;
use tower::ServiceExt;

use crate::caller::Connected;
use crate::json::Failure;
use crate::tls::{CertificateError, Certificates, Gate, server_config};

/// Most connections at the same time. If all are taken, the one that has been idle longest is ended for a new one.
const MAX_CONNECTIONS: usize = 512;

/// Most connections from one address other than loopback.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 128;

/// Percent of the file descriptors that connections may use. The rest is for the gRPC ports.
const DESCRIPTOR_SHARE: u64 = 50;

/// How long a client may take to send the head of a request. An idle connection is closed after this long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may leave sent data unacknowledged before its connection is cut.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handler may take until its answer begins. Longer than every deadline that a handler sets itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest head of a request (URI and headers), in bytes. Longer ones are answered with 431 or 414.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// HTTP/2, as clients ask for it in the TLS handshake.
const HTTP2: &[u8] = b"h2";

/// Most requests of an HTTP/2 connection at the same time. A page with its live streams needs fewer.
const MAX_STREAMS: u32 = 32;

/// Bytes of a request's body that a client may send before they are read, and bytes of an answer that wait to be sent,
/// of each request of an HTTP/2 connection.
const MAX_STREAM_BYTES: usize = 64 << 10;

/// Browsers use HTTPS alone for this host for 30 days. Sent only with a certificate that they accept as it is. It is
/// short because it counts for all ports of the host, and so for other programs there.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=2592000");

/// Limits on what one client can use.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    connections: Caps,
    header_timeout: Duration,
    request_timeout: Duration,
    stall_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: Caps {
                all: descriptors::connections(MAX_CONNECTIONS, DESCRIPTOR_SHARE),
                per_address: MAX_CONNECTIONS_PER_ADDRESS,
                // The head has a deadline of its own, which runs out first.
                first_request: HEADER_TIMEOUT + REQUEST_TIMEOUT,
                idle: HEADER_TIMEOUT + REQUEST_TIMEOUT,
            },
            header_timeout: HEADER_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        }
    }
}

/// How clients come in.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// The certificate. With it, TLS and plain HTTP come to the same socket. `None`: there is no TLS, and plain HTTP is
    /// served to everybody.
    pub certificates: Option<Arc<Certificates>>,
    /// Whether plain HTTP is served to clients on other machines too. Otherwise they are sent to HTTPS.
    pub plain_everywhere: bool,
}

/// Serves until `stop` is cancelled, then finishes the requests in flight and returns.
///
/// # Errors
/// If TLS cannot be set up.
pub fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    entrance: Entrance,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, CertificateError> {
    serve_within(ConnectionLimits::default(), listeners, router, entrance, stop)
}

fn serve_within(
    limits: ConnectionLimits,
    listeners: Vec<TcpListener>,
    router: Router,
    entrance: Entrance,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, CertificateError> {
    let Entrance { certificates, plain_everywhere } = entrance;
    let gate = match &certificates {
        Some(certificates) => {
            let config = server_config(Arc::clone(certificates))?;
            Gate::with_tls(config, Arc::clone(certificates), limits.header_timeout)
        }
        None => Gate::plain(limits.header_timeout),
    };
    let plain_allowed = plain_everywhere || certificates.is_none();
    let watched = certificates.clone();
    let serve = move |stream: TlsOrPlain, client: Client| {
        let connected = Connected { peer: client.peer, tls: matches!(stream, Either::Right(_)), plain_allowed };
        connection(limits, stream, router.clone(), connected, certificates.clone(), client.place)
    };
    Ok(async move {
        let watching = async {
            if let Some(certificates) = watched {
                certificates.watch(stop.clone()).await;
            }
        };
        let connections = Limits { connections: limits.connections, stall: limits.stall_timeout };
        tokio::join!(accept(connections, listeners, gate, serve, stop.clone()), watching);
    })
}

/// The server of one connection.
fn connection(
    limits: ConnectionLimits,
    stream: TlsOrPlain,
    router: Router,
    connected: Connected,
    certificates: Option<Arc<Certificates>>,
    place: Arc<Place>,
) -> impl GracefulConnection<Error: Display + Send> + Send {
    let speaks_http2 = match &stream {
        Either::Left(_) => false,
        Either::Right(tls) => tls.get_ref().1.alpn_protocol() == Some(HTTP2),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (router, place) = (router.clone(), Arc::clone(&place));
        request.extensions_mut().insert(connected);
        let is_strict = connected.tls && certificates.as_ref().is_some_and(|certificates| certificates.is_public());
        async move {
            // A request whose body has not arrived does not keep the connection from making room.
            let busy = request.is_end_stream().then(|| place.begin());
            let answer = tokio::time::timeout(limits.request_timeout, router.oneshot(request)).await;
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    Failure::from(Error::new(Code::RequestTooSlow, "the hub did not answer in time; try again later"))
                        .into_response()
                }
            };
            let mut answer = answer;
            if is_strict {
                answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
            }
            let busy = busy.unwrap_or_else(|| place.begin());
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(MAX_HEAD_BYTES);
    let mut http2 = server.http2();
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(MAX_STREAM_BYTES)
        .initial_stream_window_size(MAX_STREAM_BYTES as u32);
    let server = if speaks_http2 { server.http2_only() } else { server.http1_only() };
    server.serve_connection(TokioIo::new(stream), service).into_owned()
}

/// The body of an answer. Its connection is not idle until the answer has been sent.
struct Answering {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
