//! An event: a stored vocalisation with its clip and the owner's label.

use rusqlite::types::Type;
use sound::context::Features;
use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};
use sound::same_sound::Envelope;

use crate::columns;
use crate::node_columns::url_of;
use crate::notifications::Subject;
use crate::words::{word, words};

/// The clock that an event's times come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventClock {
    /// The node knew the time.
    Node,
    /// The node did not know the time yet. The hub mapped the node's monotonic clock to its own clock; the times are
    /// corrected once the node knows the time.
    Hub,
}

/// The clip of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// File name within the clip directory.
    pub file: String,
    /// Size of the file, for the quota.
    pub bytes: u64,
    /// The clip's first sample, on the node's count.
    pub start_sample: u64,
    /// Samples in the clip.
    pub samples: u64,
}

impl Clip {
    /// Size of the clip as a WAV file, whatever its format on disk.
    pub fn wav_bytes(&self) -> u64 {
        44 + 2 * self.samples
    }
}

/// Why an event has no clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoClip {
    /// Clips are switched off.
    Disabled,
    /// The clip would leave less than the reserve free on the disk.
    DiskFull,
    /// The file could not be written.
    WriteFailed,
    /// The clip alone is larger than the quota.
    OverQuota,
    /// Retention removed it, or the owner deleted the event.
    Expired,
    /// The file was gone when the hub started.
    Missing,
    /// The audio had already left the memory.
    AudioGone,
    /// The audio is mostly human speech.
    Speech,
}

/// The owner's label: what the sound was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerLabel {
    /// A cat, in this context.
    Context(ContextLabel),
    /// A false alarm: no cat.
    NotACat,
}

/// An event that live listening found, before it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// URL of the node: where it was heard, in a stored event the one that it used last.
    pub node: String,
    /// Name of the cat that the node listens to. Empty if the node names no cat. In a stored event, [`Event::cat`] is
    /// the cat of the event.
    pub cat: String,
    /// The node's boot id.
    pub boot_id: u64,
    /// First sample, on the node's count.
    pub start_sample: u64,
    /// The sample after the last one.
    pub end_sample: u64,
    /// When it began, in nanoseconds since 1970 UTC.
    pub started_at_ns: i64,
    /// When it ended.
    pub ended_at_ns: i64,
    /// When it began, in nanoseconds of the node's monotonic clock.
    pub started_monotonic_ns: u64,
    /// The clock that the times come from.
    pub clock: EventClock,
    /// How certain the detector is that this is a cat, 0 to 1.
    pub score: f32,
    /// Kind of vocalisation, such as `meow`. `None` if it was not determined.
    pub kind: Option<String>,
    /// The context in which the cat vocalised.
    pub context: Context,
    /// Measurements of the sound.
    pub measurements: Measurements,
    /// What a cat's own classifier learns from. `None` if the features were not stored, or come from another network.
    pub features: Option<Box<Features>>,
    /// By which the store tells whether another node heard the same sound. `None`: the event is not compared with
    /// others. A stored event is returned without it.
    pub envelope: Option<Box<Envelope>>,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Number of the event. Never reused.
    pub id: i64,
    /// What was detected. The context is that of the latest evaluation.
    pub found: NewEvent,
    /// Number of labels of this cat that the context is based on. 0: the context comes from the general model.
    pub context_labels: u32,
    /// The clip, or why there is none.
    pub clip: Result<Clip, NoClip>,
    /// The owner's label, if there is one.
    pub label: Option<OwnerLabel>,
    /// The owner's own label, if the owner chose one. `label` is `uncertain` then.
    pub own_label: Option<String>,
    /// When the owner set the label.
    pub labelled_at_ns: Option<i64>,
    /// The cat that the owner named. `None`: the owner named none.
    pub said_cat: Option<String>,
    /// When the owner named the cat.
    pub said_cat_at_ns: Option<i64>,
    /// The owner's own label that the hub suggests. The context is `uncertain` then.
    pub suggested: Option<Suggestion>,
    /// Id of the node, 64 hexadecimal digits. `None`: it had proved none.
    pub node_id: Option<String>,
    /// Whether the event was lost with its database and came back from its clip.
    pub recovered: bool,
    /// The first answer, if the event was re-evaluated since.
    pub first: Option<FirstAnswer>,
    /// Number of the event that is shown for the same sound. `None`: this event is shown itself.
    pub same_sound_as: Option<i64>,
    /// The events of the same sound that other nodes heard, if this event is the one that is shown.
    pub same_sound: Vec<SameSound>,
    /// Events labelled "not a cat" that this one sounded like when it was stored, so that no owner was notified of it.
    /// Empty: it was like none.
    pub like_false_alarms: Vec<i64>,
    /// `min_score` of the node when the event was stored, if the score was below it, so that no owner was notified of
    /// it. `None`: the score was high enough, or the node had no `min_score`.
    pub below_min_score: Option<f32>,
}

/// The owner's own label that the hub suggests for an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// The name of the label.
    pub name: String,
    /// How probable it is that the owner would choose it, 0 to 1.
    pub probability: f32,
}

/// What the classifier said about an event before its context was evaluated again.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstAnswer {
    /// The context that the event was stored with.
    pub context: Context,
    /// Number of labels that it was based on, as in [`Event::context_labels`].
    pub labels: u32,
    /// Name of the owner's own label that was suggested then.
    pub suggested: Option<String>,
}

/// An event of the same sound as another event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameSound {
    /// Number of the event.
    pub id: i64,
    /// The node that heard it: its id, or its URL if it had proved none.
    pub node: String,
}

words!(EventClock {
    EventClock::Node => "node" => EventClock::Node,
    EventClock::Hub => "hub" => EventClock::Hub,
});

words!(NoClip {
    NoClip::Disabled => "disabled" => NoClip::Disabled,
    NoClip::DiskFull => "disk_full" => NoClip::DiskFull,
    NoClip::WriteFailed => "write_failed" => NoClip::WriteFailed,
    NoClip::OverQuota => "over_quota" => NoClip::OverQuota,
    NoClip::Expired => "expired" => NoClip::Expired,
    NoClip::Missing => "missing" => NoClip::Missing,
    NoClip::AudioGone => "audio_gone" => NoClip::AudioGone,
    NoClip::Speech => "speech" => NoClip::Speech,
});

words!(OwnerLabel {
    OwnerLabel::Context(ContextLabel::WaitingForFood) => "waiting_for_food" => OwnerLabel::Context(ContextLabel::WaitingForFood),
    OwnerLabel::Context(ContextLabel::Isolation) => "isolation" => OwnerLabel::Context(ContextLabel::Isolation),
    OwnerLabel::Context(ContextLabel::Brushing) => "brushing" => OwnerLabel::Context(ContextLabel::Brushing),
    OwnerLabel::Context(ContextLabel::Uncertain) => "uncertain" => OwnerLabel::Context(ContextLabel::Uncertain),
    OwnerLabel::NotACat => "not_a_cat" => OwnerLabel::NotACat,
});

impl Event {
    /// The cat of the event: the one that the owner named, otherwise the one of the node. Empty: neither has a name.
    pub fn cat(&self) -> &str {
        self.said_cat.as_deref().unwrap_or(&self.found.cat)
    }

    /// The subject of a notification about this event.
    pub fn subject(&self) -> Subject {
        Subject::Event {
            id: self.id,
            cat: self.cat().to_owned(),
            node: self.found.node.clone(),
            context: self.found.context.label.as_str().to_owned(),
            sound: self.found.kind.clone(),
            score: self.found.score,
            started_at_ns: self.found.started_at_ns,
            clip: self.clip.is_ok(),
        }
    }

    /// What the event counts as: the owner's label if there is one, otherwise the context that the analysis found.
    pub fn counts_as(&self) -> OwnerLabel {
        self.label.unwrap_or(OwnerLabel::Context(self.found.context.label))
    }

    /// The word for the owner's label: one of the hub's, or the owner's own.
    pub fn label_word(&self) -> Option<&str> {
        self.label.map(|label| self.own_label.as_deref().unwrap_or(label.as_str()))
    }

    /// The other nodes that heard the sound, each once: their ids, or the URLs of those that had proved none.
    pub fn also_heard_by(&self) -> Vec<&str> {
        let own = self.node_id.as_deref().unwrap_or(&self.found.node);
        let mut nodes: Vec<&str> = self.same_sound.iter().map(|other| other.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.retain(|node| *node != own);
        nodes
    }

    /// Whether the event sounded like false alarms of its node, or its score was below the node's `min_score`, and the
    /// owner has not said since what it was. Such an event is not counted.
    pub fn is_set_aside(&self) -> bool {
        self.label.is_none() && (!self.like_false_alarms.is_empty() || self.below_min_score.is_some())
    }

    /// Duration in seconds.
    pub fn duration_s(&self) -> f64 {
        (self.found.end_sample - self.found.start_sample) as f64 / f64::from(sound::SAMPLE_RATE_HZ)
    }
}

/// The columns that [`from_row`] reads, in its order.
pub(super) const COLUMNS: &str = concat!(
    "id, ",
    url_of!("events"),
    ", cat, boot_id, start_sample, end_sample, started_at_ns, ended_at_ns, started_monotonic_ns, clock, score, kind, ",
    columns::columns!(),
    ", clip_file, clip_bytes, clip_start_sample, clip_samples, no_clip_reason, label, labelled_at_ns, features, context_labels, \
     recovered, node_id, like_false_alarms, first_context, first_p_waiting_for_food, first_p_isolation, first_p_brushing, \
     first_context_labels, below_min_score, said_cat, said_cat_at_ns, p_suggested, \
     (SELECT name FROM own_labels WHERE own_labels.id = events.suggested) AS suggested_name, \
     (SELECT name FROM own_labels WHERE own_labels.id = events.first_suggested) AS first_suggested_name, \
     (SELECT name FROM own_labels WHERE own_labels.id = events.own_label) AS own_name, \
     same_sound_as, (SELECT group_concat(other.id || ' ' || coalesce(other.node_id, other.node), char(10)) \
     FROM events AS other WHERE other.same_sound_as = events.id AND other.deleted_at_ns IS NULL) AS same_sounds"
);

pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    let (context, measurements) = columns::read(row, 12)?;
    let clip = match row.get::<_, Option<String>>(25)? {
        Some(file) => {
            Ok(Clip { file, bytes: unsigned(row, 26)?, start_sample: unsigned(row, 27)?, samples: unsigned(row, 28)? })
        }
        None => Err(word(row, 29)?),
    };
    let said_cat: Option<String> = row.get("said_cat")?;
    let label = if row.get_ref(30)? == rusqlite::types::ValueRef::Null { None } else { Some(word(row, 30)?) };
    Ok(Event {
        id: row.get(0)?,
        found: NewEvent {
            node: row.get(1)?,
            cat: row.get(2)?,
            boot_id: unsigned(row, 3)?,
            start_sample: unsigned(row, 4)?,
            end_sample: unsigned(row, 5)?,
            started_at_ns: row.get(6)?,
            ended_at_ns: row.get(7)?,
            started_monotonic_ns: unsigned(row, 8)?,
            clock: word(row, 9)?,
            score: row.get(10)?,
            kind: row.get(11)?,
            context,
            measurements,
            // Features of another network are of no use to this classifier, and are left out.
            features: row.get::<_, Option<Vec<u8>>>(32)?.and_then(|bytes| Features::from_bytes(&bytes)).map(Box::new),
            envelope: None,
        },
        context_labels: row.get(33)?,
        clip,
        own_label: row.get::<_, Option<String>>("own_name")?.filter(|_| label.is_some()),
        label,
        labelled_at_ns: row.get(31)?,
        said_cat_at_ns: row.get::<_, Option<i64>>("said_cat_at_ns")?.filter(|_| said_cat.is_some()),
        said_cat,
        suggested: suggestion(row)?,
        recovered: row.get(34)?,
        node_id: row.get(35)?,
        first: first_of(row)?,
        same_sound_as: row.get("same_sound_as")?,
        same_sound: same_sound(&row.get::<_, Option<String>>("same_sounds")?.unwrap_or_default()),
        like_false_alarms: ids(row, "like_false_alarms")?,
        below_min_score: row.get("below_min_score")?,
    })
}

/// The first answer about an event that was re-evaluated, by the names of the columns.
pub(super) fn first_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<FirstAnswer>> {
    let Some(word) = row.get::<_, Option<String>>("first_context")? else { return Ok(None) };
    let probabilities = ContextProbabilities {
        waiting_for_food: row.get("first_p_waiting_for_food")?,
        isolation: row.get("first_p_isolation")?,
        brushing: row.get("first_p_brushing")?,
    };
    let context = Context { label: ContextLabel::from_word(&word), probabilities };
    let suggested = row.get("first_suggested_name")?;
    Ok(Some(FirstAnswer { context, labels: row.get("first_context_labels")?, suggested }))
}

/// The suggested label. `None`: none is suggested, or a damaged database has lost the label.
fn suggestion(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Suggestion>> {
    let Some(name) = row.get("suggested_name")? else { return Ok(None) };
    Ok(Some(Suggestion { name, probability: row.get("p_suggested")? }))
}

/// Reads the lines `ID NODE` that [`COLUMNS`] makes.
fn same_sound(lines: &str) -> Vec<SameSound> {
    let line = |line: &str| {
        let (id, node) = line.split_once(' ')?;
        Some(SameSound { id: id.parse().ok()?, node: node.to_owned() })
    };
    lines.lines().filter_map(line).collect()
}

/// SQL condition: see [`Event::is_set_aside`].
pub(super) const IS_SET_ASIDE: &str =
    "((like_false_alarms IS NOT NULL OR below_min_score IS NOT NULL) AND label IS NULL)";

/// A list of event ids, in JSON. Null: an empty one.
fn ids(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<Vec<i64>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(Vec::new()) };
    let unreadable = |why| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(why));
    serde_json::from_str(&text).map_err(unreadable)
}

/// SQLite has only signed integers; the store keeps the bits of an unsigned one.
fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}
