//! Who sends a request: the address and the scheme of the client, also behind a trusted proxy.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::header::{HOST, LOCATION};
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use tracing::debug;

use crate::headers::{FORWARDED_HOST, FORWARDED_PROTO, host_in, is_loopback_host, name_a_proxy, values};
use crate::json::Failure;
use crate::proxies::Proxies;
use crate::tls::AUTHORITY_PATH;

/// The connection that a request came on. The server adds it to each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connected {
    /// The other end.
    pub(super) peer: SocketAddr,
    /// Whether it is encrypted.
    pub(super) tls: bool,
    /// Whether a plain connection from beyond this machine is served.
    pub(super) plain_allowed: bool,
}

/// Who sends a request. Each request that came by the network has it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The address of the client. That is the other end of the connection, or what a trusted proxy says.
    pub address: IpAddr,
    /// Whether the client uses HTTPS, also up to a trusted proxy. Links and cookies are for `https` then.
    pub https: bool,
    /// Whether the request came through a proxy: see [`came_through_proxy`].
    pub through_proxy: bool,
    /// Whether the client has to use HTTPS instead.
    must_use_tls: bool,
}

impl Caller {
    /// A client whose connection is served as it is.
    pub const fn new(address: IpAddr, https: bool, through_proxy: bool) -> Self {
        Self { address, https, through_proxy, must_use_tls: false }
    }

    /// Whether the request came from this machine, and through no proxy.
    pub fn is_local(&self) -> bool {
        self.address.to_canonical().is_loopback() && !self.through_proxy
    }
}

/// Whether a request came through a proxy on this machine, although its connection comes from loopback: it has a header
/// that a proxy adds (`Forwarded`, `X-Forwarded-...`, `X-Real-IP`, `Via`), or a `Host` that is not a loopback name. A
/// proxy that adds none of them and calls the hub `localhost` cannot be told from a program of this machine.
pub fn came_through_proxy<B>(request: &axum::http::Request<B>) -> bool {
    let named = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes).filter(|host| !host.is_empty());
    let mut hosts = named.chain(request.uri().authority().map(|host| host.as_str().as_bytes()));
    name_a_proxy(request.headers()) || hosts.any(|host| !is_loopback_host(host))
}

/// Adds the [`Caller`] to a request. What a trusted proxy says of the host stands in for `Host`.
pub(super) async fn identify(State(proxies): State<Proxies>, mut request: Request, next: Next) -> Response {
    if let Some(connected) = request.extensions().get::<Connected>().copied() {
        let caller = caller(&proxies, connected, &request);
        debug!(
            client = %caller.address, through_proxy = caller.through_proxy, https = caller.https,
            method = %request.method(), path = request.uri().path(), "request"
        );
        request.extensions_mut().insert(caller);
        if proxies.trust(connected.peer.ip()) {
            take_host(&mut request);
        }
    }
    next.run(request).await
}

fn caller(proxies: &Proxies, connected: Connected, request: &Request) -> Caller {
    let peer = connected.peer.ip().to_canonical();
    let through_proxy = came_through_proxy(request);
    if !proxies.trust(peer) {
        let must_use_tls = !connected.tls && !connected.plain_allowed && !peer.is_loopback();
        return Caller { address: peer, https: connected.tls, through_proxy, must_use_tls };
    }
    let headers = request.headers();
    let https = match values(headers, &FORWARDED_PROTO).next_back() {
        Some(scheme) => scheme.eq_ignore_ascii_case("https"),
        None => connected.tls,
    };
    // A program on the proxy's machine that calls the hub itself sends none of these headers.
    Caller { address: proxies.client(peer, headers), https, through_proxy, must_use_tls: false }
}

/// Puts the host that the client used, as the proxy says it, in the place of the one that the proxy used.
fn take_host(request: &mut Request) {
    let said = values(request.headers(), &FORWARDED_HOST).next_back().filter(|host| !host.is_empty());
    let Some(host) = said.and_then(|host| HeaderValue::from_str(host).ok()) else { return };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(HOST, host);
}

/// Sends clients that have to use HTTPS there: to the same host and path. The certificate of the CA is served over
/// plain HTTP too.
///
/// # Errors
/// [`Code::BadRequest`] if the request names no host.
pub(super) async fn redirect(request: Request, next: Next) -> Result<Response, Failure> {
    let must = request.extensions().get::<Caller>().is_some_and(|caller| caller.must_use_tls);
    if !must || request.uri().path() == AUTHORITY_PATH {
        return Ok(next.run(request).await);
    }
    let url = secure_url(request.headers(), request.uri());
    Ok(to_https(&url.ok_or_else(|| Error::new(Code::BadRequest, "this address needs https"))?))
}

/// Sends a client to this URL, with the same method.
pub(super) fn to_https(url: &str) -> Response {
    let location = HeaderValue::try_from(url).unwrap_or_else(|_| HeaderValue::from_static("/"));
    (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response()
}

/// The URL of a request with `https`. `None` if the request names no host.
pub(super) fn secure_url(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let host = Authority::try_from(host_in(headers, uri)?).ok()?;
    let port = host.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Some(format!("https://{}{port}{path}", host.host()))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use tower::ServiceExt;

    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> Request {
        let built =
            headers.iter().fold(Request::get("/cat/Tom?x=1"), |built, (name, value)| built.header(*name, *value));
        built.body(Body::empty()).unwrap()
    }

    #[test]
    fn proxies_are_noticed_by_their_headers_or_by_the_host() {
        for direct in [
            &[][..],
            &[("host", "localhost:5000")],
            &[("host", "127.0.0.1:5000")],
            &[("host", "[::1]:5000")],
            &[("host", "LOCALHOST.")],
            &[("host", "hub.localhost")],
        ] {
            assert!(!came_through_proxy(&request(direct)), "{direct:?}");
        }
        for through in [
            &[("host", "cats.example.org")][..],
            &[("host", "192.168.1.7:5000")],
            &[("host", "localhost.example.org")],
            &[("host", "a b")],
            &[("host", "localhost"), ("x-forwarded-for", "127.0.0.1")],
            &[("host", "localhost"), ("x-forwarded-proto", "http")],
            &[("host", "localhost"), ("x-forwarded-port", "80")],
            &[("host", "localhost"), ("x-real-ip", "127.0.0.1")],
            &[("host", "localhost"), ("forwarded", "for=127.0.0.1")],
            &[("host", "localhost"), ("via", "1.1 proxy")],
            &[("host", "localhost"), ("host", "cats.example.org")],
        ] {
            assert!(came_through_proxy(&request(through)), "{through:?}");
        }
        let absolute = Request::get("http://cats.example.org/cat/Tom").header("host", "localhost");
        assert!(came_through_proxy(&absolute.body(Body::empty()).unwrap()), "the request line counts");
    }

    #[test]
    fn trusted_proxies_alone_say_who_the_client_is() {
        let proxies = Proxies::new(&["10.0.0.1".to_owned()]).unwrap();
        let of = |peer: &str, tls, headers: &[(&'static str, &str)]| {
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            caller(&proxies, Connected { peer, tls, plain_allowed: false }, &request(headers))
        };
        let said = [("x-forwarded-for", "192.168.1.7"), ("x-forwarded-proto", "https")];
        let trusted = of("10.0.0.1", false, &said);
        assert_eq!((trusted.address.to_string().as_str(), trusted.https), ("192.168.1.7", true));
        assert!(!trusted.must_use_tls, "it would be sent in circles");
        for stranger in ["10.0.0.2", "127.0.0.1"] {
            let forged = of(stranger, false, &said);
            assert_eq!((forged.address.to_string().as_str(), forged.https), (stranger, false));
            assert!(forged.through_proxy && !forged.is_local());
        }
        assert!(of("10.0.0.2", false, &[]).must_use_tls);
        assert!(!of("10.0.0.2", true, &[]).must_use_tls);
        assert!(!of("127.0.0.1", false, &[]).must_use_tls);
        assert!(of("127.0.0.1", false, &[("host", "localhost")]).is_local());
        assert!(of("::ffff:127.0.0.1", false, &[]).is_local());
        assert!(!of("10.0.0.1", false, &[("x-forwarded-for", "127.0.0.1")]).is_local());
    }

    #[test]
    fn redirect_keeps_host_port_and_path() {
        let of = |request: Request| secure_url(request.headers(), request.uri());
        let url = |host: &str| of(request(&[("host", host)]));
        assert_eq!(url("hub.local:5000").as_deref(), Some("https://hub.local:5000/cat/Tom?x=1"));
        assert_eq!(url("[fd00::1]:5000").as_deref(), Some("https://[fd00::1]:5000/cat/Tom?x=1"));
        assert_eq!(url("hub").as_deref(), Some("https://hub/cat/Tom?x=1"));
        assert_eq!(url("a b"), None);
        assert_eq!(of(request(&[])), None);
    }

    #[tokio::test]
    async fn plain_http_from_another_machine_is_sent_to_https() {
        let proxies = Proxies::new(&["10.0.0.1".to_owned()]).unwrap();
        let app = Router::new()
            .fallback(async || "meow")
            .layer(axum::middleware::from_fn(redirect))
            .layer(axum::middleware::from_fn_with_state(proxies, identify));
        let ask = async |peer: &str, tls, plain_allowed, path: &str| {
            let mut asked = Request::post(path).header("host", "hub.local:5000").body(Body::empty()).unwrap();
            let peer = SocketAddr::new(peer.parse().unwrap(), 1);
            asked.extensions_mut().insert(Connected { peer, tls, plain_allowed });
            let answer = app.clone().oneshot(asked).await.unwrap();
            let location = answer.headers().get(LOCATION).map(|location| location.to_str().unwrap().to_owned());
            (answer.status().as_u16(), location)
        };
        let sent = Some("https://hub.local:5000/cat/Tom?x=1".to_owned());
        assert_eq!(ask("192.168.1.7", false, false, "/cat/Tom?x=1").await, (308, sent));
        for (peer, tls, plain_allowed, path) in [
            ("127.0.0.1", false, false, "/cat/Tom"),
            ("::1", false, false, "/cat/Tom"),
            ("192.168.1.7", true, false, "/cat/Tom"),
            ("192.168.1.7", false, true, "/cat/Tom"),
            ("10.0.0.1", false, false, "/cat/Tom"),
            ("192.168.1.7", false, false, "/ca.crt"),
        ] {
            assert_eq!(ask(peer, tls, plain_allowed, path).await, (200, None), "{peer} {tls} {plain_allowed} {path}");
        }
    }

    #[test]
    fn host_that_a_trusted_proxy_says_stands_in_for_its_own() {
        let mut asked = request(&[("host", "127.0.0.1:5000"), ("x-forwarded-host", "evil.example, cats.example.org")]);
        take_host(&mut asked);
        assert_eq!(host_in(asked.headers(), asked.uri()), Some(&b"cats.example.org"[..]));
        let mut absolute = Request::get("http://127.0.0.1/a?b").header("x-forwarded-host", "cats.example.org");
        let mut asked = std::mem::take(&mut absolute).body(Body::empty()).unwrap();
        take_host(&mut asked);
        assert_eq!(host_in(asked.headers(), asked.uri()), Some(&b"cats.example.org"[..]));
        assert_eq!(asked.uri(), "/a?b");
    }
}
