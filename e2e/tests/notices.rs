//! A hub that is killed at each step from an event to its owner's notification: nothing is lost, nothing is stored
//! twice, and what is delivered again has the same key.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::until;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A synthetic cat meows every few seconds; the machine may be busy.
const HEARD: Duration = Duration::from_secs(120);

/// What a receiver does with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Accepts it.
    Takes,
    /// Reads it, and answers once the mood changes.
    Waits,
    /// Closes the connection without reading.
    Refuses,
}

/// An owner's webhook.
struct Receiver {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Value>>>::default());
        let (mood, moods) = watch::channel(Mood::Takes);
        let all = Arc::clone(&got);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(take(stream, moods.clone(), Arc::clone(&all)));
            }
        });
        Self { address, mood, got }
    }

    fn got(&self) -> Vec<Value> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until it has got more than `count`.
    async fn more_than(&self, count: usize) {
        until(HEARD, "the owner is notified", || async { (self.got().len() > count).then_some(()) }).await;
    }

    /// How often it has got the notification with this key.
    fn times(&self, key: &Value) -> usize {
        self.got().iter().filter(|one| one["key"] == *key).count()
    }

    /// Waits until it has got the notification with this key that often.
    async fn gets(&self, key: &Value, times: usize) {
        let what = "the owner gets this notification";
        until(HEARD, what, || async { (self.times(key) >= times).then_some(()) }).await;
    }
}

async fn take(mut stream: TcpStream, mut moods: watch::Receiver<Mood>, all: Arc<Mutex<Vec<Value>>>) {
    if *moods.borrow() == Mood::Refuses {
        return;
    }
    let mut bytes = Vec::new();
    let body = loop {
        // A killed hub closes the connection in the middle.
        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        if body.len() == header("content-length: ").unwrap().parse::<usize>().unwrap() {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["key"], header("idempotency-key: ").unwrap());
            break body;
        }
    };
    all.lock().unwrap().push(body);
    moods.wait_for(|mood| *mood != Mood::Waits).await.unwrap();
    // An error means that the hub is gone.
    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
}

/// Changes the hub's database behind its back.
fn alter(hub: &Hub, sql: &str) {
    let database = rusqlite::Connection::open(hub.data_folder().join("hub.sqlite")).unwrap();
    database.busy_timeout(Duration::from_secs(60)).unwrap();
    database.execute_batch(sql).unwrap();
}

/// From now on the database refuses a step, and with it its whole transaction.
fn refuse(hub: &Hub, step: &str) {
    alter(hub, &format!("CREATE TRIGGER refused BEFORE {step} BEGIN SELECT RAISE(ABORT, 'on purpose'); END"));
}

fn allow(hub: &Hub) {
    alter(hub, "DROP TRIGGER refused");
}

/// Waits until the hub has logged something.
async fn logs(hub: &Hub, words: &str) {
    until(HEARD, words, || async { hub.daemon.log().contains(words).then_some(()) }).await;
}

/// All events, the earliest first.
async fn events(hub: &Hub) -> Vec<Value> {
    let mut events = hub.get("/api/v1/events?limit=500").await.json()["events"].as_array().unwrap().clone();
    events.sort_by_key(|event| event["start_sample"].as_u64());
    events
}

async fn notices(hub: &Hub, status: &str) -> Vec<Value> {
    hub.get(&format!("/api/v1/notices?limit=500&status={status}")).await.json()["notices"].as_array().unwrap().clone()
}

fn span(event: &Value) -> (u64, u64) {
    (event["start_sample"].as_u64().unwrap(), event["end_sample"].as_u64().unwrap())
}

fn clips(hub: &Hub) -> usize {
    std::fs::read_dir(hub.data_folder().join("clips")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn hub_that_is_killed_at_each_step_notifies_of_every_event_with_one_key() {
    let node = Node::start(NodeOptions { seed: 42, ..NodeOptions::new("http://127.0.0.1:1") }).await;
    // Never killed: its events are the truth.
    let control = Hub::start(&[("Tom", &node.url())]).await;
    let receiver = Receiver::start().await;
    let config = format!(
        "[[owners]]\nname = \"Anna\"\ncooldown_s = 0\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"http://{}\"\n",
        receiver.address
    );
    let mut hub = Hub::start_with_config(Addresses::free(), &[("Tom", &node.url())], &config).await;
    receiver.more_than(0).await;

    // Before the commit: a clip is written, and without its notification the event is not stored either.
    refuse(&hub, "INSERT ON notices");
    logs(&hub, "events and gaps cannot be stored").await;
    let (clips, events_before) = (clips(&hub), events(&hub).await.len());
    assert!(clips > events_before, "{clips} clips, {events_before} events");
    hub.daemon.kill();
    allow(&hub);
    hub = hub.restart().await;

    // After the commit, before any delivery.
    receiver.mood.send_replace(Mood::Refuses);
    let waiting =
        until(HEARD, "a notification is pending", || async { notices(&hub, "pending").await.first().cloned() }).await;
    hub.daemon.kill();
    receiver.mood.send_replace(Mood::Takes);
    hub = hub.restart().await;
    receiver.gets(&waiting["key"], 1).await;

    // During a delivery: sent, and not answered.
    receiver.mood.send_replace(Mood::Waits);
    receiver.more_than(receiver.got().len()).await;
    hub.daemon.kill();
    let unanswered = receiver.got().last().unwrap()["key"].clone();
    let times = receiver.times(&unanswered);
    receiver.mood.send_replace(Mood::Takes);
    hub = hub.restart().await;
    receiver.gets(&unanswered, times + 1).await;

    // After the delivery, before its result is stored.
    refuse(&hub, "UPDATE ON notices WHEN NEW.state = 'delivered'");
    logs(&hub, "cannot store the result of a delivery").await;
    let unmarked = receiver.got().last().unwrap()["key"].clone();
    let times = receiver.times(&unmarked);
    hub.daemon.kill();
    allow(&hub);
    hub = hub.restart().await;
    receiver.gets(&unmarked, times + 1).await;

    // Both hubs have the same events up to here, each once.
    let until_sample = node.describe().await.tape.unwrap().next_sequence * 320;
    for hub in [&control, &hub] {
        until(HEARD, "a later event is stored", || async {
            events(hub).await.last().filter(|last| span(last).0 > until_sample).cloned()
        })
        .await;
    }
    until(HEARD, "nothing is pending", || async { notices(&hub, "pending").await.is_empty().then_some(()) }).await;
    let up_to = |events: Vec<Value>| events.into_iter().filter(|one| span(one).1 <= until_sample).collect::<Vec<_>>();
    let (truth, stored) = (up_to(events(&control).await), up_to(events(&hub).await));
    let spans = |events: &[Value]| events.iter().map(span).collect::<Vec<_>>();
    assert_eq!(stored.len(), truth.len(), "{:?}\n{:?}", spans(&stored), spans(&truth));
    for (one, other) in spans(&stored).into_iter().zip(spans(&truth)) {
        assert!(one.0 < other.1 && other.0 < one.1, "{one:?} matches none of {:?}", spans(&truth));
    }

    // Each event made one notification, with its own key.
    let mut keys: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    for got in receiver.got() {
        keys.entry(got["event"]["id"].as_i64().unwrap()).or_default().push(got["key"].clone());
    }
    for event in &stored {
        let keys = keys.get(&event["id"].as_i64().unwrap()).unwrap_or_else(|| panic!("no notification: {event}"));
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
    let distinct: std::collections::BTreeSet<_> = keys.values().map(|keys| keys[0].to_string()).collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(notices(&hub, "dead").await, [Value::Null; 0]);
}
