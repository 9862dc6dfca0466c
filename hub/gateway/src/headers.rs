//! `Host`, and the headers that proxies add.

use std::net::IpAddr;

use axum::http::header::{FORWARDED, HOST, VIA};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The addresses that the request came from, one of each proxy.
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The scheme that the client used.
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The `Host` that the client used.
pub(super) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The address that the request came from, as nginx is often told to pass it on.
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// How the headers above begin, and others of their kind.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// The entries of a header that is a list, in order, without spaces.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether a proxy has added a header that says so.
pub(super) fn name_a_proxy(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        *name == FORWARDED || *name == VIA || *name == REAL_IP || name.as_str().starts_with(FORWARDED_PREFIX)
    })
}

/// `Host`, unless the request line names another. HTTP/2 has it there.
pub(super) fn host_in<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a [u8]> {
    let named = uri.authority().map(|host| host.as_str().as_bytes());
    named.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes)).filter(|host| !host.is_empty())
}

/// Whether `Host` is a name or an address of loopback, with or without a port.
pub(super) fn is_loopback_host(host: &[u8]) -> bool {
    let Ok(host) = Authority::try_from(host) else { return false };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    is_address || name == "localhost" || name.ends_with(".localhost")
}
