//! `/metrics` of a running hub, on the gateway and on the gRPC ports.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{CallCat, Hub, Node, NodeScript, nobody, request, url, within};
use proto::dog_client::DogClient;
use proto::{DogRequest, NotifyRequest, owner_client::OwnerClient};
use tonic::Status;
use tonic::transport::Endpoint;

/// The value of a sample. `sample` is its name with its labels.
fn value(page: &str, sample: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
    Some(line.rsplit(' ').next()?.parse().unwrap())
}

async fn scrape(hub: &Hub) -> String {
    let answer = hub.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.body
}

/// Scrapes until a sample has the wanted value.
async fn until(hub: &Hub, sample: &str, wanted: f64) -> String {
    let scraping = async {
        loop {
            let page = scrape(hub).await;
            if value(&page, sample) == Some(wanted) {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within(sample, scraping).await
}

fn requests(route: &str, code: &str) -> String {
    format!("meowlink_hub_http_requests_total{{route=\"{route}\",code=\"{code}\"}}")
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript { call_cat: CallCat::Fail(Status::not_found("")), ..Default::default() }).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    for name in ["Rex", "Hasso", "no%20dog"] {
        assert_eq!(hub.get(&format!("/dog/{name}")).await.status, 200);
    }
    assert_eq!(hub.get("/cat/Tom").await.status, 404);
    request(hub.http, "POST /dog/Rex HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").await;
    for path in ["/nowhere", "/.env", "/dog/"] {
        assert_eq!(hub.get(path).await.status, 404, "{path}");
    }
    let page = scrape(&hub).await;
    for (route, code, count) in [
        ("/dog/{name}", "200", 3.0),
        ("/dog/{name}", "405", 1.0),
        ("/cat/{name}", "404", 1.0),
        ("/healthz", "200", 1.0),
        ("other", "404", 3.0),
    ] {
        assert_eq!(value(&page, &requests(route, code)), Some(count), "{route} {code}\n{page}");
    }
    assert_eq!(value(&page, "meowlink_hub_http_request_seconds_count{route=\"/dog/{name}\"}"), Some(4.0));
    assert_eq!(value(&page, "meowlink_hub_http_requests_in_flight{route=\"/metrics\"}"), Some(1.0), "this very scrape");
    for made_up in ["Hasso", "nowhere", ".env"] {
        assert!(!page.contains(made_up), "{made_up}\n{page}");
    }
    assert!(value(&page, "meowlink_hub_disk_free_bytes").unwrap() > 0.0);
    assert!(value(&page, "meowlink_hub_store_operations_total{operation=\"write\",code=\"ok\"}").unwrap() > 0.0);
}

#[tokio::test]
async fn every_route_of_the_document_has_a_name_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), &url(nobody().await)).await;
    let document = hub.json("/api/v1/openapi.json").await;
    let routes: Vec<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert!(routes.len() > 15, "{routes:?}");
    for route in routes.iter().filter(|route| !route.ends_with("/stream")) {
        let path = route.replace(['{', '}'], "");
        hub.get(&path).await;
        let page = scrape(&hub).await;
        let counted = format!("meowlink_hub_http_requests_total{{route=\"{route}\",");
        assert!(page.contains(&counted), "{route} as {path}\n{page}");
    }
    let page = scrape(&hub).await;
    assert!(!page.contains("route=\"other\""), "{page}");
}

#[tokio::test]
async fn nodes_show_how_they_fare() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript { cat: "To\"m\n", ..NodeScript::default() }).await;
    let gone = url(nobody().await);
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}, {gone:?}]", node.url())).await;
    let here = node.url();
    until(&hub, &format!("meowlink_hub_node_up{{node=\"{here}\"}}"), 1.0).await;
    let page = until(&hub, &format!("meowlink_hub_node_state{{node=\"{gone}\",state=\"away\"}}"), 1.0).await;
    assert_eq!(value(&page, "meowlink_hub_nodes"), Some(2.0));
    assert_eq!(value(&page, "meowlink_hub_nodes_waiting"), Some(0.0));
    assert_eq!(value(&page, &format!("meowlink_hub_node_up{{node=\"{gone}\"}}")), Some(0.0));
    // A line break in a node's text does not come in.
    let boot = "0000000000000007";
    let info = format!(
        "meowlink_hub_node_info{{node=\"{here}\",node_id=\"\",cat=\"To\\\"m\u{fffd}\",boot_id=\"{boot}\",version=\"1.2.3\"}}"
    );
    assert_eq!(value(&page, &info), Some(1.0), "{page}");
    let failed =
        format!("meowlink_hub_node_calls_total{{node=\"{gone}\",method=\"describe\",code=\"node_unavailable\"}}");
    assert!(value(&page, &failed).unwrap() >= 1.0, "{page}");
    let lost = format!("meowlink_hub_node_frames_lost_total{{node=\"{here}\",reason=\"overrun\"}}");
    assert_eq!(value(&page, &lost), Some(0.0), "{page}");
    // No audio ever came, so the age keeps growing.
    let age = format!("meowlink_hub_node_last_audio_age_seconds{{node=\"{here}\"}}");
    let earlier = value(&page, &age).unwrap();
    let page = scrape(&hub).await;
    assert!(value(&page, &age).unwrap() > earlier);
}

#[tokio::test]
async fn analyses_are_counted_by_result() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    let path = hub.analyze("Tom").await;
    assert_eq!(hub.ended(&path).await["status"], "complete");
    let page = until(&hub, "meowlink_hub_analyses_total{result=\"complete\"}", 1.0).await;
    assert_eq!(value(&page, "meowlink_hub_analyses_total{result=\"failed\"}"), Some(0.0));
    assert_eq!(value(&page, "meowlink_hub_analyses_limit"), Some(16.0));
}

#[tokio::test]
async fn roles_of_their_own_are_scraped_on_their_grpc_ports() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = url(nobody().await);
    let hub = Hub::start_with(dir.path(), &format!("only = [\"owner\", \"dog\"]\nowner_url = {nobody:?}")).await;
    let channel = |address| Endpoint::from_shared(url(address)).unwrap().connect_lazy();
    OwnerClient::new(channel(hub.owner)).notify(NotifyRequest::default()).await.unwrap();
    let mut dog = DogClient::new(channel(hub.dog));
    for _ in 0..2 {
        dog.call_dog(DogRequest::default()).await.unwrap();
    }
    for port in [hub.owner, hub.dog] {
        let answer = request(port, "GET /metrics HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").await;
        assert_eq!(answer.status, 200);
        let calls =
            |method: &str| value(&answer.body, &format!("meowlink_hub_rpcs_total{{method=\"{method}\",code=\"OK\"}}"));
        assert_eq!(
            (calls("proto.Owner/Notify"), calls("proto.dog/CallDog")),
            (Some(1.0), Some(2.0)),
            "{}",
            answer.body
        );
        let answer = request(port, "GET /dog/Rex HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n").await;
        assert_eq!(answer.problem(), (404, "not_found".into()));
    }
}
