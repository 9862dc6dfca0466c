//! Who may do what from where.

use std::time::Duration;

use hub_gateway::came_through_proxy;
use hub_people::{NewUser, UserRole};

use super::*;

const PASSWORD: &str = "correct horse";

/// An address that is not of this machine.
const ELSEWHERE: &str = "192.0.2.7";

struct Ask<'a> {
    from: &'a str,
    https: bool,
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Option<Value>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { from: ELSEWHERE, https: false, method: "GET", path: "/api/v1/nodes", headers: &[], body: None }
    }
}

impl Gateway {
    async fn with_users(users: &[(&str, UserRole)]) -> Self {
        let gateway = Self::new().await;
        for (name, role) in users {
            let new = NewUser { name: (*name).into(), role: *role, password: PASSWORD.into() };
            gateway.people.add_user(new).await.unwrap();
        }
        gateway
    }

    async fn respond(&self, ask: Ask<'_>) -> axum::response::Response {
        let mut request = Request::builder().method(ask.method).uri(ask.path);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let body = ask.body.map(|body| body.to_string());
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let mut request = request.body(Body::from(body.unwrap_or_default())).unwrap();
        let through_proxy = came_through_proxy(&request);
        request.extensions_mut().insert(Caller::new(ask.from.parse().unwrap(), ask.https, through_proxy));
        self.bare.clone().oneshot(request).await.unwrap()
    }

    async fn status(&self, ask: Ask<'_>) -> u16 {
        self.respond(ask).await.status().as_u16()
    }

    /// Logs in, and returns the status and the cookie that was set.
    async fn log_in(&self, name: &str, password: &str, from: &str, cookie: &str, https: bool) -> (u16, String) {
        let body = Some(serde_json::json!({ "name": name, "password": password }));
        let headers = [("cookie", cookie)];
        let ask = Ask { from, https, method: "POST", path: "/api/v1/session", headers: &headers, body };
        let answer = self.respond(ask).await;
        let set = answer.headers().get("set-cookie").map_or("", |cookie| cookie.to_str().unwrap());
        (answer.status().as_u16(), set.to_owned())
    }
}

/// `NAME=VALUE` of a cookie that was set.
fn pair(set_cookie: &str) -> &str {
    set_cookie.split(';').next().unwrap()
}

/// The least role that a route needs. `None`: it is open.
fn least(method: &str, path: &str) -> Option<UserRole> {
    const OPEN: [&str; 4] = ["/healthz", "/api/v1/session", "/api/v1/setup", "/"];
    const ADMIN: [&str; 4] = ["/api/v1/users", "/api/v1/tokens", "/api/v1/sessions", "/api/v1/audit"];
    const OWNER: [&str; 3] = ["/cat/", "/dog/", "/analyze/"];
    let for_admins = ["/api/v1/backup", "/api/v1/deletions"];
    let changes_nodes = method != "get" && (path.starts_with("/api/v1/nodes/") || for_admins.contains(&path));
    if OPEN.contains(&path) {
        None
    } else if changes_nodes || ADMIN.iter().any(|start| path.starts_with(start)) {
        Some(UserRole::Admin)
    } else if method != "get" || OWNER.iter().any(|start| path.starts_with(start)) {
        Some(UserRole::Owner)
    } else if path == "/api/v1/nodes/live.wav" {
        Some(UserRole::Listener)
    } else {
        Some(UserRole::Viewer)
    }
}

#[tokio::test]
async fn each_role_may_do_what_it_should_on_each_route() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin)]).await;
    let mut tokens = Vec::new();
    for role in UserRole::ALL {
        let token = gateway.people.add_token(role.as_str(), role, None).await.unwrap();
        tokens.push((role, format!("Bearer {}", token.expose())));
    }
    let api = gateway.get("/api/v1/openapi.json").await;
    assert_eq!(api.status, StatusCode::UNAUTHORIZED, "there is a user");
    let headers = [("authorization", tokens[0].1.as_str())];
    let api = gateway.ask("GET", "/api/v1/openapi.json", &headers, "").await.json();
    let mut asked = 0;
    for (path, methods) in api["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let least = least(method, path);
            let uri: String = path
                .split('/')
                .map(|part| if part.starts_with('{') { "77" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let method = method.to_uppercase();
            let send = async |headers: &[(&str, &str)]| {
                gateway.respond(Ask { method: &method, path: &uri, headers, ..Ask::default() }).await
            };
            let answer = send(&[]).await;
            let refused =
                answer.status() == StatusCode::UNAUTHORIZED && answer.headers().contains_key("www-authenticate");
            assert_eq!(refused, least.is_some(), "{method} {path} without a token: {}", answer.status());
            for (role, token) in &tokens {
                let status = send(&[("authorization", token)]).await.status();
                let may = least.is_none_or(|least| *role >= least);
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path} by a {role}");
                assert!(
                    may != (status == StatusCode::FORBIDDEN) || least.is_none(),
                    "{method} {path} by a {role}: {status}"
                );
                asked += 1;
            }
        }
    }
    assert!(asked > 150, "{asked}");
}

#[tokio::test]
async fn log_in_sets_a_new_cookie_whatever_the_browser_had() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin)]).await;
    // Session fixation: somebody else has put a cookie into the browser.
    let planted = "meowlink_session=planted";
    let (status, set) = gateway.log_in("anna", PASSWORD, ELSEWHERE, planted, true).await;
    assert_eq!(status, 200);
    assert!(set.ends_with("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure"), "{set}");
    assert_ne!(pair(&set), planted);
    let nodes = async |cookie: &str| gateway.status(Ask { headers: &[("cookie", cookie)], ..Ask::default() }).await;
    assert_eq!((nodes(planted).await, nodes(pair(&set)).await), (401, 200));
    let (status, second) = gateway.log_in("anna", PASSWORD, "127.0.0.1", pair(&set), false).await;
    assert!(status == 200 && !second.contains("Secure"), "{second}");
    assert_eq!((nodes(pair(&set)).await, nodes(pair(&second)).await), (401, 200), "the earlier session has ended");
    let out =
        Ask { method: "DELETE", path: "/api/v1/session", headers: &[("cookie", pair(&second))], ..Ask::default() };
    assert!(gateway.respond(out).await.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(nodes(pair(&second)).await, 401);
}

#[tokio::test]
async fn pages_of_other_sites_cannot_log_in_or_add_users() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin)]).await;
    let (_, set) = gateway.log_in("anna", PASSWORD, ELSEWHERE, "", false).await;
    let headers = [("cookie", pair(&set)), ("sec-fetch-site", "cross-site")];
    for (method, path) in [
        ("POST", "/api/v1/session"),
        ("DELETE", "/api/v1/session"),
        ("POST", "/api/v1/setup"),
        ("POST", "/api/v1/users"),
        ("PUT", "/api/v1/users/anna"),
        ("DELETE", "/api/v1/sessions/1"),
    ] {
        let answer = gateway.respond(Ask { method, path, headers: &headers, ..Ask::default() }).await;
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("foreign_origin"), "{method} {path}");
    }
}

#[tokio::test]
async fn storm_of_log_ins_is_refused_and_others_still_log_in() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin), ("ben", UserRole::Viewer)]).await;
    let storm = (0..200).map(|_| gateway.log_in("anna", "a wrong guess", ELSEWHERE, "", false));
    let statuses: Vec<u16> =
        futures_util::future::join_all(storm).await.into_iter().map(|(status, _)| status).collect();
    let checked = statuses.iter().filter(|status| **status == 401).count();
    assert!((1..=10).contains(&checked), "{checked} guesses were checked");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    let log_in = async |name: &str, from: &str| gateway.log_in(name, PASSWORD, from, "", false).await.0;
    assert_eq!(log_in("anna", ELSEWHERE).await, 429, "the address of the storm");
    for (name, from) in [("ben", ELSEWHERE), ("anna", "192.0.2.8"), ("anna", "127.0.0.1")] {
        assert_eq!(log_in(name, from).await, 200, "{name} from {from}");
    }
    gateway.people.set_password("anna", PASSWORD).await.unwrap();
    assert_eq!(log_in("anna", ELSEWHERE).await, 200, "a new password, even if it is the old one");
}

#[tokio::test]
async fn lower_role_counts_at_once() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin), ("ben", UserRole::Owner)]).await;
    gateway.put(event("http://kitchen:1", 16_000), false).await;
    let (_, set) = gateway.log_in("ben", PASSWORD, ELSEWHERE, "", false).await;
    let headers = [("cookie", pair(&set))];
    let label = || Ask {
        method: "PUT",
        path: "/api/v1/events/1/label",
        headers: &headers,
        body: Some(serde_json::json!({ "label": "not_a_cat" })),
        ..Ask::default()
    };
    assert_eq!(gateway.status(label()).await, 200);
    gateway.people.set_role("ben", UserRole::Viewer).await.unwrap();
    assert_eq!(gateway.status(label()).await, 403);
    assert_eq!(gateway.status(Ask { headers: &headers, ..Ask::default() }).await, 200);
    let noted = gateway.people.audit(None, 9).await.unwrap();
    let noted: Vec<_> = noted.iter().map(|entry| (&*entry.who, &*entry.action, &*entry.address)).collect();
    assert_eq!(noted, [("ben", "label", ELSEWHERE), ("ben", "log_in", ELSEWHERE)], "only what was done");
}

#[tokio::test]
async fn change_that_is_refused_changes_nothing() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin), ("ben", UserRole::Viewer)]).await;
    let token = gateway.people.add_token("admin", UserRole::Admin, None).await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let change = async |name: &str, role: &str, password: &str| {
        let body = Some(serde_json::json!({ "role": role, "password": password }));
        let path = format!("/api/v1/users/{name}");
        let headers = [("authorization", bearer.as_str())];
        gateway.status(Ask { method: "PUT", path: &path, headers: &headers, body, ..Ask::default() }).await
    };
    let role = async || gateway.people.users().await.unwrap().into_iter().find(|user| user.name == "ben").unwrap().role;
    assert_eq!(change("ben", "admin", "x").await, 400, "the password is too short");
    assert_eq!(role().await, "viewer");
    assert_eq!(change("anna", "owner", "another horse").await, 409, "the last admin");
    assert_eq!(gateway.log_in("anna", PASSWORD, ELSEWHERE, "", false).await.0, 200, "the password is as before");
    assert_eq!(change("ben", "owner", "another horse").await, 204);
    assert_eq!(
        (role().await.as_str(), gateway.people.audit(None, 1).await.unwrap()[0].subject.as_str()),
        ("owner", "ben (owner): password")
    );
}

#[tokio::test]
async fn without_users_this_machine_is_open_and_a_proxy_on_it_is_not() {
    let gateway = Gateway::new().await;
    let proxied = [("host", "localhost"), ("x-forwarded-for", "127.0.0.1")];
    for path in ["/api/v1/nodes", "/cat/Tom", "/metrics"] {
        let local = gateway.status(Ask { from: "::1", path, ..Ask::default() }).await;
        assert!(local != 401 && local != 403, "{path}: {local}");
        for (from, headers) in [("127.0.0.1", &proxied[..]), ("127.0.0.1", &[("host", "pi.local")]), (ELSEWHERE, &[])] {
            assert_eq!(gateway.status(Ask { from, path, headers, ..Ask::default() }).await, 401, "{path} from {from}");
        }
    }
    assert_eq!(gateway.status(Ask { from: "::1", path: "/api/v1/users", ..Ask::default() }).await, 401);
    for path in ["/", "/healthz", "/page/style.css", "/api/v1/session"] {
        assert_eq!(gateway.status(Ask { path, ..Ask::default() }).await, 200, "{path}");
    }
    // A program notices that its token is no longer good, although it needs none here.
    for path in ["/api/v1/nodes", "/cat/Tom", "/metrics", "/api/v1/session"] {
        let headers = &[("authorization", "Bearer meowlink_bad")];
        assert_eq!(gateway.status(Ask { from: "::1", path, headers, ..Ask::default() }).await, 401, "{path}");
    }
    // A request of which nobody says where it comes from.
    let request = Request::builder().uri("/api/v1/nodes").body(Body::empty()).unwrap();
    assert_eq!(gateway.bare.clone().oneshot(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn insecure_hub_without_users_is_as_before_but_nobody_elsewhere_becomes_admin() {
    let gateway = Gateway::build(Setting { insecure: true, ..Setting::default() }).await;
    assert_eq!(gateway.status(Ask::default()).await, 200);
    let user = serde_json::json!({ "name": "eve", "role": "admin", "password": PASSWORD });
    let add = |from| Ask { from, method: "POST", path: "/api/v1/users", body: Some(user.clone()), ..Ask::default() };
    assert_eq!(gateway.status(add(ELSEWHERE)).await, 401);
    let secret = gateway.people.begin_setup().await.unwrap().unwrap();
    let body = Some(serde_json::json!({ "secret": secret.expose(), "name": "anna", "password": PASSWORD }));
    let set_up = || Ask { method: "POST", path: "/api/v1/setup", body: body.clone(), ..Ask::default() };
    assert_eq!(gateway.status(set_up()).await, 204);
    assert_eq!(gateway.status(set_up()).await, 403, "the link is good once");
    assert_eq!(gateway.status(Ask::default()).await, 401, "there is a user now");
    assert_eq!(gateway.status(Ask { from: "127.0.0.1", ..Ask::default() }).await, 401);
    assert_ne!(
        gateway.status(Ask { path: "/dog/Rex", ..Ask::default() }).await,
        401,
        "the original's routes stay open"
    );
}

#[tokio::test]
async fn lost_users_do_not_open_the_hub() {
    for loopback in [Loopback::UntilFirstUser, Loopback::Open] {
        let gateway = Gateway::build(Setting { insecure: true, loopback, ..Setting::default() }).await;
        let anna = || NewUser { name: "anna".into(), role: UserRole::Admin, password: PASSWORD.into() };
        gateway.people.add_user(anna()).await.unwrap();
        let mark = gateway.dir.path().join("users-exist");
        let text = std::fs::read(&mark).unwrap();
        gateway.people.remove_user("anna", hub_people::By::Command).await.unwrap();
        assert_eq!(gateway.status(Ask::default()).await, 200, "removed on purpose");
        // As if the database were lost.
        std::fs::write(&mark, text).unwrap();
        for path in ["/api/v1/nodes", "/api/v1/users", "/metrics"] {
            assert_eq!(gateway.status(Ask { path, ..Ask::default() }).await, 401, "{path}");
        }
        let local = gateway.status(Ask { from: "127.0.0.1", ..Ask::default() }).await;
        assert_eq!(local, if loopback == Loopback::Open { 200 } else { 401 });
        assert_ne!(gateway.status(Ask { path: "/dog/Rex", ..Ask::default() }).await, 401);
        assert_eq!(gateway.people.begin_setup().await.unwrap(), None);
        let body = Some(serde_json::json!({ "name": "anna", "password": PASSWORD }));
        let ask = Ask { method: "POST", path: "/api/v1/session", body, ..Ask::default() };
        let answer = gateway.respond(ask).await;
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("hub user add"), "{body:?}");
        gateway.people.add_user(anna()).await.unwrap();
        assert_eq!(gateway.log_in("anna", PASSWORD, ELSEWHERE, "", false).await.0, 200);
    }
}

#[tokio::test]
async fn loopback_stays_open_if_the_config_says_so() {
    let gateway = Gateway::build(Setting { loopback: Loopback::Open, ..Setting::default() }).await;
    let new = NewUser { name: "anna".into(), role: UserRole::Admin, password: PASSWORD.into() };
    gateway.people.add_user(new).await.unwrap();
    assert_eq!(gateway.status(Ask { from: "127.0.0.1", ..Ask::default() }).await, 200);
    assert_eq!(gateway.status(Ask::default()).await, 401);
}

#[tokio::test]
async fn open_stream_ends_once_its_client_may_no_longer_have_it() {
    let gateway = Gateway::with_users(&[("anna", UserRole::Admin), ("ben", UserRole::Viewer)]).await;
    let (_, cookie) = gateway.log_in("ben", PASSWORD, ELSEWHERE, "", false).await;
    let token = gateway.people.add_token("grafana", UserRole::Viewer, None).await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let path = "/api/v1/stream";
    let by_cookie = gateway.respond(Ask { path, headers: &[("cookie", pair(&cookie))], ..Ask::default() }).await;
    let by_token = gateway.respond(Ask { path, headers: &[("authorization", &bearer)], ..Ask::default() }).await;
    assert_eq!((by_cookie.status(), by_token.status()), (StatusCode::OK, StatusCode::OK));
    let (mut removed, mut kept) = (by_cookie.into_body().into_data_stream(), by_token.into_body().into_data_stream());
    gateway.people.remove_user("ben", hub_people::By::Command).await.unwrap();
    let end = async {
        while let Some(piece) = removed.next().await {
            if let Err(error) = piece {
                return error.to_string();
            }
        }
        panic!("the stream looks complete")
    };
    let why = tokio::time::timeout(Duration::from_secs(60), end).await.unwrap();
    assert!(why.contains("log in"), "{why}");
    assert!(removed.next().await.is_none());
    // The token is good still: the stream gives nothing or something, but does not end.
    let wait = tokio::time::timeout(Duration::from_secs(3), kept.next()).await;
    assert!(!matches!(wait, Ok(None | Some(Err(_)))), "{wait:?}");
}

/// `Host: localhost` through nginx with `proxy_set_header Host $host` and no other header.
#[tokio::test]
async fn client_behind_a_bare_proxy_that_names_loopback_adds_no_user() {
    for setting in [Setting::default(), Setting { loopback: Loopback::Open, ..Setting::default() }] {
        let gateway = Gateway::build(setting).await;
        let body = Some(serde_json::json!({ "name": "eve", "role": "admin", "password": PASSWORD }));
        for has_users in [false, true] {
            if has_users {
                let new = NewUser { name: "anna".into(), role: UserRole::Admin, password: PASSWORD.into() };
                gateway.people.add_user(new).await.unwrap();
            }
            for (method, path) in [("POST", "/api/v1/users"), ("POST", "/api/v1/tokens"), ("GET", "/api/v1/audit")] {
                let headers = &[("host", "localhost")];
                let ask = Ask { from: "127.0.0.1", method, path, headers, body: body.clone(), ..Ask::default() };
                assert_eq!(gateway.status(ask).await, 401, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_done_for_a_client_that_hangs_up_is_noted() {
    let gateway = Gateway::new().await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(gateway.put(event("http://kitchen:1", n * 16_000), false).await.id);
    }
    for (wait_ms, id) in ids.iter().enumerate() {
        let path = format!("/api/v1/events/{id}");
        let ask = Ask { from: "127.0.0.1", method: "DELETE", path: &path, ..Ask::default() };
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms as u64 / 3), gateway.respond(ask)).await;
    }
    let all_noted = async {
        loop {
            let deleted = ids.len() - gateway.store.events_stored_after(0, 100).await.unwrap().len();
            let entries = gateway.people.audit(None, 100).await.unwrap();
            if deleted > 0 && entries.iter().filter(|entry| entry.action == "delete_event").count() == deleted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_noted).await.expect("each deletion is noted");
}
