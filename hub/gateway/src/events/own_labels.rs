//! `/api/v1/own-labels`: labels of the owner's own, next to the contexts.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use hub_base::error::{Code, Error};
use hub_base::links;
use hub_listen::live::News;
use hub_store::events::{OwnLabel, OwnLabelError};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Id, bad};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(rename, remove))
}

/// A label of the owner's own.
#[derive(Debug, Serialize, ToSchema)]
struct OwnLabelAnswer {
    /// Number of the label. Renaming keeps it.
    id: i64,
    /// Its name.
    #[schema(example = "let me out")]
    name: String,
    /// How many events have it.
    events: u64,
    /// For how many events without a label the hub suggests it.
    suggested: u64,
}

/// The labels of the owner's own.
#[derive(Debug, Serialize, ToSchema)]
struct OwnLabelsAnswer {
    /// By name, at most 32.
    own_labels: Vec<OwnLabelAnswer>,
}

/// The name of a label.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OwnLabelBody {
    /// 1 to 40 characters in one line. Upper and lower case are the same.
    #[schema(example = "let me out")]
    name: String,
}

/// What the removal of a label did to events without a label, including those that had this one.
#[derive(Debug, Serialize, ToSchema)]
struct RemovedOwnLabelAnswer {
    /// How many of them have another context or another suggested label now, because the events of the removed label no
    /// longer teach.
    changed: usize,
    /// Paths to which a POST puts these events back, one for each cat. Empty: no event changed.
    #[schema(example = json!(["/api/v1/reevaluations/3/undo"]))]
    undo: Vec<String>,
}

impl From<OwnLabel> for OwnLabelAnswer {
    fn from(OwnLabel { id, name, events, suggested }: OwnLabel) -> Self {
        Self { id, name, events, suggested }
    }
}

fn failure(error: OwnLabelError) -> Error {
    let code = match error {
        OwnLabelError::BadName => return bad(format!("name: {error}")),
        OwnLabelError::Unknown => Code::NotFound,
        OwnLabelError::Reserved | OwnLabelError::Taken | OwnLabelError::Full => Code::Conflict,
    };
    Error::new(code, error.to_string())
}

/// Lists the labels of the owner's own.
#[utoipa::path(
    get, path = "/api/v1/own-labels", operation_id = "list_own_labels", tag = "events",
    responses(
        (status = 200, body = OwnLabelsAnswer),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(State(app): State<Arc<App>>) -> Result<Line<OwnLabelsAnswer>, Failure> {
    let own_labels = app.store.own_labels().await?.into_iter().map(OwnLabelAnswer::from).collect();
    Ok(Line(OwnLabelsAnswer { own_labels }))
}

/// Adds a label. Events can then be labelled with its name.
#[utoipa::path(
    post, path = "/api/v1/own-labels", operation_id = "add_own_label", tag = "events",
    request_body = OwnLabelBody,
    responses(
        (status = 201, body = OwnLabelAnswer, description = "The label is added"),
        (status = 400, body = Problem, description = "`bad_request`: the name is invalid"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 409, body = Problem, description = "`conflict`: the name is in use, the hub or its page uses it, or there are 32 labels"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn add(
    State(app): State<Arc<App>>,
    Body(body): Body<OwnLabelBody>,
) -> Result<(StatusCode, Line<OwnLabelAnswer>), Failure> {
    let label = app.store.add_own_label(&body.name).await?.map_err(failure)?;
    Ok((StatusCode::CREATED, Line(label.into())))
}

/// Renames a label. All events with the label have the new name.
#[utoipa::path(
    put, path = "/api/v1/own-labels/{id}", operation_id = "rename_own_label", tag = "events",
    params(("id" = i64, Path, description = "Number of the label")),
    request_body = OwnLabelBody,
    responses(
        (status = 200, body = OwnLabelAnswer, description = "The label is renamed"),
        (status = 400, body = Problem, description = "`bad_request`: the name is invalid"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 409, body = Problem, description = "`conflict`: the name is in use, or the hub or its page uses it"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn rename(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(body): Body<OwnLabelBody>,
) -> Result<Line<OwnLabelAnswer>, Failure> {
    Ok(Line(app.store.rename_own_label(id, &body.name).await?.map_err(failure)?.into()))
}

/// Removes a label. Events with the label have no label any more, and those for which it was suggested get their
/// contexts back. If other labels of a cat have too few others now, the hub evaluates the cat's events without a label
/// again.
#[utoipa::path(
    delete, path = "/api/v1/own-labels/{id}", operation_id = "remove_own_label", tag = "events",
    params(("id" = i64, Path, description = "Number of the label")),
    responses(
        (status = 200, body = RemovedOwnLabelAnswer, description = "The label is removed"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn remove(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<RemovedOwnLabelAnswer>, Failure> {
    let removed = app.store.remove_own_label(id).await?.map_err(failure)?;
    let bare = usize::try_from(removed.label.suggested).unwrap_or(usize::MAX);
    let changed = removed.reevaluations.iter().map(|done| done.changed).sum();
    for events in [bare, changed].into_iter().filter(|events| *events > 0) {
        app.tell(News::Reevaluated { events });
    }
    let undo = removed.reevaluations.iter().map(|done| links::undo(done.id)).collect();
    Ok(Line(RemovedOwnLabelAnswer { changed, undo }))
}
