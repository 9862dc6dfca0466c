//! Decides who may call which route. One table says what each route needs; a test compares it with the OpenAPI
//! document. A route without an entry needs an admin.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use hub_people::{Identity, UserRole, is_token};

use crate::app::App;
use crate::ca::CODE_PATH;
use crate::caller::Caller;
use crate::config::Loopback;
use crate::json::Failure;
use crate::tls::AUTHORITY_PATH;

/// Name of the cookie of a session.
pub(super) const SESSION_COOKIE: &str = "meowlink_session";

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
    /// Users, tokens and sessions: a role. Without users, they are open on this machine alone, whatever `insecure`
    /// says, so that nobody on the network can become the first admin.
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
    ("GET", "/api/v1/counts", Role(Viewer), None),
    ("GET", "/api/v1/events", Role(Viewer), None),
    ("GET", "/api/v1/events.csv", Role(Viewer), None),
    ("GET", "/api/v1/events/{id}", Role(Viewer), None),
    ("DELETE", "/api/v1/events/{id}", Role(Owner), Some("delete_event")),
    ("GET", "/api/v1/events/{id}/clip.wav", Role(Viewer), None),
    ("PUT", "/api/v1/events/{id}/label", Role(Owner), Some("label")),
    ("GET", "/api/v1/events/{id}/spectrogram.png", Role(Viewer), None),
    ("GET", "/api/v1/labels", Role(Viewer), None),
    ("GET", "/api/v1/labels.csv", Role(Viewer), None),
    ("GET", "/api/v1/listening", Role(Viewer), None),
    ("GET", "/api/v1/nodes", Role(Viewer), None),
    ("GET", "/api/v1/nodes/live.wav", Role(Listener), Some("live_listening")),
    ("POST", "/api/v1/nodes/waiting/{key}/admit", Role(Admin), Some("admit_node")),
    ("POST", "/api/v1/nodes/waiting/{key}/refuse", Role(Admin), Some("refuse_node")),
    ("GET", "/api/v1/notices", Role(Viewer), None),
    ("POST", "/api/v1/notices/{id}/retry", Role(Owner), Some("retry_notice")),
    ("GET", "/api/v1/privacy", Role(Viewer), None),
    ("POST", "/api/v1/deletions", Role(Admin), Some("delete_everything")),
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
            People(_) => local,
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
pub(super) struct Subject(pub(super) String);

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
    let asker = match asker(&app, need, &parts).await {
        Ok(asker) => asker,
        Err(error) => return refusal(error),
    };
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    parts.extensions.insert(asker.clone());
    let answer = next.run(Request::from_parts(parts, body)).await;
    if let Some(action) = action
        && answer.status().is_success()
    {
        let subject = answer.extensions().get::<Subject>().map_or(path, |Subject(text)| text.clone());
        app.people.record(&asker.name(), asker.address, action, &subject).await;
    }
    answer
}

fn refusal(error: Error) -> Response {
    let is_unknown = error.code == Code::Unauthenticated;
    let mut answer = Failure::from(error).into_response();
    if is_unknown {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

async fn asker(app: &App, need: Need, request: &Parts) -> Result<Asker, Error> {
    let caller = request.extensions.get::<Caller>().copied();
    let local = caller.is_some_and(|caller| caller.is_local());
    let (address, https) = (caller.map(|caller| caller.address), caller.is_some_and(|caller| caller.https));
    let asker = |identity| Asker { identity, address, https, local };
    let at = Situation { local, has_users: true, insecure: app.insecure, loopback: app.loopback };
    if need.is_open(at) && need != Nothing {
        // Open whether there are users or not: the store need not answer. If it does, the name is known.
        let identity = match need {
            Role(_) | People(_) => identity(app, &request.headers).await.ok().flatten(),
            _ => None,
        };
        return Ok(asker(identity));
    }
    if need == Nothing && !request.uri.path().starts_with("/api/") {
        return Ok(asker(None));
    }
    let identity = identity(app, &request.headers).await?;
    let Some(role) = need.role() else { return Ok(asker(identity)) };
    if identity.as_ref().is_some_and(|identity| identity.role >= role) {
        return Ok(asker(identity));
    }
    let has_users = app.people.has_users().await?;
    if need.is_open(Situation { has_users, ..at }) {
        return Ok(asker(identity));
    }
    Err(match identity {
        Some(identity) => {
            let message = format!("this needs the role {role}; {} has the role {}", identity.who, identity.role);
            Error::new(Code::Forbidden, message)
        }
        None if has_users => Error::new(Code::Unauthenticated, "log in, or send a token as `Authorization: Bearer`"),
        None => {
            let message = "the hub has no users yet, so it answers on its own machine alone: open its set-up link, or \
                           run `hub user add NAME` there";
            Error::new(Code::Unauthenticated, message)
        }
    })
}

/// The user or program that a request is from, by its token or else its cookie. A cookie of a session that is over
/// counts as none.
///
/// # Errors
/// [`Code::Unauthenticated`] for a token that the hub does not know, or no longer.
async fn identity(app: &App, headers: &HeaderMap) -> Result<Option<Identity>, Error> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    if let Some(token) = values.filter_map(is_token).next() {
        let unknown = || Error::new(Code::Unauthenticated, "this token is unknown, removed or expired");
        return app.people.by_token(token).await?.map(Some).ok_or_else(unknown);
    }
    match cookie(headers) {
        Some(cookie) => app.people.by_session(cookie).await,
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
            (People(Admin), [true, false], false, false),
        ] {
            let local = [open(need, true, false, false, until), open(need, true, true, false, until)];
            assert_eq!(local, on_this_machine, "{need:?}");
            assert!(open(need, true, true, false, always), "{need:?}");
            assert_eq!(open(need, false, false, true, until), insecure_without_users, "{need:?}");
            assert_eq!(open(need, false, true, true, always), insecure_with_users, "{need:?}");
            assert_eq!(open(need, false, false, false, always), need == Nothing, "{need:?}: through a proxy");
        }
    }
}
