//! Protects the hub from pages of other sites in the browser of a user. Requests other than GET, and those GET requests
//! that do something ([`ACTS`]), must come from the hub's own page, from a program, or from the address line. The
//! gateway rejects unknown `Host` names, so that no page can read from the hub through a name of its own that resolves
//! to the hub's address (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ORIGIN, REFERER};
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::middleware::Next;
use axum::response::Response;
use hub_base::error::{Code, Error};

use crate::headers::host_in;
use crate::json::Failure;
use crate::search::{HOME_ENDINGS, SearchDomains};

/// Routes whose GET requests do something: they call an animal, start an analysis, or open the microphone or one of the
/// few update streams, or take one of the few places for archives. Clients of the original system are programs.
pub(super) const ACTS: [&str; 6] =
    ["/cat/{name}", "/dog/{name}", "/analyze/{name}", "/api/v1/nodes/live.wav", "/api/v1/stream", "/api/v1/events.zip"];

/// Browsers send this header over trusted connections to say where a request comes from. A page cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// In the config, allows every name.
pub(super) const ANY: &str = "*";

/// The host names that a request may use: addresses, names without a dot, names of home networks, names of machines in
/// the search domains of this machine, and configured names.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    configured: Arc<[String]>,
    search: SearchDomains,
}

impl Hosts {
    /// Allows the configured names, and the name in the URL that notifications contain.
    pub fn new(configured: &[String], public_url: Option<&str>) -> Self {
        let public = public_url.and_then(|url| url.parse::<Uri>().ok()).and_then(|url| url.host().map(str::to_owned));
        let configured = configured.iter().cloned().chain(public).collect();
        Self { configured, search: SearchDomains::default() }
    }

    /// Whether this is a configured name.
    fn names(&self, name: &str) -> bool {
        self.configured.iter().any(|known| bare(known).eq_ignore_ascii_case(name))
    }

    /// Whether a request may use this name, search domains aside.
    fn has(&self, name: &str) -> bool {
        !name.contains('.')
            || name.parse::<IpAddr>().is_ok()
            || HOME_ENDINGS.into_iter().any(|ending| ends_at_dot(name, ending))
            || self.configured.iter().any(|known| known == ANY)
            || self.names(name)
    }
}

/// Whether the text is valid as a configured name: [`ANY`], or a host name without a port.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name == ANY || !name.is_empty() && name.chars().all(is_plain)
}

/// The name or address in a `Host` value, which may have a port.
fn name_of(host: &[u8]) -> Option<String> {
    Some(name_in(&Authority::try_from(host).ok()?).to_owned())
}

/// The name or address, without port, brackets and trailing dot.
fn name_in(authority: &Authority) -> &str {
    bare(authority.host().trim_start_matches('[').trim_end_matches(']'))
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
    if let Some(host) = host_in(request.headers(), request.uri()) {
        let name = name_of(host);
        let known = match &name {
            Some(name) => hosts.has(name) || hosts.search.have(name).await,
            None => false,
        };
        if !known {
            let name = name.unwrap_or_else(|| String::from_utf8_lossy(host).into_owned());
            let message = format!("Unknown host name {name:?}; if it is yours, add it to `[page] hosts`.");
            return Err(Error::new(Code::UnknownHost, message).into());
        }
    }
    Ok(next.run(request).await)
}

/// Passes on requests that do nothing, that come from a program, or that come from a page of this host.
///
/// # Errors
/// [`Code::ForeignOrigin`] for requests from pages of other sites.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Result<Response, Failure> {
    if !passes(&hosts, &request) {
        let message = "Blocked: the request came from another site. Behind a proxy, forward the `Host` header.";
        return Err(Error::new(Code::ForeignOrigin, message).into());
    }
    Ok(next.run(request).await)
}

fn passes(hosts: &Hosts, request: &Request) -> bool {
    let (headers, uri) = (request.headers(), request.uri());
    if !request.method().is_safe() {
        return may_change(hosts, headers, uri);
    }
    let acts = request.extensions().get::<MatchedPath>().is_some_and(|path| ACTS.contains(&path.as_str()));
    !acts || may_act(hosts, headers, uri)
}

/// Whether a request may change something. Other ports of this host are other sites, as far as ports are known.
fn may_change(hosts: &Hosts, headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    // Programs do not send `Origin`.
    let Some(origin) = headers.get(ORIGIN) else { return true };
    is_own(hosts, origin.as_bytes(), host_in(headers, uri), true)
}

/// Whether a GET request may call an animal or open a stream.
fn may_act(hosts: &Hosts, headers: &HeaderMap, uri: &Uri) -> bool {
    let from = headers.get(ORIGIN).or_else(|| headers.get(REFERER));
    let is_own = |from: &[u8]| is_own(hosts, from, host_in(headers, uri), false);
    match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => true,
        // Another port of this host, or another host of this site.
        Some(b"same-site") => from.is_some_and(|from| is_own(from.as_bytes())),
        Some(_) => false,
        // By plain HTTP, browsers do not say. Programs send neither of these headers.
        None => from.is_none_or(|from| is_own(from.as_bytes())),
    }
}

/// Whether a request from `from`, the value of `Origin` or `Referer`, comes from a page of the hub. That is a page of
/// `host`; some proxies put another host there, and then a page of a configured name. With `ports`, the ports must be
/// equal too. Some proxies leave the port out of `Host`, and then only the hosts can be compared.
fn is_own(hosts: &Hosts, from: &[u8], host: Option<&[u8]>, ports: bool) -> bool {
    let Ok(from) = Uri::try_from(from) else { return false };
    let (Some(scheme), Some(authority)) = (from.scheme(), from.authority()) else { return false };
    let Some(host) = host.and_then(|host| Authority::try_from(host).ok()) else { return false };
    let name = name_in(authority);
    if !name_in(&host).eq_ignore_ascii_case(name) {
        return hosts.names(name);
    }
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    !ports || host.port_u16().is_none_or(|port| authority.port_u16().unwrap_or(default_port) == port)
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

    #[test]
    fn pages_of_the_hub_are_told_from_those_of_other_sites() {
        let hosts = Hosts::new(&["cats.example.org".into()], None);
        let own = |from: &str, host: &str, ports| is_own(&hosts, from.as_bytes(), Some(host.as_bytes()), ports);
        for (from, host) in [
            ("http://hub:8080", "hub:8080"),
            ("https://HUB:8080", "hub:8080"),
            ("http://hub", "hub"),
            ("http://hub", "hub:80"),
            ("https://hub", "hub:443"),
            ("http://[::1]:5000", "[::1]:5000"),
            // A proxy that leaves the port out of `Host`.
            ("http://hub.local:26180", "hub.local"),
            // A proxy that puts its own upstream there, and a configured name.
            ("https://cats.example.org", "127.0.0.1:5000"),
        ] {
            assert!(own(from, host, true), "{from} {host}");
        }
        for (from, host) in [
            ("http://evil.example", "hub"),
            ("http://evil.example", "127.0.0.1:5000"),
            ("http://hub.evil.example", "hub"),
            ("http://hub:8081", "hub:8080"),
            ("http://hub", "hub:8080"),
            ("https://cats.example.org:8443", "cats.example.org:443"),
            ("null", "null"),
            ("hub", "hub"),
            ("", "hub"),
        ] {
            assert!(!own(from, host, true), "{from} {host}");
        }
        assert!(own("http://hub:8123/lovelace?x=1", "hub:5000", false), "another port of this host may call a cat");
        assert!(!is_own(&hosts, b"http://hub", None, false), "nobody knows the host");
        assert!(!is_own(&Hosts::new(&[ANY.into()], None), b"http://evil.example", Some(b"hub"), true));
    }
}

#[cfg(test)]
mod fuzz {
    use axum::http::HeaderValue;
    use axum::http::header::HOST;
    use fuzzing::{hold, nearly};
    use proptest::prelude::*;

    use super::*;

    /// Values of `Host` and `Origin` around `name`.
    fn values(names: &[&str]) -> Vec<Vec<u8>> {
        let forms = ["NAME", "NAME:5000", "http://NAME:5000", "https://NAME/a?b", "http://u:p@NAME", "NAME."];
        names.iter().flat_map(|name| forms.map(|form| form.replace("NAME", name).into_bytes())).collect()
    }

    const WORDS: [&str; 14] =
        [".", ":", "@", "//", "[", "]", "#", "\\", "%2e", ".local", "evil.example", "127.0.0.1", "null", "\u{ff0e}"];

    #[test]
    fn name_of_another_site_is_not_let_in_however_it_is_written() {
        let hosts = Hosts::new(&["cats.example.org".into()], None);
        // A name of the public DNS, within any text that is taken for a host.
        let seeds =
            values(&["evil.example", "a.evil.example", "cats.example.org.evil.example", "hub.local.evil.example"]);
        hold(3_000, &nearly(seeds, &WORDS), |host| {
            let Some(name) = name_of(&host) else { return Ok(()) };
            prop_assert!(
                !name.is_empty()
                    || host.contains(&b']')
                    || host.contains(&b'.')
                    || host.starts_with(b":")
                    || host.contains(&b'@')
            );
            if hosts.has(&name) && name.to_ascii_lowercase().ends_with(".example") {
                return Err(TestCaseError::fail(format!("{name:?} is let in")));
            }
            Ok(())
        });
    }

    #[test]
    fn page_that_may_change_things_is_of_this_host_or_of_a_configured_one() {
        let hosts = Hosts::new(&["cats.example.org".into()], None);
        let from = nearly(values(&["evil.example", "hub.evil.example", "hub", "hub:5000.evil.example"]), &WORDS);
        let host = nearly(values(&["hub", "127.0.0.1", "[::1]"]), &WORDS);
        hold(3_000, &(from, host, any::<bool>()), |(from, host, ports)| {
            let mut headers = HeaderMap::new();
            let (Ok(origin), Ok(value)) = (HeaderValue::from_bytes(&from), HeaderValue::from_bytes(&host)) else {
                return Ok(());
            };
            headers.insert(ORIGIN, origin);
            headers.insert(HOST, value);
            let uri = Uri::from_static("/");
            // Neither of them panics, whatever the headers are.
            let (_, _) = (may_change(&hosts, &headers, &uri), may_act(&hosts, &headers, &uri));
            if is_own(&hosts, &from, Some(&host), ports) {
                let from = Uri::try_from(from.as_slice()).unwrap();
                let name = name_in(from.authority().unwrap()).to_ascii_lowercase();
                let same = name_of(&host).is_some_and(|host| host.eq_ignore_ascii_case(&name));
                prop_assert!(same || name == "cats.example.org", "{from} is taken for a page of {host:?}");
            }
            Ok(())
        });
    }
}
