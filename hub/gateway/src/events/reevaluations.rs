//! `/api/v1/reevaluations`: takes back what labels did to other events.

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::{Code, Error};
use hub_listen::live::News;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::Id;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(undo))
}

/// A re-evaluation that was undone.
#[derive(Debug, Serialize, ToSchema)]
struct UndoneAnswer {
    /// How many events are as they were before it. Events that were deleted since are not counted.
    changed: usize,
}

/// Gives the events that a label changed their earlier contexts back, or those that the removal of a label of the
/// owner's own changed. Only the last change of a cat's events can be undone. The label stays given, or removed.
#[utoipa::path(
    post, path = "/api/v1/reevaluations/{id}/undo", operation_id = "undo_reevaluation", tag = "events",
    params(("id" = i64, Path, description = "Number of the re-evaluation, from `undo` of the answer to the label or to its removal")),
    responses(
        (status = 200, body = UndoneAnswer, description = "The events are as they were before"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`: it was undone, or events of the cat changed again"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn undo(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<UndoneAnswer>, Failure> {
    let gone = || {
        let message = format!("re-evaluation {id} cannot be undone: it was undone, or events of the cat changed again");
        Error::new(Code::NotFound, message)
    };
    let changed = app.store.undo_reevaluation(id).await?.ok_or_else(gone)?;
    app.tell(News::Reevaluated { events: changed });
    Ok(Line(UndoneAnswer { changed }))
}
