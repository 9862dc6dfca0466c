//! How late audio from a node reaches the hub.

use std::time::Duration;

use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::{SOON, within};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{SETTLE, percentile};

/// How old the first sample of a message is when the hub's analysis gets it, in milliseconds.
pub(crate) struct Lateness {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) frames: usize,
}

/// Starts a node, and a hub that asks it for messages of `frame_ms`. The hub reports how old the last sample of a
/// message was when its analysis got it, five times per second, rounded down to milliseconds. This rounds up, and adds
/// the length of the message.
pub(crate) async fn measure(source: &str, frame_ms: u32, seconds: u64) -> Lateness {
    let node = Node::start(NodeOptions { source: source.into(), ..NodeOptions::new("http://127.0.0.1:1") }).await;
    let config = format!("[listen]\nframe_ms = {frame_ms}\n");
    let hub = Hub::start_with_config(Addresses::free(), &[("Tom", &node.url())], &config).await;
    tokio::time::sleep(SETTLE).await;
    let mut stream = TcpStream::connect(hub.at.http).await.expect("the hub accepts a connection");
    let request = format!("GET /api/v1/stream?kinds=level HTTP/1.1\r\nHost: {}\r\n\r\n", hub.at.http);
    stream.write_all(request.as_bytes()).await.expect("the hub reads the request");
    let mut lines = BufReader::new(stream).lines();
    let mut late_ms = Vec::new();
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    while tokio::time::Instant::now() < end {
        let line =
            within(SOON, "the hub sends a level", lines.next_line()).await.unwrap().expect("the stream continues");
        if let Some(data) = line.strip_prefix("data: ") {
            let level: serde_json::Value = serde_json::from_str(data).expect("a level in JSON");
            late_ms.push(level["lag_ms"].as_f64().expect("a lag") + 1.0 + f64::from(frame_ms));
        }
    }
    late_ms.sort_by(f64::total_cmp);
    Lateness { p50_ms: percentile(&late_ms, 0.5), p99_ms: percentile(&late_ms, 0.99), frames: late_ms.len() }
}
