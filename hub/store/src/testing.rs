//! Made-up events and notifications for tests.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use sound::context::Features;
use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};

use crate::Store;
use crate::events::{Clip, Committed, Event, EventClock, NewEvent, NoClip, Watermark};
use crate::notifications::{ChannelName, Notification, NotificationState, Subject};

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

/// Stores an event.
pub async fn put_with(store: &Store, event: NewEvent, clip: Result<Clip, NoClip>) -> Event {
    let mark = watermark(&event.node, event.end_sample);
    match store.commit_event(event, clip, mark, |_| vec![]).await.unwrap() {
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
