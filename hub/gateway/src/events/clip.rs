//! `/api/v1/events/{id}/clip.wav` and `/spectrogram.png`: the recording of an event and its picture.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(PictureParams)`")]

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use daemon::cause::cause;
use hub_base::error::{Code, Error};
use hub_store::events::{Clip, Event};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::filter::find;
use super::picture::{self, Mark, PictureSize};
use super::range::{Requested, requested_range};
use crate::app::App;
use crate::json::{Failure, Problem};
use crate::openapi::Binary;
use crate::params::{Id, Params, bad};

/// After a new database, the number of an event stands for another sound. So browsers ask each time whether their copy
/// is current.
const CACHE: &str = "private, no-cache";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(wav)).routes(routes!(png))
}

/// Size and axes of the picture.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PictureParams {
    /// Width in pixels, 160 to 2000.
    #[param(default = 900)]
    width: Option<usize>,
    /// Height in pixels, 100 to 1000.
    #[param(default = 400)]
    height: Option<usize>,
    /// Whether to draw axes: seconds below, kilohertz on the left, and a bar that marks the event.
    #[param(default = true)]
    axes: Option<bool>,
}

/// Returns the recording of an event, with some audio before and after it: WAV, 16 kHz, one channel, 16 bits. Supports
/// range requests.
#[utoipa::path(
    get, path = "/api/v1/events/{id}/clip.wav", operation_id = "get_clip", tag = "events",
    params(
        ("id" = i64, Path, description = "Number of the event"),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-1023`"),
    ),
    responses(
        (status = 200, body = Binary, content_type = "audio/wav"),
        (status = 206, body = Binary, content_type = "audio/wav", description = "The requested range"),
        (status = 304, description = "The client's copy is current"),
        (status = 404, body = Problem, description = "`not_found`: the event does not exist, or it has no usable clip"),
        (status = 416, body = Problem, description = "`range_not_satisfiable`: the range begins after the last byte"),
    )
)]
async fn wav(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap) -> Result<Response, Failure> {
    let event = find(&app, id).await?;
    let read = app.clips.read_with_fingerprint(clip_of(&event)?).await;
    let (bytes, fingerprint) = read.map_err(|why| unreadable(&event, &why))?;
    let tag = format!("\"clip-{fingerprint}\"");
    if is_current(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let bytes = Bytes::from(bytes);
    let common = [
        (CONTENT_TYPE, "audio/wav".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, CACHE.to_owned()),
        (CONTENT_DISPOSITION, format!("inline; filename=\"event-{id}.wav\"")),
        (ETAG, tag.clone()),
    ];
    Ok(match requested_range(&headers, &tag, bytes.len()) {
        Requested::Whole => (common, bytes).into_response(),
        Requested::Part(first, end) => {
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            (StatusCode::PARTIAL_CONTENT, common, [(CONTENT_RANGE, range)], bytes.slice(first..end)).into_response()
        }
        Requested::Unsatisfiable => {
            let message = format!("the clip has {} bytes, and the range begins after the last one", bytes.len());
            let error = Failure::from(Error::new(Code::RangeNotSatisfiable, message));
            ([(CONTENT_RANGE, format!("bytes */{}", bytes.len()))], error).into_response()
        }
    })
}

/// Draws the spectrogram of an event's clip.
#[utoipa::path(
    get, path = "/api/v1/events/{id}/spectrogram.png", operation_id = "get_spectrogram", tag = "events",
    params(("id" = i64, Path, description = "Number of the event"), PictureParams),
    responses(
        (status = 200, body = Binary, content_type = "image/png"),
        (status = 304, description = "The client's copy is current"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 404, body = Problem, description = "`not_found`: the event does not exist, or it has no usable clip"),
    )
)]
async fn png(
    State(app): State<Arc<App>>,
    Id(id): Id,
    headers: HeaderMap,
    Params(params): Params<PictureParams>,
) -> Result<Response, Failure> {
    let size = params.parse()?;
    let event = find(&app, id).await?;
    let clip = clip_of(&event)?;
    let read = app.clips.samples_with_fingerprint(clip).await;
    let (samples, fingerprint) = read.map_err(|why| unreadable(&event, &why))?;
    let from_clip_start = |sample: u64| sample.saturating_sub(clip.start_sample) as usize;
    let mark = Mark {
        start_sample: from_clip_start(event.found.start_sample),
        end_sample: from_clip_start(event.found.end_sample),
    };
    let tag = picture_tag(&fingerprint, mark, size);
    if is_current(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let place = app.limits.drawings.take().await;
    let drawn = tokio::task::spawn_blocking(move || {
        picture::png(&samples, Some(mark), size).map_err(|why| format!("the picture cannot be encoded: {why}"))
    });
    let drawn = drawn.await.unwrap_or_else(|crash| Err(crash.to_string()));
    drop(place);
    let picture = drawn.map_err(|why| Error::new(Code::Internal, why))?;
    let headers = [(CONTENT_TYPE, "image/png".to_owned()), (CACHE_CONTROL, CACHE.to_owned()), (ETAG, tag)];
    Ok((headers, picture).into_response())
}

impl PictureParams {
    fn parse(&self) -> Result<PictureSize, Error> {
        let default = PictureSize::default();
        let within = |key: &str, given: Option<usize>, default: usize, least: usize, most: usize| match given {
            None => Ok(default),
            Some(px) if (least..=most).contains(&px) => Ok(px),
            Some(px) => Err(bad(format!("{key}: {px} is not between {least} and {most}"))),
        };
        Ok(PictureSize {
            width_px: within("width", self.width, default.width_px, PictureSize::MIN.0, PictureSize::MAX.0)?,
            height_px: within("height", self.height, default.height_px, PictureSize::MIN.1, PictureSize::MAX.1)?,
            axes: self.axes.unwrap_or(default.axes),
        })
    }
}

fn clip_of(event: &Event) -> Result<&Clip, Error> {
    event
        .clip
        .as_ref()
        .map_err(|reason| Error::new(Code::NotFound, format!("event {} has no clip: {}", event.id, reason.as_str())))
}

/// Names the content of a picture. A later version may draw the same clip differently.
fn picture_tag(fingerprint: &str, mark: Mark, size: PictureSize) -> String {
    let look = format!("{}x{}{}", size.width_px, size.height_px, if size.axes { "a" } else { "" });
    let place = format!("{}-{}", mark.start_sample, mark.end_sample);
    format!("\"spectrogram-{fingerprint}-{place}-{look}-{}\"", env!("CARGO_PKG_VERSION"))
}

fn unreadable(event: &Event, why: &std::io::Error) -> Error {
    let no_clip = |reason: &str| Error::new(Code::NotFound, format!("event {} has no clip: {reason}", event.id));
    match why.kind() {
        std::io::ErrorKind::NotFound => no_clip("the file is missing"),
        std::io::ErrorKind::InvalidData => no_clip("the file is damaged"),
        _ => Error::new(Code::StoreUnavailable, format!("the clip cannot be read: {}", cause(why))),
    }
}

fn is_current(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

fn not_modified(tag: String) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag), (CACHE_CONTROL, CACHE.to_owned())]).into_response()
}
