//! `/api/v1/events/{id}/cat`: the owner says which of several cats an event was. `/api/v1/cats`: the names that owners
//! used.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(CatsParams)`")]

use std::sync::Arc;

use axum::extract::State;
use hub_base::error::Error;
use hub_listen::live::News;
use hub_store::events::{NamedCat, SaidCat};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::EventAnswer;
use super::filter::no_event;
use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Id, Params, bad};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(say, take_back)).routes(routes!(cats))
}

/// Which cat an event was.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CatBody {
    /// Name of the cat: 1 to 1024 bytes in one line.
    #[schema(example = "Ada")]
    cat: String,
}

/// Whose names to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CatsParams {
    /// Only names for events of this node: its URL, its id, or the first 16 digits of its id.
    node: Option<String>,
}

/// A cat that owners named for events.
#[derive(Debug, Serialize, ToSchema)]
struct NamedCatAnswer {
    /// Its name.
    #[schema(example = "Ada")]
    name: String,
    /// For how many events owners named it.
    events: u64,
}

/// The cats that owners named for events.
#[derive(Debug, Serialize, ToSchema)]
struct CatsAnswer {
    /// Those of the most events first, at most 100.
    cats: Vec<NamedCatAnswer>,
}

impl From<NamedCat> for NamedCatAnswer {
    fn from(NamedCat { name, events }: NamedCat) -> Self {
        Self { name, events }
    }
}

/// Says which cat an event was. Filters, counts, exports and deletions follow. If several nodes heard the sound, it
/// holds for the events of all of them. What the node announced stays in `node_cat`.
#[utoipa::path(
    put, path = "/api/v1/events/{id}/cat", operation_id = "name_cat_of_event", tag = "events",
    params(("id" = i64, Path, description = "Number of the event")),
    request_body = CatBody,
    responses(
        (status = 200, body = EventAnswer, description = "The event with its cat"),
        (status = 400, body = Problem, description = "`bad_request`: the name is invalid"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn say(State(app): State<Arc<App>>, Id(id): Id, Body(body): Body<CatBody>) -> Result<Line<EventAnswer>, Failure> {
    Ok(said(&app, id, Some(&body.cat)).await?)
}

/// Takes back what the owner said. The event is of the cat of its node again.
#[utoipa::path(
    delete, path = "/api/v1/events/{id}/cat", operation_id = "forget_cat_of_event", tag = "events",
    params(("id" = i64, Path, description = "Number of the event")),
    responses(
        (status = 200, body = EventAnswer, description = "The event with the cat of its node"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn take_back(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<EventAnswer>, Failure> {
    Ok(said(&app, id, None).await?)
}

async fn said(app: &App, id: i64, cat: Option<&str>) -> Result<Line<EventAnswer>, Error> {
    let said = app.store.say_cat(id, cat).await?.map_err(|error| bad(format!("cat: {error}")))?;
    let SaidCat { event, changed } = said.ok_or_else(|| no_event(id))?;
    // The page shows one event of a sound, which need not be the one that was asked about.
    for event in changed {
        app.tell(News::Labelled(Box::new(event)));
    }
    Ok(Line(EventAnswer::from(&event)))
}

/// Lists the cats that owners named for events of a node, or of all nodes.
#[utoipa::path(
    get, path = "/api/v1/cats", operation_id = "list_cats", tag = "events", params(CatsParams),
    responses(
        (status = 200, body = CatsAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn cats(State(app): State<Arc<App>>, Params(params): Params<CatsParams>) -> Result<Line<CatsAnswer>, Failure> {
    let cats = app.store.named_cats(params.node.as_deref()).await?.into_iter().map(NamedCatAnswer::from).collect();
    Ok(Line(CatsAnswer { cats }))
}
