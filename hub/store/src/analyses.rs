//! Analyses and their detections.

use hub_base::time::now_ns;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params, params_from_iter};
use sound::detection::Detection;
use sound::level::Level;
use sound::verdict::Verdict;

use crate::columns;
use crate::database::Store;
use crate::error::StoreError;
use crate::words::{UnknownWord, unreadable, word, words};

/// Analyses that are kept. If there are more, the oldest are removed.
const KEEP_ANALYSES: i64 = 100_000;

/// The oldest analyses are removed each time that this many have begun.
const REMOVAL_PERIOD: i64 = 256;

/// Status of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnalysisStatus {
    /// The analysis is running.
    Running,
    /// The whole stream was analysed.
    Complete,
    /// Only a part of the stream was analysed; `reason` says why.
    Partial,
    /// Nothing was analysed; `reason` says why.
    Failed,
}

/// A stored analysis, without its detections.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredAnalysis {
    /// Number of the analysis, from 1.
    pub id: i64,
    /// The cat's name as the caller gave it.
    pub cat: String,
    /// URL of the node that sent the audio.
    pub node: String,
    /// The status.
    pub status: AnalysisStatus,
    /// Why the analysis is partial or failed.
    pub reason: Option<String>,
    /// When the analysis began.
    pub started_at_ns: i64,
    /// When the analysis ended. `None` while it is running.
    pub ended_at_ns: Option<i64>,
    /// The verdict about the cat. `None` while the analysis is running, or if no audio came.
    pub verdict: Option<Verdict>,
    /// How certain the detector is that it heard a cat, 0 to 1.
    pub cat_score: Option<f32>,
    /// Messages received, of 30.
    pub messages: u32,
    /// Audio received, in samples of 16 kHz.
    pub heard_samples: u64,
    /// Audio lost in gaps, in samples of 16 kHz.
    pub lost_samples: u64,
    /// Where on the node's tape the audio begins. `None`: no audio came.
    pub origin: Option<Origin>,
    /// Level of the audio.
    pub level: Option<Level>,
    /// Number of labels of the cat that the contexts are based on. 0: the contexts come from the general model.
    pub context_labels: u32,
    /// Number of stored detections.
    pub detection_count: u32,
}

/// A place on a node's tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Boot id of the node, which identifies the tape.
    pub boot_id: u64,
    /// First sample, counted from the start of the tape.
    pub first_sample: u64,
}

/// The result of an analysis.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The status.
    pub status: AnalysisStatus,
    /// Why the analysis is partial or failed.
    pub reason: Option<String>,
    /// The verdict about the cat. `None` if no audio came.
    pub verdict: Option<Verdict>,
    /// How certain the detector is that it heard a cat, 0 to 1.
    pub cat_score: Option<f32>,
    /// Messages received, of 30.
    pub messages: u32,
    /// Audio received, in samples of 16 kHz.
    pub heard_samples: u64,
    /// Audio lost in gaps, in samples of 16 kHz.
    pub lost_samples: u64,
    /// Where on the node's tape the audio begins.
    pub origin: Option<Origin>,
    /// Level of the audio.
    pub level: Option<Level>,
    /// Number of labels of the cat that the contexts are based on. 0: the contexts come from the general model.
    pub context_labels: u32,
    /// The detections, in order of time.
    pub detections: Vec<Detection>,
}

/// Which analyses to return. The latest come first.
#[derive(Debug, Clone, Default)]
pub struct AnalysisFilter {
    /// Only analyses with a smaller number. To get the next page, give the last number of this page.
    pub before_id: Option<i64>,
    /// Only analyses of this cat.
    pub cat: Option<String>,
    /// Only analyses that began at or after this time.
    pub from_ns: Option<i64>,
    /// Only analyses that began before this time.
    pub to_ns: Option<i64>,
    /// Only analyses with this status.
    pub status: Option<AnalysisStatus>,
    /// Number of analyses to return, at most.
    pub limit: usize,
}

impl Store {
    /// Stores that an analysis begins, and returns its number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin_analysis(&self, cat: String, node: String) -> Result<i64, StoreError> {
        self.write(move |db| {
            db.prepare_cached("INSERT INTO analyses (cat, node, status, started_at_ns) VALUES (?, ?, 'running', ?)")?
                .execute(params![cat, node, now_ns()])?;
            let id = db.last_insert_rowid();
            if id % REMOVAL_PERIOD == 0 {
                remove_oldest(db, KEEP_ANALYSES)?;
            }
            Ok(id)
        })
        .await
    }

    /// Stores the result of a running analysis, so that it survives a power cut. Does nothing if the analysis has ended
    /// already.
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

    /// Marks all running analyses as failed, and returns how many. The hub calls it at its start: the process that ran
    /// them is gone.
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

    /// An analysis with its detections. `None` if it does not exist.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn analysis(&self, id: i64) -> Result<Option<(StoredAnalysis, Vec<Detection>)>, StoreError> {
        self.read(move |db| {
            // One transaction, so that both statements read the same snapshot.
            let db = db.unchecked_transaction()?;
            let sql = format!("{SELECT} WHERE id = ?");
            let analysis = db.prepare_cached(&sql)?.query_row([id], stored_analysis).optional()?;
            analysis.map(|analysis| Ok((analysis, detections(&db, id)?))).transpose()
        })
        .await
    }

    /// The analyses that match a filter, the latest first.
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

/// Removes all analyses but the latest `keep`, and none that is running.
fn remove_oldest(db: &Transaction<'_>, keep: i64) -> Result<usize, StoreError> {
    // Numbers are assigned in order.
    let sql = "DELETE FROM analyses WHERE status != 'running' \
               AND id <= (SELECT id FROM analyses ORDER BY id DESC LIMIT 1 OFFSET ?)";
    Ok(db.prepare_cached(sql)?.execute([keep])?)
}

const SELECT: &str = "SELECT id, cat, node, status, reason, started_at_ns, ended_at_ns, verdict, cat_score, messages, \
     heard_samples, lost_samples, boot_id, first_sample, rms_dbfs, peak_dbfs, clipped_fraction, zero_fraction, context_labels, \
     (SELECT count(*) FROM analysis_detections WHERE analysis_id = analyses.id) AS detection_count FROM analyses";

/// The verdict, or an error for a word that this version does not know.
fn verdict(row: &Row<'_>) -> rusqlite::Result<Option<Verdict>> {
    let Some(word) = row.get::<_, Option<String>>("verdict")? else { return Ok(None) };
    let unknown = || UnknownWord { word: word.clone(), known: &["Smelly", "Good", "Bad", "Hungry"] };
    Verdict::from_word(&word).map(Some).ok_or_else(|| unreadable(unknown()))
}

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
        verdict: verdict(row)?,
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
        let position_and_score: [Value; 5] = [
            analysis_id.into(),
            (position as i64).into(),
            detection.start_sample.cast_signed().into(),
            detection.end_sample.cast_signed().into(),
            detection.score.into(),
        ];
        let measured = columns::values(&detection.context, &detection.measurements);
        statement.execute(params_from_iter(position_and_score.into_iter().chain(measured)))?;
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
mod tests;
