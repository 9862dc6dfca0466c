//! Labels of the owner: the label of one meow changes the contexts of the cat's later meows, and of no stored one;
//! sounds like labelled false alarms are not announced.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::binaries::workspace;
use e2e::fakes::{FakeOwner, Mood};
use e2e::hub::{Addresses, Hub};
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

/// A baby that cries and a cat that meows, in turn, each with silence up to 4 s.
fn baby_and_cat(folder: &Path) -> PathBuf {
    let mut baby = hound::WavReader::open(workspace().join("e2e/tests/clips/baby.wav")).unwrap();
    let spec = baby.spec();
    let mut samples: Vec<i16> = baby.samples::<i16>().map(Result::unwrap).collect();
    samples.resize(4 * spec.sample_rate as usize, 0);
    let mut cat = hound::WavReader::open(recording(folder)).unwrap();
    samples.extend(cat.samples::<i16>().map(Result::unwrap));
    let path = folder.join("baby-and-cat.wav");
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    samples.into_iter().for_each(|sample| wav.write_sample(sample).unwrap());
    wav.finalize().unwrap();
    path
}

/// Whether an event of [`baby_and_cat`] is the baby: its cry is short.
fn is_baby(event: &Value) -> bool {
    event["duration_s"].as_f64().unwrap() < 1.0
}

/// Waits until the baby and the cat have been heard after event `after`, and returns the first event of each.
async fn next(hub: &Hub, after: i64) -> (Value, Value) {
    until(HEARD, "the baby and the cat", || async {
        let mut events = hub.get("/api/v1/events").await.json()["events"].as_array()?.clone();
        events.retain(|event| event["id"].as_i64() > Some(after));
        let first = |baby: bool| events.iter().rev().find(|event| is_baby(event) == baby).cloned();
        Some((first(true)?, first(false)?))
    })
    .await
}

/// Status and reason of the notification about an event, once it is no longer pending.
async fn notification(hub: &Hub, id: &Value) -> (Value, Value) {
    until(HEARD, "the notification", || async {
        let notices = hub.get("/api/v1/notices?limit=500").await.json()["notices"].as_array()?.clone();
        let about = notices.into_iter().find(|notice| notice["event_id"] == *id && notice["status"] != "pending")?;
        Some((about["status"].clone(), about["reason"].clone()))
    })
    .await
}

#[tokio::test]
async fn baby_that_was_labelled_twice_is_not_announced_again_and_the_cat_is() {
    let folder = tempfile::tempdir().unwrap();
    let owner = FakeOwner::start(Mood::Answers).await;
    let source = format!("wav:{}", baby_and_cat(folder.path()).display());
    let node = Node::start(NodeOptions { source, ..NodeOptions::new(owner.url()) }).await;
    // The baby is heard as a cat, whatever the network thinks of babies.
    let toml = "[detector]\non_probability = 0.2\noff_probability = 0.1\nmin_score = 0.2\n\
                [[owners]]\nname = \"Anna\"\ncooldown_s = 0\n[[owners.channels]]\ntype = \"log\"\n";
    let hub = Hub::start_with_config(Addresses::free(), &[("Tom", &node.url())], toml).await;

    let mut taught = Vec::new();
    for _ in 0..2 {
        let (baby, _) = next(&hub, taught.last().copied().unwrap_or(0)).await;
        assert_eq!(baby["like_false_alarms"], json!([]), "{baby}");
        assert_eq!(notification(&hub, &baby["id"]).await.0, "delivered");
        taught.push(baby["id"].as_i64().unwrap());
    }
    for id in &taught {
        label(&hub, *id, "not_a_cat".into()).await;
    }
    // Killed right after the labels.
    let hub = hub.restart().await;

    // An event that was found before the labels were set may not know them.
    let known = events(&hub, 1).await[0];
    let (later, _) = next(&hub, known).await;
    let (baby, cat) = next(&hub, later["id"].as_i64().unwrap()).await;
    assert_eq!(baby["like_false_alarms"], json!([taught[1], taught[0]]), "{baby}");
    assert!(baby["clip"].is_object(), "{baby}");
    assert_eq!(cat["like_false_alarms"], json!([]), "{cat}");
    assert_eq!(notification(&hub, &baby["id"]).await, ("suppressed".into(), "like_not_a_cat".into()));
    assert_eq!(notification(&hub, &cat["id"]).await.0, "delivered");
    let aside = hub.get("/api/v1/events?announced=false&limit=500").await.json()["events"].as_array().unwrap().clone();
    assert!(aside.iter().all(is_baby) && aside.iter().any(|event| event["id"] == baby["id"]), "{aside:?}");
    let path = hub.analyze("Tom").await;
    let analysis = hub.ended(&path, HEARD).await;
    let detections = analysis["detections"].as_array().unwrap();
    let is_long = |found: &Value| found["end_s"].as_f64().unwrap() - found["start_s"].as_f64().unwrap() >= 1.0;
    assert!(!detections.is_empty() && detections.iter().all(is_long), "{analysis}");

    label(&hub, taught[0], Value::Null).await;
    let known = events(&hub, 1).await[0];
    let (later, _) = next(&hub, known).await;
    let (baby, _) = next(&hub, later["id"].as_i64().unwrap()).await;
    assert_eq!(baby["like_false_alarms"], json!([]), "{baby}");
    assert_eq!(notification(&hub, &baby["id"]).await.0, "delivered");
}
