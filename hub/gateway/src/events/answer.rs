//! How the API describes an event.

use hub_base::links;
use hub_base::time;
use hub_store::events::{Clip, Event};
use serde::Serialize;
use sound::SAMPLE_RATE_HZ;
use utoipa::ToSchema;

use crate::vocalisation::{ContextAnswer, MeasurementsAnswer};

/// An event: a stored vocalisation with its clip.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventAnswer {
    /// Number of the event.
    id: i64,
    /// URL of the node that recorded it.
    node: String,
    /// The cat: the one that the owner named for the event, otherwise `node_cat`. Null: neither has a name.
    cat: Option<String>,
    /// The cat of the node, whatever the owner said. Null: the node has no cat's name.
    node_cat: Option<String>,
    /// When the owner said which cat it was. Null: the owner did not.
    cat_named_at: Option<String>,
    /// Id of the node, 64 hexadecimal digits: the same whatever its URL is. Null: the node has proved none.
    node_id: Option<String>,
    /// Boot id of the node, 16 hexadecimal digits. With the boot id, a sample number is unique.
    boot_id: String,
    /// First sample (16 kHz), counted from the node's start.
    start_sample: u64,
    /// The sample after the last one.
    end_sample: u64,
    /// When the vocalisation began, RFC 3339 in UTC.
    started_at: String,
    /// When the vocalisation ended, RFC 3339 in UTC.
    ended_at: String,
    /// Length in seconds.
    duration_s: f64,
    /// Whose clock gave the times: `node`, or `hub` if the node did not know the time.
    clock: &'static str,
    /// How likely it is a cat, 0 to 1.
    score: f32,
    /// Kind of sound: `meow`, `purr` or `hiss_or_growl`. Null: unknown.
    kind: Option<String>,
    /// The context, as classified.
    context: ContextAnswer,
    /// The first answer, if the event was re-evaluated after labels of the owner. Null: it was not.
    first_context: Option<ContextAnswer>,
    /// Label of the owner's own that the hub suggests, because the event sounds like those that have it. Null: none.
    /// `context` is `uncertain` then.
    suggested_label: Option<String>,
    /// How probable it is that the owner would choose `suggested_label`, 0 to 1. Null: none is suggested.
    suggested_probability: Option<f32>,
    /// The label that was suggested first, if the event was re-evaluated. Null: none was, or the event was not.
    first_suggested_label: Option<String>,
    /// The owner's label: `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of the
    /// owner's own. Null: no label.
    label: Option<String>,
    /// When the owner set the label. Null: no label.
    labelled_at: Option<String>,
    /// What the event counts as: the label, or the context if there is no label. `uncertain` for a label of the
    /// owner's own.
    counts_as: &'static str,
    /// Whether the event was lost with its database and came back from its clip. Nobody was notified of it then.
    recovered: bool,
    /// Number of the event that is shown for the same sound, which another node heard too. Null: this event is shown
    /// itself.
    same_sound_as: Option<i64>,
    /// The other nodes that heard the same sound, if this event is the one that is shown: their ids, or the URLs of
    /// those that have proved none.
    also_heard_by: Vec<String>,
    /// Events labelled `not_a_cat` that this one sounded like when it was stored. Nobody was notified of it, and it is
    /// not counted unless it has a label. Empty: it was like none.
    like_false_alarms: Vec<i64>,
    /// `min_score` of the node when the event was stored, if the score was below it. Nobody was notified of it, and it
    /// is not counted unless it has a label. Null: the score was high enough, or the node had no `min_score`.
    below_min_score: Option<f32>,
    /// Acoustic measurements.
    measurements: MeasurementsAnswer,
    /// The recording. Null: there is no clip.
    clip: Option<ClipAnswer>,
    /// Why there is no clip: `disabled`, `disk_full`, `over_quota`, `write_failed`, `audio_gone`, `speech`, `expired`
    /// or `missing`.
    no_clip_reason: Option<&'static str>,
}

/// The recording of an event.
#[derive(Debug, Serialize, ToSchema)]
struct ClipAnswer {
    /// Path of the WAV file.
    #[schema(example = "/api/v1/events/7/clip.wav")]
    url: String,
    /// Path of the spectrogram.
    #[schema(example = "/api/v1/events/7/spectrogram.png")]
    spectrogram_url: String,
    /// Size of the WAV file, in bytes.
    bytes: u64,
    /// Length in seconds.
    duration_s: f64,
    /// Where the event begins, in seconds from the start of the clip. Negative: before the clip.
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
            cat: Some(event.cat().to_owned()).filter(|cat| !cat.is_empty()),
            node_cat: Some(found.cat.clone()).filter(|cat| !cat.is_empty()),
            cat_named_at: event.said_cat_at_ns.map(time::rfc3339),
            node_id: event.node_id.clone(),
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
            first_context: event.first.as_ref().map(|first| ContextAnswer::new(&first.context, first.labels)),
            suggested_label: event.suggested.as_ref().map(|suggestion| suggestion.name.clone()),
            suggested_probability: event.suggested.as_ref().map(|suggestion| suggestion.probability),
            first_suggested_label: event.first.as_ref().and_then(|first| first.suggested.clone()),
            label: event.label_word().map(str::to_owned),
            labelled_at: event.labelled_at_ns.map(time::rfc3339),
            counts_as: event.counts_as().as_str(),
            recovered: event.recovered,
            same_sound_as: event.same_sound_as,
            also_heard_by: event.also_heard_by().into_iter().map(str::to_owned).collect(),
            like_false_alarms: event.like_false_alarms.clone(),
            below_min_score: event.below_min_score,
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
