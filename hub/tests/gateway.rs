//! The gateway, tested with raw HTTP/1.1.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{Answer, CallCat, FakeOwner, Hub, Mood, Node, NodeScript, nobody, rebind, request, url, within};
use hub_base::error::{Code as ErrorCode, Error, Who};
use proto::SourceState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};

async fn hub_with(script: NodeScript) -> (Hub, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(script).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    (hub, node, dir)
}

async fn hub() -> (Hub, Node, tempfile::TempDir) {
    hub_with(NodeScript::default()).await
}

async fn send(hub: &Hub, method: &str, path: &str) -> Answer {
    request(hub.http, &format!("{method} {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn answers_are_the_contracts_byte_for_byte() {
    let (hub, _node, _dir) = hub().await;
    for (path, body) in [
        ("/cat/Tom", "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n"),
        ("/dog/Rex", "{\"dogBark\":\"Rex is going to bark!\"}\n"),
        ("/analyze/Tom", "{\"result\":\"Analyzing Tom ...\"}\n"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()));
    }
}

/// Animals of the notifications of calls, once there is one about Rex. A call before Rex's is stored before Rex's.
async fn notified_until_rex(hub: &Hub) -> Vec<String> {
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
    within("Rex's owner is notified", async {
        loop {
            let page = hub.json("/api/v1/notices").await;
            let notices = page["notices"].as_array().unwrap().iter();
            let animals: Vec<String> = notices.map(|notice| notice["animal"].as_str().unwrap().to_owned()).collect();
            if animals.contains(&"Rex".to_owned()) {
                return animals;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn owner_is_notified_of_a_called_cat_once_by_the_hub_or_by_an_older_node() {
    const OWNER: &str = "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"log\"\n";
    for (call_cat, expected) in [(CallCat::Answer, &["Rex", "Tom"][..]), (CallCat::AnswerAsBefore, &["Rex"])] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(NodeScript { call_cat, ..NodeScript::default() }).await;
        let hub = Hub::start_with(dir.path(), &format!("node = [{:?}]\n{OWNER}", node.url())).await;
        assert_eq!(hub.get("/cat/Tom").await.body, "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n");
        assert_eq!(node.caller_tells_owner(), [true], "the hub offers it to every node");
        assert_eq!(notified_until_rex(&hub).await, expected);
    }
}

#[tokio::test]
async fn hub_without_the_owner_role_leaves_the_owner_to_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let toml = format!("node = [{:?}]\nonly = [\"gateway\", \"analysis\", \"dog\"]", node.url());
    let hub = Hub::start_with(dir.path(), &toml).await;
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    assert_eq!(node.caller_tells_owner(), [false]);
}

#[tokio::test]
async fn names_are_percent_decoded_utf8() {
    let (hub, node, _dir) = hub().await;
    for (path, name) in [
        ("K%C3%A4the", "Käthe"),
        ("Käthe", "Käthe"),
        ("%F0%9F%90%88", "🐈"),
        ("Tom%20Cat", "Tom Cat"),
        ("a%2Fb", "a/b"),
        ("a%3Fb%23c", "a?b#c"),
        ("%2525", "%25"),
        ("a+b", "a+b"),
    ] {
        let answer = hub.get(&format!("/cat/{path}")).await;
        assert_eq!(answer.json()["catMeaw"], format!("{name}: MEEEWWWWW"), "{path}");
        assert_eq!(hub.json(&format!("/dog/{path}")).await["dogBark"], format!("{name} is going to bark!"));
        assert_eq!(node.calls().last().unwrap(), name);
    }
    assert_eq!(hub.json("/cat/%22%0A").await["catMeaw"], "\"\n: MEEEWWWWW");
}

#[tokio::test]
async fn query_is_not_part_of_the_name() {
    let (hub, _node, _dir) = hub().await;
    assert_eq!(hub.json("/cat/Tom?x=1").await["catMeaw"], "Tom: MEEEWWWWW");
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let (hub, _node, _dir) = hub().await;
    for path in ["/cat/Tom", "/dog/Rex", "/analyze/Tom", "/healthz", "/api/v1/analyses/77"] {
        let get = hub.get(path).await;
        let head = send(&hub, "HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_405_and_allow_lists_the_methods() {
    let (hub, node, _dir) = hub().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        for path in ["/cat/Tom", "/dog/Rex", "/analyze/Tom", "/api/v1/analyses", "/healthz"] {
            let answer = send(&hub, method, path).await;
            assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{method} {path}");
        }
    }
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn empty_names_and_unknown_paths_are_not_found() {
    let (hub, node, _dir) = hub().await;
    for path in ["/cat/", "/cat", "/dog/", "/analyze/", "/cat/Tom/", "/cat/Tom/x", "/Cat/Tom", "/nothing", "/api/v1"] {
        let answer = hub.get(path).await;
        assert_eq!(answer.problem(), (404, "not_found".into()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn name_that_is_not_utf8_is_a_bad_request() {
    let (hub, node, _dir) = hub().await;
    for path in ["/cat/%FF", "/dog/%C3", "/analyze/%ED%A0%80"] {
        assert_eq!(hub.get(path).await.problem(), (400, "bad_request".into()), "{path}");
    }
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn longest_name_is_accepted_and_one_byte_more_is_not() {
    let (hub, _node, _dir) = hub().await;
    let longest = "ö".repeat(512);
    let encoded = "%C3%B6".repeat(512);
    assert_eq!(hub.json(&format!("/cat/{encoded}")).await["catMeaw"], format!("{longest}: MEEEWWWWW"));
    for path in [format!("/cat/{encoded}x"), format!("/dog/{encoded}x"), format!("/analyze/{encoded}x")] {
        assert_eq!(hub.get(&path).await.problem(), (414, "name_too_long".into()));
    }
    assert_eq!(hub.get(&format!("/cat/{}", "x".repeat(60_000))).await.problem(), (414, "name_too_long".into()));
}

#[tokio::test]
async fn names_in_a_path_that_are_not_utf8_are_bad_requests() {
    let (hub, _node, _dir) = hub().await;
    for (method, path) in [
        ("GET", "/page/%FF"),
        ("POST", "/api/v1/nodes/waiting/%FF/admit"),
        ("POST", "/api/v1/nodes/waiting/%FF/refuse"),
        ("DELETE", "/api/v1/events/%FF"),
    ] {
        assert_eq!(send(&hub, method, path).await.problem(), (400, "bad_request".into()), "{method} {path}");
    }
}

#[tokio::test]
async fn oversized_heads_are_rejected() {
    let (hub, _node, _dir) = hub().await;
    let answer = request(hub.http, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000))).await;
    assert_eq!(answer.status, 414);
    let answer = request(hub.http, &format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(500_000))).await;
    assert_eq!(answer.status, 431);
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
}

#[tokio::test]
async fn node_that_is_down_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let node = url(nobody().await);
    let hub = Hub::start(dir.path(), &node).await;
    let answer = hub.get("/cat/Tom").await;
    assert_eq!(answer.problem(), (503, "node_unavailable".into()));
    let message = format!("the cat node at {node} cannot be reached: connection refused");
    assert_eq!(answer.json()["error"]["message"], message);
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
}

#[tokio::test]
async fn node_that_comes_up_is_found_by_the_next_call() {
    let dir = tempfile::tempdir().unwrap();
    let address = nobody().await;
    let hub = Hub::start(dir.path(), &url(address)).await;
    assert_eq!(hub.get("/cat/Tom").await.problem(), (503, "node_unavailable".into()));
    let _node = Node::start_on(rebind(address).await, NodeScript::default());
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
}

#[tokio::test]
async fn node_that_hangs_is_too_slow() {
    let (hub, _node, _dir) = hub_with(NodeScript { call_cat: CallCat::Hang, ..NodeScript::default() }).await;
    assert_eq!(hub.get("/cat/Tom").await.problem(), (504, "node_too_slow".into()));
}

#[tokio::test]
async fn node_that_accepts_and_says_nothing_is_too_slow_or_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hub = Hub::start(dir.path(), &url(silent.local_addr().unwrap())).await;
    let (status, code) = hub.get("/cat/Tom").await.problem();
    assert!(matches!((status, code.as_str()), (504, "node_too_slow") | (503, "node_unavailable")), "{status} {code}");
}

#[tokio::test]
async fn errors_of_the_nodes_owner_are_distinguished() {
    for (status, problem) in [
        (Status::unavailable("the owner is down"), (503, "owner_unavailable")),
        (Status::deadline_exceeded("the owner hangs"), (504, "owner_too_slow")),
        (Status::internal("ouch"), (502, "node_bad_answer")),
        (Status::unimplemented(""), (502, "node_bad_answer")),
        // As our node does.
        (Error::new(ErrorCode::BadAnswer(Who::Owner), "ouch").into(), (502, "owner_bad_answer")),
        (Error::new(ErrorCode::Unavailable(Who::Owner), "down").into(), (503, "owner_unavailable")),
    ] {
        let script = NodeScript { call_cat: CallCat::Fail(status), ..NodeScript::default() };
        let (hub, _node, _dir) = hub_with(script).await;
        let (code, word) = problem;
        assert_eq!(hub.get("/cat/Tom").await.problem(), (code, word.into()));
    }
}

#[tokio::test]
async fn dog_notifies_its_owner_and_reports_failures() {
    let dir = tempfile::tempdir().unwrap();
    let with_owner = |url: &str| format!("only = [\"dog\", \"gateway\", \"analysis\"]\nowner_url = {url:?}");

    let owner = FakeOwner::start(Mood::Answers).await;
    let hub = Hub::start_with(dir.path(), &with_owner(&url(owner.address))).await;
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
    assert_eq!(owner.notified(), [("Rex".into(), "Dog".into())]);
    let address = owner.address;
    drop(owner);
    assert_eq!(hub.get("/dog/Rex").await.problem(), (503, "owner_unavailable".into()));
    let owner = FakeOwner::start_on(rebind(address).await, Mood::Answers);
    assert_eq!(hub.get("/dog/Ada").await.status, 200, "the owner is back");
    assert_eq!(owner.notified(), [("Ada".into(), "Dog".into())]);
    hub.stop().await;

    for (mood, problem) in [
        (Mood::Hangs, (504, "owner_too_slow")),
        (Mood::Fails(Code::DeadlineExceeded), (504, "owner_too_slow")),
        (Mood::Fails(Code::Unavailable), (503, "owner_unavailable")),
        (Mood::Fails(Code::ResourceExhausted), (503, "owner_unavailable")),
        (Mood::Fails(Code::Internal), (502, "owner_bad_answer")),
        (Mood::Fails(Code::InvalidArgument), (502, "owner_bad_answer")),
        (Mood::Fails(Code::NotFound), (502, "owner_bad_answer")),
    ] {
        let owner = FakeOwner::start(mood).await;
        let hub = Hub::start_with(dir.path(), &with_owner(&url(owner.address))).await;
        assert_eq!(hub.get("/dog/Rex").await.problem(), (problem.0, problem.1.into()));
        assert_eq!(owner.notified().len(), 1, "what the owner got is not sent again");
        hub.stop().await;
    }
}

#[tokio::test]
async fn dog_waits_for_an_owner_that_is_just_starting() {
    let dir = tempfile::tempdir().unwrap();
    let address = nobody().await;
    let toml = format!("only = [\"dog\", \"gateway\", \"analysis\"]\nowner_url = {:?}", url(address));
    let hub = Hub::start_with(dir.path(), &toml).await;
    let (answer, owner) =
        tokio::join!(hub.get("/dog/Rex"), async { FakeOwner::start_on(rebind(address).await, Mood::Answers) });
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(owner.notified(), [("Rex".into(), "Dog".into())]);
}

#[tokio::test]
async fn analysis_that_another_hub_stores_has_no_location_here() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(NodeScript::default()).await;
    let analysis = Hub::start(elsewhere.path(), &node.url()).await;
    let (node_url, analysis_url) = (node.url(), url(analysis.analysis));
    let toml = format!("only = [\"gateway\"]\nnode = [{node_url:?}]\nanalysis_url = {analysis_url:?}");
    let hub = Hub::start_with(dir.path(), &toml).await;
    let answer = hub.get("/analyze/Tom").await;
    assert_eq!((answer.status, answer.header("location")), (200, None), "{answer:?}");
    hub.stop().await;

    // With the folder of the other hub, the path leads there.
    let hub = Hub::start_with(elsewhere.path(), &toml).await;
    let path = hub.analyze("Tom").await;
    assert_eq!(hub.json(&path).await["cat"], "Tom");
}

#[tokio::test]
async fn roles_elsewhere_that_are_down_are_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = url(nobody().await);
    let toml = format!("only = [\"gateway\"]\ndog_url = {nobody:?}\nanalysis_url = {nobody:?}");
    let hub = Hub::start_with(dir.path(), &toml).await;
    assert_eq!(hub.get("/dog/Rex").await.problem(), (503, "dog_unavailable".into()));
    assert_eq!(hub.get("/analyze/Tom").await.problem(), (503, "analysis_unavailable".into()));
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["checks"]["dog"]["ok"], false, "{ready:?}");
    assert_eq!(ready.json()["checks"]["store"]["ok"], true, "{ready:?}");
}

#[tokio::test]
async fn role_elsewhere_that_has_no_health_service_answers() {
    let dir = tempfile::tempdir().unwrap();
    let owner = FakeOwner::start(Mood::Answers).await;
    let node = Node::start(NodeScript::default()).await;
    let owner_url = url(owner.address);
    let toml =
        format!("only = [\"gateway\", \"dog\", \"analysis\"]\nowner_url = {owner_url:?}\nnode = [{:?}]", node.url());
    let hub = Hub::start_with(dir.path(), &toml).await;
    let ready = hub.get("/readyz").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    assert_eq!(ready.json()["checks"]["owner"]["ok"], true, "{ready:?}");
    drop(owner);
    let not_ready = async {
        while hub.get("/readyz").await.status != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("the owner is gone", not_ready).await;
}

#[tokio::test]
async fn readiness_follows_the_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let gone = url(nobody().await);
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}, {gone:?}]", node.url())).await;
    let ready = hub.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()), "one node of two is enough");
    assert_eq!(ready.json()["checks"][format!("node:{gone}")]["ok"], false);
    drop(node);
    let not_ready = async {
        while hub.get("/readyz").await.status != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("the hub is not ready", not_ready).await;
    assert_eq!(hub.get("/healthz").await.status, 200, "the process is alive");
}

#[tokio::test]
async fn deaf_node_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for (source, condition) in [(SourceState::NoDevice, "no_device"), (SourceState::Silent, "silent")] {
        let node = Node::start(NodeScript { source, ..NodeScript::default() }).await;
        let hub = Hub::start(dir.path(), &node.url()).await;
        let ready = hub.get("/readyz").await;
        let json = ready.json();
        assert_eq!((ready.status, &json["ready"], &json["status"]), (200, &true.into(), &"degraded".into()), "{json}");
        let check = &json["checks"][format!("node:{}", node.url())];
        assert_eq!((&check["ok"], &check["condition"]), (&false.into(), &condition.into()), "{json}");
        assert!(!check["detail"].as_str().unwrap().is_empty(), "{json}");
        assert!(check["last_audio_age_s"].is_u64() && check["last_sound_age_s"].is_u64(), "{json}");
        let strict = hub.get("/readyz?strict=true").await;
        assert_eq!((strict.status, &strict.json()["ready"]), (503, &true.into()));
        assert_eq!(hub.get("/readyz?strict=perhaps").await.problem(), (400, "bad_request".into()));
        let shown = format!("meowlink_hub_node_condition{{node=\"{}\",state=\"{condition}\"}} 1\n", node.url());
        let page = hub.get("/metrics").await.body;
        assert!(page.contains(&shown), "{page}");
        hub.stop().await;
    }
}

#[tokio::test]
async fn cat_of_the_original_system_answers_and_has_no_audio() {
    let script = NodeScript { call_cat: CallCat::AnswerAsBefore, is_original: true, ..NodeScript::default() };
    let (hub, node, _dir) = hub_with(script).await;
    let asked = async {
        // The hub has listened in vain, and asks again without calling the node away.
        while hub.json("/api/v1/listening").await["nodes"][0]["state"] != "quiet" {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("the node is known to be quiet", asked).await;
    let ready = hub.get("/readyz?strict=true").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    let check = &ready.json()["checks"][format!("node:{}", node.url())];
    assert_eq!((&check["ok"], &check["condition"]), (&true.into(), &"no_audio".into()), "{ready:?}");
    assert!(check["detail"].as_str().unwrap().contains("has no audio"), "{ready:?}");
    let shown = &hub.json("/api/v1/nodes").await["nodes"][0];
    assert_eq!((&shown["reachable"], &shown["description"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(shown["condition"], "no_audio", "{shown:?}");
    assert_eq!(hub.json("/api/v1/listening").await["nodes"][0]["disconnects"], 0);
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
}

#[tokio::test]
async fn hub_that_hears_its_node_is_ok_even_strictly() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let toml = format!("node = [{:?}]\nlisten = {{ enabled = false }}", node.url());
    let hub = Hub::start_with(dir.path(), &toml).await;
    let ready = hub.get("/readyz?strict=true").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"ok".into()), "{ready:?}");
    drop(node);
    let failed = async {
        while hub.json("/readyz").await["status"] != "failed" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("it has failed", failed).await;
}

#[tokio::test]
async fn nodes_are_described() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let gone = url(nobody().await);
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}, \"Ada={gone}\"]", node.url())).await;
    let nodes = hub.json("/api/v1/nodes").await;
    let (first, second) = (&nodes["nodes"][0], &nodes["nodes"][1]);
    assert_eq!((&first["cat"], &first["reachable"]), (&"Tom".into(), &true.into()), "{nodes}");
    assert_eq!(first["description"]["version"], "1.2.3");
    assert_eq!(first["description"]["boot_id"], "0000000000000007");
    assert_eq!((&second["cat"], &second["reachable"]), (&"Ada".into(), &false.into()), "{nodes}");
    assert_eq!(second["error"]["code"], "node_unavailable");
}

#[tokio::test]
async fn names_go_to_the_node_that_has_the_cat() {
    let dir = tempfile::tempdir().unwrap();
    let tom = Node::start(NodeScript::default()).await;
    let ada = Node::start(NodeScript { cat: "Ada", ..NodeScript::default() }).await;
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}, {:?}]", tom.url(), ada.url())).await;
    // Makes the hub ask both nodes for their cats.
    hub.json("/api/v1/nodes").await;
    for name in ["Ada", "Tom", "Nobody"] {
        assert_eq!(hub.get(&format!("/cat/{name}")).await.status, 200);
    }
    assert_eq!((tom.calls(), ada.calls()), (vec!["Tom".into(), "Nobody".into()], vec!["Ada".into()]));
}

#[tokio::test]
async fn openapi_describes_every_route_and_every_reference_resolves() {
    let (hub, _node, _dir) = hub().await;
    let document = hub.json("/api/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for path in [
        "/cat/{name}",
        "/dog/{name}",
        "/analyze/{name}",
        "/api/v1/analyses",
        "/api/v1/analyses/{id}",
        "/api/v1/nodes",
        "/healthz",
        "/readyz",
    ] {
        assert!(document["paths"][path]["get"]["responses"]["200"].is_object(), "{path}");
    }
    for path in ["events", "labels", "analyses", "notices"] {
        let get = &document["paths"][format!("/api/v1/{path}")]["get"];
        let schema = get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let answer = document.pointer(schema.strip_prefix('#').unwrap()).unwrap();
        assert_eq!(answer["properties"]["next_cursor"]["type"], serde_json::json!(["string", "null"]), "{path}");
        let parameters = get["parameters"].as_array().unwrap();
        let cursor = parameters.iter().find(|parameter| parameter["name"] == "cursor").unwrap();
        let kind = &cursor["schema"]["type"];
        assert!(*kind == "string" || kind[0] == "string", "{path}: {kind}");
    }
    for path in ["events.csv", "labels.csv"] {
        assert!(document["paths"][format!("/api/v1/{path}")]["get"]["responses"]["503"].is_object(), "{path}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(reference) if key == "$ref" => into.push(reference.into()),
                    _ => collect_references(value, into),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let (hub, _node, _dir) = hub().await;
    for (query, word) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("from=yesterday", "from"),
        ("to=2026-11-22", "to"),
        ("status=asleep", "status"),
        ("colour=red", "colour"),
    ] {
        let answer = hub.get(&format!("/api/v1/analyses?{query}")).await;
        assert_eq!(answer.problem(), (400, "bad_request".into()), "{query}");
        assert!(answer.body.contains(word), "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn index_lists_commands_to_try() {
    let (hub, _node, _dir) = hub().await;
    let answer = hub.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("curl http://hub/cat/Tom"), "{}", answer.body);
}

#[tokio::test]
async fn browser_gets_the_page_and_every_part_of_it_once() {
    let (hub, _node, _dir) = hub().await;
    let ask = async |path: &str, header: &str| {
        request(hub.http, &format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{header}\r\n\r\n")).await
    };
    let page = ask("/", "Accept: text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("vary"), Some("Accept"));
    let parts: Vec<&str> = page.body.split("\"page/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(parts.contains(&"app.js") && parts.contains(&"style.css"), "{parts:?}");
    for part in parts {
        let path = format!("/page/{part}");
        let whole = hub.get(&path).await;
        assert_eq!(whole.status, 200, "{part}");
        let again = ask(&path, &format!("If-None-Match: {}", whole.header("etag").unwrap())).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{part}");
        assert_eq!(ask(&path, "If-None-Match: \"older\"").await.status, 200);
    }
    assert_eq!(hub.get("/page/nothing.js").await.problem(), (404, "not_found".into()));
}

#[tokio::test]
async fn connection_is_kept_for_further_requests() {
    let (hub, _node, _dir) = hub().await;
    let mut stream = TcpStream::connect(hub.http).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /dog/Rex HTTP/1.1\r\nHost: hub\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        within("an answer", async {
            while !answer.ends_with(b"bark!\"}\n") {
                stream.read_buf(&mut answer).await.unwrap();
            }
        })
        .await;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn request_in_flight_is_answered_while_the_hub_stops() {
    let dir = tempfile::tempdir().unwrap();
    let owner = FakeOwner::start(Mood::Hangs).await;
    let toml = format!("only = [\"dog\", \"gateway\", \"analysis\"]\nowner_url = \"{}\"", url(owner.address));
    let hub = Hub::start_with(dir.path(), &toml).await;
    let idle = TcpStream::connect(hub.http).await.unwrap();
    let stop = hub.stop_token();
    let (answer, ()) = tokio::join!(hub.get("/dog/Rex"), async {
        within("the owner is told", async {
            while owner.notified().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        stop.cancel();
    });
    assert_eq!(answer.problem(), (504, "owner_too_slow".into()));
    hub.stop().await;
    drop(idle);
}

#[tokio::test]
async fn unknown_host_names_are_rejected() {
    let (hub, _node, _dir) = hub().await;
    for (path, host, status) in [
        ("/healthz", "hub.local:5000", 200),
        ("/healthz", "evil.example:5000", 421),
        ("/cat/Tom", "evil.example", 421),
        ("/", "evil.example", 421),
        ("/nowhere", "evil.example", 421),
        ("http://evil.example/healthz", "localhost", 421),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = request(hub.http, &head).await;
        assert_eq!(answer.status, status, "{host}{path}");
        if status == 421 {
            let error = &answer.json()["error"];
            assert_eq!(error["code"], "unknown_host");
            let message = error["message"].as_str().unwrap();
            assert_eq!(message, "Unknown host name \"evil.example\"; if it is yours, add it to `[page] hosts`.");
        }
    }
    let put = "PUT /api/v1/events/77/label HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(request(hub.http, put).await.status, 421, "whatever the method");
    let old = request(hub.http, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(old.status, 200, "a program that sends no Host");
}

#[tokio::test]
async fn page_of_another_site_cannot_change_anything() {
    let (hub, _node, _dir) = hub().await;
    let delete = async |headers: &str| {
        let head = format!("DELETE /api/v1/events/77 HTTP/1.1\r\nHost: hub:8080\r\nConnection: close\r\n{headers}\r\n");
        request(hub.http, &head).await
    };
    // The event does not exist: a request that is not blocked gets 404.
    for ours in [
        "",
        "Origin: http://hub:8080\r\n",
        "Origin: https://HUB:8080\r\n",
        "Origin: http://a\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        let answer = delete(ours).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("not_found")), "{ours}");
    }
    for foreign in [
        "Origin: http://evil.example\r\n",
        "Origin: http://hub:8081\r\n",
        "Origin: null\r\n",
        "Origin: http://hub:8080\r\nSec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let answer = delete(foreign).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (403, Some("foreign_origin")),
            "{foreign}"
        );
    }
    let blocked = delete("Origin: http://evil.example\r\n").await.json();
    assert_eq!(
        blocked["error"]["message"],
        "Blocked: the request came from another site. Behind a proxy, forward the `Host` header."
    );
    let read = request(
        hub.http,
        "GET /healthz HTTP/1.1\r\nHost: hub\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(read.status, 200);
}

#[tokio::test]
async fn page_behind_a_proxy_that_drops_the_port_can_change_things() {
    let (hub, _node, _dir) = hub().await;
    let head = "DELETE /api/v1/events/77 HTTP/1.1\r\nHost: hub.local\r\nOrigin: http://hub.local:26180\r\n\
                Connection: close\r\n\r\n";
    assert_eq!(request(hub.http, head).await.problem(), (404, "not_found".into()), "it is not blocked");
}

#[tokio::test]
async fn page_of_another_site_cannot_call_an_animal_or_open_a_stream() {
    let (hub, node, _dir) = hub().await;
    let get = async |path: &str, headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: hub:5000\r\nConnection: close\r\n{headers}\r\n");
        request(hub.http, &head).await
    };
    let foreign = [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nReferer: http://hub:5000/\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: same-site\r\nReferer: http://other.hub/\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Referer: http://evil.example/hub:5000\r\n",
    ];
    for path in
        ["/cat/Tom", "/dog/Rex", "/analyze/Tom", "/api/v1/stream", "/api/v1/nodes/live.wav?node=x", "/cat/Tom?x=1"]
    {
        for headers in foreign {
            let answer = get(path, headers).await;
            assert_eq!(answer.problem(), (403, "foreign_origin".into()), "{path} {headers}");
        }
    }
    assert!(node.calls().is_empty());
    for ours in [
        "",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-origin\r\nReferer: http://hub:5000/\r\n",
        "Sec-Fetch-Site: same-site\r\nReferer: http://hub:8123/\r\n",
        "Referer: http://hub:5000/\r\n",
        "Origin: http://hub:5000\r\n",
    ] {
        for path in ["/cat/Tom", "/dog/Rex", "/analyze/Tom"] {
            assert_eq!(get(path, ours).await.status, 200, "{path} {ours}");
        }
    }
    for path in ["/", "/healthz", "/api/v1/events", "/api/v1/openapi.json"] {
        assert_eq!(get(path, foreign[0]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn every_answer_forbids_browsers_to_guess_its_type() {
    let (hub, _node, _dir) = hub().await;
    for (method, path, status) in [
        ("GET", "/cat/Tom", 200),
        ("GET", "/", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/v1/events.csv", 200),
        ("GET", "/nowhere", 404),
        ("POST", "/cat/Tom", 405),
        ("GET", "/cat/%FF", 400),
        ("GET", "/api/v1/events?limit=0", 400),
        ("HEAD", "/healthz", 200),
    ] {
        let answer = send(&hub, method, path).await;
        assert_eq!((answer.status, answer.header("x-content-type-options")), (status, Some("nosniff")), "{path}");
    }
    let strange = request(hub.http, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!((strange.status, strange.header("x-content-type-options")), (421, Some("nosniff")));
}
