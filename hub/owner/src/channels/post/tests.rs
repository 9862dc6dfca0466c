//! Over TLS, with an authority that the test makes.

use std::path::Path;
use std::process::Command;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority (`ca.pem`), and a certificate of it for localhost (`cert.pem`, `key.pem`).
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(at, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=Household"));
    openssl(at, &format!("req {key} -keyout key.pem -out request.pem -subj /CN=localhost"));
    std::fs::write(at.join("names"), "subjectAltName=DNS:localhost").unwrap();
    openssl(
        at,
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile names",
    );
    folder
}

fn trusting(authorities: &[CertificateDer<'static>]) -> Poster {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Poster { client: OnceLock::from(client(config)) }
}

#[tokio::test]
async fn server_is_believed_when_its_authority_is_trusted_and_its_name_is_right() {
    let folder = certificates();
    let read = |name: &str| CertificateDer::from_pem_file(folder.path().join(name)).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![read("cert.pem")], key)
        .unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Whoever does not believe it hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    let (localhost, by_number) = (format!("https://localhost:{port}/"), format!("https://127.0.0.1:{port}/"));
    let post = async |poster: &Poster, url: &str| poster.json(url, [], "{}".into()).await;
    let trusting = (trusting(&[read("ca.pem")]), trusting(&[]));
    post(&trusting.0, &localhost).await.unwrap();
    let stranger = post(&trusting.1, &localhost).await.unwrap_err();
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let impostor = post(&trusting.0, &by_number).await.unwrap_err();
    assert!(impostor.contains("not valid for name"), "{impostor}");
}
