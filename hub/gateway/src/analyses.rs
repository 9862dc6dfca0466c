//! `/api/v1/analyses`: what was heard.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(ListParams)`")]

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::{Code, Error};
use hub_base::time;
use hub_store::analyses::{AnalysisFilter, AnalysisStatus, StoredAnalysis};
use serde::{Deserialize, Serialize};
use sound::SAMPLE_RATE_HZ;
use sound::detection::{Context, Detection, Measurements};
use sound::household::model_name;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Id, Params, bad, page_limit};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one))
}

/// Which analyses are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Analyses in the answer, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only of this cat.
    cat: Option<String>,
    /// Only those that began at this moment or later (RFC 3339; write `+` as `%2B`).
    from: Option<String>,
    /// Only those that began before this moment (RFC 3339; write `+` as `%2B`).
    to: Option<String>,
    /// Only with this status: `running`, `complete`, `partial` or `failed`.
    status: Option<String>,
}

/// A page of analyses.
#[derive(Debug, Serialize, ToSchema)]
struct ListAnswer {
    /// The latest first.
    analyses: Vec<AnalysisAnswer>,
    /// Give it as `cursor` to get the next page. Null: this is the last.
    next_cursor: Option<String>,
}

/// An analysis: half a minute of listening to a cat.
#[derive(Debug, Serialize, ToSchema)]
struct AnalysisAnswer {
    /// Its number.
    id: i64,
    /// The cat's name as it was asked for.
    cat: String,
    /// URL of the node that was asked.
    node: String,
    /// `running`, `complete`, `partial` (something was heard, not all) or `failed` (nothing was).
    status: &'static str,
    /// Why it is partial or failed.
    reason: Option<String>,
    /// When it began, RFC 3339 in UTC.
    started_at: String,
    /// When it ended. Null while it runs.
    ended_at: Option<String>,
    /// How the cat is: `Hungry` (waiting for food), `Good` (content, being brushed), `Bad` (in distress) or `Smelly` (no
    /// cat heard, or none clearly). Null while it runs, or when nothing was heard.
    verdict: Option<&'static str>,
    /// The verdict as a sentence.
    #[schema(example = "Tom is Hungry Cat")]
    result: Option<String>,
    /// How sure it is that a cat was heard, 0 to 1.
    cat_score: Option<f32>,
    /// Messages received from the node, of 30.
    messages: u32,
    /// Audio heard, in seconds.
    heard_s: f64,
    /// Audio lost on the way, in seconds.
    lost_s: f64,
    /// Boot id of the node's tape, 16 hexadecimal digits. Null: no audio came.
    boot_id: Option<String>,
    /// Index on that tape of the first sample (16 kHz). Null: no audio came.
    first_sample: Option<u64>,
    /// How loud it was.
    level: Option<LevelAnswer>,
    /// Number of detections.
    detection_count: u32,
}

/// An analysis with what was found in it.
#[derive(Debug, Serialize, ToSchema)]
struct FullAnswer {
    #[serde(flatten)]
    analysis: AnalysisAnswer,
    /// The cat's vocalisations, in order of time.
    detections: Vec<DetectionAnswer>,
}

/// How loud audio was.
#[derive(Debug, Serialize, ToSchema)]
struct LevelAnswer {
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// Share of the samples at full scale, 0 to 1.
    clipped_fraction: f32,
    /// Share of the samples that are exactly zero, 0 to 1.
    zero_fraction: f32,
}

/// One cat vocalisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DetectionAnswer {
    /// Its onset, in seconds since the start of the audio, gaps counted.
    start_s: f64,
    /// Its end, likewise.
    end_s: f64,
    /// How sure it is a cat, 0 to 1.
    score: f32,
    /// In which context.
    context: ContextAnswer,
    /// What was measured.
    measurements: MeasurementsAnswer,
}

/// In which context a cat vocalised.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContextAnswer {
    /// `waiting_for_food`, `isolation`, `brushing` or `uncertain`.
    label: &'static str,
    /// What the label was chosen from.
    probabilities: ProbabilitiesAnswer,
    /// Who says so: `general`, the model for any cat, or `household`, what the owner's labels taught about this one.
    model: &'static str,
    /// How many labels of this cat the answer rests on.
    labels: u32,
}

/// Probabilities of the contexts, each 0 to 1, together 1.
#[derive(Debug, Serialize, ToSchema)]
struct ProbabilitiesAnswer {
    /// Waiting for food.
    waiting_for_food: f32,
    /// Alone in an unfamiliar place.
    isolation: f32,
    /// Being brushed at home.
    brushing: f32,
}

/// What was measured on a vocalisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeasurementsAnswer {
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Level above the background before it, in dB.
    snr_db: f32,
    /// Median of the pitch, in hertz. 0: no pitch was found.
    pitch_median_hz: f32,
    /// Lowest pitch, in hertz.
    pitch_min_hz: f32,
    /// Highest pitch, in hertz.
    pitch_max_hz: f32,
    /// Share of it that has a pitch, 0 to 1.
    voiced_fraction: f32,
    /// Centre of gravity of the spectrum, in hertz.
    spectral_centroid_hz: f32,
    /// 0 for a tone, 1 for white noise.
    spectral_flatness: f32,
}

/// The analyses, the latest first.
#[utoipa::path(
    get, path = "/api/v1/analyses", tag = "analyses", params(ListParams),
    responses(
        (status = 200, body = ListAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(State(app): State<Arc<App>>, Params(params): Params<ListParams>) -> Result<Line<ListAnswer>, Failure> {
    let limit = page_limit(params.limit)?;
    let cursor =
        |text: String| text.parse::<i64>().map_err(|_| bad(format!("cursor: {text:?} was not given out here")));
    let status = |word: String| word.parse::<AnalysisStatus>().map_err(|error| bad(format!("status: {error}")));
    let filter = AnalysisFilter {
        before_id: params.cursor.map(cursor).transpose()?,
        cat: params.cat,
        from_ns: params.from.map(|text| time::parse("from", &text)).transpose()?,
        to_ns: params.to.map(|text| time::parse("to", &text)).transpose()?,
        status: params.status.map(status).transpose()?,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut stored = app.store.analyses(filter).await?;
    let more = stored.len() > limit;
    stored.truncate(limit);
    let next_cursor = stored.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Line(ListAnswer { analyses: stored.into_iter().map(AnalysisAnswer::from).collect(), next_cursor }))
}

/// One analysis with what was found in it.
#[utoipa::path(
    get, path = "/api/v1/analyses/{id}", tag = "analyses",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = FullAnswer),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn one(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<FullAnswer>, Failure> {
    let found = app.store.analysis(id).await?;
    let (analysis, detections) =
        found.ok_or_else(|| Error::new(Code::NotFound, format!("there is no analysis {id}")))?;
    let detections = detections.iter().map(|found| DetectionAnswer::new(found, analysis.context_labels)).collect();
    Ok(Line(FullAnswer { analysis: analysis.into(), detections }))
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

impl From<StoredAnalysis> for AnalysisAnswer {
    fn from(stored: StoredAnalysis) -> Self {
        Self {
            id: stored.id,
            status: stored.status.as_str(),
            reason: stored.reason,
            started_at: time::rfc3339(stored.started_at_ns),
            ended_at: stored.ended_at_ns.map(time::rfc3339),
            verdict: stored.verdict.map(|verdict| verdict.as_str()),
            result: stored.verdict.map(|verdict| verdict.sentence(&stored.cat)),
            cat: stored.cat,
            node: stored.node,
            cat_score: stored.cat_score,
            messages: stored.messages,
            heard_s: seconds(stored.heard_samples),
            lost_s: seconds(stored.lost_samples),
            boot_id: stored.origin.map(|origin| format!("{:016x}", origin.boot_id)),
            first_sample: stored.origin.map(|origin| origin.first_sample),
            level: stored.level.map(|level| LevelAnswer {
                rms_dbfs: level.rms_dbfs,
                peak_dbfs: level.peak_dbfs,
                clipped_fraction: level.clipped_fraction,
                zero_fraction: level.zero_fraction,
            }),
            detection_count: stored.detection_count,
        }
    }
}

impl DetectionAnswer {
    fn new(found: &Detection, context_labels: u32) -> Self {
        Self {
            start_s: seconds(found.start_sample),
            end_s: seconds(found.end_sample),
            score: found.score,
            context: ContextAnswer::new(&found.context, context_labels),
            measurements: (&found.measurements).into(),
        }
    }
}

impl ContextAnswer {
    /// The answer, resting on so many labels of the cat.
    pub(super) fn new(context: &Context, labels: u32) -> Self {
        let probabilities = &context.probabilities;
        Self {
            label: context.label.as_str(),
            probabilities: ProbabilitiesAnswer {
                waiting_for_food: probabilities.waiting_for_food,
                isolation: probabilities.isolation,
                brushing: probabilities.brushing,
            },
            model: model_name(labels),
            labels,
        }
    }
}

impl From<&Measurements> for MeasurementsAnswer {
    fn from(measured: &Measurements) -> Self {
        Self {
            peak_dbfs: measured.peak_dbfs,
            rms_dbfs: measured.rms_dbfs,
            snr_db: measured.snr_db,
            pitch_median_hz: measured.pitch_median_hz,
            pitch_min_hz: measured.pitch_min_hz,
            pitch_max_hz: measured.pitch_max_hz,
            voiced_fraction: measured.voiced_fraction,
            spectral_centroid_hz: measured.spectral_centroid_hz,
            spectral_flatness: measured.spectral_flatness,
        }
    }
}
