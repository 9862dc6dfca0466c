//! `/api/v1/events`: stored events.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(ListParams)`")]

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hub_base::error::Error;
use hub_base::links;
use hub_listen::live::News;
use hub_listen::rehear::rehear_labelled;
use hub_store::events::{Event, OwnerLabel, PageCursor, Reevaluation};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Id, Params, bad_cursor, bad_word, page_limit};

mod answer;
mod archive;
mod clip;
mod counts;
mod csv;
mod export;
mod filter;
mod labels;
mod own_labels;
mod picture;
mod range;
mod reevaluations;
mod which_cat;

pub(super) use answer::EventAnswer;
use export::Format;
use filter::{find, no_event, params_with_filter};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(export))
        .routes(routes!(one, delete))
        .routes(routes!(label))
        .merge(archive::routes())
        .merge(clip::routes())
        .merge(counts::routes())
        .merge(labels::routes())
        .merge(own_labels::routes())
        .merge(reevaluations::routes())
        .merge(which_cat::routes())
}

params_with_filter! {
    /// Filters of events. An event must match all that are given.
    struct ListParams {
        /// Most events in a page, 1 to 500. CSV and JSON Lines have no pages.
        #[param(default = 50)]
        limit: Option<u32>,
        /// `next_cursor` of the previous page.
        cursor: Option<String>,
        /// `json`, `jsonl` (JSON Lines: one event in each line) or `csv`. Without it the header `Accept` selects one:
        /// `application/json`, `application/x-ndjson` or `text/csv`.
        #[param(default = "json")]
        format: Option<String>,
    }
}

params_with_filter! {
    /// Filters of events. An event must match all that are given.
    struct ExportParams {}
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
struct EventsAnswer {
    /// Latest first.
    events: Vec<EventAnswer>,
    /// Send it as `cursor` to get the next page. Null: this is the last page.
    next_cursor: Option<String>,
}

/// The owner's label of an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LabelBody {
    /// `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of your own. Null removes the
    /// label.
    #[serde(deserialize_with = "Option::deserialize")]
    label: Option<String>,
}

/// Lists events, latest first.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "list_events", tag = "events", params(ListParams),
    responses(
        (status = 200, content(
            (EventsAnswer = "application/json"), (String = "application/x-ndjson"), (String = "text/csv"),
        )),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let whole = match params.format.as_deref() {
        Some("csv") => Some(Format::Csv),
        Some("jsonl") => Some(Format::JsonLines),
        Some("json") => None,
        Some(other) => return Err(bad_word("format", other, "json, jsonl or csv").into()),
        None => accepted(&headers),
    };
    let filter = params.filter()?;
    if let Some(format) = whole {
        return Ok(export::answer(app.store.clone(), filter, format).await?);
    }
    let limit = page_limit(params.limit)?;
    let cursor = |text: String| text.parse::<PageCursor>().map_err(|()| bad_cursor(&text));
    let after = params.cursor.map(cursor).transpose()?;
    let page = app.store.events(&filter, after, limit).await?;
    let answer = EventsAnswer {
        events: page.events.iter().map(EventAnswer::from).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    };
    Ok(Line(answer).into_response())
}

/// Exports all matching events as CSV, latest first.
#[utoipa::path(
    get, path = "/api/v1/events.csv", operation_id = "export_events", tag = "events", params(ExportParams),
    responses(
        (status = 200, body = String, content_type = "text/csv"),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn export(State(app): State<Arc<App>>, Params(params): Params<ExportParams>) -> Result<Response, Failure> {
    Ok(export::answer(app.store.clone(), params.filter()?, Format::Csv).await?)
}

/// Returns one event.
#[utoipa::path(
    get, path = "/api/v1/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = i64, Path, description = "Number of the event")),
    responses(
        (status = 200, body = EventAnswer),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn one(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<EventAnswer>, Failure> {
    Ok(Line(EventAnswer::from(&find(&app, id).await?)))
}

/// An event with its new label, and what the label did to others.
#[derive(Debug, Serialize, ToSchema)]
struct LabelledAnswer {
    #[serde(flatten)]
    event: EventAnswer,
    /// How many other events of the cat have another context or another suggested label now. They have no label.
    changed: usize,
    /// Path to which a POST puts these events back. Null: no other event changed.
    #[schema(example = "/api/v1/reevaluations/3/undo")]
    undo: Option<String>,
}

/// Labels an event. From then on the event counts as its label, and the label trains the model for this cat. Once there
/// are at least two labels of each of two contexts, or five of a label of the owner's own and five others, the hub
/// evaluates the cat's events without a label again.
#[utoipa::path(
    put, path = "/api/v1/events/{id}/label", operation_id = "label_event", tag = "events",
    params(("id" = i64, Path, description = "Number of the event")),
    request_body = LabelBody,
    responses(
        (status = 200, body = LabelledAnswer, description = "The event with its label"),
        (status = 400, body = Problem, description = "`bad_request`: the label is unknown"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn label(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Body(body): Body<LabelBody>,
) -> Result<Line<LabelledAnswer>, Failure> {
    let label = match body.label {
        None => None,
        Some(word) => Some(meant(&app, &word).await?),
    };
    let before = find(&app, id).await?.label;
    let labelled = match label {
        Some(Meant::Own(own)) => app.store.label_event_own(id, own).await?,
        Some(Meant::Hubs(label)) => app.store.label_event(id, Some(label)).await?,
        None => app.store.label_event(id, None).await?,
    };
    let event = labelled.ok_or_else(|| no_event(id))?;
    if let Err(error) = rehear_labelled(&app.store, &app.clips, &event).await {
        // The label is stored. The model uses it after the next start.
        warn!(id, %error, "cannot recompute the features of a labelled clip; retrying at the next start");
    }
    // "Not a cat" teaches no context, but counts among the others of the owner's own labels.
    let teaches = before.is_some() || event.label.is_some();
    let others = if teaches { reevaluated(&app, &event).await } else { None };
    let answer = LabelledAnswer {
        event: EventAnswer::from(&event),
        changed: others.map_or(0, |others| others.changed),
        undo: others.map(|others| links::undo(others.id)),
    };
    app.tell(News::Labelled(Box::new(event)));
    if let Some(Reevaluation { changed, .. }) = others {
        app.tell(News::Reevaluated { events: changed });
    }
    Ok(Line(answer))
}

/// A label that a word means.
enum Meant {
    Hubs(OwnerLabel),
    /// The number of a label of the owner's own.
    Own(i64),
}

async fn meant(app: &App, word: &str) -> Result<Meant, Error> {
    match word.parse::<OwnerLabel>() {
        // Only the classifier says "uncertain". An owner who does not know sets no label.
        Ok(label) if label.as_str() != "uncertain" => return Ok(Meant::Hubs(label)),
        Ok(_) => {}
        Err(_) => {
            if let Some(own) = app.store.own_label_named(word).await? {
                return Ok(Meant::Own(own));
            }
        }
    }
    let expected = "waiting_for_food, isolation, brushing, not_a_cat or a label of your own";
    Err(bad_word("label", word, expected))
}

/// What the label of this event did to others. `None`: nothing.
async fn reevaluated(app: &App, event: &Event) -> Option<Reevaluation> {
    let done = app.store.reevaluate(event).await;
    done.unwrap_or_else(|error| {
        // The label is stored. The next label of the cat evaluates the events again.
        warn!(id = event.id, %error, "cannot evaluate the events of a cat again after a label");
        None
    })
}

/// Deletes an event and its clip.
#[utoipa::path(
    delete, path = "/api/v1/events/{id}", operation_id = "delete_event", tag = "events",
    params(("id" = i64, Path, description = "Number of the event")),
    responses(
        (status = 204, description = "The event is deleted"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn delete(State(app): State<Arc<App>>, Id(id): Id) -> Result<StatusCode, Failure> {
    let clip = app.store.delete_event(id).await?.ok_or_else(|| no_event(id))?;
    app.clips.remove(clip.into_iter().collect()).await;
    app.tell(News::Deleted { id });
    Ok(StatusCode::NO_CONTENT)
}

/// The format that `Accept` selects: the first that the hub has. `None`: pages of JSON.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).map(|kind| kind.split(';').next().unwrap_or("").trim());
    let known = kinds.find_map(|kind| match kind {
        "text/csv" => Some(Some(Format::Csv)),
        "application/x-ndjson" | "application/jsonl" => Some(Some(Format::JsonLines)),
        "application/json" => Some(None),
        _ => None,
    });
    known.flatten()
}
