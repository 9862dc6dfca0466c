//! Times in messages for people.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Writes times as an owner reads them: in the owner's time zone, and with the date unless it is today.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    now: Zoned,
    /// Named after each time, if the owner may not expect it.
    zone_name: &'static str,
}

impl Moments {
    /// Times as they are written at `now_ns`. Without a time zone, the one of this machine; if that is UTC, as in most
    /// containers, it is named.
    pub(super) fn new(zone: Option<&TimeZone>, now_ns: i64) -> Self {
        let (zone, is_given) = zone.map_or_else(|| (TimeZone::system(), false), |zone| (zone.clone(), true));
        let is_utc = matches!(zone.iana_name(), None | Some("UTC" | "Etc/UTC" | "Etc/Unknown"));
        let zone_name = if is_utc && !is_given { " UTC" } else { "" };
        Self { now: zoned(now_ns, zone), zone_name }
    }

    /// "14:02", "27 Nov, 14:02", or "27 Nov 2025, 14:02".
    pub(super) fn write(&self, at_ns: i64) -> String {
        let at = zoned(at_ns, self.now.time_zone().clone());
        let format = if at.date() == self.now.date() {
            "%H:%M"
        } else if at.year() == self.now.year() {
            "%-d %b, %H:%M"
        } else {
            "%-d %b %Y, %H:%M"
        };
        format!("{}{}", at.strftime(format), self.zone_name)
    }

    /// "at 14:02", or "from 14:02 to 14:31".
    pub(super) fn write_span(&self, from_ns: i64, to_ns: i64) -> String {
        let (from, to) = (self.write(from_ns), self.write(to_ns));
        if from == to { format!("at {to}") } else { format!("from {from} to {to}") }
    }
}

fn zoned(at_ns: i64, zone: TimeZone) -> Zoned {
    Timestamp::from_nanosecond(i128::from(at_ns)).expect("jiff reaches beyond all of i64").to_zoned(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(moment: &str) -> i64 {
        i64::try_from(moment.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    #[test]
    fn times_are_those_of_the_owners_clock_with_the_date_if_it_is_not_today() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        // In Berlin it is half past midnight on 28 November.
        let moments = Moments::new(Some(&berlin), ns("2026-11-27T23:30:00Z"));
        for (at, written) in [
            ("2026-11-27T23:02:59Z", "00:02"),
            ("2026-11-27T22:59:00Z", "27 Nov, 23:59"),
            ("2026-06-01T10:00:00Z", "1 Jun, 12:00"),
            ("2025-11-27T23:02:00Z", "28 Nov 2025, 00:02"),
        ] {
            assert_eq!(moments.write(ns(at)), written);
        }
        let span = moments.write_span(ns("2026-11-27T22:00:00Z"), ns("2026-11-27T23:20:00Z"));
        assert_eq!(span, "from 27 Nov, 23:00 to 00:20");
        assert_eq!(moments.write_span(0, 1), "at 1 Jan 1970, 01:00");
        let utc = Moments::new(Some(&TimeZone::UTC), 0);
        assert_eq!(utc.write(0), "00:00", "the owner has asked for UTC");
    }
}
