//! The HTTP gateway as curl sees it: bodies, headers, names, methods and errors.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use e2e::fakes::{FakeOwner, Mood};
use e2e::http::{Answer, exchange, get};
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};

async fn start() -> (Hub, Node, FakeOwner) {
    let owner = FakeOwner::start(Mood::Answers).await;
    let node = Node::start(NodeOptions::new(owner.url())).await;
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], &owner.url()).await;
    (hub, node, owner)
}

fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains(' ') && !message.contains("os error"), "not for people: {body}");
}

#[tokio::test]
async fn bodies_are_those_of_the_original_byte_for_byte() {
    let (hub, _node, owner) = start().await;
    for (path, body) in [
        ("/cat/Tom", "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n"),
        ("/dog/Rex", "{\"dogBark\":\"Rex is going to bark!\"}\n"),
        ("/analyze/Tom", "{\"result\":\"Analyzing Tom ...\"}\n"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, body));
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()), "{path}");
    }
    let told = [("Tom", "cat"), ("Rex", "Dog")].map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(owner.notified(), told);
}

#[tokio::test]
async fn hub_with_the_owner_role_calls_the_cat_of_a_node_that_reaches_no_owner() {
    // As on two machines: the node looks for the owner on its own machine.
    let node = Node::start(NodeOptions::new("http://127.0.0.1:1")).await;
    let hub = Hub::start(&[("Tom", &node.url())]).await;
    let answer = hub.get("/cat/Tom").await;
    assert_eq!((answer.status, answer.text()), (200, "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n"));

    // Without the role, the node tries, and the answer names the setting.
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], "http://127.0.0.1:1").await;
    let answer = hub.get("/cat/Tom").await;
    assert_problem(&answer, 503, "owner_unavailable");
    assert!(answer.text().contains("`owner` in the config of the node"), "{}", answer.text());
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let (hub, _node, owner) = start().await;
    for path in ["/cat/Tom", "/dog/Rex", "/analyze/Tom", "/healthz", "/api/v1/analyses", "/nowhere"] {
        let (get, head) = (hub.get(path).await, exchange(hub.at.http, "HEAD", path).await);
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}: {}", head.text());
        for name in ["content-type", "content-length"] {
            if path != "/api/v1/analyses" || name != "content-length" {
                assert_eq!(head.header(name), get.header(name), "{path} {name}");
            }
        }
    }
    assert_eq!(owner.notified().len(), 4, "HEAD calls the cat and the dog as GET does");
}

#[tokio::test]
async fn names_are_percent_decoded_utf8() {
    let (hub, _node, owner) = start().await;
    let names = [
        ("Tom%20Cat", "Tom Cat"),
        ("%4Diau", "Miau"),
        ("J%C3%B6rg", "Jörg"),
        ("%F0%9F%90%B1", "🐱"),
        ("%E7%8C%AB", "猫"),
        ("a+b", "a+b"),
        ("a%26b%3Dc%3F", "a&b=c?"),
        ("100%25", "100%"),
        ("%22quoted%22", "\"quoted\""),
        ("back%5Cslash", "back\\slash"),
        ("two%0Alines", "two\nlines"),
        ("Tom?name=Rex", "Tom"),
    ];
    for (path, name) in names {
        let answer = hub.get(&format!("/cat/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.json()["catMeaw"], format!("{name}: MEEEWWWWW"));
        assert!(answer.text().ends_with("\"}\n"));
        let answer = hub.get(&format!("/dog/{path}")).await;
        assert_eq!(answer.json()["dogBark"], format!("{name} is going to bark!"));
        let answer = hub.get(&format!("/analyze/{path}")).await;
        // The maximum number of analyses may be running by now. This test is about names.
        if answer.status == 200 {
            assert_eq!(answer.json()["result"], format!("Analyzing {name} ..."));
        } else {
            assert_problem(&answer, 429, "too_many_analyses");
        }
    }
    let told = |wanted: &str| -> Vec<String> {
        owner.notified().into_iter().filter(|(_, kind)| kind == wanted).map(|(name, _)| name).collect()
    };
    for kind in ["cat", "Dog"] {
        assert_eq!(told(kind), names.map(|(_, name)| name.to_owned()), "the owner service gets the names unchanged");
    }
}

#[tokio::test]
async fn raw_utf8_in_the_path_is_accepted() {
    let (hub, _node, _owner) = start().await;
    let answer = hub.get("/cat/Jörg").await;
    assert_eq!((answer.status, answer.json()["catMeaw"].as_str()), (200, Some("Jörg: MEEEWWWWW")));
}

#[tokio::test]
async fn name_that_is_not_utf8_is_a_bad_request() {
    let (hub, _node, _owner) = start().await;
    for path in ["/cat/%FF", "/dog/%C3", "/analyze/%ED%A0%80"] {
        assert_problem(&hub.get(path).await, 400, "bad_request");
    }
}

#[tokio::test]
async fn empty_names_and_unknown_paths_are_not_found() {
    let (hub, _node, owner) = start().await;
    for path in ["/cat/", "/dog/", "/analyze/", "/cat", "/", "/cat/Tom/", "/cat/Tom/x", "/Cat/Tom", "/api/v1/nothing"] {
        let answer = hub.get(path).await;
        if path == "/" {
            assert_eq!(answer.status, 200, "the front page");
        } else {
            assert_problem(&answer, 404, "not_found");
        }
    }
    assert!(owner.notified().is_empty());
}

#[tokio::test]
async fn wrong_method_is_405_and_allow_lists_the_methods() {
    let (hub, _node, owner) = start().await;
    for path in ["/cat/Tom", "/dog/Rex", "/analyze/Tom", "/api/v1/analyses", "/healthz"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = exchange(hub.at.http, method, path).await;
            assert_problem(&answer, 405, "method_not_allowed");
            let allow = answer.header("allow").unwrap_or_default();
            assert!(allow.contains("GET") && allow.contains("HEAD"), "{method} {path}: Allow: {allow}");
        }
    }
    assert!(owner.notified().is_empty());
}

#[tokio::test]
async fn name_that_is_too_long_is_414() {
    let (hub, _node, _owner) = start().await;
    let fits = "a".repeat(1024);
    assert_eq!(hub.get(&format!("/cat/{fits}")).await.json()["catMeaw"], format!("{fits}: MEEEWWWWW"));
    for length in [1025, 8000, 60_000] {
        let name = "a".repeat(length);
        assert_problem(&hub.get(&format!("/cat/{name}")).await, 414, "name_too_long");
    }
    // The limit counts bytes of the decoded name, not characters of the path.
    let umlauts = "%C3%B6".repeat(512);
    assert_eq!(hub.get(&format!("/cat/{umlauts}")).await.status, 200);
    assert_problem(&hub.get(&format!("/cat/{umlauts}a")).await, 414, "name_too_long");
}

#[tokio::test]
async fn unknown_numbers_are_not_found() {
    let (hub, _node, _owner) = start().await;
    for path in ["/api/v1/analyses/999999", "/api/v1/analyses/0", "/api/v1/analyses/Tom", "/api/v1/analyses/-1"] {
        assert_problem(&hub.get(path).await, 404, "not_found");
    }
}

#[tokio::test]
async fn analyses_are_listed_newest_first_by_page_cat_and_time() {
    let (hub, _node, _owner) = start().await;
    let mut paths = Vec::new();
    for name in ["Tom", "Tom", "Mia"] {
        paths.push(hub.analyze(name).await);
    }
    let listed = |answer: Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let analyses = answer.json()["analyses"].as_array().expect("a list").clone();
        analyses.iter().map(|analysis| format!("/api/v1/analyses/{}", analysis["id"])).collect()
    };
    let newest_first: Vec<String> = paths.iter().rev().cloned().collect();
    assert_eq!(listed(hub.get("/api/v1/analyses").await), newest_first);
    assert_eq!(listed(hub.get("/api/v1/analyses?cat=Mia").await), [paths[2].clone()]);
    assert_eq!(listed(hub.get("/api/v1/analyses?cat=Nobody").await), Vec::<String>::new());
    assert_eq!(listed(hub.get("/api/v1/analyses?limit=2").await), newest_first[..2]);
    assert_problem(&hub.get("/api/v1/analyses?limit=none").await, 400, "bad_request");
}

#[tokio::test]
async fn health_readiness_and_nodes_are_reported() {
    let (hub, node, _owner) = start().await;
    assert_eq!(hub.get("/healthz").await.status, 200);
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());

    let nodes = hub.get("/api/v1/nodes").await.json();
    let described = &nodes["nodes"][0];
    assert_eq!(
        (described["url"].as_str(), described["reachable"].as_bool()),
        (Some(node.url().as_str()), Some(true)),
        "{nodes}"
    );
    let boot_id = format!("{:016x}", node.describe().await.boot_id);
    assert_eq!(described["description"]["boot_id"], boot_id, "{nodes}");
    assert_eq!(described["description"]["source"]["kind"], "synthetic", "{nodes}");

    let http = hub.at.http;
    drop(node);
    assert_eq!(get(http, "/healthz").await.status, 200, "the hub itself is alive");
    let ready = get(http, "/readyz").await;
    assert_eq!(ready.status, 503, "no node answers: {}", ready.text());
    let nodes = get(http, "/api/v1/nodes").await.json();
    assert_eq!(nodes["nodes"][0]["reachable"], false, "{nodes}");
    assert_eq!(nodes["nodes"][0]["error"]["code"], "node_unavailable", "{nodes}");
}

#[tokio::test]
async fn openapi_describes_every_route_that_answers() {
    let (hub, _node, _owner) = start().await;
    let document = hub.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let paths = document["paths"].as_object().expect("paths");
    for path in
        ["/cat/{name}", "/dog/{name}", "/analyze/{name}", "/api/v1/analyses", "/api/v1/nodes", "/healthz", "/readyz"]
    {
        assert!(paths.contains_key(path), "{path} is not described");
        let status = hub.get(&path.replace("{name}", "Tom")).await.status.to_string();
        assert!(paths[path]["get"]["responses"].get(&status).is_some(), "{path} answers {status}, not described");
    }
    assert!(paths.keys().any(|path| path.starts_with("/api/v1/analyses/{")), "one analysis is not described");
}

#[tokio::test]
async fn two_requests_on_one_connection_are_both_answered() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (hub, _node, _owner) = start().await;
    let mut stream = tokio::net::TcpStream::connect(hub.at.http).await.unwrap();
    let requests = "GET /dog/A HTTP/1.1\r\nHost: localhost\r\n\r\nGET /dog/B HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut text = String::new();
    e2e::wait::within(e2e::wait::SOON, "both answers", stream.read_to_string(&mut text)).await.unwrap();
    let (a, b) = (text.find("A is going to bark!"), text.find("B is going to bark!"));
    assert!(a.is_some() && a < b, "{text}");
}
