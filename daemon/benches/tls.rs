//! What TLS costs: handshakes a second, and live streams a core next to plain ones in the same run.
//!
//! `cargo bench -p daemon --bench tls`. Client and server run on one core, and the CPU time of both counts.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // It is run by hand.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use daemon::grpc::{self, Services};
use daemon::identity::Key;
use daemon::metrics::{Calls, Meter};
use daemon::opening::{Opening, Plain};
use daemon::shutdown::CancellationToken;
use daemon::tls::{Policy, TlsClient, TlsServer};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service};
use tonic::server::NamedService;
use tonic_health::server::health_reporter;

const HANDSHAKES: u32 = 1000;

/// Messages of one measurement, and bytes of one: 100 ms of audio, as a node sends it.
const MESSAGES: u32 = 5_000;
const MESSAGE_BYTES: usize = 3_240;

/// Messages a second of a live stream.
const RATE: f64 = 10.0;

/// The aim: streams a core with TLS, in percent of plain ones.
const AIM_PERCENT: f64 = 85.0;

/// Measurements of each kind, of which the best counts.
const ROUNDS: usize = 5;

/// One answer with the messages that the receiver gives.
#[derive(Clone)]
struct Streams(Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>);

impl NamedService for Streams {
    const NAME: &'static str = "grpc.health.v2.Health";
}

impl Service<Request<Body>> for Streams {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let messages = self.0.lock().unwrap().take().unwrap();
        ready(Ok(Response::new(Body::new(Messages(messages)))))
    }
}

struct Messages(mpsc::Receiver<Bytes>);

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.poll_recv(cx).map(|message| message.map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

async fn serve(opening: impl Opening) -> (SocketAddr, mpsc::Sender<Bytes>, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let (sender, receiver) = mpsc::channel(1);
    let (_, health) = health_reporter();
    let meter = Meter::new(
        Arc::new(Calls::new(["grpc.health.v2.Health/Listen"])),
        Arc::new(|| Box::pin(async { String::new() })),
    );
    let service = Streams(Arc::new(Mutex::new(Some(receiver))));
    let descriptors = tonic_health::pb::FILE_DESCRIPTOR_SET;
    tokio::spawn(grpc::serve(
        Services::only(service),
        health,
        descriptors,
        meter,
        vec![listener],
        opening,
        stop.clone(),
    ));
    (address, sender, stop)
}

/// Sends messages one by one, each after the one before has arrived, as a live stream does. Returns streams a core.
async fn streams(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, sender: mpsc::Sender<Bytes>) -> f64 {
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://node/grpc.health.v2.Health/Listen").header("content-type", "application/grpc");
    let answer = client.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
    assert!(!answer.headers().contains_key("grpc-status"), "the call is refused: {answer:?}");
    let mut answer = answer.into_body();
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let start = cpu();
    for _ in 0..MESSAGES {
        sender.send(message.clone()).await.unwrap();
        let mut arrived = 0;
        while arrived < MESSAGE_BYTES {
            let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await.unwrap().unwrap();
            arrived += frame.into_data().unwrap().len();
        }
    }
    f64::from(MESSAGES) / (cpu() - start).as_secs_f64() / RATE
}

async fn handshakes(server: &TlsServer, client: &TlsClient) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let start = cpu();
    for _ in 0..HANDSHAKES {
        let dialled = TcpStream::connect(address).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let (served, asked) = tokio::join!(server.open(accepted, peer), client.connect(dialled));
        served.unwrap();
        asked.unwrap();
    }
    f64::from(HANDSHAKES) / (cpu() - start).as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (node, hub) = (Arc::new(Key::generate().unwrap().0), Arc::new(Key::generate().unwrap().0));
    let server = TlsServer::new(Arc::clone(&node), Policy::PlainOnLoopback).unwrap();
    let client = TlsClient::new(hub, vec![node.public().fingerprint()]).unwrap();
    let (mut shaken, mut plain, mut secured) = (0_f64, 0_f64, 0_f64);
    for _ in 0..ROUNDS {
        shaken = shaken.max(handshakes(&server, &client).await);
        let (address, sender, stop) = serve(Plain).await;
        plain = plain.max(streams(TcpStream::connect(address).await.unwrap(), sender).await);
        stop.cancel();
        let (address, sender, stop) = serve(server.clone()).await;
        let stream = client.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
        secured = secured.max(streams(stream, sender).await);
        stop.cancel();
    }
    println!("handshakes a second of one core, both sides: {shaken:.0}");
    let share = 100.0 * secured / plain;
    let word = if share >= AIM_PERCENT { "met" } else { "MISSED" };
    println!("live streams a core, both sides: plain {plain:.0}, TLS {secured:.0}");
    println!("streams a core with TLS: {share:.0} % of plain, aim at least {AIM_PERCENT} %: {word}");
}
