//! `/api/v1/stream`: what is going on, as server-sent events; and `/api/v1/listening`, how it stands.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(StreamParams)`")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daemon::shutdown::CancellationToken;
use futures_util::Stream;
use hub_base::error::{Code, Error, Who};
use hub_base::places::Place;
use hub_base::time;
use hub_listen::live::{Live, LiveLevel, LiveSpectrum, News, NodeReport};
use hub_store::events::{Event, NewGap};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::events::EventAnswer;
use crate::json::{Failure, Line, Problem};
use crate::limits::MAX_STREAMS;
use crate::params::Params;

/// A comment goes out after so long a silence, so that proxies keep the connection and a client that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events that a client which comes back is told at most; it reads the rest from `/api/v1/events`.
const MAX_BACKLOG: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(stream)).routes(routes!(listening))
}

/// What of it is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StreamParams {
    /// Only of this node (its URL).
    node: Option<String>,
    /// Only these kinds, separated by commas: `event`, `labelled`, `deleted`, `gap`, `level`, `state`, `spectrum`. Without it:
    /// all but `spectrum`.
    kinds: Option<String>,
}

/// Kinds of news, as the `event` field of a message names them. The last is sent to those only who name it.
const KINDS: [&str; 7] = ["event", "labelled", "deleted", "gap", "level", "state", SPECTRUM];

const SPECTRUM: &str = "spectrum";

/// What is going on, as server-sent events (`text/event-stream`). The `event` field of a message names its kind, `data` is
/// JSON:
///
/// - `event`: a cat was heard: as in `/api/v1/events/{id}`. `id` is its number; a client that comes back with it as
///   `Last-Event-ID` gets what was stored in between.
/// - `labelled`: the owner said what an event was, likewise. `deleted`: the owner deleted an event: `{"id"}`.
/// - `level`: `{"node","rms_dbfs","peak_dbfs","score","lag_ms"}`, about five times a second for each node.
/// - `gap`: audio was lost: `{"node","boot_id","first_sequence","frame_count","reason","detail"}`.
/// - `state`: a node is now `connecting`, `catching_up`, `live`, `quiet` or `away`: `{"node","state"}`.
/// - `spectrum`: what a node sounds like: `{"node","boot_id","first_sample","columns"}`, about ten times a second for each live
///   node. `columns` is base64: columns of 48 bytes, each of 1024 samples (64 ms). The first byte of a column is its lowest
///   frequency, 60 Hz, the last its highest, 8 kHz, evenly spaced in mel; 0 is -100 dB of full scale or less, 255 is 0 dB.
///   Columns that were lost on the way show as a jump of `first_sample`.
/// - `lagged`: this client was too slow, and `{"lost"}` messages were dropped.
#[utoipa::path(
    get, path = "/api/v1/stream", tag = "live", params(StreamParams),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
        (status = 429, body = Problem, description = "`too_many_streams`"),
        (status = 503, body = Problem, description = "`analysis_unavailable`: this process does not listen"),
    )
)]
async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<StreamParams>,
) -> Result<Response, Failure> {
    let live = live(&app)?;
    let wanted = Wanted::parse(params)?;
    let place = app.limits.news.try_take();
    let place =
        place.ok_or_else(|| Error::new(Code::TooManyUpdateStreams, format!("{MAX_STREAMS} live streams are open")))?;
    // Watch first, look back second: nothing falls between.
    let news = live.watch();
    let spectra = wanted.wants(SPECTRUM, None).then(|| live.watch_spectra());
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<i64>().ok());
    let backlog = match seen {
        Some(id) => app.store.events_stored_after(id, MAX_BACKLOG).await?,
        None => Vec::new(),
    };
    let watcher = Watcher {
        news,
        spectra,
        backlog: backlog.into(),
        told_id: seen.unwrap_or(0),
        wanted,
        stop: app.stop.clone(),
        _place: place,
    };
    let messages = Sse::new(watcher.messages()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"));
    // Some proxies gather what they pass on unless told not to.
    Ok(([(CACHE_CONTROL, "no-cache"), (X_ACCEL_BUFFERING, "no")], messages).into_response())
}

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

fn live(app: &App) -> Result<&Live, Error> {
    app.live.as_ref().ok_or_else(|| {
        let message = "this process does not listen: it has not the analysis role, or listen.enabled is false";
        Error::new(Code::Unavailable(Who::Analysis), message)
    })
}

struct Wanted {
    node: Option<String>,
    kinds: Vec<String>,
}

impl Wanted {
    fn parse(params: StreamParams) -> Result<Self, Error> {
        let kinds: Vec<String> = match params.kinds {
            None => KINDS.into_iter().filter(|kind| *kind != SPECTRUM).map(str::to_owned).collect(),
            Some(kinds) => kinds.split(',').map(|kind| kind.trim().to_owned()).collect(),
        };
        if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
            let message = format!("kinds: {unknown:?} is none of {}", KINDS.join(", "));
            return Err(Error::new(Code::BadRequest, message));
        }
        Ok(Self { node: params.node, kinds })
    }

    fn wants(&self, kind: &str, node: Option<&str>) -> bool {
        let right_node = match (&self.node, node) {
            (Some(wanted), Some(node)) => wanted == node,
            _ => true,
        };
        right_node && self.kinds.iter().any(|wanted| wanted == kind)
    }
}

/// One client.
struct Watcher {
    news: broadcast::Receiver<Arc<News>>,
    /// `None`: not wanted, and then not drawn.
    spectra: Option<broadcast::Receiver<Arc<LiveSpectrum>>>,
    backlog: VecDeque<Event>,
    /// Events up to this number have been told.
    told_id: i64,
    wanted: Wanted,
    stop: CancellationToken,
    _place: Place,
}

impl Watcher {
    fn messages(self) -> impl Stream<Item = Result<Message, axum::Error>> {
        futures_util::stream::unfold(self, |mut watcher| async {
            let message = watcher.next().await?;
            Some((message, watcher))
        })
    }

    /// `None`: the hub stops.
    async fn next(&mut self) -> Option<Result<Message, axum::Error>> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.told_id = event.id;
                if self.wanted.wants("event", Some(&event.found.node)) {
                    return Some(message_of(&News::Event(Box::new(event))));
                }
                continue;
            }
            let received = tokio::select! {
                received = self.news.recv() => received,
                spectrum = next_of(&mut self.spectra) => match spectrum {
                    Ok(spectrum) if self.wanted.wants(SPECTRUM, Some(&spectrum.node)) => {
                        return Some(Message::default().event(SPECTRUM).json_data(SpectrumAnswer::from(&*spectrum)));
                    }
                    // What this client was too slow for is missing in the samples that follow.
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
                () = self.stop.cancelled() => return None,
            };
            match received {
                Ok(news) => {
                    let (kind, node) = kind_of(&news);
                    if let News::Event(event) = &*news {
                        // Both in the backlog and in the news.
                        if event.id <= self.told_id {
                            continue;
                        }
                        self.told_id = event.id;
                    }
                    if self.wanted.wants(kind, node) {
                        return Some(message_of(&news));
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    return Some(Message::default().event("lagged").json_data(Lagged { lost }));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Never, when there are none to wait for.
async fn next_of(spectra: &mut Option<broadcast::Receiver<Arc<LiveSpectrum>>>) -> Result<Arc<LiveSpectrum>, RecvError> {
    match spectra {
        Some(spectra) => spectra.recv().await,
        None => std::future::pending().await,
    }
}

#[derive(Serialize)]
struct SpectrumAnswer<'a> {
    node: &'a str,
    boot_id: String,
    first_sample: u64,
    columns: String,
}

impl<'a> From<&'a LiveSpectrum> for SpectrumAnswer<'a> {
    fn from(spectrum: &'a LiveSpectrum) -> Self {
        Self {
            node: &spectrum.node,
            boot_id: format!("{:016x}", spectrum.boot_id),
            first_sample: spectrum.first_sample,
            columns: STANDARD.encode(spectrum.columns.as_flattened()),
        }
    }
}

#[derive(Serialize)]
struct Lagged {
    lost: u64,
}

#[derive(Serialize)]
struct DeletedAnswer {
    id: i64,
}

#[derive(Serialize)]
struct StateAnswer<'a> {
    node: &'a str,
    state: &'static str,
}

#[derive(Serialize)]
struct GapAnswer<'a> {
    node: &'a str,
    boot_id: String,
    first_sequence: u64,
    frame_count: Option<u64>,
    reason: &'static str,
    detail: &'a str,
}

/// How loud a node is now, and how much like a cat.
#[derive(Debug, Serialize, ToSchema)]
struct LiveLevelAnswer {
    /// URL of the node.
    node: String,
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// How much it sounds like a cat, 0 to 1.
    score: f32,
    /// Age of the audio when it was analysed, in milliseconds.
    lag_ms: u64,
}

fn kind_of(news: &News) -> (&'static str, Option<&str>) {
    match news {
        News::Event(event) => ("event", Some(&event.found.node)),
        News::Labelled(event) => ("labelled", Some(&event.found.node)),
        News::Deleted { .. } => ("deleted", None),
        News::Gap(gap) => ("gap", Some(&gap.node)),
        News::Level(level) => ("level", Some(&level.node)),
        News::State { node, .. } => ("state", Some(node)),
    }
}

fn message_of(news: &News) -> Result<Message, axum::Error> {
    let message = Message::default().event(kind_of(news).0);
    match news {
        News::Event(event) => message.id(event.id.to_string()).json_data(EventAnswer::from(&**event)),
        News::Labelled(event) => message.json_data(EventAnswer::from(&**event)),
        News::Deleted { id } => message.json_data(DeletedAnswer { id: *id }),
        News::Gap(gap) => message.json_data(GapAnswer::from(gap)),
        News::Level(level) => message.json_data(LiveLevelAnswer::from(level)),
        News::State { node, state } => message.json_data(StateAnswer { node, state: state.as_str() }),
    }
}

impl<'a> From<&'a NewGap> for GapAnswer<'a> {
    fn from(gap: &'a NewGap) -> Self {
        Self {
            node: &gap.node,
            boot_id: format!("{:016x}", gap.boot_id),
            first_sequence: gap.first_sequence,
            frame_count: gap.frame_count,
            reason: gap.reason.as_str(),
            detail: &gap.detail,
        }
    }
}

impl From<&LiveLevel> for LiveLevelAnswer {
    fn from(level: &LiveLevel) -> Self {
        Self {
            node: level.node.clone(),
            rms_dbfs: level.rms_dbfs,
            peak_dbfs: level.peak_dbfs,
            score: level.score,
            lag_ms: level.lag_ms,
        }
    }
}

/// How listening stands.
#[derive(Debug, Serialize, ToSchema)]
struct ListeningAnswer {
    /// Each node.
    nodes: Vec<NodeListening>,
    /// What became of clips since the hub's start.
    clips: ClipCountsAnswer,
}

/// How listening to a node stands. Counts are since the hub's start; frames are of 20 ms.
#[derive(Debug, Serialize, ToSchema)]
struct NodeListening {
    /// URL of the node.
    node: String,
    /// `connecting`, `catching_up`, `live`, `quiet` (connected, and nothing comes) or `away`.
    state: &'static str,
    /// Why it is away.
    error: Option<String>,
    /// Boot id of the node, 16 hexadecimal digits. Null: not heard yet.
    boot_id: Option<String>,
    /// Frames analysed.
    frames: u64,
    /// Frames that came twice and were taken once.
    duplicate_frames: u64,
    /// Gaps.
    gaps: u64,
    /// Lost frames by reason.
    lost_frames: BTreeMap<&'static str, u64>,
    /// Events found.
    events: u64,
    /// Connections that ended.
    disconnects: u64,
    /// Age of the audio that was analysed last, when it was, in milliseconds.
    lag_ms: u64,
    /// When audio was analysed last, RFC 3339 in UTC. Null: never.
    heard_at: Option<String>,
    /// How loud it was then. Null: not heard yet.
    level: Option<LiveLevelAnswer>,
}

/// What became of clips since the hub's start.
#[derive(Debug, Serialize, ToSchema)]
struct ClipCountsAnswer {
    /// Written.
    written: u64,
    /// Not written because the disk was too full.
    disk_full: u64,
    /// Not written because of an I/O error.
    write_failed: u64,
    /// Not written because they were mostly human speech.
    speech: u64,
    /// Removed by retention.
    expired: u64,
    /// On disk now.
    kept: u64,
    /// Bytes of all of them.
    kept_bytes: u64,
}

/// How listening to each node stands: whether it is live, how far behind, and what was lost.
#[utoipa::path(
    get, path = "/api/v1/listening", tag = "live",
    responses(
        (status = 200, body = ListeningAnswer),
        (status = 503, body = Problem, description = "`analysis_unavailable`: this process does not listen; `store_unavailable`"),
    )
)]
async fn listening(State(app): State<Arc<App>>) -> Result<Line<ListeningAnswer>, Failure> {
    let live = live(&app)?;
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
    }))
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
