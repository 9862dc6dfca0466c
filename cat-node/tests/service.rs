//! The real node on a free port, called by a real client.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cat_node::config::NodeSettings;
use cat_node::run::{RunError, run};
use cat_node::source::SourceSpec;
use daemon::shutdown::CancellationToken;
use proto::cat_client::CatClient;
use proto::listen_response::Event;
use proto::owner_server::{Owner, OwnerServer};
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, AudioFrame, CatRequest, CatResponse, Cursor, DescribeRequest,
    DescribeResponse, Encoding, Gap, GapReason, ListenRequest, ListenResponse, NotifyRequest, NotifyResponse,
    SourceState,
};
use sound::synth::{Synth, SynthConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

struct Node {
    client: CatClient<Channel>,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Node {
    async fn start(config: NodeSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(config, vec![listener], stop.clone()));
        let client = CatClient::new(connect(address).await);
        Self { client, address, stop, task }
    }

    async fn synthetic() -> Self {
        Self::start(config("http://127.0.0.1:1", synthetic(1))).await
    }

    async fn listen(&mut self, request: ListenRequest) -> Streaming<ListenResponse> {
        self.client.listen(request).await.unwrap().into_inner()
    }

    async fn describe(&mut self) -> DescribeResponse {
        let answer = tokio::time::timeout(DEADLINE, self.client.describe(DescribeRequest::default())).await;
        answer.expect("described in time").unwrap().into_inner()
    }

    /// Calls `Describe` until the answer is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&DescribeResponse) -> bool) -> DescribeResponse {
        let start = Instant::now();
        loop {
            let description = self.describe().await;
            if wanted(&description) {
                return description;
            }
            assert!(start.elapsed() < DEADLINE, "not {what}: {description:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn synthetic(seed: u64) -> SourceSpec {
    SourceSpec::Synthetic { seed, vocalisations: true }
}

fn config(owner: &str, source: SourceSpec) -> NodeSettings {
    // The seed of a source and its end are settings of their own.
    let (seed, wav_once) = match &source {
        SourceSpec::Synthetic { seed, .. } => (*seed, false),
        SourceSpec::Wav { once, .. } => (1, *once),
        SourceSpec::Microphone { .. } | SourceSpec::Stream { .. } => (1, false),
    };
    let owner = owner.parse().unwrap();
    NodeSettings { owner, source, seed, wav_once, cat: "Tom".into(), ..NodeSettings::default() }
}

fn wav(folder: &Path, samples: &[i16]) -> SourceSpec {
    let path = folder.join("a.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    SourceSpec::Wav { path, once: true }
}

async fn next(stream: &mut Streaming<ListenResponse>) -> Event {
    tokio::time::timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap().event.unwrap()
}

async fn next_frame(stream: &mut Streaming<ListenResponse>) -> AudioFrame {
    match next(stream).await {
        Event::Frame(frame) => frame,
        Event::Gap(gap) => panic!("{gap:?}"),
    }
}

async fn next_gap(stream: &mut Streaming<ListenResponse>) -> Gap {
    match next(stream).await {
        Event::Gap(gap) => gap,
        Event::Frame(frame) => panic!("frame {}", frame.sequence),
    }
}

fn samples_of(frame: &AudioFrame) -> Vec<i16> {
    match frame.encoding() {
        Encoding::PcmS16le => frame.audio.chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect(),
        Encoding::Flac => {
            let mut reader = claxon::FlacReader::new(&frame.audio[..]).unwrap();
            reader.samples().map(|sample| sample.unwrap() as i16).collect()
        }
    }
}

fn from(boot_id: u64, sequence: u64) -> Option<Cursor> {
    Some(Cursor { boot_id, sequence })
}

/// An owner that answers after a while, or with an error.
#[derive(Debug, Clone, Default)]
struct FakeOwner {
    delay: Duration,
    error: Option<Status>,
    calls: Arc<AtomicUsize>,
    /// How long the last caller waits, by its metadata.
    patience: Arc<Mutex<Option<Duration>>>,
}

#[tonic::async_trait]
impl Owner for FakeOwner {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.patience.lock().unwrap() = daemon::call::patience_of(&request);
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        if animal_type != "cat" {
            return Err(Status::invalid_argument(animal_type));
        }
        tokio::time::sleep(self.delay).await;
        Ok(Response::new(NotifyResponse { message: format!("Owner of {animal_name} {animal_type} is notified") }))
    }
}

impl FakeOwner {
    fn serve(&self, listener: TcpListener) -> JoinHandle<()> {
        let server = Server::builder().add_service(OwnerServer::new(self.clone()));
        tokio::spawn(async move {
            server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)).await.unwrap();
        })
    }

    async fn start(&self) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (url, self.serve(listener))
    }
}

async fn call(client: &mut CatClient<Channel>, name: &str) -> Result<String, Status> {
    let answer = client.call_cat(CatRequest { cat_name: name.into(), caller_tells_owner: false }).await?;
    Ok(answer.into_inner().cat_meaw)
}

#[tokio::test]
async fn call_cat_notifies_the_owner_first() {
    let owner = FakeOwner::default();
    let (url, _serving) = owner.start().await;
    let mut node = Node::start(config(&url, synthetic(1))).await;
    for name in ["Tom", "", "Mimì 🐈"] {
        assert_eq!(call(&mut node.client, name).await.unwrap(), format!("{name}: MEEEWWWWW"));
    }
    assert_eq!(owner.calls.load(Ordering::SeqCst), 3);
    assert_eq!(node.describe().await.counters.unwrap().owner_failures, 0);
}

#[tokio::test]
async fn an_owner_that_is_down_is_unavailable_by_name_and_one_that_comes_up_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    let timeout = Duration::from_millis(300);
    let mut node =
        Node::start(NodeSettings { owner_timeout_ms: timeout.as_millis() as u64, ..config(&url, synthetic(1)) }).await;
    let error = call(&mut node.client, "Tom").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.message().contains(&url), "{error}");
    assert_eq!(node.describe().await.counters.unwrap().owner_failures, 1);

    // A call that began before its owner started is answered once the owner runs.
    let mut patient =
        Node::start(NodeSettings { owner_timeout_ms: DEADLINE.as_millis() as u64, ..config(&url, synthetic(1)) }).await;
    let calling = tokio::spawn(async move { call(&mut patient.client, "Tom").await });
    let owner = FakeOwner::default();
    let serving = owner.serve(TcpListener::bind(address).await.unwrap());
    assert_eq!(calling.await.unwrap().unwrap(), "Tom: MEEEWWWWW");
    assert_eq!(owner.calls.load(Ordering::SeqCst), 1, "a request that was sent is never sent again");
    assert_eq!(call(&mut node.client, "Tom").await.unwrap(), "Tom: MEEEWWWWW");
    serving.abort();
}

#[tokio::test]
async fn an_owner_that_hangs_is_too_slow() {
    let owner = FakeOwner { delay: DEADLINE, ..FakeOwner::default() };
    let (url, _serving) = owner.start().await;
    let timeout = Duration::from_millis(200);
    let mut node =
        Node::start(NodeSettings { owner_timeout_ms: timeout.as_millis() as u64, ..config(&url, synthetic(1)) }).await;
    let error = call(&mut node.client, "Tom").await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.message().contains(&url) && error.message().contains("200 ms"), "{error}");
    assert_eq!(owner.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_owner_that_answers_with_an_error_is_told_from_one_that_is_down() {
    for (said, code, word) in [
        (Status::unavailable("later"), Code::Unavailable, "owner_unavailable"),
        (Status::resource_exhausted("busy"), Code::Unavailable, "owner_unavailable"),
        (Status::deadline_exceeded("slow"), Code::DeadlineExceeded, "owner_too_slow"),
        (Status::internal("ouch"), Code::Internal, "owner_bad_answer"),
        (Status::unimplemented(""), Code::Internal, "owner_bad_answer"),
        (Status::invalid_argument("cat"), Code::Internal, "owner_bad_answer"),
    ] {
        let owner = FakeOwner { error: Some(said.clone()), ..FakeOwner::default() };
        let (url, _serving) = owner.start().await;
        let mut node = Node::start(config(&url, synthetic(1))).await;
        let error = call(&mut node.client, "Tom").await.unwrap_err();
        let got = error.metadata().get("error-code").map(|word| word.to_str().unwrap());
        assert_eq!((error.code(), got), (code, Some(word)), "{said}: {error}");
        assert_eq!(owner.calls.load(Ordering::SeqCst), 1, "{said}");
    }
}

#[tokio::test]
async fn the_owner_learns_how_long_the_node_waits_and_never_more_than_the_caller() {
    let owner = FakeOwner::default();
    let (url, _serving) = owner.start().await;
    let timeout = Duration::from_secs(20);
    let mut node =
        Node::start(NodeSettings { owner_timeout_ms: timeout.as_millis() as u64, ..config(&url, synthetic(1)) }).await;
    let patience = || owner.patience.lock().unwrap().expect("a deadline");
    call(&mut node.client, "Tom").await.unwrap();
    assert!(patience() <= timeout && patience() > timeout / 2, "{:?}", patience());
    let mut hurried = Request::new(CatRequest::default());
    hurried.set_timeout(timeout / 2);
    node.client.call_cat(hurried).await.unwrap();
    assert!(patience() <= timeout / 2, "{:?}", patience());
}

#[tokio::test]
async fn a_caller_that_tells_the_owner_itself_gets_an_answer_that_says_so_and_no_owner_is_called() {
    let owner = FakeOwner::default();
    let (url, _serving) = owner.start().await;
    for owner_url in [&url, "http://127.0.0.1:1"] {
        let mut node = Node::start(config(owner_url, synthetic(1))).await;
        let request = CatRequest { cat_name: "Tom".into(), caller_tells_owner: true };
        let answer = node.client.call_cat(request).await.unwrap().into_inner();
        assert_eq!(answer, CatResponse { cat_meaw: "Tom: MEEEWWWWW".into(), caller_tells_owner: true });
        assert_eq!(node.describe().await.counters.unwrap().owner_failures, 0);
    }
    assert_eq!(owner.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn live_frames_follow_each_other_and_are_the_synthesizers() {
    let mut node = Node::synthetic().await;
    let boot_id = node.describe().await.boot_id;
    assert_ne!(boot_id, 0);
    let mut stream = node.listen(ListenRequest::default()).await;
    let first = next_frame(&mut stream).await;
    let mut made = vec![0_i16; (first.first_sample + 30 * 320) as usize];
    Synth::new(SynthConfig { seed: 1, vocalisations: true }).read(&mut made);
    let mut last_ns = 0;
    for k in 0..30 {
        let frame = if k == 0 { first.clone() } else { next_frame(&mut stream).await };
        assert_eq!((frame.boot_id, frame.sequence), (boot_id, first.sequence + k));
        assert_eq!((frame.first_sample, frame.sample_count), (320 * frame.sequence, 320));
        assert!(frame.captured_monotonic_ns > last_ns);
        last_ns = frame.captured_monotonic_ns;
        let start = frame.first_sample as usize;
        assert_eq!(samples_of(&frame), made[start..start + 320]);
    }
}

#[tokio::test]
async fn the_tape_is_given_from_a_cursor_on_in_messages_of_any_length_and_coding() {
    let mut node = Node::synthetic().await;
    let boot_id = node.describe().await.boot_id;
    // Long enough that blocks are packed.
    node.until("taped", |description| description.tape.unwrap().next_sequence > 260).await;
    let mut made = vec![0_i16; 260 * 320];
    Synth::new(SynthConfig { seed: 1, vocalisations: true }).read(&mut made);
    for (frame_ms, frames) in [(0, 1), (20, 1), (40, 2), (100, 5)] {
        for encoding in [Encoding::PcmS16le, Encoding::Flac] {
            let request = ListenRequest { frame_ms, from: from(boot_id, 10), encoding: encoding.into() };
            let mut stream = node.listen(request).await;
            let mut sequence = 10;
            while sequence < 250 {
                let frame = next_frame(&mut stream).await;
                assert_eq!((frame.sequence, frame.sample_count, frame.encoding()), (sequence, 320 * frames, encoding));
                let start = frame.first_sample as usize;
                assert_eq!(samples_of(&frame), made[start..start + 320 * frames as usize]);
                sequence += u64::from(frames);
            }
        }
    }
    let counters = node.describe().await.counters.unwrap();
    assert!(counters.flac_sample_bytes >= 4 * 240 * 640, "{counters:?}");
    assert!(counters.flac_coded_bytes < counters.flac_sample_bytes, "{counters:?}");
}

#[tokio::test]
async fn cursors_of_another_boot_and_beyond_the_tape() {
    let mut node =
        Node::start(NodeSettings { tape_bytes: 50 * 640, ..config("http://127.0.0.1:1", synthetic(1)) }).await;
    let description = node.until("over its end", |node| node.tape.unwrap().oldest_sequence > 20).await;
    let boot_id = description.boot_id;
    assert_eq!(description.tape.unwrap().capacity_frames, 50);

    let mut stream = node.listen(ListenRequest { from: from(boot_id ^ 1, 777), ..ListenRequest::default() }).await;
    let gap = next_gap(&mut stream).await;
    assert_eq!((gap.boot_id, gap.first_sequence, gap.frame_count), (boot_id ^ 1, 777, 0));
    assert_eq!(gap.reason(), GapReason::NodeRestarted);
    let gap = next_gap(&mut stream).await;
    assert_eq!((gap.boot_id, gap.first_sequence, gap.reason()), (boot_id, 0, GapReason::TapeOverwritten));
    assert_eq!(next_frame(&mut stream).await.sequence, gap.frame_count);

    for cursor in [from(0, 5), from(boot_id, 5)] {
        let mut stream = node.listen(ListenRequest { from: cursor, ..ListenRequest::default() }).await;
        let gap = next_gap(&mut stream).await;
        assert_eq!((gap.first_sequence, gap.reason()), (5, GapReason::TapeOverwritten));
        assert_eq!(next_frame(&mut stream).await.sequence, 5 + gap.frame_count);
    }

    let live = node.describe().await.tape.unwrap().next_sequence;
    let mut stream = node.listen(ListenRequest { from: from(0, u64::MAX), ..ListenRequest::default() }).await;
    assert!(next_frame(&mut stream).await.sequence >= live);
}

#[tokio::test]
async fn what_a_node_does_not_know_is_an_invalid_argument() {
    let mut node = Node::synthetic().await;
    for request in [
        ListenRequest { frame_ms: 30, ..ListenRequest::default() },
        ListenRequest { encoding: 2, ..ListenRequest::default() },
    ] {
        let error = node.client.listen(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    assert_eq!(node.describe().await.counters.unwrap().subscribers, 0);
}

#[tokio::test]
async fn subscribers_are_limited_and_one_that_hangs_up_makes_room_at_once() {
    let mut node = Node::synthetic().await;
    // On a connection of their own: streams that nobody reads fill its flow-control window, and block all other
    // answers.
    let mut subscriber = CatClient::new(connect(node.address).await);
    let mut streams = Vec::new();
    for _ in 0..cat_node::service::MAX_SUBSCRIBERS {
        streams.push(subscriber.listen(ListenRequest::default()).await.unwrap().into_inner());
    }
    let error = node.client.listen(ListenRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let subscribers = |description: &DescribeResponse| description.counters.unwrap().subscribers;
    assert_eq!(subscribers(&node.describe().await) as usize, cat_node::service::MAX_SUBSCRIBERS);
    streams.clear();
    node.until("free of subscribers", |description| subscribers(description) == 0).await;
    next_frame(&mut node.listen(ListenRequest::default()).await).await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_loses_frames_and_no_other_does() {
    let mut node =
        Node::start(NodeSettings { tape_bytes: 50 * 640, ..config("http://127.0.0.1:1", synthetic(1)) }).await;
    // Its window is full after 16 KiB. The buffers on both sides hold some more.
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
    let narrow = endpoint.initial_stream_window_size(16 * 1024).connect().await.unwrap();
    let mut slow = CatClient::new(narrow);
    let mut stream = slow.listen(ListenRequest::default()).await.unwrap().into_inner();
    let mut expected = next_frame(&mut stream).await.sequence;
    let mut live = node.listen(ListenRequest::default()).await;
    let mut live_expected = None;
    while live_expected.is_none_or(|sequence| sequence < expected + 400) {
        let frame = next_frame(&mut live).await;
        assert!(live_expected.is_none_or(|sequence| sequence == frame.sequence));
        live_expected = Some(frame.sequence + 1);
    }
    // Every frame is delivered or in a gap, in order.
    let mut lost = 0;
    expected += 1;
    while expected < live_expected.unwrap() {
        match next(&mut stream).await {
            Event::Frame(frame) => {
                assert_eq!(frame.sequence, expected);
                expected += 1;
            }
            Event::Gap(gap) => {
                assert_eq!((gap.first_sequence, gap.reason()), (expected, GapReason::SubscriberTooSlow));
                expected += gap.frame_count;
                lost += gap.frame_count;
            }
        }
    }
    assert!(lost > 50, "{lost}");
    assert!(node.describe().await.counters.unwrap().frames_lost_to_subscribers >= lost);
}

#[tokio::test]
async fn analysis_sends_thirty_seconds_of_audio_second_by_second() {
    let mut node = Node::synthetic().await;
    node.until("capturing", |description| description.counters.unwrap().frames_captured > 0).await;
    let start = Instant::now();
    let request = AnalyzeCatSoundRequest { cat_name: "Tom".into(), with_audio: true };
    let mut stream = node.client.analyze_cat_sound(request).await.unwrap().into_inner();
    let mut made = Vec::new();
    let mut expected = None;
    for k in 0..30_u32 {
        let message = tokio::time::timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap();
        assert!(start.elapsed() >= Duration::from_secs(1) * (k + 1), "message {k} came early");
        assert_eq!(message.result, format!("Tom Meaw #{k}"));
        assert_eq!(message.state(), SourceState::Capturing);
        for piece in message.audio {
            let Some(Event::Frame(frame)) = piece.event else { panic!("a gap") };
            if made.is_empty() {
                made = vec![0_i16; frame.first_sample as usize + 1510 * 320];
                Synth::new(SynthConfig { seed: 1, vocalisations: true }).read(&mut made);
            }
            assert!(expected.is_none_or(|expected| frame.sequence == expected));
            let start = frame.first_sample as usize;
            assert_eq!(samples_of(&frame), made[start..start + frame.sample_count as usize]);
            expected = Some(frame.sequence + u64::from(frame.sample_count) / 320);
        }
    }
    assert!(stream.message().await.unwrap().is_none());
    // All frames but those that came after the last grace.
    let first = (made.len() / 320 - 1510) as u64;
    assert!((1490..=1500).contains(&(expected.unwrap() - first)), "{first} {expected:?}");
}

#[tokio::test]
async fn analysis_for_a_caller_that_asks_for_no_audio_is_the_words_alone() {
    let mut node = Node::synthetic().await;
    node.until("capturing", |description| description.counters.unwrap().frames_captured > 0).await;
    let request = AnalyzeCatSoundRequest { cat_name: "Tom".into(), with_audio: false };
    let mut stream = node.client.analyze_cat_sound(request).await.unwrap().into_inner();
    for k in 0..3 {
        let message = tokio::time::timeout(DEADLINE, stream.message()).await.unwrap().unwrap().unwrap();
        let result = format!("Tom Meaw #{k}");
        assert_eq!(message, AnalyzeCatSoundResponse { result, ..AnalyzeCatSoundResponse::default() });
    }
}

#[tokio::test]
async fn a_recording_that_has_ended_is_text_without_audio() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(config("http://127.0.0.1:1", wav(folder.path(), &[100; 1000]))).await;
    let description =
        node.until("ended", |description| description.source.as_ref().unwrap().state() == SourceState::Ended).await;
    let source = description.source.unwrap();
    assert_eq!((source.kind.as_str(), source.sample_rate_hz, source.channels), ("wav", 16_000, 1));
    assert!(source.device.ends_with("a.wav"));
    assert_eq!(description.counters.unwrap().frames_captured, 3);
    let request = AnalyzeCatSoundRequest { cat_name: "Tom".into(), with_audio: true };
    let mut stream = node.client.analyze_cat_sound(request).await.unwrap().into_inner();
    let message = stream.message().await.unwrap().unwrap();
    assert_eq!((message.result.as_str(), message.audio.len()), ("Tom Meaw #0", 0));
    assert_eq!(message.state(), SourceState::Ended);
}

#[tokio::test]
async fn description_says_what_the_node_is() {
    let mut node = Node::synthetic().await;
    let description = node.until("loud", |description| description.level.unwrap().rms_dbfs > -119.0).await;
    assert_eq!((description.version.as_str(), description.cat_name.as_str()), (env!("CARGO_PKG_VERSION"), "Tom"));
    assert!(description.uptime_ns > 0 && description.unix_ns > 1_700_000_000_000_000_000);
    assert_eq!(description.encodings, [0, 1]);
    let source = description.source.unwrap();
    assert_eq!((source.kind.as_str(), source.device.as_str(), source.sample_rate_hz), ("synthetic", "", 16_000));
    assert_eq!(source.state(), SourceState::Capturing);
    let tape = description.tape.unwrap();
    assert_eq!((tape.oldest_sequence, tape.capacity_frames), (0, 30_000));
    assert!(tape.next_sequence >= 50 && tape.bytes >= 50 * 640);
}

#[tokio::test]
async fn stopping_ends_streams_as_unavailable_and_the_node() {
    let mut node = Node::synthetic().await;
    let mut listening = node.listen(ListenRequest::default()).await;
    next_frame(&mut listening).await;
    let request = AnalyzeCatSoundRequest { cat_name: "Tom".into(), with_audio: true };
    let mut analysis = node.client.analyze_cat_sound(request).await.unwrap().into_inner();
    node.stop.cancel();
    let error = analysis.message().await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "the node is shutting down"));
    let error = loop {
        match tokio::time::timeout(DEADLINE, listening.message()).await.unwrap() {
            Ok(message) => assert!(message.is_some(), "the stream ended without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Unavailable);
    tokio::time::timeout(daemon::shutdown::STOP_DEADLINE, node.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn health_reports_the_process_and_the_source() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(config("http://127.0.0.1:1", wav(folder.path(), &[100; 48_000]))).await;
    let mut health = HealthClient::new(connect(node.address).await);
    let request = |service: &str| HealthCheckRequest { service: service.into() };
    let whole = health.check(request("")).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::Serving);
    let mut watch = health.watch(request("proto.cat")).await.unwrap().into_inner();
    // First it plays, then it has ended.
    let mut seen = Vec::new();
    while seen.last() != Some(&ServingStatus::NotServing) {
        let change = tokio::time::timeout(DEADLINE, watch.message()).await.unwrap().unwrap().unwrap();
        seen.push(change.status());
    }
    assert!(seen.contains(&ServingStatus::Serving), "{seen:?}");
    assert_eq!(health.check(request("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(health.check(request("proto.dog")).await.unwrap_err().code(), Code::NotFound);
}
