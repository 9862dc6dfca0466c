//! `/`: what there is, for somebody who found the port.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;

use super::App;

/// Commands to try, with the address that the reader used.
const TEXT: &str = "\
Meowlink hub

  curl http://HOST/cat/Tom                  call a cat
  curl http://HOST/dog/Rex                  call a dog
  curl -i http://HOST/analyze/Tom           listen to a cat for half a minute
  curl http://HOST/api/v1/analyses          what was heard
  curl http://HOST/api/v1/nodes             the microphones
  curl http://HOST/readyz                   whether all is well
  curl http://HOST/api/v1/openapi.json      the whole API
";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(index))
}

async fn index(headers: HeaderMap) -> String {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost:5000");
    TEXT.replace("HOST", host)
}
