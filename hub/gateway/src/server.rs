//! Connections of the gateway: HTTP/1.1 with a limit on everything that a stranger could stretch.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
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

/// Connections served at the same time. Further ones wait in the kernel until one ends.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take to send the head of a request, and an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may leave an answer lying before its connection is cut.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a handler may take until its answer begins. Above every deadline that a handler sets itself.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest head of a request (URI and headers), in bytes. Longer ones get 431 or 414.
const MAX_HEAD_BYTES: usize = 128 << 10;

/// How long to wait after the system refused a connection (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a refused connection is logged.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// What a stranger could stretch.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    header_timeout: Duration,
    request_timeout: Duration,
    stall_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            header_timeout: HEADER_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        }
    }
}

/// Serves until `stop`, then finishes the requests that are in flight and returns.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    serve_within(Limits::default(), listeners, router, stop).await;
}

async fn serve_within(limits: Limits, listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
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
    limits: Limits,
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
                let connection = connection(limits, stream, router.clone(), stop.clone());
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

async fn connection(
    limits: Limits,
    stream: TcpStream,
    router: Router,
    stop: CancellationToken,
) -> Result<(), hyper::Error> {
    // Without it the last packet of an answer can wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(limits.stall_timeout)) {
        debug!(%error, "no TCP_USER_TIMEOUT");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let answer = tokio::time::timeout(limits.request_timeout, router.oneshot(request)).await;
            Ok::<_, Infallible>(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    Failure::from(Error::new(Code::RequestTooSlow, "the hub did not answer in time")).into_response()
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
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// What a wait may take before it counts as a failure.
    const SOON: Duration = Duration::from_secs(30);

    async fn start(limits: Limits, router: Router) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve_within(limits, vec![listener], router, stop.clone()));
        (address, stop)
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        // A connection that is reset ends too.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        String::from_utf8(answer).unwrap()
    }

    fn meow() -> Router {
        Router::new().route("/", get(|| async { "meow" }))
    }

    #[tokio::test]
    async fn head_that_never_ends_is_cut_off() {
        let limits = Limits { header_timeout: Duration::from_millis(200), ..Limits::default() };
        let (address, _stop) = start(limits, meow()).await;
        for sent in ["", "GET / HTTP/1.1\r\nA: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            assert!(!read_all(&mut stream).await.contains("200 OK"));
        }
    }

    #[tokio::test]
    async fn connection_beyond_the_limit_waits_for_its_turn() {
        let (address, _stop) = start(Limits { connections: 1, ..Limits::default() }, meow()).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        first.read_exact(&mut answer).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
        assert!(early.is_err(), "served beside the first");
        drop(first);
        assert!(read_all(&mut second).await.ends_with("meow"));
    }

    #[tokio::test]
    async fn handler_that_hangs_is_too_slow() {
        let limits = Limits { request_timeout: Duration::from_millis(100), ..Limits::default() };
        let router = Router::new().route("/", get(std::future::pending::<&str>));
        let (address, _stop) = start(limits, router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("request_too_slow"), "{answer}");
    }

    #[tokio::test]
    async fn answer_that_nobody_reads_is_given_up() {
        /// Tells when the answer it belongs to is let go of.
        struct Held(Option<oneshot::Sender<()>>);
        impl Drop for Held {
            fn drop(&mut self) {
                let _ = self.0.take().map(|dropped| dropped.send(()));
            }
        }
        let (dropped, is_dropped) = oneshot::channel();
        let held = Arc::new(std::sync::Mutex::new(Some(Held(Some(dropped)))));
        let endless = move || async move {
            let held = held.lock().unwrap().take();
            let chunks = futures_util::stream::repeat_with(move || {
                let _ = &held;
                Ok::<_, Infallible>(vec![0_u8; 64 << 10])
            });
            Body::from_stream(chunks)
        };
        let limits = Limits { stall_timeout: Duration::from_millis(200), ..Limits::default() };
        let (address, _stop) = start(limits, Router::new().route("/", get(endless))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        tokio::time::timeout(SOON, is_dropped).await.expect("the answer is given up").unwrap();
        drop(stream);
    }

    #[tokio::test]
    async fn stop_ends_idle_connections() {
        let (address, stop) = start(Limits::default(), meow()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        stop.cancel();
        assert!(read_all(&mut stream).await.ends_with("meow"));
    }
}
