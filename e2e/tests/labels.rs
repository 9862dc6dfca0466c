//! Labels of the owner: the label of one meow changes the contexts of the cat's later meows, and of no stored one.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::binaries::workspace;
use e2e::fakes::{FakeOwner, Mood};
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use serde_json::{Value, json};

/// The cat meows every 4 s; analyses take half a minute.
const HEARD: Duration = Duration::from_secs(60);

/// A recording of a meow, followed by silence.
fn recording(folder: &Path) -> PathBuf {
    let mut meow = hound::WavReader::open(workspace().join("sound/tests/clips/meow_alone.wav")).unwrap();
    let spec = meow.spec();
    let mut samples: Vec<i16> = meow.samples::<i16>().map(Result::unwrap).collect();
    samples.resize(4 * spec.sample_rate as usize, 0);
    let path = folder.join("cat.wav");
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    samples.into_iter().for_each(|sample| wav.write_sample(sample).unwrap());
    wav.finalize().unwrap();
    path
}

/// Waits for `at_least` events, and returns the numbers of all events, latest first.
async fn events(hub: &Hub, at_least: usize) -> Vec<i64> {
    until(HEARD, &format!("{at_least} events"), || async {
        let page = hub.get("/api/v1/events").await.json();
        let ids: Vec<i64> = page["events"].as_array()?.iter().filter_map(|event| event["id"].as_i64()).collect();
        (ids.len() >= at_least).then_some(ids)
    })
    .await
}

async fn context(hub: &Hub, id: i64) -> Value {
    hub.get(&format!("/api/v1/events/{id}")).await.json()["context"].clone()
}

async fn label(hub: &Hub, id: i64, label: Value) {
    let answer = hub.put_json(&format!("/api/v1/events/{id}/label"), &json!({ "label": label })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn label_changes_later_meows_and_no_stored_one_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let owner = FakeOwner::start(Mood::Answers).await;
    let source = format!("wav:{}", recording(folder.path()).display());
    let node = Node::start(NodeOptions { source, ..NodeOptions::new(owner.url()) }).await;
    let hub = Hub::start(&[("Tom", &node.url())]).await;

    let heard = events(&hub, 2).await;
    let (earlier, labelled) = (heard[1], heard[0]);
    let general = context(&hub, earlier).await;
    let before_label = context(&hub, labelled).await;
    assert_eq!((&general["model"], &general["labels"]), (&"general".into(), &0.into()), "{general}");
    label(&hub, labelled, "brushing".into()).await;

    // A meow that was heard while the label was set may not use it yet; the one after it does.
    let known = events(&hub, 2).await.len();
    let later = events(&hub, known + 2).await[0];
    let taught = context(&hub, later).await;
    assert_eq!((&taught["model"], &taught["labels"]), (&"household".into(), &1.into()), "{taught}");
    let brushing = |context: &Value| context["probabilities"]["brushing"].as_f64().unwrap();
    assert!(brushing(&taught) > brushing(&general), "{general} and then {taught}");
    assert_eq!(context(&hub, earlier).await, general, "a stored event stays as it is");

    let hub = hub.restart().await;
    assert_eq!((context(&hub, earlier).await, context(&hub, later).await), (general, taught.clone()));
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path, HEARD).await;
    let detections = analysis["detections"].as_array().unwrap();
    assert!(!detections.is_empty(), "{analysis}");
    for found in detections {
        assert_eq!(found["context"]["model"], "household", "{analysis}");
    }

    label(&hub, labelled, Value::Null).await;
    assert_eq!((context(&hub, labelled).await, context(&hub, later).await), (before_label, taught));
}
