//! Analyses on demand: complete, partial and failed ones, and the metadata that they pass on.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{BOOT_ID, FIRST_SEQUENCE, Hub, Node, NodeScript, Script, Then, nobody, rebind, url};
use hub_people::{People, UserRole};
use hub_store::{Access, Store};
use proto::cat_analysis_client::CatAnalysisClient;
use proto::{AnalysisRequest, SourceState};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

async fn hub_with(stream: Script) -> (Hub, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript { stream, ..NodeScript::default() }).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    (hub, node, dir)
}

#[tokio::test]
async fn whole_stream_is_a_complete_analysis() {
    let (hub, node, _dir) = hub_with(Script { messages: 30, audio: true, then: Then::End }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!(
        (&analysis["status"], &analysis["reason"]),
        (&"complete".into(), &serde_json::Value::Null),
        "{analysis}"
    );
    assert_eq!((&analysis["cat"], &analysis["node"]), (&"Tom".into(), &node.url().into()));
    assert_eq!(
        (&analysis["messages"], &analysis["heard_s"], &analysis["lost_s"]),
        (&30.into(), &30.0.into(), &0.0.into())
    );
    assert_eq!(analysis["boot_id"], format!("{BOOT_ID:016x}"));
    assert_eq!(analysis["first_sample"], FIRST_SEQUENCE * 320);
    // A sine of 300 of 32768.
    let rms_dbfs = analysis["level"]["rms_dbfs"].as_f64().unwrap();
    assert!((rms_dbfs - -43.78).abs() < 0.1, "{rms_dbfs}");
    let verdict = analysis["verdict"].as_str().unwrap();
    assert_eq!(analysis["result"], format!("Tom is {verdict} Cat"));
    assert_eq!(analysis["finding"], "no_cat");
    assert_eq!(hub.json("/api/v1/analyses").await["analyses"][0]["id"], analysis["id"]);
}

#[tokio::test]
async fn stream_that_ends_early_is_partial() {
    let (hub, _node, _dir) = hub_with(Script { messages: 12, audio: true, then: Then::End }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!(
        (&analysis["status"], &analysis["messages"], &analysis["heard_s"]),
        (&"partial".into(), &12.into(), &12.0.into())
    );
    assert_eq!(analysis["reason"], "the stream ended after 12 of 30 messages");
    assert!(analysis["verdict"].is_string());
}

#[tokio::test]
async fn stream_that_breaks_is_partial() {
    let broken = Then::Fail(Status::unavailable("the node is stopping"));
    let (hub, _node, _dir) = hub_with(Script { messages: 3, audio: true, then: broken }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["messages"]), (&"partial".into(), &3.into()));
    let reason = analysis["reason"].as_str().unwrap();
    assert!(reason.starts_with("the stream broke after 3 of 30 messages") && reason.contains("stopping"), "{reason}");
}

#[tokio::test]
async fn stream_that_falls_silent_is_partial() {
    let (hub, node, _dir) = hub_with(Script { messages: 2, audio: true, then: Then::Hang }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["messages"]), (&"partial".into(), &2.into()));
    assert_eq!(analysis["reason"], "no message for 5 s after 2 of 30");
    node.streams_closed(1).await;
}

#[tokio::test]
async fn stream_without_end_is_cut_after_what_was_promised() {
    let (hub, node, _dir) = hub_with(Script { messages: 30, audio: true, then: Then::GoOn }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["messages"]), (&"complete".into(), &30.into()));
    node.streams_closed(1).await;
}

#[tokio::test]
async fn words_without_audio_are_partial_and_smelly() {
    let (hub, _node, _dir) = hub_with(Script { messages: 30, audio: false, then: Then::End }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["verdict"]), (&"partial".into(), &"Smelly".into()));
    // No audio came, so nobody knows whether there was a cat.
    assert_eq!(analysis["finding"], serde_json::Value::Null);
    assert!(analysis["reason"].as_str().unwrap().starts_with("the node sent no audio"), "{analysis}");
    assert_eq!((&analysis["heard_s"], &analysis["first_sample"]), (&0.0.into(), &serde_json::Value::Null));
}

#[tokio::test]
async fn node_that_captures_and_sends_no_audio_is_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Script { messages: 30, audio: false, then: Then::End };
    let script = NodeScript { stream, stream_state: SourceState::Capturing, ..NodeScript::default() };
    let node = Node::start(script).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["verdict"]), (&"failed".into(), &serde_json::Value::Null));
    assert!(analysis["reason"].as_str().unwrap().contains("sent none although the hub asked"), "{analysis}");
}

#[tokio::test]
async fn node_that_refuses_fails_the_analysis_at_once() {
    let refused = Then::Fail(Status::resource_exhausted("too many subscribers"));
    let (hub, _node, _dir) = hub_with(Script { messages: 0, audio: true, then: refused }).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["verdict"]), (&"failed".into(), &serde_json::Value::Null));
    assert!(analysis["reason"].as_str().unwrap().contains("too many subscribers"), "{analysis}");
}

#[tokio::test]
async fn node_that_stays_down_fails_the_analysis_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), &url(nobody().await)).await;
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path).await;
    assert_eq!((&analysis["status"], &analysis["messages"]), (&"failed".into(), &0.into()));
    assert!(analysis["reason"].as_str().unwrap().contains("cannot be reached"), "{analysis}");
    assert_eq!(hub.get("/analyze/Tom").await.status, 200);
}

#[tokio::test]
async fn node_that_comes_up_in_time_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let address = nobody().await;
    let hub = Hub::start(dir.path(), &url(address)).await;
    let path = hub.analyze("Tom").await;
    assert_eq!(hub.get("/cat/Tom").await.problem().1, "node_unavailable");
    let _node = Node::start_on(rebind(address).await, NodeScript::default());
    assert_eq!(hub.ended(&path).await["status"], "complete");
}

#[tokio::test]
async fn node_that_dies_in_mid_stream_leaves_a_partial_analysis() {
    let (hub, node, _dir) = hub_with(Script { messages: 5, audio: true, then: Then::Hang }).await;
    let path = hub.analyze("Tom").await;
    node.streams_opened(1).await;
    // Its first messages have come: they are stored with the analysis.
    drop(node);
    let analysis = hub.ended(&path).await;
    assert_ne!(analysis["status"], "complete", "{analysis}");
    assert!(!analysis["reason"].as_str().unwrap().is_empty());
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
}

#[tokio::test]
async fn one_analysis_too_many_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let stream = Script { messages: 0, audio: true, then: Then::Hang };
    let node = Node::start(NodeScript { stream, ..NodeScript::default() }).await;
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}]\nmax_analyses = 2", node.url())).await;
    let first = hub.analyze("Tom").await;
    hub.analyze("Tom").await;
    let refused = hub.get("/analyze/Tom").await;
    assert_eq!(refused.problem(), (429, "too_many_analyses".into()));
    assert_eq!(refused.header("location"), None);
    let mut client = CatAnalysisClient::new(hub_base::peer::channel(&url(hub.analysis)).unwrap());
    let status = client.analyze_sound(AnalysisRequest { cat_name: "Tom".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(hub.json("/api/v1/analyses").await["analyses"].as_array().unwrap().len(), 2);
    hub.ended(&first).await;
    hub.analyze("Tom").await;
}

#[tokio::test]
async fn callers_metadata_reaches_the_node() {
    let (hub, node, _dir) = hub_with(Script { messages: 30, audio: true, then: Then::End }).await;
    let mut client = CatAnalysisClient::new(hub_base::peer::channel(&url(hub.analysis)).unwrap());
    let mut request = Request::new(AnalysisRequest { cat_name: "Tom".into() });
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("42"));
    request.metadata_mut().insert_bin("x-token-bin", MetadataValue::from_bytes(b"\0\x80\xff"));
    // This deadline is for the call. Passed on to the stream, it would cut the half minute short.
    request.set_timeout(std::time::Duration::from_secs(5));
    let answer = client.analyze_sound(request).await.unwrap().into_inner();
    assert_eq!(answer.result, "Analyzing Tom ...");
    assert_eq!(hub.ended(&format!("/api/v1/analyses/{}", answer.analysis_id)).await["status"], "complete");

    let metadata = node.metadata().pop().unwrap();
    assert_eq!(metadata.get("x-request-id").unwrap(), "42");
    assert_eq!(metadata.get_bin("x-token-bin").unwrap().to_bytes().unwrap().as_ref(), b"\0\x80\xff");
    assert!(metadata.get("grpc-timeout").is_none(), "{metadata:?}");
}

#[tokio::test]
async fn tokens_of_the_hub_and_cookies_do_not_reach_the_node_and_other_credentials_do() {
    let (hub, node, dir) = hub_with(Script { messages: 30, audio: true, then: Then::End }).await;
    let people = People::new(Store::open(dir.path(), Access::Guest).unwrap());
    let token = people.add_token("grafana", UserRole::Viewer, None).await.unwrap();
    let mut client = CatAnalysisClient::new(hub_base::peer::channel(&url(hub.analysis)).unwrap());
    let ours = MetadataValue::try_from(format!("Bearer {}", token.expose())).unwrap();
    let request = || {
        let mut request = Request::new(AnalysisRequest { cat_name: "Tom".into() });
        request.metadata_mut().append("authorization", ours.clone());
        for other in ["Basic dG9tOmNhdA==", "Bearer of-somebody-else"] {
            request.metadata_mut().append("authorization", MetadataValue::from_static(other));
        }
        request.metadata_mut().insert("cookie", MetadataValue::from_static("meowlink_session=x"));
        request
    };
    let answer = client.analyze_sound(request()).await.unwrap().into_inner();
    hub.ended(&format!("/api/v1/analyses/{}", answer.analysis_id)).await;
    let metadata = node.metadata().pop().unwrap();
    let values: Vec<_> = metadata.get_all("authorization").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(values, ["Basic dG9tOmNhdA==", "Bearer of-somebody-else"]);
    assert!(metadata.get("cookie").is_none(), "{metadata:?}");
    people.remove_token("grafana").await.unwrap();
    let refused = client.analyze_sound(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn stop_keeps_what_was_heard() {
    let (hub, node, dir) = hub_with(Script { messages: 4, audio: true, then: Then::Hang }).await;
    let path = hub.analyze("Tom").await;
    node.streams_opened(1).await;
    hub.stop().await;
    node.streams_closed(1).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    let analysis = hub.json(&path).await;
    assert!(["partial", "failed"].contains(&analysis["status"].as_str().unwrap()), "{analysis}");
    assert_eq!(analysis["status"] == "partial", analysis["heard_s"].as_f64().unwrap() > 0.0, "{analysis}");
    assert_eq!(analysis["reason"], "the hub was stopped during the analysis");
}

#[tokio::test]
async fn pages_of_analyses_join() {
    let (hub, _node, _dir) = hub_with(Script { messages: 0, audio: true, then: Then::End }).await;
    for name in ["a", "b", "a", "a", "b"] {
        let path = hub.analyze(name).await;
        hub.ended(&path).await;
    }
    let ids = |page: &serde_json::Value| -> Vec<i64> {
        page["analyses"].as_array().unwrap().iter().map(|analysis| analysis["id"].as_i64().unwrap()).collect()
    };
    let first = hub.json("/api/v1/analyses?limit=2").await;
    assert_eq!(ids(&first), [5, 4]);
    let second = hub.json(&format!("/api/v1/analyses?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!(ids(&second), [3, 2]);
    let third = hub.json(&format!("/api/v1/analyses?limit=2&cursor={}", second["next_cursor"].as_str().unwrap())).await;
    assert_eq!((ids(&third), &third["next_cursor"]), (vec![1], &serde_json::Value::Null));
    assert_eq!(ids(&hub.json("/api/v1/analyses?cat=b").await), [5, 2]);
    assert_eq!(ids(&hub.json("/api/v1/analyses?status=failed&cat=a&limit=1").await), [4]);
    let begun = hub.json("/api/v1/analyses/3").await["started_at"].as_str().unwrap().to_owned();
    assert_eq!(ids(&hub.json(&format!("/api/v1/analyses?from={begun}")).await), [5, 4, 3]);
    assert_eq!(ids(&hub.json(&format!("/api/v1/analyses?to={begun}")).await), [2, 1]);
}
