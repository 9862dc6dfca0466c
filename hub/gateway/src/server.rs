//! Connections of the gateway: HTTP/1.1, with a limit on everything that a client could exhaust.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::IntoResponse;
use daemon::accept::{Client, Limits, accept};
use daemon::connections::{Busy, Caps, Place};
use daemon::descriptors;
use daemon::opening::Plain;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::caller::Caller;
use crate::json::Failure;

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

/// Serves until `stop` is cancelled, then finishes the requests in flight and returns.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    serve_within(ConnectionLimits::default(), listeners, router, stop).await;
}

async fn serve_within(limits: ConnectionLimits, listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let serve = move |stream, client: Client| {
        let caller = Caller { address: client.peer.ip(), secure: false };
        connection(limits, stream, router.clone(), client.place, caller)
    };
    let limits = Limits { connections: limits.connections, stall: limits.stall_timeout };
    accept(limits, listeners, Plain, serve, stop).await;
}

/// The server of one connection.
fn connection(
    limits: ConnectionLimits,
    stream: TcpStream,
    router: Router,
    place: Arc<Place>,
    caller: Caller,
) -> impl GracefulConnection<Error = hyper::Error> + Send {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        let (router, place) = (router.clone(), Arc::clone(&place));
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
            let busy = busy.unwrap_or_else(|| place.begin());
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
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
