//! `/api/v1/events`: the cat events that listening found.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(ListParams)`")]

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hub_listen::live::News;
use hub_listen::rehear::rehear_labelled;
use hub_store::events::{OwnerLabel, PageCursor};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Id, Params, bad, page_limit};

pub(super) use answer::EventAnswer;
use filter::{find, no_event, params_with_filter};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(export))
        .routes(routes!(one, delete))
        .routes(routes!(label))
        .merge(clip::routes())
        .merge(counts::routes())
        .merge(labels::routes())
}

mod answer;
mod clip;
mod counts;
mod csv;
mod filter;
mod labels;
mod picture;

params_with_filter! {
    /// Which events are wanted. All that is given must hold.
    struct ListParams {
        /// Events in a page, 1 to 500. CSV holds all of them.
        #[param(default = 50)]
        limit: Option<u32>,
        /// `next_cursor` of the page before.
        cursor: Option<String>,
        /// `json` or `csv`. Without it, the header `Accept: text/csv` asks for CSV.
        #[param(default = "json")]
        format: Option<String>,
    }
}

params_with_filter! {
    /// Which events are wanted. All that is given must hold.
    struct ExportParams {}
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
struct EventsAnswer {
    /// The latest first.
    events: Vec<EventAnswer>,
    /// Give it as `cursor` to get the next page. Null: this is the last.
    next_cursor: Option<String>,
}

/// What the owner says an event was.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LabelBody {
    /// `waiting_for_food`, `isolation`, `brushing` or `not_a_cat`. Null takes the label back.
    #[serde(deserialize_with = "Option::deserialize")]
    label: Option<String>,
}

/// The events, the latest first.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", params(ListParams),
    responses(
        (status = 200, content((EventsAnswer = "application/json"), (String = "text/csv"))),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let wants_csv = match params.format.as_deref() {
        Some("csv") => true,
        Some("json") => false,
        Some(other) => return Err(bad(format!("format: {other:?} is none of json, csv")).into()),
        None => accepts_csv(&headers),
    };
    let filter = params.filter()?;
    if wants_csv {
        return Ok(csv::answer(app.store.clone(), filter));
    }
    let limit = page_limit(params.limit)?;
    let cursor =
        |text: String| text.parse::<PageCursor>().map_err(|()| bad(format!("cursor: {text:?} was not given out here")));
    let after = params.cursor.map(cursor).transpose()?;
    let page = app.store.events(&filter, after, limit).await?;
    let answer = EventsAnswer {
        events: page.events.iter().map(EventAnswer::from).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    };
    Ok(Line(answer).into_response())
}

/// All events that the filter lets through, the latest first, as CSV.
#[utoipa::path(
    get, path = "/api/v1/events.csv", tag = "events", params(ExportParams),
    responses(
        (status = 200, body = String, content_type = "text/csv"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
    )
)]
async fn export(State(app): State<Arc<App>>, Params(params): Params<ExportParams>) -> Result<Response, Failure> {
    Ok(csv::answer(app.store.clone(), params.filter()?))
}

/// One event.
#[utoipa::path(
    get, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = EventAnswer),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn one(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<EventAnswer>, Failure> {
    Ok(Line(EventAnswer::from(&find(&app, id).await?)))
}

/// Keeps what the owner says an event was. It counts as that from then on, and teaches the hub about this cat.
#[utoipa::path(
    put, path = "/api/v1/events/{id}/label", tag = "events",
    params(("id" = i64, Path, description = "Its number")),
    request_body = LabelBody,
    responses(
        (status = 200, body = EventAnswer, description = "The event with its label"),
        (status = 400, body = Problem, description = "`bad_request`: no such label"),
        (status = 403, body = Problem, description = "`foreign_origin`: asked for by a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn label(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(body): Body<LabelBody>,
) -> Result<Line<EventAnswer>, Failure> {
    let known = |word: String| match word.parse::<OwnerLabel>() {
        // "Uncertain" is an answer of the analysis; an owner who does not know says nothing.
        Ok(label) if label.as_str() != "uncertain" => Ok(label),
        _ => Err(bad(format!("label: {word:?} is none of waiting_for_food, isolation, brushing, not_a_cat"))),
    };
    let label = body.label.map(known).transpose()?;
    let event = app.store.label_event(id, label).await?.ok_or_else(|| no_event(id))?;
    if let Err(error) = rehear_labelled(&app.store, &app.clips, &event).await {
        // The label is kept; it teaches from the next start on.
        warn!(id, %error, "a labelled sound of an earlier network is heard again at the next start");
    }
    let answer = EventAnswer::from(&event);
    if let Some(live) = &app.live {
        live.tell(News::Labelled(Box::new(event)));
    }
    Ok(Line(answer))
}

/// Deletes an event with its clip.
#[utoipa::path(
    delete, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 403, body = Problem, description = "`foreign_origin`: asked for by a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn delete(State(app): State<Arc<App>>, Id(id): Id) -> Result<StatusCode, Failure> {
    let clip = app.store.delete_event(id).await?.ok_or_else(|| no_event(id))?;
    app.clips.remove(clip.into_iter().collect()).await;
    if let Some(live) = &app.live {
        live.tell(News::Deleted { id });
    }
    Ok(StatusCode::NO_CONTENT)
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/csv"))
}

#[cfg(test)]
mod tests;
