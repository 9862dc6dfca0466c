//! `/api/v1/nodes/score-preview`: what another `min_score` of a node would have changed.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(PreviewParams)`")]

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use hub_base::time::{days_before, now_ns};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Params, bad};

/// Days that are counted if the client does not set `days`.
const DEFAULT_DAYS: u32 = 7;

/// How many days may be counted.
const DAYS: RangeInclusive<u32> = 1..=365;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(preview))
}

/// Which node, and which `min_score` it would have.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PreviewParams {
    /// URL or id of the node, as in `/api/v1/nodes`.
    #[param(example = "http://localhost:50056")]
    node: String,
    /// The `min_score` to try, 0 to 1.
    #[param(example = 0.8)]
    min_score: f32,
    /// How many days until now are counted, 1 to 365.
    #[param(default = 7)]
    days: Option<u32>,
}

/// What another `min_score` of a node would have changed. Events that sounded like ones labelled `not_a_cat` are not
/// counted here, because no `min_score` would have announced them. What another node heard too is counted.
#[derive(Debug, Serialize, ToSchema)]
struct PreviewAnswer {
    /// URL of the node.
    node: String,
    /// The `min_score` that was asked for.
    min_score: f32,
    /// `min_score` of the node in the hub's config. Null: it has none.
    min_score_at_present: Option<f32>,
    /// How many days until now were counted.
    days: u32,
    /// Number of events with the score that was asked for, or a higher one.
    events: u64,
    /// Number of events that were announced.
    events_at_present: u64,
    /// Of the announced events with a lower score, those that the owner labelled as a cat.
    cats_missed: u64,
    /// Of the announced events with a lower score, those that the owner labelled `not_a_cat`.
    false_alarms_spared: u64,
}

/// Previews a `min_score` of a node: how many events of the last days would have been announced with it. It changes
/// nothing.
#[utoipa::path(
    get, path = "/api/v1/nodes/score-preview", operation_id = "preview_score", tag = "nodes", params(PreviewParams),
    responses(
        (status = 200, body = PreviewAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is missing or out of its range"),
        (status = 404, body = Problem, description = "`not_found`: the hub does not know the node"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn preview(
    State(app): State<Arc<App>>,
    Params(params): Params<PreviewParams>,
) -> Result<Line<PreviewAnswer>, Failure> {
    let (min_score, days) = (params.min_score, params.days.unwrap_or(DEFAULT_DAYS));
    if !(0.0..=1.0).contains(&min_score) {
        return Err(bad(format!("min_score: {min_score} is not between 0 and 1")).into());
    }
    if !DAYS.contains(&days) {
        return Err(bad(format!("days: {days} is not between {} and {}", DAYS.start(), DAYS.end())).into());
    }
    let node = app.node(&params.node)?.url().to_owned();
    let now_ns = now_ns();
    let counted = app.store.preview_min_score(&node, min_score, days_before(now_ns, days), now_ns).await?;
    Ok(Line(PreviewAnswer {
        min_score,
        min_score_at_present: app.store.min_score(&node),
        node,
        days,
        events: counted.events,
        events_at_present: counted.events_at_present,
        cats_missed: counted.cats_missed,
        false_alarms_spared: counted.false_alarms_spared,
    }))
}
