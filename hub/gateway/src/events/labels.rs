//! `/api/v1/labels`: the owner's labels and their history, as JSON and as CSV.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(LabelParams)`")]

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hub_base::error::Error;
use hub_base::table::{CONTEXT_COLUMNS, context_fields, records};
use hub_base::time;
use hub_store::events::LabelChange;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::EventAnswer;
use super::csv;
use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Params, number_of, page_limit};

/// Labels that are read from the store at a time for CSV.
const PAGE: usize = 500;

/// Columns before the context. After the context comes `clip`.
const FIRST_COLUMNS: [&str; 12] = [
    "id",
    "labelled_at",
    "label",
    "event_id",
    "node",
    "cat",
    "boot_id",
    "start_sample",
    "end_sample",
    "started_at",
    "score",
    "kind",
];

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(labels)).routes(routes!(export))
}

/// Page of the list of labels.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LabelParams {
    /// Most labels in the answer, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A page of labels.
#[derive(Debug, Serialize, ToSchema)]
struct LabelsAnswer {
    /// In the order in which the owner set them. The last label of an event counts.
    labels: Vec<LabelAnswer>,
    /// Send it as `cursor` to get the next page. Null: this is the last page.
    next_cursor: Option<String>,
}

/// A label that the owner set or removed.
#[derive(Debug, Serialize, ToSchema)]
struct LabelAnswer {
    /// Number of the label.
    id: i64,
    /// `waiting_for_food`, `isolation`, `brushing`, `not_a_cat`, or the name of a label of the owner's own. Null: an
    /// earlier label was removed.
    label: Option<String>,
    /// When the owner set it, RFC 3339 in UTC.
    labelled_at: String,
    /// The event in its current state.
    event: EventAnswer,
}

/// Lists the owner's labels, including replaced and removed ones. Labels of deleted events are not listed.
#[utoipa::path(
    get, path = "/api/v1/labels", operation_id = "list_labels", tag = "events", params(LabelParams),
    responses(
        (status = 200, body = LabelsAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn labels(
    State(app): State<Arc<App>>,
    Params(params): Params<LabelParams>,
) -> Result<Line<LabelsAnswer>, Failure> {
    let limit = page_limit(params.limit)?;
    // One more than requested shows whether there is another page.
    let mut said = app.store.label_changes(number_of(params.cursor)?.unwrap_or(0), limit + 1).await?;
    let more = said.len() > limit;
    said.truncate(limit);
    let next_cursor = said.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Line(LabelsAnswer { labels: said.iter().map(LabelAnswer::from).collect(), next_cursor }))
}

/// Exports all labels as CSV.
#[utoipa::path(
    get, path = "/api/v1/labels.csv", operation_id = "export_labels", tag = "events",
    responses(
        (status = 200, body = String, content_type = "text/csv"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn export(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let store = app.store.clone();
    let first = store.label_changes(0, PAGE).await?;
    // Written page by page. If the store fails after the first page, the answer is cut off.
    let pages = futures_util::stream::try_unfold(Place::Header(first), move |place| {
        let store = store.clone();
        async move {
            let (said, head) = match place {
                Place::Header(first) => (first, records([columns()])),
                Place::After(id) => (store.label_changes(id, PAGE).await.map_err(Error::from)?, Vec::new()),
                Place::End => return Ok(None),
            };
            let next = said.last().map_or(Place::End, |last| Place::After(last.id));
            let written = [head, records(said.iter().map(fields_of))].concat();
            Ok::<_, Error>(Some((Bytes::from(written), next)))
        }
    });
    let headers =
        [(CONTENT_TYPE, "text/csv; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"labels.csv\"")];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// What is written next.
enum Place {
    /// The header and the first page.
    Header(Vec<LabelChange>),
    /// The page after the label with this number.
    After(i64),
    End,
}

fn columns() -> impl Iterator<Item = &'static str> {
    FIRST_COLUMNS.into_iter().chain(CONTEXT_COLUMNS).chain(["clip"])
}

/// The word for the new label: one of the hub's, or the owner's own.
fn word(saying: &LabelChange) -> Option<&str> {
    saying.label.map(|label| saying.own_label.as_deref().unwrap_or(label.as_str()))
}

fn fields_of(saying: &LabelChange) -> impl Iterator<Item = String> {
    let (event, found) = (&saying.event, &saying.event.found);
    let first: [String; FIRST_COLUMNS.len()] = [
        saying.id.to_string(),
        time::rfc3339(saying.changed_at_ns),
        word(saying).unwrap_or_default().into(),
        event.id.to_string(),
        found.node.clone(),
        event.cat().to_owned(),
        format!("{:016x}", found.boot_id),
        found.start_sample.to_string(),
        found.end_sample.to_string(),
        time::rfc3339(found.started_at_ns),
        found.score.to_string(),
        found.kind.clone().unwrap_or_default(),
    ];
    first.into_iter().chain(context_fields(&found.context)).chain([csv::clip_link(event)])
}

impl From<&LabelChange> for LabelAnswer {
    fn from(saying: &LabelChange) -> Self {
        Self {
            id: saying.id,
            label: word(saying).map(str::to_owned),
            labelled_at: time::rfc3339(saying.changed_at_ns),
            event: EventAnswer::from(&saying.event),
        }
    }
}
