//! What a notification is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a notification is about. Stored as JSON, which hubs of different versions read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A call of `Owner.Notify`.
    Call {
        /// Name of the animal.
        animal: String,
        /// Type of the animal, as the caller says: `cat`, `Dog`.
        animal_type: String,
        /// Time of the call, in nanoseconds since 1970 UTC.
        called_at_ns: i64,
    },
    /// An event: a vocalisation that the hub heard.
    Event {
        /// Number of the event.
        id: i64,
        /// Name of the cat. Empty: unknown.
        cat: String,
        /// Name of the node.
        node: String,
        /// Its context, as in the API.
        context: String,
        /// Its kind of sound, as in the API. `None`: unknown.
        sound: Option<String>,
        /// How certain it is that a cat made the sound, 0 to 1.
        score: f32,
        /// Start of the event, in nanoseconds since 1970 UTC.
        started_at_ns: i64,
        /// Whether its recording was kept.
        clip: bool,
    },
    /// A node went deaf or away, or is back.
    Node {
        /// Name of the node.
        node: String,
        /// Name of its cat. Empty: unknown.
        cat: String,
        /// Condition of the node, as in `/readyz`. `ok`: it is back.
        condition: String,
        /// One sentence about the condition. Empty: the node is back.
        detail: String,
        /// When the condition was seen, in nanoseconds since 1970 UTC.
        at_ns: i64,
        /// How long the node has been deaf or away, or had been, in seconds.
        lasted_s: u64,
    },
    /// A summary of notifications that were suppressed, or that piled up while their channel was down.
    Digest {
        /// When the first of them was stored, in nanoseconds since 1970 UTC.
        from_ns: i64,
        /// When the last of them was stored.
        to_ns: i64,
        /// Counts by animal, then by context, `call`, or `node_<condition>`. At most
        /// [`MOST_ANIMALS`](super::MOST_ANIMALS) animals.
        counts: BTreeMap<String, BTreeMap<String, u64>>,
        /// Notifications about further animals.
        #[serde(default)]
        further: u64,
        /// Whether they piled up while their channel was down.
        #[serde(default)]
        while_down: bool,
    },
}

impl Subject {
    /// The kind of subject, as in the API.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Call { .. } => "call",
            Self::Event { .. } => "event",
            Self::Node { .. } => "node",
            Self::Digest { .. } => "digest",
        }
    }

    /// The animal. Empty: unknown, or a digest.
    pub fn animal(&self) -> &str {
        match self {
            Self::Call { animal, .. } | Self::Event { cat: animal, .. } | Self::Node { cat: animal, .. } => animal,
            Self::Digest { .. } => "",
        }
    }

    /// Number of the event, if it is about one.
    pub fn event_id(&self) -> Option<i64> {
        if let Self::Event { id, .. } = self { Some(*id) } else { None }
    }
}
