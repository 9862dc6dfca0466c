//! A day or a time on the command line.

use hub_base::time;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Length of a day such as `2026-01-31`. A longer text is a time.
const DAY_BYTES: usize = 10;

/// The time that a person means on the command line, in RFC 3339. A day stands for its start in the time zone of this
/// machine. A time is in RFC 3339 already.
///
/// # Errors
/// If it is neither.
pub(crate) fn start(text: &str) -> Result<String, String> {
    start_in(text, TimeZone::system())
}

fn start_in(text: &str, zone: TimeZone) -> Result<String, String> {
    let day = Some(text).filter(|text| text.len() == DAY_BYTES).and_then(|text| text.parse::<Date>().ok());
    let time = match day {
        Some(day) => day.to_zoned(zone).map(|start| start.timestamp().to_string()).map_err(|why| why.to_string())?,
        None => text.to_owned(),
    };
    let why = || format!("{text:?} is neither a day such as 2026-01-31 nor a time such as 2026-01-31T20:30:00Z");
    time::parse("day", &time).map(time::rfc3339).map_err(|_| why())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn day_begins_on_this_machine_and_a_time_says_its_offset() {
        let rome = || TimeZone::get("Europe/Rome").unwrap();
        assert_eq!(start_in("2026-01-31", rome()).unwrap(), "2026-01-30T23:00:00Z");
        assert_eq!(start_in("2026-01-31T01:00:00+01:00", rome()).unwrap(), "2026-01-31T00:00:00Z");
        for bad in ["", "yesterday", "2026-02-30", "2026-01-31T01:00:00", "31.01.2026", "0001-01-01"] {
            assert!(start_in(bad, rome()).unwrap_err().contains("neither a day"), "{bad}");
        }
    }
}
