//! Connections of the gateway: HTTP/1.1, with a limit on everything that a client could exhaust.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use daemon::cause::cause;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::json::Failure;

/// Most connections at the same time. Further ones wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take to send the head of a request. An idle connection is closed after this long.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may leave sent data unacknowledged before its connection is cut.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handler may take until its answer begins. Longer than every deadline that a handler sets itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest head of a request (URI and headers), in bytes. Longer ones are answered with 431 or 414.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// How long to wait after accepting failed, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one failed accept is logged in this time.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// Limits on what one client can use.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    connections: usize,
    header_timeout: Duration,
    request_timeout: Duration,
    stall_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
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
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        let places = Arc::clone(&places);
        accepting.spawn(accept(limits, listener, router.clone(), stop.clone(), places, connections.clone()));
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    connections.wait().await;
}

async fn accept(
    limits: ConnectionLimits,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    connections: TaskTracker,
) {
    let mut quiet = Quiet::new(LOG_PERIOD);
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(limits, stream, router.clone(), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%peer, %error, "connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(suppressed_lines) = quiet.allow() {
                    warn!(error = cause(&error), suppressed_lines, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    limits: ConnectionLimits,
    stream: TcpStream,
    router: Router,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    // Without TCP_NODELAY, the last packet of an answer can wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stall_timeout)) {
        debug!(%error, "cannot set TCP_USER_TIMEOUT");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer = tokio::time::timeout(limits.request_timeout, router.oneshot(request)).await;
            Ok::<_, Infallible>(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    Failure::from(Error::new(Code::RequestTooSlow, "the hub did not answer in time; try again later"))
                        .into_response()
                }
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

#[cfg(test)]
mod tests;
