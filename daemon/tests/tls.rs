//! A gRPC port with TLS, under clients that begin handshakes and do not finish them.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::descriptors;
use daemon::grpc::{self, Services};
use daemon::identity::{Key, OwnKey};
use daemon::metrics::{Calls, Meter};
use daemon::opening::PeerKey;
use daemon::shutdown::CancellationToken;
use daemon::tls::{
    CERTIFICATE_NAME, Keyring, Policy, Rights, Scrapers, TlsClient, TlsServer, TlsStream, certificate_pem,
};
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::health_reporter;
use tower::ServiceExt;

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

/// Answers each call with `UNKNOWN` and the fingerprint of the client's key, or with `UNAUTHENTICATED`.
#[derive(Debug, Clone)]
struct Who;

impl NamedService for Who {
    const NAME: &'static str = "grpc.health.v2.Health";
}

impl Service<Request<Body>> for Who {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let status = match request.extensions().get::<PeerKey>() {
            Some(PeerKey(key)) => Status::unknown(key.fingerprint().to_string()),
            None => Status::unauthenticated("no key"),
        };
        ready(Ok(status.into_http()))
    }
}

async fn start(key: &Arc<Key>, policy: Policy) -> SocketAddr {
    serve(TlsServer::new(Arc::clone(key), policy).unwrap()).await
}

async fn serve(tls: TlsServer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = health_reporter();
    let meter = Meter::new(
        Arc::new(Calls::new(["grpc.health.v1.Health/Check"])),
        Arc::new(|| Box::pin(async { String::new() })),
    );
    let descriptors = tonic_health::pb::FILE_DESCRIPTOR_SET;
    tokio::spawn(grpc::serve(
        Services::only(Who),
        health,
        descriptors,
        meter,
        vec![listener],
        tls,
        CancellationToken::new(),
    ));
    address
}

fn key() -> Arc<Key> {
    Arc::new(Key::generate().unwrap().0)
}

/// A channel with TLS to a server with the key `node`.
async fn channel(address: SocketAddr, hub: &Arc<Key>, node: &Key) -> Result<Channel, tonic::transport::Error> {
    let tls = TlsClient::new(Arc::clone(hub), vec![node.public().fingerprint()]).unwrap();
    let connect = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(tls.connect(TcpStream::connect(address).await?).await?)) }
    });
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_with_connector(connect).await
}

/// What the service says.
async fn ask(channel: Channel) -> Status {
    let request = Request::post("/grpc.health.v2.Health/Check").header("content-type", "application/grpc");
    let answer = channel.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    Status::from_header_map(answer.headers()).unwrap()
}

#[tokio::test]
async fn service_learns_the_key_of_its_caller() {
    let (node, hub) = (key(), key());
    let address = start(&node, Policy::PlainOnLoopback).await;
    let said = ask(channel(address, &hub, &node).await.unwrap()).await;
    assert_eq!((said.code(), said.message()), (Code::Unknown, hub.public().fingerprint().to_string().as_str()));
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    assert_eq!(ask(plain).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn port_with_tls_only_answers_no_plain_call() {
    let (node, hub) = (key(), key());
    let address = start(&node, Policy::TlsOnly).await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset ends the connection too.
    let _ = tokio::time::timeout(SOON, plain.read_to_end(&mut answer)).await.expect("the connection ends");
    assert_eq!(answer, b"");
    HealthClient::new(channel(address, &hub, &node).await.unwrap()).check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn channel_to_another_key_makes_no_call() {
    let (node, stranger, hub) = (key(), key(), key());
    let address = start(&stranger, Policy::PlainEverywhere).await;
    assert!(channel(address, &hub, &node).await.is_err());
}

#[tokio::test]
async fn unknown_key_calls_only_what_is_for_strangers_and_a_revoked_key_is_cut_off() {
    let (node, hub) = (key(), key());
    let rights = Rights { keyring: Keyring::default(), for_strangers: &["/for.Strangers/"] };
    let keyring = rights.keyring.clone();
    let tls = TlsServer::new(Arc::clone(&node), Policy::PlainOnLoopback).unwrap().with_rights(rights);
    let address = serve(tls).await;
    let strange = channel(address, &hub, &node).await.unwrap();
    assert_eq!(ask(strange.clone()).await.code(), Code::PermissionDenied);
    let refused = HealthClient::new(strange.clone()).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let request = Request::post("/for.Strangers/Call").header("content-type", "application/grpc");
    let answer = strange.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::Unimplemented, "it was let through");

    // `/metrics` is no gRPC, and refused too.
    let tls = TlsClient::new(Arc::clone(&hub), vec![node.public().fingerprint()]).unwrap();
    let mut stream = tls.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A connection may end without the farewell of TLS.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    assert!(answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer));

    // The connection stays, and may do more once the key is known.
    keyring.set([hub.public().fingerprint()]);
    assert_eq!(ask(strange.clone()).await.code(), Code::Unknown);
    let mut watch = HealthClient::new(strange).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    keyring.set([]);
    let ended = tokio::time::timeout(SOON, watch.message()).await.expect("the stream ends");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    assert_eq!(ask(channel(address, &hub, &node).await.unwrap()).await.code(), Code::PermissionDenied);
}

/// A channel that connects again when it must, as `tls` says.
fn lasting(address: SocketAddr, tls: TlsClient) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(tls.connect(TcpStream::connect(address).await?).await?)) }
    });
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_with_connector_lazy(connect)
}

#[tokio::test]
async fn stream_goes_on_while_both_sides_change_their_keys() {
    let (node, hub) = (OwnKey::from(key()), OwnKey::from(key()));
    let rights = Rights { keyring: Keyring::default(), for_strangers: &["/for.Strangers/"] };
    let keyring = rights.keyring.clone();
    keyring.set([hub.fingerprint()]);
    let tls = TlsServer::new(node.clone(), Policy::TlsOnly).unwrap().with_rights(rights);
    let address = serve(tls).await;
    let client = TlsClient::new(hub.clone(), vec![node.fingerprint()]).unwrap();
    let open = lasting(address, client.clone());
    let mut stream = HealthClient::new(open.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let old_hub = TlsClient::new(hub.key(), vec![node.fingerprint()]).unwrap();
    let first = hub.fingerprint();
    for _ in 0..2 {
        let old = (node.fingerprint(), hub.fingerprint());
        node.change().unwrap();
        assert!(client.connect(TcpStream::connect(address).await.unwrap()).await.is_err(), "the node's new key");
        client.expect(vec![node.fingerprint()]);
        hub.change().unwrap();
        // A stranger's key, until the node knows that it is the hub's.
        assert_eq!(ask(lasting(address, client.clone())).await.code(), Code::PermissionDenied);
        keyring.change(old.1, hub.fingerprint());
        let said = ask(lasting(address, client.clone())).await;
        assert_eq!((said.code(), said.message()), (Code::Unknown, hub.fingerprint().to_string().as_str()));
        let said = ask(open.clone()).await;
        assert_eq!((said.code(), said.message()), (Code::Unknown, first.to_string().as_str()), "it is still open");
        // Whoever has a copy of the old key gets no new connection.
        old_hub.expect(vec![node.fingerprint()]);
        let late = lasting(address, old_hub.clone());
        assert!(HealthClient::new(late).check(HealthCheckRequest::default()).await.is_err());
    }
    let quiet = tokio::time::timeout(Duration::from_millis(50), stream.message()).await;
    assert!(quiet.is_err(), "the stream is open: {quiet:?}");
    keyring.set([]);
    let ended = tokio::time::timeout(SOON, stream.message()).await.expect("the stream ends");
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
}

/// Connections of strangers that a port serves at a time.
const STRANGERS: usize = 16;

#[tokio::test]
async fn strangers_keep_no_trusted_key_out() {
    let (node, hub) = (key(), key());
    let rights = Rights { keyring: Keyring::default(), for_strangers: &["/for.Strangers/"] };
    rights.keyring.set([hub.public().fingerprint()]);
    let tls = TlsServer::new(Arc::clone(&node), Policy::PlainOnLoopback).unwrap().with_rights(rights);
    let address = serve(tls).await;
    let mut strangers = Vec::new();
    for _ in 0..300 {
        let tls = TlsClient::new(key(), vec![node.public().fingerprint()]).unwrap();
        let Ok(stream) = TcpStream::connect(address).await else { continue };
        let Ok(stream) = tls.connect(stream).await else { continue };
        strangers.push(stream);
    }
    // A stranger that is one too many is cut off without an answer.
    let read = strangers.iter_mut().map(|stream| async {
        let mut byte = [0];
        let cut = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut byte)).await;
        cut.is_err()
    });
    let open = futures_util::future::join_all(read).await.into_iter().filter(|open| *open).count();
    assert!(open <= STRANGERS, "{open} strangers are served");
    assert_eq!(ask(channel(address, &hub, &node).await.unwrap()).await.code(), Code::Unknown, "the hub is served");
}

/// Scrapers whose only token is "good".
struct OneToken;

impl Scrapers for OneToken {
    fn admit(&self, token: &str) -> bool {
        token == "good"
    }
}

/// Connects with TLS as programs that are not of Meowlink do: without a key, and with the certificate and its name.
async fn connect_without_key(address: SocketAddr, node: &Key) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate_pem(node).unwrap().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(CERTIFICATE_NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test]
async fn clients_without_a_key_have_the_places_of_strangers_and_hubs_are_served() {
    let (node, hub) = (key(), key());
    let rights = Rights { keyring: Keyring::default(), for_strangers: &["/for.Strangers/"] };
    rights.keyring.set([hub.public().fingerprint()]);
    let tls = TlsServer::with_scrapers(Arc::clone(&node), Policy::PlainOnLoopback, Arc::new(OneToken)).unwrap();
    let address = serve(tls.with_rights(rights)).await;
    for (path, token, status) in [
        ("/metrics", "good", "HTTP/1.1 200"),
        ("/metrics", "bad", "HTTP/1.1 401"),
        ("/for.Strangers/Call", "good", "HTTP/1.1 403"),
        ("/", "good", "HTTP/1.1 403"),
    ] {
        let mut stream = connect_without_key(address, &node).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A connection may end without the farewell of TLS.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends");
        assert!(answer.starts_with(status.as_bytes()), "{path}: {}", String::from_utf8_lossy(&answer));
    }

    let mut open = Vec::new();
    for _ in 0..100 {
        open.extend(connect_without_key(address, &node).await.ok());
    }
    let cut = open.iter_mut().map(|stream| async {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(2), stream.read(&mut byte)).await.is_ok()
    });
    let served = futures_util::future::join_all(cut).await.into_iter().filter(|cut| !cut).count();
    assert!((1..=STRANGERS).contains(&served), "{served} clients without a key are served");
    assert_eq!(ask(channel(address, &hub, &node).await.unwrap()).await.code(), Code::Unknown, "the hub is served");
}

/// Half-open connections of the attack.
const HALF_OPEN: usize = 2000;

/// Connections that a port keeps at most (`docs/RELIABILITY.md`).
const KEPT: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_keep_nobody_out() {
    descriptors::raise_limit();
    let (node, hub) = (key(), key());
    let address = start(&node, Policy::PlainOnLoopback).await;
    let mut open = Vec::new();
    for number in 0..HALF_OPEN {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("127.0.0.{}:0", 2 + number % 50).parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // The start of a ClientHello of 512 bytes, or nothing. The server may have cut the connection already.
        let sent = if number % 2 == 0 { &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..] } else { &[] };
        let _ = stream.write_all(sent).await;
        open.push(stream);
        if number % 100 == 99 {
            let channel = tokio::time::timeout(SOON, channel(address, &hub, &node)).await.unwrap().unwrap();
            assert_eq!(ask(channel).await.code(), Code::Unknown, "after {number} half-open handshakes");
        }
    }
    let count = |open: &[TcpStream]| open.iter().filter(|stream| is_open(stream)).count();
    tokio::time::timeout(SOON, async {
        while count(&open) > KEPT {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the server keeps few of them");
    assert_eq!(ask(channel(address, &hub, &node).await.unwrap()).await.code(), Code::Unknown);
}

/// Whether the server has not ended this connection.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 16]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
