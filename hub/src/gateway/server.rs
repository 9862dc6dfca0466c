//! Connections of the gateway: HTTP/1.1 with a limit on everything that a stranger could stretch.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::error::{Code, Error};

/// Connections served at the same time. Further ones wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take to send the head of a request, and an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handler may take until its answer begins. Above every deadline that a handler sets itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest head of a request (URI and headers), in bytes. Longer ones get 431 or 414.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// How long to wait after the system refused a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a refused connection is logged.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// Serves until `stop`, then finishes the requests that are in flight and returns.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for listener in listeners {
        accepting.spawn(accept(listener, router.clone(), stop.clone(), Arc::clone(&places), connections.clone()));
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    connections.wait().await;
}

async fn accept(
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
            place = Arc::clone(&places).acquire_owned() => place.expect("nobody closes the semaphore"),
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, router.clone(), stop.clone());
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%peer, %error, "connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                if let Some(held_back) = quiet.allow() {
                    warn!(%error, held_back, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) -> Result<(), hyper::Error> {
    // Without it the last packet of an answer can wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, router.oneshot(request)).await;
            Ok::<_, Infallible>(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => Error::new(Code::RequestTooSlow, "the hub did not answer in time").into_response(),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
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
