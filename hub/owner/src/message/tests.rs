use hub_store::testing::{event_notification, notification};

use super::*;

#[test]
fn event_is_described_in_words_and_in_json() {
    let notification = event_notification(7);
    let message = Message::new(&notification.subject);
    assert_eq!((message.title.as_str(), message.text.as_str()), ("Tom", "Tom seems to feel alone (score 0.90)"));
    let json: serde_json::Value =
        serde_json::from_str(&Payload::new(&notification, Some("http://hub:5000/")).to_json()).unwrap();
    assert_eq!(json["key"], notification.key);
    assert_eq!((&json["kind"], &json["animal"], &json["owner"]), (&"event".into(), &"Tom".into(), &"Anna".into()));
    assert_eq!(json["at"], "2023-11-14T22:13:20Z");
    assert_eq!(json["event"]["url"], "http://hub:5000/#/events/7");
    assert_eq!(json["event"]["clip_url"], "http://hub:5000/api/v1/events/7/clip.wav");
    let json: serde_json::Value = serde_json::from_str(&Payload::new(&notification, None).to_json()).unwrap();
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
        let message = Message::new(&subject);
        assert_eq!((message.title.as_str(), message.text.as_str()), (title, text));
    }
    let notification = notification(node("silent", "muted", "Tom", 3_600));
    let json: serde_json::Value = serde_json::from_str(&Payload::new(&notification, None).to_json()).unwrap();
    let expected =
        serde_json::json!({ "name": "http://kitchen:1", "condition": "silent", "detail": "muted", "lasted_s": 3_600 });
    assert_eq!((&json["kind"], &json["animal"], &json["node"]), (&"node".into(), &"Tom".into(), &expected));
    assert_eq!((&json["at"], json.get("event")), (&"2023-11-14T22:13:20Z".into(), None));
}

#[test]
fn call_without_a_type_of_animal_has_no_brackets() {
    let call = |animal: &str, animal_type: &str| {
        let subject = Subject::Call { animal: animal.into(), animal_type: animal_type.into(), called_at_ns: 0 };
        Message::new(&subject).text
    };
    assert_eq!(call("", ""), "A cat was called");
    assert_eq!(call("Tom", "cat"), "Tom was called (cat)");
}

#[test]
fn digest_counts_by_animal_and_context() {
    let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    let counts = BTreeMap::from([
        (String::new(), of(&[("uncertain", 1)])),
        ("Tom".to_owned(), of(&[("call", 2), ("waiting_for_food", 37)])),
    ]);
    let message = Message::new(&Subject::Digest { from_ns: 0, to_ns: 1, counts: counts.clone() });
    assert_eq!(message.title, "Heard 40 times");
    assert_eq!(message.text, "A cat: uncertain 1\nTom: call 2, waiting for food 37");
    let node = BTreeMap::from([("Tom".to_owned(), of(&[("node_away", 1), ("node_ok", 1)]))]);
    let message = Message::new(&Subject::Digest { from_ns: 0, to_ns: 1, counts: node });
    assert_eq!(message.title, "Node trouble");
    assert_eq!(message.text, "Tom: node unreachable 1, node is back 1");
    let notification = notification(Subject::Digest { from_ns: 0, to_ns: 1, counts });
    let json: serde_json::Value = serde_json::from_str(&Payload::new(&notification, None).to_json()).unwrap();
    assert_eq!((&json["counts"]["Tom"]["call"], &json["animal"]), (&2.into(), &serde_json::Value::Null));
}
