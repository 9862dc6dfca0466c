//! Over TLS, with a certificate authority that the test makes; and against servers that refuse.

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Household, client_trusting};

fn trusting(authorities: &[CertificateDer<'static>]) -> Poster {
    Poster { client: OnceLock::from(client(client_trusting(authorities))) }
}

#[tokio::test]
async fn server_is_trusted_if_its_authority_is_and_its_name_matches() {
    let household = Household::new();
    let acceptor = TlsAcceptor::from(Arc::new(household.server()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the server hangs up.
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
    let trusting = (trusting(&[household.authority()]), trusting(&[]));
    post(&trusting.0, &localhost).await.unwrap();
    let stranger = post(&trusting.1, &localhost).await.unwrap_err();
    assert!(stranger.reason.contains("UnknownIssuer"), "{stranger:?}");
    let impostor = post(&trusting.0, &by_number).await.unwrap_err();
    assert!(impostor.reason.contains("not valid for name"), "{impostor:?}");
}

/// A server that gives every request this answer, and the failure that the answer is taken for.
async fn failure(answer: &'static str) -> DeliveryFailure {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    let failure = Poster::default().json(&url, [], "{}".into()).await.unwrap_err();
    served.await.unwrap();
    failure
}

#[tokio::test]
async fn refusal_has_the_words_and_the_wait_of_the_server() {
    let gone = failure("HTTP/1.1 410 Gone\r\ncontent-length: 5\r\n\r\nmoved").await;
    assert_eq!(gone, DeliveryFailure::permanent("the server answered 410 Gone: moved"));
    let busy = failure("HTTP/1.1 429 Too Many Requests\r\nretry-after: 90\r\ncontent-length: 0\r\n\r\n").await;
    let expected = DeliveryFailure::temporary("the server answered 429 Too Many Requests");
    assert_eq!(busy, DeliveryFailure { retry_after: Some(Duration::from_secs(90)), ..expected });
    let silent = failure("").await;
    assert!(!silent.is_final && !silent.reason.contains("os error"), "{silent:?}");
}

#[tokio::test]
async fn server_that_is_down_is_said_in_plain_words() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = Poster::default().json(&format!("http://{address}/"), [], "{}".into()).await.unwrap_err();
    assert_eq!(failure, DeliveryFailure::temporary("connection refused"));
}

#[test]
fn statuses_that_never_change_are_final() {
    let is_final = |code: &u16| refusal(StatusCode::from_u16(*code).unwrap(), "").is_final;
    let never_change = [400, 405, 410, 411, 413, 414, 415, 422, 451];
    assert_eq!(never_change.iter().filter(|code| !is_final(code)).count(), 0);
    let may_change = [301, 302, 308, 401, 403, 404, 407, 408, 409, 421, 423, 425, 429, 500, 501, 502, 503, 504];
    assert_eq!(may_change.iter().filter(|code| is_final(code)).count(), 0);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    for (value, wait) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("Sun, 06 Nov 1994 08:49:36 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ] {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
        assert_eq!(retry_after(&headers, now), wait.map(Duration::from_secs), "{value}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}
