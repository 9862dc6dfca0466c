//! Who is told of what, and when they are spared. Nothing here reads a clock: the moment is given.

use hub_store::events::NewEvent;
use hub_store::notices::{ChannelKind, NoticePlan, SuppressReason};
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::config::{OwnerConfig, QuietHours};

/// What one owner wants to know, and when.
#[derive(Debug)]
pub(super) struct Rules {
    owner: OwnerConfig,
    channels: Vec<(String, ChannelKind)>,
    zone: TimeZone,
}

impl Rules {
    /// The rules of a checked config.
    pub(super) fn new(owner: &OwnerConfig) -> Self {
        let channels = owner.channels.iter().map(|channel| (channel.name().to_owned(), channel.kind())).collect();
        let zone = owner.time_zone.as_ref().map_or(TimeZone::UTC, |zone| zone.0.clone());
        Self { owner: owner.clone(), channels, zone }
    }

    /// How the owner is to be told of an event. `None`: it is none of their business.
    pub(super) fn event(&self, event: &NewEvent, now_ns: i64) -> Option<NoticePlan> {
        let wanted = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        let owner = &self.owner;
        let told = wanted(&owner.animals, &event.cat)
            && wanted(&owner.contexts, event.context.label.as_str())
            && wanted(&owner.kinds, event.kind.as_deref().unwrap_or_default())
            && event.score >= owner.min_score;
        told.then(|| self.plan(now_ns))
    }

    /// How the owner is to be told of a call. `None`: it is none of their business.
    pub(super) fn call(&self, animal: &str, now_ns: i64) -> Option<NoticePlan> {
        let animals = &self.owner.animals;
        let told = self.owner.calls && (animals.is_empty() || animals.iter().any(|one| one == animal));
        told.then(|| self.plan(now_ns))
    }

    /// How the owner is to be told of a node. `None`: it is none of their business. There is no cool-down: trouble and its end
    /// are told once.
    pub(super) fn node(&self, cat: Option<&str>, now_ns: i64) -> Option<NoticePlan> {
        let owner = &self.owner;
        let is_theirs = |cat| owner.animals.is_empty() || owner.animals.iter().any(|one| one == cat);
        (owner.nodes && cat.is_none_or(is_theirs)).then(|| NoticePlan { cooldown_ns: 0, ..self.plan(now_ns) })
    }

    /// How the owner is told a digest: at once, by all channels.
    pub(super) fn digest(&self) -> NoticePlan {
        let (owner, channels) = (self.owner.name.clone(), self.channels.clone());
        NoticePlan { owner, channels, cooldown_ns: 0, hold: None, digest_due_ns: None }
    }

    fn plan(&self, now_ns: i64) -> NoticePlan {
        let now = self.at(now_ns);
        let quiet_until = self.owner.quiet_hours.and_then(|hours| quiet_until(&now, hours));
        let hold = match quiet_until {
            Some(_) => Some(SuppressReason::QuietHours),
            None if !self.owner.alerts => Some(SuppressReason::DigestOnly),
            None => None,
        };
        let due = quiet_until.or_else(|| self.next_digest(&now));
        NoticePlan {
            cooldown_ns: i64::from(self.owner.cooldown_s) * 1_000_000_000,
            hold,
            digest_due_ns: due.map(|due| nanoseconds(&due)),
            ..self.digest()
        }
    }

    /// When the next digest is sent: not within the quiet hours, but when they end.
    fn next_digest(&self, now: &Zoned) -> Option<Zoned> {
        let digest = next(now, self.owner.digest_at?.0)?;
        Some(self.owner.quiet_hours.and_then(|hours| quiet_until(&digest, hours)).unwrap_or(digest))
    }

    fn at(&self, now_ns: i64) -> Zoned {
        let now = Timestamp::from_nanosecond(i128::from(now_ns)).expect("jiff reaches beyond all of i64");
        now.to_zoned(self.zone.clone())
    }
}

/// When the clock next shows a time of day. Where it shows it twice that day, the first time; where it skips it, as much
/// later as it skips.
fn next(now: &Zoned, time: Time) -> Option<Zoned> {
    let today = on_day(now, 0, time)?;
    if today > *now { Some(today) } else { on_day(now, 1, time) }
}

/// The moment at which the clock shows `time`, so many days after today. `None`: beyond the year 9999.
fn on_day(now: &Zoned, days: i64, time: Time) -> Option<Zoned> {
    let date = now.date().checked_add(days.days()).ok()?;
    date.to_datetime(time).to_zoned(now.time_zone().clone()).ok()
}

/// When the quiet hours end that it is now. `None`: it is none of them.
///
/// By moments, not by what the clock shows: an hour that comes twice would let them begin again after they had ended.
fn quiet_until(now: &Zoned, hours: QuietHours) -> Option<Zoned> {
    let over_midnight = hours.from > hours.until;
    // They began yesterday or today.
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
mod tests {
    use hub_store::testing::event;

    use super::*;

    fn rules(toml: &str) -> Rules {
        let toml = format!("name = \"Anna\"\n{toml}\n[[channels]]\ntype = \"log\"");
        Rules::new(&toml::from_str(&toml).unwrap())
    }

    fn ns(moment: &str) -> i64 {
        i64::try_from(moment.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    /// For a moment: why the owner is spared, and when the digest comes.
    fn spared(rules: &Rules, moment: &str) -> (Option<SuppressReason>, Option<String>) {
        let plan = rules.call("Tom", ns(moment)).unwrap();
        let due = plan.digest_due_ns.map(|due| Timestamp::from_nanosecond(i128::from(due)).unwrap().to_string());
        (plan.hold, due)
    }

    #[test]
    fn owner_is_told_of_what_they_asked_for() {
        let heard = event("kitchen", 0);
        assert_eq!(heard.context.label, sound::detection::ContextLabel::Isolation);
        for (toml, told) in [
            ("", true),
            ("animals = [\"Tom\"]", true),
            ("animals = [\"Ada\"]", false),
            ("contexts = [\"isolation\", \"brushing\"]", true),
            ("contexts = [\"brushing\"]", false),
            ("kinds = [\"meow\"]", true),
            ("kinds = [\"purr\"]", false),
            ("min_score = 0.89", true),
            ("min_score = 0.91", false),
        ] {
            assert_eq!(rules(toml).event(&heard, 0).is_some(), told, "{toml}");
        }
        for (toml, told) in [("", true), ("animals = [\"Ada\"]", false), ("calls = false", false)] {
            assert_eq!(rules(toml).call("Tom", 0).is_some(), told, "{toml}");
        }
        for (toml, cat, told) in [
            ("", Some("Tom"), true),
            ("animals = [\"Ada\"]", Some("Tom"), false),
            ("animals = [\"Tom\"]", Some("Tom"), true),
            // It may be theirs.
            ("animals = [\"Ada\"]", None, true),
            ("nodes = false", Some("Tom"), false),
        ] {
            assert_eq!(rules(toml).node(cat, 0).is_some(), told, "{toml} {cat:?}");
        }
    }

    #[test]
    fn cooldown_is_by_the_config_and_digests_know_none() {
        let rules = rules("cooldown_s = 90");
        assert_eq!(rules.call("Tom", 0).unwrap().cooldown_ns, 90_000_000_000);
        assert_eq!(rules.digest().cooldown_ns, 0);
        assert_eq!(spared(&rules, "2026-11-25T12:00:00Z"), (None, None));
    }

    #[test]
    fn quiet_hours_hold_until_they_end() {
        let night = rules("quiet_hours = \"22:00-07:00\"\ntime_zone = \"Europe/Berlin\"");
        let quiet = Some(SuppressReason::QuietHours);
        for (moment, held_until) in [
            ("2026-11-25T20:59:59Z", None),
            ("2026-11-25T21:00:00Z", Some("2026-11-26T06:00:00Z")),
            ("2026-11-25T23:30:00Z", Some("2026-11-26T06:00:00Z")),
            ("2026-11-26T05:59:59Z", Some("2026-11-26T06:00:00Z")),
            ("2026-11-26T06:00:00Z", None),
        ] {
            let expected = (held_until.and(quiet), held_until.map(str::to_owned));
            assert_eq!(spared(&night, moment), expected, "{moment}");
        }
        let noon = rules("quiet_hours = \"12:00-14:00\"\ntime_zone = \"Asia/Kolkata\"");
        assert_eq!(spared(&noon, "2026-11-25T06:29:59Z").0, None);
        assert_eq!(spared(&noon, "2026-11-25T06:30:00Z"), (quiet, Some("2026-11-25T08:30:00Z".into())));
        assert_eq!(spared(&noon, "2026-11-25T08:30:00Z").0, None);
    }

    #[test]
    fn quiet_hours_end_once_when_the_clock_is_set() {
        let quiet = Some(SuppressReason::QuietHours);
        // In autumn the hour from 2 to 3 comes twice, in spring it is missing (Berlin, 1:00 UTC each).
        for (hours, moment, held_until) in [
            // Seven in the morning is an hour further away, and an hour nearer.
            ("22:00-07:00", "2026-10-24T21:00:00Z", Some("2026-10-25T06:00:00Z")),
            ("22:00-07:00", "2026-03-28T22:00:00Z", Some("2026-03-29T05:00:00Z")),
            // They end at the first half past two, and do not begin again before the second.
            ("01:00-02:30", "2026-10-25T00:29:59Z", Some("2026-10-25T00:30:00Z")),
            ("01:00-02:30", "2026-10-25T00:30:00Z", None),
            ("01:00-02:30", "2026-10-25T01:15:00Z", None),
            // They begin at the first half past two and go on through the second.
            ("02:30-04:00", "2026-10-25T00:29:59Z", None),
            ("02:30-04:00", "2026-10-25T01:10:00Z", Some("2026-10-25T03:00:00Z")),
            // Half past two is missing: they end, or begin, at half past three.
            ("01:00-02:30", "2026-03-29T01:29:59Z", Some("2026-03-29T01:30:00Z")),
            ("01:00-02:30", "2026-03-29T01:30:00Z", None),
            ("02:30-04:00", "2026-03-29T01:29:59Z", None),
            ("02:30-04:00", "2026-03-29T01:30:00Z", Some("2026-03-29T02:00:00Z")),
            // All of it is missing or shortened: nothing is held for ever.
            ("02:30-03:15", "2026-03-29T01:20:00Z", None),
        ] {
            let rules = rules(&format!("quiet_hours = \"{hours}\"\ntime_zone = \"Europe/Berlin\""));
            let expected = (held_until.and(quiet), held_until.map(str::to_owned));
            assert_eq!(spared(&rules, moment), expected, "{hours} at {moment}");
        }
    }

    #[test]
    fn digest_comes_once_a_day_whatever_the_clock_does() {
        let rules = rules("alerts = false\ndigest_at = \"02:30\"\ntime_zone = \"Europe/Berlin\"");
        for (moment, digest) in [
            ("2026-11-25T01:29:59Z", "2026-11-25T01:30:00Z"),
            ("2026-11-25T01:30:00Z", "2026-11-26T01:30:00Z"),
            // Twice half past two: the first.
            ("2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            ("2026-10-25T01:10:00Z", "2026-10-26T01:30:00Z"),
            // No half past two: half past three.
            ("2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"),
            ("2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
        ] {
            let expected = (Some(SuppressReason::DigestOnly), Some(digest.to_owned()));
            assert_eq!(spared(&rules, moment), expected, "{moment}");
        }
    }

    #[test]
    fn digest_does_not_come_in_quiet_hours() {
        let rules = rules("digest_at = \"23:00\"\nquiet_hours = \"22:00-07:00\"\ntime_zone = \"UTC\"");
        assert_eq!(spared(&rules, "2026-11-25T12:00:00Z"), (None, Some("2026-11-26T07:00:00Z".into())));
    }
}
