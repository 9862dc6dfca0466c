//! Nodes that mean harm.

use std::pin::Pin;
use std::time::Duration;

use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use proto::cat_server::{Cat, CatServer};
use proto::listen_response::Event;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, AudioFrame, CatRequest, CatResponse, DescribeRequest,
    DescribeResponse, Gap, ListenRequest, ListenResponse, TapeInfo,
};
use tokio::runtime::{Builder, Runtime};
use tonic::codegen::tokio_stream::{Stream, iter};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::memory::HUB_MB;
use super::{Outcome, Scale};
use crate::sandbox::MemoryLimit;
use crate::watch::{Answers, listening, live};

/// Bytes of the words of a hostile node that are over all limits.
const WORDS: usize = 4 << 20;

/// Bytes of words that fit into a message.
const FITTING_WORDS: usize = 250_000;

/// Bytes of a frame of 20 ms.
const FRAME_BYTES: usize = 640;

/// Most bytes that the hub's database may grow to, in megabytes.
const DATABASE_MB: u64 = 64;

/// Most bytes that the hub may log, in kilobytes.
const LOG_KB: usize = 1_000;

/// What a hostile node does.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// Gaps without end, each of one frame.
    Gaps,
    /// Gaps with as many words as fit, and a name that does not.
    Words,
    /// Messages of which the first is too long.
    TooLong,
    /// Sequence numbers and lengths that cannot be.
    Numbers,
    /// Audio without end, as fast as it is taken.
    Endless,
    /// Another boot in each message.
    Boots,
}

const HARMS: [Harm; 6] = [Harm::Gaps, Harm::Words, Harm::TooLong, Harm::Numbers, Harm::Endless, Harm::Boots];

type Messages = Pin<Box<dyn Stream<Item = Result<ListenResponse, Status>> + Send>>;

/// A hostile node. It and its connections end when it is dropped.
struct Hostile {
    url: String,
    /// A runtime of its own: its connections end when the runtime does. `None` after the drop.
    runtime: Option<Runtime>,
}

impl Hostile {
    fn start(harm: Harm) -> Self {
        let address = ports::free();
        let served = Server::builder().add_service(CatServer::new(Service(harm))).serve(address);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(served);
        Self { url: format!("http://{address}"), runtime: Some(runtime) }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service(Harm);

#[tonic::async_trait]
impl Cat for Service {
    type AnalyzeCatSoundStream = Pin<Box<dyn Stream<Item = Result<AnalyzeCatSoundResponse, Status>> + Send>>;
    type ListenStream = Messages;

    async fn call_cat(&self, _: Request<CatRequest>) -> Result<Response<CatResponse>, Status> {
        Err(Status::unavailable("x".repeat(WORDS)))
    }

    async fn analyze_cat_sound(
        &self,
        _: Request<AnalyzeCatSoundRequest>,
    ) -> Result<Response<Self::AnalyzeCatSoundStream>, Status> {
        let answer = AnalyzeCatSoundResponse { result: "x".repeat(FITTING_WORDS), ..Default::default() };
        Ok(Response::new(Box::pin(iter(std::iter::repeat(Ok(answer))))))
    }

    async fn listen(&self, _: Request<ListenRequest>) -> Result<Response<Messages>, Status> {
        let harm = self.0;
        Ok(Response::new(Box::pin(iter((0..).map(move |n| Ok(ListenResponse { event: Some(message(harm, n)) }))))))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let cat_name = match self.0 {
            Harm::Words => "x".repeat(FITTING_WORDS),
            Harm::TooLong => "x".repeat(WORDS),
            _ => "Tom".into(),
        };
        let tape = Some(TapeInfo { next_sequence: u64::MAX, capacity_frames: u64::MAX, ..TapeInfo::default() });
        Ok(Response::new(DescribeResponse { cat_name, boot_id: 1, uptime_ns: u64::MAX, tape, ..Default::default() }))
    }
}

/// The nth message of a hostile node.
fn message(harm: Harm, n: u64) -> Event {
    let frame = AudioFrame {
        boot_id: 1,
        sequence: n,
        first_sample: n * 320,
        captured_monotonic_ns: n * 20_000_000,
        captured_unix_ns: 0,
        sample_count: 320,
        encoding: 0,
        audio: vec![u8::try_from(n % 251).unwrap_or(0); FRAME_BYTES].into(),
    };
    let gap = Gap { boot_id: 1, first_sequence: n, frame_count: 1, reason: (n % 9) as i32, detail: "lost".into() };
    match harm {
        Harm::Gaps => Event::Gap(gap),
        Harm::Words => Event::Gap(Gap { detail: "\u{1b}[31m\n".repeat(FITTING_WORDS / 6), ..gap }),
        Harm::TooLong => Event::Gap(Gap { detail: "x".repeat(WORDS), ..gap }),
        Harm::Numbers => {
            let lies = [n, 5, 1 << 40, u64::MAX, u64::MAX - n, 0];
            let sequence = lies[(n % 6) as usize];
            let sample_count = [320, u32::MAX, 0, 1][(n % 4) as usize];
            Event::Frame(AudioFrame { sequence, first_sample: sequence.wrapping_mul(320), sample_count, ..frame })
        }
        Harm::Endless => Event::Frame(frame),
        Harm::Boots => Event::Frame(AudioFrame { boot_id: n + 1, sequence: 0, first_sample: 0, ..frame }),
    }
}

pub(super) async fn run(scale: Scale) -> Outcome {
    let seconds = if scale == Scale::Short { 10 } else { 60 };
    let limit = MemoryLimit::new("hostile", HUB_MB).ok();
    let honest = Node::start(NodeOptions::new("http://127.0.0.1:9")).await;
    let hostile: Vec<_> = HARMS.map(Hostile::start).into();
    let names: Vec<_> = HARMS.iter().map(|harm| format!("{harm:?}")).collect();
    let mut configured = vec![("Tom".to_owned(), honest.url())];
    configured.extend(names.into_iter().zip(hostile.iter().map(|hostile| hostile.url.clone())));
    let configured: Vec<_> = configured.iter().map(|(cat, url)| (cat.as_str(), url.as_str())).collect();
    let wrapper = limit.as_ref().map(MemoryLimit::wrapper).unwrap_or_default();
    let surroundings = Surroundings { wrapper, ..Surroundings::default() };
    let mut hub = Hub::start_in(surroundings, Addresses::free(), &configured, "").await;
    let (answers, ()) = Answers::during(&hub, tokio::time::sleep(Duration::from_secs(seconds))).await;
    assert!(hub.daemon.is_running(), "the hub was killed");
    // A busy hub may be late; it must not lose anything, and is in time again when the others have gone.
    let heard = listening(&hub, &honest.url()).await.and_then(|node| node["frames"].as_u64()).unwrap_or(0);
    let captured = honest.describe().await.tape.expect("a tape").next_sequence;
    let late_s = captured.saturating_sub(heard) / 50;
    drop(hostile);
    live(&hub, &honest.url(), captured).await;
    let heard = listening(&hub, &honest.url()).await.expect("a known node");
    assert!(heard["gaps"] == 0 && heard["lost_frames"] == serde_json::json!({}), "frames were lost: {heard}");
    let hub_mb = hub.daemon.memory().most >> 20;
    let log_kb = hub.daemon.log().len() >> 10;
    let database_mb = ["hub.sqlite", "hub.sqlite-wal"]
        .iter()
        .map(|file| std::fs::metadata(hub.data_folder().join(file)).map_or(0, |file| file.len()))
        .sum::<u64>()
        >> 20;
    assert!(hub_mb < HUB_MB, "the hub had {hub_mb} MB");
    assert!(database_mb < DATABASE_MB, "the database has {database_mb} MB");
    assert!(log_kb < LOG_KB, "the log has {log_kb} kB");
    let by = if limit.is_some() { "in a memory cgroup" } else { "no memory cgroup: by VmHWM alone" };
    Outcome::Held(format!(
        "{seconds} s, {by}: hub at most {hub_mb} of {HUB_MB} MB, database {database_mb} MB, log {log_kb} kB; 0 frames of \
            the honest node lost, in the end {late_s} s late; {}",
        answers.must_be_prompt()
    ))
}
