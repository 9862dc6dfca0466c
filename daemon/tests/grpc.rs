//! The gRPC port, with clients that compress, that wait for a while only, and that send half a request.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::grpc::{self, Services};
use daemon::metrics::{Calls, Meter};
use daemon::opening::Plain;
use daemon::shutdown::CancellationToken;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::{BoxFuture, Bytes, Service};
use tonic::server::NamedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::health_reporter;

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

/// A service that reads a request and never answers.
#[derive(Debug, Clone)]
struct Hangs;

impl NamedService for Hangs {
    const NAME: &'static str = "grpc.health.v2.Health";
}

impl Service<Request<Body>> for Hangs {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut body = request.into_body();
        Box::pin(async move {
            let mut read = Vec::new();
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                match frame {
                    Ok(frame) => read.extend(frame.into_data()),
                    Err(status) => return Ok(status.into_http()),
                }
            }
            std::future::pending().await
        })
    }
}

async fn start() -> (SocketAddr, Channel) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = health_reporter();
    let meter = Meter::new(
        Arc::new(Calls::new(["grpc.health.v1.Health/Check"])),
        Arc::new(|| Box::pin(async { String::new() })),
    );
    let descriptors = tonic_health::pb::FILE_DESCRIPTOR_SET;
    tokio::spawn(grpc::serve(
        Services::only(Hangs),
        health,
        descriptors,
        meter,
        vec![listener],
        Plain,
        CancellationToken::new(),
    ));
    (address, Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
}

fn unnamed() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

#[tokio::test]
async fn compressed_requests_are_accepted() {
    let (_, channel) = start().await;
    let mut client = HealthClient::new(channel).send_compressed(CompressionEncoding::Gzip);
    client.check(unnamed()).await.unwrap();
}

#[tokio::test]
async fn compressed_requests_are_bounded_after_decompression() {
    let (_, channel) = start().await;
    let mut client = HealthClient::new(channel).send_compressed(CompressionEncoding::Gzip);
    let bomb = HealthCheckRequest { service: "a".repeat(grpc::MAX_REQUEST_BYTES + 1) };
    assert_eq!(client.check(bomb).await.unwrap_err().code(), Code::ResourceExhausted);
}

/// A client that does not heed its own deadline: it shows what the server says.
async fn raw(address: SocketAddr) -> SendRequest<Body> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(path: &str) -> http::request::Builder {
    Request::builder().method("POST").uri(format!("http://h{path}")).header("content-type", "application/grpc")
}

async fn code(answer: impl Future<Output = hyper::Result<Response<hyper::body::Incoming>>>) -> Code {
    let answer = tokio::time::timeout(SOON, answer).await.expect("an answer").unwrap();
    Status::from_header_map(answer.headers()).expect("a status without a message").code()
}

#[tokio::test]
async fn deadline_that_passes_is_deadline_exceeded() {
    let (address, _) = start().await;
    let mut client = raw(address).await;
    for (timeout, expected) in [("10m", Code::DeadlineExceeded), ("soon", Code::InvalidArgument)] {
        let request = request("/grpc.health.v2.Health/Check").header("grpc-timeout", timeout).body(Body::empty());
        assert_eq!(code(client.send_request(request.unwrap())).await, expected, "{timeout}");
    }
}

/// The start of a message, whose rest never comes.
struct HalfSent(Option<Bytes>);

impl HttpBody for HalfSent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

#[tokio::test]
async fn half_sent_requests_make_room() {
    const CALLS: usize = 128;
    let (address, channel) = start().await;
    let mut clients = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..3 {
        let mut client = raw(address).await;
        for _ in 0..CALLS {
            let body = Body::new(HalfSent(Some(Bytes::from_static(b"\0\0\0\x01\0half"))));
            let call = client.send_request(request("/grpc.health.v1.Health/Check").body(body).unwrap());
            calls.push(tokio::spawn(code(call)));
        }
        clients.push(client);
    }
    // Two thirds fit. Which third ends depends on the order of arrival.
    let ended = || calls.iter().filter(|call| call.is_finished()).count();
    let enough_end = async {
        while ended() < CALLS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, enough_end).await.expect("some make room");
    HealthClient::new(channel).check(unnamed()).await.unwrap();
    // The call above may have needed a place for a moment.
    assert!(ended() <= CALLS + 1, "the others wait");
    for call in calls.into_iter().filter(|call| call.is_finished()) {
        assert_eq!(call.await.unwrap(), Code::ResourceExhausted);
    }
}

/// A whole request in one piece.
struct Sent(Option<Bytes>);

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_and_small_requests_pass() {
    /// A little less than the largest request.
    const BYTES: usize = 60_000;
    const CALLS: usize = 150;
    let (address, channel) = start().await;
    let mut client = raw(address).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let body = Body::new(Sent(Some(Bytes::from(vec![0; BYTES]))));
        calls.spawn(code(client.send_request(request("/grpc.health.v2.Health/Check").body(body).unwrap())));
    }
    // 4 MiB hold 69 of them.
    for _ in 69..CALLS {
        assert_eq!(calls.join_next().await.unwrap().unwrap(), Code::ResourceExhausted);
    }
    HealthClient::new(channel.clone()).check(unnamed()).await.unwrap();
    // Calls that end make room.
    drop((calls, client));
    let large = || HealthCheckRequest { service: "a".repeat(BYTES) };
    tokio::time::timeout(SOON, async {
        while HealthClient::new(channel.clone()).check(large()).await.unwrap_err().code() != Code::NotFound {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("there is room again");
}

mod fuzz {
    use fuzzing::{hold, nearly};
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A frame of HTTP/2.
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// A connection with one call: preface, settings, headers, a message.
    fn call(path: &str, message: &[u8]) -> Vec<u8> {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        // POST, http, and the names :path, :authority and content-type by their numbers in HPACK.
        let headers =
            [&[0x83, 0x86, 0x04][..], &text(path), &[0x01], &text("h"), &[0x0f, 0x10], &text("application/grpc")]
                .concat();
        let length = (message.len() as u32).to_be_bytes();
        let message = [&[0][..], &length, message].concat();
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[]),
            frame(1, 4, 1, &headers),
            frame(0, 1, 1, &message),
        ]
        .concat()
    }

    /// Sends bytes and nothing more, and returns what comes back.
    async fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Errors mean that the server has hung up already.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut answer).await;
        answer
    }

    /// Sends bytes, and reads until there is a call with the status 200 of HTTP.
    async fn until_ok(address: SocketAddr, bytes: &[u8]) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // Headers of stream 1.
        let ok = [1, 4, 0, 0, 0, 1, 0x88];
        let mut answer = Vec::new();
        while !answer.windows(ok.len()).any(|part| part == ok) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
    }

    #[test]
    fn port_ends_every_connection_and_answers_the_next() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (address, channel) = runtime.block_on(start());
        let check = call("/grpc.health.v1.Health/Check", &[]);
        runtime
            .block_on(async { tokio::time::timeout(SOON, until_ok(address, &check)).await })
            .expect("the seed is a call");
        let seeds = vec![
            check,
            call("/grpc.health.v1.Health/Watch", b"\x0a\x01a"),
            call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"\x3a\x01*"),
            b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        ];
        let words = ["\0\0\0\u{4}\u{1}\0\0\0\0", "grpc-timeout", "\u{7f}\u{7f}\u{7f}", "/metrics", "\r\n"];
        hold(300, &nearly(seeds, &words), |bytes| {
            runtime.block_on(async {
                let answered = tokio::time::timeout(SOON, answer(address, &bytes)).await;
                prop_assert!(answered.is_ok(), "the connection stays open");
                let next = tokio::time::timeout(SOON, HealthClient::new(channel.clone()).check(unnamed())).await;
                prop_assert!(matches!(next, Ok(Ok(_))), "the port no longer answers: {next:?}");
                Ok(())
            })
        });
    }
}
