//! Servers that answer anything.

use fuzzing::{hold, nearly};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Longer than any answer takes on a machine that is not stuck.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn retry_after_is_a_time_to_come_or_nothing() {
    let seeds = ["120", "Sun, 06 Nov 1994 08:50:37 GMT", " 0 "].map(|seed| seed.as_bytes().to_vec());
    let words = ["18446744073709551615", "9999", "-", "+", "GMT", "Sun", ":60", "\t", "e9"];
    hold(3_000, &(nearly(seeds.to_vec(), &words), any::<u32>()), |(value, seconds)| {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
        let _ = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now);
        Ok(())
    });
}

#[test]
fn any_answer_of_a_server_is_a_success_or_a_failure_with_a_short_reason() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seeds = [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 410 Gone\r\ncontent-length: 5\r\n\r\nmoved",
        "HTTP/1.1 429 Too Many Requests\r\nretry-after: 90\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwait\r\n0\r\n\r\n",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec()).to_vec();
    let words =
        ["\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "content-length: 99999999999\r\n", "ffffffff", "\n\u{1b}[31m"];
    let (listener, poster) = runtime.block_on(async {
        (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Poster { client: OnceLock::from(client(tls::client_config())) },
        )
    });
    let url = format!("http://{}/", listener.local_addr().unwrap());
    hold(500, &nearly(seeds, &words), |answer| {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            // An error means that the hub has hung up already.
            let _ = stream.write_all(&answer).await;
        };
        let post = poster.json(&url, [], "{}".into());
        let both = async { tokio::join!(serve, tokio::time::timeout(SOON, post)).1 };
        let posted = runtime.block_on(both);
        let Ok(posted) = posted else { return Err(TestCaseError::fail("the hub waits for ever")) };
        if let Err(failure) = posted {
            prop_assert!(!failure.reason.is_empty() && failure.reason.len() < 4 * MAX_REASON_BYTES, "{failure:?}");
        }
        Ok(())
    });
}
