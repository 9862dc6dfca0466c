//! `/api/v1/listening`: the state of live listening.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use hub_base::clock::Standing;
use hub_base::time;
use hub_listen::live::NodeReport;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::level::LiveLevelAnswer;
use crate::listeners::Listener;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(listening))
}

/// State of live listening.
#[derive(Debug, Serialize, ToSchema)]
struct ListeningAnswer {
    /// All nodes.
    nodes: Vec<NodeListening>,
    /// Counts of clips since the hub's start.
    clips: ClipCountsAnswer,
    /// Who hears live audio through this hub now, at most 8.
    live_listeners: Vec<LiveListener>,
    /// Why nothing that is heard can be stored now. Null: it is stored.
    not_stored: Option<String>,
    /// Since when nothing is deleted by age, because the hub's clock is in doubt, RFC 3339 in UTC by that clock. Null:
    /// deletion by age is not paused.
    age_deletion_paused_since: Option<String>,
}

/// Somebody who hears live audio.
#[derive(Debug, Serialize, ToSchema)]
struct LiveListener {
    /// A user, `token NAME`, `this machine` or `anyone`.
    who: String,
    /// URL of the node.
    node: String,
    /// Since when, RFC 3339 in UTC.
    since: String,
}

/// State of listening to a node. Counts are since the hub's start. A frame is 20 ms long.
#[derive(Debug, Serialize, ToSchema)]
struct NodeListening {
    /// URL of the node.
    node: String,
    /// `connecting`, `catching_up`, `live`, `quiet` (connected, but no audio arrives) or `away`.
    state: &'static str,
    /// Why the node is away. Null: it is not away.
    error: Option<String>,
    /// Boot id of the node, 16 hexadecimal digits. Null: no audio yet.
    boot_id: Option<String>,
    /// Frames analysed.
    frames: u64,
    /// Frames that arrived more than once. The hub ignores the copies.
    duplicate_frames: u64,
    /// Number of gaps.
    gaps: u64,
    /// Lost frames by reason.
    lost_frames: BTreeMap<&'static str, u64>,
    /// Events stored.
    events: u64,
    /// Established connections that ended. Failed attempts to connect do not count.
    disconnects: u64,
    /// Age of the latest audio when it was analysed, in milliseconds.
    lag_ms: u64,
    /// When audio was last analysed, RFC 3339 in UTC. Null: never.
    heard_at: Option<String>,
    /// Level of the latest audio. Null: no audio yet.
    level: Option<LiveLevelAnswer>,
}

/// Counts of clips since the hub's start.
#[derive(Debug, Serialize, ToSchema)]
struct ClipCountsAnswer {
    /// Clips written.
    written: u64,
    /// Clips not written because the disk was too full.
    disk_full: u64,
    /// Clips not written because of an I/O error.
    write_failed: u64,
    /// Clips not written because they were mostly human speech.
    speech: u64,
    /// Clips removed by retention.
    expired: u64,
    /// Clips on disk now.
    kept: u64,
    /// Total size of the clips on disk, in bytes.
    kept_bytes: u64,
}

/// Returns the state of listening to each node: whether it is live, its lag, and lost audio.
#[utoipa::path(
    get, path = "/api/v1/listening", operation_id = "get_listening", tag = "live",
    responses(
        (status = 200, body = ListeningAnswer),
        (status = 503, body = Problem,
            description = "`analysis_unavailable`: this process does not listen; `store_unavailable`"),
    )
)]
async fn listening(State(app): State<Arc<App>>) -> Result<Line<ListeningAnswer>, Failure> {
    let live = app.live()?;
    let not_stored = app.store.check().await.err().map(|error| error.to_string());
    let kept = app.store.clip_totals().await?;
    let counters = app.clips.counters();
    Ok(Line(ListeningAnswer {
        nodes: live.nodes().iter().map(|node| NodeListening::new(node.name(), node.report())).collect(),
        clips: ClipCountsAnswer {
            written: counters.written.load(Ordering::Relaxed),
            disk_full: counters.disk_full.load(Ordering::Relaxed),
            write_failed: counters.write_failed.load(Ordering::Relaxed),
            speech: counters.speech.load(Ordering::Relaxed),
            expired: counters.expired.load(Ordering::Relaxed),
            kept: kept.count,
            kept_bytes: kept.bytes,
        },
        live_listeners: app.limits.listeners.list().into_iter().map(Into::into).collect(),
        not_stored,
        age_deletion_paused_since: paused_since(&app),
    }))
}

impl From<Listener> for LiveListener {
    fn from(Listener { who, node, since_ns }: Listener) -> Self {
        Self { who, node, since: time::rfc3339(since_ns) }
    }
}

fn paused_since(app: &App) -> Option<String> {
    let Standing::Doubted { lasts } = app.store.clock().look() else { return None };
    let lasts_ns = i64::try_from(lasts.as_nanos()).unwrap_or(i64::MAX);
    Some(time::rfc3339(time::now_ns().saturating_sub(lasts_ns)))
}

impl NodeListening {
    fn new(name: &str, report: NodeReport) -> Self {
        Self {
            node: name.to_owned(),
            state: report.state.as_str(),
            error: Some(report.error).filter(|error| !error.is_empty()),
            boot_id: (report.boot_id != 0).then(|| format!("{:016x}", report.boot_id)),
            frames: report.frames,
            duplicate_frames: report.duplicate_frames,
            gaps: report.gaps,
            lost_frames: report.lost_frames,
            events: report.events,
            disconnects: report.disconnects,
            lag_ms: report.lag_ms,
            heard_at: (report.heard_at_ns != 0).then(|| time::rfc3339(report.heard_at_ns)),
            level: report.level.as_ref().map(Into::into),
        }
    }
}
