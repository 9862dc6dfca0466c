//! `/api/v1/events`: the cat events that listening found.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(ListParams)`")]

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Failure;
use super::problem::{Body, Id, Params, Problem, bad, page_limit};
use super::{App, Line};
use hub_base::error::{Code, Error};
use hub_base::time;
use hub_listen::live::News;
use hub_listen::rehear::rehear_labelled;
use hub_store::events::{Event, EventFilter, OwnerLabel, PageCursor};

pub(super) use answer::EventAnswer;
pub(super) use clip::MAX_DRAWINGS;

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

/// Parameters of a query: those given, and after them the ones that filter events. (`serde(flatten)` would forbid numbers,
/// and unknown names to be refused.)
macro_rules! params_with_filter {
    ($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$outer])*
        #[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
        #[serde(deny_unknown_fields)]
        #[into_params(parameter_in = Query)]
        struct $name {
            $($(#[$inner])* $field: $type,)*
            /// Only of this cat.
            cat: Option<String>,
            /// Only of this node (its URL).
            node: Option<String>,
            /// Only those that began at this moment or later (RFC 3339; write `+` as `%2B`).
            from: Option<String>,
            /// Only those that began before this moment (RFC 3339; write `+` as `%2B`).
            to: Option<String>,
            /// Only what counts as this, by the owner's word or else by the analysis: `waiting_for_food`, `isolation`,
            /// `brushing`, `uncertain` or `not_a_cat`.
            context: Option<String>,
            /// Only with this score or a higher one, 0 to 1.
            min_score: Option<f32>,
        }

        impl $name {
            /// What the parameters let through.
            fn filter(&self) -> Result<hub_store::events::EventFilter, hub_base::error::Error> {
                $crate::gateway::events::filter_of(
                    &self.cat, &self.node, &self.from, &self.to, &self.context, self.min_score,
                )
            }
        }
    };
}

mod answer;
mod clip;
mod counts;
mod csv;
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

/// What the parameters of a filter let through.
fn filter_of(
    cat: &Option<String>,
    node: &Option<String>,
    from: &Option<String>,
    to: &Option<String>,
    context: &Option<String>,
    min_score: Option<f32>,
) -> Result<EventFilter, Error> {
    if let Some(score) = min_score.filter(|score| !(0.0..=1.0).contains(score)) {
        return Err(bad(format!("min_score: {score} is not within 0 to 1")));
    }
    let context = context.as_deref().map(|word| word.parse().map_err(|why| bad(format!("context: {why}"))));
    Ok(EventFilter {
        cat: cat.clone(),
        node: node.clone(),
        from_ns: from.as_deref().map(|text| time::parse("from", text)).transpose()?,
        to_ns: to.as_deref().map(|text| time::parse("to", text)).transpose()?,
        counts_as: context.transpose()?,
        min_score,
    })
}

async fn find(app: &App, id: i64) -> Result<Event, Error> {
    app.store.event(id).await?.ok_or_else(|| no_event(id))
}

fn no_event(id: i64) -> Error {
    Error::new(Code::NotFound, format!("there is no event {id}"))
}

fn accepts_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/csv"))
}

#[cfg(test)]
mod tests;
