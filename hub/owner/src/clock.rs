//! Times of day and time zones of the config file.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A time of day, `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ClockTime(pub Time);

impl From<ClockTime> for String {
    fn from(ClockTime(time): ClockTime) -> Self {
        time.strftime("%H:%M").to_string()
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct QuietHours {
    /// Begin.
    pub from: Time,
    /// End.
    pub until: Time,
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        format!("{}-{}", hours.from.strftime("%H:%M"), hours.until.strftime("%H:%M"))
    }
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(pub TimeZone);

impl From<Zone> for String {
    fn from(Zone(zone): Zone) -> Self {
        zone.iana_name().expect("a zone of the config was found by its name").to_owned()
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TimeZone::get(&text).map(Self).map_err(|_| format!("{text:?} is not an IANA time zone such as Europe/Berlin"))
    }
}
