//! `/api/v1/nodes`: the cat-nodes, each with its own description.

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
    /// Configured nodes in the order of the config, then discovered nodes.
    nodes: Vec<NodeAnswer>,
    /// How often the hub rejected a discovered node because it has 64 already.
    refused: u64,
    /// Whether `/api/v1/nodes/live.wav` is enabled.
    live_audio: bool,
}

/// A node.
#[derive(Debug, Serialize, ToSchema)]
struct NodeAnswer {
    /// URL of the node.
    #[schema(example = "http://localhost:50056")]
    url: String,
    /// Id of the node, 64 hexadecimal digits: the same whatever its URL is. Null: the node has proved none.
    node_id: Option<String>,
    /// The cat of the node: from the hub's config, or else from the node.
    cat: Option<String>,
    /// Whether the node was found by mDNS and is not in the config.
    discovered: bool,
    /// Whether the node answered this request.
    reachable: bool,
    /// Why the node did not answer. Null: it answered.
    error: Option<NodeError>,
    /// Its condition, as in `/readyz`: `ok`, `no_audio`, or why it is not heard or not stored.
    condition: &'static str,
    /// The node's own description. Null: it did not answer, or it has none, like the cats of the original system.
    description: Option<Description>,
}

/// Why a node did not answer.
#[derive(Debug, Serialize, ToSchema)]
struct NodeError {
    /// For programs: a stable word to branch on.
    code: &'static str,
    /// For people: what happened.
    message: String,
}

/// A node's own description.
#[derive(Debug, Serialize, ToSchema)]
struct Description {
    /// Version of the node's program.
    version: String,
    /// The cat in the node's config.
    cat: String,
    /// A random number that the node draws at its start, 16 hexadecimal digits.
    boot_id: String,
    /// Time since the node's start, in seconds.
    uptime_s: f64,
    /// The node's clock, RFC 3339 in UTC. Null: the node does not know the time.
    time: Option<String>,
    /// The audio source.
    source: Source,
    /// The tape: the latest audio, kept on the node.
    tape: Tape,
    /// Counts since the node's start.
    counters: Counters,
    /// Level of the last second.
    level: Level,
}

/// The audio source of a node.
#[derive(Debug, Serialize, ToSchema)]
struct Source {
    /// `synthetic`, `wav` or `microphone`.
    kind: String,
    /// Stable id of the device, or path of the WAV file.
    device: String,
    /// Sample rate before resampling, in hertz. 0: the source is not open.
    sample_rate_hz: u32,
    /// Channels before down-mixing. 0: the source is not open.
    channels: u32,
    /// `starting`, `capturing`, `silent` (only zeros), `no_device`, `ended` or `unknown`.
    state: &'static str,
    /// For people: why the source is in this state.
    detail: String,
    /// Time since the last frame, in milliseconds. Null: there was none since the node's start.
    last_frame_age_ms: Option<u64>,
}

/// The tape of a node. A frame is 20 ms long.
#[derive(Debug, Serialize, ToSchema)]
struct Tape {
    /// Sequence number of the oldest frame still on the tape.
    oldest_sequence: u64,
    /// Sequence number of the next frame.
    next_sequence: u64,
    /// Most frames that the tape holds.
    capacity_frames: u64,
    /// Size of the audio on the tape, in bytes.
    bytes: u64,
}

/// Counts since the node's start. A frame is 20 ms long.
#[derive(Debug, Serialize, ToSchema)]
struct Counters {
    /// Frames captured.
    frames_captured: u64,
    /// Frames lost because the device was missing.
    frames_lost_device: u64,
    /// Frames lost to overruns.
    frames_lost_overrun: u64,
    /// Overruns.
    overruns: u64,
    /// Samples at full scale.
    clipped_samples: u64,
    /// How often the source was reopened.
    source_restarts: u64,
    /// Current number of subscribers.
    subscribers: u32,
    /// Frames dropped because subscribers were too slow.
    frames_lost_to_subscribers: u64,
    /// Calls to the owner that failed.
    owner_failures: u64,
}

/// A level in dB of full scale. -120 is digital silence.
#[derive(Debug, Serialize, ToSchema)]
struct Level {
    /// Root mean square.
    rms_dbfs: f32,
    /// Highest absolute sample.
    peak_dbfs: f32,
}

/// Lists the nodes. The hub asks each node for its current state.
#[utoipa::path(
    get, path = "/api/v1/nodes", operation_id = "list_nodes", tag = "nodes",
    responses((status = 200, body = NodesAnswer))
)]
async fn nodes(State(app): State<Arc<App>>) -> Line<NodesAnswer> {
    let asked = app.nodes.iter().chain(app.nodes.expected()).map(|node| async move {
        let answer = node.describe().await;
        (node, answer)
    });
    let (answers, stored) = tokio::join!(futures_util::future::join_all(asked), app.store.check());
    let not_stored = stored.err().map(|error| error.to_string());
    let answer = |(node, answer): (Node, Result<DescribeResponse, Error>)| {
        let error = answer.as_ref().err().map(|error| error.message.as_str());
        let health = app.checks.judge(&node, app.live.as_ref(), error, not_stored.as_deref());
        NodeAnswer::new(&node, answer, health.condition.as_str())
    };
    Line(NodesAnswer {
        nodes: answers.into_iter().map(answer).collect(),
        refused: app.nodes.refused(),
        live_audio: app.page.live_audio,
    })
}

impl NodeAnswer {
    fn new(node: &Node, answer: Result<DescribeResponse, Error>, condition: &'static str) -> Self {
        let reachable = answer.is_ok();
        let (description, error) = match answer {
            Ok(description) => (node.is_described().then(|| description.into()), None),
            Err(error) => (None, Some(NodeError { code: error.code.as_str(), message: error.message })),
        };
        let (url, cat, discovered) = (node.url().to_owned(), node.cat(), node.is_discovered());
        let node_id = node.id().map(|id| id.to_string());
        Self { url, node_id, cat, discovered, reachable, error, condition, description }
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
                last_frame_age_ms: (counters.frames_captured > 0).then_some(source.last_frame_age_ms),
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

/// JSON has no NaN. If a node sends one, the hub reports silence.
fn finite(dbfs: f32) -> f32 {
    if dbfs.is_finite() { dbfs } else { -120.0 }
}
