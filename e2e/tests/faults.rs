//! Faults that the original system handled badly, each with a test that this system handles it: owners that hang or go
//! away, nodes that are down or die, hubs that are restarted.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::time::{Duration, Instant};

use e2e::fakes::{BlackHole, FakeOwner, Mood};
use e2e::http::Answer;
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::{SOON, until, within};
use proto::{AnalyzeCatSoundRequest, CatRequest};
use tonic::Code;

/// How soon after an outage calls must work again. The product promises this. It is the only limit on speed in this
/// file.
const RECOVERY: Duration = Duration::from_secs(1);

/// A call to a service that hangs must end within this time, even if the caller sets no deadline.
const BOUNDED: Duration = Duration::from_secs(15);

/// Most bytes that a failing daemon may cause in the hub's log. The original wrote 13 MB per second.
const LOG_BYTES: usize = 20_000;

fn error_code(answer: &Answer) -> String {
    let body = answer.json();
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(!message.is_empty() && !message.contains("os error"), "not for people: {body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    body["error"]["code"].as_str().expect("a code").to_owned()
}

fn call_tom() -> CatRequest {
    CatRequest { cat_name: "Tom".into(), caller_tells_owner: false }
}

/// Repeats the call until it works, and returns how long that took.
async fn recovery(node: &Node) -> Duration {
    let start = Instant::now();
    let mut client = node.client();
    until(SOON, "the call works again", || {
        let mut client = client.clone();
        async move { client.call_cat(call_tom()).await.ok() }
    })
    .await;
    let took = start.elapsed();
    client.call_cat(call_tom()).await.expect("the call still works");
    took
}

#[tokio::test]
async fn owner_that_hangs_costs_callers_a_deadline() {
    let owner = FakeOwner::start(Mood::Hangs).await;
    let node = Node::start(NodeOptions::new(owner.url())).await;
    let dogs_owner = FakeOwner::start(Mood::Answers).await;
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], &dogs_owner.url()).await;

    let mut client = node.client();
    let grpc = within(BOUNDED, "CallCat ends", client.call_cat(call_tom()));
    let http = within(BOUNDED, "/cat/Tom ends", hub.get("/cat/Tom"));
    let (grpc, http) = tokio::join!(grpc, http);
    assert_eq!(grpc.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((http.status, error_code(&http).as_str()), (504, "owner_too_slow"));
    assert_eq!(owner.notified(), vec![("Tom".to_owned(), "cat".to_owned()); 2], "the node made each call once");

    // Calls that need no owner work at once.
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
    assert_eq!(node.describe().await.counters.unwrap().owner_failures, 2);
}

#[tokio::test]
async fn owner_that_accepts_and_is_silent_costs_callers_a_deadline() {
    let hole = BlackHole::open().await;
    let node = Node::start(NodeOptions::new(hole.url())).await;
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], &hole.url()).await;
    let mut client = node.client();
    let grpc = within(BOUNDED, "CallCat ends", client.call_cat(call_tom()));
    let http = within(BOUNDED, "/cat/Tom ends", hub.get("/cat/Tom"));
    let (grpc, http) = tokio::join!(grpc, http);
    assert_eq!(grpc.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((http.status, error_code(&http).as_str()), (504, "owner_too_slow"));
}

#[tokio::test]
async fn owner_that_is_down_is_unavailable_and_recovery_is_fast() {
    let owner = FakeOwner::start(Mood::Answers).await;
    let (address, url) = (owner.address(), owner.url());
    let node = Node::start(NodeOptions::new(&url)).await;
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], &url).await;
    assert_eq!(hub.get("/cat/Tom").await.text(), "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n");
    owner.stop().await;

    let status = within(BOUNDED, "CallCat ends", node.client().call_cat(call_tom())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let http = hub.get("/cat/Tom").await;
    assert_eq!((http.status, error_code(&http).as_str()), (503, "owner_unavailable"));

    let owner = FakeOwner::start_at(address, Mood::Answers).await;
    let took = recovery(&node).await;
    assert!(took < RECOVERY, "{took:?}");
    assert!(owner.notified().contains(&("Tom".to_owned(), "cat".to_owned())));
}

#[tokio::test]
async fn recovery_is_as_fast_after_a_long_outage_full_of_calls() {
    let owner = FakeOwner::start(Mood::Answers).await;
    let (address, url) = (owner.address(), owner.url());
    let node = Node::start(NodeOptions::new(&url)).await;
    let hub = Hub::start_without_owner(&[("Tom", &node.url())], &url).await;
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    owner.stop().await;

    // The original backed off further with each failed call: after 10 s it waited 7 s.
    let outage = Instant::now();
    let mut calls = 0;
    while outage.elapsed() < Duration::from_secs(11) {
        assert_eq!(hub.get("/cat/Tom").await.status, 503);
        calls += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let _owner = FakeOwner::start_at(address, Mood::Answers).await;
    let took = recovery(&node).await;
    assert!(took < RECOVERY, "{took:?} after {calls} calls");
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    let (node_log, hub_log) = (node.daemon.log(), hub.daemon.log());
    assert!(node_log.len() < LOG_BYTES && hub_log.len() < LOG_BYTES, "{calls} failures flooded a log");
}

#[tokio::test]
async fn node_started_before_its_owner_answers_its_first_call() {
    let address = ports::free();
    let node = Node::start(NodeOptions::new(format!("http://{address}"))).await;
    let owner = FakeOwner::start_at(address, Mood::Answers).await;
    let answer = node.client().call_cat(call_tom()).await.expect("the first call works").into_inner();
    assert_eq!(answer.cat_meaw, "Tom: MEEEWWWWW");
    assert_eq!(owner.notified(), [("Tom".to_owned(), "cat".to_owned())]);
}

#[tokio::test]
async fn node_that_is_down_fails_one_analysis_and_nothing_else() {
    let mut options = NodeOptions::new("http://127.0.0.1:1");
    let mut hub = Hub::start(&[("Tom", &format!("http://{}", options.listen))]).await;
    for _ in 0..3 {
        let path = hub.analyze("Tom").await;
        let analysis = hub.ended(&path, SOON).await;
        assert_eq!(analysis["status"], "failed", "{analysis}");
        assert!(analysis["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{analysis}");
        assert_eq!(analysis["detections"].as_array().map(Vec::len), Some(0), "{analysis}");
    }
    let http = hub.get("/cat/Tom").await;
    assert_eq!((http.status, error_code(&http).as_str()), (503, "node_unavailable"));
    assert_eq!(hub.get("/dog/Rex").await.text(), "{\"dogBark\":\"Rex is going to bark!\"}\n");
    assert!(hub.daemon.is_running());

    options.owner_url = hub.owner_url();
    let _node = Node::start(options).await;
    let start = Instant::now();
    until(SOON, "the node is found", || async { (hub.get("/cat/Tom").await.status == 200).then_some(()) }).await;
    assert!(start.elapsed() < RECOVERY, "{:?}", start.elapsed());
    let path = hub.analyze("Tom").await;
    let analysis = hub.get(&path).await.json();
    assert_eq!(analysis["status"], "running", "{analysis}");
}

#[tokio::test]
async fn node_killed_in_mid_stream_leaves_a_partial_analysis() {
    let owner = FakeOwner::start(Mood::Answers).await;
    let mut node = Node::start(NodeOptions::new(owner.url())).await;
    let hub = Hub::start(&[("Tom", &node.url())]).await;
    let path = hub.analyze("Tom").await;

    // This stream is opened after the hub's. When it has messages, the hub has some too.
    let mut stream = node.client().analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap().into_inner();
    for _ in 0..3 {
        within(SOON, "a message", stream.message()).await.unwrap().expect("the stream goes on");
    }
    let log_before = hub.daemon.log().len();
    node.daemon.kill();

    let analysis = hub.ended(&path, SOON).await;
    assert_eq!(analysis["status"], "partial", "{analysis}");
    assert!(analysis["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{analysis}");
    assert!((1..30).contains(&analysis["messages"].as_u64().unwrap()), "{analysis}");

    // The original looped over the broken stream and wrote 13 MB of log per second.
    let cpu_before = cpu_ticks(hub.daemon.pid());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let log_grew = hub.daemon.log().len() - log_before;
    assert!(log_grew < LOG_BYTES, "{log_grew} bytes");
    let cpu = cpu_ticks(hub.daemon.pid()) - cpu_before;
    assert!(cpu < 100, "{cpu} ticks of CPU in 3 s with nothing to do");

    let _node = Node::start(node.options()).await;
    until(SOON, "the node is found again", || async { (hub.get("/cat/Tom").await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn hub_killed_during_an_analysis_marks_it_failed_after_its_restart() {
    let owner = FakeOwner::start(Mood::Answers).await;
    let mut node = Node::start(NodeOptions::new(owner.url())).await;
    let mut hub = Hub::start(&[("Tom", &node.url())]).await;
    let path = hub.analyze("Tom").await;
    // This stream is opened after the hub's. When it has messages, the hub has some too.
    let mut stream = node.client().analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap().into_inner();
    for _ in 0..2 {
        within(SOON, "a message", stream.message()).await.unwrap().expect("the stream goes on");
    }
    drop(stream);

    hub.daemon.kill();
    until(SOON, "the node notices", || async {
        (node.describe().await.counters.unwrap().subscribers == 0).then_some(())
    })
    .await;
    let hub = hub.restart().await;
    let analysis = hub.ended(&path, SOON).await;
    assert_eq!(analysis["status"], "failed", "{analysis}");
    assert!(analysis["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{analysis}");
    assert!(node.daemon.is_running());
    assert_eq!(hub.get("/cat/Tom").await.status, 200);
    let next = hub.analyze("Tom").await;
    assert_ne!(next, path, "a number is never reused");
    assert_eq!(hub.get(&next).await.json()["status"], "running");
}

/// CPU time of a process so far, in clock ticks (10 ms).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The second field is the name in parentheses; utime and stime are the 14th and 15th.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
