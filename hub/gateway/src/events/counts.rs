//! `/api/v1/counts`: number of events by day or by hour, in the viewer's time zone.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(CountParams)`")]

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::{Code, Error};
use hub_base::time::now_ns;
use hub_store::events::{EventFilter, Tally};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::filter::params_with_filter;
use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Params, bad};

/// Most buckets in an answer: a year of hours, or 24 years of days.
const MAX_BUCKETS: usize = 8_784;

/// Days in the answer if the client does not set `from`, including the last day.
const DEFAULT_DAYS: i64 = 30;

/// Like [`DEFAULT_DAYS`], for counts by hour.
const DEFAULT_DAYS_BY_HOUR: i64 = 7;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(counts))
}

params_with_filter! {
    /// Which events to count, and how. `from` and `to` are moved outward to the start of a day or an hour. Without them
    /// the last 30 days are counted, or the last 7 days by hour.
    struct CountParams {
        /// `day` or `hour`.
        #[param(default = "day")]
        by: Option<String>,
        /// Time zone of the days and hours, as an IANA name.
        #[param(default = "UTC", example = "Europe/Berlin")]
        tz: Option<String>,
    }
}

/// Counts of events. Events labelled `not_a_cat`, those that sound like them, and those below the `min_score` of their
/// node are not counted.
#[derive(Debug, Serialize, ToSchema)]
struct CountsAnswer {
    /// `day` or `hour`.
    by: &'static str,
    /// The time zone.
    tz: String,
    /// Number of all events.
    total: u64,
    /// Days or hours in order, including those without events. A day on which clocks change has 23 or 25 hours. The
    /// hour that occurs twice on that day has two entries.
    counts: Vec<BucketAnswer>,
}

/// The count of a day or an hour.
#[derive(Debug, Serialize, ToSchema)]
struct BucketAnswer {
    /// Start of the day or hour, RFC 3339 with the offset of the time zone.
    #[schema(example = "2026-11-22T00:00:00+01:00")]
    start: String,
    /// End of the day or hour, which is the start of the next one.
    end: String,
    /// Number of events.
    count: u64,
    /// Number of events by what they count as.
    contexts: ContextCounts,
}

/// Number of events by what they count as: the label, or the context if there is no label.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ContextCounts {
    /// Waiting for food.
    waiting_for_food: u64,
    /// Alone in an unfamiliar place.
    isolation: u64,
    /// Being brushed at home.
    brushing: u64,
    /// No context is likely enough.
    uncertain: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Hour,
}

/// Counts events by day or by hour.
#[utoipa::path(
    get, path = "/api/v1/counts", operation_id = "count_events", tag = "events", params(CountParams),
    responses(
        (status = 200, body = CountsAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid, or the range is too long"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn counts(
    State(app): State<Arc<App>>,
    Params(params): Params<CountParams>,
) -> Result<Line<CountsAnswer>, Failure> {
    let unit = match params.by.as_deref() {
        None | Some("day") => Unit::Day,
        Some("hour") => Unit::Hour,
        Some(other) => return Err(bad(format!("by: unknown unit {other:?} (expected day or hour)")).into()),
    };
    let mut filter = params.filter()?;
    let name = params.tz.unwrap_or_else(|| "UTC".into());
    let zone = TimeZone::get(&name)
        .map_err(|_| bad(format!("tz: unknown time zone {name:?} (expected an IANA name such as Europe/Berlin)")))?;
    let starts = bucket_starts(unit, &zone, &filter, now_ns()).map_err(|why| match why {
        NoBuckets::Backwards => bad("from must be before to".into()),
        NoBuckets::TooMany => {
            bad(format!("from, to: the range has more than {MAX_BUCKETS} days or hours; choose a shorter one"))
        }
        NoBuckets::Calendar(why) => bad(format!("from, to: {why}")),
    })?;
    filter.from_ns = starts.first().map(unix_ns).transpose()?;
    filter.to_ns = starts.last().map(unix_ns).transpose()?;
    let tallies = app.store.tallies(&filter).await?;
    let counts = fill(&starts, &tallies)?;
    Ok(Line(CountsAnswer {
        by: if unit == Unit::Day { "day" } else { "hour" },
        tz: name,
        total: tallies.len() as u64,
        counts,
    }))
}

#[derive(Debug)]
enum NoBuckets {
    Backwards,
    TooMany,
    Calendar(jiff::Error),
}

impl From<jiff::Error> for NoBuckets {
    fn from(error: jiff::Error) -> Self {
        Self::Calendar(error)
    }
}

/// Start of each day or hour, followed by the end of the last one.
fn bucket_starts(unit: Unit, zone: &TimeZone, filter: &EventFilter, now_ns: i64) -> Result<Vec<Zoned>, NoBuckets> {
    let at = |ns: i64| Timestamp::from_nanosecond(i128::from(ns)).map(|moment| moment.to_zoned(zone.clone()));
    let to = at(filter.to_ns.unwrap_or(now_ns))?;
    let from = match filter.from_ns {
        Some(from_ns) => at(from_ns)?,
        None => {
            let days = if unit == Unit::Day { DEFAULT_DAYS } else { DEFAULT_DAYS_BY_HOUR };
            to.date().checked_sub(jiff::Span::new().days(days - 1))?.to_zoned(zone.clone())?
        }
    };
    if from >= to {
        return Err(NoBuckets::Backwards);
    }
    let mut starts = vec![floor(unit, &from)?];
    while let Some(last) = starts.last().filter(|last| **last < to) {
        if starts.len() > MAX_BUCKETS {
            return Err(NoBuckets::TooMany);
        }
        let next = after(unit, last)?;
        starts.push(next);
    }
    Ok(starts)
}

/// Start of the day or hour that contains the moment.
fn floor(unit: Unit, moment: &Zoned) -> Result<Zoned, jiff::Error> {
    match unit {
        Unit::Day => moment.start_of_day(),
        Unit::Hour => moment.checked_sub(since_full_hour(moment)),
    }
}

/// Start of the next day or hour. Hours are counted in real time, so an hour that occurs twice is two buckets.
fn after(unit: Unit, start: &Zoned) -> Result<Zoned, jiff::Error> {
    match unit {
        Unit::Day => start.date().tomorrow()?.to_zoned(start.time_zone().clone())?.start_of_day(),
        Unit::Hour => start.checked_add(SignedDuration::from_hours(1) - since_full_hour(start)),
    }
}

fn since_full_hour(moment: &Zoned) -> SignedDuration {
    SignedDuration::from_mins(i64::from(moment.minute()))
        + SignedDuration::from_secs(i64::from(moment.second()))
        + SignedDuration::from_nanos(i64::from(moment.subsec_nanosecond()))
}

/// Counts the events between each start and the next. Both slices are in order of time.
fn fill(starts: &[Zoned], tallies: &[Tally]) -> Result<Vec<BucketAnswer>, Error> {
    let mut rest = tallies;
    let mut counts = Vec::with_capacity(starts.len());
    for bounds in starts.windows(2) {
        let end_ns = unix_ns(&bounds[1])?;
        let (within, later) = rest.split_at(rest.partition_point(|tally| tally.started_at_ns < end_ns));
        rest = later;
        let mut contexts = ContextCounts::default();
        for tally in within {
            match tally.counts_as.as_str() {
                "waiting_for_food" => contexts.waiting_for_food += 1,
                "isolation" => contexts.isolation += 1,
                "brushing" => contexts.brushing += 1,
                _ => contexts.uncertain += 1,
            }
        }
        counts.push(BucketAnswer {
            start: rfc3339(&bounds[0]),
            end: rfc3339(&bounds[1]),
            count: within.len() as u64,
            contexts,
        });
    }
    Ok(counts)
}

fn unix_ns(moment: &Zoned) -> Result<i64, Error> {
    i64::try_from(moment.timestamp().as_nanosecond())
        .map_err(|_| Error::new(Code::BadRequest, "from, to: not between the years 1677 and 2262"))
}

fn rfc3339(moment: &Zoned) -> String {
    moment.timestamp().display_with_offset(moment.offset()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(unit: Unit, zone: &str, from: &str, to: &str) -> Result<Vec<Zoned>, NoBuckets> {
        let ns = |text: &str| text.parse::<Timestamp>().unwrap().as_nanosecond() as i64;
        let filter = EventFilter { from_ns: Some(ns(from)), to_ns: Some(ns(to)), ..EventFilter::default() };
        bucket_starts(unit, &TimeZone::get(zone).unwrap(), &filter, 0)
    }

    fn hours_between(starts: &[Zoned]) -> Vec<i64> {
        starts.windows(2).map(|pair| pair[0].duration_until(&pair[1]).as_mins()).collect()
    }

    #[test]
    fn days_are_those_of_the_zone_also_when_clocks_change() {
        let spring = starts(Unit::Day, "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z").unwrap();
        assert_eq!(hours_between(&spring), [24 * 60, 23 * 60, 24 * 60]);
        assert_eq!(rfc3339(&spring[1]), "2026-03-29T00:00:00+01:00");
        assert_eq!(rfc3339(&spring[2]), "2026-03-30T00:00:00+02:00");
        let autumn = starts(Unit::Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25T13:00:00Z").unwrap();
        assert_eq!(hours_between(&autumn), [25 * 60]);
    }

    #[test]
    fn hour_that_occurs_twice_is_two_buckets_and_skipped_hour_is_no_bucket() {
        let autumn = starts(Unit::Hour, "Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T03:00:00Z").unwrap();
        let labels: Vec<String> = autumn.iter().map(rfc3339).collect();
        assert_eq!(
            labels,
            [
                "2026-10-25T00:00:00+02:00",
                "2026-10-25T01:00:00+02:00",
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
                "2026-10-25T04:00:00+01:00",
            ]
        );
        let spring = starts(Unit::Hour, "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z").unwrap();
        let labels: Vec<String> = spring.iter().map(rfc3339).collect();
        assert_eq!(labels, ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]);
    }

    #[test]
    fn hours_begin_where_the_zone_has_them() {
        let nepal = starts(Unit::Hour, "Asia/Kathmandu", "2026-06-01T00:00:00Z", "2026-06-01T01:00:00Z").unwrap();
        assert_eq!(rfc3339(&nepal[0]), "2026-06-01T05:00:00+05:45");
        // Clocks change by half an hour on Lord Howe Island.
        let howe = starts(Unit::Hour, "Australia/Lord_Howe", "2026-04-04T13:00:00Z", "2026-04-04T17:00:00Z").unwrap();
        assert!(hours_between(&howe).iter().all(|minutes| [30, 60].contains(minutes)), "{howe:?}");
        assert_eq!(hours_between(&howe).iter().filter(|minutes| **minutes == 30).count(), 1, "{howe:?}");
    }

    #[test]
    fn events_count_in_the_bucket_in_which_they_began() {
        let starts = starts(Unit::Hour, "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z").unwrap();
        let tally = |at: &str, word: &str| Tally {
            started_at_ns: at.parse::<Timestamp>().unwrap().as_nanosecond() as i64,
            counts_as: word.parse().unwrap(),
        };
        let tallies = [
            tally("2026-10-25T00:00:00Z", "isolation"),
            tally("2026-10-25T00:59:59.999999999Z", "brushing"),
            tally("2026-10-25T01:00:00Z", "uncertain"),
        ];
        let filled = fill(&starts, &tallies).unwrap();
        assert_eq!(filled.iter().map(|bucket| bucket.count).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(
            (filled[0].contexts.isolation, filled[0].contexts.brushing, filled[1].contexts.uncertain),
            (1, 1, 1)
        );
    }

    #[test]
    fn empty_and_too_long_ranges_are_rejected() {
        let now = "2026-11-22T12:00:00Z";
        assert!(matches!(starts(Unit::Day, "UTC", now, now), Err(NoBuckets::Backwards)));
        assert!(matches!(starts(Unit::Hour, "UTC", "2020-01-01T00:00:00Z", now), Err(NoBuckets::TooMany)));
    }

    #[test]
    fn default_is_the_last_days_up_to_now() {
        let now_ns = "2026-11-22T12:00:00Z".parse::<Timestamp>().unwrap().as_nanosecond() as i64;
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let days = bucket_starts(Unit::Day, &zone, &EventFilter::default(), now_ns).unwrap();
        assert_eq!(days.len(), 31);
        assert_eq!(rfc3339(&days[30]), "2026-11-23T00:00:00+01:00");
        let hours = bucket_starts(Unit::Hour, &zone, &EventFilter::default(), now_ns).unwrap();
        assert_eq!(hours.len(), 6 * 24 + 13 + 1);
    }
}
