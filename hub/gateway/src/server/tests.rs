//! Limits on connections, with a client that misbehaves, and TLS next to plain HTTP.

use axum::body::Body;
use axum::routing::get;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::Names;

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

async fn start(limits: ConnectionLimits, router: Router) -> (std::net::SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve_within(limits, vec![listener], router, Entrance::default(), stop.clone()).unwrap());
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

/// A gateway with TLS by a CA of its own, and the CA.
async fn start_with_tls(folder: &std::path::Path, router: Router) -> (std::net::SocketAddr, Arc<Certificates>) {
    let names = Names::of("raspberrypi", &[], []);
    let certificates = Arc::new(Certificates::own(folder, names).unwrap());
    let entrance = Entrance { certificates: Some(Arc::clone(&certificates)), plain_everywhere: false };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectionLimits::default();
    tokio::spawn(serve_within(limits, vec![listener], router, entrance, CancellationToken::new()).unwrap());
    (address, certificates)
}

/// Connects as a browser that trusts the CA and prefers `protocol`.
async fn connect(
    address: std::net::SocketAddr,
    certificates: &Certificates,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates.authority().unwrap().certificate().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The answer to a GET by HTTP/1.1.
async fn get_by(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server may close the connection without a goodbye of TLS.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8(answer).unwrap()
}

/// Says how the connection came.
fn transport() -> Router {
    let say = |request: Request| async move {
        let connected = request.extensions().get::<Connected>().unwrap();
        format!("{:?} tls: {}", request.version(), connected.tls)
    };
    Router::new().route("/", get(say))
}

#[tokio::test]
async fn tls_and_plain_http_come_to_one_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (address, certificates) = start_with_tls(folder.path(), transport()).await;
    let plain = get_by(&mut TcpStream::connect(address).await.unwrap()).await;
    assert!(plain.ends_with("HTTP/1.1 tls: false"), "{plain}");
    let secure = get_by(&mut connect(address, &certificates, b"http/1.1").await).await;
    assert!(secure.ends_with("HTTP/1.1 tls: true"), "{secure}");
    let secure = connect(address, &certificates, b"h2").await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(secure)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Body::empty()).unwrap();
    let answer = tokio::time::timeout(SOON, client.send_request(request)).await.expect("it answers").unwrap();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), 1_000).await.unwrap();
    assert_eq!(body, "HTTP/2.0 tls: true");
}

#[tokio::test]
async fn browsers_are_held_to_https_only_with_a_certificate_that_they_accept() {
    let folder = tempfile::tempdir().unwrap();
    let (address, certificates) = start_with_tls(folder.path(), meow()).await;
    for (is_public, expected) in [(false, false), (true, true)] {
        certificates.set_public(is_public);
        let secure = get_by(&mut connect(address, &certificates, b"http/1.1").await).await;
        assert_eq!(secure.to_ascii_lowercase().contains("strict-transport-security: max-age="), expected, "{secure}");
        let plain = get_by(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(!plain.to_ascii_lowercase().contains("strict-transport"), "{plain}");
    }
}

#[tokio::test]
async fn handshakes_that_never_end_starve_nobody() {
    /// Connections of the attack. Each kind of them is begun in turn.
    const ATTACK: usize = 2_000;
    descriptors::raise_limit();
    let folder = tempfile::tempdir().unwrap();
    let (address, certificates) = start_with_tls(folder.path(), meow()).await;
    let mut held = Vec::with_capacity(ATTACK);
    for number in 0..ATTACK {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Nothing, the first byte, and a hello that says it is longer.
        let sent: &[u8] = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"][number % 3];
        stream.write_all(sent).await.unwrap();
        held.push(stream);
    }
    for protocol in [&b"http/1.1"[..], b"http/1.1"] {
        let answer = get_by(&mut connect(address, &certificates, protocol).await).await;
        assert!(answer.ends_with("meow"), "{answer}");
    }
    let plain = get_by(&mut TcpStream::connect(address).await.unwrap()).await;
    assert!(plain.ends_with("meow"), "{plain}");
    drop(held);
}
