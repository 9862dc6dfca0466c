//! Made-up events and notifications for tests.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use sound::context::Features;
use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};
use sound::same_sound::Envelope;
use sound::testing::{distinct, features};

use crate::events::{Clip, Committed, Event, EventClock, NewEvent, NoClip, OwnerLabel, Watermark};
use crate::notifications::{ChannelName, Notification, NotificationPlan, NotificationState, Subject};
use crate::{Access, Replacement, SeenNode, Store};

const SECOND_NS: i64 = 1_000_000_000;

/// A meow of Tom that `node` heard, with features.
pub fn event(node: &str, start_sample: u64) -> NewEvent {
    let started_at_ns = 1_700_000_000 * SECOND_NS + start_sample.cast_signed() * 62_500;
    NewEvent {
        node: node.into(),
        cat: "Tom".into(),
        boot_id: u64::MAX - 3,
        start_sample,
        end_sample: start_sample + 8_000,
        started_at_ns,
        ended_at_ns: started_at_ns + SECOND_NS / 2,
        started_monotonic_ns: start_sample * 62_500,
        clock: EventClock::Node,
        score: 0.9,
        kind: Some("meow".into()),
        context: Context {
            label: ContextLabel::Isolation,
            probabilities: ContextProbabilities { waiting_for_food: 0.2, isolation: 0.7, brushing: 0.1 },
        },
        measurements: Measurements {
            peak_dbfs: -6.0,
            rms_dbfs: -18.0,
            snr_db: 30.0,
            pitch_median_hz: 600.0,
            pitch_min_hz: 400.0,
            pitch_max_hz: 800.0,
            voiced_fraction: 0.9,
            spectral_centroid_hz: 1_500.0,
            spectral_flatness: 0.02,
        },
        features: Some(Box::new(Features {
            prosody: [0.25; sound::prosody::PROSODY],
            embedding: [-1.5; sound::model::EMBEDDING],
        })),
        envelope: None,
    }
}

/// A clip of an event.
pub fn clip_of(event: &NewEvent) -> Clip {
    let file = format!("{}-{}.wav", event.node, event.start_sample);
    Clip { file, bytes: 1_000, start_sample: event.start_sample, samples: 8_000 }
}

/// A watermark of the boot that [`event`] belongs to.
pub fn watermark(node: &str, settled_sample: u64) -> Watermark {
    Watermark { node: node.into(), boot_id: u64::MAX - 3, resume_sequence: settled_sample / 320, settled_sample }
}

/// A meow of Tom in one of several voices. Each take begins at another time.
pub fn vocalisation(node: &str, voice: u32, take: u32) -> NewEvent {
    let features = Some(Box::new(features(voice, take)));
    NewEvent { features, ..event(node, u64::from(voice * 1_000 + take) * 16_000) }
}

/// As [`vocalisation`], of a voice that is unlike all others: see [`distinct`].
pub fn distinct_vocalisation(node: &str, voice: u32, take: u32) -> NewEvent {
    NewEvent { features: Some(Box::new(distinct(voice, take))), ..vocalisation(node, voice, take) }
}

/// The envelope of half a second of a tone that moves between two pitches.
pub fn envelope(from_hz: f32, to_hz: f32) -> Option<Box<Envelope>> {
    let mut phase = 0.0_f32;
    let sample = |n: u16| {
        let part = f32::from(n) / 8_000.0;
        phase += std::f32::consts::TAU * (from_hz + (to_hz - from_hz) * part) / 16_000.0;
        (phase.sin() * 9_000.0 * (std::f32::consts::PI * part).sin()) as i16
    };
    Some(Box::new(Envelope::of(&(0..8_000).map(sample).collect::<Vec<_>>())))
}

/// What `node` heard, at this level, of one meow that all nodes heard.
pub fn same_meow(node: &str, rms_dbfs: f32) -> NewEvent {
    let mut heard = NewEvent { envelope: envelope(500.0, 1_500.0), ..event(node, 16_000) };
    heard.measurements.rms_dbfs = rms_dbfs;
    heard
}

/// An empty store, in a folder of its own.
#[cfg(test)]
pub(crate) fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    (dir, store)
}

/// Stores an event.
pub async fn put_with(store: &Store, event: NewEvent, clip: Result<Clip, NoClip>) -> Event {
    put_for(store, event, clip, vec![]).await
}

/// Stores an event with these notifications.
pub async fn put_for(
    store: &Store,
    event: NewEvent,
    clip: Result<Clip, NoClip>,
    plans: Vec<NotificationPlan>,
) -> Event {
    let mark = watermark(&event.node, event.end_sample);
    match store.commit_event(event, clip, mark, |_| plans).await.unwrap() {
        Committed::Stored(event) => *event,
        Committed::KnownAlready => panic!("it was known"),
    }
}

/// Makes the events before that number look as they do after an update.
pub async fn as_if_another_network_heard(store: &Store, before_id: i64) {
    let sql = "UPDATE events SET features = CAST(x'0123456789abcdef' || substr(features, 9) AS BLOB) WHERE id < ?1";
    store.write(move |db| Ok(db.execute(sql, [before_id])?)).await.unwrap();
}

/// A pending notification to Anna's webhook.
pub fn notification(subject: Subject) -> Notification {
    Notification {
        id: 1,
        key: "0123456789abcdef0123456789abcdef".into(),
        owner: "Anna".into(),
        channel: Some(ChannelName { name: "webhook".into(), kind: "webhook".into() }),
        subject,
        state: NotificationState::Pending,
        reason: None,
        created_at_ns: 0,
        queued_at_ns: 0,
        tries: 0,
        error: None,
        ended_at_ns: None,
    }
}

/// A notification about an event.
pub fn event_notification(id: i64) -> Notification {
    notification(Subject::Event {
        id,
        cat: "Tom".into(),
        node: "http://kitchen:1".into(),
        context: "isolation".into(),
        sound: Some("meow".into()),
        score: 0.9,
        started_at_ns: 1_700_000_000 * SECOND_NS,
        clip: true,
    })
}

/// URL of the node that [`with_long_history`] replaces.
pub const KITCHEN: &str = "http://kitchen:1";

/// URL of the node that replaces it.
pub const SHED: &str = "http://shed:1";

/// An id of a node: this digit, 64 times.
pub fn long_id(digit: &str) -> String {
    digit.repeat(64)
}

/// The replacement of a node by the one in the shed, by the digits of their ids.
pub fn replacement(old: &str, new: &str) -> Replacement {
    Replacement { old: long_id(old), new: long_id(new), new_url: SHED.into(), force: false }
}

async fn see(store: &Store, url: &str, digit: &str, boot_id: u64) {
    let seen = SeenNode {
        url: url.into(),
        node_id: Some(long_id(digit)),
        claimed_id: None,
        boot_id,
        captured_samples: 1 << 40,
    };
    store.see_node(seen).await.unwrap();
}

/// A store with a node in the kitchen, which has heard this number of events, the first with a clip and a label,
/// and with the node that replaces it.
pub async fn with_long_history(dir: &std::path::Path, events: u64) -> Store {
    let store = Store::open(dir, Access::Keeper).unwrap();
    see(&store, KITCHEN, "a", u64::MAX - 3).await;
    let first = event(KITCHEN, 0);
    let clip = clip_of(&first);
    let labelled = put_with(&store, first, Ok(clip)).await;
    store.label_event(labelled.id, Some(OwnerLabel::NotACat)).await.unwrap();
    // The others are copies: thousands of commits would take minutes.
    let columns = store
        .read(|db| {
            let mut names = db.prepare("SELECT name FROM pragma_table_info('events')")?;
            Ok(names.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
        })
        .await
        .unwrap();
    put_with(&store, event(KITCHEN, 16_000), Err(NoClip::Disabled)).await;
    store
        .write(move |db| {
            let copied: Vec<_> = columns.iter().map(String::as_str).filter(|name| *name != "id").collect();
            let places = copied.iter().map(|name| match *name {
                "start_sample" | "end_sample" => format!("{name} + 16000 * number"),
                name => name.to_owned(),
            });
            let sql = format!(
                "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers \
                 WHERE number < ?1) INSERT INTO events ({}) SELECT {} FROM events, numbers WHERE id = 2",
                copied.join(", "),
                places.collect::<Vec<_>>().join(", ")
            );
            db.execute(&sql, [(events - 2).cast_signed()])?;
            db.execute(
                "INSERT INTO gaps (node, boot_id, first_sequence, reason, detail, noticed_at_ns, node_id) \
                 SELECT node, boot_id, start_sample, 'overload', '', 1, node_id FROM events",
                [],
            )?;
            Ok(())
        })
        .await
        .unwrap();
    see(&store, SHED, "b", 5).await;
    store
}
