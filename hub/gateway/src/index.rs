//! `/`: the page for browsers, and a list of commands for other clients.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{ACCEPT, VARY};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::caller::Caller;
use crate::headers::host_in;
use crate::page;

/// Commands to try. `SCHEME` and `HOST` are replaced by those that the client used.
const TEXT: &str = "\
Meowlink hub

  SCHEME://HOST/                              the page; open it in a browser

  curl SCHEME://HOST/cat/Tom                  call a cat
  curl SCHEME://HOST/dog/Rex                  call a dog
  curl -i SCHEME://HOST/analyze/Tom           analyse a cat for 30 seconds
  curl SCHEME://HOST/api/v1/analyses          stored analyses
  curl SCHEME://HOST/api/v1/events            stored events: detected vocalisations
  curl SCHEME://HOST/api/v1/nodes             the cat-nodes
  curl SCHEME://HOST/readyz                   health of the hub and its nodes
  curl SCHEME://HOST/metrics                  metrics for Prometheus
  curl SCHEME://HOST/api/v1/openapi.json      the complete API, as OpenAPI
";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(index))
}

async fn index(request: Request) -> Response {
    let headers = request.headers();
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.any(|value| value.contains("text/html")) {
        return page::document(headers);
    }
    let host = host_in(headers, request.uri()).and_then(|host| std::str::from_utf8(host).ok());
    let is_https = request.extensions().get::<Caller>().is_some_and(|caller| caller.https);
    let text = TEXT.replace("SCHEME", if is_https { "https" } else { "http" });
    ([(VARY, "Accept")], text.replace("HOST", host.unwrap_or("localhost:5000"))).into_response()
}
