//! Analyses and what was found in them.

use hub_base::time::now_ns;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params, params_from_iter};
use sound::detection::Detection;
use sound::level::Level;
use sound::verdict::Verdict;

use crate::columns;
use crate::database::Store;
use crate::error::StoreError;
use crate::words::{word, words};

/// Analyses that are kept. The oldest are forgotten above this many.
const KEEP_ANALYSES: i64 = 100_000;

/// How many analyses begin between two looks for those to forget.
const FORGET_PERIOD: i64 = 256;

/// How far an analysis came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnalysisStatus {
    /// It runs.
    Running,
    /// All of the stream was heard.
    Complete,
    /// Something was columns, not all; `reason` says why.
    Partial,
    /// Nothing was columns; `reason` says why.
    Failed,
}

/// An analysis without what was found in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnalysis {
    /// Its number, 1 and up.
    pub id: i64,
    /// The cat's name as it was asked for.
    pub cat: String,
    /// URL of the node that was asked.
    pub node: String,
    /// How far it came.
    pub status: AnalysisStatus,
    /// Why it is partial or failed.
    pub reason: Option<String>,
    /// When it began.
    pub started_at_ns: i64,
    /// When it ended. `None` while it runs.
    pub ended_at_ns: Option<i64>,
    /// How the cat is. `None` while it runs, or when nothing was heard.
    pub verdict: Option<Verdict>,
    /// How sure it is that a cat was columns, 0 to 1.
    pub cat_score: Option<f32>,
    /// Messages received, of 30.
    pub messages: u32,
    /// Audio received, in samples of 16 kHz.
    pub heard_samples: u64,
    /// Audio lost in gaps, in samples of 16 kHz.
    pub lost_samples: u64,
    /// Where on the node's tape the audio begins. `None`: no audio came.
    pub origin: Option<Origin>,
    /// How loud it was.
    pub level: Option<Level>,
    /// Labels of the cat that the contexts rest on. 0: the general model said them.
    pub context_labels: u32,
    /// How many detections are stored with it.
    pub detection_count: u32,
}

/// A place on a node's tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Names the tape.
    pub boot_id: u64,
    /// Samples before it on that tape.
    pub first_sample: u64,
}

/// How an analysis ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How far it came.
    pub status: AnalysisStatus,
    /// Why it is partial or failed.
    pub reason: Option<String>,
    /// How the cat is.
    pub verdict: Option<Verdict>,
    /// How sure it is that a cat was columns, 0 to 1.
    pub cat_score: Option<f32>,
    /// Messages received, of 30.
    pub messages: u32,
    /// Audio received, in samples of 16 kHz.
    pub heard_samples: u64,
    /// Audio lost in gaps, in samples of 16 kHz.
    pub lost_samples: u64,
    /// Where on the node's tape the audio begins.
    pub origin: Option<Origin>,
    /// How loud it was.
    pub level: Option<Level>,
    /// Labels of the cat that the contexts rest on. 0: the general model said them.
    pub context_labels: u32,
    /// What was found, in order of time.
    pub detections: Vec<Detection>,
}

/// Which analyses are wanted. The latest come first.
#[derive(Debug, Clone, Default)]
pub struct AnalysisFilter {
    /// Only those with a smaller number: where the page before ended.
    pub before_id: Option<i64>,
    /// Only of this cat.
    pub cat: Option<String>,
    /// Only those that began at this moment or later.
    pub from_ns: Option<i64>,
    /// Only those that began before this moment.
    pub to_ns: Option<i64>,
    /// Only with this status.
    pub status: Option<AnalysisStatus>,
    /// At most so many.
    pub limit: usize,
}

impl Store {
    /// Stores that an analysis begins, and gives its number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin_analysis(&self, cat: String, node: String) -> Result<i64, StoreError> {
        self.write(move |db| {
            db.prepare_cached("INSERT INTO analyses (cat, node, status, started_at_ns) VALUES (?, ?, 'running', ?)")?
                .execute(params![cat, node, now_ns()])?;
            let id = db.last_insert_rowid();
            if id % FORGET_PERIOD == 0 {
                forget_oldest(db, KEEP_ANALYSES)?;
            }
            Ok(id)
        })
        .await
    }

    /// Stores how a running analysis ended, to survive a power cut. One that has ended already stays as it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_analysis(&self, id: i64, outcome: Outcome) -> Result<(), StoreError> {
        self.write_durably(move |db| {
            let ended = db
                .prepare_cached(
                    "UPDATE analyses SET status = :status, reason = :reason, ended_at_ns = :ended_at_ns, \
                     verdict = :verdict, cat_score = :cat_score, messages = :messages, \
                     heard_samples = :heard_samples, lost_samples = :lost_samples, \
                     boot_id = :boot_id, first_sample = :first_sample, rms_dbfs = :rms_dbfs, \
                     peak_dbfs = :peak_dbfs, clipped_fraction = :clipped_fraction, zero_fraction = :zero_fraction, \
                     context_labels = :context_labels \
                     WHERE id = :id AND status = 'running'",
                )?
                .execute(named_params! {
                    ":id": id,
                    ":status": outcome.status.as_str(),
                    ":reason": outcome.reason,
                    ":ended_at_ns": now_ns(),
                    ":verdict": outcome.verdict.map(Verdict::as_str),
                    ":cat_score": outcome.cat_score,
                    ":messages": outcome.messages,
                    ":heard_samples": outcome.heard_samples as i64,
                    ":lost_samples": outcome.lost_samples as i64,
                    ":boot_id": outcome.origin.map(|origin| origin.boot_id.cast_signed()),
                    ":first_sample": outcome.origin.map(|origin| origin.first_sample.cast_signed()),
                    ":rms_dbfs": outcome.level.map(|level| level.rms_dbfs),
                    ":peak_dbfs": outcome.level.map(|level| level.peak_dbfs),
                    ":clipped_fraction": outcome.level.map(|level| level.clipped_fraction),
                    ":zero_fraction": outcome.level.map(|level| level.zero_fraction),
                    ":context_labels": outcome.context_labels,
                })?;
            if ended == 1 {
                insert_detections(db, id, &outcome.detections)?;
            }
            Ok(())
        })
        .await
    }

    /// Ends all analyses that are stored as running, as failed. For the start: whoever ran them is gone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn fail_running_analyses(&self, reason: &'static str) -> Result<usize, StoreError> {
        self.write(move |db| {
            let sql = "UPDATE analyses SET status = 'failed', reason = ?, ended_at_ns = ? WHERE status = 'running'";
            Ok(db.execute(sql, params![reason, now_ns()])?)
        })
        .await
    }

    /// One analysis with what was found in it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn analysis(&self, id: i64) -> Result<Option<(StoredAnalysis, Vec<Detection>)>, StoreError> {
        self.read(move |db| {
            // One moment for both statements.
            let db = db.unchecked_transaction()?;
            let sql = format!("{SELECT} WHERE id = ?");
            let analysis = db.prepare_cached(&sql)?.query_row([id], stored_analysis).optional()?;
            analysis.map(|analysis| Ok((analysis, detections(&db, id)?))).transpose()
        })
        .await
    }

    /// The analyses that pass a filter, the latest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn analyses(&self, filter: AnalysisFilter) -> Result<Vec<StoredAnalysis>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "{SELECT} WHERE (:before_id IS NULL OR id < :before_id) AND (:cat IS NULL OR cat = :cat) \
                 AND (:from_ns IS NULL OR started_at_ns >= :from_ns) AND (:to_ns IS NULL OR started_at_ns < :to_ns) \
                 AND (:status IS NULL OR status = :status) ORDER BY id DESC LIMIT :limit"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(
                named_params! {
                    ":before_id": filter.before_id,
                    ":cat": filter.cat,
                    ":from_ns": filter.from_ns,
                    ":to_ns": filter.to_ns,
                    ":status": filter.status.map(AnalysisStatus::as_str),
                    ":limit": filter.limit as i64,
                },
                stored_analysis,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

words!(AnalysisStatus {
    AnalysisStatus::Running => "running" => AnalysisStatus::Running,
    AnalysisStatus::Complete => "complete" => AnalysisStatus::Complete,
    AnalysisStatus::Partial => "partial" => AnalysisStatus::Partial,
    AnalysisStatus::Failed => "failed" => AnalysisStatus::Failed,
});

/// Forgets all but the latest `keep`, and none that runs.
fn forget_oldest(db: &Transaction<'_>, keep: i64) -> Result<usize, StoreError> {
    // Numbers are given out in order.
    let sql = "DELETE FROM analyses WHERE status != 'running' \
               AND id <= (SELECT id FROM analyses ORDER BY id DESC LIMIT 1 OFFSET ?)";
    Ok(db.prepare_cached(sql)?.execute([keep])?)
}

const SELECT: &str = "SELECT id, cat, node, status, reason, started_at_ns, ended_at_ns, verdict, cat_score, messages, \
     heard_samples, lost_samples, boot_id, first_sample, rms_dbfs, peak_dbfs, clipped_fraction, zero_fraction, context_labels, \
     (SELECT count(*) FROM analysis_detections WHERE analysis_id = analyses.id) AS detection_count FROM analyses";

fn stored_analysis(row: &Row<'_>) -> rusqlite::Result<StoredAnalysis> {
    let level = match row.get("rms_dbfs")? {
        Some(rms_dbfs) => Some(Level {
            rms_dbfs,
            peak_dbfs: row.get("peak_dbfs")?,
            clipped_fraction: row.get("clipped_fraction")?,
            zero_fraction: row.get("zero_fraction")?,
        }),
        None => None,
    };
    let origin = match (row.get::<_, Option<i64>>("boot_id")?, row.get::<_, Option<i64>>("first_sample")?) {
        (Some(boot_id), Some(first_sample)) => {
            Some(Origin { boot_id: boot_id.cast_unsigned(), first_sample: first_sample.cast_unsigned() })
        }
        _ => None,
    };
    Ok(StoredAnalysis {
        id: row.get("id")?,
        cat: row.get("cat")?,
        node: row.get("node")?,
        status: word(row, "status")?,
        reason: row.get("reason")?,
        started_at_ns: row.get("started_at_ns")?,
        ended_at_ns: row.get("ended_at_ns")?,
        verdict: row.get::<_, Option<String>>("verdict")?.as_deref().and_then(Verdict::from_word),
        cat_score: row.get("cat_score")?,
        messages: row.get("messages")?,
        heard_samples: row.get::<_, i64>("heard_samples")?.unsigned_abs(),
        lost_samples: row.get::<_, i64>("lost_samples")?.unsigned_abs(),
        origin,
        level,
        context_labels: row.get("context_labels")?,
        detection_count: row.get("detection_count")?,
    })
}

fn insert_detections(db: &Transaction<'_>, analysis_id: i64, detections: &[Detection]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO analysis_detections (analysis_id, position, start_sample, end_sample, score, {}) \
         VALUES (?, ?, ?, ?, ?{})",
        columns::COLUMNS,
        ", ?".repeat(columns::COUNT)
    );
    let mut statement = db.prepare_cached(&sql)?;
    for (position, detection) in detections.iter().enumerate() {
        let place: [Value; 5] = [
            analysis_id.into(),
            (position as i64).into(),
            detection.start_sample.cast_signed().into(),
            detection.end_sample.cast_signed().into(),
            detection.score.into(),
        ];
        let heard = columns::values(&detection.context, &detection.measurements);
        statement.execute(params_from_iter(place.into_iter().chain(heard)))?;
    }
    Ok(())
}

fn detections(db: &Connection, analysis_id: i64) -> Result<Vec<Detection>, StoreError> {
    let sql = format!(
        "SELECT start_sample, end_sample, score, {} FROM analysis_detections WHERE analysis_id = ? ORDER BY position",
        columns::COLUMNS
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([analysis_id], |row| {
        let (context, measurements) = columns::read(row, 3)?;
        Ok(Detection {
            start_sample: row.get::<_, i64>(0)?.cast_unsigned(),
            end_sample: row.get::<_, i64>(1)?.cast_unsigned(),
            score: row.get(2)?,
            context,
            measurements,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};

    use super::*;
    use crate::Access;

    fn detection(start_sample: u64) -> Detection {
        Detection {
            start_sample,
            end_sample: start_sample + 8000,
            score: 0.75,
            context: Context {
                label: ContextLabel::Isolation,
                probabilities: ContextProbabilities { waiting_for_food: 0.125, isolation: 0.75, brushing: 0.125 },
            },
            measurements: Measurements {
                peak_dbfs: -3.0,
                rms_dbfs: -12.5,
                snr_db: 20.0,
                pitch_median_hz: 600.0,
                pitch_min_hz: 450.0,
                pitch_max_hz: 720.0,
                voiced_fraction: 0.5,
                spectral_centroid_hz: 1800.0,
                spectral_flatness: 0.25,
            },
        }
    }

    fn outcome() -> Outcome {
        Outcome {
            status: AnalysisStatus::Complete,
            reason: None,
            verdict: Some(Verdict::Bad),
            cat_score: Some(0.75),
            messages: 30,
            heard_samples: 480_000,
            lost_samples: 320,
            origin: Some(Origin { boot_id: u64::MAX, first_sample: 960 }),
            level: Some(Level { rms_dbfs: -30.0, peak_dbfs: -3.0, clipped_fraction: 0.0, zero_fraction: 0.5 }),
            context_labels: 3,
            detections: vec![detection(16_000), detection(48_000)],
        }
    }

    fn open() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn what_is_stored_is_read_back() {
        let (_dir, store) = open();
        let id = store.begin_analysis("Tom".into(), "http://node:1".into()).await.unwrap();
        let (running, found) = store.analysis(id).await.unwrap().unwrap();
        assert_eq!((running.status, running.ended_at_ns, found.len()), (AnalysisStatus::Running, None, 0));

        store.end_analysis(id, outcome()).await.unwrap();
        let (ended, found) = store.analysis(id).await.unwrap().unwrap();
        assert_eq!((ended.cat.as_str(), ended.node.as_str()), ("Tom", "http://node:1"));
        assert_eq!((ended.status, ended.verdict), (AnalysisStatus::Complete, Some(Verdict::Bad)));
        assert!(ended.ended_at_ns.unwrap() >= ended.started_at_ns);
        assert_eq!((ended.messages, ended.heard_samples, ended.lost_samples), (30, 480_000, 320));
        assert_eq!((ended.origin, ended.level), (outcome().origin, outcome().level));
        assert_eq!(ended.detection_count, 2);
        assert_eq!(found, outcome().detections);
    }

    #[tokio::test]
    async fn what_does_not_exist_is_none() {
        let (_dir, store) = open();
        assert!(store.analysis(1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn ended_analysis_is_not_ended_again() {
        let (_dir, store) = open();
        let id = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
        store.end_analysis(id, Outcome { detections: vec![], ..outcome() }).await.unwrap();
        store.end_analysis(id, Outcome { verdict: None, status: AnalysisStatus::Failed, ..outcome() }).await.unwrap();
        let (ended, found) = store.analysis(id).await.unwrap().unwrap();
        assert_eq!((ended.status, found.len()), (AnalysisStatus::Complete, 0));
    }

    #[tokio::test]
    async fn only_running_ones_fail_at_the_start() {
        let (_dir, store) = open();
        let ended = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
        store.end_analysis(ended, outcome()).await.unwrap();
        let running = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
        assert_eq!(store.fail_running_analyses("the hub was stopped").await.unwrap(), 1);
        assert_eq!(store.analysis(ended).await.unwrap().unwrap().0.status, AnalysisStatus::Complete);
        let (failed, _) = store.analysis(running).await.unwrap().unwrap();
        assert_eq!((failed.status, failed.reason.as_deref()), (AnalysisStatus::Failed, Some("the hub was stopped")));
        assert!(failed.ended_at_ns.is_some());
    }

    #[tokio::test]
    async fn oldest_are_forgotten_with_what_was_found_in_them() {
        let (_dir, store) = open();
        for _ in 0..5 {
            store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
        }
        for id in [1, 3, 5] {
            store.end_analysis(id, outcome()).await.unwrap();
        }
        assert_eq!(store.write(|db| forget_oldest(db, 2)).await.unwrap(), 2);
        let ids: Vec<_> = store.analyses(AnalysisFilter { limit: 10, ..AnalysisFilter::default() }).await.unwrap();
        assert_eq!(ids.iter().map(|analysis| analysis.id).collect::<Vec<_>>(), [5, 4, 2], "2 and 4 run");
        let found: i64 = store
            .read(|db| Ok(db.query_row("SELECT count(*) FROM analysis_detections", [], |row| row.get(0))?))
            .await
            .unwrap();
        assert_eq!(found, 2, "those of 1 and 3 are still there");
    }

    #[tokio::test]
    async fn filters_narrow_and_pages_join() {
        let (_dir, store) = open();
        for cat in ["Tom", "Ada", "Tom", "Tom"] {
            store.begin_analysis(cat.into(), "n".into()).await.unwrap();
        }
        store.end_analysis(4, outcome()).await.unwrap();
        let ids = async |filter: AnalysisFilter| -> Vec<i64> {
            store.analyses(filter).await.unwrap().iter().map(|analysis| analysis.id).collect()
        };
        let all = AnalysisFilter { limit: 10, ..AnalysisFilter::default() };
        assert_eq!(ids(all.clone()).await, [4, 3, 2, 1]);
        assert_eq!(ids(AnalysisFilter { cat: Some("Tom".into()), ..all.clone() }).await, [4, 3, 1]);
        assert_eq!(ids(AnalysisFilter { status: Some(AnalysisStatus::Running), ..all.clone() }).await, [3, 2, 1]);
        assert_eq!(ids(AnalysisFilter { limit: 2, ..all.clone() }).await, [4, 3]);
        assert_eq!(ids(AnalysisFilter { before_id: Some(3), limit: 2, ..all.clone() }).await, [2, 1]);
        let third = store.analysis(3).await.unwrap().unwrap().0.started_at_ns;
        assert_eq!(ids(AnalysisFilter { from_ns: Some(third), ..all.clone() }).await, [4, 3]);
        assert_eq!(ids(AnalysisFilter { to_ns: Some(third), ..all }).await, [2, 1]);
    }
}
