//! Keeps pages of other sites from labelling, deleting or sending anything again here, through the browser of somebody who looks at
//! both. The calls of the original system are GETs, and open to all.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::{Code, Error};

/// What browsers say about where a request comes from, when they trust the connection. No page can set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets a request pass that changes nothing, that no page made, or that a page of this very host made.
///
/// # Errors
/// [`Code::ForeignOrigin`].
pub(super) async fn check(request: Request, next: Next) -> Result<Response, Error> {
    if !request.method().is_safe() && !is_our_own(request.headers(), request.uri()) {
        let message =
            "a page of another site may change nothing here; a proxy before the hub must pass on the header Host";
        return Err(Error::new(Code::ForeignOrigin, message));
    }
    Ok(next.run(request).await)
}

fn is_our_own(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // Programs send none.
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host =
        uri.authority().map(|host| host.as_str().as_bytes()).or_else(|| headers.get(HOST).map(|host| host.as_bytes()));
    let origin = origin.as_bytes();
    let start = origin.windows(3).position(|window| window == b"://").map(|at| at + 3);
    start.zip(host).is_some_and(|(start, host)| origin[start..].eq_ignore_ascii_case(host))
}
