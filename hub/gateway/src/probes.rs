//! `/healthz` and `/readyz`.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(ReadyParams)`")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hub_store::backup::Backups;
use hub_watch::readiness::Check;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::Line;
use crate::params::Params;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz))
}

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the hub can work.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// Whether everything that is required works.
    ready: bool,
    /// `ok`: everything works. `degraded`: the hub works, but something does not, such as a deaf node. `failed`:
    /// something required does not work.
    status: &'static str,
    /// The checks by name: `store`, the roles, `node:URL` for each node, and `database` if its daily check found
    /// damage.
    checks: BTreeMap<String, CheckAnswer>,
}

/// A check.
#[derive(Debug, Serialize, ToSchema)]
struct CheckAnswer {
    /// Whether it works.
    ok: bool,
    /// Why it does not work, or a remark. Absent: nothing to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Only for nodes: `ok`, or why the node is deaf or away: `away`, `no_device`, `silent` (only zeros), `ended`,
    /// `quiet` (connected, but no audio arrives) `no_sound` (long not louder than a quiet room) or
    /// `not_stored` (heard, but the hub can store nothing). `no_audio` is no fault: the node answers and cannot stream,
    /// like the cats of the original system.
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'static str>,
    /// Only for nodes that this process listens to: seconds since the last audio, or since the hub has known the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_audio_age_s: Option<u64>,
    /// Only for nodes that this process listens to: seconds since the last sound in the audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sound_age_s: Option<u64>,
    /// Age of the latest audio when it was analysed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
}

/// How strict the check is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReadyParams {
    /// `true`: answer 503 for `degraded` too. Use it in a monitor that reports deaf microphones. Do not use it in a
    /// load balancer or a container's health check, which would take the hub out of service.
    #[serde(default)]
    strict: bool,
}

/// Returns 200 while the process is alive. Checks nothing else.
#[utoipa::path(
    get, path = "/healthz", operation_id = "get_health", tag = "health",
    responses((status = 200, body = Alive))
)]
async fn healthz() -> Line<Alive> {
    Line(Alive { status: "ok" })
}

/// Checks the store, each role and each node. The hub is ready while the store, all roles and at least one node answer.
/// Further nodes that are away, and nodes that are deaf, are reported, but make the hub not ready only with `strict`.
#[utoipa::path(
    get, path = "/readyz", operation_id = "get_readiness", tag = "health", params(ReadyParams),
    responses(
        (status = 200, body = Ready),
        (status = 503, body = Ready, description = "Something required does not work"),
    )
)]
async fn readyz(State(app): State<Arc<App>>, Params(params): Params<ReadyParams>) -> Response {
    let mut checks = app.checks.run(&app.store, &app.nodes, app.live.as_ref()).await;
    if let Some(fault) = app.backups.as_ref().and_then(Backups::fault) {
        let detail = format!("the database is damaged: {fault}; restore a backup or a snapshot");
        checks.push(Check { name: "database".into(), required: false, ok: false, detail, node: None });
    }
    let ready = checks.iter().all(|check| check.ok || !check.required);
    let all = checks.iter().all(|check| check.ok);
    let good = if params.strict { all } else { ready };
    let http = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = match (all, ready) {
        (true, _) => "ok",
        (false, true) => "degraded",
        (false, false) => "failed",
    };
    let checks = checks.into_iter().map(|check| (check.name.clone(), check.into())).collect();
    (http, Line(Ready { ready, status, checks })).into_response()
}

impl From<Check> for CheckAnswer {
    fn from(check: Check) -> Self {
        let heard = check.node.as_ref().and_then(|node| node.heard);
        Self {
            ok: check.ok,
            detail: check.detail,
            condition: check.node.map(|node| node.condition.as_str()),
            last_audio_age_s: heard.map(|heard| heard.audio.as_secs()),
            last_sound_age_s: heard.map(|heard| heard.sound.as_secs()),
            lag_ms: heard.map(|heard| u64::try_from(heard.lag.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
