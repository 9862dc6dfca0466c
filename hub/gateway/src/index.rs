//! `/`: the page for browsers, and a list of commands for other clients.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, VARY};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::page;

/// Commands to try. `HOST` is replaced by the address that the client used.
const TEXT: &str = "\
Meowlink hub

  http://HOST/                              the page; open it in a browser

  curl http://HOST/cat/Tom                  call a cat
  curl http://HOST/dog/Rex                  call a dog
  curl -i http://HOST/analyze/Tom           analyse a cat for 30 seconds
  curl http://HOST/api/v1/analyses          stored analyses
  curl http://HOST/api/v1/events            stored events: detected vocalisations
  curl http://HOST/api/v1/nodes             the cat-nodes
  curl http://HOST/readyz                   health of the hub and its nodes
  curl http://HOST/metrics                  metrics for Prometheus
  curl http://HOST/api/v1/openapi.json      the complete API, as OpenAPI
";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(index))
}

async fn index(headers: HeaderMap) -> Response {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.any(|value| value.contains("text/html")) {
        return page::document(&headers);
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost:5000");
    ([(VARY, "Accept")], TEXT.replace("HOST", host)).into_response()
}
