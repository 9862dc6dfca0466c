//! How an event looks in the API.

use hub_base::links;
use hub_base::time;
use hub_store::events::{Clip, Event};
use serde::Serialize;
use sound::SAMPLE_RATE_HZ;
use utoipa::ToSchema;

use crate::analyses::{ContextAnswer, MeasurementsAnswer};

/// A cat event: one vocalisation that listening found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventAnswer {
    /// Its number.
    id: i64,
    /// URL of the node that heard it.
    node: String,
    /// The cat that the node listens to. Null: none is named.
    cat: Option<String>,
    /// Boot id of the node, 16 hexadecimal digits: with it, samples have one name for ever.
    boot_id: String,
    /// Its first sample (16 kHz) since the node's start.
    start_sample: u64,
    /// The sample after its last.
    end_sample: u64,
    /// When it began, RFC 3339 in UTC.
    started_at: String,
    /// When it ended, likewise.
    ended_at: String,
    /// Its length in seconds.
    duration_s: f64,
    /// Whose clock the times are by: `node`, or `hub` while the node does not know the time.
    clock: &'static str,
    /// How sure it is a cat, 0 to 1.
    score: f32,
    /// Kind of sound: `meow`, `purr` or `hiss_or_growl`. Null: not told apart.
    kind: Option<String>,
    /// In which context, by the analysis.
    context: ContextAnswer,
    /// What the owner says it was: `waiting_for_food`, `isolation`, `brushing` or `not_a_cat`. Null: nothing.
    label: Option<&'static str>,
    /// When the owner said so.
    labelled_at: Option<String>,
    /// What it counts as: the label where there is one, else the context.
    counts_as: &'static str,
    /// What was measured.
    measurements: MeasurementsAnswer,
    /// Its sound. Null: there is none.
    clip: Option<ClipAnswer>,
    /// Why there is no clip: `disabled`, `disk_full`, `over_quota`, `write_failed`, `audio_gone`, `speech`, `expired`
    /// or `missing`.
    no_clip_reason: Option<&'static str>,
}

/// The sound of an event.
#[derive(Debug, Serialize, ToSchema)]
struct ClipAnswer {
    /// Where the WAV file is.
    #[schema(example = "/api/v1/events/7/clip.wav")]
    url: String,
    /// Where its spectrogram is.
    #[schema(example = "/api/v1/events/7/spectrogram.png")]
    spectrogram_url: String,
    /// Size of the WAV file.
    bytes: u64,
    /// Its length in seconds.
    duration_s: f64,
    /// Where in it the event begins, in seconds. Negative: before it.
    event_start_s: f64,
}

fn seconds(samples: f64) -> f64 {
    samples / f64::from(SAMPLE_RATE_HZ)
}

impl From<&Event> for EventAnswer {
    fn from(event: &Event) -> Self {
        let found = &event.found;
        Self {
            id: event.id,
            node: found.node.clone(),
            cat: Some(found.cat.clone()).filter(|cat| !cat.is_empty()),
            boot_id: format!("{:016x}", found.boot_id),
            start_sample: found.start_sample,
            end_sample: found.end_sample,
            started_at: time::rfc3339(found.started_at_ns),
            ended_at: time::rfc3339(found.ended_at_ns),
            duration_s: event.duration_s(),
            clock: found.clock.as_str(),
            score: found.score,
            kind: found.kind.clone(),
            context: ContextAnswer::new(&found.context, event.context_labels),
            label: event.label.map(|label| label.as_str()),
            labelled_at: event.labelled_at_ns.map(time::rfc3339),
            counts_as: event.counts_as().as_str(),
            measurements: (&found.measurements).into(),
            clip: event.clip.as_ref().ok().map(|clip| ClipAnswer::new(event, clip)),
            no_clip_reason: event.clip.as_ref().err().map(|reason| reason.as_str()),
        }
    }
}

impl ClipAnswer {
    fn new(event: &Event, clip: &Clip) -> Self {
        Self {
            url: links::clip(event.id),
            spectrogram_url: links::spectrogram(event.id),
            bytes: clip.wav_bytes(),
            duration_s: seconds(clip.samples as f64),
            event_start_s: seconds(event.found.start_sample as f64 - clip.start_sample as f64),
        }
    }
}
