//! Protects the hub from pages of other sites in the browser of a user. Requests other than GET must come from the
//! hub's own page or from a program. The gateway rejects unknown `Host` names, so that no page can read from the hub
//! through a name of its own that resolves to the hub's address (DNS rebinding). The calls of the original system are
//! GET requests, and everyone who reaches the hub can make them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::middleware::Next;
use axum::response::Response;
use hub_base::error::{Code, Error};

use crate::json::Failure;

/// Browsers send this header over trusted connections to say where a request comes from. A page cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Endings of names that do not exist in the public DNS: from RFC 6761, 6762 and 8375, ICANN's `internal`, and common
/// defaults of home routers.
const HOME_ENDINGS: [&str; 7] = ["localhost", "local", "internal", "home.arpa", "home", "lan", "localdomain"];

/// In the config, allows every name.
const ANY: &str = "*";

/// The host names that a request may use: addresses, names without a dot, names of home networks, and configured names.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// Allows the configured names, and the name in the URL that notifications contain.
    pub fn new(configured: &[String], public_url: Option<&str>) -> Self {
        let public = public_url.and_then(|url| url.parse::<Uri>().ok()).and_then(|url| url.host().map(str::to_owned));
        Self(configured.iter().cloned().chain(public).collect())
    }

    /// Whether a request may use this name.
    fn has(&self, name: &str) -> bool {
        !name.contains('.')
            || name.parse::<IpAddr>().is_ok()
            || HOME_ENDINGS.into_iter().any(|ending| ends_at_dot(name, ending))
            || self.0.iter().any(|known| known == ANY || bare(known).eq_ignore_ascii_case(name))
    }
}

/// Whether the text is valid as a configured name: [`ANY`], or a host name without a port.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name == ANY || !name.is_empty() && name.chars().all(is_plain)
}

/// The name or address in a `Host` value, which may have a port.
fn name_of(host: &[u8]) -> Option<String> {
    let authority = Authority::try_from(host).ok()?;
    Some(bare(authority.host().trim_start_matches('[').trim_end_matches(']')).to_owned())
}

/// Removes the trailing dot of a fully qualified name.
fn bare(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Whether `name` ends with the DNS labels of `ending`.
fn ends_at_dot(name: &str, ending: &str) -> bool {
    let (name, ending) = (name.as_bytes(), ending.as_bytes());
    name.len()
        .checked_sub(ending.len() + 1)
        .is_some_and(|at| name[at] == b'.' && name[at + 1..].eq_ignore_ascii_case(ending))
}

/// Passes on requests that use a known host name, or none, as old programs do.
///
/// # Errors
/// [`Code::UnknownHost`] for other names.
pub(super) async fn check_host(State(hosts): State<Hosts>, request: Request, next: Next) -> Result<Response, Failure> {
    if let Some(host) = host_of(request.headers(), request.uri()) {
        let name = name_of(host);
        if !name.as_deref().is_some_and(|name| hosts.has(name)) {
            let name = name.unwrap_or_else(|| String::from_utf8_lossy(host).into_owned());
            let message = format!("Unknown host name {name:?}; if it is yours, add it to `[page] hosts`.");
            return Err(Error::new(Code::UnknownHost, message).into());
        }
    }
    Ok(next.run(request).await)
}

/// The host that the request names.
fn host_of<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a [u8]> {
    let host =
        uri.authority().map(|host| host.as_str().as_bytes()).or_else(|| headers.get(HOST).map(|host| host.as_bytes()));
    host.filter(|host| !host.is_empty())
}

/// Passes on requests that change nothing, that come from a program, or that come from a page of this host.
///
/// # Errors
/// [`Code::ForeignOrigin`] for requests from pages of other sites.
pub(super) async fn check(request: Request, next: Next) -> Result<Response, Failure> {
    if !request.method().is_safe() && !is_same_site(request.headers(), request.uri()) {
        let message = "Blocked: the request came from another site. Behind a proxy, forward the `Host` header.";
        return Err(Error::new(Code::ForeignOrigin, message).into());
    }
    Ok(next.run(request).await)
}

fn is_same_site(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // Programs do not send `Origin`.
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let host = host_of(headers, uri);
    let origin = origin.as_bytes();
    let start = origin.windows(3).position(|window| window == b"://").map(|at| at + 3);
    start.zip(host).is_some_and(|(start, host)| origin[start..].eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_names_have_no_scheme_port_or_wildcard() {
        for good in ["*", "cats.example.org", "cats.example.org.", "hub_2"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            "cats.example.org:5000",
            "https://cats.example.org",
            "*.example.org",
            " cats.example.org",
            "b\u{fc}ro.example",
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }

    #[test]
    fn only_configured_and_private_names_are_accepted() {
        let has = |hosts: &Hosts, host: &str| name_of(host.as_bytes()).is_some_and(|name| hosts.has(&name));
        let hosts = Hosts::new(&["cats.example.org".into()], Some("https://Meow.example.net.:8443/hub"));
        for ours in [
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "[fe80::1]",
            "192.168.1.7",
            "hub",
            "raspberrypi:5000",
            "raspberrypi.local.",
            "Hub.Fritz.HOME.arpa:80",
            "cats.example.org",
            "CATS.example.org:5000",
            "meow.example.net",
        ] {
            assert!(has(&hosts, ours), "{ours}");
        }
        for strange in
            ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "local.evil.example", "evil.notlocal", "a b"]
        {
            assert!(!has(&hosts, strange), "{strange}");
        }
        assert!(has(&Hosts::new(&[ANY.into()], None), "evil.example"));
    }
}
