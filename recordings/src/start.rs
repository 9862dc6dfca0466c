//! When a recording began: by what the recorder wrote into the file, or by the name of the file.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use crate::note::Note;

/// Years that a date of a recording can have. Other digits in names of files are no dates.
const YEARS: std::ops::RangeInclusive<i16> = 1990..=2100;

/// When a recording began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// What the recorder's clock showed.
    pub clock: DateTime,
    /// How far that clock was ahead of UTC. `None`: the recorder does not say.
    pub offset: Option<Offset>,
    /// Where this is from, for people.
    pub from: &'static str,
}

impl Start {
    /// The moment, for people in a time zone. A clock of unknown offset is taken as one of that zone. `None`: the
    /// moment is unknown, or beyond the calendar.
    pub fn in_zone(&self, zone: Option<&TimeZone>) -> Option<Zoned> {
        match (self.offset, zone) {
            (Some(offset), None) => self.clock.to_zoned(TimeZone::fixed(offset)).ok(),
            (Some(offset), Some(zone)) => Some(offset.to_timestamp(self.clock).ok()?.to_zoned(zone.clone())),
            (None, Some(zone)) => self.clock.to_zoned(zone.clone()).ok(),
            (None, None) => None,
        }
    }
}

/// When a recording began, by its notes or, if they do not say, by the name of its file (without folders).
pub fn start(notes: &[Note], name: Option<&str>) -> Option<Start> {
    let of = |id: &[u8; 4]| notes.iter().find(|note| note.id == *id).map(|note| &note.content[..]);
    of(b"guan")
        .and_then(guano)
        .or_else(|| of(b"wamd").and_then(song_meter))
        .or_else(|| of(b"LIST").and_then(audio_moth))
        .or_else(|| of(b"bext").and_then(broadcast))
        .or_else(|| name.and_then(file_name))
}

/// `Timestamp: 2021-02-24T19:17:30.000+02:00` in a GUANO text. Without an offset, it is the recorder's local time.
fn guano(content: &[u8]) -> Option<Start> {
    let text = String::from_utf8_lossy(content);
    let value = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "Timestamp"))?.1;
    dated(value.trim_matches(['\0', ' ', '\r']), "GUANO")
}

/// The time stamp (number 5) of Wildlife Acoustics' metadata: pieces of a number, a length and a content.
fn song_meter(mut content: &[u8]) -> Option<Start> {
    while let [a, b, c, d, e, f, rest @ ..] = content {
        let length = u32::from_le_bytes([*c, *d, *e, *f]) as usize;
        let piece = rest.get(..length)?;
        if u16::from_le_bytes([*a, *b]) == 5 {
            return dated(String::from_utf8_lossy(piece).trim_matches(['\0', ' ']), "Song Meter");
        }
        content = &rest[length..];
    }
    None
}

/// `Recorded at 19:17:30 24/02/2021 (UTC+2) by AudioMoth ...` in the comment of an AudioMoth.
fn audio_moth(content: &[u8]) -> Option<Start> {
    let text = String::from_utf8_lossy(content);
    let (_, text) = text.split_once("Recorded at ")?;
    let mut words = text.split_whitespace();
    let (time, date, zone) = (words.next()?, words.next()?, words.next()?);
    let mut date = date.split('/').map(|part| part.parse::<i16>().ok());
    let (day, month, year) = (date.next()??, date.next()??, date.next()??);
    let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let time: Time = time.parse().ok()?;
    let zone = zone.strip_prefix("(UTC")?.strip_suffix(')')?;
    // "", "+2", "-3:30"
    let (hours, minutes) = zone.split_once(':').unwrap_or((zone, "0"));
    let hours: i32 = if hours.is_empty() { 0 } else { hours.parse().ok()? };
    let minutes: i32 = minutes.parse().ok()?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let offset = Offset::from_seconds(hours.checked_mul(3600)?.checked_add(sign * minutes.checked_mul(60)?)?).ok()?;
    checked(date.to_datetime(time), Some(offset), "AudioMoth")
}

/// Date and time of a Broadcast WAV, the recorder's local time.
fn broadcast(content: &[u8]) -> Option<Start> {
    let text = std::str::from_utf8(content.get(320..338)?).ok()?;
    // Some recorders separate the fields by other signs.
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i16>().ok();
    let small = |from, to| i8::try_from(field(from, to)?).ok();
    let date = Date::new(field(0, 4)?, small(5, 7)?, small(8, 10)?).ok()?;
    let time = Time::new(small(10, 12)?, small(13, 15)?, small(16, 18)?, 0).ok()?;
    checked(date.to_datetime(time), None, "bext")
}

/// `20210224_191730.WAV` (AudioMoth, Song Meter, with or without a text before), `2021-02-24T19-17-30+0200`,
/// `20210224T191730Z`, or eight hexadecimal digits: seconds of UNIX, as early AudioMoths named files.
fn file_name(name: &str) -> Option<Start> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if stem.len() == 8 && stem.chars().all(|letter| matches!(letter, '0'..='9' | 'A'..='F')) {
        let seconds = i64::from_str_radix(stem, 16).ok()?;
        let clock = Offset::UTC.to_datetime(Timestamp::from_second(seconds).ok()?);
        // Such a name can also be a date without a time.
        return checked(clock, Some(Offset::UTC), "file name").filter(|_| compact_date(stem).is_none());
    }
    (0..stem.len()).find_map(|from| {
        let before = from.checked_sub(1).and_then(|place| stem.as_bytes().get(place));
        if before.is_some_and(u8::is_ascii_digit) { None } else { dated_name(stem.get(from..)?) }
    })
}

fn compact_date(digits: &str) -> Option<Date> {
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<i16>().ok();
    let date = Date::new(part(0, 4)?, i8::try_from(part(4, 6)?).ok()?, i8::try_from(part(6, 8)?).ok()?).ok()?;
    YEARS.contains(&date.year()).then_some(date)
}

/// A date and a time at the beginning of a text: 14 digits, with any of the separators that names of files have.
fn dated_name(text: &str) -> Option<Start> {
    let mut digits = String::new();
    let mut rest = text.chars().peekable();
    while digits.len() < 14 {
        match rest.next()? {
            letter @ '0'..='9' => digits.push(letter),
            '-' | '_' | '.' | ':' | ' ' if !digits.is_empty() && digits.len().is_multiple_of(2) => {}
            'T' if digits.len() == 8 => {}
            _ => return None,
        }
    }
    if rest.peek().is_some_and(char::is_ascii_digit) {
        return None;
    }
    let part = |from: usize| digits.get(from..from + 2)?.parse::<i8>().ok();
    let time = Time::new(part(8)?, part(10)?, part(12)?, 0).ok()?;
    let rest: String = rest.collect();
    let offset = if rest.starts_with('Z') { Some(Offset::UTC) } else { signed_offset(&rest) };
    checked(compact_date(&digits)?.to_datetime(time), offset, "file name")
}

/// `+0200`, `-03:30` at the beginning of a text.
fn signed_offset(text: &str) -> Option<Offset> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|letter| *letter != ':').take(4).collect();
    if digits.len() != 4 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i32, i32) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}

/// A date and a time as ISO 8601 has them, with a `T` or a space between, and perhaps an offset.
fn dated(text: &str, from: &'static str) -> Option<Start> {
    let clock_end = text.char_indices().skip(11).find(|(_, letter)| matches!(letter, '+' | '-' | 'Z' | 'z'));
    let (clock, zone) = text.split_at(clock_end.map_or(text.len(), |(place, _)| place));
    let offset = match zone {
        "" => None,
        "Z" | "z" => Some(Offset::UTC),
        zone => {
            let (sign, digits) = zone.split_at(1);
            // "-5:00" of older Song Meters.
            let digits = if digits.find(':') == Some(1) { format!("0{digits}") } else { digits.to_owned() };
            Some(signed_offset(&format!("{sign}{digits}"))?)
        }
    };
    checked(clock.trim().parse().ok()?, offset, from)
}

fn checked(clock: DateTime, offset: Option<Offset>, from: &'static str) -> Option<Start> {
    YEARS.contains(&clock.year()).then_some(Start { clock, offset, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(start: Option<Start>) -> Option<String> {
        let start = start?;
        let clock = start.clock.strftime("%Y-%m-%d %H:%M:%S");
        Some(format!("{clock} {} {}", start.offset.map_or("local".into(), |offset| offset.to_string()), start.from))
    }

    fn note(id: &[u8; 4], content: &[u8]) -> Option<String> {
        text(start(&[Note { id: *id, content: content.to_vec() }], None))
    }

    #[test]
    fn recorders_notes_are_understood() {
        let guano = b"GUANO|Version:1.0\nTimestamp:2021-02-24T19:17:30.500+02:00\nMake:x";
        assert_eq!(note(b"guan", guano).as_deref(), Some("2021-02-24 19:17:30 +02 GUANO"));
        let local = b"GUANO|Version: 1.0\r\nTimestamp: 2021-02-24 19:17:30\r\n\0";
        assert_eq!(note(b"guan", local).as_deref(), Some("2021-02-24 19:17:30 local GUANO"));
        for (zone, wanted) in [("UTC", "+00"), ("UTC+2", "+02"), ("UTC-3:30", "-03:30")] {
            let comment = format!("INFOICMT\0\0\0\0Recorded at 19:17:30 24/02/2021 ({zone}) by AudioMoth 24F3 at gain");
            let wanted = format!("2021-02-24 19:17:30 {wanted} AudioMoth");
            assert_eq!(note(b"LIST", comment.as_bytes()), Some(wanted), "{zone}");
        }
        let mut wamd = vec![0, 0, 2, 0, 0, 0, 1, 0, 5, 0, 25, 0, 0, 0];
        wamd.extend(b"2021-02-24 19:17:30-05:00");
        assert_eq!(note(b"wamd", &wamd).as_deref(), Some("2021-02-24 19:17:30 -05 Song Meter"));
        let mut bext = vec![0; 320];
        bext.extend(b"2021-02-2419:17:30");
        assert_eq!(note(b"bext", &bext).as_deref(), Some("2021-02-24 19:17:30 local bext"));
    }

    #[test]
    fn damaged_notes_are_no_date_and_no_panic() {
        for id in [b"guan", b"LIST", b"bext", b"wamd"] {
            for content in [
                &b""[..],
                b"Timestamp:",
                b"Timestamp:x\xff",
                b"Recorded at",
                b"Recorded at 25:00:00 1/2/3 (UTC+99)",
                b"Recorded at 19:17:30 24/02/2021 (UTC+9999999999)",
                b"Timestamp:2021-02-24T19:17:30+\xc3\xa4",
                &[5, 0, 0xff, 0xff, 0xff, 0xff],
                &[0xff; 400],
                &[b'0'; 400],
            ] {
                assert_eq!(note(id, content), None, "{content:?}");
            }
        }
    }

    #[test]
    fn names_of_files_are_understood() {
        for (name, wanted) in [
            ("20210224_191730.WAV", "2021-02-24 19:17:30 local file name"),
            ("SM4_20210224_191730.wav", "2021-02-24 19:17:30 local file name"),
            ("SM4-12_20210224$191730.wav", ""),
            ("2021-02-24T19-17-30+0200.flac", "2021-02-24 19:17:30 +02 file name"),
            ("2021-02-24 19.17.30.wav", "2021-02-24 19:17:30 local file name"),
            ("20210224T191730Z_1.wav", "2021-02-24 19:17:30 +00 file name"),
            ("REC20210224191730.mp3", "2021-02-24 19:17:30 local file name"),
            ("6036A5EA.WAV", "2021-02-24 19:15:54 +00 file name"),
            ("20210224.wav", ""),
            ("20211324_191730.wav", ""),
            ("120210224_191730.wav", ""),
            ("F_BRI01_MC_FI_SIM01_103.wav", ""),
            ("ä20210224_191730ö.wav", "2021-02-24 19:17:30 local file name"),
            ("ää", ""),
        ] {
            assert_eq!(text(start(&[], Some(name))).unwrap_or_default(), wanted, "{name}");
        }
    }

    #[test]
    fn zone_of_the_user_counts_where_the_recorder_has_none() {
        let zone = TimeZone::get("Europe/Rome").unwrap();
        let at = |name, zone: Option<&TimeZone>| {
            start(&[], Some(name)).unwrap().in_zone(zone).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
        };
        assert_eq!(at("20210724_191730.wav", None), None);
        assert_eq!(at("20210724_191730.wav", Some(&zone)).as_deref(), Some("2021-07-24T19:17:30+02:00"));
        assert_eq!(at("20210724_191730Z.wav", Some(&zone)).as_deref(), Some("2021-07-24T21:17:30+02:00"));
        assert_eq!(at("20210724_191730-0300.wav", None).as_deref(), Some("2021-07-24T19:17:30-03:00"));
    }
}
