//! HTTP/1.1 over a plain socket, so that a test sees every byte that curl would see.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::within;

/// Longer than any deadline in the daemons.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Names, in lower case, and values, in the order they came.
    pub headers: Vec<(String, String)>,
    /// All bytes after the headers, until the server closed the connection.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first header with this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// GETs a path, which is sent as it is written here.
///
/// # Panics
/// As [`exchange`].
pub async fn get(server: SocketAddr, path: &str) -> Answer {
    exchange(server, "GET", path).await
}

/// Sends one request and reads the answer until the server closes the connection.
///
/// # Panics
/// If the server cannot be reached, does not answer in HTTP, or takes longer than half a minute.
pub async fn exchange(server: SocketAddr, method: &str, path: &str) -> Answer {
    within(ANSWER_DEADLINE, &format!("{method} {path}"), async {
        try_exchange(server, method, path).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    })
    .await
}

/// GETs a path with the token of a program.
///
/// # Panics
/// As [`exchange`].
pub async fn get_with_token(server: SocketAddr, path: &str, token: &str) -> Answer {
    within(ANSWER_DEADLINE, &format!("GET {path}"), async {
        let sent = send(server, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), "").await;
        sent.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    })
    .await
}

/// PUTs JSON to a path.
///
/// # Panics
/// As [`exchange`].
pub async fn put_json(server: SocketAddr, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    within(ANSWER_DEADLINE, &format!("PUT {path}"), async {
        let sent = send(server, &format!("PUT {path} HTTP/1.1\r\n{headers}"), &body).await;
        sent.unwrap_or_else(|error| panic!("PUT {path}: {error}"))
    })
    .await
}

/// As [`exchange`], for a server that may not be running.
///
/// # Errors
/// If the connection fails, or the answer is not HTTP.
pub async fn try_exchange(server: SocketAddr, method: &str, path: &str) -> std::io::Result<Answer> {
    send(server, &format!("{method} {path} HTTP/1.1\r\n"), "").await
}

async fn send(server: SocketAddr, head: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(format!("{head}Host: {server}\r\nConnection: close\r\n\r\n{body}").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("not HTTP: {}", String::from_utf8_lossy(&bytes)))
    })
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers = lines
        .map(|line| line.split_once(':').map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned())))
        .collect::<Option<_>>()?;
    Some(Answer { status, headers, body: bytes[end + 4..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_parsed() {
        let answer = parse(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\r\n\r\nsuch").unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (404, Some("text/plain")));
        assert_eq!(answer.text(), "no\r\n\r\nsuch");
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [&b"HTTP/1.1 200 OK\r\n"[..], b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert!(parse(bytes).is_none());
        }
    }
}
