//! After an update with another network: hears the clips of labelled sounds again, so that the owner's labels go on teaching.
//!
//! Those that are labelled already are heard again when the hub starts, one that is labelled later is at once. What is heard differs a
//! little from what was heard live, for a clip begins half a second before the sound.

use std::io::ErrorKind;
use std::ops::Range;

use daemon::shutdown::CancellationToken;
use hub_store::clips::Clips;
use hub_store::events::{Event, OwnerLabel};
use hub_store::{Store, StoreError};
use sound::context::Features;
use sound::detector::{Detector, DetectorConfig, Event as Found};
use sound::measure::Meter;
use sound::model::Model;
use sound::prosody::prosody;
use tracing::{info, warn};

/// Events that are heard again at a time.
const BATCH: usize = 16;

/// For a sound that the network is not sure of: the owner says that there is a cat.
const KEEN: DetectorConfig =
    DetectorConfig { on_probability: 0.2, off_probability: 0.1, min_score: 0.0, ..DetectorConfig::DEFAULT };

/// Why hearing again came to an end.
#[derive(Debug, thiserror::Error)]
pub enum RehearError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A clip is there and cannot be read.
    #[error("clip {file}: {source}")]
    Clip {
        /// Its file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
}

/// How many sounds were heard again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reheard {
    /// Their labels teach.
    pub again: usize,
    /// This network hears nothing there, or the clip is gone: their labels stand for themselves alone.
    pub lost: usize,
}

/// Hears again what was labelled before the start, until done or `stop`.
pub async fn rehear(store: Store, clips: Clips, stop: CancellationToken) {
    let heard = tokio::select! {
        heard = all(&store, &clips) => heard,
        () = stop.cancelled() => return,
    };
    match heard {
        Ok(Reheard { again: 0, lost: 0 }) => {}
        Ok(Reheard { again, lost }) => info!(again, lost, "heard labelled sounds of an earlier network again"),
        Err(error) => warn!(%error, "labelled sounds of an earlier network are heard again at the next start"),
    }
}

async fn all(store: &Store, clips: &Clips) -> Result<Reheard, RehearError> {
    let mut sum = Reheard::default();
    loop {
        // What was heard is not in the next batch.
        let batch = store.labelled_of_another_network(BATCH).await?;
        if batch.is_empty() {
            return Ok(sum);
        }
        let heard = these(store, clips, batch).await?;
        sum = Reheard { again: sum.again + heard.again, lost: sum.lost + heard.lost };
    }
}

/// Hears an event again that was just labelled, if it has to be.
///
/// # Errors
/// See [`RehearError`].
pub async fn rehear_labelled(store: &Store, clips: &Clips, event: &Event) -> Result<(), RehearError> {
    let teaches = matches!(event.label, Some(OwnerLabel::Context(_)));
    if teaches && event.found.features.is_none() && event.clip.is_ok() {
        these(store, clips, vec![event.clone()]).await?;
    }
    Ok(())
}

async fn these(store: &Store, clips: &Clips, events: Vec<Event>) -> Result<Reheard, RehearError> {
    let mut heard = Vec::new();
    for event in events {
        let id = event.id;
        heard.push((id, features_of(clips, event).await?));
    }
    let again = heard.iter().filter(|(_, features)| features.is_some()).count();
    let reheard = Reheard { again, lost: heard.len() - again };
    store.put_reheard(heard).await?;
    Ok(reheard)
}

/// What this network makes of an event. `None`: nothing, or its clip is gone or damaged.
async fn features_of(clips: &Clips, event: Event) -> Result<Option<Features>, RehearError> {
    let Ok(clip) = &event.clip else { return Ok(None) };
    let samples = match clips.samples(clip).await {
        Ok(samples) => samples,
        Err(lost) if matches!(lost.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => return Ok(None),
        Err(source) => return Err(RehearError::Clip { file: clip.file.clone(), source }),
    };
    let in_clip = |sample: u64| sample.saturating_sub(clip.start_sample);
    let place = in_clip(event.found.start_sample)..in_clip(event.found.end_sample);
    // What it was measured against when it was live: the clip holds too little of it.
    let background_dbfs = event.found.measurements.rms_dbfs - event.found.measurements.snr_db;
    let heard = tokio::task::spawn_blocking(move || hear(&samples, &place, background_dbfs));
    Ok(heard.await.map_err(|crash| StoreError::Cut(crash.to_string()))?)
}

/// What the network makes of the sound at that place of a clip; before it there was a background of that level.
fn hear(samples: &[i16], place: &Range<u64>, background_dbfs: f32) -> Option<Features> {
    let place = place.start..place.end.min(samples.len() as u64);
    let found = [DetectorConfig::DEFAULT, KEEN].into_iter().find_map(|config| found_at(&place, samples, config))?;
    let audio = samples.get(found.start_sample as usize..found.end_sample as usize)?;
    Some(Features { prosody: prosody(&mut Meter::default(), audio, background_dbfs), embedding: found.embedding })
}

/// The event that is this one: it covers more than half of the place.
fn found_at(place: &Range<u64>, samples: &[i16], config: DetectorConfig) -> Option<Found> {
    let mut found = Vec::new();
    let mut detector = Detector::new(Model::shipped(), config);
    detector.push(samples, |event| found.push(event));
    detector.finish(|event| found.push(event));
    let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
    let shared = |one: &Found| length(&(one.start_sample.max(place.start)..one.end_sample.min(place.end)));
    let best = found.into_iter().max_by_key(shared)?;
    (2 * shared(&best) > length(place)).then_some(best)
}

#[cfg(test)]
mod tests {
    use hub_store::Access;
    use hub_store::clips::{ClipsConfig, Cut};
    use hub_store::events::{NewEvent, NoClip};
    use hub_store::testing::{as_if_another_network_heard, event, put_with};
    use sound::detection::ContextLabel;

    use super::*;

    const ROLL: u64 = 8_000;

    fn recorded(name: &str) -> Vec<i16> {
        let path = format!("{}/../../sound/tests/clips/{name}.wav", env!("CARGO_MANIFEST_DIR"));
        hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect()
    }

    struct Home {
        _dir: tempfile::TempDir,
        store: Store,
        clips: Clips,
    }

    impl Home {
        async fn open() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), Access::Keeper).unwrap();
            let config = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
            let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
            Self { _dir: dir, store, clips }
        }

        /// Stores an event and its clip, which begins [`ROLL`] before it; the event is where `place` is in the clip.
        async fn put(&self, node: &str, start_sample: u64, clip: Option<&[i16]>, place: Range<u64>) -> Event {
            let clip = match clip {
                Some(samples) => {
                    let cut = Cut { boot_id: 1, start_sample: start_sample - place.start, samples: samples.to_vec() };
                    self.clips.keep(cut).await
                }
                None => Err(NoClip::Disabled),
            };
            let length = place.end - place.start;
            put_with(&self.store, NewEvent { end_sample: start_sample + length, ..event(node, start_sample) }, clip)
                .await
        }

        async fn label(&self, event: &Event) -> Event {
            let label = Some(OwnerLabel::Context(ContextLabel::Isolation));
            self.store.label_event(event.id, label).await.unwrap().unwrap()
        }

        async fn labels(&self) -> u32 {
            self.store.household("Tom").await.unwrap().labels()
        }
    }

    #[tokio::test]
    async fn labels_go_on_teaching_after_an_update() {
        let home = Home::open().await;
        let (meow, place) = (recorded("meow_alone"), ROLL..ROLL + 12_000);
        let count = BATCH + 3;
        for n in 1..=count as u64 {
            home.label(&home.put("kitchen", n * 100_000, Some(&meow), place.clone()).await).await;
        }
        for clip in [Some(&[0; 32_000][..]), None] {
            home.label(&home.put("hall", 100_000 + clip.map_or(0, |_| 50_000), clip, place.clone()).await).await;
        }
        let later = home.put("attic", 100_000, Some(&meow), place.clone()).await;
        assert_eq!(home.labels().await as usize, count + 2);
        as_if_another_network_heard(&home.store, i64::MAX).await;
        assert_eq!(home.labels().await, 0);
        let damaged = hub_store::events::Clip { samples: 5, ..later.clip.clone().unwrap() };
        home.label(&put_with(&home.store, event("cellar", 100_000), Ok(damaged)).await).await;
        as_if_another_network_heard(&home.store, i64::MAX).await;
        let judged = home.put("attic", 900_000, None, place.clone()).await;

        assert_eq!(all(&home.store, &home.clips).await.unwrap(), Reheard { again: count, lost: 2 });
        assert_eq!(home.labels().await as usize, count);
        let judged = home.store.event(judged.id).await.unwrap().unwrap();
        assert_eq!(judged.context_labels as usize, count, "events of its cat are judged anew");
        assert_eq!(all(&home.store, &home.clips).await.unwrap(), Reheard::default(), "once");

        // One that is labelled after the update.
        let labelled = home.label(&later).await;
        assert_eq!(home.labels().await as usize, count);
        rehear_labelled(&home.store, &home.clips, &labelled).await.unwrap();
        assert_eq!(home.labels().await as usize, count + 1);
    }

    #[test]
    fn the_sound_of_the_event_is_heard_and_not_its_neighbour() {
        let (food, alone) = (recorded("meow_food"), recorded("meow_alone"));
        let heard = |samples: &[i16], place: Range<u64>| hear(samples, &place, -60.0);
        let (first, second) = (food.len() as u64, (food.len() + alone.len()) as u64);
        let both = [&food[..], &alone].concat();
        let embedding = |features: Option<Features>| features.unwrap().embedding;
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let [own_first, own_second] =
            [&food, &alone].map(|meow| embedding(heard(meow, 4_000..meow.len() as u64 - 4_000)));
        let at_second = embedding(heard(&both, first + 4_000..second - 4_000));
        assert!(distance(&at_second, &own_second) < 0.2 * distance(&at_second, &own_first));
        // Its own sound is not in the clip; a neighbour is.
        let silence = vec![0; 32_000];
        assert_eq!(heard(&[&food[..], &silence].concat(), first + 8_000..first + 20_000), None);
        // The clip ends within the sound.
        assert!(heard(&alone, 4_000..alone.len() as u64 + 16_000).is_some());
    }
}
