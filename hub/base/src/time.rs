//! Times: RFC 3339 in UTC in the API, nanoseconds since 1970 in the store.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::error::{Code, Error};

/// Nanoseconds of a day.
pub const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// The most days for which anything can be kept: a hundred years.
pub const MOST_DAYS: u32 = 36_500;

/// The time that is this many days before `now_ns`, in nanoseconds since 1970 UTC. A time before all that 64 bits can
/// say is the earliest of them, so a number of days that is too large never makes anything look old.
pub fn days_before(now_ns: i64, days: u32) -> i64 {
    now_ns.saturating_sub(i64::from(days).saturating_mul(DAY_NS))
}

/// The current time, in nanoseconds since 1970 UTC. A clock before 1970 counts as 1970.
pub fn now_ns() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX)
}

/// A time as the API writes it, such as `2026-11-22T20:30:00.25Z`.
pub fn rfc3339(unix_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).expect("jiff reaches beyond all of i64").to_string()
}

/// Parses a time from a client, with any offset. `key` is the name of the parameter.
///
/// # Errors
/// [`Code::BadRequest`] if the text is not an RFC 3339 time, or not between the years 1677 and 2262 (64 bits of
/// nanoseconds).
pub fn parse(key: &str, text: &str) -> Result<i64, Error> {
    let bad = |why: &str| Error::new(Code::BadRequest, format!("{key}: {text:?} is not {why}"));
    let moment: Timestamp = text.parse().map_err(|_| bad("an RFC 3339 time such as 2026-11-22T20:30:00Z"))?;
    i64::try_from(moment.as_nanosecond()).map_err(|_| bad("between the years 1677 and 2262"))
}

/// A length of time for people, rounded down: "119 s", "60 min", "13 h", "10 days".
pub fn in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_formatting_and_parsing() {
        for unix_ns in [0, 1, -1, 1_795_379_400_250_000_000, i64::MAX, i64::MIN] {
            assert_eq!(parse("from", &rfc3339(unix_ns)).unwrap(), unix_ns);
        }
    }

    #[test]
    fn no_number_of_days_makes_what_is_new_look_old() {
        assert_eq!(days_before(90 * DAY_NS, 30), 60 * DAY_NS);
        let now_ns = 20_000 * DAY_NS;
        let mut before_ns = i64::MAX;
        for days in [0, 1, MOST_DAYS, 106_752, 213_504, 999_999, u32::MAX] {
            let earlier_ns = days_before(now_ns, days);
            assert!(earlier_ns <= before_ns, "{days}");
            before_ns = earlier_ns;
        }
    }

    #[test]
    fn offsets_are_understood() {
        assert_eq!(parse("from", "1970-01-01T01:00:00+01:00").unwrap(), 0);
        assert_eq!(parse("from", "1970-01-01T00:00:00.5Z").unwrap(), 500_000_000);
    }

    #[test]
    fn invalid_time_is_a_bad_request_that_names_the_key() {
        for text in ["", "yesterday", "2026-11-22", "2026-13-01T00:00:00Z", "9999-01-01T00:00:00Z"] {
            let error = parse("to", text).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
            assert!(error.message.starts_with("to: "), "{error}");
        }
    }
}
