//! A notification in words for people, and as JSON for programs.

use std::collections::BTreeMap;

use hub_base::links;
use hub_base::time::{in_words, rfc3339};
use hub_store::notifications::{Notification, Subject};
use serde::Serialize;

/// Title and text of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The animal, or a summary.
    pub(super) title: String,
    /// One sentence, or one line per animal.
    pub(super) text: String,
}

impl Message {
    /// The words for a subject.
    pub(super) fn new(subject: &Subject) -> Self {
        match subject {
            Subject::Call { animal, animal_type, .. } => {
                // Clients of the original system may leave the type out.
                let kind = if animal_type.is_empty() { String::new() } else { format!(" ({animal_type})") };
                Self { title: named(animal).to_owned(), text: format!("{} was called{kind}", named(animal)) }
            }
            Subject::Event { cat, context, score, .. } => Self {
                title: named(cat).to_owned(),
                text: format!("{} {} (score {score:.2})", named(cat), doing(context)),
            },
            Subject::Node { node, cat, condition, detail, lasted_s, .. } => {
                let title = if cat.is_empty() { "A cat-node".to_owned() } else { format!("{cat}'s node") };
                let long = in_words(*lasted_s);
                let text = match condition.as_str() {
                    "ok" => format!("{title} is back after {long} ({node})"),
                    AWAY => format!("{title} has been unreachable for {long}: {detail} ({node})"),
                    _ => format!("{title} has heard nothing for {long}: {detail} ({node})"),
                };
                Self { title, text }
            }
            Subject::Digest { counts, .. } => Self::digest(counts),
        }
    }

    fn digest(counts: &BTreeMap<String, BTreeMap<String, u64>>) -> Self {
        let heard = counts.values().flatten().filter(|(what, _)| !what.starts_with(NODE));
        let title = match heard.map(|(_, count)| count).sum::<u64>() {
            0 => "Node trouble".to_owned(),
            1 => "Heard once".to_owned(),
            total => format!("Heard {total} times"),
        };
        let lines = counts.iter().map(|(animal, counts)| {
            let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{} {count}", counted(what))).collect();
            format!("{}: {}", named(animal), counts.join(", "))
        });
        Self { title, text: lines.collect::<Vec<_>>().join("\n") }
    }
}

fn named(animal: &str) -> &str {
    if animal.is_empty() { "A cat" } else { animal }
}

/// Prefix of a digest's counts about nodes.
const NODE: &str = "node_";

/// The condition of a node that does not answer.
const AWAY: &str = "away";

/// A count of a digest, in words.
fn counted(what: &str) -> String {
    match what.strip_prefix(NODE) {
        Some("ok") => "node is back".to_owned(),
        Some(AWAY) => "node unreachable".to_owned(),
        Some(_) => "node heard nothing".to_owned(),
        None => what.replace('_', " "),
    }
}

fn doing(context: &str) -> &'static str {
    match context {
        "waiting_for_food" => "seems to be waiting for food",
        "isolation" => "seems to feel alone",
        "brushing" => "seems to be brushed",
        _ => "was heard",
    }
}

/// A notification for programs. New versions add fields; they neither remove nor change any.
#[derive(Debug, Serialize)]
pub(super) struct Payload<'a> {
    /// Idempotency key: stays the same over all deliveries.
    key: &'a str,
    /// Name of the owner.
    owner: &'a str,
    /// `call`, `event`, `node` or `digest`.
    kind: &'static str,
    /// Title for people.
    title: String,
    /// Text for people.
    message: String,
    /// The animal. Null for a digest, and for a cat whose name is unknown.
    animal: Option<&'a str>,
    /// Time of what it is about, RFC 3339 in UTC. For a digest: of the last notification that it counts.
    at: String,
    /// For a call: type of the animal.
    #[serde(skip_serializing_if = "Option::is_none")]
    animal_type: Option<&'a str>,
    /// For an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<EventPayload<'a>>,
    /// For a node that went deaf or away, or is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<NodePayload<'a>>,
    /// For a digest: counts by animal, then by context, `call`, or `node_<condition>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<&'a BTreeMap<String, BTreeMap<String, u64>>>,
}

#[derive(Debug, Serialize)]
struct NodePayload<'a> {
    name: &'a str,
    /// Condition, as in `/readyz`. `ok`: the node is back.
    condition: &'a str,
    /// One sentence about the condition. Empty: the node is back.
    detail: &'a str,
    /// How long the node has been deaf or away, or had been, in seconds.
    lasted_s: u64,
}

#[derive(Debug, Serialize)]
struct EventPayload<'a> {
    id: i64,
    node: &'a str,
    context: &'a str,
    /// Kind of sound. Null: unknown.
    sound: Option<&'a str>,
    score: f32,
    /// Link to the event. Null: `notices.public_url` is not set.
    url: Option<String>,
    /// Link to its recording. Null: as for `url`, or there is no recording.
    clip_url: Option<String>,
}

impl<'a> Payload<'a> {
    /// The payload of a notification, with links below `public_url`.
    pub(super) fn new(notification: &'a Notification, public_url: Option<&str>) -> Self {
        let Message { title, text } = Message::new(&notification.subject);
        let subject = &notification.subject;
        let mut payload = Self {
            key: &notification.key,
            owner: &notification.owner,
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

    /// The payload as JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with strings as keys")
    }
}

/// Link to an event on the page. `None`: the subject is not an event, or there is no public URL.
pub fn event_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, .. } = subject else { return None };
    Some(format!("{}{}", public_url?.trim_end_matches('/'), links::event_page(*id)))
}

/// Link to an event's recording. `None`: the subject is not an event with a recording, or there is no public URL.
pub(super) fn clip_url(subject: &Subject, public_url: Option<&str>) -> Option<String> {
    let Subject::Event { id, clip: true, .. } = subject else { return None };
    Some(format!("{}{}", public_url?.trim_end_matches('/'), links::clip(*id)))
}

#[cfg(test)]
mod tests;
