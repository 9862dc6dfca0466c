//! Where a request comes from.

use std::net::IpAddr;

use axum::http::header::{FORWARDED, HOST, VIA};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

/// The connection that a request came on. The server of the connection adds it to each request as an extension. A
/// request without it counts as one from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// IP address of the client.
    pub address: IpAddr,
    /// Whether the connection is encrypted, so that cookies may be marked `Secure`.
    pub secure: bool,
}

/// Beginning of the headers that proxies add.
const X_FORWARDED: &str = "x-forwarded-";

/// A header that nginx adds in many configs.
const X_REAL_IP: &str = "x-real-ip";

impl Caller {
    /// Whether the request comes from a program or browser on this machine: the connection does, and nothing says that
    /// it came through a proxy. A proxy on this machine that adds no header and replaces `Host` cannot be told apart.
    pub(super) fn is_local(self, headers: &HeaderMap, uri: &Uri) -> bool {
        self.address.to_canonical().is_loopback() && !is_forwarded(headers) && names_loopback(headers, uri)
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    let says_so = |name: &str| name == X_REAL_IP || name.starts_with(X_FORWARDED);
    headers.contains_key(FORWARDED) || headers.contains_key(VIA) || headers.keys().any(|name| says_so(name.as_str()))
}

/// Whether the request names this machine by a name that only this machine has, or by none.
fn names_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    let is_loopback = |authority: &Authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let address = name.parse::<IpAddr>().map(|address| address.to_canonical().is_loopback());
        address.unwrap_or_else(|_| name.eq_ignore_ascii_case("localhost"))
    };
    let named = headers.get_all(HOST).iter().filter(|host| !host.is_empty());
    uri.authority().is_none_or(is_loopback)
        && named.map(|host| Authority::try_from(host.as_bytes())).all(|host| host.is_ok_and(|host| is_loopback(&host)))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn is_local(address: &str, headers: &[(&str, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        Caller { address: address.parse().unwrap(), secure: false }.is_local(&headers, &Uri::from_static("/"))
    }

    #[test]
    fn only_a_direct_request_of_this_machine_is_local() {
        for host in ["localhost:5000", "127.0.0.1", "[::1]:5000", "LOCALHOST.", "127.0.1.1:80"] {
            assert!(is_local("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(is_local("::ffff:127.0.0.1", &[]) && is_local("::1", &[]));
        assert!(!is_local("192.0.2.1", &[("host", "localhost")]));
        // nginx with `proxy_set_header Host $host`, Tailscale, a name that an attacker lets resolve to this machine.
        for host in ["cats.example.org", "kitchen.local:5000", "192.168.1.7", "localhost.example.org", "a b"] {
            assert!(!is_local("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(!is_local("127.0.0.1", &[("host", "localhost"), ("host", "cats.example.org")]));
        for header in [
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-x",
            "x-real-ip",
        ] {
            assert!(!is_local("127.0.0.1", &[("host", "localhost"), (header, "127.0.0.1")]), "{header}");
        }
    }

    /// Like `ssh -L`, a bare proxy that puts its own target into `Host` looks like a program of this machine: the docs
    /// say that it must pass `Host` on.
    #[test]
    fn proxy_that_says_nothing_cannot_be_told_apart() {
        assert!(is_local("127.0.0.1", &[("host", "127.0.0.1:5000"), ("connection", "close")]));
    }
}
