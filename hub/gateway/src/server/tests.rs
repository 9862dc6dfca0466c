//! Limits on connections, with a client that misbehaves.

use axum::body::Body;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

async fn start(limits: ConnectionLimits, router: Router) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve_within(limits, vec![listener], router, stop.clone()));
    (address, stop)
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends the connection too.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

fn meow() -> Router {
    Router::new().route("/", get(|| async { "meow" }))
}

#[tokio::test]
async fn head_that_never_ends_is_cut_off() {
    let limits = ConnectionLimits { header_timeout: Duration::from_millis(200), ..ConnectionLimits::default() };
    let (address, _stop) = start(limits, meow()).await;
    for sent in ["", "GET / HTTP/1.1\r\nA: "] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert!(!read_all(&mut stream).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn connection_beyond_the_limit_ends_an_idle_one() {
    let caps = Caps { all: 1, ..ConnectionLimits::default().connections };
    let (address, _stop) = start(ConnectionLimits { connections: caps, ..ConnectionLimits::default() }, meow()).await;
    for sent in [
        "",
        "GET / HTTP/1.1\r\nA: ",
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_all(sent.as_bytes()).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(read_all(&mut second).await.ends_with("meow"), "{sent:?}");
        let mut rest = Vec::new();
        // A reset ends the connection too.
        let _ = tokio::time::timeout(SOON, first.read_to_end(&mut rest)).await.expect("the idle connection ends");
    }
}

#[tokio::test]
async fn connection_in_use_does_not_end_for_another() {
    let (begun, has_begun) = oneshot::channel();
    let begun = Arc::new(std::sync::Mutex::new(Some(begun)));
    let (release, released) = tokio::sync::watch::channel(false);
    let slow = move || async move {
        let begun = begun.lock().unwrap().take();
        let mut released = released.clone();
        begun.unwrap().send(()).unwrap();
        released.wait_for(|released| *released).await.unwrap();
        "meow"
    };
    let caps = Caps { all: 1, ..ConnectionLimits::default().connections };
    let limits = ConnectionLimits { connections: caps, ..ConnectionLimits::default() };
    let (address, _stop) = start(limits, Router::new().route("/", get(slow))).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    has_begun.await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_all(&mut second).await, "");
    release.send(true).unwrap();
    assert!(read_all(&mut first).await.ends_with("meow"));
}

#[tokio::test]
async fn handler_that_hangs_is_too_slow() {
    let limits = ConnectionLimits { request_timeout: Duration::from_millis(100), ..ConnectionLimits::default() };
    let router = Router::new().route("/", get(std::future::pending::<&str>));
    let (address, _stop) = start(limits, router).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("request_too_slow"), "{answer}");
}

#[tokio::test]
async fn answer_that_the_client_does_not_read_is_dropped() {
    /// Reports when the answer that it belongs to is dropped.
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
    let limits = ConnectionLimits { stall_timeout: Duration::from_millis(200), ..ConnectionLimits::default() };
    let (address, _stop) = start(limits, Router::new().route("/", get(endless))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    tokio::time::timeout(SOON, is_dropped).await.expect("the answer is dropped").unwrap();
    drop(stream);
}

#[tokio::test]
async fn stop_ends_idle_connections() {
    let (address, stop) = start(ConnectionLimits::default(), meow()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    stop.cancel();
    assert!(read_all(&mut stream).await.ends_with("meow"));
}
