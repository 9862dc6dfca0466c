//! `/`: the page for browsers, and for everybody else what there is to try.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, VARY};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::page;

/// Commands to try, with the address that the reader used.
const TEXT: &str = "\
Meowlink hub

  http://HOST/                              in a browser: see and hear it

  curl http://HOST/cat/Tom                  call a cat
  curl http://HOST/dog/Rex                  call a dog
  curl -i http://HOST/analyze/Tom           listen to a cat for half a minute
  curl http://HOST/api/v1/analyses          what was heard
  curl http://HOST/api/v1/events            what the cats said
  curl http://HOST/api/v1/nodes             the microphones
  curl http://HOST/readyz                   whether all is well
  curl http://HOST/metrics                  the same for Prometheus
  curl http://HOST/api/v1/openapi.json      the whole API
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
