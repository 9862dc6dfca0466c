//! The `Range` header of a request for a file.

use axum::http::HeaderMap;
use axum::http::header::{IF_RANGE, RANGE};

/// The bytes that a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// All bytes.
    Whole,
    /// From the first index up to, not including, the second.
    Part(usize, usize),
    /// The range begins after the last byte.
    Unsatisfiable,
}

/// The range that a request names, as in RFC 9110, section 14. Several ranges, other units and malformed ranges are
/// ignored, as the RFC allows. A range is ignored as well if `If-Range` names another version than `tag`.
pub(super) fn requested_range(headers: &HeaderMap, tag: &str, len: usize) -> Requested {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(IF_RANGE) && value(IF_RANGE) != Some(tag) {
        return Requested::Whole;
    }
    let Some(range) = value(RANGE) else { return Requested::Whole };
    let Some((unit, range)) = range.split_once('=') else { return Requested::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Requested::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Requested::Whole;
    }
    let number = |text: &str| if text.is_empty() { Ok(None) } else { text.parse::<u64>().map(Some) };
    match (number(first.trim()), number(last.trim())) {
        (Ok(Some(first)), Ok(last)) => {
            if last.is_some_and(|last| last < first) {
                return Requested::Whole;
            }
            let end = last.map_or(len as u64, |last| last.saturating_add(1).min(len as u64));
            if first >= len as u64 { Requested::Unsatisfiable } else { Requested::Part(first as usize, end as usize) }
        }
        (Ok(None), Ok(Some(suffix))) => {
            if suffix == 0 || len == 0 {
                return Requested::Unsatisfiable;
            }
            Requested::Part(len - suffix.min(len as u64) as usize, len)
        }
        _ => Requested::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, if_range: Option<&str>) -> Requested {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        if let Some(tag) = if_range {
            headers.insert(IF_RANGE, tag.parse().unwrap());
        }
        requested_range(&headers, "\"clip-7\"", 1_000)
    }

    #[test]
    fn ranges_are_read_as_in_the_rfc() {
        for (range, expected) in [
            ("bytes=0-0", Requested::Part(0, 1)),
            ("bytes=0-", Requested::Part(0, 1_000)),
            ("bytes=500-599", Requested::Part(500, 600)),
            ("bytes=999-5000", Requested::Part(999, 1_000)),
            ("bytes=-1", Requested::Part(999, 1_000)),
            ("bytes=-99999999999", Requested::Part(0, 1_000)),
            ("bytes=5-18446744073709551615", Requested::Part(5, 1_000)),
            ("Bytes = 5-6", Requested::Part(5, 7)),
            ("bytes=1000-", Requested::Unsatisfiable),
            ("bytes=-0", Requested::Unsatisfiable),
            ("bytes=6-5", Requested::Whole),
            ("bytes=0-1,5-6", Requested::Whole),
            ("bytes=-", Requested::Whole),
            ("bytes=a-b", Requested::Whole),
            ("seconds=0-1", Requested::Whole),
            ("", Requested::Whole),
        ] {
            assert_eq!(asked(range, None), expected, "{range}");
        }
    }

    #[test]
    fn range_of_another_version_is_ignored() {
        assert_eq!(asked("bytes=0-1", Some("\"clip-7\"")), Requested::Part(0, 2));
        assert_eq!(asked("bytes=0-1", Some("\"clip-8\"")), Requested::Whole);
        assert_eq!(asked("bytes=0-1", Some("Sun, 22 Nov 2026 20:00:00 GMT")), Requested::Whole);
    }
}

#[cfg(test)]
mod fuzz {
    use axum::http::HeaderValue;
    use fuzzing::{hold, nearly};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn range_lies_within_the_file() {
        let seeds = ["bytes=0-0", "bytes=5-", "bytes=-7", "bytes=0-1,5-6"].map(|seed| seed.as_bytes().to_vec());
        let words = ["18446744073709551615", "18446744073709551616", "-", "=", "+", " ", "bytes"];
        let lengths = prop_oneof![0..3_usize, 0..10_000_usize, Just(usize::MAX)];
        hold(3_000, &(nearly(seeds.to_vec(), &words), lengths), |(range, len)| {
            let Ok(value) = HeaderValue::from_bytes(&range) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(RANGE, value)]);
            if let Requested::Part(from, to) = requested_range(&headers, "\"1\"", len) {
                prop_assert!(from < to && to <= len, "{from}..{to} of {len}");
            }
            Ok(())
        });
    }
}
