//! The API as a client sees it, over a store that the test fills.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::collections::HashSet;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Extension, Router};
use bytes::Bytes;
use daemon::shutdown::CancellationToken;
use futures_util::StreamExt;
use hub_base::error::Code;
use hub_base::peer;
use hub_base::time::{DAY_NS, now_ns};
use hub_gateway::{App, Caller, Hosts, Limits, Loopback, PageConfig, PrivacySettings, Proxies, router};
use hub_listen::Live;
use hub_listen::live::{LiveLevel, LiveSpectrum, NEWS_QUEUE, News};
use hub_nodes::Nodes;
use hub_nodes::testing::{FakeNode, announce};
use hub_people::People;
use hub_store::backup::{BackupConfig, Backups, Source};
use hub_store::clips::{Clips, ClipsConfig, Cut};
use hub_store::events::{Clip, Event, NewEvent, NoClip};
use hub_store::testing::{distinct_vocalisation, event, put_with, vocalisation};
use hub_store::{Access, Store};
use hub_watch::admission::Admission;
use hub_watch::metrics::Metrics;
use hub_watch::readiness::Checks;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use serde_json::{Value, json};
use sound::testing::features;
use tower::ServiceExt;

#[path = "api/people.rs"]
mod people;
#[path = "api/privacy.rs"]
mod privacy;
#[path = "api/which_cat.rs"]
mod which_cat;

/// A gateway over a store that the test fills.
struct Gateway {
    dir: tempfile::TempDir,
    store: Store,
    nodes: Nodes,
    admission: Admission,
    clips: Clips,
    backups: Backups,
    live: Live,
    people: People,
    stop: CancellationToken,
    /// For requests from this machine.
    router: Router,
    /// For requests that say themselves where they come from.
    bare: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// What tests set of a gateway.
struct Setting {
    page: PageConfig,
    nodes: Nodes,
    insecure: bool,
    loopback: Loopback,
}

impl Default for Setting {
    fn default() -> Self {
        let kitchen = "http://kitchen:1".parse().unwrap();
        let nodes = Nodes::new(&[kitchen]).unwrap();
        Self { page: PageConfig::default(), nodes, insecure: false, loopback: Loopback::default() }
    }
}

impl Gateway {
    async fn new() -> Self {
        Self::with(PageConfig::default()).await
    }

    async fn with(page: PageConfig) -> Self {
        Self::build(Setting { page, ..Setting::default() }).await
    }

    async fn build(setting: Setting) -> Self {
        let Setting { page, nodes, insecure, loopback } = setting;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let config = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
        let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
        let (live, stop) = (Live::new(["http://kitchen:1".to_owned()]), CancellationToken::new());
        let nobody = || peer::remote("http://127.0.0.1:9").unwrap();
        let source = Source { data_dir: dir.path().to_path_buf(), config: vec![], with_secrets: false };
        let admission = Admission::open(nodes.clone(), store.clone()).await.unwrap();
        let people = People::new(store.clone());
        let backups = Backups::new(source, BackupConfig::default());
        let bare = router(App {
            admission: admission.clone(),
            nodes: nodes.clone(),
            owner: None,
            dog: DogClient::new(nobody()),
            analysis: CatAnalysisClient::new(nobody()),
            store: store.clone(),
            clips: clips.clone(),
            backups: Some(backups.clone()),
            live: Some(live.clone()),
            mqtt: None,
            people: people.clone(),
            insecure,
            stop: stop.clone(),
            loopback,
            page,
            privacy: PrivacySettings { data_dir: dir.path().to_path_buf(), ..PrivacySettings::default() },
            hosts: Hosts::default(),
            proxies: Proxies::default(),
            certificates: None,
            machine: "hub".into(),
            checks: Checks::default(),
            metrics: Metrics::default(),
            limits: Limits::default(),
        });
        let here = Caller::new(std::net::Ipv4Addr::LOCALHOST.into(), false, false);
        let router = bare.clone().layer(Extension(here));
        Self { dir, store, nodes, admission, clips, backups, live, people, stop, router, bare }
    }

    /// Stores an event with half a second of sound, or none.
    async fn put(&self, event: NewEvent, with_clip: bool) -> Event {
        if with_clip {
            self.put_sound(event, (0..8_000).map(|n| (n % 100 * 200) as i16).collect()).await
        } else {
            self.put_with(event, Err(NoClip::DiskFull)).await
        }
    }

    async fn put_sound(&self, event: NewEvent, samples: Vec<i16>) -> Event {
        let cut = Cut { boot_id: event.boot_id, start_sample: event.start_sample, samples };
        let clip = self.clips.keep(cut, &event).await;
        self.put_with(event, clip).await
    }

    async fn put_with(&self, event: NewEvent, clip: Result<Clip, NoClip>) -> Event {
        put_with(&self.store, event, clip).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn label(&self, id: i64, body: &str) -> Answer {
        self.ask("PUT", &format!("/api/v1/events/{id}/label"), &[("content-type", "application/json")], body).await
    }

    /// The messages of a live stream, each as its lines.
    async fn stream(&self, query: &str, last_id: Option<&str>) -> impl StreamExt<Item = String> + Unpin {
        let mut request = Request::builder().uri(format!("/api/v1/stream{query}"));
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body().into_data_stream().map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap()).boxed()
    }
}

fn level(node: &str) -> News {
    let node = node.to_owned();
    News::Level(LiveLevel { node, rms_dbfs: -40.0, peak_dbfs: -20.0, score: 0.5, lag_ms: 120 })
}

#[tokio::test]
async fn backup_needs_a_folder_and_a_request_of_the_own_page() {
    let gateway = Gateway::new().await;
    let state = gateway.get("/api/v1/backup").await.json();
    assert!(state["to"].is_null() && state["last"].is_null() && state["running"] == false, "{state}");
    assert!(state["only_on_data_disk"] == true && state["snapshots"]["count"] == 0, "{state}");
    let asked = gateway.ask("POST", "/api/v1/backup", &[], "").await;
    assert_eq!((asked.status, &asked.json()["error"]["code"]), (StatusCode::CONFLICT, &Value::from("conflict")));
    let foreign = gateway.ask("POST", "/api/v1/backup", &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
}

#[tokio::test]
async fn nodes_that_wait_stand_for_the_node_on_this_machine_that_does_not_answer() {
    let default = "http://127.0.0.1:9".parse().unwrap();
    let gateway = Gateway::build(Setting { nodes: Nodes::with_default(&default).unwrap(), ..Setting::default() }).await;
    let nodes = async || gateway.get("/api/v1/nodes").await.json()["nodes"].as_array().unwrap().len();
    let message = async || gateway.get("/cat/Tom").await.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(nodes().await, 1);
    assert!(!message().await.contains("hub nodes list"));
    announce(&gateway.nodes, "http://attic.local:50056", FakeNode::with(vec![]).serve().await).await;
    assert_eq!(nodes().await, 0);
    let message = message().await;
    assert!(message.ends_with("; nodes wait to be admitted: see hub nodes list"), "{message}");
}

#[tokio::test]
async fn waiting_node_is_admitted_or_refused_by_its_key() {
    let gateway = Gateway::new().await;
    let address = FakeNode::with(vec![]).serve().await;
    for host in ["attic", "cellar"] {
        announce(&gateway.nodes, &format!("http://{host}.local:50056"), address).await;
    }
    let answer = gateway.get("/api/v1/nodes").await.json();
    assert_eq!(answer["nodes"].as_array().unwrap().len(), 1, "those that wait are no nodes: {answer}");
    let waits = &answer["waiting"][0];
    assert_eq!((&waits["key"], &waits["url"]), (&waits["url"], &"http://attic.local:50056".into()));
    assert_eq!((&waits["node_id"], &waits["cat"]), (&Value::Null, &"Tom".into()));
    assert_eq!(waits["needs_code"], false);
    assert_eq!(waits["addresses"], serde_json::json!([address.to_string()]));
    assert!(waits["since"].as_str().unwrap().ends_with('Z') && waits["version"].is_null(), "{waits}");

    let path = |host: &str, act: &str| format!("/api/v1/nodes/waiting/http%3A%2F%2F{host}.local%3A50056/{act}");
    let foreign = gateway.ask("POST", &path("attic", "admit"), &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
    assert_eq!(gateway.ask("POST", &path("attic", "admit"), &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(gateway.ask("POST", &path("cellar", "refuse"), &[], "").await.status, StatusCode::NO_CONTENT);
    for gone in ["attic", "cellar", "nobody"] {
        let answer = gateway.ask("POST", &path(gone, "admit"), &[], "").await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    }
    let noted = gateway.people.audit(None, 9).await.unwrap();
    let noted: Vec<_> = noted.iter().map(|entry| (&*entry.action, &*entry.subject)).collect();
    let (attic, cellar) = ("http://attic.local:50056", "http://cellar.local:50056");
    assert_eq!(noted, [("refuse_node", cellar), ("admit_node", attic)], "the nodes, and not the paths");
    let answer = gateway.get("/api/v1/nodes").await.json();
    assert_eq!((answer["waiting"].as_array().unwrap().len(), answer["nodes"].as_array().unwrap().len()), (0, 2));
    assert_eq!(answer["nodes"][1]["url"], "http://attic.local:50056");

    // The store keeps the admission, and the end of it.
    let keys = gateway.store.admitted().await.unwrap().keys;
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["http://attic.local:50056"]);
    let configured = gateway.admission.forget("kitchen").await.unwrap_err();
    assert_eq!(configured.code, Code::Conflict);
    gateway.admission.forget("attic").await.unwrap();
    assert_eq!(gateway.get("/api/v1/nodes").await.json()["nodes"].as_array().unwrap().len(), 1);
    assert!(gateway.store.admitted().await.unwrap().keys.is_empty());
    assert_eq!(gateway.admission.forget("attic").await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn pairing_says_what_is_wrong() {
    let gateway = Gateway::new().await;
    let json = [("content-type", "application/json")];
    for (body, status, code, words) in [
        ("{\"code\":\"meow\"}", 400, "bad_request", "eight letters and digits"),
        ("{\"code\":\"7K3M-Q9TX\",\"host\":\"a b\"}", 400, "bad_request", "HOST or HOST:PORT"),
        ("{\"host\":\"kitchen\"}", 400, "bad_request", "code"),
        ("{\"code\":\"7K3M-Q9TX\"}", 409, "conflict", "the hub has no key"),
    ] {
        let answer = gateway.ask("POST", "/api/v1/nodes/pair", &json, body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["code"]), (status, &code.into()), "{body}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}

#[tokio::test]
async fn event_has_all_fields() {
    let gateway = Gateway::new().await;
    let stored = gateway.put(event("http://kitchen:1", 16_000), true).await;
    let answer = gateway.get("/api/v1/events/1").await.json();
    assert_eq!(answer["id"], stored.id);
    assert_eq!((&answer["node"], &answer["cat"]), (&"http://kitchen:1".into(), &"Tom".into()));
    assert_eq!(answer["boot_id"], "fffffffffffffffc");
    assert_eq!(answer["started_at"], "2023-11-14T22:13:21Z");
    assert_eq!(answer["duration_s"], 0.5);
    assert_eq!(answer["context"]["label"], "isolation");
    assert_eq!((&answer["context"]["model"], &answer["context"]["labels"]), (&"general".into(), &0.into()));
    assert_eq!(answer["counts_as"], "isolation");
    assert_eq!(answer["clip"]["url"], "/api/v1/events/1/clip.wav");
    assert_eq!(answer["clip"]["duration_s"], 0.5);
    assert_eq!((&answer["label"], &answer["no_clip_reason"]), (&Value::Null, &Value::Null));
    let bare = gateway.put(event("http://kitchen:1", 48_000), false).await;
    let answer = gateway.get(&format!("/api/v1/events/{}", bare.id)).await.json();
    assert_eq!((&answer["clip"], &answer["no_clip_reason"]), (&Value::Null, &"disk_full".into()));
    assert_eq!(gateway.get("/api/v1/events/99").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn list_is_paged_filtered_and_strict() {
    let gateway = Gateway::new().await;
    for n in 0..5 {
        gateway.put(event("http://kitchen:1", n * 16_000), false).await;
    }
    let first = gateway.get("/api/v1/events?limit=3&cat=Tom&min_score=0.5").await.json();
    let ids = |answer: &Value| -> Vec<i64> {
        answer["events"].as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids(&first), [5, 4, 3]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = gateway.get(&format!("/api/v1/events?limit=3&cursor={cursor}")).await.json();
    assert_eq!((ids(&second), &second["next_cursor"]), (vec![2, 1], &Value::Null));
    let some = gateway.get("/api/v1/events?from=2023-11-14T22:13:22Z&to=2023-11-14T23:13:23%2B01:00").await.json();
    assert_eq!(ids(&some), [3]);
    for (bad, key) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
        ("context=hungry", "context"),
        ("min_score=2", "min_score"),
        ("min_score=NaN", "min_score"),
        ("from=yesterday", "from"),
        ("format=xml", "format"),
        ("colour=red", "colour"),
    ] {
        let answer = gateway.get(&format!("/api/v1/events?{bad}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(key), "{bad}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn sound_of_two_nodes_is_one_event_that_names_both() {
    let gateway = Gateway::new().await;
    let samples: Vec<i16> = (0..8_000_i32).map(|n| ((n * n / 40) % 4_000 - 2_000) as i16).collect();
    for (node, rms_dbfs) in [("http://kitchen:1", -40.0), ("http://hall:1", -20.0)] {
        let mut heard = event(node, 0);
        heard.envelope = Some(Box::new(sound::same_sound::Envelope::of(&samples)));
        heard.measurements.rms_dbfs = rms_dbfs;
        gateway.put(heard, false).await;
    }
    let ids = async |query: &str| {
        let answer = gateway.get(&format!("/api/v1/events{query}")).await.json();
        let events = answer["events"].as_array().unwrap();
        events.iter().map(|event| event["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [2]);
    assert_eq!(ids("?node=http://kitchen:1").await, [2]);
    assert_eq!(ids("?linked=true").await, [2, 1]);
    let shown = gateway.get("/api/v1/events/2").await.json();
    assert_eq!(
        (&shown["same_sound_as"], &shown["also_heard_by"]),
        (&Value::Null, &serde_json::json!(["http://kitchen:1"]))
    );
    let other = gateway.get("/api/v1/events/1").await.json();
    assert_eq!((&other["same_sound_as"], &other["also_heard_by"]), (&2.into(), &serde_json::json!([])));
    let day = "/api/v1/counts?from=2023-11-14T00:00:00Z&to=2023-11-15T00:00:00Z";
    assert_eq!(gateway.get(day).await.json()["total"], 1);
    let csv = gateway.get("/api/v1/events.csv").await.body;
    assert!(String::from_utf8(csv.to_vec()).unwrap().trim_end().ends_with(",http://kitchen:1,Tom,"));
}

#[tokio::test]
async fn csv_is_asked_for_in_three_ways() {
    let gateway = Gateway::new().await;
    gateway.put(event("http://kitchen:1", 0), false).await;
    let ways = [
        gateway.get("/api/v1/events?format=csv").await,
        gateway.get("/api/v1/events.csv?cat=Tom").await,
        gateway.ask("GET", "/api/v1/events", &[("accept", "text/csv, */*;q=0.1")], "").await,
    ];
    for answer in ways {
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/csv; charset=utf-8"));
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("id,started_at,"), "{text}");
    }
    assert_eq!(
        gateway.get("/api/v1/events.csv?cat=Nobody").await.body.iter().filter(|byte| **byte == b'\n').count(),
        1
    );
}

#[tokio::test]
async fn json_lines_are_asked_for_in_two_ways() {
    let gateway = Gateway::new().await;
    for n in 0..3 {
        gateway.put(event("http://kitchen:1", n * 16_000), false).await;
    }
    let accept = |kinds| [("accept", kinds)];
    let lines = [
        gateway.get("/api/v1/events?format=jsonl&cat=Tom&limit=1").await,
        gateway.ask("GET", "/api/v1/events", &accept("application/x-ndjson"), "").await,
        gateway.ask("GET", "/api/v1/events", &accept("text/html, application/jsonl;q=0.9, text/csv"), "").await,
    ];
    let one = gateway.get("/api/v1/events/3").await.json();
    for answer in lines {
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/x-ndjson"));
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((events.len(), &events[0]), (3, &one));
    }
    let json = gateway.ask("GET", "/api/v1/events", &accept("application/json, text/csv;q=0.5"), "").await;
    assert_eq!(json.json()["events"].as_array().unwrap().len(), 3);
    assert_eq!(gateway.get("/api/v1/events?format=jsonl&cat=Nobody").await.body.len(), 0);
}

#[tokio::test]
async fn archive_has_every_clip_with_its_table_and_names_the_missing_ones() {
    use std::io::Read;

    let gateway = Gateway::new().await;
    for n in 1..=3 {
        let found = NewEvent { cat: "=Tom".into(), ..event("http://kitchen:1", n * 160_000) };
        gateway.put(found, true).await;
    }
    gateway.put(event("http://kitchen:1", 800_000), false).await;
    gateway.put(NewEvent { cat: "Kim".into(), ..event("http://kitchen:1", 960_000) }, true).await;
    let second = gateway.store.event(2).await.unwrap().unwrap().clip.unwrap();
    std::fs::remove_file(gateway.dir.path().join("clips").join(&second.file)).unwrap();
    let third = gateway.store.event(3).await.unwrap().unwrap().clip.unwrap();
    std::fs::write(gateway.dir.path().join("clips").join(&third.file), b"noise").unwrap();

    let answer = gateway.get("/api/v1/events.zip?to=2023-11-14T22:14:15Z").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/zip"));
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"events.zip\"");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(answer.body)).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(names, ["clips/event-1.wav", "clips/event-1.Table.1.selections.txt", "events.csv"]);
    let mut file = |name: &str| {
        let mut content = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut content).unwrap();
        content
    };
    assert_eq!(file("clips/event-1.wav"), gateway.get("/api/v1/events/1/clip.wav").await.body);
    let table = String::from_utf8(file("clips/event-1.Table.1.selections.txt")).unwrap();
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split('\t').collect();
    assert_eq!((cells[3], cells[4], cells[7]), ("0.000000", "0.500000", "isolation"));
    let header: Vec<&str> = table.lines().next().unwrap().split('\t').collect();
    assert_eq!((header.len(), header[10], cells[10], header[11]), (cells.len(), "Context", "isolation", "Pitch (Hz)"));
    let csv = file("events.csv");
    let mut reader = csv::Reader::from_reader(&csv[..]);
    let header = reader.headers().unwrap().clone();
    let place = |name: &str| header.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let clips: Vec<[&str; 4]> =
        rows.iter().map(|row| ["id", "cat", "clip", "no_clip_reason"].map(|name| &row[place(name)])).collect();
    let expected = [
        ["4", "Tom", "", "disk_full"],
        ["3", "'=Tom", "", "damaged"],
        ["2", "'=Tom", "", "missing"],
        ["1", "'=Tom", "clips/event-1.wav", ""],
    ];
    assert_eq!(clips, expected);

    let none = gateway.get("/api/v1/events.zip?cat=Nobody").await;
    let archive = zip::ZipArchive::new(std::io::Cursor::new(none.body)).unwrap();
    assert_eq!(archive.file_names().map(Result::unwrap).collect::<Vec<_>>(), ["events.csv"]);
    let foreign = gateway.ask("GET", "/api/v1/events.zip", &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
}

#[tokio::test]
async fn archives_have_places_that_are_free_again_when_a_client_leaves() {
    let gateway = Gateway::new().await;
    for n in 1..=3 {
        gateway.put(event("http://kitchen:1", n * 160_000), true).await;
    }
    let ask = || {
        let request = Request::builder().uri("/api/v1/events.zip").body(Body::empty()).unwrap();
        gateway.router.clone().oneshot(request)
    };
    let (first, second) = (ask().await.unwrap(), ask().await.unwrap());
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let refused = gateway.get("/api/v1/events.zip").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.json()["error"]["code"], "too_many_archives");
    drop(first);
    assert_eq!(gateway.get("/api/v1/events.zip").await.status, StatusCode::OK);
    // An archive that is read to its end has every clip, whatever happens to the others.
    let body = axum::body::to_bytes(second.into_body(), usize::MAX).await.unwrap();
    assert_eq!(zip::ZipArchive::new(std::io::Cursor::new(body)).unwrap().len(), 7);
}

#[tokio::test]
async fn clip_is_sent_whole_in_parts_or_not_modified() {
    let gateway = Gateway::new().await;
    gateway.put(event("http://kitchen:1", 0), true).await;
    let path = "/api/v1/events/1/clip.wav";
    let whole = gateway.get(path).await;
    assert_eq!((whole.status, whole.header("content-type")), (StatusCode::OK, "audio/wav"));
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let wav = hound::WavReader::new(&whole.body[..]).unwrap();
    assert_eq!(wav.len(), 8_000);

    let part = gateway.ask("GET", path, &[("range", "bytes=44-143")], "").await;
    assert_eq!((part.status, part.header("content-range")), (StatusCode::PARTIAL_CONTENT, "bytes 44-143/16044"));
    assert_eq!(part.body, whole.body.slice(44..144));
    let tail = gateway.ask("GET", path, &[("range", "bytes=-10")], "").await;
    assert_eq!(tail.body, whole.body.slice(whole.body.len() - 10..));
    let beyond = gateway.ask("GET", path, &[("range", "bytes=99999-")], "").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.header("content-range"), "bytes */16044");
    assert_eq!(beyond.json()["error"]["code"], "range_not_satisfiable");

    let head = gateway.ask("HEAD", path, &[], "").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (StatusCode::OK, 0, "16044"));
    let again = gateway.ask("GET", path, &[("if-none-match", whole.header("etag"))], "").await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));

    let bare = gateway.put(event("http://kitchen:1", 48_000), false).await;
    let none = gateway.get(&format!("/api/v1/events/{}/clip.wav", bare.id)).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(none.json()["error"]["message"].as_str().unwrap().ends_with("disk_full"));
}

#[tokio::test]
async fn clip_of_another_database_has_another_tag() {
    let (first, second) = (Gateway::new().await, Gateway::new().await);
    first.put(event("http://kitchen:1", 0), true).await;
    second.put_sound(event("http://kitchen:1", 0), vec![7; 8_000]).await;
    for path in ["/api/v1/events/1/clip.wav", "/api/v1/events/1/spectrogram.png"] {
        let (one, other) = (first.get(path).await, second.get(path).await);
        assert_ne!(one.header("etag"), other.header("etag"), "{path}");
        assert!(!one.header("cache-control").contains("immutable"), "{path}");
        let stale = second.ask("GET", path, &[("if-none-match", one.header("etag"))], "").await;
        assert_eq!((stale.status, stale.body), (StatusCode::OK, other.body.clone()));
        let current = second.ask("GET", path, &[("if-none-match", other.header("etag"))], "").await;
        assert_eq!(current.status, StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn missing_and_damaged_clips_are_not_found_and_counted_once() {
    let gateway = Gateway::new().await;
    let file_of = |event: Event| gateway.dir.path().join("clips").join(event.clip.unwrap().file);
    let missing = file_of(gateway.put(event("http://kitchen:1", 0), true).await);
    let damaged = file_of(gateway.put(event("http://kitchen:1", 48_000), true).await);
    std::fs::remove_file(missing).unwrap();
    std::fs::write(&damaged, &std::fs::read(&damaged).unwrap()[..5_000]).unwrap();
    for _ in 0..2 {
        for (id, reason) in [(1, "the file is missing"), (2, "the file is damaged")] {
            for file in ["clip.wav", "spectrogram.png"] {
                let answer = gateway.get(&format!("/api/v1/events/{id}/{file}")).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND);
                assert_eq!(answer.json()["error"]["message"], format!("event {id} has no clip: {reason}"));
            }
        }
    }
    let counters = gateway.clips.counters();
    let counted = [&counters.missing, &counters.damaged].map(|count| count.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(counted, [1, 1]);
}

#[tokio::test]
async fn spectrogram_is_a_picture_of_the_size_asked_for() {
    let gateway = Gateway::new().await;
    gateway.put(event("http://kitchen:1", 0), true).await;
    for (query, size) in
        [("", (900, 400)), ("?width=320&height=160", (320, 160)), ("?axes=false&width=200", (200, 400))]
    {
        let answer = gateway.get(&format!("/api/v1/events/1/spectrogram.png{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "image/png"));
        let picture = png::Decoder::new(std::io::Cursor::new(&answer.body)).read_info().unwrap();
        assert_eq!((picture.info().width, picture.info().height), size);
    }
    let answer = gateway.get("/api/v1/events/1/spectrogram.png?width=99999").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn owner_labels_removes_labels_and_deletes() {
    let gateway = Gateway::new().await;
    let stored = gateway.put(event("http://kitchen:1", 0), true).await;
    let mut news = gateway.live.watch();
    let labelled = gateway.label(1, r#"{"label":"not_a_cat"}"#).await.json();
    assert_eq!((&labelled["label"], &labelled["counts_as"]), (&"not_a_cat".into(), &"not_a_cat".into()));
    assert_eq!(gateway.get("/api/v1/events?context=not_a_cat").await.json()["events"].as_array().unwrap().len(), 1);
    assert!(matches!(&*news.recv().await.unwrap(), News::Labelled(event) if event.id == 1));
    assert_eq!(gateway.label(1, r#"{"label":null}"#).await.json()["counts_as"], "isolation");
    for bad in [r#"{"label":"uncertain"}"#, r#"{"label":"hungry"}"#, "{}", r#"{"label":"isolation","x":1}"#, "x"] {
        let answer = gateway.label(1, bad).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (StatusCode::BAD_REQUEST, Some("bad_request")),
            "{bad}"
        );
    }
    assert_eq!(gateway.label(9, r#"{"label":"isolation"}"#).await.status, StatusCode::NOT_FOUND);

    let clip = stored.clip.unwrap();
    assert!(gateway.clips.read(&clip).await.is_ok());
    assert_eq!(gateway.ask("DELETE", "/api/v1/events/1", &[], "").await.status, StatusCode::NO_CONTENT);
    assert!(gateway.clips.read(&clip).await.is_err(), "the clip is still there");
    for path in ["/api/v1/events/1", "/api/v1/events/1/clip.wav", "/api/v1/events/1/spectrogram.png"] {
        assert_eq!(gateway.get(path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(gateway.ask("DELETE", "/api/v1/events/1", &[], "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn label_changes_the_contexts_of_later_events_of_the_cat_and_of_no_stored_one() {
    let gateway = Gateway::new().await;
    let heard = |start_sample: u64| NewEvent {
        features: Some(Box::new(features(1, start_sample as u32))),
        ..event("http://kitchen:1", start_sample)
    };
    gateway.put(heard(0), false).await;
    gateway.put(heard(16_000), false).await;
    let context = async |id: i64| gateway.get(&format!("/api/v1/events/{id}")).await.json()["context"].clone();
    let (first, second) = (context(1).await, context(2).await);
    gateway.label(2, r#"{"label":"brushing"}"#).await;
    gateway.put(heard(32_000), false).await;
    let later = context(3).await;
    assert_eq!((&later["model"], &later["labels"]), (&"household".into(), &1.into()));
    let brushing = |context: &Value| context["probabilities"]["brushing"].as_f64().unwrap();
    assert!(brushing(&later) > brushing(&first) + 0.1, "{first} {later}");
    gateway.label(2, r#"{"label":null}"#).await;
    gateway.put(heard(48_000), false).await;
    assert_eq!(context(4).await["model"], "general");
    assert_eq!((context(1).await, context(2).await, context(3).await), (first, second, later));
}

#[tokio::test]
async fn answer_to_a_label_says_how_many_other_events_changed_and_how_to_undo_that() {
    let gateway = Gateway::new().await;
    for (voice, take) in [(1, 0), (1, 1), (1, 2), (2, 3), (2, 4)] {
        gateway.put(vocalisation("http://kitchen:1", voice, take), false).await;
    }
    let first = async || gateway.get("/api/v1/events/1").await.json();
    let before = first().await;
    for (id, body) in [(2, "brushing"), (3, "brushing"), (4, "waiting_for_food")] {
        let answer = gateway.label(id, &format!(r#"{{"label":"{body}"}}"#)).await.json();
        assert_eq!((&answer["changed"], &answer["undo"], first().await), (&0.into(), &Value::Null, before.clone()));
    }
    let mut news = gateway.live.watch();
    let answer = gateway.label(5, r#"{"label":"waiting_for_food"}"#).await.json();
    assert_eq!(
        (&answer["id"], &answer["label"], &answer["changed"]),
        (&5.into(), &"waiting_for_food".into(), &1.into())
    );
    assert!(matches!(&*news.recv().await.unwrap(), News::Labelled(event) if event.id == 5));
    assert_eq!(*news.recv().await.unwrap(), News::Reevaluated { events: 1 });
    let after = first().await;
    assert_eq!((&after["counts_as"], &after["first_context"]), (&"brushing".into(), &before["context"]));
    assert_eq!((&after["context"]["labels"], &before["first_context"]), (&4.into(), &Value::Null));
    let csv = gateway.get("/api/v1/events.csv").await;
    let rows: Vec<_> = csv::Reader::from_reader(&csv.body[..]).into_records().map(Result::unwrap).collect();
    let column =
        csv::Reader::from_reader(&csv.body[..]).headers().unwrap().iter().position(|name| name == "first_context");
    let first_contexts: Vec<_> = rows.iter().map(|row| row[column.unwrap()].to_owned()).collect();
    assert_eq!(first_contexts, ["", "", "", "", "isolation"]);
    // "Not a cat" teaches no context.
    assert_eq!(gateway.label(1, r#"{"label":"not_a_cat"}"#).await.json()["changed"], 0);
    gateway.label(1, r#"{"label":null}"#).await;

    let undo = answer["undo"].as_str().unwrap();
    let foreign = gateway.ask("POST", undo, &[("sec-fetch-site", "cross-site")], "").await;
    assert_eq!(foreign.json()["error"]["code"], "foreign_origin");
    let undone = gateway.ask("POST", undo, &[], "").await;
    assert_eq!((undone.status, &undone.json()["changed"]), (StatusCode::OK, &1.into()));
    assert_eq!(first().await, before);
    for path in [undo, "/api/v1/reevaluations/99/undo", "/api/v1/reevaluations/x/undo"] {
        let answer = gateway.ask("POST", path, &[], "").await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
    }
}

#[tokio::test]
async fn labels_of_the_owners_own_are_kept_in_one_place_and_count_as_uncertain() {
    let gateway = Gateway::new().await;
    gateway.put(event("http://kitchen:1", 0), true).await;
    let json = [("content-type", "application/json")];
    let send = async |method: &str, path: &str, body: &str| {
        let answer = gateway.ask(method, &format!("/api/v1/own-labels{path}"), &json, body).await;
        (answer.status.as_u16(), serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    let (status, out) = send("POST", "", r#"{"name":" =let me out "}"#).await;
    assert_eq!((status, &out["name"], &out["events"]), (201, &"=let me out".into(), &0.into()));
    let id = out["id"].as_i64().unwrap();
    for (method, path, body, expected) in [
        ("POST", "", r#"{"name":"=LET me out"}"#, (409, "conflict")),
        ("POST", "", r#"{"name":"brushing"}"#, (409, "conflict")),
        ("POST", "", r#"{"name":""}"#, (400, "bad_request")),
        ("PUT", "/99", r#"{"name":"door"}"#, (404, "not_found")),
        ("DELETE", "/99", "", (404, "not_found")),
    ] {
        let (status, answer) = send(method, path, body).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (expected.0, Some(expected.1)), "{method} {body}");
    }
    let labelled = gateway.label(1, r#"{"label":"=let me out"}"#).await.json();
    assert_eq!((&labelled["label"], &labelled["counts_as"]), (&"=let me out".into(), &"uncertain".into()));
    let csv = gateway.get("/api/v1/events.csv").await;
    let row = csv::Reader::from_reader(&csv.body[..]).into_records().next().unwrap().unwrap();
    assert_eq!((&row[16], &row[17]), ("'=let me out", "uncertain"));
    let labels = gateway.get("/api/v1/labels.csv").await;
    assert_eq!(&csv::Reader::from_reader(&labels.body[..]).into_records().next().unwrap().unwrap()[2], "'=let me out");

    assert_eq!(send("PUT", &format!("/{id}"), r#"{"name":"door"}"#).await.1["events"], 1);
    assert_eq!(gateway.get("/api/v1/events/1").await.json()["label"], "door");
    assert_eq!(gateway.get("/api/v1/labels").await.json()["labels"][0]["label"], "door");
    let found = async |filter: &str| {
        gateway.get(&format!("/api/v1/events?{filter}")).await.json()["events"].as_array().unwrap().len()
    };
    assert_eq!(
        (found("own_label=door").await, found("own_label=x").await, found("context=uncertain").await),
        (1, 0, 1)
    );
    let archive = gateway.get("/api/v1/events.zip").await.body;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut table = String::new();
    let mut file = archive.by_name("clips/event-1.Table.1.selections.txt").unwrap();
    std::io::Read::read_to_string(&mut file, &mut table).unwrap();
    assert!(table.contains("\tdoor\t"), "{table}");
    let removed = serde_json::json!({"changed": 0, "undo": []});
    assert_eq!(send("DELETE", &format!("/{id}"), "").await, (200, removed));
    assert_eq!(send("GET", "", "").await.1["own_labels"], serde_json::json!([]));
    assert_eq!(gateway.get("/api/v1/events/1").await.json()["label"], Value::Null);
    assert_eq!(gateway.label(1, r#"{"label":"door"}"#).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn labels_of_the_owners_own_are_suggested_and_never_take_the_place_of_a_context() {
    let gateway = Gateway::new().await;
    let hear = async |voice: u32, take: u32| {
        gateway.put(distinct_vocalisation("http://kitchen:1", voice, take), false).await.id
    };
    let send = async |method: &str, path: &str, body: &str| {
        let json = [("content-type", "application/json")];
        gateway.ask(method, &format!("/api/v1/own-labels{path}"), &json, body).await
    };
    let (heard, other) = (hear(1, 0).await, hear(2, 0).await);
    let shown = async |id: i64| gateway.get(&format!("/api/v1/events/{id}")).await.json();
    let (before, other_before) = (shown(heard).await, shown(other).await);
    let label = send("POST", "", r#"{"name":"=let me out"}"#).await.json();
    let mut last = Value::Null;
    for take in 1..6 {
        assert_eq!(gateway.label(hear(2, take).await, r#"{"label":"brushing"}"#).await.json()["changed"], 0);
    }
    for take in 1..6 {
        assert!(matches!(last["changed"].as_u64(), None | Some(0)), "{take}");
        last = gateway.label(hear(1, take).await, r#"{"label":"=let me out"}"#).await.json();
    }
    assert_eq!(last["changed"], 1);
    let after = shown(heard).await;
    assert_eq!((&after["suggested_label"], &after["label"]), (&"=let me out".into(), &Value::Null));
    assert!(after["suggested_probability"].as_f64().unwrap() > 0.79, "{after}");
    assert_eq!((&after["counts_as"], &after["context"]["label"]), (&"uncertain".into(), &"uncertain".into()));
    assert_eq!((&after["first_context"], &after["first_suggested_label"]), (&before["context"], &Value::Null));
    assert_eq!(shown(other).await, other_before);
    assert_eq!(last["suggested_label"], Value::Null, "the owner's label is no suggestion");
    let listed = async || send("GET", "", "").await.json()["own_labels"][0].clone();
    assert_eq!((&listed().await["events"], &listed().await["suggested"]), (&5.into(), &1.into()));
    // Exports tell it from a label, and counts take the event for an unclear one.
    let csv = gateway.get("/api/v1/events.csv").await;
    let mut table = csv::Reader::from_reader(&csv.body[..]);
    let column = |name: &str, head: &csv::StringRecord| head.iter().position(|one| one == name).unwrap();
    let head = table.headers().unwrap().clone();
    let row = table.into_records().map(Result::unwrap).find(|row| row[0] == *heard.to_string()).unwrap();
    let cells = ["label", "counts_as", "suggested_label"].map(|name| row[column(name, &head)].to_owned());
    assert_eq!(cells, ["", "uncertain", "'=let me out"]);
    let uncertain = gateway.get("/api/v1/events?context=uncertain").await.json();
    assert_eq!(uncertain["events"].as_array().unwrap().len(), 6);

    let id = label["id"].as_i64().unwrap();
    send("PUT", &format!("/{id}"), r#"{"name":"door"}"#).await;
    assert_eq!(shown(heard).await["suggested_label"], "door");
    let undo = last["undo"].as_str().unwrap();
    assert_eq!(gateway.ask("POST", undo, &[], "").await.json()["changed"], 1);
    assert_eq!(shown(heard).await, before);
    assert_eq!(gateway.label(hear(1, 9).await, r#"{"label":"door"}"#).await.json()["changed"], 1);
    let mut news = gateway.live.watch();
    let removed = send("DELETE", &format!("/{id}"), "").await;
    assert_eq!((removed.status, removed.json()), (StatusCode::OK, json!({ "changed": 0, "undo": [] })));
    assert_eq!(*news.recv().await.unwrap(), News::Reevaluated { events: 1 });
    let back = shown(heard).await;
    assert_eq!((&back["suggested_label"], &back["context"]), (&Value::Null, &before["context"]));
}

#[tokio::test]
async fn not_a_cat_counts_among_the_others_of_a_label_of_the_owners_own() {
    let gateway = Gateway::new().await;
    let hear = async |voice: u32, take: u32| {
        gateway.put(distinct_vocalisation("http://kitchen:1", voice, take), false).await.id
    };
    let json = [("content-type", "application/json")];
    let add = async |name: &str| {
        let body = format!(r#"{{"name":"{name}"}}"#);
        gateway.ask("POST", "/api/v1/own-labels", &json, &body).await.json()["id"].as_i64().unwrap()
    };
    let suggested =
        async |id: i64| gateway.get(&format!("/api/v1/events/{id}")).await.json()["suggested_label"].clone();
    add("door").await;
    let heard = hear(1, 0).await;
    for take in 1..6 {
        gateway.label(hear(1, take).await, r#"{"label":"door"}"#).await;
    }
    let mut last = (0, Value::Null);
    for take in 1..6 {
        assert_eq!(suggested(heard).await, Value::Null, "{take}");
        let id = hear(2, take).await;
        last = (id, gateway.label(id, r#"{"label":"not_a_cat"}"#).await.json());
    }
    assert_eq!((&last.1["changed"], suggested(heard).await), (&1.into(), "door".into()));
    assert_eq!(gateway.label(last.0, r#"{"label":null}"#).await.json()["changed"], 1);
    assert_eq!(suggested(heard).await, Value::Null);

    // The same holds for the events of a label that is removed.
    let hairball = add("hairball").await;
    gateway.label(last.0, r#"{"label":"hairball"}"#).await;
    assert_eq!(suggested(heard).await, "door");
    let mut news = gateway.live.watch();
    let path = format!("/api/v1/own-labels/{hairball}");
    let removed = gateway.ask("DELETE", &path, &json, "").await.json();
    assert_eq!(*news.recv().await.unwrap(), News::Reevaluated { events: 1 });
    assert_eq!((&removed["changed"], suggested(heard).await), (&1.into(), Value::Null));
    let undo = removed["undo"][0].as_str().unwrap();
    assert_eq!(gateway.ask("POST", undo, &[], "").await.json()["changed"], 1);
    assert_eq!(suggested(heard).await, "door");
}

#[tokio::test]
async fn counts_are_by_the_viewers_days() {
    let gateway = Gateway::new().await;
    // 22:13:20 UTC: still the 14th in London, the 14th in Berlin at 23:13, and the 15th in Tokyo.
    let first = gateway.put(event("http://kitchen:1", 0), false).await;
    gateway.put(event("http://kitchen:1", 3_600 * 16_000), false).await;
    let range = "from=2023-11-14T12:00:00Z&to=2023-11-15T12:00:00Z";
    let counts = async |tz: &str| -> Vec<(String, u64)> {
        let answer = gateway.get(&format!("/api/v1/counts?by=day&tz={tz}&{range}")).await.json();
        assert_eq!(answer["total"], 2, "{answer}");
        let counts = answer["counts"].as_array().unwrap().iter();
        counts.map(|one| (one["start"].as_str().unwrap()[..10].into(), one["count"].as_u64().unwrap())).collect()
    };
    assert_eq!(counts("Europe/London").await, [("2023-11-14".into(), 2), ("2023-11-15".into(), 0)]);
    assert_eq!(counts("Europe/Berlin").await, [("2023-11-14".into(), 1), ("2023-11-15".into(), 1)]);
    assert_eq!(counts("Asia/Tokyo").await, [("2023-11-14".into(), 0), ("2023-11-15".into(), 2)]);
    gateway.label(first.id, r#"{"label":"not_a_cat"}"#).await;
    let hours = gateway.get(&format!("/api/v1/counts?by=hour&{range}")).await.json();
    assert_eq!((&hours["total"], hours["counts"].as_array().unwrap().len()), (&1.into(), 24));
    for bad in ["by=week", "tz=Mars/Olympus", "from=2023-11-15T00:00:00Z&to=2023-11-14T00:00:00Z", "limit=5"] {
        assert_eq!(gateway.get(&format!("/api/v1/counts?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn stream_sends_missed_events_news_and_losses() {
    let gateway = Gateway::new().await;
    for n in 0..3 {
        gateway.put(event("http://kitchen:1", n * 16_000), false).await;
    }
    let mut stream = gateway.stream("", Some("1")).await;
    for id in [2, 3] {
        let message = stream.next().await.unwrap();
        assert!(message.contains("event: event\n") && message.contains(&format!("id: {id}\n")), "{message}");
    }
    // The backlog had it already.
    let third = gateway.store.event(3).await.unwrap().unwrap();
    gateway.live.tell(News::Event(Box::new(third)));
    gateway.live.tell(level("http://kitchen:1"));
    let message = stream.next().await.unwrap();
    assert!(message.contains("event: level\n") && message.contains("\"rms_dbfs\":-40.0"), "{message}");

    for _ in 0..NEWS_QUEUE + 10 {
        gateway.live.tell(level("http://kitchen:1"));
    }
    let message = stream.next().await.unwrap();
    assert!(message.contains("event: lagged\n") && message.contains("{\"lost\":10}"), "{message}");
    gateway.stop.cancel();
    assert!(stream.map(|_| ()).count().await <= NEWS_QUEUE, "the stream ends when the hub stops");
}

#[tokio::test]
async fn stream_sends_only_what_the_client_wants() {
    let gateway = Gateway::new().await;
    let mut stream = gateway.stream("?kinds=deleted,level&node=http://kitchen:1", None).await;
    gateway.live.tell(level("http://attic:1"));
    gateway.live.tell(News::State { node: "http://kitchen:1".into(), state: Default::default() });
    gateway.live.tell(News::Deleted { id: 7 });
    let message = stream.next().await.unwrap();
    assert!(message.contains("event: deleted\n") && message.contains("{\"id\":7}"), "{message}");
    let answer = gateway.get("/api/v1/stream?node=http://attic:1").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let message = "the hub has no node \"http://attic:1\"; `/api/v1/nodes` lists its nodes";
    assert_eq!(answer.json()["error"]["message"], message);
    let answer = gateway.get("/api/v1/stream?kinds=level,smell").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.json()["error"]["message"],
        "unknown kind \"smell\" (expected event, linked, labelled, deleted, reevaluated, redated, gap, level, state or spectrum)"
    );
}

#[tokio::test]
async fn spectrum_is_sent_only_on_request() {
    let gateway = Gateway::new().await;
    let mut usual = gateway.stream("", None).await;
    assert!(!gateway.live.spectra_are_watched(), "nobody asked");
    let mut asked = gateway.stream("?kinds=spectrum,deleted&node=http://kitchen:1", None).await;
    for node in ["http://attic:1", "http://kitchen:1"] {
        let columns = vec![[7; 48]; 2];
        gateway.live.show_spectrum(LiveSpectrum { node: node.into(), boot_id: 9, first_sample: 320, columns });
    }
    let message = asked.next().await.unwrap();
    assert!(message.contains("event: spectrum\n") && message.contains("\"node\":\"http://kitchen:1\""), "{message}");
    // Three sevens are "BwcH".
    let columns = format!("\"first_sample\":320,\"columns\":\"{}\"", "BwcH".repeat(32));
    assert!(message.contains(&columns), "{message}");
    gateway.live.tell(News::Deleted { id: 7 });
    for stream in [&mut usual, &mut asked] {
        let message = stream.next().await.unwrap();
        assert!(message.contains("event: deleted\n"), "{message}");
    }
    drop(asked);
    assert!(!gateway.live.spectra_are_watched(), "the only client that wanted spectra is gone");
}

#[tokio::test]
async fn labels_can_be_read_with_their_history() {
    let gateway = Gateway::new().await;
    for n in 0..3 {
        gateway.put(event("http://kitchen:1", n * 16_000), false).await;
    }
    for (id, body) in [(1, r#"{"label":"brushing"}"#), (2, r#"{"label":"not_a_cat"}"#), (1, r#"{"label":null}"#)] {
        gateway.label(id, body).await;
    }
    gateway.label(3, r#"{"label":"isolation"}"#).await;
    gateway.ask("DELETE", "/api/v1/events/3", &[], "").await;
    let answer = gateway.get("/api/v1/labels?limit=2").await.json();
    let said = |answer: &Value| -> Vec<(Value, Value)> {
        let labels = answer["labels"].as_array().unwrap().iter();
        labels.map(|one| (one["event"]["id"].clone(), one["label"].clone())).collect()
    };
    assert_eq!(said(&answer), [(1.into(), "brushing".into()), (2.into(), "not_a_cat".into())]);
    let rest = gateway.get(&format!("/api/v1/labels?cursor={}", answer["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!((said(&rest), &rest["next_cursor"]), (vec![(1.into(), Value::Null)], &Value::Null));
    let csv = gateway.get("/api/v1/labels.csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let header = "id labelled_at label event_id node cat boot_id start_sample end_sample started_at score kind context \
                  p_waiting_for_food p_isolation p_brushing clip";
    assert_eq!(reader.headers().unwrap(), &csv::StringRecord::from_iter(header.split_whitespace()));
    let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
    let words: Vec<_> = rows.iter().map(|row| (row[3].to_owned(), row[2].to_owned())).collect();
    let expected = [("1", "brushing"), ("2", "not_a_cat"), ("1", "")];
    assert_eq!(words, expected.map(|(id, label)| (id.to_owned(), label.to_owned())));
    for bad in ["limit=0", "cursor=x", "colour=red"] {
        assert_eq!(gateway.get(&format!("/api/v1/labels?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn live_audio_needs_a_node_and_must_be_enabled() {
    let gateway = Gateway::new().await;
    for (query, code) in [("", "bad_request"), ("?node=http://attic:1", "not_found")] {
        let answer = gateway.get(&format!("/api/v1/nodes/live.wav{query}")).await;
        assert_eq!(answer.json()["error"]["code"], code, "{query}");
    }
    let gateway = Gateway::with(PageConfig { live_audio: false, ..PageConfig::default() }).await;
    let answer = gateway.get("/api/v1/nodes/live.wav?node=http://kitchen:1").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::FORBIDDEN, &"switched_off".into()));
}

#[tokio::test]
async fn listening_describes_nodes_and_clips() {
    let gateway = Gateway::new().await;
    let kept_bytes = gateway.put(event("http://kitchen:1", 0), true).await.clip.unwrap().bytes;
    let answer = gateway.get("/api/v1/listening").await.json();
    assert_eq!(
        (&answer["nodes"][0]["node"], &answer["nodes"][0]["state"]),
        (&"http://kitchen:1".into(), &"connecting".into())
    );
    assert_eq!((&answer["clips"]["written"], &answer["clips"]["kept_bytes"]), (&1.into(), &kept_bytes.into()));
}

#[tokio::test]
async fn changes_are_refused_and_health_says_why_once_the_data_folder_is_gone() {
    let hub = Gateway::new().await;
    let id = hub.put(event("http://kitchen:1", 0), false).await.id;
    assert_eq!(hub.get("/api/v1/listening").await.json()["not_stored"], Value::Null);
    std::fs::remove_dir_all(hub.dir.path()).unwrap();
    let refused = hub.label(id, r#"{"label":"isolation"}"#).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (503, Some("store_unavailable")));
    let deleted = hub.ask("DELETE", &format!("/api/v1/events/{id}"), &[], "").await;
    assert_eq!(deleted.status, StatusCode::SERVICE_UNAVAILABLE);
    let ready = hub.get("/readyz").await;
    let store = &ready.json()["checks"]["store"];
    assert_eq!((ready.status.as_u16(), store["ok"].as_bool()), (503, Some(false)), "{store}");
    for why in [&store["detail"], &hub.get("/api/v1/listening").await.json()["not_stored"]] {
        assert!(why.as_str().unwrap().contains("removed or replaced"), "{why}");
    }
}

#[tokio::test]
async fn min_score_of_a_node_is_shown_marks_events_and_has_a_preview() {
    let gateway = Gateway::new().await;
    let url = "http://kitchen:1";
    assert!(gateway.get("/api/v1/nodes").await.json()["nodes"][0]["min_score"].is_null());
    gateway.store.set_min_scores([(url.to_owned(), 0.6)].into());
    assert_eq!(gateway.get("/api/v1/nodes").await.json()["nodes"][0]["min_score"], 0.6);

    let now = now_ns();
    for (n, score) in (1..).zip([0.55, 0.7, 0.9, 0.95]) {
        let started_at_ns = now - 3_600_000_000_000;
        gateway.put(NewEvent { score, started_at_ns, ..event(url, n * 16_000) }, true).await;
    }
    let old = NewEvent { started_at_ns: now - 8 * DAY_NS, ..event(url, 160_000) };
    gateway.put(old, true).await;
    let marks = [1, 2].map(|id| format!("/api/v1/events/{id}"));
    assert_eq!(gateway.get(&marks[0]).await.json()["below_min_score"], 0.6);
    assert!(gateway.get(&marks[1]).await.json()["below_min_score"].is_null());
    let aside = gateway.get("/api/v1/events?announced=false").await.json();
    assert_eq!((aside["events"][0]["id"].as_i64(), aside["events"].as_array().unwrap().len()), (Some(1), 1));

    gateway.label(2, "{\"label\":\"not_a_cat\"}").await;
    let path = "/api/v1/nodes/score-preview?node=http://kitchen:1";
    let preview = gateway.get(&format!("{path}&min_score=0.8")).await.json();
    let expected = serde_json::json!({
        "node": url, "min_score": 0.8, "min_score_at_present": 0.6, "days": 7,
        "events": 2, "events_at_present": 3, "cats_missed": 0, "false_alarms_spared": 1,
    });
    assert_eq!(preview, expected);
    let month = gateway.get(&format!("{path}&min_score=0.5&days=30")).await.json();
    assert_eq!((&month["events"], &month["events_at_present"]), (&5.into(), &4.into()));
    for (query, status, words) in [
        ("", 400, "min_score"),
        ("&min_score=1.1", 400, "min_score: 1.1 is not between 0 and 1"),
        ("&min_score=NaN", 400, "min_score: NaN is not between 0 and 1"),
        ("&min_score=0.8&days=0", 400, "days: 0 is not between 1 and 365"),
        ("&min_score=0.8&days=366", 400, "days: 366 is not between 1 and 365"),
        ("2&min_score=0.8", 404, "kitchen:12"),
    ] {
        let answer = gateway.get(&format!("{path}{query}")).await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!((answer.status.as_u16(), message.contains(words)), (status, true), "{query}: {message}");
    }
}

#[tokio::test]
async fn openapi_describes_events_and_live_routes() {
    let gateway = Gateway::new().await;
    let document = gateway.get("/api/v1/openapi.json").await.json();
    for (path, method) in [
        ("/api/v1/events", "get"),
        ("/api/v1/events.csv", "get"),
        ("/api/v1/events/{id}", "get"),
        ("/api/v1/events/{id}", "delete"),
        ("/api/v1/events/{id}/label", "put"),
        ("/api/v1/events/{id}/clip.wav", "get"),
        ("/api/v1/events/{id}/spectrogram.png", "get"),
        ("/api/v1/counts", "get"),
        ("/api/v1/labels", "get"),
        ("/api/v1/labels.csv", "get"),
        ("/api/v1/reevaluations/{id}/undo", "post"),
        ("/api/v1/nodes/live.wav", "get"),
        ("/api/v1/nodes/score-preview", "get"),
        ("/api/v1/stream", "get"),
        ("/api/v1/listening", "get"),
    ] {
        assert!(document["paths"][path][method].is_object(), "{method} {path} is missing");
    }
    let names: Vec<&str> = document["paths"]["/api/v1/events"]["get"]["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let expected = [
        "limit",
        "cursor",
        "format",
        "cat",
        "node",
        "from",
        "to",
        "context",
        "own_label",
        "min_score",
        "linked",
        "announced",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own() {
    let gateway = Gateway::new().await;
    let document = gateway.get("/api/v1/openapi.json").await.json();
    let mut ids = HashSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(id.contains('_'), "{method} {path} has no id that names a verb and a noun: {id:?}");
            assert!(ids.insert(id.to_owned()), "{method} {path} shares the id {id:?}");
        }
    }
    assert!(ids.contains("list_events") && ids.contains("list_analyses"), "{ids:?}");
}

#[tokio::test]
async fn every_answer_is_described_and_files_are_binary() {
    let gateway = Gateway::new().await;
    let document = gateway.get("/api/v1/openapi.json").await.json();
    let mut files = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let description = answer["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{method} {path}: {status} has no description");
                for (kind, content) in answer["content"].as_object().into_iter().flatten() {
                    if kind.starts_with("text/") || kind == "application/json" || kind == "application/x-ndjson" {
                        continue;
                    }
                    files += 1;
                    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Binary", "{method} {path}: {kind}");
                }
            }
        }
    }
    let binary = &document["components"]["schemas"]["Binary"];
    assert_eq!((&binary["type"], &binary["format"]), (&"string".into(), &"binary".into()));
    assert!(files >= 4, "{files} files");
}

mod fuzz {
    use std::time::Duration;

    use axum::http::{HeaderName, HeaderValue, Method, Uri};
    use fuzzing::{hold, nearly, nearly_text};
    use proptest::prelude::*;

    use super::*;

    /// Longer than any answer takes on a machine that is not stuck.
    const SOON: Duration = Duration::from_secs(60);

    /// Requests of what reads from the store. None opens a stream, and none calls another machine.
    const READS: [&str; 14] = [
        "/api/v1/events?limit=50&cursor=1700000001000000000-1&format=json",
        "/api/v1/events?cat=Tom&node=http%3A%2F%2Fkitchen%3A1&from=2023-11-14T22:13:20Z&to=2024-01-01T00:00:00%2B01:00",
        "/api/v1/events?context=isolation&min_score=0.5&limit=1",
        "/api/v1/events.csv?cat=Tom&context=not_a_cat",
        "/api/v1/events.zip?cat=Tom&min_score=0.5",
        "/api/v1/events?format=jsonl&context=isolation",
        "/api/v1/events/1",
        "/api/v1/events/1/clip.wav",
        "/api/v1/events/1/spectrogram.png?width=300&height=100",
        "/api/v1/events/counts?by=hour&zone=Europe/Berlin",
        "/api/v1/labels?limit=5&cursor=7",
        "/api/v1/notifications?limit=5&cursor=7&state=failed",
        "/api/v1/analyses?limit=5&cursor=7",
        "/api/v1/nodes",
    ];

    const WORDS: [&str; 22] = [
        "&",
        "=",
        "%",
        "%00",
        "%ff",
        "%2B",
        "+",
        "-",
        "?",
        "/",
        "cursor=",
        "limit=",
        "min_score=",
        "NaN",
        "1e39",
        "from=",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551616",
        "2262-04-11T23:47:16Z",
        "../",
        "by=day",
    ];

    /// Sends a request. Checks what every answer has in common.
    async fn checked(gateway: &Gateway, request: Request<Body>) -> Result<StatusCode, TestCaseError> {
        let asked = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let answer = tokio::time::timeout(SOON, gateway.router.clone().oneshot(request)).await;
        let answer = answer.map_err(|_| TestCaseError::fail(format!("no answer to {asked}")))?.unwrap();
        let (parts, body) = answer.into_parts();
        let body = tokio::time::timeout(SOON, axum::body::to_bytes(body, 10_000_000)).await;
        let body = body.map_err(|_| TestCaseError::fail(format!("no end of the answer to {asked}")))?.unwrap();
        prop_assert!(parts.status != StatusCode::INTERNAL_SERVER_ERROR, "{asked}: {body:?}");
        let is_api = asked.contains("/api/v1/");
        if is_api
            && parts.status.is_client_error()
            && parts.status != StatusCode::RANGE_NOT_SATISFIABLE
            && !body.is_empty()
        {
            let problem: Value =
                serde_json::from_slice(&body).map_err(|_| TestCaseError::fail(format!("{asked}: {body:?}")))?;
            prop_assert!(problem.to_string().len() > 20, "{asked}: no reason in {problem}");
        }
        Ok(parts.status)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn any_query_and_cursor_has_an_answer_or_an_error_with_a_reason() {
        let runtime = runtime();
        let gateway = runtime.block_on(async {
            let gateway = Gateway::new().await;
            gateway.put(event("http://kitchen:1", 16_000), true).await;
            gateway.put(event("http://kitchen:1", 160_000), false).await;
            gateway
        });
        let (sent, answered) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        hold(1_000, &nearly_text(&READS, &WORDS), |uri| {
            let Ok(uri) = uri.parse::<Uri>() else { return Ok(()) };
            let is_left_out =
                ["/cat", "/dog", "/analyze", "/stream", "live", "/backup"].iter().any(|out| uri.path().contains(out));
            if !uri.path().starts_with('/') || is_left_out {
                return Ok(());
            }
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            let status = runtime.block_on(checked(&gateway, request))?;
            sent.set(sent.get() + 1);
            answered.set(answered.get() + u32::from(status.is_success()));
            Ok(())
        });
        assert!(answered.get() > 50, "{} of {} requests were good", answered.get(), sent.get());
    }

    #[test]
    fn any_header_and_body_has_an_answer_or_an_error_with_a_reason() {
        let runtime = runtime();
        let gateway = runtime.block_on(async {
            let gateway = Gateway::new().await;
            gateway.put(event("http://kitchen:1", 16_000), true).await;
            gateway
        });
        let headers = [
            "host",
            "origin",
            "referer",
            "sec-fetch-site",
            "range",
            "if-range",
            "accept",
            "content-type",
            "if-none-match",
            "accept-language",
            "last-event-id",
        ];
        let values = [
            "hub:5000",
            "http://hub:5000",
            "[::1]:5000",
            "bytes=0-99",
            "bytes=-1",
            "text/csv",
            "application/json",
            "same-origin",
            "\"1\"",
            "de,en;q=0.5",
        ];
        let value = nearly(
            values.map(|value| value.as_bytes().to_vec()).to_vec(),
            &["bytes=", ":", "//", "@", "]", ",", "null"],
        );
        let header = (prop::sample::select(headers.to_vec()), value);
        let body = nearly(
            vec![b"{\"label\":\"brushing\"}".to_vec(), b"{\"label\":null}".to_vec()],
            &["null", "\"", "\\u", "[", "1e999"],
        );
        let target = prop::sample::select(vec![
            (Method::PUT, "/api/v1/events/1/label"),
            (Method::GET, "/api/v1/events/1/clip.wav"),
            (Method::GET, "/api/v1/events"),
            (Method::POST, "/api/v1/events"),
        ]);
        let json = any::<bool>();
        hold(
            1_000,
            &(target, prop::collection::vec(header, 0..3), body, json),
            |((method, path), headers, body, json)| {
                let mut request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
                if json {
                    request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
                }
                for (name, value) in headers {
                    if let Ok(value) = HeaderValue::from_bytes(&value) {
                        request.headers_mut().append(HeaderName::from_static(name), value);
                    }
                }
                runtime.block_on(checked(&gateway, request)).map(|_| ())
            },
        );
    }
}
