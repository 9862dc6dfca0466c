//! `/api/v1/nodes/live.wav`: what a microphone hears now, for a person.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(LiveParams)`")]

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::{Code, Error};
use hub_listen::monitor;
use serde::Deserialize;
use sound::SAMPLE_RATE_HZ;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Problem};
use crate::limits::MAX_LISTENERS;
use crate::params::Params;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(live))
}

/// Which node is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiveParams {
    /// URL of the node, as `/api/v1/nodes` says it.
    #[param(example = "http://localhost:50056")]
    node: String,
}

/// What a microphone hears now, for as long as the client listens: WAV without a known length, 16 kHz, one channel, 16 bits. It
/// begins with the last second. A gap is silence, of its length up to 10 s. A client that falls 10 s behind is cut off.
#[utoipa::path(
    get, path = "/api/v1/nodes/live.wav", tag = "live", params(LiveParams),
    responses(
        (status = 200, body = Vec<u8>, content_type = "audio/wav"),
        (status = 400, body = Problem, description = "`bad_request`: no node is named"),
        (status = 403, body = Problem, description = "`switched_off`: the hub's config says `page.live_audio = false`"),
        (status = 404, body = Problem, description = "`not_found`: the hub has no such node"),
        (status = 429, body = Problem, description = "`too_many_listeners`"),
        (status = 503, body = Problem, description = "`node_unavailable`"),
        (status = 504, body = Problem, description = "`node_too_slow`"),
    )
)]
async fn live(State(app): State<Arc<App>>, Params(params): Params<LiveParams>) -> Result<Response, Failure> {
    if !app.page.live_audio {
        return Err(Error::new(Code::SwitchedOff, "live listening is switched off in the hub's config").into());
    }
    let node = app.nodes.iter().find(|node| node.url() == params.node);
    let node = node.ok_or_else(|| Error::new(Code::NotFound, format!("there is no node {:?}", params.node)))?;
    let place = app.limits.sound.try_take();
    let place =
        place.ok_or_else(|| Error::new(Code::TooManyLiveStreams, format!("{MAX_LISTENERS} people listen already")))?;
    let audio = monitor::open(&node, app.stop.clone()).await?;
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

/// The head of a WAV file whose length is not known: both lengths are the greatest there is, which players take for that.
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
    fn head_is_that_of_canonical_audio() {
        let mut file = head().to_vec();
        assert_eq!(file[40..], [0xff; 4]);
        // This reader wants to know the length.
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
