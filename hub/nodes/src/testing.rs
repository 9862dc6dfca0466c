//! A cat-node for tests: a real gRPC server with a tape that the test writes.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use daemon::identity::{self, Key};
use hub_base::time::now_ns;
use proto::cat_server::{Cat, CatServer};
use proto::listen_response::Event as Sent;
use proto::*;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::registry::{Nodes, Received};

/// Lets the hub find a node at this address, as if the node had announced itself under this URL.
pub async fn announce(nodes: &Nodes, url: &str, address: SocketAddr) {
    let node = Node::discovered(url.to_owned()).unwrap();
    node.set_addresses(vec![address]);
    node.describe().await.unwrap();
    if matches!(nodes.receive(node, url), Received::AtHome) {
        nodes.get(url).unwrap().set_addresses(vec![address]);
    }
}

/// A node with a tape that the test writes. Clones are the same node.
#[derive(Debug, Clone)]
pub struct FakeNode {
    /// The tape; each open stream is a receiver.
    pub tape: Arc<watch::Sender<Tape>>,
    /// The cursor of every subscriber there ever was.
    pub asked: Arc<Mutex<Vec<Cursor>>>,
}

/// What a [`FakeNode`] has captured, and how it behaves.
#[derive(Debug, Clone, Default)]
pub struct Tape {
    /// Boot id of the node.
    pub boot_id: u64,
    /// All audio captured since the boot.
    pub audio: Arc<Vec<i16>>,
    /// Oldest frame that is still on the tape.
    pub oldest: u64,
    /// Number of frames captured so far.
    pub next: u64,
    /// Frames that the node has lost. It sends a gap instead.
    pub lost: Option<std::ops::Range<u64>>,
    /// Frames before the cursor that it sends again.
    pub repeats: u64,
    /// All connections are cut when this changes.
    pub cut: u64,
    /// Whether frames carry the wall-clock time.
    pub knows_the_time: bool,
    /// The node's start, in nanoseconds since 1970 UTC.
    pub started_unix_ns: i64,
    /// The key that gives the node its id.
    pub key: Option<Arc<Key>>,
}

impl FakeNode {
    /// A node with this tape.
    pub fn new(tape: Tape) -> Self {
        Self { tape: Arc::new(watch::channel(tape).0), asked: Arc::default() }
    }

    /// A tape that holds all of a recording.
    pub fn with(audio: Vec<i16>) -> Self {
        let next = audio.len() as u64 / 320;
        Self::new(Tape {
            boot_id: 0xB007,
            audio: Arc::new(audio),
            next,
            knows_the_time: true,
            started_unix_ns: now_ns(),
            ..Tape::default()
        })
    }

    /// Changes the tape. Subscribers notice.
    pub fn change(&self, change: impl FnOnce(&mut Tape)) {
        self.tape.send_modify(change);
    }

    /// Serves the tape on a free port of loopback.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve_at(listener);
        address
    }

    /// Serves the tape on this port.
    pub fn serve_at(&self, listener: tokio::net::TcpListener) {
        let server = tonic::transport::Server::builder().add_service(CatServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }
}

impl Tape {
    fn frame(&self, sequence: u64, count: u64) -> ListenResponse {
        let samples = &self.audio[sequence as usize * 320..(sequence + count) as usize * 320];
        let monotonic_ns = sequence * 20_000_000;
        ListenResponse {
            event: Some(Sent::Frame(AudioFrame {
                boot_id: self.boot_id,
                sequence,
                first_sample: sequence * 320,
                captured_monotonic_ns: monotonic_ns,
                captured_unix_ns: if self.knows_the_time {
                    self.started_unix_ns + monotonic_ns.cast_signed()
                } else {
                    0
                },
                sample_count: count as u32 * 320,
                encoding: 0,
                audio: samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>().into(),
            })),
        }
    }

    fn gap(&self, boot_id: u64, first: u64, count: u64, reason: GapReason) -> ListenResponse {
        let gap =
            Gap { boot_id, first_sequence: first, frame_count: count, reason: reason as i32, detail: String::new() };
        ListenResponse { event: Some(Sent::Gap(gap)) }
    }

    /// The message for a place on the tape, and the place after it.
    fn at(&self, place: u64) -> (ListenResponse, u64) {
        if place < self.oldest {
            let gap = self.gap(self.boot_id, place, self.oldest - place, GapReason::TapeOverwritten);
            return (gap, self.oldest);
        }
        let lost = self.lost.clone().unwrap_or(u64::MAX..u64::MAX);
        if lost.contains(&place) {
            let gap = self.gap(self.boot_id, place, lost.end - place, GapReason::DeviceLost);
            return (gap, lost.end);
        }
        let until = if place < lost.start { lost.start } else { u64::MAX };
        let count = 5.min(self.next - place).min(until - place);
        (self.frame(place, count), place + count)
    }
}

#[tonic::async_trait]
impl Cat for FakeNode {
    type AnalyzeCatSoundStream = ReceiverStream<Result<AnalyzeCatSoundResponse, Status>>;
    type ListenStream = ReceiverStream<Result<ListenResponse, Status>>;

    async fn call_cat(&self, _: Request<CatRequest>) -> Result<Response<CatResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn analyze_cat_sound(
        &self,
        _: Request<AnalyzeCatSoundRequest>,
    ) -> Result<Response<Self::AnalyzeCatSoundStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn listen(&self, request: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        let asked = request.into_inner().from.unwrap_or_default();
        self.asked.lock().unwrap().push(asked);
        let (sender, stream) = mpsc::channel(8);
        let mut tape = self.tape.subscribe();
        tokio::spawn(async move {
            let now = tape.borrow_and_update().clone();
            let mut place = asked.sequence.saturating_sub(now.repeats);
            if asked.boot_id != 0 && asked.boot_id != now.boot_id {
                let over = now.gap(asked.boot_id, asked.sequence, 0, GapReason::NodeRestarted);
                if sender.send(Ok(over)).await.is_err() {
                    return;
                }
                place = 0;
            }
            loop {
                let tape_now = tape.borrow_and_update().clone();
                if tape_now.cut != now.cut || tape_now.boot_id != now.boot_id {
                    let _ = sender.send(Err(Status::unavailable("cut"))).await;
                    return;
                }
                if place < tape_now.next {
                    let (message, next) = tape_now.at(place);
                    place = next;
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                } else if tape.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let tape = self.tape.borrow();
        let key = tape.key.as_deref();
        let proof = key.zip(request.local_addr()).map(|(key, address)| {
            identity::prove(key, request.get_ref().challenge.as_slice().try_into().unwrap(), tape.boot_id, address)
        });
        Ok(Response::new(DescribeResponse {
            cat_name: "Tom".into(),
            boot_id: tape.boot_id,
            uptime_ns: tape.next * 20_000_000,
            tape: Some(TapeInfo { oldest_sequence: tape.oldest, next_sequence: tape.next, ..TapeInfo::default() }),
            public_key: key.map_or_else(Vec::new, |key| key.spki().to_vec()),
            proof: proof.unwrap_or_default(),
            ..DescribeResponse::default()
        }))
    }
}
