//! Recovers events whose database was lost from their clips, in the background after the start.
//!
//! A clip describes its event. Clips of earlier versions do not: they are heard again, and their events are dated by
//! the file. Recovered events are marked as such. Nobody is notified of them.

use std::collections::HashMap;
use std::time::Duration;

use daemon::shutdown::CancellationToken;
use hub_store::StoreError;
use hub_store::clips::{BroughtBack, Clips, LostClip};
use hub_store::events::{EventClock, NewEvent};
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analyzer, Vocalisation};
use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};
use sound::detector::DetectorConfig;
use sound::level::SILENCE_DBFS;
use tracing::{info, warn};

use crate::rehear::KEEN;

/// Pause after each clip, so that live listening has the processor and the disk: at most 20 clips a second.
const PAUSE: Duration = Duration::from_millis(50);

/// Node of recovered events of which nothing tells the node.
const UNKNOWN_NODE: &str = "recovered";

const NS_A_SAMPLE: u64 = 1_000_000_000 / SAMPLE_RATE_HZ as u64;

/// What a recovery brought back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredCounts {
    /// Events that are stored again.
    pub events: usize,
    /// Clips that events have again.
    pub clips: usize,
    /// Labels that events have again.
    pub labels: usize,
    /// Files that stay in the quarantine: damaged, or of events that are complete.
    pub left: usize,
}

/// Why a recovery ended early. The next start continues it.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder of the quarantine failed.
    #[error("quarantine: {0}")]
    Quarantine(#[from] std::io::Error),
}

/// Recovers events until done or `stop`. Does nothing if no database was lost.
pub async fn recover(clips: Clips, stop: CancellationToken) {
    let recovered = tokio::select! {
        recovered = all(&clips, PAUSE) => recovered,
        () = stop.cancelled() => return,
    };
    match recovered {
        Ok(None) => {}
        Ok(Some(RecoveredCounts { events, clips, labels, left })) => {
            info!(events, clips, labels, left, "recovered events of a lost database from their clips");
        }
        Err(error) => warn!(%error, "cannot recover events of a lost database; retrying at the next start"),
    }
}

async fn all(clips: &Clips, pause: Duration) -> Result<Option<RecoveredCounts>, RecoverError> {
    let lost = clips.lost().await?;
    if lost.is_empty() && !clips.must_recover().await? {
        return Ok(None);
    }
    let (mut counts, mut nodes) = (RecoveredCounts::default(), HashMap::new());
    for path in lost {
        match clips.examine(&path).await {
            Ok(Some(found)) => match one(clips, found, &mut nodes).await? {
                BroughtBack::Event(_) => counts.events += 1,
                BroughtBack::Clip => counts.clips += 1,
                BroughtBack::Deleted => {}
                BroughtBack::NotNeeded => counts.left += 1,
            },
            Ok(None) => counts.left += 1,
            Err(error) => {
                warn!(file = %path.display(), %error, "clip cannot be read; it stays in the quarantine");
                counts.left += 1;
            }
        }
        tokio::time::sleep(pause).await;
    }
    counts.labels = clips.store().restore_labels_from_log().await?;
    clips.end_recovery().await?;
    Ok(Some(counts))
}

/// `nodes`: node and cat by boot id, as far as they were looked up.
async fn one(
    clips: &Clips,
    lost: LostClip,
    nodes: &mut HashMap<u64, (String, String)>,
) -> Result<BroughtBack, StoreError> {
    let event = match lost.event.clone() {
        Some(event) => event,
        None => {
            let (node, cat) = match nodes.get(&lost.boot_id) {
                Some(known) => known.clone(),
                None => {
                    let found = clips.store().node_of_boot(lost.boot_id).await?;
                    let found = found.unwrap_or_else(|| (UNKNOWN_NODE.to_owned(), String::new()));
                    nodes.insert(lost.boot_id, found.clone());
                    found
                }
            };
            let clip = lost.clone();
            let heard = tokio::task::spawn_blocking(move || hear(&clip, node, cat));
            heard.await.map_err(|crash| StoreError::Cut(crash.to_string()))?
        }
    };
    clips.bring_back(lost, event).await
}

/// The event of a clip without a description. If the network finds no cat, it is the whole clip, with a score of 0.
fn hear(lost: &LostClip, node: String, cat: String) -> NewEvent {
    let length = lost.samples.len() as u64;
    let found = [DetectorConfig::DEFAULT, KEEN].into_iter().find_map(|config| best(&lost.samples, config));
    let (place, score, kind, context, measurements, features) = match found {
        Some(Vocalisation { detection: found, kind, features }) => (
            found.start_sample..found.end_sample.min(length),
            found.score,
            Some(kind.as_str().to_owned()),
            found.context,
            found.measurements,
            Some(Box::new(features)),
        ),
        None => (0..length, 0.0, None, UNKNOWN_CONTEXT, UNMEASURED, None),
    };
    let ns = |samples: u64| samples.saturating_mul(NS_A_SAMPLE).cast_signed();
    // The hub writes a clip right after its last sample.
    let clip_began_ns = lost.written_at_ns.saturating_sub(ns(length));
    let start_sample = lost.clip.start_sample.saturating_add(place.start);
    NewEvent {
        node,
        cat,
        boot_id: lost.boot_id,
        start_sample,
        end_sample: lost.clip.start_sample.saturating_add(place.end),
        started_at_ns: clip_began_ns.saturating_add(ns(place.start)),
        ended_at_ns: clip_began_ns.saturating_add(ns(place.end)),
        started_monotonic_ns: start_sample.saturating_mul(NS_A_SAMPLE),
        clock: EventClock::Hub,
        score,
        kind,
        context,
        measurements,
        features,
    }
}

/// The vocalisation with the highest score.
fn best(samples: &[i16], config: DetectorConfig) -> Option<Vocalisation> {
    let mut analyzer = Analyzer::new(config);
    analyzer.push(samples);
    let (_, found) = analyzer.finish_vocalisations();
    found.into_iter().max_by(|a, b| a.detection.score.total_cmp(&b.detection.score))
}

const UNKNOWN_CONTEXT: Context = Context {
    label: ContextLabel::Uncertain,
    probabilities: ContextProbabilities { waiting_for_food: 1.0 / 3.0, isolation: 1.0 / 3.0, brushing: 1.0 / 3.0 },
};

const UNMEASURED: Measurements = Measurements {
    peak_dbfs: SILENCE_DBFS,
    rms_dbfs: SILENCE_DBFS,
    snr_db: 0.0,
    pitch_median_hz: 0.0,
    pitch_min_hz: 0.0,
    pitch_max_hz: 0.0,
    voiced_fraction: 0.0,
    spectral_centroid_hz: 0.0,
    spectral_flatness: 0.0,
};

#[cfg(test)]
mod tests;
