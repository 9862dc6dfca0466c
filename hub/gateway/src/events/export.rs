//! All events that match a filter in one answer, written page by page, so that memory use does not grow with the number
//! of events.

use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::{Code, Error};
use hub_store::Store;
use hub_store::events::{Event, EventFilter, EventPage, PageCursor};

use super::answer::EventAnswer;
use super::csv;

/// Events that are read from the store at a time.
pub(super) const PAGE: usize = 500;

/// How all events are written in one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    /// An event as JSON in each line.
    JsonLines,
}

impl Format {
    fn head(self) -> Vec<u8> {
        match self {
            Self::Csv => csv::head(),
            Self::JsonLines => Vec::new(),
        }
    }

    fn lines(self, events: &[Event]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Csv => Ok(csv::lines(events)),
            Self::JsonLines => {
                let mut written = Vec::new();
                for event in events {
                    let encoded = serde_json::to_writer(&mut written, &EventAnswer::from(event));
                    encoded.map_err(|why| Error::new(Code::Internal, format!("an event cannot be encoded: {why}")))?;
                    written.push(b'\n');
                }
                Ok(written)
            }
        }
    }

    fn headers(self) -> [(axum::http::HeaderName, &'static str); 2] {
        match self {
            Self::Csv => [
                (CONTENT_TYPE, "text/csv; charset=utf-8"),
                (CONTENT_DISPOSITION, "attachment; filename=\"events.csv\""),
            ],
            Self::JsonLines => {
                [(CONTENT_TYPE, "application/x-ndjson"), (CONTENT_DISPOSITION, "attachment; filename=\"events.jsonl\"")]
            }
        }
    }
}

/// What is written next.
enum Place {
    /// The header and the first page.
    Head(EventPage),
    After(PageCursor),
    End,
}

/// The answer. It reads from the store as fast as the client receives it. If the store fails after the first page, the
/// answer is cut off.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn answer(store: Store, filter: EventFilter, format: Format) -> Result<Response, Error> {
    let first = store.events(&filter, None, PAGE).await?;
    let pages = futures_util::stream::try_unfold(Place::Head(first), move |place| {
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            let (page, head) = match place {
                Place::Head(first) => (first, format.head()),
                Place::After(last) => (store.events(&filter, Some(last), PAGE).await.map_err(Error::from)?, Vec::new()),
                Place::End => return Ok(None),
            };
            let next = page.next.map_or(Place::End, Place::After);
            let written = [head, format.lines(&page.events)?].concat();
            Ok::<_, Error>(Some((Bytes::from(written), next)))
        }
    });
    Ok((format.headers(), Body::from_stream(pages)).into_response())
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
        let csv = answer(store.clone(), EventFilter::default(), Format::Csv).await.unwrap();
        let body = axum::body::to_bytes(csv.into_body(), usize::MAX).await.unwrap();
        let mut reader = ::csv::Reader::from_reader(&body[..]);
        let header = "id started_at ended_at duration_s clock node cat boot_id start_sample end_sample score kind \
                      context p_waiting_for_food p_isolation p_brushing label counts_as peak_dbfs rms_dbfs snr_db \
                      pitch_median_hz pitch_min_hz pitch_max_hz voiced_fraction spectral_centroid_hz spectral_flatness \
                       clip no_clip_reason node_id first_context same_sound_as also_heard_by node_cat suggested_label";
        assert_eq!(reader.headers().unwrap(), &::csv::StringRecord::from_iter(header.split_whitespace()));
        let records: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), PAGE + 20);
        let ids: Vec<usize> = records.iter().map(|record| record[0].parse().unwrap()).collect();
        assert_eq!(ids, (1..=PAGE + 20).rev().collect::<Vec<_>>());
        assert_eq!((&records[0][6], &records[0][12], &records[0][28]), (&*format!("'{name}"), "isolation", "disabled"));
        assert_eq!(&records.last().unwrap()[1], "2023-11-14T22:13:20Z");

        let lines = answer(store, EventFilter::default(), Format::JsonLines).await.unwrap();
        assert_eq!(lines.headers()[CONTENT_TYPE], "application/x-ndjson");
        let body = axum::body::to_bytes(lines.into_body(), usize::MAX).await.unwrap();
        let lines: Vec<serde_json::Value> =
            body.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        let ids: Vec<usize> = lines.iter().map(|line| line["id"].as_u64().unwrap() as usize).collect();
        assert_eq!(ids, (1..=PAGE + 20).rev().collect::<Vec<_>>());
        assert_eq!((&lines[0]["cat"], body.last()), (&name.into(), Some(&b'\n')));
    }
}
