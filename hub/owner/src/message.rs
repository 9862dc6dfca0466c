//! A notice in words for people, and as JSON for programs.

use std::collections::BTreeMap;

use hub_base::links;
use hub_base::time::rfc3339;
use hub_store::notices::{Notice, Subject};
use serde::Serialize;

/// Title and text of a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Whom it is about.
    pub(super) title: String,
    /// What there is to say.
    pub(super) text: String,
}

impl Message {
    /// The words for what a notice is about.
    pub(super) fn new(subject: &Subject) -> Self {
        match subject {
            Subject::Call { animal, animal_type, .. } => {
                Self { title: named(animal).to_owned(), text: format!("{} was called ({animal_type})", named(animal)) }
            }
            Subject::Event { cat, context, score, .. } => Self {
                title: named(cat).to_owned(),
                text: format!("{} {} (score {score:.2})", named(cat), said(context)),
            },
            Subject::Node { node, cat, condition, detail, lasted_s, .. } => {
                let title = if cat.is_empty() { "A cat-node".to_owned() } else { format!("{cat}'s node") };
                let long = in_words(*lasted_s);
                let text = match condition.as_str() {
                    "ok" => format!("{title} hears again, after {long} ({node})"),
                    _ => format!("{title} has not heard for {long}: {detail} ({node})"),
                };
                Self { title, text }
            }
            Subject::Digest { counts, .. } => {
                let heard = counts.values().flatten().filter(|(what, _)| !what.starts_with(NODE));
                let title = match heard.map(|(_, count)| count).sum::<u64>() {
                    0 => "Trouble with a node".to_owned(),
                    1 => "Heard once".to_owned(),
                    total => format!("Heard {total} times"),
                };
                let lines = counts.iter().map(|(animal, counts)| {
                    let counts: Vec<_> =
                        counts.iter().map(|(what, count)| format!("{} {count}", counted(what))).collect();
                    format!("{}: {}", named(animal), counts.join(", "))
                });
                Self { title, text: lines.collect::<Vec<_>>().join("\n") }
            }
        }
    }
}

fn named(animal: &str) -> &str {
    if animal.is_empty() { "A cat" } else { animal }
}

/// How the words of a digest's counts begin that are about nodes.
const NODE: &str = "node_";

/// What a digest has counted, in words.
fn counted(what: &str) -> String {
    match what.strip_prefix(NODE) {
        Some("ok") => "node hears again".to_owned(),
        Some(_) => "node did not hear".to_owned(),
        None => what.replace('_', " "),
    }
}

/// A length of time, roughly.
fn in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn said(context: &str) -> &'static str {
    match context {
        "waiting_for_food" => "seems to be waiting for food",
        "isolation" => "seems to feel alone",
        "brushing" => "seems to be brushed",
        _ => "said something",
    }
}

/// A notice for programs. Fields are only ever added.
#[derive(Debug, Serialize)]
pub(super) struct Payload<'a> {
    /// Stays the same over all tries.
    key: &'a str,
    /// Whom it is for.
    owner: &'a str,
    /// `call`, `event`, `node` or `digest`.
    kind: &'static str,
    /// What there is to say, for people.
    title: String,
    /// Likewise.
    message: String,
    /// The animal. Null: a digest, or a cat without a name.
    animal: Option<&'a str>,
    /// When it happened, RFC 3339 in UTC; the last of it for a digest.
    at: String,
    /// Of a call: what the animal is.
    #[serde(skip_serializing_if = "Option::is_none")]
    animal_type: Option<&'a str>,
    /// Of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventPayload<'a>>,
    /// Of a node that does not hear, or hears again.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodePayload<'a>>,
    /// Of a digest: how often, by animal and then by context, `call`, or `node_` and how the node was.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<&'a BTreeMap<String, BTreeMap<String, u64>>>,
}

#[derive(Debug, Serialize)]
struct NodePayload<'a> {
    name: &'a str,
    /// How it is, as in `/readyz`. `ok`: it hears again.
    condition: &'a str,
    /// One sentence about it. Empty: it hears again.
    detail: &'a str,
    /// How long it has not heard, or did not, in seconds.
    lasted_s: u64,
}

#[derive(Debug, Serialize)]
struct EventPayload<'a> {
    id: i64,
    node: &'a str,
    context: &'a str,
    /// Kind of sound. Null: not told apart.
    sound: Option<&'a str>,
    score: f32,
    /// Where the event is. Null: the hub was not told its public URL.
    url: Option<String>,
    /// Where its sound is.
    clip_url: Option<String>,
}

impl<'a> Payload<'a> {
    /// A notice, with links below `public_url`.
    pub(super) fn new(notice: &'a Notice, public_url: Option<&str>) -> Self {
        let Message { title, text } = Message::new(&notice.subject);
        let subject = &notice.subject;
        let mut payload = Self {
            key: &notice.key,
            owner: &notice.owner,
            kind: subject.kind(),
            title,
            message: text,
            animal: Some(subject.animal()).filter(|animal| !animal.is_empty()),
            at: String::new(),
            animal_type: None,
            event: None,
            node: None,
            counts: None,
        };
        let at_ns = match subject {
            Subject::Call { animal_type, called_at_ns, .. } => {
                payload.animal_type = Some(animal_type);
                called_at_ns
            }
            Subject::Event { id, node, context, sound, score, started_at_ns, .. } => {
                let (url, clip_url) = (event_url(subject, public_url), clip_url(subject, public_url));
                let (id, score, sound) = (*id, *score, sound.as_deref());
                payload.event = Some(EventPayload { id, node, context, sound, score, url, clip_url });
                started_at_ns
            }
            Subject::Node { node: name, condition, detail, lasted_s, at_ns, .. } => {
                payload.node = Some(NodePayload { name, condition, detail, lasted_s: *lasted_s });
                at_ns
            }
            Subject::Digest { to_ns, counts, .. } => {
                payload.counts = Some(counts);
                to_ns
            }
        };
        payload.at = rfc3339(*at_ns);
        payload
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with strings as keys")
    }
}

/// Where an event is to be seen. `None`: it is no event, or the hub was not told its public URL.
pub fn event_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, .. } = subject else { return None };
    Some(format!("{}{}", public_url?.trim_end_matches('/'), links::event_page(*id)))
}

/// Where an event's sound is. `None`: as above, or none was kept.
pub(super) fn clip_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, clip: true, .. } = subject else { return None };
    Some(format!("{}{}", public_url?.trim_end_matches('/'), links::clip(*id)))
}

#[cfg(test)]
mod tests {
    use hub_store::testing::{event_notice, notice};

    use super::*;

    #[test]
    fn event_is_said_in_words_and_in_json() {
        let notice = event_notice(7);
        let message = Message::new(&notice.subject);
        assert_eq!((message.title.as_str(), message.text.as_str()), ("Tom", "Tom seems to feel alone (score 0.90)"));
        let json: serde_json::Value =
            serde_json::from_str(&Payload::new(&notice, Some("http://hub:5000/")).to_json()).unwrap();
        assert_eq!(json["key"], notice.key);
        assert_eq!((&json["kind"], &json["animal"], &json["owner"]), (&"event".into(), &"Tom".into(), &"Anna".into()));
        assert_eq!(json["at"], "2023-11-14T22:13:20Z");
        assert_eq!(json["event"]["url"], "http://hub:5000/#/events/7");
        assert_eq!(json["event"]["clip_url"], "http://hub:5000/api/v1/events/7/clip.wav");
        let json: serde_json::Value = serde_json::from_str(&Payload::new(&notice, None).to_json()).unwrap();
        assert_eq!(json["event"]["url"], serde_json::Value::Null);
    }

    #[test]
    fn deaf_node_is_said_in_words_and_in_json() {
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
                "A cat-node has not heard for 119 s: no route (http://kitchen:1)",
            ),
            (
                node("silent", "muted", "Tom", 3_600),
                "Tom's node",
                "Tom's node has not heard for 60 min: muted (http://kitchen:1)",
            ),
            (node("ok", "", "Tom", 50_000), "Tom's node", "Tom's node hears again, after 13 h (http://kitchen:1)"),
            (node("ok", "", "Tom", 900_000), "Tom's node", "Tom's node hears again, after 10 days (http://kitchen:1)"),
        ] {
            let message = Message::new(&subject);
            assert_eq!((message.title.as_str(), message.text.as_str()), (title, text));
        }
        let notice = notice(node("silent", "muted", "Tom", 3_600));
        let json: serde_json::Value = serde_json::from_str(&Payload::new(&notice, None).to_json()).unwrap();
        let told = serde_json::json!({ "name": "http://kitchen:1", "condition": "silent", "detail": "muted", "lasted_s": 3_600 });
        assert_eq!((&json["kind"], &json["animal"], &json["node"]), (&"node".into(), &"Tom".into(), &told));
        assert_eq!((&json["at"], json.get("event")), (&"2023-11-14T22:13:20Z".into(), None));
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
        assert_eq!(message.title, "Trouble with a node");
        assert_eq!(message.text, "Tom: node did not hear 1, node hears again 1");
        let notice = notice(Subject::Digest { from_ns: 0, to_ns: 1, counts });
        let json: serde_json::Value = serde_json::from_str(&Payload::new(&notice, None).to_json()).unwrap();
        assert_eq!((&json["counts"]["Tom"]["call"], &json["animal"]), (&2.into(), &serde_json::Value::Null));
    }
}
