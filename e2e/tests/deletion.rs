//! `hub delete` at a hub that has heard two cats: what is deleted is gone from the API, the disk and the snapshots, and
//! the other cat stays.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use e2e::binaries::{binaries, workspace};
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

/// How long the test waits. The hub makes its first snapshot a minute after its start.
const HEARD: Duration = Duration::from_secs(180);

/// Events of each cat before something is deleted. Tom meows so often, and then is silent: what is heard after the
/// request for a deletion stays.
const EVENTS: usize = 3;

/// Seconds from one meow of Tom to the next, and how long he is silent afterwards.
const MEOW_S: usize = 5;
const SILENCE_S: usize = 900;

/// The meows of Tom, and his silence.
fn recording(folder: &Path) -> PathBuf {
    let mut meow = hound::WavReader::open(workspace().join("sound/tests/clips/meow_alone.wav")).unwrap();
    let spec = meow.spec();
    let meow: Vec<i16> = meow.samples::<i16>().map(Result::unwrap).collect();
    let path = folder.join("tom.wav");
    let mut wav = hound::WavWriter::create(&path, spec).unwrap();
    let second = spec.sample_rate as usize;
    let silence = std::iter::repeat_n(0, SILENCE_S * second);
    let padded = meow.iter().copied().chain(std::iter::repeat(0)).take(MEOW_S * second).collect::<Vec<_>>();
    padded.repeat(EVENTS).into_iter().chain(silence).for_each(|sample| wav.write_sample(sample).unwrap());
    wav.finalize().unwrap();
    path
}

/// The stored events, the latest first.
async fn events(hub: &Hub) -> Vec<Value> {
    let page = hub.get("/api/v1/events?limit=500").await.json();
    assert!(page["next_cursor"].is_null(), "one page holds all events");
    page["events"].as_array().unwrap().clone()
}

/// Those of one cat, by their numbers.
async fn events_of(hub: &Hub, cat: &str) -> BTreeMap<i64, Value> {
    let events = events(hub).await.into_iter().filter(|event| event["cat"] == cat);
    events.map(|event| (event["id"].as_i64().unwrap(), event)).collect()
}

fn ids(events: &BTreeMap<i64, Value>) -> BTreeSet<i64> {
    events.keys().copied().collect()
}

async fn label(hub: &Hub, id: i64) {
    let answer = hub.put_json(&format!("/api/v1/events/{id}/label"), &json!({ "label": "brushing" })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn delete(hub: &Hub, arguments: &[&str]) -> Output {
    let mut command = Command::new(&binaries().hub);
    command.arg("delete").args(arguments).arg("--data-dir").arg(hub.data_folder()).output().unwrap()
}

/// Deletes, and waits until that is done. Returns what the command has printed.
async fn deleted(hub: &Hub, arguments: &[&str]) -> String {
    let done = delete(hub, &[arguments, &["--yes"]].concat());
    assert!(done.status.success(), "{done:?}");
    until(HEARD, "the deletion is done", || async {
        let privacy = hub.get("/api/v1/privacy").await.json();
        (privacy["deletions"].as_array()?.iter().all(|one| one["state"] == "done")).then_some(())
    })
    .await;
    String::from_utf8(done.stdout).unwrap()
}

/// The snapshots of the hub that are complete.
fn snapshots(hub: &Hub) -> Vec<PathBuf> {
    let folder = fs::read_dir(hub.data_folder().join("snapshots")).into_iter().flatten();
    folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "sqlite"))
        .collect()
}

fn database(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

/// The numbers of the events that a query of a database selects.
fn selected(path: &Path, query: &str) -> BTreeSet<i64> {
    let db = database(path);
    let mut query = db.prepare(query).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// The numbers of a cat's events in a database.
fn stored(path: &Path, cat: &str) -> BTreeSet<i64> {
    selected(path, &format!("SELECT id FROM events WHERE cat = '{cat}'"))
}

/// The numbers of the events that have a label in a database.
fn labelled(path: &Path) -> BTreeSet<i64> {
    selected(path, "SELECT event_id FROM event_labels")
}

/// The files of the clips of these events.
fn files(hub: &Hub, ids: &BTreeSet<i64>) -> Vec<PathBuf> {
    let db = database(&hub.data_folder().join("hub.sqlite"));
    let file = |id: &i64| -> String {
        db.query_row("SELECT clip_file FROM events WHERE id = ?1", [id], |row| row.get(0)).unwrap()
    };
    ids.iter().map(|id| hub.data_folder().join("clips").join(file(id))).collect()
}

/// The nodes of the lines in the log of labels.
fn nodes_with_labels(hub: &Hub) -> BTreeSet<String> {
    let text = fs::read_to_string(hub.data_folder().join("labels.jsonl")).unwrap();
    let node = |line: &str| serde_json::from_str::<Value>(line).unwrap()["node"].as_str().unwrap().to_owned();
    text.lines().map(node).collect()
}

/// What plays for each of these events.
async fn clips(hub: &Hub, events: &BTreeMap<i64, Value>) -> BTreeMap<i64, Vec<u8>> {
    let mut clips = BTreeMap::new();
    for (id, event) in events {
        let clip = hub.get(event["clip"]["url"].as_str().unwrap()).await;
        assert_eq!(clip.status, 200, "{event}");
        clips.insert(*id, clip.body);
    }
    clips
}

/// These events are in no answer, and their files are gone.
async fn are_gone(hub: &Hub, gone: &BTreeMap<i64, Value>, files: &[PathBuf]) {
    for (id, event) in gone {
        for path in [&format!("/api/v1/events/{id}"), event["clip"]["url"].as_str().unwrap()] {
            assert_eq!(hub.get(path).await.status, 404, "{path}");
        }
    }
    let present = ids(&events(hub).await.iter().map(|event| (event["id"].as_i64().unwrap(), Value::Null)).collect());
    assert!(present.is_disjoint(&ids(gone)), "{present:?}");
    assert!(files.iter().all(|file| !file.exists()), "{files:?}");
}

#[tokio::test]
async fn what_a_person_deletes_is_gone_everywhere_and_the_other_cat_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = |cat: &str, source: String| {
        Node::start(NodeOptions { cat: cat.into(), source, ..NodeOptions::new("http://127.0.0.1:9") })
    };
    let tom = node("Tom", format!("wav:{}", recording(folder.path()).display())).await;
    let luna = node("Luna", "synthetic".into()).await;
    let hub = Hub::start(&[("Tom", &tom.url()), ("Luna", &luna.url())]).await;
    // At once, because the snapshot must have the labels.
    for cat in ["Tom", "Luna"] {
        let heard = until(HEARD, &format!("{cat} is heard"), || async {
            events_of(&hub, cat).await.first_key_value().map(|(id, _)| *id)
        })
        .await;
        label(&hub, heard).await;
    }
    for cat in ["Tom", "Luna"] {
        until(HEARD, &format!("{cat} is heard {EVENTS} times"), || async {
            let events = events_of(&hub, cat).await;
            (events.len() >= EVENTS && events.values().all(|event| event["clip"].is_object())).then_some(())
        })
        .await;
    }
    let snapshot = until(HEARD, "a snapshot", || async { snapshots(&hub).into_iter().next() }).await;
    let live = hub.data_folder().join("hub.sqlite");
    for cat in ["Tom", "Luna"] {
        assert!(!stored(&snapshot, cat).is_disjoint(&labelled(&snapshot)), "the control: the snapshot has {cat}");
    }

    let (of_tom, of_luna) = (events_of(&hub, "Tom").await, events_of(&hub, "Luna").await);
    let (tom_files, luna_files) = (files(&hub, &ids(&of_tom)), files(&hub, &ids(&of_luna)));
    assert!(tom_files.iter().all(|file| file.is_file()), "the control: {tom_files:?}");
    let playing = clips(&hub, &of_luna).await;
    assert!(nodes_with_labels(&hub).contains(&tom.url()), "the control");

    // Without a terminal and without --yes, the command only counts.
    let preview = delete(&hub, &["--cat", "Tom"]);
    let said = String::from_utf8(preview.stdout).unwrap();
    assert!(said.contains(&format!("\n  {} events\n", of_tom.len())) && said.contains("\n  1 label\n"), "{said}");
    assert!(!preview.status.success() && String::from_utf8_lossy(&preview.stderr).contains("--yes"));
    assert_eq!(ids(&events_of(&hub, "Tom").await), ids(&of_tom));
    let unknown = delete(&hub, &["--cat", "Thomas", "--yes"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("it knows Luna, Tom"), "{unknown:?}");

    let said = deleted(&hub, &["--cat", "Tom"]).await;
    assert!(said.contains("The hub is deleting everything about Tom"), "{said}");
    are_gone(&hub, &of_tom, &tom_files).await;
    for database in [&live, &snapshot] {
        assert!(stored(database, "Tom").is_empty(), "{}", database.display());
        assert!(labelled(database).is_disjoint(&ids(&of_tom)), "{}", database.display());
    }
    assert_eq!(nodes_with_labels(&hub), BTreeSet::from([luna.url()]));
    // Of Luna, nothing is missing.
    assert_eq!(clips(&hub, &of_luna).await, playing);
    assert!(luna_files.iter().all(|file| file.is_file()), "{luna_files:?}");
    assert!(!stored(&snapshot, "Luna").is_disjoint(&labelled(&snapshot)));

    // Before a time: what began before it is gone, also from the snapshot, and the rest stays.
    let until_then = events_of(&hub, "Luna").await;
    let (latest, event) = until_then.last_key_value().unwrap();
    let before = event["started_at"].as_str().unwrap();
    let earlier: BTreeMap<i64, Value> =
        until_then.iter().filter(|(id, _)| *id < latest).map(|(id, event)| (*id, event.clone())).collect();
    let (earlier_files, kept) = (files(&hub, &ids(&earlier)), files(&hub, &BTreeSet::from([*latest])));
    let said = deleted(&hub, &["--before", before]).await;
    assert!(said.contains("The hub is deleting everything before 20"), "{said}");
    are_gone(&hub, &earlier, &earlier_files).await;
    assert!(stored(&snapshot, "Luna").is_disjoint(&ids(&earlier)) && labelled(&snapshot).is_disjoint(&ids(&earlier)));
    assert_eq!(fs::read_to_string(hub.data_folder().join("labels.jsonl")).unwrap(), "", "the labelled event is gone");
    assert_eq!(hub.get(&format!("/api/v1/events/{latest}")).await.json()["cat"], "Luna");
    assert!(kept[0].is_file());

    // The tapes of the nodes still have the sound. It does not come back as an event.
    let hub = hub.restart().await;
    until(HEARD, "Luna is heard again", || async {
        events_of(&hub, "Luna").await.last_key_value().filter(|(id, _)| *id > latest).map(drop)
    })
    .await;
    are_gone(&hub, &earlier, &earlier_files).await;
    assert!(events_of(&hub, "Tom").await.is_empty());
    let started = |event: &Value| event["started_at"].as_str().unwrap().to_owned();
    assert!(events(&hub).await.iter().all(|event| started(event).as_str() >= before));
}
