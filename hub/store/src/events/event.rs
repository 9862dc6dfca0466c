//! An event: a stored vocalisation with its clip and what the owner says about it.

use sound::context::Features;
use sound::detection::{Context, ContextLabel, Measurements};

use crate::columns;
use crate::words::{word, words};

/// Whose clock an event's times are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventClock {
    /// The node knew the time.
    Node,
    /// The node did not know the time yet: its monotonic clock, mapped by the hub's. Corrected once the node knows.
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
    /// Size of it as a WAV file, however it is on disk.
    pub fn wav_bytes(&self) -> u64 {
        44 + 2 * self.samples
    }
}

/// Why an event has no clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoClip {
    /// Clips are switched off.
    Disabled,
    /// The disk has less than the reserve free.
    DiskFull,
    /// The file could not be written.
    WriteFailed,
    /// A clip alone would be above the quota.
    OverQuota,
    /// Retention has removed it.
    Expired,
    /// The file was gone when the hub started.
    Missing,
    /// The audio was no longer in memory.
    AudioGone,
    /// It is mostly human speech.
    Speech,
}

/// What the owner says a sound was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerLabel {
    /// A cat, in this context.
    Context(ContextLabel),
    /// No cat at all.
    NotACat,
}

/// An event that listening found, to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Name of the node.
    pub node: String,
    /// Name of the cat that the node listens to. Empty: none.
    pub cat: String,
    /// The node's boot id.
    pub boot_id: u64,
    /// First sample, on the node's count.
    pub start_sample: u64,
    /// The sample after the last.
    pub end_sample: u64,
    /// When it began, in nanoseconds since 1970 UTC.
    pub started_at_ns: i64,
    /// When it ended.
    pub ended_at_ns: i64,
    /// When it began, in nanoseconds of the node's monotonic clock.
    pub started_monotonic_ns: u64,
    /// Whose clock the times are by.
    pub clock: EventClock,
    /// How sure it is a cat: 0 to 1.
    pub score: f32,
    /// Kind of sound. `None`: not told apart.
    pub kind: Option<String>,
    /// In which context.
    pub context: Context,
    /// What was measured.
    pub measurements: Measurements,
    /// What a cat's own classifier learns from. `None`: not kept, or another network heard it.
    pub features: Option<Box<Features>>,
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Number of the event. Never given out twice.
    pub id: i64,
    /// What was found, the context as judged since.
    pub found: NewEvent,
    /// Labels of this cat that the context rests on. 0: the general model said it.
    pub context_labels: u32,
    /// The clip, or why there is none.
    pub clip: Result<Clip, NoClip>,
    /// What the owner says it was.
    pub label: Option<OwnerLabel>,
    /// When the owner said so.
    pub labelled_at_ns: Option<i64>,
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
    /// What it counts as: the owner's word where there is one, else the answer of the analysis.
    pub fn counts_as(&self) -> OwnerLabel {
        self.label.unwrap_or(OwnerLabel::Context(self.found.context.label))
    }

    /// Duration in seconds.
    pub fn duration_s(&self) -> f64 {
        (self.found.end_sample - self.found.start_sample) as f64 / f64::from(sound::SAMPLE_RATE_HZ)
    }
}

/// The columns that [`from_row`] reads, in its order.
pub(super) const COLUMNS: &str = concat!(
    "id, node, cat, boot_id, start_sample, end_sample, started_at_ns, ended_at_ns, started_monotonic_ns, clock, score, kind, ",
    columns::columns!(),
    ", clip_file, clip_bytes, clip_start_sample, clip_samples, no_clip_reason, label, labelled_at_ns, features, context_labels"
);

pub(super) fn from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Event> {
    let (context, measurements) = columns::read(row, 12)?;
    let clip = match row.get::<_, Option<String>>(25)? {
        Some(file) => {
            Ok(Clip { file, bytes: unsigned(row, 26)?, start_sample: unsigned(row, 27)?, samples: unsigned(row, 28)? })
        }
        None => Err(word(row, 29)?),
    };
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
            // None of another network: of no use to this one's classifier.
            features: row.get::<_, Option<Vec<u8>>>(32)?.and_then(|bytes| Features::from_bytes(&bytes)).map(Box::new),
        },
        context_labels: row.get(33)?,
        clip,
        label,
        labelled_at_ns: row.get(31)?,
    })
}

/// SQLite's numbers are signed; these are of the same bits.
fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}
