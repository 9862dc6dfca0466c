use hub_store::testing::{event_notification, notification};

use super::*;

/// An hour after the notifications of these tests, in UTC.
fn moments() -> Moments {
    Moments::new(Some(&jiff::tz::TimeZone::UTC), 1_700_003_600_000_000_000)
}

fn message(subject: &Subject) -> Message {
    Message::new(subject, &moments())
}

fn payload(notification: &Notification, public_url: Option<&str>) -> serde_json::Value {
    let payload = Payload::new(notification, &message(&notification.subject), public_url).to_json();
    serde_json::from_str(&payload).unwrap()
}

#[test]
fn event_is_described_in_words_and_in_json() {
    let notification = event_notification(7);
    let told = message(&notification.subject);
    let text = "22:13: Tom seems to feel alone (score 0.90)";
    assert_eq!((told.title.as_str(), told.text.as_str()), ("Tom", text));
    let json = payload(&notification, Some("http://hub:5000/"));
    assert_eq!(json["key"], notification.key);
    assert_eq!((&json["kind"], &json["animal"], &json["owner"]), (&"event".into(), &"Tom".into(), &"Anna".into()));
    assert_eq!(json["at"], "2023-11-14T22:13:20Z");
    assert_eq!(json["event"]["url"], "http://hub:5000/#/events/7");
    assert_eq!(json["event"]["clip_url"], "http://hub:5000/api/v1/events/7/clip.wav");
    let json = payload(&notification, None);
    assert_eq!(json["event"]["url"], serde_json::Value::Null);
}

#[test]
fn deaf_node_is_described_in_words_and_in_json() {
    let node = |condition: &str, detail: &str, cat: &str, lasted_s| Subject::Node {
        node: "http://kitchen:1".into(),
        cat: cat.into(),
        condition: condition.into(),
        detail: detail.into(),
        at_ns: 1_700_000_000_000_000_000,
        lasted_s,
    };
    for (subject, title, text) in [
        (
            node("away", "no route", "", 119),
            "A cat-node",
            "A cat-node has been unreachable for 119 s: no route (http://kitchen:1)",
        ),
        (
            node("silent", "muted", "Tom", 3_600),
            "Tom's node",
            "Tom's node has heard nothing for 60 min: muted (http://kitchen:1)",
        ),
        (node("ok", "", "Tom", 50_000), "Tom's node", "Tom's node is back after 13 h (http://kitchen:1)"),
        (node("ok", "", "Tom", 900_000), "Tom's node", "Tom's node is back after 10 days (http://kitchen:1)"),
    ] {
        let told = message(&subject);
        assert_eq!((told.title.as_str(), told.text.as_str()), (title, format!("22:13: {text}").as_str()));
    }
    let notification = notification(node("silent", "muted", "Tom", 3_600));
    let json = payload(&notification, None);
    let expected =
        serde_json::json!({ "name": "http://kitchen:1", "condition": "silent", "detail": "muted", "lasted_s": 3_600 });
    assert_eq!((&json["kind"], &json["animal"], &json["node"]), (&"node".into(), &"Tom".into(), &expected));
    assert_eq!((&json["at"], json.get("event")), (&"2023-11-14T22:13:20Z".into(), None));
}

#[test]
fn digest_counts_by_animal_and_context() {
    let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    let counts = BTreeMap::from([
        (String::new(), of(&[("uncertain", 1)])),
        ("Tom".to_owned(), of(&[("call", 2), ("waiting_for_food", 37)])),
    ]);
    let digest = |counts: &BTreeMap<_, _>, further, while_down| Subject::Digest {
        from_ns: 1_700_000_000_000_000_000,
        to_ns: 1_700_001_740_000_000_000,
        counts: counts.clone(),
        further,
        while_down,
    };
    let told = message(&digest(&counts, 0, false));
    assert_eq!(told.title, "Heard 40 times");
    let lines = "A cat: uncertain 1\nTom: call 2, waiting for food 37";
    assert_eq!(told.text, format!("From 22:13 to 22:42\n{lines}"));
    let told = message(&digest(&counts, 12, true));
    let span = "from 22:13 to 22:42";
    let expected = format!("While the channel was down: 52 notifications {span}\n{lines}\nOther animals: 12");
    assert_eq!((told.title.as_str(), told.text), ("Heard 52 times", expected));
    let events = BTreeMap::from([("Tom".to_owned(), of(&[("isolation", 351)]))]);
    let told = message(&digest(&events, 0, true));
    assert_eq!(told.text, format!("While the channel was down: 351 events {span}\nTom: isolation 351"));
    let node = BTreeMap::from([("Tom".to_owned(), of(&[("node_away", 1), ("node_ok", 1)]))]);
    let told = message(&digest(&node, 0, false));
    assert_eq!(told.title, "Node trouble");
    assert!(told.text.ends_with("\nTom: node unreachable 1, node is back 1"), "{}", told.text);
    let notification = notification(digest(&counts, 0, true));
    let json = payload(&notification, None);
    assert_eq!((&json["counts"]["Tom"]["call"], &json["animal"]), (&2.into(), &serde_json::Value::Null));
    assert_eq!((&json["from"], &json["while_down"]), (&"2023-11-14T22:13:20Z".into(), &true.into()));
}

#[test]
fn call_of_an_animal_without_a_type_has_no_empty_brackets() {
    let call = |animal_type: &str| Subject::Call {
        animal: "Tom".into(),
        animal_type: animal_type.into(),
        called_at_ns: 1_700_003_000_000_000_000,
    };
    assert_eq!(message(&call("cat")).text, "23:03: Tom was called (cat)");
    assert_eq!(message(&call("")).text, "23:03: Tom was called");
}
