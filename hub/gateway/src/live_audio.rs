//! `/api/v1/nodes/live.wav`: live audio of a microphone.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(LiveParams)`")]

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::{Code, Error};
use hub_listen::monitor;
use serde::Deserialize;
use sound::SAMPLE_RATE_HZ;
use tracing::info;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::gate::Asker;
use crate::json::{Failure, Problem};
use crate::limits::MAX_LIVE_STREAMS;
use crate::openapi::Binary;
use crate::params::Params;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(live))
}

/// The node to hear.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiveParams {
    /// URL or id of the node, as in `/api/v1/nodes`.
    #[param(example = "http://localhost:50056")]
    node: String,
}

/// Streams the live audio of a microphone until the client disconnects: WAV of unknown length, 16 kHz, one channel, 16
/// bits. The stream begins with the last second. A gap is replaced by silence of its length, at most 10 s. A client
/// that falls 10 s behind is disconnected.
#[utoipa::path(
    get, path = "/api/v1/nodes/live.wav", operation_id = "stream_live_audio", tag = "live", params(LiveParams),
    responses(
        (status = 200, body = Binary, content_type = "audio/wav"),
        (status = 400, body = Problem, description = "`bad_request`: the parameter `node` is missing"),
        (status = 403, body = Problem, description = "`switched_off`: `[page] live_audio` is false in the config. \
            `foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: the hub does not know the node"),
        (status = 429, body = Problem, description = "`too_many_listeners`: too many live streams are open"),
        (status = 503, body = Problem, description = "`node_unavailable`"),
        (status = 504, body = Problem, description = "`node_too_slow`"),
    )
)]
async fn live(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Params(params): Params<LiveParams>,
) -> Result<Response, Failure> {
    if !app.page.live_audio {
        return Err(Error::new(
            Code::SwitchedOff,
            "live audio is disabled: the hub's config has `[page] live_audio = false`",
        )
        .into());
    }
    let node = app.node(&params.node)?;
    let place = app.limits.live_audio.try_take().ok_or_else(|| {
        let message = format!("{MAX_LIVE_STREAMS} live audio streams are open already; close one, or try again later");
        Error::new(Code::TooManyLiveStreams, message)
    })?;
    let audio = monitor::open(&node, app.stop.clone()).await?;
    let who = asker.name();
    info!(who, node = node.url(), "live listening has begun");
    let place = (place, app.limits.listeners.add(who, node.url().to_owned()));
    let pieces = futures_util::stream::unfold((Some(head()), audio, place), |(head, mut audio, place)| async move {
        let piece = match head {
            Some(head) => head,
            None => audio.recv().await?,
        };
        Some((Ok::<_, Infallible>(piece), (None, audio, place)))
    });
    let headers = [(CONTENT_TYPE, "audio/wav"), (CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// The head of a WAV file of unknown length. Both length fields have their maximum, which players take as unknown.
fn head() -> Bytes {
    const BYTES_A_SAMPLE: u16 = 2;
    let mut head = Vec::with_capacity(44);
    head.extend(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0");
    head.extend(SAMPLE_RATE_HZ.to_le_bytes());
    head.extend((SAMPLE_RATE_HZ * u32::from(BYTES_A_SAMPLE)).to_le_bytes());
    head.extend(BYTES_A_SAMPLE.to_le_bytes());
    head.extend((8 * BYTES_A_SAMPLE).to_le_bytes());
    head.extend(b"data\xff\xff\xff\xff");
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_describes_canonical_audio() {
        let mut file = head().to_vec();
        assert_eq!(file[40..], [0xff; 4]);
        // hound needs a length.
        file[40..].fill(0);
        let spec = hound::WavReader::new(&file[..]).unwrap().spec();
        let expected = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        assert_eq!((spec, file.len()), (expected, 44));
    }
}
