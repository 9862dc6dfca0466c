//! A real hub on free ports, a scripted node and owner, and a minimal HTTP client.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // Each test file uses a part of this module.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::config::{Settings, Variables};
use daemon::shutdown::CancellationToken;
use futures_util::Stream;
use hub::config::HubSettings;
use hub::run::{Listeners, RunError, run};
use hub_base::role::Role;
use proto::cat_server::{Cat, CatServer};
use proto::listen_response::Event;
use proto::owner_server::{Owner, OwnerServer};
use proto::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Code, Request, Response, Status};

/// Longest wait in a test. A longer one counts as a failure; all waits are expected to be much shorter.
pub const SOON: Duration = Duration::from_secs(30);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Listens on an address that a dropped server may not have released yet.
pub async fn rebind(address: SocketAddr) -> TcpListener {
    within("the port is free again", async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{address}: {error}"),
            }
        }
    })
    .await
}

/// An address that no server listens on.
pub async fn nobody() -> SocketAddr {
    listener().await.local_addr().unwrap()
}

// ---------------------------------------------------------------------------------------------------------------- hub

/// A hub in the test's process, started as `main` starts it.
pub struct Hub {
    pub http: SocketAddr,
    pub owner: SocketAddr,
    pub dog: SocketAddr,
    pub analysis: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<Result<(), RunError>>,
}

impl Hub {
    pub async fn start(data_dir: &Path, node_url: &str) -> Self {
        Self::start_with(data_dir, &format!("node = [{node_url:?}]")).await
    }

    /// Starts a hub with a config in TOML, to which the data directory is added.
    pub async fn start_with(data_dir: &Path, toml: &str) -> Self {
        let mut settings: HubSettings = toml::from_str(toml).unwrap();
        settings.data_dir = Some(data_dir.into());
        // The requests name the hub as if they came from the network.
        settings.insecure = true;
        let free = || vec!["127.0.0.1:0".parse().unwrap()];
        (settings.http, settings.owner, settings.dog, settings.analysis) = (free(), free(), free(), free());
        settings.check(&Variables::default()).unwrap();
        let listeners = Listeners::bind(&settings).await.unwrap();
        let at = |listeners: &[TcpListener]| {
            listeners.first().map_or("127.0.0.1:9".parse().unwrap(), |listener| listener.local_addr().unwrap())
        };
        let (http, owner) = (at(&listeners.http), at(&listeners.owner));
        let (dog, analysis) = (at(&listeners.dog), at(&listeners.analysis));
        let serves = settings.has(Role::Gateway);
        let stop = CancellationToken::new();
        let done = tokio::spawn(run(settings, listeners, stop.clone()));
        let hub = Self { http, owner, dog, analysis, stop, done };
        if serves {
            // The kernel queues the connection until the gateway accepts it.
            assert_eq!(hub.get("/healthz").await.status, 200);
        }
        hub
    }

    /// Stops the hub as a signal does, and waits until it has stopped.
    pub async fn stop(self) {
        self.stop.cancel();
        within("the hub stops", self.done).await.unwrap().unwrap();
    }

    /// The hub's token. Cancelling it has the effect of a signal.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(self.http, &format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")).await
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        self.get(path).await.json()
    }

    /// Starts an analysis. Returns the path of its result.
    pub async fn analyze(&self, name: &str) -> String {
        let answer = self.get(&format!("/analyze/{name}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.header("location").expect("a Location").to_owned()
    }

    /// Waits until an analysis has ended. Returns its result.
    pub async fn ended(&self, path: &str) -> serde_json::Value {
        let wait = async {
            loop {
                let analysis = self.json(path).await;
                if analysis["status"] != "running" {
                    return analysis;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the analysis ends", wait).await
    }
}

// --------------------------------------------------------------------------------------------------------------- HTTP

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status and error code of an answer.
    pub fn problem(&self) -> (u16, String) {
        let json = self.json();
        assert!(!json["error"]["message"].as_str().unwrap().is_empty(), "{self:?}");
        (self.status, json["error"]["code"].as_str().unwrap().to_owned())
    }
}

/// Sends a request and reads until the server closes the connection.
pub async fn request(to: SocketAddr, bytes: &str) -> Answer {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        // Pictures and archives are no text.
        parse(&String::from_utf8_lossy(&answer))
    })
    .await
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {text:?}"));
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
    let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    Answer { status: status.unwrap_or_else(|| panic!("{status_line:?}")), headers, body: body.into() }
}

// ------------------------------------------------------------------------------------------------------------- server

/// A gRPC server on threads of its own, so that a test can drop it together with its connections.
struct Server(Option<tokio::runtime::Runtime>);

impl Server {
    fn start<S>(listener: TcpListener, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self(Some(runtime))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

// --------------------------------------------------------------------------------------------------------------- node

/// How a node answers a call of a cat.
#[derive(Clone)]
pub enum CallCat {
    /// As our node does.
    Answer,
    /// As a node does that does not know `caller_tells_owner`, such as the original's.
    AnswerAsBefore,
    Hang,
    Fail(Status),
}

/// What a node streams: a number of messages, and then `then`.
#[derive(Clone)]
pub struct Script {
    pub messages: u32,
    /// Whether the messages carry audio. Nodes of the original system send none.
    pub audio: bool,
    pub then: Then,
}

#[derive(Clone)]
pub enum Then {
    End,
    Hang,
    Fail(Status),
    /// Sends further messages as long as there is a subscriber.
    GoOn,
}

pub struct NodeScript {
    pub cat: &'static str,
    pub call_cat: CallCat,
    pub stream: Script,
    /// The state of its source, as it describes it.
    pub source: SourceState,
    /// It knows only the calls of the original system.
    pub is_original: bool,
    /// The state of its source in the messages of a stream. Nodes of the original system do not say.
    pub stream_state: SourceState,
}

impl Default for NodeScript {
    fn default() -> Self {
        let stream = Script { messages: 30, audio: true, then: Then::End };
        let stream_state = SourceState::Unspecified;
        Self {
            cat: "Tom",
            call_cat: CallCat::Answer,
            stream,
            source: SourceState::Capturing,
            stream_state,
            is_original: false,
        }
    }
}

/// A node that follows a script.
pub struct Node {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    _server: Server,
}

struct Inner {
    script: NodeScript,
    calls: Mutex<Vec<String>>,
    /// That field of each call.
    caller_tells_owner: Mutex<Vec<bool>>,
    metadata: Mutex<Vec<MetadataMap>>,
    /// Numbers of streams that were opened and closed.
    opened: watch::Sender<usize>,
    closed: watch::Sender<usize>,
}

impl Node {
    pub async fn start(script: NodeScript) -> Self {
        Self::start_on(listener().await, script)
    }

    pub fn start_on(listener: TcpListener, script: NodeScript) -> Self {
        let inner = Arc::new(Inner {
            script,
            calls: Mutex::default(),
            caller_tells_owner: Mutex::default(),
            metadata: Mutex::default(),
            opened: watch::Sender::new(0),
            closed: watch::Sender::new(0),
        });
        let address = listener.local_addr().unwrap();
        let service = CatServer::new(FakeCat(Arc::clone(&inner)));
        let server = Server::start(listener, service);
        Self { address, inner, _server: server }
    }

    pub fn url(&self) -> String {
        url(self.address)
    }

    /// The names that were called.
    pub fn calls(&self) -> Vec<String> {
        self.inner.calls.lock().unwrap().clone()
    }

    /// Whether the callers said that they tell the owner.
    pub fn caller_tells_owner(&self) -> Vec<bool> {
        self.inner.caller_tells_owner.lock().unwrap().clone()
    }

    /// The metadata of the streams that were opened.
    pub fn metadata(&self) -> Vec<MetadataMap> {
        self.inner.metadata.lock().unwrap().clone()
    }

    /// Waits until `count` streams have been opened.
    pub async fn streams_opened(&self, count: usize) {
        let mut opened = self.inner.opened.subscribe();
        within("streams are opened", opened.wait_for(|opened| *opened >= count)).await.unwrap();
    }

    /// Waits until `count` streams have been closed.
    pub async fn streams_closed(&self, count: usize) {
        let mut closed = self.inner.closed.subscribe();
        within("streams are closed", closed.wait_for(|closed| *closed >= count)).await.unwrap();
    }
}

struct FakeCat(Arc<Inner>);

/// Counts a stream as closed when it is dropped.
struct Closing(Arc<Inner>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed.send_modify(|closed| *closed += 1);
    }
}

type Messages = std::pin::Pin<Box<dyn Stream<Item = Result<AnalyzeCatSoundResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Cat for FakeCat {
    async fn call_cat(&self, request: Request<CatRequest>) -> Result<Response<CatResponse>, Status> {
        let CatRequest { cat_name: name, caller_tells_owner } = request.into_inner();
        self.0.calls.lock().unwrap().push(name.clone());
        self.0.caller_tells_owner.lock().unwrap().push(caller_tells_owner);
        let cat_meaw = format!("{name}: MEEEWWWWW");
        match &self.0.script.call_cat {
            CallCat::Answer => Ok(Response::new(CatResponse { cat_meaw, caller_tells_owner })),
            CallCat::AnswerAsBefore => Ok(Response::new(CatResponse { cat_meaw, caller_tells_owner: false })),
            CallCat::Hang => std::future::pending().await,
            CallCat::Fail(status) => Err(status.clone()),
        }
    }

    type AnalyzeCatSoundStream = Messages;

    async fn analyze_cat_sound(&self, request: Request<AnalyzeCatSoundRequest>) -> Result<Response<Messages>, Status> {
        self.0.metadata.lock().unwrap().push(request.metadata().clone());
        self.0.opened.send_modify(|opened| *opened += 1);
        let AnalyzeCatSoundRequest { cat_name: name, with_audio } = request.into_inner();
        let Script { messages, audio, then } = self.0.script.stream.clone();
        let (audio, state) = (audio && with_audio, self.0.script.stream_state.into());
        let closing = Closing(Arc::clone(&self.0));
        let count = if matches!(then, Then::GoOn) { u32::MAX } else { messages };
        let messages = (0..count).map(move |k| {
            let audio = if audio { second(k) } else { vec![] };
            let _still_open = &closing;
            Ok(AnalyzeCatSoundResponse { result: format!("{name} Meaw #{k}"), audio, state })
        });
        let messages = tokio_stream::iter(messages);
        Ok(Response::new(match then {
            Then::End => Box::pin(messages),
            Then::Hang => Box::pin(messages.chain(futures_util::stream::pending())),
            Then::Fail(status) => Box::pin(messages.chain(tokio_stream::once(Err(status)))),
            // Faster than the pace of the contract, so that tests are short.
            Then::GoOn => Box::pin(messages.throttle(Duration::from_millis(50))),
        }))
    }

    type ListenStream = futures_util::stream::Pending<Result<ListenResponse, Status>>;

    async fn listen(&self, _: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        if self.0.script.is_original {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(futures_util::stream::pending()))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        if self.0.script.is_original {
            return Err(Status::unimplemented(""));
        }
        let cat_name = self.0.script.cat.to_owned();
        let source = Some(SourceInfo { state: self.0.script.source.into(), ..Default::default() });
        let version = "1.2.3".into();
        Ok(Response::new(DescribeResponse { version, cat_name, boot_id: 7, source, ..Default::default() }))
    }
}

/// Boot id and first sequence number of the tape that [`second`] takes frames from.
pub const BOOT_ID: u64 = 7;
pub const FIRST_SEQUENCE: u64 = 1000;

/// One second of a quiet tone, in 50 frames.
fn second(k: u32) -> Vec<ListenResponse> {
    let frame = |sequence: u64| {
        let first_sample = sequence * FRAME_SAMPLES as u64;
        let audio: Vec<u8> = (0..FRAME_SAMPLES as u64)
            .flat_map(|n| ((((first_sample + n) as f64 * 0.17).sin() * 300.0) as i16).to_le_bytes())
            .collect();
        let sample_count = FRAME_SAMPLES as u32;
        AudioFrame { boot_id: BOOT_ID, sequence, first_sample, sample_count, audio: audio.into(), ..Default::default() }
    };
    let first = FIRST_SEQUENCE + u64::from(k) * 50;
    (first..first + 50).map(|sequence| ListenResponse { event: Some(Event::Frame(frame(sequence))) }).collect()
}

// -------------------------------------------------------------------------------------------------------------- owner

/// How an Owner service reacts to a notification.
#[derive(Clone, Copy)]
pub enum Mood {
    Answers,
    Hangs,
    /// Answers with an error of this code.
    Fails(Code),
}

/// An Owner service that reacts as its mood says.
pub struct FakeOwner {
    pub address: SocketAddr,
    notified: Arc<Mutex<Vec<(String, String)>>>,
    _server: Server,
}

impl FakeOwner {
    pub async fn start(mood: Mood) -> Self {
        Self::start_on(listener().await, mood)
    }

    pub fn start_on(listener: TcpListener, mood: Mood) -> Self {
        let notified = Arc::<Mutex<Vec<_>>>::default();
        let address = listener.local_addr().unwrap();
        let service = OwnerServer::new(MoodyOwner { mood, notified: Arc::clone(&notified) });
        let server = Server::start(listener, service);
        Self { address, notified, _server: server }
    }

    pub fn notified(&self) -> Vec<(String, String)> {
        self.notified.lock().unwrap().clone()
    }
}

struct MoodyOwner {
    mood: Mood,
    notified: Arc<Mutex<Vec<(String, String)>>>,
}

#[tonic::async_trait]
impl Owner for MoodyOwner {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        self.notified.lock().unwrap().push((animal_name, animal_type));
        match self.mood {
            Mood::Answers => Ok(Response::new(NotifyResponse { message: "told".into() })),
            Mood::Hangs => std::future::pending().await,
            Mood::Fails(code) => Err(Status::new(code, "ouch")),
        }
    }
}
