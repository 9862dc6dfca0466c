//! Handshakes between programs that know each other, and with programs that pretend to be known.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::{HandshakeKey, NoClock, certificate};
use super::peer_certificate::{Any, Expected, key_in};
use super::*;
use crate::identity::{Fingerprint, Key};
use crate::opening::{Opening, PeerKey};

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

/// An address that is not loopback.
const ELSEWHERE: &str = "192.0.2.1:40000";

fn key() -> Arc<Key> {
    Arc::new(Key::generate().unwrap().0)
}

fn fingerprint(key: &Key) -> Fingerprint {
    key.public().fingerprint()
}

async fn connected() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, peer) = listener.accept().await.unwrap();
    (client, server, peer)
}

/// What a handshake comes to: the client's key as the server sees it, and whether a byte reaches the client.
struct Outcome {
    server: io::Result<Option<PeerKey>>,
    client: io::Result<u8>,
}

/// A client and a server talk. The server is the one of the product or another one.
async fn talk(client: TlsConnector, server: &TlsServer) -> Outcome {
    let (client_end, server_end, peer) = connected().await;
    let served = async {
        let (mut stream, key) = server.open(server_end, peer).await?;
        stream.write_all(b"m").await?;
        stream.shutdown().await?;
        Ok(key)
    };
    let name = ServerName::try_from("meowlink").unwrap();
    let asked = async { client.connect(name, client_end).await?.read_u8().await };
    let (server, client) = tokio::time::timeout(SOON, async { tokio::join!(served, asked) }).await.unwrap();
    Outcome { server, client }
}

/// What a peer shows: a certificate of some years, and a key to sign with, which may be another one.
fn shown(of: &Key, years: (i32, i32), signs: &Arc<Key>) -> Arc<SingleCertAndKey> {
    let certificate = certificate(of, years).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], Arc::new(HandshakeKey(Arc::clone(signs))))))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn client(
    shows: Option<Arc<SingleCertAndKey>>,
    expects: Fingerprint,
    version: &'static SupportedProtocolVersion,
) -> TlsConnector {
    let expected = Expected { fingerprints: Some(Arc::new(vec![expects].into())), algorithms: algorithms() };
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(NoClock))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(expected));
    let mut config = match shows {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

const NOW: (i32, i32) = (2000, 2100);

#[tokio::test]
async fn server_learns_which_key_its_client_holds() {
    let (node, hub) = (key(), key());
    let server = TlsServer::new(Arc::clone(&node), Policy::TlsOnly).unwrap();
    let paired = TlsClient::new(Arc::clone(&hub), vec![fingerprint(&key()), fingerprint(&node)]).unwrap();
    let (client_end, server_end, peer) = connected().await;
    let (served, asked) = tokio::join!(server.open(server_end, peer), paired.connect(client_end));
    let ((mut served, peer_key), mut asked) = (served.unwrap(), asked.unwrap());
    assert_eq!(peer_key, Some(PeerKey(hub.public())));
    asked.write_all(b"meow").await.unwrap();
    asked.flush().await.unwrap();
    let mut said = [0; 4];
    served.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"meow");
    let connection = asked.get_ref().1;
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[tokio::test]
async fn each_connection_proves_its_key_again() {
    let (node, hub) = (key(), key());
    let server = TlsServer::new(Arc::clone(&node), Policy::TlsOnly).unwrap();
    // A client that would resume its session.
    let expected = Expected { fingerprints: Some(Arc::new(vec![fingerprint(&node)].into())), algorithms: algorithms() };
    let config = ClientConfig::builder_with_details(provider(), Arc::new(NoClock))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(expected))
        .with_client_cert_resolver(shown(&hub, NOW, &hub));
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let (client_end, server_end, peer) = connected().await;
        let name = ServerName::try_from("meowlink").unwrap();
        let (served, asked) = tokio::join!(server.open(server_end, peer), connector.connect(name, client_end));
        let ((mut served, _), mut asked) = (served.unwrap(), asked.unwrap());
        served.write_all(b"m").await.unwrap();
        assert_eq!(asked.read_u8().await.unwrap(), b'm');
        assert_eq!(asked.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn server_with_another_key_is_refused() {
    let (node, impostor, hub) = (key(), key(), key());
    let server = TlsServer::new(Arc::clone(&impostor), Policy::TlsOnly).unwrap();
    let (client_end, server_end, peer) = connected().await;
    let paired = TlsClient::new(hub, vec![fingerprint(&node)]).unwrap();
    let (served, asked) = tokio::join!(server.open(server_end, peer), paired.connect(client_end));
    let error = asked.unwrap_err().to_string();
    let expected = format!("another key than expected; its fingerprint is {}", fingerprint(&impostor));
    assert!(error.contains(&expected), "{error}");
    assert!(served.is_err());
}

#[tokio::test]
async fn server_with_a_copied_certificate_and_without_its_key_is_refused() {
    let (node, impostor, hub) = (key(), key(), key());
    let config = ServerConfig::builder_with_details(provider(), Arc::new(NoClock))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Any { is_key_needed: true, algorithms: algorithms() }))
        .with_cert_resolver(shown(&node, NOW, &impostor));
    let (client_end, server_end, _) = connected().await;
    let paired = TlsClient::new(hub, vec![fingerprint(&node)]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (served, asked) = tokio::join!(acceptor.accept(server_end), paired.connect(client_end));
    let error = asked.unwrap_err().to_string();
    assert!(error.contains("BadSignature") || error.contains("bad signature"), "{error}");
    assert!(served.is_err());
}

#[tokio::test]
async fn client_with_a_copied_certificate_and_without_its_key_is_refused() {
    let (node, impostor, hub) = (key(), key(), key());
    let server = TlsServer::new(Arc::clone(&node), Policy::TlsOnly).unwrap();
    let outcome = talk(client(Some(shown(&hub, NOW, &impostor)), fingerprint(&node), &TLS13), &server).await;
    assert!(outcome.server.is_err() && outcome.client.is_err(), "{:?}", outcome.server);
    // With its key it is accepted.
    let outcome = talk(client(Some(shown(&hub, NOW, &hub)), fingerprint(&node), &TLS13), &server).await;
    assert_eq!(outcome.server.unwrap(), Some(PeerKey(hub.public())));
    assert_eq!(outcome.client.unwrap(), b'm');
}

#[tokio::test]
async fn client_without_a_key_is_refused() {
    let node = key();
    let server = TlsServer::new(Arc::clone(&node), Policy::PlainEverywhere).unwrap();
    let outcome = talk(client(None, fingerprint(&node), &TLS13), &server).await;
    assert!(outcome.server.is_err() && outcome.client.is_err(), "{:?}", outcome.server);
}

#[tokio::test]
async fn keys_of_another_kind_are_refused() {
    // A certificate over an ECDSA key, made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256`.
    let ecdsa = CertificateDer::from(include_bytes!("tests/ecdsa.der").as_slice());
    let error = key_in(&ecdsa).unwrap_err().to_string();
    assert!(error.contains("not an Ed25519 key"), "{error}");
    for broken in [&b""[..], b"junk", &ecdsa[..100]] {
        assert!(key_in(&CertificateDer::from(broken)).is_err());
    }
}

#[tokio::test]
async fn dates_mean_nothing() {
    let (node, hub) = (key(), key());
    for years in [(1950, 1951), (1970, 1970), (2200, 2201), (9998, 9999)] {
        let server = TlsServer::new(Arc::clone(&node), Policy::TlsOnly).unwrap();
        let outcome = talk(client(Some(shown(&hub, years, &hub)), fingerprint(&node), &TLS13), &server).await;
        assert_eq!(outcome.server.unwrap(), Some(PeerKey(hub.public())), "{years:?}");
        assert_eq!(outcome.client.unwrap(), b'm');

        let config = ServerConfig::builder_with_details(provider(), Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Any { is_key_needed: true, algorithms: algorithms() }))
            .with_cert_resolver(shown(&node, years, &node));
        let (client_end, server_end, _) = connected().await;
        let paired = TlsClient::new(Arc::clone(&hub), vec![fingerprint(&node)]).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (served, asked) = tokio::join!(acceptor.accept(server_end), paired.connect(client_end));
        assert!(served.is_ok() && asked.is_ok(), "{years:?}");
    }
}

#[tokio::test]
async fn older_tls_is_refused() {
    let (node, hub) = (key(), key());
    let server = TlsServer::new(Arc::clone(&node), Policy::PlainEverywhere).unwrap();
    let outcome = talk(client(Some(shown(&hub, NOW, &hub)), fingerprint(&node), &TLS12), &server).await;
    let error = outcome.client.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    assert!(outcome.server.is_err());
}

#[tokio::test]
async fn plain_connections_are_accepted_where_the_policy_says_so() {
    for (policy, on_loopback, elsewhere) in
        [(Policy::TlsOnly, false, false), (Policy::PlainOnLoopback, true, false), (Policy::PlainEverywhere, true, true)]
    {
        let server = TlsServer::new(key(), policy).unwrap();
        for (from, accepted) in
            [("127.0.0.1:9", on_loopback), ("[::ffff:127.0.0.1]:9", on_loopback), (ELSEWHERE, elsewhere)]
        {
            let (mut client, server_end, _) = connected().await;
            client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
            let opened = server.open(server_end, from.parse().unwrap()).await;
            assert_eq!(opened.is_ok(), accepted, "{policy:?}, {from}");
            let Ok((mut stream, key)) = opened else { continue };
            assert_eq!(key, None);
            // The first byte is still there.
            assert_eq!(stream.read_u8().await.unwrap(), b'P');
        }
        // TLS is accepted from everywhere.
        let (client_end, server_end, _) = connected().await;
        let hub = key();
        let node = server_key(&server, &hub).await;
        let paired = TlsClient::new(Arc::clone(&hub), vec![node]).unwrap();
        let (served, asked) =
            tokio::join!(server.open(server_end, ELSEWHERE.parse().unwrap()), paired.connect(client_end));
        assert_eq!(served.unwrap().1, Some(PeerKey(hub.public())));
        asked.unwrap();
    }
}

/// The fingerprint of a server, as its refusal by a client that expects another one says it.
async fn server_key(server: &TlsServer, hub: &Arc<Key>) -> Fingerprint {
    let (client_end, server_end, peer) = connected().await;
    let curious = TlsClient::new(Arc::clone(hub), Vec::new()).unwrap();
    let (_, asked) = tokio::join!(server.open(server_end, peer), curious.connect(client_end));
    let error = asked.unwrap_err().to_string();
    let digits = error.split(|character: char| !character.is_ascii_hexdigit()).find(|word| word.len() == 64);
    digits.expect("the refusal names the fingerprint").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_do_not_go_on_end_in_time() {
    let (node, hub) = (key(), key());
    let server = TlsServer::new(Arc::clone(&node), Policy::PlainEverywhere).unwrap();
    let hello = hello(&hub, fingerprint(&node)).await;
    for sent in [&b""[..], &[0x16], &hello[..hello.len() / 2], &hello] {
        let (mut client, server_end, peer) = connected().await;
        client.write_all(sent).await.unwrap();
        let start = tokio::time::Instant::now();
        let error = server.open(server_end, peer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{} bytes", sent.len());
        assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
    }
    // A server that says nothing.
    let (client, _silent, _) = connected().await;
    let paired = TlsClient::new(hub, vec![fingerprint(&node)]).unwrap();
    assert_eq!(paired.connect(client).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// What a client sends first.
async fn hello(hub: &Arc<Key>, expects: Fingerprint) -> Vec<u8> {
    let (client_end, mut server_end, _) = connected().await;
    let paired = TlsClient::new(Arc::clone(hub), vec![expects]).unwrap();
    let asking = tokio::spawn(async move { paired.connect(client_end).await.map(|_| ()) });
    let mut header = [0; 5];
    server_end.read_exact(&mut header).await.unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    server_end.read_exact(&mut hello).await.unwrap();
    asking.abort();
    [&header[..], &hello].concat()
}

#[test]
fn certificate_is_the_same_at_each_start() {
    let key = key();
    assert_eq!(certificate(&key, NOW).unwrap(), certificate(&key, NOW).unwrap());
    assert_eq!(key_in(&certificate(&key, NOW).unwrap()).unwrap(), key.public());
}
