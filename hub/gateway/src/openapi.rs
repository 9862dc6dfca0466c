//! `/api/v1/openapi.json`: the API as OpenAPI 3, generated from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::PathItem;
use utoipa::{OpenApi, ToSchema};

use crate::app::App;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Meowlink hub",
        description = "Calls cats and dogs, listens to cat-nodes, detects meows, and notifies owners. A request that \
            names the hub by a public host name which is not in `[page] hosts` of the hub's config is answered with \
            421 `unknown_host`, on every route. Once there are users, a route that shows or changes something needs a \
            session or `Authorization: Bearer TOKEN`, and answers 401 `unauthenticated` without, or 403 `forbidden` \
            if the role does not suffice. The routes of the original system stay open on the hub's own machine.",
    ),
    tags(
        (name = "animals", description = "The routes of the original system"),
        (name = "analyses", description = "Stored analyses, which `/analyze/{name}` starts"),
        (name = "events", description = "Detected vocalisations with their recordings, counts and labels"),
        (name = "live", description = "Updates and audio as they happen"),
        (name = "nodes", description = "The cat-nodes and their microphones"),
        (name = "notices", description = "Notifications to owners"),
        (name = "people", description = "Log-in, users, sessions, tokens and the audit log"),
        (name = "backup", description = "Backups of the database and the clips"),
        (name = "health", description = "Health checks and metrics"),
    )
)]
struct Document;

/// Bytes of a file: sound, a picture or an archive.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Binary(#[expect(dead_code, reason = "only describes the answer")] Vec<u8>);

/// Gives each answer without a description that of its operation: OpenAPI requires one.
pub(super) fn describe_answers(api: &mut utoipa::openapi::OpenApi) {
    for item in api.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
        for operation in [get, put, post, delete, options, head, patch, trace].into_iter().flatten() {
            let summary = operation.summary.clone().unwrap_or_default();
            for answer in operation.responses.responses.values_mut() {
                if let RefOr::T(answer) = answer
                    && answer.description.is_empty()
                {
                    answer.description.clone_from(&summary);
                }
            }
        }
    }
}

/// The document without the routes.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

pub(super) fn routes(api: &utoipa::openapi::OpenApi) -> Router<Arc<App>> {
    let json = bytes::Bytes::from(api.to_json().expect("the document is plain data"));
    let answer = move || {
        let json = json.clone();
        async move { ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json) }
    };
    Router::new().route("/api/v1/openapi.json", get(answer))
}
