//! Log-in, set-up, users, tokens, sessions and the audit log.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(AuditParams)`")]

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use hub_base::time::rfc3339;
use hub_people::{By, Client, NewUser, SESSION_DAYS, UserRole, Who};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::caller::Caller;
use crate::gate::{Asker, SESSION_COOKIE, about};
use crate::json::{Failure, Line, Problem};
use crate::params::{Body, Id, Params, Text, bad, number_of, page_limit};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(session, log_in, log_out))
        .routes(routes!(set_up))
        .routes(routes!(users, add_user))
        .routes(routes!(change_user, remove_user))
        .routes(routes!(tokens, add_token))
        .routes(routes!(remove_token))
        .routes(routes!(sessions))
        .routes(routes!(end_session))
        .routes(routes!(audit))
}

/// Who the client is.
#[derive(Debug, Serialize, ToSchema)]
struct SessionAnswer {
    /// The user, or `token NAME`. Null: the client has not logged in.
    user: Option<String>,
    /// `viewer`, `listener`, `owner` or `admin`. Null: the client has not logged in.
    role: Option<&'static str>,
    /// Whether there are users.
    has_users: bool,
    /// Whether the client must log in, or send a token, before it sees data.
    needs_log_in: bool,
}

/// Name and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// Name of the user.
    name: String,
    /// The password.
    password: String,
}

/// The first user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetUp {
    /// The secret of the set-up link.
    secret: String,
    /// Name of the user.
    name: String,
    /// The password, 8 characters to 256 bytes.
    password: String,
}

/// A user to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserToAdd {
    /// Name to log in with: letters, digits and `-_.@`, at most 64 bytes.
    name: String,
    /// `viewer`, `listener`, `owner` or `admin`.
    role: String,
    /// The password, 8 characters to 256 bytes.
    password: String,
}

/// Changes to a user. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserChange {
    /// `viewer`, `listener`, `owner` or `admin`.
    role: Option<String>,
    /// The password, 8 characters to 256 bytes. A new one ends all sessions of the user.
    password: Option<String>,
}

/// The users.
#[derive(Debug, Serialize, ToSchema)]
struct UsersAnswer {
    /// By name, at most 64.
    users: Vec<UserAnswer>,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
struct UserAnswer {
    /// Name to log in with.
    name: String,
    /// `viewer`, `listener`, `owner` or `admin`.
    role: String,
    /// When the user was added, RFC 3339 in UTC.
    created_at: String,
    /// Last use of a session, RFC 3339 in UTC, to ten minutes. Null: no session.
    used_at: Option<String>,
}

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenToAdd {
    /// Name of the token: letters, digits and `-_.@`, at most 64 bytes.
    name: String,
    /// `viewer`, `listener`, `owner` or `admin`.
    role: String,
    /// After how many days it expires. Null: never.
    days: Option<u32>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
struct NewTokenAnswer {
    /// Its text. The hub does not keep it.
    token: String,
}

/// The tokens.
#[derive(Debug, Serialize, ToSchema)]
struct TokensAnswer {
    /// By name, at most 128, those that have expired too.
    tokens: Vec<TokenAnswer>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
struct TokenAnswer {
    /// Name of the token.
    name: String,
    /// `viewer`, `listener`, `owner` or `admin`.
    role: String,
    /// When it was made, RFC 3339 in UTC.
    created_at: String,
    /// When it expires, RFC 3339 in UTC. Null: never.
    expires_at: Option<String>,
    /// Last use, RFC 3339 in UTC, to ten minutes. Null: never used.
    used_at: Option<String>,
}

/// The sessions.
#[derive(Debug, Serialize, ToSchema)]
struct SessionsAnswer {
    /// The last used first, at most 20 of each user.
    sessions: Vec<SessionEntry>,
}

/// A browser that is logged in.
#[derive(Debug, Serialize, ToSchema)]
struct SessionEntry {
    /// Number of the session.
    id: i64,
    /// Name of the user.
    user: String,
    /// IP address that logged in.
    address: String,
    /// The browser, by its own word.
    agent: String,
    /// When the user logged in, RFC 3339 in UTC.
    created_at: String,
    /// Last use, RFC 3339 in UTC, to ten minutes.
    used_at: String,
    /// Whether this request belongs to the session.
    this: bool,
}

/// Page of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditParams {
    /// Most entries in the answer, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditAnswer {
    /// Latest first.
    entries: Vec<AuditLine>,
    /// Send it as `cursor` to get the next page. Null: this is the last page.
    next_cursor: Option<String>,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditLine {
    /// When, RFC 3339 in UTC.
    at: String,
    /// A user, `token NAME`, `command`, `this machine`, `anyone`, or `an unknown name` for a failed log-in.
    who: String,
    /// IP address. Empty for a command.
    address: String,
    /// What was done: a word such as `log_in`, `label`, `delete_event` or `live_listening`.
    action: String,
    /// What it was done to.
    subject: String,
}

/// Returns who the client is.
#[utoipa::path(
    get, path = "/api/v1/session", operation_id = "get_session", tag = "people",
    responses(
        (status = 200, body = SessionAnswer),
        (status = 401, body = Problem, description = "`unauthenticated`: the token is unknown, removed or expired"),
    )
)]
async fn session(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
) -> Result<Line<SessionAnswer>, Failure> {
    let has_users = app.people.has_users().await?;
    let needs_log_in = asker.identity.is_none() && !asker.sees_data(&app, has_users);
    let role = asker.identity.as_ref().map(|identity| identity.role.as_str());
    let user = asker.identity.map(|identity| identity.who.to_string());
    Ok(Line(SessionAnswer { user, role, has_users, needs_log_in }))
}

/// Logs in: begins a session, whose cookie comes with the answer. A session that the request had ends.
#[utoipa::path(
    post, path = "/api/v1/session", operation_id = "log_in", tag = "people", request_body = LogIn,
    responses(
        (status = 200, body = SessionAnswer),
        (status = 401, body = Problem, description = "`unauthenticated`: the name or the password is wrong"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 429, body = Problem, description = "`too_many_attempts`"),
    )
)]
async fn log_in(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    Body(LogIn { name, password }): Body<LogIn>,
) -> Result<Response, Failure> {
    let is_local = caller.is_some_and(|Extension(caller)| caller.is_local());
    let client = Client { address: asker.address, is_local };
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let (secret, role) = app.people.log_in(&name, &password, client, agent).await?;
    end_own(&app, &asker).await?;
    let answer =
        Line(SessionAnswer { user: Some(name), role: Some(role.as_str()), has_users: true, needs_log_in: false });
    Ok(with_cookie(answer.into_response(), secret.expose(), SESSION_DAYS * 86_400, asker.https))
}

/// Logs out: ends the session of the request, if there is one.
#[utoipa::path(
    delete, path = "/api/v1/session", operation_id = "log_out", tag = "people",
    responses(
        (status = 204, description = "The session has ended"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
    )
)]
async fn log_out(State(app): State<Arc<App>>, Extension(asker): Extension<Asker>) -> Result<Response, Failure> {
    end_own(&app, &asker).await?;
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), "", 0, asker.https))
}

async fn end_own(app: &App, asker: &Asker) -> Result<(), Error> {
    let Some(session) = asker.session() else { return Ok(()) };
    match app.people.end_session(session).await {
        Err(error) if error.code != Code::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_cookie(mut answer: Response, value: &str, age_s: i64, secure: bool) -> Response {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{SESSION_COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}");
    // The value is base64, so it is valid in a header.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

/// Adds the first user, an admin, for whoever has the set-up link of the hub's log.
#[utoipa::path(
    post, path = "/api/v1/setup", operation_id = "set_up", tag = "people", request_body = SetUp,
    responses(
        (status = 204, description = "The user is added and can log in"),
        (status = 400, body = Problem, description = "`bad_request`: the name or the password is not valid"),
        (status = 403, body = Problem, description = "`forbidden`: the link is not good. `foreign_origin`"),
        (status = 409, body = Problem, description = "`conflict`: there are users already"),
    )
)]
async fn set_up(State(app): State<Arc<App>>, Body(body): Body<SetUp>) -> Result<Response, Failure> {
    app.people.set_up(&body.secret, &body.name, &body.password).await?;
    Ok(about(body.name, StatusCode::NO_CONTENT))
}

/// Lists the users.
#[utoipa::path(
    get, path = "/api/v1/users", operation_id = "list_users", tag = "people",
    responses((status = 200, body = UsersAnswer))
)]
async fn users(State(app): State<Arc<App>>) -> Result<Line<UsersAnswer>, Failure> {
    let users = app.people.users().await?.into_iter().map(|user| UserAnswer {
        name: user.name,
        role: user.role,
        created_at: rfc3339(user.created_at_ns),
        used_at: user.used_at_ns.map(rfc3339),
    });
    Ok(Line(UsersAnswer { users: users.collect() }))
}

/// Adds a user.
#[utoipa::path(
    post, path = "/api/v1/users", operation_id = "add_user", tag = "people", request_body = UserToAdd,
    responses(
        (status = 204, description = "The user is added"),
        (status = 400, body = Problem, description = "`bad_request`: the name, role or password is not valid"),
        (status = 409, body = Problem, description = "`conflict`: the name is taken, or there are too many users"),
    )
)]
async fn add_user(State(app): State<Arc<App>>, Body(body): Body<UserToAdd>) -> Result<Response, Failure> {
    let UserToAdd { name, role, password } = body;
    let role = role_of(&role)?;
    app.people.add_user(NewUser { name: name.clone(), role, password }).await?;
    Ok(about(format!("{name} ({role})"), StatusCode::NO_CONTENT))
}

/// Changes the role or the password of a user, or both together. A new password ends all sessions of the user.
#[utoipa::path(
    put, path = "/api/v1/users/{name}", operation_id = "change_user", tag = "people", request_body = UserChange,
    params(("name" = String, Path, description = "Name of the user, percent-encoded")),
    responses(
        (status = 204, description = "The user is changed"),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8, or the role or the password is not valid"),
        (status = 404, body = Problem, description = "`not_found`: there is no such user"),
        (status = 409, body = Problem, description = "`conflict`: this is the last admin"),
    )
)]
async fn change_user(
    State(app): State<Arc<App>>,
    Text(name): Text,
    Body(body): Body<UserChange>,
) -> Result<Response, Failure> {
    let role = body.role.as_deref().map(role_of).transpose()?;
    app.people.change_user(&name, role, body.password.as_deref()).await?;
    let mut subject = name;
    if let Some(role) = role {
        subject += &format!(" ({role})");
    }
    if body.password.is_some() {
        subject += ": password";
    }
    Ok(about(subject, StatusCode::NO_CONTENT))
}

/// Removes a user and ends all sessions of the user.
#[utoipa::path(
    delete, path = "/api/v1/users/{name}", operation_id = "remove_user", tag = "people",
    params(("name" = String, Path, description = "Name of the user, percent-encoded")),
    responses(
        (status = 204, description = "The user is removed"),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8"),
        (status = 404, body = Problem, description = "`not_found`: there is no such user"),
        (status = 409, body = Problem, description = "`conflict`: this is the last admin"),
    )
)]
async fn remove_user(State(app): State<Arc<App>>, Text(name): Text) -> Result<Response, Failure> {
    app.people.remove_user(&name, By::Page).await?;
    Ok(about(name, StatusCode::NO_CONTENT))
}

/// Lists the tokens, without their texts.
#[utoipa::path(
    get, path = "/api/v1/tokens", operation_id = "list_tokens", tag = "people",
    responses((status = 200, body = TokensAnswer))
)]
async fn tokens(State(app): State<Arc<App>>) -> Result<Line<TokensAnswer>, Failure> {
    let tokens = app.people.tokens().await?.into_iter().map(|token| TokenAnswer {
        name: token.name,
        role: token.role,
        created_at: rfc3339(token.created_at_ns),
        expires_at: token.expires_at_ns.map(rfc3339),
        used_at: token.used_at_ns.map(rfc3339),
    });
    Ok(Line(TokensAnswer { tokens: tokens.collect() }))
}

/// Makes a token. Its text is in this answer alone.
#[utoipa::path(
    post, path = "/api/v1/tokens", operation_id = "add_token", tag = "people", request_body = TokenToAdd,
    responses(
        (status = 200, body = NewTokenAnswer),
        (status = 400, body = Problem, description = "`bad_request`: the name, role or time is not valid"),
        (status = 409, body = Problem, description = "`conflict`: the name is taken, or there are too many tokens"),
    )
)]
async fn add_token(State(app): State<Arc<App>>, Body(body): Body<TokenToAdd>) -> Result<Response, Failure> {
    let role = role_of(&body.role)?;
    let secret = app.people.add_token(&body.name, role, body.days).await?;
    let answer = Line(NewTokenAnswer { token: secret.expose().to_owned() });
    Ok(about(format!("{} ({role})", body.name), answer))
}

/// Removes a token: the hub refuses it from now on.
#[utoipa::path(
    delete, path = "/api/v1/tokens/{name}", operation_id = "remove_token", tag = "people",
    params(("name" = String, Path, description = "Name of the token, percent-encoded")),
    responses(
        (status = 204, description = "The token is removed"),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8"),
        (status = 404, body = Problem, description = "`not_found`: there is no such token"),
    )
)]
async fn remove_token(State(app): State<Arc<App>>, Text(name): Text) -> Result<Response, Failure> {
    app.people.remove_token(&name).await?;
    Ok(about(name, StatusCode::NO_CONTENT))
}

/// Lists the browsers that are logged in.
#[utoipa::path(
    get, path = "/api/v1/sessions", operation_id = "list_sessions", tag = "people",
    responses((status = 200, body = SessionsAnswer))
)]
async fn sessions(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
) -> Result<Line<SessionsAnswer>, Failure> {
    let own = asker.identity.and_then(|identity| match identity.who {
        Who::User { session, .. } => Some(session),
        Who::Token(_) => None,
    });
    let sessions = app.people.sessions().await?.into_iter().map(|session| SessionEntry {
        id: session.id,
        user: session.user,
        address: session.address,
        agent: session.agent,
        created_at: rfc3339(session.created_at_ns),
        used_at: rfc3339(session.used_at_ns),
        this: own == Some(session.id),
    });
    Ok(Line(SessionsAnswer { sessions: sessions.collect() }))
}

/// Ends a session.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", operation_id = "end_session", tag = "people",
    params(("id" = i64, Path, description = "Number of the session")),
    responses(
        (status = 204, description = "The session has ended"),
        (status = 404, body = Problem, description = "`not_found`: there is no such session"),
    )
)]
async fn end_session(State(app): State<Arc<App>>, Id(id): Id) -> Result<StatusCode, Failure> {
    app.people.end_session(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists who did what: log-ins, labels, deletions, live listening, and changes to users, tokens and nodes. Entries are
/// kept for a year. Failed log-ins with a name are one entry in ten minutes, and so is live listening of a user.
#[utoipa::path(
    get, path = "/api/v1/audit", operation_id = "list_audit", tag = "people", params(AuditParams),
    responses(
        (status = 200, body = AuditAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is not valid"),
    )
)]
async fn audit(State(app): State<Arc<App>>, Params(params): Params<AuditParams>) -> Result<Line<AuditAnswer>, Failure> {
    let (limit, before) = (page_limit(params.limit)?, number_of(params.cursor)?);
    let mut entries = app.people.audit(before, limit + 1).await?;
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    let next_cursor = entries.last().filter(|_| has_more).map(|entry| entry.id.to_string());
    let line = |entry: hub_store::people::AuditEntry| AuditLine {
        at: rfc3339(entry.at_ns),
        who: entry.who,
        address: entry.address,
        action: entry.action,
        subject: entry.subject,
    };
    Ok(Line(AuditAnswer { entries: entries.into_iter().map(line).collect(), next_cursor }))
}

fn role_of(word: &str) -> Result<UserRole, Error> {
    word.parse().map_err(bad)
}
