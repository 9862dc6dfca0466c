//! `/api/v1/events/{id}/clip.wav` and `/spectrogram.png`: the sound of an event, to hear and to see.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(PictureParams)`")]

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE,
    RANGE,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::{Code, Error};
use hub_store::events::{Clip, Event};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::filter::find;
use crate::app::App;
use crate::events::picture::{self, Mark, PictureSize};
use crate::json::{Failure, Problem};
use crate::params::{Id, Params, bad};

/// A clip never changes: the number of its event is never given out again.
const CACHE: &str = "private, max-age=86400, immutable";

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(wav)).routes(routes!(png))
}

/// How the picture is to look.
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
    /// Whether there are axes: seconds below, kilohertz at the left, and a bar below the event.
    #[param(default = true)]
    axes: Option<bool>,
}

/// The sound of an event with a little before and after it: WAV, 16 kHz, one channel, 16 bits. Takes range requests.
#[utoipa::path(
    get, path = "/api/v1/events/{id}/clip.wav", tag = "events",
    params(
        ("id" = i64, Path, description = "Number of the event"),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=0-1023`"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "audio/wav"),
        (status = 206, body = Vec<u8>, content_type = "audio/wav", description = "The part that was asked for"),
        (status = 304, description = "The client has it already"),
        (status = 404, body = Problem, description = "`not_found`: there is no such event, or it has no clip"),
        (status = 416, body = Problem, description = "`range_not_satisfiable`: it begins beyond the end"),
    )
)]
async fn wav(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap) -> Result<Response, Failure> {
    let event = find(&app, id).await?;
    let tag = format!("\"clip-{id}\"");
    if has_it(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let bytes = read(&app, &event, clip_of(&event)?).await?;
    let common = [
        (CONTENT_TYPE, "audio/wav".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CACHE_CONTROL, CACHE.to_owned()),
        (CONTENT_DISPOSITION, format!("inline; filename=\"event-{id}.wav\"")),
        (ETAG, tag.clone()),
    ];
    Ok(match asked_range(&headers, &tag, bytes.len()) {
        Asked::All => (common, bytes).into_response(),
        Asked::Part(first, end) => {
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            (StatusCode::PARTIAL_CONTENT, common, [(CONTENT_RANGE, range)], bytes.slice(first..end)).into_response()
        }
        Asked::Impossible => {
            let message = format!("the clip has {} bytes, and the range begins beyond them", bytes.len());
            let error = Failure::from(Error::new(Code::RangeNotSatisfiable, message));
            ([(CONTENT_RANGE, format!("bytes */{}", bytes.len()))], error).into_response()
        }
    })
}

/// The spectrogram of an event's clip.
#[utoipa::path(
    get, path = "/api/v1/events/{id}/spectrogram.png", tag = "events",
    params(("id" = i64, Path, description = "Number of the event"), PictureParams),
    responses(
        (status = 200, body = Vec<u8>, content_type = "image/png"),
        (status = 304, description = "The client has it already"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
        (status = 404, body = Problem, description = "`not_found`: there is no such event, or it has no clip"),
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
    // A later version may draw better.
    let look = format!("{}x{}{}", size.width_px, size.height_px, if size.axes { "a" } else { "" });
    let tag = format!("\"spectrogram-{id}-{look}-{}\"", env!("CARGO_PKG_VERSION"));
    if has_it(&headers, &tag) {
        return Ok(not_modified(tag));
    }
    let clip = clip_of(&event)?;
    let samples = app.clips.samples(clip).await.map_err(|why| unreadable(&event, &why))?;
    let from_clip_start = |sample: u64| sample.saturating_sub(clip.start_sample) as usize;
    let mark = Mark {
        start_sample: from_clip_start(event.found.start_sample),
        end_sample: from_clip_start(event.found.end_sample),
    };
    let place = app.limits.drawings.take().await;
    let drawn = tokio::task::spawn_blocking(move || {
        picture::png(&samples, Some(mark), size).map_err(|why| format!("the picture cannot be written: {why}"))
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
            Some(px) => Err(bad(format!("{key}: {px} is not within {least} to {most}"))),
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

async fn read(app: &App, event: &Event, clip: &Clip) -> Result<Bytes, Error> {
    app.clips.read(clip).await.map(Bytes::from).map_err(|why| unreadable(event, &why))
}

fn unreadable(event: &Event, why: &std::io::Error) -> Error {
    match why.kind() {
        // Retention was faster than this request.
        std::io::ErrorKind::NotFound => Error::new(Code::NotFound, format!("event {} has no clip any more", event.id)),
        _ => Error::new(Code::StoreUnavailable, format!("the clip cannot be read: {why}")),
    }
}

fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

fn not_modified(tag: String) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, tag), (CACHE_CONTROL, CACHE.to_owned())]).into_response()
}

/// What part of the bytes is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// From the first byte to the one before the second.
    Part(usize, usize),
    Impossible,
}

/// RFC 9110, section 14: one range of bytes. Several, another unit, or what is no range at all are ignored, as the RFC
/// allows; so is a range of something that the client has another version of.
fn asked_range(headers: &HeaderMap, tag: &str, len: usize) -> Asked {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(IF_RANGE) && value(IF_RANGE) != Some(tag) {
        return Asked::All;
    }
    let Some(range) = value(RANGE) else { return Asked::All };
    let Some((unit, range)) = range.split_once('=') else { return Asked::All };
    let Some((first, last)) = range.trim().split_once('-') else { return Asked::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Asked::All;
    }
    let number = |text: &str| if text.is_empty() { Ok(None) } else { text.parse::<u64>().map(Some) };
    match (number(first.trim()), number(last.trim())) {
        (Ok(Some(first)), Ok(last)) => {
            if last.is_some_and(|last| last < first) {
                return Asked::All;
            }
            let end = last.map_or(len as u64, |last| last.saturating_add(1).min(len as u64));
            if first >= len as u64 { Asked::Impossible } else { Asked::Part(first as usize, end as usize) }
        }
        (Ok(None), Ok(Some(suffix))) => {
            if suffix == 0 || len == 0 {
                return Asked::Impossible;
            }
            Asked::Part(len - suffix.min(len as u64) as usize, len)
        }
        _ => Asked::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, if_range: Option<&str>) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        if let Some(tag) = if_range {
            headers.insert(IF_RANGE, tag.parse().unwrap());
        }
        asked_range(&headers, "\"clip-7\"", 1_000)
    }

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (range, expected) in [
            ("bytes=0-0", Asked::Part(0, 1)),
            ("bytes=0-", Asked::Part(0, 1_000)),
            ("bytes=500-599", Asked::Part(500, 600)),
            ("bytes=999-5000", Asked::Part(999, 1_000)),
            ("bytes=-1", Asked::Part(999, 1_000)),
            ("bytes=-99999999999", Asked::Part(0, 1_000)),
            ("bytes=5-18446744073709551615", Asked::Part(5, 1_000)),
            ("Bytes = 5-6", Asked::Part(5, 7)),
            ("bytes=1000-", Asked::Impossible),
            ("bytes=-0", Asked::Impossible),
            ("bytes=6-5", Asked::All),
            ("bytes=0-1,5-6", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=a-b", Asked::All),
            ("seconds=0-1", Asked::All),
            ("", Asked::All),
        ] {
            assert_eq!(asked(range, None), expected, "{range}");
        }
    }

    #[test]
    fn range_of_another_version_is_ignored() {
        assert_eq!(asked("bytes=0-1", Some("\"clip-7\"")), Asked::Part(0, 2));
        assert_eq!(asked("bytes=0-1", Some("\"clip-8\"")), Asked::All);
        assert_eq!(asked("bytes=0-1", Some("Sun, 22 Nov 2026 20:00:00 GMT")), Asked::All);
    }
}
