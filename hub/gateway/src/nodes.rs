//! `/api/v1/nodes`: the cat-nodes, each with its own description, and the discovered nodes that wait to be admitted.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hub_base::error::Error;
use hub_base::time;
use hub_nodes::{Node, WaitingNode, state_word};
use hub_watch::admission::By;
use proto::DescribeResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::gate::about;
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Text};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(nodes)).routes(routes!(admit)).routes(routes!(refuse)).routes(routes!(pair))
}

/// The nodes.
#[derive(Debug, Serialize, ToSchema)]
struct NodesAnswer {
    /// Configured nodes in the order of the config, then discovered nodes.
    nodes: Vec<NodeAnswer>,
    /// Discovered nodes that wait until a person admits them, at most 64. The hub does not listen to them, does not
    /// call them, and reports no trouble about them.
    waiting: Vec<WaitingAnswer>,
    /// How often the hub turned away an announced node: it has 64 nodes already, too many wait, or the node claims the
    /// name of another one.
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
    /// `min_score` of the node in the hub's config: events with a lower score are not announced. Null: it has none.
    min_score: Option<f32>,
    /// Whether the node answered this request.
    reachable: bool,
    /// Why the node did not answer. Null: it answered.
    error: Option<NodeError>,
    /// Its condition, as in `/readyz`: `ok`, `no_audio`, or why it is not heard or not stored.
    condition: &'static str,
    /// The node's own description. Null: it did not answer, or it has none, like the cats of the original system.
    description: Option<Description>,
}

/// A discovered node that waits to be admitted.
#[derive(Debug, Serialize, ToSchema)]
struct WaitingAnswer {
    /// Names the node in `/api/v1/nodes/waiting/{key}/admit`, where it is percent-encoded: its id, or else its URL.
    key: String,
    /// URL that the node will have.
    #[schema(example = "http://kitchen.local:50056")]
    url: String,
    /// Id that the node has proved, 64 hexadecimal digits. Null: it has proved none.
    node_id: Option<String>,
    /// The cat of the node, by its own word. Null: it does not say.
    cat: Option<String>,
    /// Version of the node's program. Null: it does not say.
    version: Option<String>,
    /// IP addresses and ports where the node answered.
    #[schema(example = json!(["192.168.1.7:50056"]))]
    addresses: Vec<String>,
    /// Since when the node waits, RFC 3339 in UTC.
    since: String,
    /// Whether the node answers only after it is paired: `POST /api/v1/nodes/pair`. It cannot be admitted.
    needs_code: bool,
}

impl From<WaitingNode> for WaitingAnswer {
    fn from(node: WaitingNode) -> Self {
        let WaitingNode { key, url, node_id, cat, version, addresses, since_ns, needs_code } = node;
        Self {
            key,
            url,
            node_id,
            cat,
            version: Some(version).filter(|version| !version.is_empty()),
            addresses: addresses.iter().map(ToString::to_string).collect(),
            since: time::rfc3339(since_ns),
            needs_code,
        }
    }
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
    let waiting = app.nodes.waiting();
    // The node on this machine, which has not answered yet, is not expected while there are others to admit.
    let expected = app.nodes.expected().filter(|_| waiting.is_empty());
    let asked = app.nodes.iter().chain(expected).map(|node| async move {
        let answer = node.describe().await;
        (node, answer)
    });
    let (answers, stored) = tokio::join!(futures_util::future::join_all(asked), app.store.check());
    let not_stored = stored.err().map(|error| error.to_string());
    let answer = |(node, answer): (Node, Result<DescribeResponse, Error>)| {
        let error = answer.as_ref().err().map(|error| error.message.as_str());
        let health = app.checks.judge(&node, app.live.as_ref(), error, not_stored.as_deref());
        let min_score = app.store.min_score(node.url());
        NodeAnswer { min_score, ..NodeAnswer::new(&node, answer, health.condition.as_str()) }
    };
    Line(NodesAnswer {
        nodes: answers.into_iter().map(answer).collect(),
        waiting: waiting.into_iter().map(Into::into).collect(),
        refused: app.nodes.refused(),
        live_audio: app.page.live_audio,
    })
}

/// Admits a waiting node: the hub listens to it from now on, also after a restart.
#[utoipa::path(
    post, path = "/api/v1/nodes/waiting/{key}/admit", operation_id = "admit_node", tag = "nodes",
    params(("key" = String, Path, description = "`key` of the waiting node, percent-encoded")),
    responses(
        (status = 204, description = "The node is admitted"),
        (status = 400, body = Problem, description = "`bad_request`: the key is not UTF-8"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: no such node waits"),
        (status = 409, body = Problem, description = "`conflict`: the hub has the most nodes that it can listen to"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn admit(State(app): State<Arc<App>>, Text(key): Text) -> Result<Response, Failure> {
    Ok(about(app.admission.admit(&key, By::Page).await?.url, StatusCode::NO_CONTENT))
}

/// Drops a waiting node. It does not wait again until the hub is restarted.
#[utoipa::path(
    post, path = "/api/v1/nodes/waiting/{key}/refuse", operation_id = "refuse_node", tag = "nodes",
    params(("key" = String, Path, description = "`key` of the waiting node, percent-encoded")),
    responses(
        (status = 204, description = "The node is not shown any more"),
        (status = 400, body = Problem, description = "`bad_request`: the key is not UTF-8"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: no such node waits"),
    )
)]
async fn refuse(State(app): State<Arc<App>>, Text(key): Text) -> Result<Response, Failure> {
    Ok(about(app.admission.refuse(&key).await?.url, StatusCode::NO_CONTENT))
}

/// A pairing code that a person has typed.
#[derive(Deserialize, ToSchema)]
struct PairingCode {
    /// The code that `cat-node pair` shows on the node.
    #[schema(example = "7K3M-Q9TX")]
    code: String,
    /// Host name or address of the node, with `:PORT` if that is not 50056. Null or absent: the waiting nodes that show
    /// a code are tried, at most 4; a wrong code then uses one of the five tries at each.
    #[schema(example = "kitchen-pi.local")]
    host: Option<String>,
}

/// A node that was paired.
#[derive(Debug, Serialize, ToSchema)]
struct PairedAnswer {
    /// URL of the node.
    #[schema(example = "http://kitchen-pi.local:50056")]
    url: String,
}

/// Pairs with a node that shows a code: hub and node learn each other's keys, and the hub listens to the node over TLS
/// from now on, also after a restart.
#[utoipa::path(
    post, path = "/api/v1/nodes/pair", operation_id = "pair_node", tag = "nodes", request_body = PairingCode,
    responses(
        (status = 200, body = PairedAnswer),
        (status = 400, body = Problem, description = "`bad_request`: the code or the host is not of the form of one"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: no waiting node shows a code"),
        (status = 409, body = Problem, description = "`conflict`: the code is wrong, too many nodes show one, another \
            pairing is under way, or the hub has no place or key"),
        (status = 503, body = Problem, description = "`node_unavailable` or `store_unavailable`"),
        (status = 504, body = Problem, description = "`node_too_slow`"),
    )
)]
async fn pair(
    State(app): State<Arc<App>>,
    Body(PairingCode { code, host }): Body<PairingCode>,
) -> Result<Response, Failure> {
    let host = host.as_deref().map(str::trim).filter(|host| !host.is_empty());
    let url = app.admission.pair(&code, host).await?;
    Ok(about(url.clone(), Line(PairedAnswer { url })))
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
        Self { url, node_id, cat, discovered, min_score: None, reachable, error, condition, description }
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
            time: (said.unix_ns != 0).then(|| time::rfc3339(said.unix_ns)),
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
