//! What an owner is notified of, and when a notification is suppressed. Nothing here reads a clock: the caller gives
//! the time.

use hub_store::events::NewEvent;
use hub_store::notifications::{ChannelName, NotificationPlan, SuppressReason};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use crate::clock::QuietHours;
use crate::config::OwnerConfig;

/// The rules of one owner.
#[derive(Debug)]
pub(super) struct Rules {
    owner: OwnerConfig,
    channels: Vec<ChannelName>,
    zone: TimeZone,
}

impl Rules {
    /// The rules of a checked config.
    pub(super) fn new(owner: &OwnerConfig) -> Self {
        let channels = owner.channels.iter().map(ChannelName::from).collect();
        let zone = owner.time_zone.as_ref().map_or(TimeZone::UTC, |zone| zone.0.clone());
        Self { owner: owner.clone(), channels, zone }
    }

    /// How to notify the owner of an event of this cat. `None`: not at all.
    pub(super) fn event(&self, cat: &str, event: &NewEvent, now_ns: i64) -> Option<NotificationPlan> {
        let wanted = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        let owner = &self.owner;
        let notifies = wanted(&owner.animals, cat)
            && wanted(&owner.contexts, event.context.label.as_str())
            && wanted(&owner.kinds, event.kind.as_deref().unwrap_or_default())
            && event.score >= owner.min_score;
        notifies.then(|| self.plan(now_ns))
    }

    /// How to notify the owner of a call. `None`: not at all, such as for an animal of another owner.
    pub(super) fn call(&self, animal: &str, now_ns: i64) -> Option<NotificationPlan> {
        let animals = &self.owner.animals;
        let notifies = self.owner.calls && (animals.is_empty() || animals.iter().any(|one| one == animal));
        notifies.then(|| self.plan(now_ns))
    }

    /// How to notify the owner of a node that hears this cat. `None`: not at all. There is no cool-down: trouble and
    /// its end make one notification each.
    pub(super) fn node(&self, cat: Option<&str>, now_ns: i64) -> Option<NotificationPlan> {
        let owner = &self.owner;
        let is_theirs = |cat| owner.animals.is_empty() || owner.animals.iter().any(|one| one == cat);
        (owner.nodes && cat.is_none_or(is_theirs)).then(|| NotificationPlan { cooldown_ns: 0, ..self.plan(now_ns) })
    }

    /// How to send the owner a digest: at once, through all channels.
    pub(super) fn digest(&self) -> NotificationPlan {
        let (owner, channels) = (self.owner.name.clone(), self.channels.clone());
        NotificationPlan { owner, channels, cooldown_ns: 0, hold: None, wait_ns: 0, digest_due_ns: None }
    }

    fn plan(&self, now_ns: i64) -> NotificationPlan {
        let now = self.at(now_ns);
        let quiet_until = self.owner.quiet_hours.and_then(|hours| quiet_until(&now, hours));
        let hold = match quiet_until {
            Some(_) => Some(SuppressReason::QuietHours),
            None if !self.owner.alerts => Some(SuppressReason::DigestOnly),
            None => None,
        };
        let due = quiet_until.or_else(|| self.next_digest(&now));
        NotificationPlan {
            cooldown_ns: i64::from(self.owner.cooldown_s).saturating_mul(1_000_000_000),
            hold,
            digest_due_ns: due.map(|due| nanoseconds(&due)),
            ..self.digest()
        }
    }

    /// When the next digest is sent. One that is due within the quiet hours is sent when they end.
    fn next_digest(&self, now: &Zoned) -> Option<Zoned> {
        let digest = next(now, self.owner.digest_at?.0)?;
        Some(self.owner.quiet_hours.and_then(|hours| quiet_until(&digest, hours)).unwrap_or(digest))
    }

    fn at(&self, now_ns: i64) -> Zoned {
        let now = Timestamp::from_nanosecond(i128::from(now_ns)).expect("jiff reaches beyond all of i64");
        now.to_zoned(self.zone.clone())
    }
}

/// The next moment at which a clock shows this time of day. On a day when it shows it twice, the first of the two; on a
/// day when it skips it, as much later as it skips.
fn next(now: &Zoned, time: Time) -> Option<Zoned> {
    let today = on_day(now, 0, time)?;
    if today > *now { Some(today) } else { on_day(now, 1, time) }
}

/// The moment at which a clock shows `time`, `days` after today. `None`: beyond the year 9999.
fn on_day(now: &Zoned, days: i64, time: Time) -> Option<Zoned> {
    let date = now.date().checked_add(days.days()).ok()?;
    date.to_datetime(time).to_zoned(now.time_zone().clone()).ok()
}

/// When the current quiet hours end. `None`: `now` is not within quiet hours.
///
/// This compares moments, not times of day: in an hour that comes twice, quiet hours would begin again after their end.
fn quiet_until(now: &Zoned, hours: QuietHours) -> Option<Zoned> {
    let over_midnight = hours.from > hours.until;
    // Quiet hours that contain `now` began yesterday or today.
    [-1, 0].into_iter().find_map(|day| {
        let from = on_day(now, day, hours.from)?;
        let until = on_day(now, day + i64::from(over_midnight), hours.until)?;
        (from <= *now && *now < until).then_some(until)
    })
}

fn nanoseconds(moment: &Zoned) -> i64 {
    i64::try_from(moment.timestamp().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
