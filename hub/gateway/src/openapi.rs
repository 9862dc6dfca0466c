//! `/api/v1/openapi.json`: the API as OpenAPI 3, made from the handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use utoipa::OpenApi;

use crate::app::App;

#[derive(OpenApi)]
#[openapi(
    info(title = "Meowlink hub", description = "Calls cats and dogs, listens to cats, and says what it heard. A hub that is called by a name in the public DNS \
            which is not in its `page.hosts` answers 421 `unknown_host`, whatever is asked."),
    tags(
        (name = "animals", description = "The routes of the original system"),
        (name = "analyses", description = "What was heard in the half minute after `/analyze/NAME`"),
        (name = "events", description = "What the hub hears of the cats all the time, with its sound"),
        (name = "live", description = "What is going on right now"),
        (name = "nodes", description = "The microphones"),
        (name = "notices", description = "What the owners are told"),
        (name = "health", description = "Whether all is well"),
    )
)]
struct Document;

/// The document without its routes.
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
