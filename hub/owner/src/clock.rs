//! Times of day and time zones of the config file.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// A time of day, `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClockTime(pub Time);

impl TryFrom<String> for ClockTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a time of day of the form HH:MM");
        let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
        let two_digits = |part: &str| Some(part).filter(|part| part.len() == 2).and_then(|part| part.parse().ok());
        let (hour, minute) = (two_digits(hour).ok_or_else(bad)?, two_digits(minute).ok_or_else(bad)?);
        Time::new(hour, minute, 0, 0).map(Self).map_err(|_| bad())
    }
}

/// From one time of day to another, `HH:MM-HH:MM`; past midnight if the second is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct QuietHours {
    /// Begin.
    pub from: Time,
    /// End.
    pub until: Time,
}

impl TryFrom<String> for QuietHours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not of the form HH:MM-HH:MM");
        let (from, until) = text.split_once('-').ok_or_else(bad)?;
        let time = |text: &str| ClockTime::try_from(text.trim().to_owned()).map(|ClockTime(time)| time);
        let hours = Self { from: time(from)?, until: time(until)? };
        if hours.from == hours.until {
            return Err(format!("{text:?} begins and ends at the same time"));
        }
        Ok(hours)
    }
}

/// An IANA time zone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(pub TimeZone);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TimeZone::get(&text).map(Self).map_err(|_| format!("{text:?} is not an IANA time zone such as Europe/Berlin"))
    }
}
