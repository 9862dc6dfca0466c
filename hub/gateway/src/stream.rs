//! `/api/v1/stream`: updates as server-sent events.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(StreamParams)`")]

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Problem};
use crate::limits::MAX_UPDATE_STREAMS;
use crate::params::Params;

mod kinds;
mod message;
mod watcher;

use kinds::{SPECTRUM, StreamParams, Wanted};
use watcher::Watcher;

/// The hub sends a comment after this long without a message. Proxies then keep the connection open, and the hub
/// notices clients that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Most missed events that a reconnecting client is sent. It reads the rest from `/api/v1/events`.
const MAX_BACKLOG: usize = 500;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(stream))
}

/// Streams updates as server-sent events (`text/event-stream`). The `event` field of a message names its kind, and
/// `data` is JSON:
///
/// - `event`: an event was stored, as in `/api/v1/events/{id}`. The `id` of the message is the number of the event. A
///   client that reconnects with this number as `Last-Event-ID` gets the events that it missed.
/// - `linked`: an event is the same sound as an event of another node. The data is the event. If its `same_sound_as` is
///   null it is shown, otherwise the event with that number is.
/// - `labelled`: the owner labelled an event. The data is the event.
/// - `deleted`: the owner deleted an event: `{"id"}`.
/// - `redated`: the times of events of a node were corrected, `{"node"}`. Read them again.
/// - `level`: the level of a node, about five times a second: `{"node","rms_dbfs","peak_dbfs","score","lag_ms"}`.
/// - `gap`: audio was lost: `{"node","boot_id","first_sequence","frame_count","reason","detail"}`.
/// - `state`: a node is now `connecting`, `catching_up`, `live`, `quiet` or `away`: `{"node","state"}`.
/// - `spectrum`: the spectrum of a live node, about ten times a second: `{"node","boot_id","first_sample","columns"}`.
///   `columns` is base64: columns of 48 bytes, each for 1024 samples (64 ms). The first byte of a column is the lowest
///   frequency, 60 Hz, the last byte the highest, 8 kHz, evenly spaced in mel. 0 is -100 dB of full scale or less, 255
///   is 0 dB. Lost columns show as a jump of `first_sample`.
/// - `lagged`: this client was too slow, and `{"lost"}` messages were dropped.
#[utoipa::path(
    get, path = "/api/v1/stream", operation_id = "stream_updates", tag = "live", params(StreamParams),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: the hub does not know the node"),
        (status = 429, body = Problem, description = "`too_many_streams`: too many update streams are open"),
        (status = 503, body = Problem, description = "`analysis_unavailable`: this process does not listen"),
    )
)]
async fn stream(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<StreamParams>,
) -> Result<Response, Failure> {
    let live = app.live()?;
    let node = params.node.as_deref().map(|name| app.node(name)).transpose()?;
    let wanted = Wanted::parse(params.kinds, node.map(|node| node.url().to_owned()))?;
    let place = app.limits.updates.try_take().ok_or_else(|| {
        let message = format!("{MAX_UPDATE_STREAMS} update streams are open already; close one, or try again later");
        Error::new(Code::TooManyUpdateStreams, message)
    })?;
    // Subscribes before it reads the backlog, so that no event is missed in between.
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
        sent_id: seen.unwrap_or(0),
        wanted,
        stop: app.stop.clone(),
        _place: place,
    };
    let messages = Sse::new(watcher.messages()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here"));
    // Without this header, some proxies buffer the stream.
    Ok(([(CACHE_CONTROL, "no-cache"), (X_ACCEL_BUFFERING, "no")], messages).into_response())
}

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
