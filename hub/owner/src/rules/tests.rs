use hub_store::testing::event;

use super::*;

fn rules(toml: &str) -> Rules {
    let toml = format!("name = \"Anna\"\n{toml}\n[[channels]]\ntype = \"log\"");
    Rules::new(&toml::from_str(&toml).unwrap())
}

fn ns(moment: &str) -> i64 {
    i64::try_from(moment.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
}

/// For a moment: why a notification is suppressed, and when the digest is sent.
fn suppression(rules: &Rules, moment: &str) -> (Option<SuppressReason>, Option<String>) {
    let plan = rules.call("Tom", ns(moment)).unwrap();
    let due = plan.digest_due_ns.map(|due| Timestamp::from_nanosecond(i128::from(due)).unwrap().to_string());
    (plan.hold, due)
}

#[test]
fn owner_is_told_of_what_they_asked_for() {
    let heard = event("kitchen", 0);
    assert_eq!(heard.context.label, sound::detection::ContextLabel::Isolation);
    for (toml, notifies) in [
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
        assert_eq!(rules(toml).event("Tom", &heard, 0).is_some(), notifies, "{toml}");
    }
    // Somebody has said which cat it was.
    for (animal, notifies) in [("Ada", true), ("Tom", false)] {
        let rules = rules(&format!("animals = [{animal:?}]"));
        assert_eq!(rules.event("Ada", &heard, 0).is_some(), notifies, "{animal}");
    }
    for (toml, notifies) in [("", true), ("animals = [\"Ada\"]", false), ("calls = false", false)] {
        assert_eq!(rules(toml).call("Tom", 0).is_some(), notifies, "{toml}");
    }
    for (toml, cat, notifies) in [
        ("", Some("Tom"), true),
        ("animals = [\"Ada\"]", Some("Tom"), false),
        ("animals = [\"Tom\"]", Some("Tom"), true),
        // It may be theirs.
        ("animals = [\"Ada\"]", None, true),
        ("nodes = false", Some("Tom"), false),
    ] {
        assert_eq!(rules(toml).node(cat, 0).is_some(), notifies, "{toml} {cat:?}");
    }
}

#[test]
fn cooldown_is_by_the_config_and_digests_know_none() {
    let rules = rules("cooldown_s = 90");
    assert_eq!(rules.call("Tom", 0).unwrap().cooldown_ns, 90_000_000_000);
    assert_eq!(rules.digest().cooldown_ns, 0);
    assert_eq!(suppression(&rules, "2026-11-25T12:00:00Z"), (None, None));
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
        assert_eq!(suppression(&night, moment), expected, "{moment}");
    }
    let noon = rules("quiet_hours = \"12:00-14:00\"\ntime_zone = \"Asia/Kolkata\"");
    assert_eq!(suppression(&noon, "2026-11-25T06:29:59Z").0, None);
    assert_eq!(suppression(&noon, "2026-11-25T06:30:00Z"), (quiet, Some("2026-11-25T08:30:00Z".into())));
    assert_eq!(suppression(&noon, "2026-11-25T08:30:00Z").0, None);
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
        assert_eq!(suppression(&rules, moment), expected, "{hours} at {moment}");
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
        assert_eq!(suppression(&rules, moment), expected, "{moment}");
    }
}

#[test]
fn digest_does_not_come_in_quiet_hours() {
    let rules = rules("digest_at = \"23:00\"\nquiet_hours = \"22:00-07:00\"\ntime_zone = \"UTC\"");
    assert_eq!(suppression(&rules, "2026-11-25T12:00:00Z"), (None, Some("2026-11-26T07:00:00Z".into())));
}
