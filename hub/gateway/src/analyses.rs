//! `/api/v1/analyses`: stored analyses.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(ListParams)`")]

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::{Code, Error};
use hub_base::time;
use hub_store::analyses::{AnalysisFilter, AnalysisStatus, StoredAnalysis};
use serde::{Deserialize, Serialize};
use sound::SAMPLE_RATE_HZ;
use sound::detection::Detection;
use sound::verdict::Finding;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Id, Params, bad, number_of, page_limit};
use crate::vocalisation::{ContextAnswer, MeasurementsAnswer};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one))
}

/// Filter and page of the list of analyses.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Most analyses in the answer, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
    /// Only analyses of this cat.
    cat: Option<String>,
    /// Only analyses that began at this time or later (RFC 3339; write `+` as `%2B`).
    from: Option<String>,
    /// Only analyses that began before this time (RFC 3339; write `+` as `%2B`).
    to: Option<String>,
    /// Only analyses with this status: `running`, `complete`, `partial` or `failed`.
    status: Option<String>,
}

/// A page of analyses.
#[derive(Debug, Serialize, ToSchema)]
struct ListAnswer {
    /// Latest first.
    analyses: Vec<AnalysisAnswer>,
    /// Send it as `cursor` to get the next page. Null: this is the last page.
    next_cursor: Option<String>,
}

/// An analysis: 30 seconds of audio from a cat's node.
#[derive(Debug, Serialize, ToSchema)]
struct AnalysisAnswer {
    /// Number of the analysis.
    id: i64,
    /// The name of the cat, as requested.
    cat: String,
    /// URL of the node that sent the audio.
    node: String,
    /// `running`, `complete`, `partial` (some audio is missing) or `failed` (there is no audio).
    status: &'static str,
    /// Why the analysis is partial or failed.
    reason: Option<String>,
    /// When the analysis began, RFC 3339 in UTC.
    started_at: String,
    /// When the analysis ended. Null while it runs.
    ended_at: Option<String>,
    /// How the cat is: `Hungry` (waiting for food), `Good` (content, being brushed), `Bad` (in distress) or `Smelly`
    /// (no cat was heard, or no context stood out). Null while the analysis runs, or if there is no audio.
    verdict: Option<&'static str>,
    /// The verdict as a sentence.
    #[schema(example = "Tom is Hungry Cat")]
    result: Option<String>,
    /// What was found: `no_cat`, `uncertain` (a cat whose context is unclear), `waiting_for_food`, `isolation` or
    /// `brushing`. Null while the analysis runs, or if no audio was received.
    finding: Option<&'static str>,
    /// Highest detection score, 0 to 1: how likely the audio contains a cat.
    cat_score: Option<f32>,
    /// Messages received from the node, at most 30.
    messages: u32,
    /// Audio received, in seconds.
    heard_s: f64,
    /// Audio lost in gaps, in seconds.
    lost_s: f64,
    /// Boot id of the node, 16 hexadecimal digits. Null: no audio was received.
    boot_id: Option<String>,
    /// Index of the first sample (16 kHz) since the node's start. Null: no audio was received.
    first_sample: Option<u64>,
    /// Level of the audio.
    level: Option<LevelAnswer>,
    /// Number of detected vocalisations.
    detection_count: u32,
}

/// An analysis with its detections.
#[derive(Debug, Serialize, ToSchema)]
struct FullAnswer {
    #[serde(flatten)]
    analysis: AnalysisAnswer,
    /// The detected vocalisations, earliest first.
    detections: Vec<DetectionAnswer>,
}

/// Level of audio.
#[derive(Debug, Serialize, ToSchema)]
struct LevelAnswer {
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// Fraction of the samples at full scale, 0 to 1.
    clipped_fraction: f32,
    /// Fraction of the samples that are exactly zero, 0 to 1.
    zero_fraction: f32,
}

/// A detected vocalisation.
#[derive(Debug, Serialize, ToSchema)]
struct DetectionAnswer {
    /// Onset, in seconds since the start of the audio. Gaps count as time.
    start_s: f64,
    /// End, in seconds since the start of the audio.
    end_s: f64,
    /// How likely it is a cat, 0 to 1.
    score: f32,
    /// The context, as classified.
    context: ContextAnswer,
    /// Acoustic measurements.
    measurements: MeasurementsAnswer,
}

/// Lists analyses, latest first.
#[utoipa::path(
    get, path = "/api/v1/analyses", operation_id = "list_analyses", tag = "analyses", params(ListParams),
    responses(
        (status = 200, body = ListAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(State(app): State<Arc<App>>, Params(params): Params<ListParams>) -> Result<Line<ListAnswer>, Failure> {
    let limit = page_limit(params.limit)?;
    let status = |word: String| word.parse::<AnalysisStatus>().map_err(|error| bad(format!("status: {error}")));
    let filter = AnalysisFilter {
        before_id: number_of(params.cursor)?,
        cat: params.cat,
        from_ns: params.from.map(|text| time::parse("from", &text)).transpose()?,
        to_ns: params.to.map(|text| time::parse("to", &text)).transpose()?,
        status: params.status.map(status).transpose()?,
        // One more than requested shows whether there is another page.
        limit: limit + 1,
    };
    let mut stored = app.store.analyses(filter).await?;
    let more = stored.len() > limit;
    stored.truncate(limit);
    let next_cursor = stored.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Line(ListAnswer { analyses: stored.into_iter().map(AnalysisAnswer::from).collect(), next_cursor }))
}

/// Returns one analysis with its detections.
#[utoipa::path(
    get, path = "/api/v1/analyses/{id}", operation_id = "get_analysis", tag = "analyses",
    params(("id" = i64, Path, description = "Number of the analysis")),
    responses(
        (status = 200, body = FullAnswer),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn one(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<FullAnswer>, Failure> {
    let found = app.store.analysis(id).await?;
    let (analysis, detections) =
        found.ok_or_else(|| Error::new(Code::NotFound, format!("analysis {id} does not exist")))?;
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
            // Of a node that sent no sound, nobody can say whether there was a cat.
            finding: stored
                .verdict
                .filter(|_| stored.heard_samples > 0)
                .map(|verdict| Finding::new(verdict, stored.detection_count as usize).as_str()),
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
