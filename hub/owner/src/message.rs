//! A notification in words for people, and as JSON for programs.

use std::collections::BTreeMap;

use hub_base::links;
use hub_base::time::{in_words, rfc3339};
use hub_store::notifications::{Notification, Subject};
use serde::Serialize;

use crate::moment::Moments;

/// Title and text of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The animal, or a summary.
    pub(super) title: String,
    /// When it was, and one sentence; or one line per animal.
    pub(super) text: String,
}

impl Message {
    /// The words for a subject. `moments` writes the times.
    pub(super) fn new(subject: &Subject, moments: &Moments) -> Self {
        match subject {
            Subject::Call { animal, animal_type, called_at_ns } => {
                let kind = if animal_type.is_empty() { String::new() } else { format!(" ({animal_type})") };
                let text = format!("{}: {} was called{kind}", moments.write(*called_at_ns), named(animal));
                Self { title: named(animal).to_owned(), text }
            }
            Subject::Event { cat, context, score, started_at_ns, .. } => {
                let at = moments.write(*started_at_ns);
                let text = format!("{at}: {} {} (score {score:.2})", named(cat), doing(context));
                Self { title: named(cat).to_owned(), text }
            }
            Subject::Node { node, cat, condition, detail, lasted_s, at_ns } => {
                let title = if cat.is_empty() { "A cat-node".to_owned() } else { format!("{cat}'s node") };
                let (at, long) = (moments.write(*at_ns), in_words(*lasted_s));
                let text = match condition.as_str() {
                    "ok" => format!("{at}: {title} is back after {long} ({node})"),
                    AWAY => format!("{at}: {title} has been unreachable for {long}: {detail} ({node})"),
                    _ => format!("{at}: {title} has heard nothing for {long}: {detail} ({node})"),
                };
                Self { title, text }
            }
            Subject::Digest { from_ns, to_ns, counts, further, while_down } => {
                let span = moments.write_span(*from_ns, *to_ns);
                Self::digest(counts, *further, *while_down, &span)
            }
        }
    }

    fn digest(counts: &BTreeMap<String, BTreeMap<String, u64>>, further: u64, while_down: bool, span: &str) -> Self {
        let all = || counts.values().flatten();
        let heard = all().filter(|(what, _)| !what.starts_with(NODE)).map(|(_, count)| count).sum::<u64>() + further;
        let title = match heard {
            0 => "Node trouble".to_owned(),
            1 => "Heard once".to_owned(),
            total => format!("Heard {total} times"),
        };
        let events_only = further == 0 && all().all(|(what, _)| what != CALL && !what.starts_with(NODE));
        let what = if events_only { "event" } else { "notification" };
        let first = match (while_down, all().map(|(_, count)| count).sum::<u64>() + further) {
            (true, 1) => format!("While the channel was down: 1 {what}, {span}"),
            (true, total) => format!("While the channel was down: {total} {what}s {span}"),
            (false, _) => capital(span),
        };
        let mut lines = vec![first];
        lines.extend(counts.iter().map(|(animal, counts)| {
            let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{} {count}", counted(what))).collect();
            format!("{}: {}", named(animal), counts.join(", "))
        }));
        if further > 0 {
            lines.push(format!("Other animals: {further}"));
        }
        Self { title, text: lines.join("\n") }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn named(animal: &str) -> &str {
    if animal.is_empty() { "A cat" } else { animal }
}

/// Count of a digest about calls.
const CALL: &str = "call";

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
    /// For a digest: time of the first notification that it counts, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// For a digest: notifications about animals that are not among `counts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<u64>,
    /// For a digest: whether it takes the place of notifications that piled up while the channel was down.
    #[serde(skip_serializing_if = "Option::is_none")]
    while_down: Option<bool>,
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
    pub(super) fn new(notification: &'a Notification, message: &Message, public_url: Option<&str>) -> Self {
        let Message { title, text } = message.clone();
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
            from: None,
            further: None,
            while_down: None,
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
            Subject::Digest { from_ns, to_ns, counts, further, while_down } => {
                payload.counts = Some(counts);
                payload.from = Some(rfc3339(*from_ns));
                (payload.further, payload.while_down) = (Some(*further), Some(*while_down));
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
