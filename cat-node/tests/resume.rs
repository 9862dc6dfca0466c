//! A hub that was away for ten minutes. The test writes the tape itself, so the ten minutes take a second.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cat_node::clock::NodeClock;
use cat_node::node::Node;
use cat_node::owner::Owner;
use cat_node::service::CatService;
use cat_node::status::Status;
use cat_node::subscribers::Subscribers;
use cat_node::tape::{FRAME_BYTES, Tape};
use daemon::shutdown::CancellationToken;
use proto::cat_client::CatClient;
use proto::cat_server::CatServer;
use proto::listen_response::Event;
use proto::{Cursor, FRAME_SAMPLES, Gap, GapReason, ListenRequest, ListenResponse};
use sound::synth::{Synth, SynthConfig};
use tonic::Streaming;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

const MINUTE_FRAMES: u64 = 60 * 50;

struct Taping {
    tape: Arc<Tape>,
    audio: Vec<i16>,
    client: CatClient<Channel>,
}

impl Taping {
    /// A node with a tape of `capacity_frames`, and `audio_frames` of audio for it to capture.
    async fn start(capacity_frames: u64, audio_frames: u64) -> Self {
        let mut audio = vec![0; audio_frames as usize * FRAME_SAMPLES];
        Synth::new(SynthConfig { seed: 3, vocalisations: true }).read(&mut audio);
        let tape = Arc::new(Tape::new(NodeClock::start(), capacity_frames as usize * FRAME_BYTES));
        let node = Node {
            cat: "Tom".into(),
            key: None,
            owner: Owner::new("http://127.0.0.1:1".parse().unwrap(), DEADLINE).unwrap(),
            subscribers: Subscribers::new(true, None),
            tape: Arc::clone(&tape),
            status: Arc::new(Status::new("synthetic")),
            stop: CancellationToken::new(),
        };
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(CatServer::new(CatService::new(Arc::new(node))));
        tokio::spawn(server.serve_with_incoming(incoming));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let client = CatClient::new(channel.connect().await.unwrap());
        Self { tape, audio, client }
    }

    /// Captures the frames before `end`.
    fn capture_until(&self, end: u64) {
        for sequence in self.tape.next_sequence()..end {
            let samples = self.frame(sequence).first_chunk().unwrap();
            assert_eq!(self.tape.append_frame(samples, sequence * 20_000_000), sequence);
        }
    }

    fn frame(&self, sequence: u64) -> &[i16] {
        &self.audio[sequence as usize * FRAME_SAMPLES..][..FRAME_SAMPLES]
    }

    async fn listen(&mut self, from: u64) -> Streaming<ListenResponse> {
        let from = Some(Cursor { boot_id: self.tape.boot_id(), sequence: from });
        self.client.listen(ListenRequest { frame_ms: 100, from, encoding: 0 }).await.unwrap().into_inner()
    }

    /// Listens for the first minute, is away for ten minutes, and asks for the frames captured meanwhile.
    async fn listen_again_after_ten_minutes(&mut self) -> Streaming<ListenResponse> {
        self.capture_until(MINUTE_FRAMES);
        let mut stream = self.listen(0).await;
        self.assert_audio(&mut stream, 0, MINUTE_FRAMES).await;
        drop(stream);
        self.capture_until(11 * MINUTE_FRAMES);
        self.listen(MINUTE_FRAMES).await
    }

    /// Checks that the frames from `from` to `end` come once each, in order, with their samples.
    async fn assert_audio(&self, stream: &mut Streaming<ListenResponse>, from: u64, end: u64) {
        let mut next_sequence = from;
        while next_sequence < end {
            let Event::Frame(frame) = next(stream).await else { panic!("a gap at {next_sequence}") };
            assert_eq!((frame.sequence, frame.boot_id), (next_sequence, self.tape.boot_id()));
            for samples in frame.audio.chunks(FRAME_BYTES) {
                let expected: Vec<u8> = self.frame(next_sequence).iter().flat_map(|s| s.to_le_bytes()).collect();
                assert!(samples == expected, "frame {next_sequence} has other samples");
                next_sequence += 1;
            }
        }
        assert_eq!(next_sequence, end);
    }
}

async fn next(stream: &mut Streaming<ListenResponse>) -> Event {
    tokio::time::timeout(DEADLINE, stream.message()).await.expect("in time").unwrap().unwrap().event.unwrap()
}

#[tokio::test]
async fn ten_minutes_away_miss_nothing_and_repeat_nothing() {
    let mut node = Taping::start(10 * MINUTE_FRAMES, 12 * MINUTE_FRAMES).await;
    let mut stream = node.listen_again_after_ten_minutes().await;
    node.assert_audio(&mut stream, MINUTE_FRAMES, 11 * MINUTE_FRAMES).await;
    // After that, it continues live.
    node.capture_until(12 * MINUTE_FRAMES);
    node.assert_audio(&mut stream, 11 * MINUTE_FRAMES, 12 * MINUTE_FRAMES).await;
}

#[tokio::test]
async fn tape_that_is_too_short_for_ten_minutes_is_one_exact_gap() {
    let mut node = Taping::start(4 * MINUTE_FRAMES, 11 * MINUTE_FRAMES).await;
    let mut stream = node.listen_again_after_ten_minutes().await;
    let Event::Gap(gap) = next(&mut stream).await else { panic!("no gap") };
    let lost = Gap {
        boot_id: node.tape.boot_id(),
        first_sequence: MINUTE_FRAMES,
        frame_count: 6 * MINUTE_FRAMES,
        reason: GapReason::TapeOverwritten.into(),
        detail: String::new(),
    };
    assert_eq!(gap, lost);
    node.assert_audio(&mut stream, 7 * MINUTE_FRAMES, 11 * MINUTE_FRAMES).await;
}
