//! `/api/v1/nodes`: the microphones, each with what it says of itself.

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::Error;
use hub_nodes::{Node, state_word};
use proto::DescribeResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::Line;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(nodes))
}

/// The nodes.
#[derive(Debug, Serialize, ToSchema)]
struct NodesAnswer {
    /// In the order of the config, then those that were discovered.
    nodes: Vec<NodeAnswer>,
    /// How often a node was discovered that was not taken, for there are 64 already.
    refused: u64,
    /// Whether a node can be heard at `/api/v1/nodes/live.wav`.
    live_audio: bool,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
struct NodeAnswer {
    /// Where it listens.
    #[schema(example = "http://localhost:50056")]
    url: String,
    /// The cat it hears: as configured, else as it says itself.
    cat: Option<String>,
    /// It was found by mDNS, and is not in the config.
    discovered: bool,
    /// It answered just now.
    reachable: bool,
    /// Why it did not answer.
    error: Option<NodeError>,
    /// What it says of itself.
    description: Option<Description>,
}

/// Why a node did not answer.
#[derive(Debug, Serialize, ToSchema)]
struct NodeError {
    /// Stable word.
    code: &'static str,
    /// One sentence.
    message: String,
}

/// What a node says of itself.
#[derive(Debug, Serialize, ToSchema)]
struct Description {
    /// Version of its program.
    version: String,
    /// The cat that it was told to listen to.
    cat: String,
    /// Drawn at random at its start, 16 hexadecimal digits.
    boot_id: String,
    /// Time since its start, in seconds.
    uptime_s: f64,
    /// Its wall clock, RFC 3339. Absent: it does not know the time.
    time: Option<String>,
    /// What it hears from.
    source: Source,
    /// What its tape holds.
    tape: Tape,
    /// What it counted since its start.
    counters: Counters,
    /// How loud it was in the last second.
    level: Level,
}

/// What a node hears from.
#[derive(Debug, Serialize, ToSchema)]
struct Source {
    /// `synthetic`, `wav` or `microphone`.
    kind: String,
    /// Stable id of the device, or path of the recording.
    device: String,
    /// Rate before resampling, in hertz. 0: not open.
    sample_rate_hz: u32,
    /// Channels before the down-mix. 0: not open.
    channels: u32,
    /// `starting`, `capturing`, `silent` (nothing but zeros), `no_device`, `ended` or `unknown`.
    state: &'static str,
    /// One sentence about the state.
    detail: String,
    /// Time since the last frame, in milliseconds.
    last_frame_age_ms: u64,
}

/// What a node's tape holds. Frames are of 20 ms.
#[derive(Debug, Serialize, ToSchema)]
struct Tape {
    /// Number of the oldest frame that can be had.
    oldest_sequence: u64,
    /// Number of the frame that comes next.
    next_sequence: u64,
    /// Frames that it holds at most.
    capacity_frames: u64,
    /// Bytes of audio on it.
    bytes: u64,
}

/// What a node counted since its start. Frames are of 20 ms.
#[derive(Debug, Serialize, ToSchema)]
struct Counters {
    /// Frames captured.
    frames_captured: u64,
    /// Frames lost because the device was away.
    frames_lost_device: u64,
    /// Frames lost to overruns.
    frames_lost_overrun: u64,
    /// Overruns.
    overruns: u64,
    /// Samples at full scale.
    clipped_samples: u64,
    /// Times that the source was opened again.
    source_restarts: u64,
    /// Subscribers that listen now.
    subscribers: u32,
    /// Frames that subscribers were too slow for.
    frames_lost_to_subscribers: u64,
    /// Calls to the owner that failed.
    owner_failures: u64,
}

/// How loud it is, in dB of full scale; -120 is digital silence.
#[derive(Debug, Serialize, ToSchema)]
struct Level {
    /// Root mean square.
    rms_dbfs: f32,
    /// Highest absolute sample.
    peak_dbfs: f32,
}

/// The nodes, asked just now.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "nodes", responses((status = 200, body = NodesAnswer)))]
async fn nodes(State(app): State<Arc<App>>) -> Line<NodesAnswer> {
    let asked = app.nodes.iter().map(|node| async move { NodeAnswer::new(&node, node.describe().await) });
    Line(NodesAnswer {
        nodes: futures_util::future::join_all(asked).await,
        refused: app.nodes.refused(),
        live_audio: app.page.live_audio,
    })
}

impl NodeAnswer {
    fn new(node: &Node, answer: Result<DescribeResponse, Error>) -> Self {
        let reachable = answer.is_ok();
        let (description, error) = match answer {
            Ok(description) => (Some(description.into()), None),
            Err(error) => (None, Some(NodeError { code: error.code.as_str(), message: error.message })),
        };
        let (url, cat, discovered) = (node.url().to_owned(), node.cat(), node.is_discovered());
        Self { url, cat, discovered, reachable, error, description }
    }
}

impl From<DescribeResponse> for Description {
    fn from(said: DescribeResponse) -> Self {
        let source = said.source.unwrap_or_default();
        let tape = said.tape.unwrap_or_default();
        let counters = said.counters.unwrap_or_default();
        let level = said.level.unwrap_or_default();
        Self {
            version: said.version,
            cat: said.cat_name,
            boot_id: format!("{:016x}", said.boot_id),
            uptime_s: said.uptime_ns as f64 / 1e9,
            time: (said.unix_ns != 0).then(|| hub_base::time::rfc3339(said.unix_ns)),
            source: Source {
                state: state_word(source.state()),
                kind: source.kind,
                device: source.device,
                sample_rate_hz: source.sample_rate_hz,
                channels: source.channels,
                detail: source.detail,
                last_frame_age_ms: source.last_frame_age_ms,
            },
            tape: Tape {
                oldest_sequence: tape.oldest_sequence,
                next_sequence: tape.next_sequence,
                capacity_frames: tape.capacity_frames,
                bytes: tape.bytes,
            },
            counters: Counters {
                frames_captured: counters.frames_captured,
                frames_lost_device: counters.frames_lost_device,
                frames_lost_overrun: counters.frames_lost_overrun,
                overruns: counters.overruns,
                clipped_samples: counters.clipped_samples,
                source_restarts: counters.source_restarts,
                subscribers: counters.subscribers,
                frames_lost_to_subscribers: counters.frames_lost_to_subscribers,
                owner_failures: counters.owner_failures,
            },
            level: Level { rms_dbfs: finite(level.rms_dbfs), peak_dbfs: finite(level.peak_dbfs) },
        }
    }
}

/// JSON has no NaN; a node that sends one is taken for silent.
fn finite(dbfs: f32) -> f32 {
    if dbfs.is_finite() { dbfs } else { -120.0 }
}
