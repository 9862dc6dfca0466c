//! Events as CSV (RFC 4180).

use hub_base::links;
use hub_base::table::{CONTEXT_COLUMNS, MEASURED_COLUMNS, context_fields, measured_fields, records};
use hub_base::time;
use hub_store::events::Event;

/// Columns before the context. Every table of vocalisations has columns for the context and for the measurements.
/// Between these two come [`LABEL_COLUMNS`], after them [`CLIP_COLUMNS`].
const FIRST_COLUMNS: [&str; 12] = [
    "id",
    "started_at",
    "ended_at",
    "duration_s",
    "clock",
    "node",
    "cat",
    "boot_id",
    "start_sample",
    "end_sample",
    "score",
    "kind",
];
const LABEL_COLUMNS: [&str; 2] = ["label", "counts_as"];
const CLIP_COLUMNS: [&str; 2] = ["clip", "no_clip_reason"];
/// Columns that came later. They are at the end, so that the places of the others stay.
const LAST_COLUMNS: [&str; 6] =
    ["node_id", "first_context", "same_sound_as", "also_heard_by", "node_cat", "suggested_label"];

/// Path of the clip of an event. Empty: the event has no clip.
pub(super) fn clip_link(event: &Event) -> String {
    event.clip.as_ref().map_or_else(|_| String::new(), |_| links::clip(event.id))
}

/// The first line of the table.
pub(super) fn head() -> Vec<u8> {
    records([columns()])
}

/// A line for each event.
pub(super) fn lines(events: &[Event]) -> Vec<u8> {
    records(events.iter().map(|event| {
        let clip = event.clip.as_ref().map(|_| clip_link(event)).map_err(|reason| reason.as_str());
        fields_of(event, clip)
    }))
}

/// The line of an event whose clip is elsewhere than in the API, or the reason why there is no clip.
pub(super) fn line(event: &Event, clip: Result<String, &'static str>) -> Vec<u8> {
    records([fields_of(event, clip)])
}

fn columns() -> impl Iterator<Item = &'static str> {
    let context = FIRST_COLUMNS.into_iter().chain(CONTEXT_COLUMNS);
    context.chain(LABEL_COLUMNS).chain(MEASURED_COLUMNS).chain(CLIP_COLUMNS).chain(LAST_COLUMNS)
}

fn fields_of(event: &Event, clip: Result<String, &'static str>) -> impl Iterator<Item = String> {
    let found = &event.found;
    let first: [String; FIRST_COLUMNS.len()] = [
        event.id.to_string(),
        time::rfc3339(found.started_at_ns),
        time::rfc3339(found.ended_at_ns),
        event.duration_s().to_string(),
        found.clock.as_str().into(),
        found.node.clone(),
        event.cat().to_owned(),
        format!("{:016x}", found.boot_id),
        found.start_sample.to_string(),
        found.end_sample.to_string(),
        found.score.to_string(),
        found.kind.clone().unwrap_or_default(),
    ];
    let label: [String; LABEL_COLUMNS.len()] =
        [event.label_word().unwrap_or_default().into(), event.counts_as().as_str().into()];
    let clip: [String; CLIP_COLUMNS.len()] = match clip {
        Ok(place) => [place, String::new()],
        Err(reason) => [String::new(), reason.into()],
    };
    let last: [String; LAST_COLUMNS.len()] = [
        event.node_id.clone().unwrap_or_default(),
        event.first.as_ref().map_or("", |first| first.context.label.as_str()).into(),
        event.same_sound_as.map(|id| id.to_string()).unwrap_or_default(),
        event.also_heard_by().join(" "),
        found.cat.clone(),
        event.suggested.as_ref().map(|suggestion| suggestion.name.clone()).unwrap_or_default(),
    ];
    let context = first.into_iter().chain(context_fields(&found.context));
    context.chain(label).chain(measured_fields(&found.measurements)).chain(clip).chain(last)
}
