//! Analyses the clips of labelled events again after an update of the neural network, so that the labels keep teaching.
//!
//! Events that are labelled already are analysed again when the hub starts. An event that is labelled later is analysed
//! at once. The result differs slightly from live listening, because a clip begins only half a second before the sound.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::ops::Range;

use daemon::shutdown::CancellationToken;
use hub_store::clips::Clips;
use hub_store::events::Event;
use hub_store::{Store, StoreError};
use sound::context::Features;
use sound::detector::{Detector, DetectorConfig, Segment as Found};
use sound::measure::Meter;
use sound::model::Model;
use sound::prosody::prosody;
use tracing::{info, warn};

/// Events that are analysed again at a time.
const BATCH: usize = 16;

/// Settings for a sound that the network is not sure of, but that has a label.
pub(crate) const KEEN: DetectorConfig =
    DetectorConfig { on_probability: 0.2, off_probability: 0.1, min_score: 0.0, ..DetectorConfig::DEFAULT };

/// Why analysing again failed.
#[derive(Debug, thiserror::Error)]
pub enum RehearError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many events were analysed again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reheard {
    /// Events whose labels teach again.
    pub again: usize,
    /// Events in whose clip the network finds nothing, or whose clip is damaged. Their labels teach nothing.
    pub lost: usize,
    /// Events whose clip is missing or cannot be read now. The next start tries again.
    pub unread: usize,
}

/// Analyses again what was labelled before the start, until done or `stop`.
pub async fn rehear(store: Store, clips: Clips, stop: CancellationToken) {
    let heard = tokio::select! {
        heard = all(&store, &clips) => heard,
        () = stop.cancelled() => return,
    };
    match heard {
        Ok(Reheard { again: 0, lost: 0, unread: 0 }) => {}
        Ok(Reheard { again, lost, unread }) => {
            info!(again, lost, unread, "analysed labelled events of an earlier network again");
        }
        Err(error) => {
            warn!(%error, "cannot analyse labelled events of an earlier network; retrying at the next start");
        }
    }
}

async fn all(store: &Store, clips: &Clips) -> Result<Reheard, RehearError> {
    let mut sum = Reheard::default();
    let mut unread = HashSet::new();
    loop {
        // The next batch no longer contains these, except for those that could not be read.
        let mut batch = store.labelled_of_another_network(BATCH + unread.len()).await?;
        batch.retain(|event| !unread.contains(&event.id));
        if batch.is_empty() {
            return Ok(sum);
        }
        let heard = these(store, clips, batch, &mut unread).await?;
        sum = Reheard { again: sum.again + heard.again, lost: sum.lost + heard.lost, unread: unread.len() };
    }
}

/// Analyses an event that was just labelled, if its features come from an earlier network.
///
/// # Errors
/// See [`RehearError`].
pub async fn rehear_labelled(store: &Store, clips: &Clips, event: &Event) -> Result<(), RehearError> {
    if event.label.is_some() && event.found.features.is_none() && event.clip.is_ok() {
        these(store, clips, vec![event.clone()], &mut HashSet::new()).await?;
    }
    Ok(())
}

/// Adds the events whose clips cannot be read to `unread`.
async fn these(
    store: &Store,
    clips: &Clips,
    events: Vec<Event>,
    unread: &mut HashSet<i64>,
) -> Result<Reheard, RehearError> {
    let mut heard = Vec::new();
    for event in events {
        let id = event.id;
        match features_of(clips, event).await? {
            Sound::Heard(features) => heard.push((id, features.map(|features| *features))),
            Sound::Unread => {
                unread.insert(id);
            }
        }
    }
    let again = heard.iter().filter(|(_, features)| features.is_some()).count();
    let reheard = Reheard { again, lost: heard.len() - again, unread: unread.len() };
    store.put_reheard(heard).await?;
    Ok(reheard)
}

/// What came of a clip.
enum Sound {
    /// Features of the event by this network. `None`: it finds nothing, or the clip is damaged.
    Heard(Option<Box<Features>>),
    /// The clip is missing or cannot be read now. Its disk may be away.
    Unread,
}

async fn features_of(clips: &Clips, event: Event) -> Result<Sound, RehearError> {
    let Ok(clip) = &event.clip else { return Ok(Sound::Heard(None)) };
    let samples = match clips.samples(clip).await {
        Ok(samples) => samples,
        Err(damaged) if damaged.kind() == ErrorKind::InvalidData => return Ok(Sound::Heard(None)),
        Err(error) => {
            warn!(file = clip.file, %error, "a labelled clip cannot be read; it teaches nothing until the next start");
            return Ok(Sound::Unread);
        }
    };
    let in_clip = |sample: u64| sample.saturating_sub(clip.start_sample);
    let place = in_clip(event.found.start_sample)..in_clip(event.found.end_sample);
    // The background level as measured live. The clip contains too little background for that.
    let background_dbfs = event.found.measurements.rms_dbfs - event.found.measurements.snr_db;
    let heard = tokio::task::spawn_blocking(move || hear(&samples, &place, background_dbfs));
    let features = heard.await.map_err(|crash| StoreError::Cut(crash.to_string()))?;
    Ok(Sound::Heard(features.map(Box::new)))
}

/// Features of the sound at a place in a clip, against a background of this level.
fn hear(samples: &[i16], place: &Range<u64>, background_dbfs: f32) -> Option<Features> {
    let place = place.start..place.end.min(samples.len() as u64);
    let found = [DetectorConfig::DEFAULT, KEEN].into_iter().find_map(|config| found_at(&place, samples, config))?;
    let audio = samples.get(found.start_sample as usize..found.end_sample as usize)?;
    Some(Features { prosody: prosody(&mut Meter::default(), audio, background_dbfs), embedding: found.embedding })
}

/// The detection that covers more than half of the place.
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
mod tests;
