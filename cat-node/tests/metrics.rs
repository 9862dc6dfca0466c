//! `/metrics` of the real node, on the same port as gRPC.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cat_node::config::NodeSettings;
use cat_node::run::run;
use cat_node::source::SourceSpec;
use daemon::shutdown::CancellationToken;
use proto::cat_client::CatClient;
use proto::{AnalyzeCatSoundRequest, CatRequest, DescribeRequest, ListenRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::codegen::{Body as _, Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

/// A node with a synthetic cat and no owner, and the token that stops it.
async fn start() -> (SocketAddr, CancellationToken) {
    start_with(SourceSpec::Synthetic { seed: 1, vocalisations: true }).await
}

async fn start_with(source: SourceSpec) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let config = NodeSettings {
        owner: "http://127.0.0.1:1".parse().unwrap(),
        owner_timeout_ms: 200,
        source,
        cat: "Tom \"the\" cat".into(),
        ..NodeSettings::default()
    };
    tokio::spawn(run(config, vec![listener], stop.clone()));
    (address, stop)
}

async fn channel(node: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{node}")).unwrap().connect().await.unwrap()
}

/// Sends a request over HTTP/1.1. Returns head and body of the answer.
async fn http1(node: SocketAddr, method: &str, path: &str) -> (String, String) {
    send(node, format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes()).await
}

/// Sends a request. Returns head and body of the answer.
async fn send(node: SocketAddr, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(node).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of a sample. Its name includes the labels.
fn value(page: &str, sample: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
    Some(line.rsplit(' ').next()?.parse().unwrap())
}

/// Scrapes until `wanted` accepts the page.
async fn until(node: SocketAddr, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let (_, page) = http1(node, "GET", "/metrics").await;
        if wanted(&page) {
            return page;
        }
        assert!(start.elapsed() < DEADLINE, "not {what}:\n{page}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn page_in_a_browser_cannot_call_the_cat() {
    let (node, _stop) = start().await;
    // The most that a page can do: gRPC over HTTP/1.1, to a host name of its own that resolves to the node.
    let head = "POST /proto.cat/CallCat HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nTE: trailers\r\n\
                Content-Type: application/grpc\r\nContent-Length: 10\r\n\r\n";
    let (head, body) = send(node, &[head.as_bytes(), b"\0\0\0\0\x05\x0a\x03Tom"].concat()).await;
    assert!(head.starts_with("HTTP/1.1 404 ") && body.contains("this port speaks gRPC"), "{head} {body}");
    let (_, page) = http1(node, "GET", "/metrics").await;
    assert!(!page.contains("CallCat"), "the request was counted as a call: {page}");
}

#[tokio::test]
async fn page_is_served_to_http_1_and_to_http_2() {
    let (node, _stop) = start().await;
    let (head, page) = http1(node, "GET", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(
        page.ends_with('\n') && page.contains("\nmeowlink_node_info{cat=\"Tom \\\"the\\\" cat\",boot_id=\""),
        "{page}"
    );
    let (head, body) = http1(node, "HEAD", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}\n{body}");

    let mut channel = channel(node).await;
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let request = http::Request::get(format!("http://{node}/metrics")).body(Body::empty()).unwrap();
    let answer = channel.call(request).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    let mut body = std::pin::pin!(answer.into_body());
    let first = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"# HELP meowlink_node_"), "{first:?}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_json() {
    let (node, _stop) = start().await;
    for path in ["/", "/proto.cat/Describe", "/metrics/", "/favicon.ico"] {
        let (head, body) = http1(node, "GET", path).await;
        assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("application/json"), "{path}: {head}");
        assert!(
            body.starts_with("{\"error\":{\"code\":\"not_found\",\"message\":\"") && body.ends_with("}}\n"),
            "{body}"
        );
    }
    let (head, body) = http1(node, "POST", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET,HEAD"), "{head}");
    assert!(body.contains("method_not_allowed"), "{body}");
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code() {
    let (node, stop) = start().await;
    let mut client = CatClient::new(channel(node).await);
    let counted = |method: &str, code: &str| format!("meowlink_node_rpcs_total{{method=\"{method}\",code=\"{code}\"}}");
    for _ in 0..3 {
        client.describe(DescribeRequest::default()).await.unwrap();
    }
    client.call_cat(CatRequest { cat_name: "Tom".into(), ..CatRequest::default() }).await.unwrap_err();
    client.listen(ListenRequest { frame_ms: 21, ..ListenRequest::default() }).await.unwrap_err();
    HealthClient::new(channel(node).await).check(HealthCheckRequest::default()).await.unwrap();
    let mut listening = client.listen(ListenRequest::default()).await.unwrap().into_inner();
    listening.message().await.unwrap().unwrap();
    let page = until(node, "counted", |page| value(page, "meowlink_node_subscribers") == Some(1.0)).await;
    for (method, code, count) in [
        ("proto.cat/Describe", "OK", 3.0),
        ("proto.cat/CallCat", "UNAVAILABLE", 1.0),
        ("proto.cat/Listen", "INVALID_ARGUMENT", 1.0),
        ("grpc.health.v1.Health/Check", "OK", 1.0),
    ] {
        assert_eq!(value(&page, &counted(method, code)), Some(count), "{method} {code}\n{page}");
    }
    assert_eq!(value(&page, "meowlink_node_rpcs_in_flight{method=\"proto.cat/Listen\"}"), Some(1.0));
    assert_eq!(value(&page, "meowlink_node_rpc_seconds_count{method=\"proto.cat/Describe\"}"), Some(3.0));
    assert_eq!(value(&page, "meowlink_node_owner_failures_total"), Some(1.0));
    assert_eq!(value(&page, "meowlink_node_owner_seconds_count"), Some(1.0));

    // A call whose client hangs up is counted as cancelled.
    drop(listening);
    let cancelled = counted("proto.cat/Listen", "CANCELLED");
    until(node, "hung up", |page| value(page, &cancelled) == Some(1.0)).await;
    // Every method of the service is counted by name.
    drop(client.analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap());
    let cancelled = counted("proto.cat/AnalyzeCatSound", "CANCELLED");
    let page = until(node, "hung up", |page| value(page, &cancelled) == Some(1.0)).await;
    assert!(!page.contains("method=\"other\""), "{page}");
    stop.cancel();
}

#[tokio::test]
async fn audio_shows_in_the_figures() {
    let (node, _stop) = start().await;
    let page = until(node, "capturing", |page| {
        value(page, "meowlink_node_source_state{state=\"capturing\"}") == Some(1.0)
            && value(page, "meowlink_node_level_rms_dbfs") > Some(-120.0)
    })
    .await;
    assert_eq!(value(&page, "meowlink_node_source_state{state=\"no_device\"}"), Some(0.0));
    let frames = value(&page, "meowlink_node_frames_captured_total").unwrap();
    assert!(frames >= 50.0, "a level takes a second: {page}");
    assert!(value(&page, "meowlink_node_tape_frames").unwrap() >= frames);
    assert!(value(&page, "meowlink_node_tape_bytes").unwrap() > 0.0);
    assert!(value(&page, "meowlink_node_last_frame_age_seconds").unwrap() < DEADLINE.as_secs_f64());
    assert!(value(&page, "meowlink_node_ring_seconds").unwrap() > 0.0);
    assert_eq!(value(&page, "meowlink_node_frames_lost_total{reason=\"overrun\"}"), Some(0.0));
    until(node, "going on", |page| value(page, "meowlink_node_frames_captured_total") > Some(frames)).await;
}

#[tokio::test]
async fn frame_that_never_came_has_no_age() {
    let (node, _stop) = start_with("microphone:no-such-device".parse().unwrap()).await;
    let no_device = "meowlink_node_source_state{state=\"no_device\"}";
    let page = until(node, "a microphone that does not exist", |page| value(page, no_device) == Some(1.0)).await;
    assert!(!page.contains("meowlink_node_last_frame_age_seconds"), "{page}");
}

#[tokio::test]
async fn reflection_still_answers_beside_it() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};
    let (node, _stop) = start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel(node).await);
    let requests = futures_util::stream::once(std::future::ready(request));
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            assert!(list.service.iter().any(|service| service.name == "proto.cat"), "{list:?}");
        }
        other => panic!("{other:?}"),
    }
}
