//! `/healthz` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{App, Line};

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
}

/// Whether the process is alive. Looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Alive)))]
async fn healthz() -> Line<Alive> {
    Line(Alive { status: "ok" })
}

/// Whether the hub can do its work now: the store, each role, each node. It is ready while the store, all roles and at
/// least one node answer; a node that is down beside others that work is reported, and no more.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, body = Ready), (status = 503, body = Ready, description = "Something required does not work"))
)]
async fn readyz(State(app): State<Arc<App>>) -> Response {
    let checks = app.checks.run(&app.store, &app.nodes).await;
    let ready = checks.iter().all(|check| check.ok || !check.required);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let checks =
        checks.into_iter().map(|check| (check.name, CheckAnswer { ok: check.ok, detail: check.detail })).collect();
    (status, Line(Ready { ready, checks })).into_response()
}
