//! A notice in words for people, and as JSON for programs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::store::notices::{Notice, Subject};

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
            Subject::Digest { counts, .. } => {
                let total: u64 = counts.values().flat_map(BTreeMap::values).sum();
                let times = if total == 1 { "once".to_owned() } else { format!("{total} times") };
                let lines = counts.iter().map(|(animal, counts)| {
                    let counts: Vec<_> =
                        counts.iter().map(|(what, count)| format!("{} {count}", what.replace('_', " "))).collect();
                    format!("{}: {}", named(animal), counts.join(", "))
                });
                Self { title: format!("Heard {times}"), text: lines.collect::<Vec<_>>().join("\n") }
            }
        }
    }
}

fn named(animal: &str) -> &str {
    if animal.is_empty() { "A cat" } else { animal }
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
    /// `call`, `event` or `digest`.
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
    /// Of a digest: how often, by animal and then by context or `call`.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<&'a BTreeMap<String, BTreeMap<String, u64>>>,
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
        let (at_ns, animal_type, event, counts) = match subject {
            Subject::Call { animal_type, called_at_ns, .. } => (*called_at_ns, Some(animal_type.as_str()), None, None),
            Subject::Event { id, node, context, sound, score, started_at_ns, .. } => {
                let (url, clip_url) = (event_url(subject, public_url), clip_url(subject, public_url));
                let (id, score, sound) = (*id, *score, sound.as_deref());
                (*started_at_ns, None, Some(EventPayload { id, node, context, sound, score, url, clip_url }), None)
            }
            Subject::Digest { to_ns, counts, .. } => (*to_ns, None, None, Some(counts)),
        };
        Self {
            key: &notice.key,
            owner: &notice.owner,
            kind: subject.kind(),
            title,
            message: text,
            animal: Some(subject.animal()).filter(|animal| !animal.is_empty()),
            at: rfc3339(at_ns),
            animal_type,
            event,
            counts,
        }
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with strings as keys")
    }
}

/// Where an event is to be seen. `None`: it is no event, or the hub was not told its public URL.
pub(super) fn event_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, .. } = subject else { return None };
    Some(format!("{}/#/events/{id}", public_url?.trim_end_matches('/')))
}

/// Where an event's sound is. `None`: as above, or none was kept.
pub(super) fn clip_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, clip: true, .. } = subject else { return None };
    Some(format!("{}/api/v1/events/{id}/clip.wav", public_url?.trim_end_matches('/')))
}

/// A moment as the API writes it.
pub(super) fn rfc3339(unix_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(unix_ns)).expect("jiff reaches beyond all of i64").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::notices::tests::{event_notice, notice};

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
    fn digest_counts_by_animal_and_context() {
        let of = |pairs: &[(&str, u64)]| pairs.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
        let counts = BTreeMap::from([
            (String::new(), of(&[("uncertain", 1)])),
            ("Tom".to_owned(), of(&[("call", 2), ("waiting_for_food", 37)])),
        ]);
        let message = Message::new(&Subject::Digest { from_ns: 0, to_ns: 1, counts: counts.clone() });
        assert_eq!(message.title, "Heard 40 times");
        assert_eq!(message.text, "A cat: uncertain 1\nTom: call 2, waiting for food 37");
        let notice = notice(Subject::Digest { from_ns: 0, to_ns: 1, counts });
        let json: serde_json::Value = serde_json::from_str(&Payload::new(&notice, None).to_json()).unwrap();
        assert_eq!((&json["counts"]["Tom"]["call"], &json["animal"]), (&2.into(), &serde_json::Value::Null));
    }
}
