//! Decides who may call which route. One table says what each route needs; a test compares it with the OpenAPI
//! document. A route without an entry needs an admin.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use hub_people::{Identity, USERS_LOST, UserRole, Who, is_token};
use hyper::body::{Frame, SizeHint};
use tracing::warn;

use crate::app::App;
use crate::ca::CODE_PATH;
use crate::caller::{Caller, secure_url, to_https};
use crate::config::Loopback;
use crate::json::Failure;
use crate::tls::AUTHORITY_PATH;

/// Name of the cookie of a session.
pub(super) const SESSION_COOKIE: &str = "meowlink_session";

/// Whether the log has said that requests through proxies are refused.
static SAID_ONCE: Once = Once::new();

/// Requests whose bodies have a password or a secret.
const TAKES_PASSWORDS: [(&str, &str); 2] = [("POST", "/api/v1/session"), ("POST", "/api/v1/setup")];

/// How often the hub asks whether the client of an open stream may still have it.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing. These routes show no data of the hub.
    Nothing,
    /// A route of the original system: open on this machine and, with `insecure`, on the network; else a role.
    Contract(UserRole),
    /// A health check or metrics: open on this machine; else a role, once there are users.
    Monitoring(UserRole),
    /// The API: a role, once there are users.
    Role(UserRole),
    /// Users, tokens and sessions: a role, from everywhere. The first user comes from the set-up link or from a command
    /// on this machine, so that nobody who is taken for this machine can become the first admin.
    People(UserRole),
}

/// A route, what it needs, and the word for the audit log if requests are noted there.
type Row = (&'static str, &'static str, Need, Option<&'static str>);

use Need::{Contract, Monitoring, Nothing, People, Role};
use UserRole::{Admin, Listener, Owner, Viewer};

/// All routes. HEAD needs what GET needs.
pub(super) const TABLE: &[Row] = &[
    ("GET", "/", Nothing, None),
    ("GET", "/page/{name}", Nothing, None),
    ("GET", "/healthz", Nothing, None),
    ("GET", AUTHORITY_PATH, Nothing, None),
    ("GET", CODE_PATH, Nothing, None),
    ("GET", "/cat/{name}", Contract(Owner), None),
    ("GET", "/dog/{name}", Contract(Owner), None),
    ("GET", "/analyze/{name}", Contract(Owner), None),
    ("GET", "/readyz", Monitoring(Viewer), None),
    ("GET", "/metrics", Monitoring(Viewer), None),
    ("GET", "/api/v1/openapi.json", Role(Viewer), None),
    ("GET", "/api/v1/analyses", Role(Viewer), None),
    ("GET", "/api/v1/analyses/{id}", Role(Viewer), None),
    ("GET", "/api/v1/backup", Role(Viewer), None),
    ("POST", "/api/v1/backup", Role(Admin), Some("backup")),
    ("GET", "/api/v1/cats", Role(Viewer), None),
    ("GET", "/api/v1/counts", Role(Viewer), None),
    ("GET", "/api/v1/events", Role(Viewer), None),
    ("GET", "/api/v1/events.csv", Role(Viewer), None),
    ("GET", "/api/v1/events.zip", Role(Viewer), None),
    ("GET", "/api/v1/events/{id}", Role(Viewer), None),
    ("DELETE", "/api/v1/events/{id}", Role(Owner), Some("delete_event")),
    ("PUT", "/api/v1/events/{id}/cat", Role(Owner), Some("name_cat")),
    ("DELETE", "/api/v1/events/{id}/cat", Role(Owner), Some("forget_cat")),
    ("GET", "/api/v1/events/{id}/clip.wav", Role(Viewer), None),
    ("PUT", "/api/v1/events/{id}/label", Role(Owner), Some("label")),
    ("GET", "/api/v1/events/{id}/spectrogram.png", Role(Viewer), None),
    ("GET", "/api/v1/labels", Role(Viewer), None),
    ("GET", "/api/v1/labels.csv", Role(Viewer), None),
    ("GET", "/api/v1/own-labels", Role(Viewer), None),
    ("POST", "/api/v1/own-labels", Role(Owner), Some("add_own_label")),
    ("PUT", "/api/v1/own-labels/{id}", Role(Owner), Some("rename_own_label")),
    ("DELETE", "/api/v1/own-labels/{id}", Role(Owner), Some("remove_own_label")),
    ("GET", "/api/v1/listening", Role(Viewer), None),
    ("GET", "/api/v1/nodes", Role(Viewer), None),
    ("GET", "/api/v1/nodes/live.wav", Role(Listener), Some("live_listening")),
    ("GET", "/api/v1/nodes/score-preview", Role(Viewer), None),
    ("POST", "/api/v1/nodes/pair", Role(Admin), Some("pair_node")),
    ("POST", "/api/v1/nodes/waiting/{key}/admit", Role(Admin), Some("admit_node")),
    ("POST", "/api/v1/nodes/waiting/{key}/refuse", Role(Admin), Some("refuse_node")),
    ("GET", "/api/v1/notices", Role(Viewer), None),
    ("POST", "/api/v1/notices/{id}/retry", Role(Owner), Some("retry_notice")),
    ("GET", "/api/v1/privacy", Role(Viewer), None),
    ("POST", "/api/v1/deletions", Role(Admin), Some("delete_everything")),
    ("POST", "/api/v1/reevaluations/{id}/undo", Role(Owner), Some("undo_reevaluation")),
    ("GET", "/api/v1/stream", Role(Viewer), None),
    ("GET", "/api/v1/session", Nothing, None),
    ("POST", "/api/v1/session", Nothing, None),
    ("DELETE", "/api/v1/session", Nothing, None),
    ("POST", "/api/v1/setup", Nothing, Some("set_up")),
    ("GET", "/api/v1/sessions", People(Admin), None),
    ("DELETE", "/api/v1/sessions/{id}", People(Admin), Some("end_session")),
    ("GET", "/api/v1/users", People(Admin), None),
    ("POST", "/api/v1/users", People(Admin), Some("add_user")),
    ("PUT", "/api/v1/users/{name}", People(Admin), Some("change_user")),
    ("DELETE", "/api/v1/users/{name}", People(Admin), Some("remove_user")),
    ("GET", "/api/v1/tokens", People(Admin), None),
    ("POST", "/api/v1/tokens", People(Admin), Some("add_token")),
    ("DELETE", "/api/v1/tokens/{name}", People(Admin), Some("remove_token")),
    ("GET", "/api/v1/audit", People(Admin), None),
];

/// Where a request comes from, and what that means at present.
#[derive(Debug, Clone, Copy)]
struct Situation {
    /// It comes from this machine, not through a proxy.
    local: bool,
    /// There are users.
    has_users: bool,
    /// `insecure` of the config.
    insecure: bool,
    /// `[gateway] loopback` of the config.
    loopback: Loopback,
}

impl Need {
    /// Whether the request is allowed without a user or token.
    fn is_open(self, at: Situation) -> bool {
        let local = at.local && (!at.has_users || at.loopback == Loopback::Open);
        let without_users = at.insecure && !at.has_users;
        match self {
            Nothing => true,
            Contract(_) => at.local || at.insecure,
            Monitoring(_) => at.local || without_users,
            Role(_) => local || without_users,
            People(_) => false,
        }
    }

    fn role(self) -> Option<UserRole> {
        match self {
            Nothing => None,
            Contract(role) | Monitoring(role) | Role(role) | People(role) => Some(role),
        }
    }
}

fn row(method: &Method, route: &str) -> Row {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let of_route = TABLE.iter().filter(|(_, path, ..)| *path == route);
    let found = of_route.clone().find(|(known, ..)| *known == method).copied();
    // A method that the route does not have is answered with 405 to whoever may use the route.
    let other = || of_route.clone().max_by_key(|(.., need, _)| need.role()).map(|(.., need, _)| ("", "", *need, None));
    found.or_else(other).unwrap_or(("", "", People(Admin), None))
}

/// Who a request is from. It is added to each request as an extension.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    /// The user or token. `None`: the request has none, or none is needed.
    pub(super) identity: Option<Identity>,
    /// IP address of the client, if it is known.
    pub(super) address: Option<IpAddr>,
    /// Whether the client uses HTTPS, so that cookies may be marked `Secure`.
    pub(super) https: bool,
    local: bool,
}

impl Asker {
    /// Whether the client sees data without a log-in.
    pub(super) fn sees_data(&self, app: &App, has_users: bool) -> bool {
        let at = Situation { local: self.local, has_users, insecure: app.insecure, loopback: app.loopback };
        Role(Viewer).is_open(at)
    }

    /// The session, if the request has one.
    pub(super) fn session(&self) -> Option<i64> {
        match self.identity.as_ref().map(|identity| &identity.who) {
            Some(Who::User { session, .. }) => Some(*session),
            _ => None,
        }
    }

    /// Whether the request came over the network by plain HTTP although the gateway has TLS, so that everybody there
    /// can read it. What a proxy does on its other side is not known.
    fn is_in_plain_sight(&self, app: &App) -> bool {
        let beyond = self.address.is_some_and(|address| !address.to_canonical().is_loopback());
        beyond && !self.https && app.certificates.is_some()
    }

    /// The name for the audit log and for people.
    pub(super) fn name(&self) -> String {
        match &self.identity {
            Some(identity) => identity.who.to_string(),
            None if self.local => "this machine".to_owned(),
            None => "anyone".to_owned(),
        }
    }
}

/// What a request was about, for the audit log. A handler adds it to its answer where the path does not say it.
#[derive(Debug, Clone)]
struct Subject(String);

/// An answer with a subject for the audit log.
pub(super) fn about(subject: String, answer: impl IntoResponse) -> Response {
    let mut answer = answer.into_response();
    answer.extensions_mut().insert(Subject(subject));
    answer
}

/// Passes on requests that are allowed, and notes in the audit log those that changed something.
///
/// # Errors
/// [`Code::Unauthenticated`] without a user or token, [`Code::Forbidden`] if the role does not suffice.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(route) = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned()) else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    let (.., need, action) = row(&parts.method, &route);
    let asker = match asker(&app, need, &parts, true).await {
        Ok(asker) => asker,
        Err(error) => return refusal(error, &parts),
    };
    if asker.is_in_plain_sight(&app)
        && let Some(url) = secure_url(&parts.headers, &parts.uri)
    {
        let shows_secrets = asker.session().is_some() || TAKES_PASSWORDS.contains(&(parts.method.as_str(), &route));
        if shows_secrets && !matches!(need, Contract(_) | Monitoring(_)) {
            let message = format!("passwords and log-ins are not for plain HTTP: use {url}");
            return Failure::from(Error::new(Code::Forbidden, message)).into_response();
        }
        if route == "/" && app.people.has_users().await.unwrap_or(true) {
            return to_https(&url);
        }
    }
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let action = action.filter(|_| parts.method != Method::HEAD);
    let asked = parts.clone();
    parts.extensions.insert(asker.clone());
    let request = Request::from_parts(parts, body);
    let answer = match action {
        None => next.run(request).await,
        Some(action) => noted(Arc::clone(&app), asker, action, path, next.run(request)).await,
    };
    answer.map(|body| if body.size_hint().exact().is_some() { body } else { Allowed::body(body, app, need, asked) })
}

/// Answers a request, and notes it in the audit log if it succeeds. Both end, even if the client hangs up meanwhile:
/// what was done is noted.
async fn noted(
    app: Arc<App>,
    asker: Asker,
    action: &'static str,
    path: String,
    answer: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let work = tokio::spawn(async move {
        let answer = answer.await;
        if answer.status().is_success() {
            let subject = answer.extensions().get::<Subject>().map_or(path, |Subject(text)| text.clone());
            app.people.record(&asker.name(), asker.address, action, &subject).await;
        }
        answer
    });
    work.await.unwrap_or_else(|error| {
        Failure::from(Error::new(Code::Internal, format!("the request was not finished: {error}"))).into_response()
    })
}

/// The body of a stream, which is cut once its request would be refused: the user is removed, the session is over, the
/// role is lower, or there is a first user.
struct Allowed {
    body: Body,
    refused: Pin<Box<dyn Future<Output = Error> + Send>>,
}

impl Allowed {
    fn body(body: Body, app: Arc<App>, need: Need, asked: Parts) -> Body {
        let refused = Box::pin(async move {
            loop {
                tokio::time::sleep(ASK_AGAIN).await;
                match asker(&app, need, &asked, false).await {
                    Err(error) if [Code::Unauthenticated, Code::Forbidden].contains(&error.code) => return error,
                    // While the store does not answer, streams go on.
                    Ok(_) | Err(_) => {}
                }
            }
        });
        Body::new(Self { body, refused })
    }
}

impl HttpBody for Allowed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.refused.as_mut().poll(cx) {
            Poll::Ready(error) => {
                // The connection ends here, so that no client takes the stream for complete.
                self.refused = Box::pin(std::future::pending());
                self.body = Body::empty();
                Poll::Ready(Some(Err(axum::Error::new(error))))
            }
            Poll::Pending => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn refusal(error: Error, request: &Parts) -> Response {
    let is_unknown = error.code == Code::Unauthenticated;
    if is_unknown && request.extensions.get::<Caller>().is_some_and(|caller| caller.through_proxy) {
        SAID_ONCE.call_once(|| {
            warn!(
                "a request through a proxy was refused: it needs a user or a token, as from any other machine. \
                 `hub user add NAME` adds a user"
            );
        });
    }
    let mut answer = Failure::from(error).into_response();
    if is_unknown {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// Who asks. `is_use`: a session or token is used, which keeps a session alive.
async fn asker(app: &App, need: Need, request: &Parts, is_use: bool) -> Result<Asker, Error> {
    let caller = request.extensions.get::<Caller>().copied();
    let local = caller.is_some_and(|caller| caller.is_local());
    let (address, https) = (caller.map(|caller| caller.address), caller.is_some_and(|caller| caller.https));
    let asker = |identity| Asker { identity, address, https, local };
    let at = Situation { local, has_users: true, insecure: app.insecure, loopback: app.loopback };
    if need.is_open(at) && need != Nothing {
        // Open whether there are users or not: the store need not answer. If it does, the name is known.
        let identity = match identity(app, &request.headers, is_use).await {
            Err(error) if error.code == Code::Unauthenticated => return Err(error),
            identity => identity.ok().flatten(),
        };
        return Ok(asker(identity));
    }
    if need == Nothing && !request.uri.path().starts_with("/api/") {
        return Ok(asker(None));
    }
    let identity = identity(app, &request.headers, is_use).await?;
    let Some(role) = need.role() else { return Ok(asker(identity)) };
    if identity.as_ref().is_some_and(|identity| identity.role >= role) {
        return Ok(asker(identity));
    }
    let has_users = app.people.has_users().await?;
    if need.is_open(Situation { has_users, ..at }) {
        return Ok(asker(identity));
    }
    let lost = has_users && identity.is_none() && app.people.are_lost().await?;
    Err(match identity {
        None if lost => Error::new(Code::Unauthenticated, USERS_LOST),
        Some(identity) => {
            let message = format!("this needs the role {role}; {} has the role {}", identity.who, identity.role);
            Error::new(Code::Forbidden, message)
        }
        None if has_users => Error::new(Code::Unauthenticated, "log in, or send a token as `Authorization: Bearer`"),
        None => {
            let message = "the hub has no users yet: run `hub user add NAME` on its machine, or open the set-up link, if \
                           its log has one";
            Error::new(Code::Unauthenticated, message)
        }
    })
}

/// The user or program that a request is from, by its token or else its cookie. A cookie of a session that is over
/// counts as none.
///
/// # Errors
/// [`Code::Unauthenticated`] for a token that the hub does not know, or no longer.
async fn identity(app: &App, headers: &HeaderMap, is_use: bool) -> Result<Option<Identity>, Error> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    if let Some(token) = values.filter_map(is_token).next() {
        let unknown = || Error::new(Code::Unauthenticated, "this token is unknown, removed or expired");
        let found = if is_use { app.people.by_token(token).await? } else { app.people.peek_token(token).await? };
        return found.map(Some).ok_or_else(unknown);
    }
    match cookie(headers) {
        Some(cookie) if is_use => app.people.by_session(cookie).await,
        Some(cookie) => app.people.peek_session(cookie).await,
        None => Ok(None),
    }
}

/// The value of the session's cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn table_and_openapi_document_have_the_same_routes() {
        let (_, document) = crate::api().split_for_parts();
        let json: serde_json::Value = serde_json::from_str(&document.to_json().unwrap()).unwrap();
        let documented: BTreeSet<_> = json["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
            })
            .chain(crate::UNDOCUMENTED_ROUTES.map(|path| ("GET".to_owned(), path.to_owned())))
            .collect();
        let rows: BTreeSet<_> = TABLE.iter().map(|(method, path, ..)| ((*method).into(), (*path).into())).collect();
        assert_eq!(rows, documented);
        assert_eq!(rows.len(), TABLE.len(), "a route has two rows");
    }

    #[test]
    fn whatever_changes_something_is_noted_and_unknown_routes_need_an_admin() {
        for (method, path, need, action) in TABLE {
            let changes = *method != "GET" && *path != "/api/v1/session";
            assert!(!changes || action.is_some(), "{method} {path} is not in the audit log");
            assert!(!changes || need.role() > Some(Viewer) || *path == "/api/v1/setup", "{method} {path}");
        }
        assert_eq!(row(&Method::POST, "/api/v1/new").2, People(Admin));
        assert_eq!(row(&Method::HEAD, "/metrics").2, Monitoring(Viewer));
        assert_eq!(row(&Method::POST, "/cat/{name}").2, Contract(Owner));
        assert_eq!(row(&Method::PATCH, "/api/v1/events/{id}").2, Role(Owner));
    }

    #[test]
    fn what_is_open_where() {
        let open = |need: Need, local, has_users, insecure, loopback| {
            need.is_open(Situation { local, has_users, insecure, loopback })
        };
        let (until, always) = (Loopback::UntilFirstUser, Loopback::Open);
        for (need, on_this_machine, insecure_without_users, insecure_with_users) in [
            (Nothing, [true, true], true, true),
            (Contract(Owner), [true, true], true, true),
            (Monitoring(Viewer), [true, true], true, false),
            (Role(Viewer), [true, false], true, false),
            (People(Admin), [false, false], false, false),
        ] {
            let local = [open(need, true, false, false, until), open(need, true, true, false, until)];
            assert_eq!(local, on_this_machine, "{need:?}");
            assert_eq!(open(need, true, true, false, always), need != People(Admin), "{need:?}");
            assert_eq!(open(need, false, false, true, until), insecure_without_users, "{need:?}");
            assert_eq!(open(need, false, true, true, always), insecure_with_users, "{need:?}");
            assert_eq!(open(need, false, false, false, always), need == Nothing, "{need:?}: through a proxy");
        }
    }
}
