//! `/api/v1/events.zip`: the clips of all events that match a filter. It is written clip by clip, so that memory use
//! grows with the table alone.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(ArchiveParams)`")]

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::{Code, Error};
use hub_base::places::Place;
use hub_base::raven::{self, Selection};
use hub_store::events::{Clip, Event, EventFilter, PageCursor};
use sound::SAMPLE_RATE_HZ;
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::csv;
use super::export::PAGE;
use super::filter::params_with_filter;
use crate::app::App;
use crate::json::{Failure, Problem};
use crate::limits::{MAX_ARCHIVE_EVENTS, MAX_ARCHIVES};
use crate::openapi::Binary;
use crate::params::{Params, bad};

/// Name of the table in an archive. It is the last file, because it says which clips could not be read.
const TABLE: &str = "events.csv";

/// Folder of the clips in an archive.
const FOLDER: &str = "clips";

/// Level of compression, 1 to 9. Higher levels take a small machine long and gain little on sound.
const LEVEL: i64 = 1;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(archive))
}

params_with_filter! {
    /// Filters of events. An event must match all that are given.
    struct ArchiveParams {}
}

/// Exports the clips of all matching events as a ZIP archive: `clips/event-ID.wav`, for each a selection table of Raven
/// (`clips/event-ID.Table.1.selections.txt`), and `events.csv` with all matching events. `events.csv` says in
/// `no_clip_reason` why an event has no clip. At most 10,000 events.
#[utoipa::path(
    get, path = "/api/v1/events.zip", operation_id = "export_clips", tag = "events", params(ArchiveParams),
    responses(
        (status = 200, body = Binary, content_type = "application/zip"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid, or too many events match"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 429, body = Problem, description = "`too_many_archives`: too many archives are being written"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn archive(State(app): State<Arc<App>>, Params(params): Params<ArchiveParams>) -> Result<Response, Failure> {
    let filter = params.filter()?;
    if app.store.count_events(&filter, MAX_ARCHIVE_EVENTS + 1).await? > MAX_ARCHIVE_EVENTS {
        let message = format!(
            "more than {MAX_ARCHIVE_EVENTS} events match, and an archive has room for no more: narrow the filter, for \
             example with `from` and `to`"
        );
        return Err(bad(message).into());
    }
    let place = app.limits.archives.try_take().ok_or_else(|| {
        let message = format!("{MAX_ARCHIVES} archives are being written already; try again later");
        Error::new(Code::TooManyArchives, message)
    })?;
    let first = app.store.events(&filter, None, PAGE).await?;
    let pieces = Pieces {
        app,
        filter,
        archive: Some(Archive::default()),
        table: csv::head(),
        events: first.events.into(),
        next: first.next,
        left: MAX_ARCHIVE_EVENTS,
        _place: place,
    };
    let pieces = futures_util::stream::try_unfold(pieces, |pieces| async move {
        // The client sees that the answer is cut off: an archive ends with its directory.
        pieces.next().await.inspect_err(|error| warn!(%error, "an archive of clips was cut off"))
    });
    let headers = [
        (CONTENT_TYPE, "application/zip"),
        (CONTENT_DISPOSITION, "attachment; filename=\"events.zip\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// What is left to send.
struct Pieces {
    app: Arc<App>,
    filter: EventFilter,
    /// `None`: all is written.
    archive: Option<Archive>,
    /// The table so far.
    table: Vec<u8>,
    /// The rest of the page.
    events: VecDeque<Event>,
    /// Where the next page begins.
    next: Option<PageCursor>,
    /// Events that still have room.
    left: usize,
    _place: Place,
}

impl Pieces {
    /// Writes until there are bytes to send.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        while let Some(archive) = self.archive.take() {
            let written = match self.following().await? {
                Some(event) => {
                    let files = self.files_of(&event).await?;
                    let archive = blocking(archive, move |archive| archive.add_all(&event, &files)).await?;
                    self.archive.insert(archive).written.take()
                }
                None => {
                    let table = std::mem::take(&mut self.table);
                    let written = archive.written.clone();
                    blocking(archive, move |archive| archive.add(TABLE, None, &table)).await?.end().await?;
                    written.take()
                }
            };
            if !written.is_empty() {
                return Ok(Some((written.into(), self)));
            }
        }
        Ok(None)
    }

    /// The next event, from the store if the page is at its end.
    async fn following(&mut self) -> Result<Option<Event>, Error> {
        if self.events.is_empty()
            && let Some(next) = self.next.take()
        {
            let page = self.app.store.events(&self.filter, Some(next), PAGE).await?;
            (self.events, self.next) = (page.events.into(), page.next);
        }
        let room = self.left.checked_sub(1);
        Ok(room.and_then(|left| {
            self.left = left;
            self.events.pop_front()
        }))
    }

    /// Adds an event to the table. Returns the files of its clip, none if it has no clip that can be read.
    async fn files_of(&mut self, event: &Event) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let name = format!("{FOLDER}/event-{}", event.id);
        let clip = match &event.clip {
            Err(reason) => Err(reason.as_str()),
            Ok(clip) => match self.app.clips.read(clip).await {
                Ok(wav) => Ok((clip, wav)),
                Err(why) => Err(match why.kind() {
                    ErrorKind::NotFound => "missing",
                    ErrorKind::InvalidData => "damaged",
                    _ => "unreadable",
                }),
            },
        };
        let in_archive = clip.as_ref().map(|_| format!("{name}.wav")).map_err(|reason| *reason);
        let line = csv::line(event, in_archive);
        self.table.extend(line);
        Ok(clip.map_or_else(
            |_| Vec::new(),
            |(clip, wav)| {
                let table = raven::table([selection(event, clip)]);
                vec![(format!("{name}.wav"), wav), (format!("{name}{}", raven::ENDING), table.into_bytes())]
            },
        ))
    }
}

/// Where an event is in its clip.
fn selection(event: &Event, clip: &Clip) -> Selection {
    let seconds = |sample: u64| {
        let since = sample.saturating_sub(clip.start_sample).min(clip.samples);
        since as f64 / f64::from(SAMPLE_RATE_HZ)
    };
    Selection {
        channel: 1,
        begin_s: seconds(event.found.start_sample),
        end_s: seconds(event.found.end_sample),
        sample_rate_hz: SAMPLE_RATE_HZ,
        annotation: event.label_word().unwrap_or(event.counts_as().as_str()).to_owned(),
        kind: event.found.kind.clone().unwrap_or_default(),
        score: event.found.score,
        context: event.found.context.label.as_str().to_owned(),
        pitch_hz: event.found.measurements.pitch_median_hz,
    }
}

/// An archive that is being written.
struct Archive {
    // In a box: it is large, and moves between threads for each clip.
    zip: Box<ZipWriter<StreamWriter<Written>>>,
    written: Written,
}

impl Default for Archive {
    fn default() -> Self {
        let written = Written::default();
        Self { zip: Box::new(ZipWriter::new_stream(written.clone())), written }
    }
}

impl Archive {
    /// Adds the files of a clip.
    fn add_all(&mut self, event: &Event, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
        files.iter().try_for_each(|(name, content)| self.add(name, Some(event.found.started_at_ns), content))
    }

    /// Adds a file with its time, in nanoseconds since 1970 UTC.
    fn add(&mut self, name: &str, at_ns: Option<i64>, content: &[u8]) -> Result<(), Error> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .last_modified_time(at_ns.and_then(date).unwrap_or_default());
        self.zip.start_file(name, options).map_err(|why| broken(&why))?;
        self.zip.write_all(content).map_err(|why| broken(&why))
    }

    /// Writes the directory of the archive.
    async fn end(self) -> Result<(), Error> {
        let ended = tokio::task::spawn_blocking(move || self.zip.finish().map(drop)).await;
        ended.map_err(|why| broken(&why))?.map_err(|why| broken(&why))
    }
}

/// Runs work that compresses on a thread where it delays nobody.
async fn blocking(
    mut archive: Archive,
    work: impl FnOnce(&mut Archive) -> Result<(), Error> + Send + 'static,
) -> Result<Archive, Error> {
    let worked = tokio::task::spawn_blocking(move || work(&mut archive).map(|()| archive)).await;
    worked.map_err(|why| broken(&why))?
}

fn broken(why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("the archive cannot be written: {why}"))
}

/// The date as archives have it: to two seconds, in UTC. `None`: before 1980, or after 2107.
fn date(at_ns: i64) -> Option<DateTime> {
    let at = jiff::Timestamp::from_nanosecond(at_ns.into()).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| u8::try_from(number).ok();
    DateTime::from_date_and_time(
        u16::try_from(at.year()).ok()?,
        part(at.month())?,
        part(at.day())?,
        part(at.hour())?,
        part(at.minute())?,
        part(at.second())?,
    )
    .ok()
}

/// Bytes that are written and not sent yet. Clones share them.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
