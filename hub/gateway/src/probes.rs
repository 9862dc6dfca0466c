//! `/healthz` and `/readyz`.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(ReadyParams)`")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
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

/// That the process serves.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the hub can do its work.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// All that is required works.
    ready: bool,
    /// `ok`: everything works. `degraded`: the hub does its work, and something does not, such as a node that hears nothing.
    /// `failed`: something required does not work.
    status: &'static str,
    /// What was looked at, by name: `store`, the roles, and `node:URL` for each node.
    checks: BTreeMap<String, CheckAnswer>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, ToSchema)]
struct CheckAnswer {
    /// It works.
    ok: bool,
    /// Why it does not, or what there is to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Of a node: `ok`, or why it hears nothing: `away`, `no_device`, `silent` (nothing but zeros), `ended`, `quiet` (connected, and
    /// nothing comes), `no_sound` (nothing louder than a quiet room for long).
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'static str>,
    /// Of a node that this process listens to: seconds since audio came, or since the hub knows the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_audio_age_s: Option<u64>,
    /// Seconds since there was a sound in it, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sound_age_s: Option<u64>,
    /// Age of the audio when it was analysed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
}

/// How it is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReadyParams {
    /// `true`: 503 for `degraded` too. For the monitoring of a cat's owner, who wants to know of a deaf microphone; a load
    /// balancer or a container's health check, which would take the hub out of service for it, leaves it out.
    #[serde(default)]
    strict: bool,
}

/// Whether the process is alive. Looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Alive)))]
async fn healthz() -> Line<Alive> {
    Line(Alive { status: "ok" })
}

/// Whether the hub can do its work now: the store, each role, each node. It is ready while the store, all roles and at
/// least one node answer. A node that is down beside others that work, or that answers and hears nothing, is reported; it
/// takes the hub out of service only with `strict`.
#[utoipa::path(
    get, path = "/readyz", tag = "health", params(ReadyParams),
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "Something required does not work"))
)]
async fn readyz(State(app): State<Arc<App>>, Params(params): Params<ReadyParams>) -> Response {
    let checks = app.checks.run(&app.store, &app.nodes, app.live.as_ref()).await;
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
