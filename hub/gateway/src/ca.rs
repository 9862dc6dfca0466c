//! `/ca.crt`: the certificate of the hub's CA, for phones and computers, and `/ca.svg`: its address as a QR code.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hub_base::error::{Code, Error};
use qrcode::{Color, QrCode};

use crate::app::App;
use crate::caller::Caller;
use crate::headers::{host_in, is_loopback_host};
use crate::json::Failure;
use crate::tls::{AUTHORITY_PATH, Authority};

/// Where the QR code is.
pub(super) const CODE_PATH: &str = "/ca.svg";

/// What phones and browsers take for a certificate of a CA, in DER.
const CERTIFICATE_TYPE: &str = "application/x-x509-ca-cert";

/// Light modules around a QR code, at least as many as its standard demands.
const QUIET_MODULES: usize = 4;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route(AUTHORITY_PATH, get(certificate)).route(CODE_PATH, get(code))
}

async fn certificate(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let der = authority(&app)?.certificate().to_vec();
    let about = [
        (CONTENT_TYPE, CERTIFICATE_TYPE),
        (CONTENT_DISPOSITION, "attachment; filename=\"meowlink-ca.crt\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((about, der).into_response())
}

async fn code(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    if authority(&app).is_err() {
        // The page asks each hub, and a browser would report an error.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let url = url(&request, &app.machine);
    let code = QrCode::new(&url).map_err(|error| Error::new(Code::Internal, format!("no QR code: {error}")))?;
    Ok(([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "no-store")], svg(&code)).into_response())
}

/// # Errors
/// [`Code::NotFound`] if the hub uses no CA of its own.
fn authority(app: &App) -> Result<&Authority, Failure> {
    let authority = app.certificates.as_ref().and_then(|certificates| certificates.authority());
    let none = "the hub has no CA of its own: it listens on loopback only, or its certificate comes from files";
    Ok(authority.ok_or_else(|| Error::new(Code::NotFound, none))?)
}

/// Where a phone finds the certificate: at the host that the page was asked by, or at the name of this machine.
fn url(request: &Request, machine: &str) -> String {
    let host = host_in(request.headers(), request.uri()).and_then(|host| std::str::from_utf8(host).ok());
    let scheme = if request.extensions().get::<Caller>().is_some_and(|caller| caller.https) { "https" } else { "http" };
    match host {
        Some(host) if !is_loopback_host(host.as_bytes()) => format!("{scheme}://{host}{AUTHORITY_PATH}"),
        other => {
            let port = other.and_then(|host| host.rsplit_once(':')).map(|(_, port)| port);
            let port = port.and_then(|port| port.parse::<u16>().ok()).map(|port| format!(":{port}"));
            format!("{scheme}://{machine}.local{}{AUTHORITY_PATH}", port.unwrap_or_default())
        }
    }
}

/// Dark on light, whatever the theme of the page is.
fn svg(code: &QrCode) -> String {
    let width = code.width();
    let size = width + 2 * QUIET_MODULES;
    let mut path = String::new();
    for (at, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (at % width + QUIET_MODULES, at / width + QUIET_MODULES);
            path += &format!("M{x} {y}h1v1h-1z");
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <rect width=\"{size}\" height=\"{size}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn phone_is_sent_to_a_name_that_it_can_reach() {
        let url =
            |host: &str| url(&Request::get("/ca.svg").header("host", host).body(Body::empty()).unwrap(), "raspberrypi");
        assert_eq!(url("192.168.1.7:5000"), "http://192.168.1.7:5000/ca.crt");
        assert_eq!(url("localhost:5000"), "http://raspberrypi.local:5000/ca.crt");
        assert_eq!(url("localhost"), "http://raspberrypi.local/ca.crt");
        assert_eq!(url("[::1]"), "http://raspberrypi.local/ca.crt");
    }

    #[test]
    fn picture_has_every_module() {
        let code = QrCode::new("http://hub.local:5000/ca.crt").unwrap();
        let dark = code.to_colors().iter().filter(|color| **color == Color::Dark).count();
        assert_eq!(svg(&code).matches("h1v1h-1z").count(), dark);
    }
}
