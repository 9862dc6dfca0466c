//! Recovers events whose database was lost from their clips, in the background after the start.
//!
//! A clip describes its event. Clips of earlier versions do not: they are heard again, and their events are dated by
//! the file. Recovered events are marked as such. Nobody is notified of them.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::cause::cause;
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

/// First and longest wait before the next attempt while the store or the quarantine cannot be used.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

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
    /// Files that stay in the quarantine because of an error. The next start tries again.
    pub failed: usize,
}

/// Why a step of a recovery failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder of the quarantine failed.
    #[error("quarantine: {}", cause(.0))]
    Quarantine(#[from] std::io::Error),
}

/// Recovers events until done or `stop`. Does nothing if no database was lost. A clip that cannot be recovered does not
/// stop the rest. While the store cannot be used, the recovery waits for it.
pub async fn recover(clips: Clips, stop: CancellationToken) {
    let recovered = tokio::select! {
        recovered = all(&clips, PAUSE) => recovered,
        () = stop.cancelled() => return,
    };
    let recovered = recovered.filter(|counts| *counts != RecoveredCounts::default());
    if let Some(RecoveredCounts { events, clips, labels, left, failed }) = recovered {
        info!(events, clips, labels, left, failed, "recovered events of a lost database from their clips");
    }
}

async fn all(clips: &Clips, pause: Duration) -> Option<RecoveredCounts> {
    let lost = until_it_works(|| {
        let clips = clips.clone();
        async move {
            let lost = clips.lost().await?;
            Ok(if lost.is_empty() && !clips.must_recover().await? { None } else { Some(lost) })
        }
    });
    let (mut counts, mut nodes) = (RecoveredCounts::default(), HashMap::new());
    let mut failed = Vec::new();
    for path in lost.await? {
        match of_one(clips, &path, &mut nodes).await {
            Ok(Some(BroughtBack::Event(_))) => counts.events += 1,
            Ok(Some(BroughtBack::Clip)) => counts.clips += 1,
            Ok(Some(BroughtBack::NotNeeded)) => counts.left += 1,
            Ok(Some(BroughtBack::Deleted) | None) => {}
            Err(error) => {
                warn!(file = %path.display(), %error, "clip cannot be recovered; it stays in the quarantine");
                failed.push(path);
            }
        }
        tokio::time::sleep(pause).await;
    }
    counts.failed = failed.len();
    counts.labels = until_it_works(|| {
        let clips = clips.clone();
        async move { Ok(clips.store().restore_labels_from_log().await?) }
    })
    .await;
    until_it_works(|| {
        let (clips, failed) = (clips.clone(), failed.clone());
        async move { Ok(clips.end_recovery(failed).await?) }
    })
    .await;
    Some(counts)
}

/// Repeats a step until it succeeds, with a back-off. The caller ends the wait when the hub stops.
async fn until_it_works<T, F: Future<Output = Result<T, RecoverError>>>(mut step: impl FnMut() -> F) -> T {
    let mut wait = Wait::new();
    loop {
        match step().await {
            Ok(done) => return done,
            Err(error) => wait.after(&error).await,
        }
    }
}

/// Waits between attempts while the store or the quarantine cannot be used.
struct Wait {
    backoff: Backoff,
    is_logged: bool,
}

impl Wait {
    fn new() -> Self {
        Self { backoff: Backoff::new(AGAIN.0, AGAIN.1), is_logged: false }
    }

    async fn after(&mut self, error: &(dyn std::error::Error + Sync)) {
        if !std::mem::replace(&mut self.is_logged, true) {
            warn!(%error, "the recovery of events waits");
        }
        tokio::time::sleep(self.backoff.next_wait()).await;
    }
}

/// Recovers the event of one clip. `None`: there is no such file any more. While the store cannot be used, it waits.
async fn of_one(
    clips: &Clips,
    path: &Path,
    nodes: &mut HashMap<u64, (String, String)>,
) -> Result<Option<BroughtBack>, RecoverError> {
    let found = match clips.examine(path).await {
        Err(missing) if missing.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let Some(found) = found else { return Ok(Some(BroughtBack::NotNeeded)) };
    let mut wait = Wait::new();
    loop {
        match one(clips, found.clone(), nodes).await {
            Err(down) if down.may_pass() => wait.after(&down).await,
            done => return Ok(Some(done?)),
        }
    }
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
        Some(Vocalisation { detection: found, kind, features, .. }) => (
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
        envelope: None,
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
