//! Events as CSV (RFC 4180), written page by page, so that memory use does not grow with the number of events.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::Error;
use hub_base::links;
use hub_base::table::{CONTEXT_COLUMNS, MEASURED_COLUMNS, context_fields, measured_fields, records};
use hub_base::time;
use hub_store::Store;
use hub_store::events::{Event, EventFilter, EventPage, PageCursor};

/// Events that are read from the store at a time.
const PAGE: usize = 500;

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
const LAST_COLUMNS: [&str; 1] = ["node_id"];

/// What is written next.
enum Place {
    /// The header and the first page.
    Header(EventPage),
    After(PageCursor),
    End,
}

/// The answer. It reads from the store as fast as the client receives it. If the store fails after the first page, the
/// answer is cut off.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn answer(store: Store, filter: EventFilter) -> Result<Response, Error> {
    let first = store.events(&filter, None, PAGE).await?;
    let pages = futures_util::stream::try_unfold(Place::Header(first), move |place| {
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            let (page, head) = match place {
                Place::Header(first) => (first, records([columns()])),
                Place::After(last) => (store.events(&filter, Some(last), PAGE).await.map_err(Error::from)?, Vec::new()),
                Place::End => return Ok(None),
            };
            let next = page.next.map_or(Place::End, Place::After);
            let written = [head, records(page.events.iter().map(fields_of))].concat();
            Ok::<_, Error>(Some((Bytes::from(written), next)))
        }
    });
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"events.csv\"")];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// Path of the clip of an event. Empty: the event has no clip.
pub(super) fn clip_link(event: &Event) -> String {
    event.clip.as_ref().map_or_else(|_| String::new(), |_| links::clip(event.id))
}

fn columns() -> impl Iterator<Item = &'static str> {
    let context = FIRST_COLUMNS.into_iter().chain(CONTEXT_COLUMNS);
    context.chain(LABEL_COLUMNS).chain(MEASURED_COLUMNS).chain(CLIP_COLUMNS).chain(LAST_COLUMNS)
}

fn fields_of(event: &Event) -> impl Iterator<Item = String> {
    let found = &event.found;
    let first: [String; FIRST_COLUMNS.len()] = [
        event.id.to_string(),
        time::rfc3339(found.started_at_ns),
        time::rfc3339(found.ended_at_ns),
        event.duration_s().to_string(),
        found.clock.as_str().into(),
        found.node.clone(),
        found.cat.clone(),
        format!("{:016x}", found.boot_id),
        found.start_sample.to_string(),
        found.end_sample.to_string(),
        found.score.to_string(),
        found.kind.clone().unwrap_or_default(),
    ];
    let label: [String; LABEL_COLUMNS.len()] =
        [event.label.map_or("", |label| label.as_str()).into(), event.counts_as().as_str().into()];
    let clip: [String; CLIP_COLUMNS.len()] =
        [clip_link(event), event.clip.as_ref().err().map_or("", |reason| reason.as_str()).into()];
    let last: [String; LAST_COLUMNS.len()] = [event.node_id.clone().unwrap_or_default()];
    let context = first.into_iter().chain(context_fields(&found.context));
    context.chain(label).chain(measured_fields(&found.measurements)).chain(clip).chain(last)
}

#[cfg(test)]
mod tests {
    use hub_store::Access;
    use hub_store::events::{Committed, NewEvent, NoClip, Watermark};
    use hub_store::testing::event;

    use super::*;

    #[tokio::test]
    async fn every_event_is_one_record_whatever_the_cats_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let name = "=Tom, \"the\ncat\"; =1+1 \u{1f431}";
        for n in 0..PAGE as u64 + 20 {
            let found = NewEvent { cat: name.into(), ..event("kitchen", n * 16_000) };
            let watermark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
            let committed = store.commit_event(found, Err(NoClip::Disabled), watermark, |_| vec![]).await.unwrap();
            assert!(matches!(committed, Committed::Stored(..)));
        }
        let answer = answer(store, EventFilter::default()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let mut reader = csv::Reader::from_reader(&body[..]);
        let header = "id started_at ended_at duration_s clock node cat boot_id start_sample end_sample score kind \
                      context p_waiting_for_food p_isolation p_brushing label counts_as peak_dbfs rms_dbfs snr_db \
                      pitch_median_hz pitch_min_hz pitch_max_hz voiced_fraction spectral_centroid_hz spectral_flatness \
                      clip no_clip_reason node_id";
        assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from_iter(header.split_whitespace()));
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), PAGE + 20);
        let ids: Vec<usize> = records.iter().map(|record| record[0].parse().unwrap()).collect();
        assert_eq!(ids, (1..=PAGE + 20).rev().collect::<Vec<_>>());
        assert_eq!((&records[0][6], &records[0][12], &records[0][28]), (&*format!("'{name}"), "isolation", "disabled"));
        assert_eq!(&records.last().unwrap()[1], "2023-11-14T22:13:20Z");
    }
}
