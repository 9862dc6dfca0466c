//! Against a real Mosquitto, which the test starts, kills and starts again.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::identity::Key;
use hub_nodes::address::NodeConfig;
use hub_nodes::testing::{FakeNode, Tape, announce};
use hub_owner::config::{MqttConfig, OwnerConfig, open_channels};
use hub_store::events::{NewEvent, NoClip};
use hub_store::testing::event_notification;
use hub_store::{Access, SeenNode};
use rumqttc::{AsyncClient, Broker as At, Event as Seen, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// What any wait may take before it counts as a failure.
const SOON: Duration = Duration::from_secs(60);

const NODE: &str = "http://kitchen:50056";

/// A broker on a port of its own. It keeps nothing over a restart.
struct Broker {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Broker {
    async fn start() -> Self {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(address, &folder);
        let mut broker = Self { child, address, folder };
        broker.answers().await;
        broker
    }

    fn spawn(address: SocketAddr, folder: &tempfile::TempDir) -> Child {
        let config = folder.path().join("mosquitto.conf");
        let text = format!("listener {} 127.0.0.1\nallow_anonymous true\npersistence false\n", address.port());
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("mosquitto");
        // Debian keeps it where only root looks.
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("mosquitto: 'scripts/setup test' installs it")
    }

    async fn answers(&mut self) {
        until("the broker answers", || std::net::TcpStream::connect(self.address).is_ok()).await;
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn start_again(&mut self) {
        self.child = Self::spawn(self.address, &self.folder);
        self.answers().await;
    }

    fn config(&self, more: &str) -> MqttConfig {
        toml::from_str(&format!("url = \"mqtt://{}\"\nlevel_period_s = 1\n{more}", self.address)).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

/// A subscriber of everything, as Home Assistant would be.
struct Reader {
    client: AsyncClient,
    read: Arc<Mutex<Vec<(String, String, bool)>>>,
    task: JoinHandle<()>,
}

impl Reader {
    async fn start(broker: &Broker) -> Self {
        // A broker closes the connection of a client when another one comes with the same identifier.
        static READERS: AtomicUsize = AtomicUsize::new(0);
        let id = format!("reader{}", READERS.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(id, At::tcp("127.0.0.1", broker.address.port()));
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::builder(options).capacity(16).build();
        let (read, subscribed) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(tokio::sync::Notify::new()));
        let (all, is_subscribed) = (Arc::clone(&read), Arc::clone(&subscribed));
        client.subscribe("#", QoS::AtMostOnce).await.unwrap();
        let task = tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Seen::Incoming(Incoming::SubAck(_)) => is_subscribed.notify_one(),
                    Seen::Incoming(Incoming::Publish(message)) => {
                        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                        let topic = String::from_utf8(message.topic.to_vec()).unwrap();
                        all.lock().unwrap().push((topic, payload, message.retain));
                    }
                    _ => {}
                }
            }
        });
        subscribed.notified().await;
        Self { client, read, task }
    }

    fn of(&self, topic: &str) -> Vec<String> {
        let read = self.read.lock().unwrap();
        read.iter().filter(|(name, _, _)| name == topic).map(|(_, payload, _)| payload.clone()).collect()
    }

    fn last_json(&self, topic: &str) -> Value {
        self.of(topic).last().map_or(Value::Null, |payload| serde_json::from_str(payload).unwrap())
    }

    /// As [`Reader::of`], without repetitions.
    fn changes_of(&self, topic: &str) -> Vec<String> {
        let mut payloads = self.of(topic);
        payloads.dedup();
        payloads
    }

    fn announced(&self) -> usize {
        self.announcements().len()
    }

    /// Entities that were announced, however often.
    fn entities(&self) -> usize {
        self.announcements().into_iter().collect::<HashSet<_>>().len()
    }

    fn announcements(&self) -> Vec<String> {
        let read = self.read.lock().unwrap();
        let topics = read.iter().map(|(topic, _, _)| topic);
        topics.filter(|topic| topic.starts_with("homeassistant/") && topic.ends_with("/config")).cloned().collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The hub's side of the connection.
struct Hub {
    mqtt: Mqtt,
    live: Live,
    nodes: Nodes,
    store: Store,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
    _home_assistant: JoinHandle<()>,
    /// Where the client identifier is kept. A hub that is started with it again is the same hub.
    data: Arc<tempfile::TempDir>,
}

impl Hub {
    fn start(config: &MqttConfig) -> Self {
        Self::start_with(config, &[NODE], Arc::new(tempfile::tempdir().unwrap()), false)
    }

    /// A hub that knows these nodes, each a URL or `CAT=URL`.
    fn start_with(config: &MqttConfig, nodes: &[&str], data: Arc<tempfile::TempDir>, discovers: bool) -> Self {
        // These nodes never answer.
        Self::start_of(config, nodes, data, discovers, Duration::ZERO)
    }

    fn start_of(
        config: &MqttConfig,
        nodes: &[&str],
        data: Arc<tempfile::TempDir>,
        discovers: bool,
        answers_within: Duration,
    ) -> Self {
        let nodes: Vec<NodeConfig> = nodes.iter().map(|node| node.parse().unwrap()).collect();
        let (stop, live) = (CancellationToken::new(), Live::new(nodes.iter().map(|node| node.url.to_string())));
        let (mqtt, keeper) = Mqtt::new(config, data.path(), true, stop.clone()).unwrap();
        let (nodes, url) = (Nodes::new(&nodes).unwrap(), Some("http://hub:5000".into()));
        let store = Store::open(data.path(), Access::Keeper).unwrap();
        let mut home_assistant =
            HomeAssistant::new(mqtt.clone(), live.clone(), nodes.clone(), store.clone(), url, discovers);
        home_assistant.answers_within = answers_within;
        let home_assistant = tokio::spawn(home_assistant.run(stop.clone()));
        Self { mqtt, live, nodes, store, stop, keeper: tokio::spawn(keeper), _home_assistant: home_assistant, data }
    }

    /// As [`start_with`](Self::start_with), with nodes that answer sooner or later.
    fn start_of_nodes(config: &MqttConfig, nodes: &[&str], data: Arc<tempfile::TempDir>) -> Self {
        Self::start_of(config, nodes, data, false, ANSWERS_WITHIN * 6)
    }

    /// Stops the hub as SIGTERM does, and waits until it has left the broker.
    async fn leave(self) -> Arc<tempfile::TempDir> {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.keeper).await.unwrap().unwrap();
        self.data
    }

    fn meow(&self, id: i64) {
        let found = hub_store::testing::event(NODE, 0);
        self.tell(id, found, Vec::new());
    }

    fn tell(&self, id: i64, found: NewEvent, like_false_alarms: Vec<i64>) {
        let event = Event {
            id,
            found,
            context_labels: 0,
            clip: Err(NoClip::Disabled),
            label: None,
            labelled_at_ns: None,
            said_cat: None,
            said_cat_at_ns: None,
            node_id: None,
            recovered: false,
            first: None,
            own_label: None,
            suggested: None,
            same_sound_as: None,
            same_sound: vec![],
            like_false_alarms,
            below_min_score: None,
        };
        self.live.tell(News::Event(Box::new(event)));
    }

    fn level(&self, rms_dbfs: f32) {
        let (node, peak_dbfs) = (NODE.to_owned(), rms_dbfs + 6.0);
        self.live.tell(News::Level(LiveLevel { node, rms_dbfs, peak_dbfs, score: 0.123, lag_ms: 100 }));
    }
}

const STATE: &str = "meowlink/kitchen_50056/state";
const EVENT: &str = "meowlink/kitchen_50056/event";
const LAST: &str = "meowlink/kitchen_50056/last";
const LEVEL: &str = "meowlink/kitchen_50056/level";
const STATUS: &str = "meowlink/status";

#[tokio::test]
async fn node_is_announced_and_its_states_and_meows_are_published() {
    let broker = Broker::start().await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is connected", || hub.mqtt.is_connected()).await;
    let reader = Reader::start(&broker).await;
    until("the node is announced", || reader.announced() >= 7).await;
    until("its state is published", || reader.last_json(STATE)["state"] == "connecting").await;
    assert_eq!(reader.of(STATUS).last().unwrap(), "online");
    assert_eq!(reader.changes_of("meowlink/kitchen_50056/availability"), ["offline"]);

    hub.live.set_state(&hub.live.nodes()[0], NodeState::Live, "");
    until("its new state is published", || reader.last_json(STATE)["state"] == "live").await;
    let state = reader.last_json(STATE);
    assert_eq!((&state["connected"], &state["problem"]), (&true.into(), &false.into()));
    assert_eq!(reader.changes_of("meowlink/kitchen_50056/availability"), ["offline", "online"]);

    hub.tell(6, hub_store::testing::event(NODE, 0), vec![1, 2]);
    hub.meow(7);
    until("the meow is published", || reader.last_json(LAST)["id"] == 7).await;
    assert_eq!(reader.of(EVENT).len(), 1, "what sounds like a false alarm triggers nothing");
    let event = reader.last_json(EVENT);
    assert_eq!((&event["event_type"], &event["cat"]), (&"isolation".into(), &"Tom".into()));
    assert_eq!(event["url"], "http://hub:5000/#/events/7");

    // A meow that is heard long after it was made triggers no automation.
    hub.live.nodes()[0].lock().lag_ms = 600_000;
    hub.meow(8);
    until("the old meow is the last one", || reader.last_json(LAST)["id"] == 8).await;
    assert_eq!(reader.last_json(EVENT)["id"], 7);
    hub.live.nodes()[0].lock().lag_ms = 0;

    // A thousand levels are a few messages.
    for n in 0..1_000 {
        hub.level(-50.0 + n as f32 / 100.0);
        tokio::task::yield_now().await;
    }
    until("a level is published", || !reader.of(LEVEL).is_empty()).await;
    assert!(reader.of(LEVEL).len() < 100, "{}", reader.of(LEVEL).len());
    assert_eq!(reader.last_json(LEVEL)["score"], 0.12);

    // A node that is found later is announced too.
    hub.live.add("http://attic:50056".into());
    until("the new node is announced", || reader.entities() == 14).await;

    // A later subscriber gets what is retained, and no old meow.
    let late = Reader::start(&broker).await;
    until("what is retained comes", || late.entities() == 14 && late.last_json(LAST)["id"] == 8).await;
    assert_eq!((late.of(EVENT).len(), late.of(LEVEL).len()), (0, 0));
}

#[tokio::test]
async fn broker_that_comes_back_gets_everything_again_but_nothing_out_of_date() {
    let mut broker = Broker::start().await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is connected", || hub.mqtt.is_connected()).await;
    broker.kill();
    until("the hub notices", || !hub.mqtt.is_connected()).await;
    // Far more than any queue holds.
    for id in 0..10_000 {
        hub.meow(id);
        hub.level(-50.0);
        if id % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    hub.live.set_state(&hub.live.nodes()[0], NodeState::Live, "");
    broker.start_again().await;
    let reader = Reader::start(&broker).await;
    until("the node is announced again", || reader.announced() >= 7).await;
    until("its state is published", || reader.last_json(STATE)["state"] == "live").await;
    hub.meow(20_000);
    until("a new meow is published", || reader.last_json(EVENT)["id"] == 20_000).await;
    assert_eq!(reader.of(EVENT).len(), 1, "old meows are not published");
    let messages = reader.read.lock().unwrap().len();
    assert!(messages < 40, "a storm of {messages} messages");
}

#[tokio::test]
async fn everything_is_published_again_when_home_assistant_starts() {
    let broker = Broker::start().await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is connected", || hub.mqtt.is_connected()).await;
    let reader = Reader::start(&broker).await;
    until("the node is announced", || reader.announced() >= 7).await;
    let before = reader.announced();
    // The hub's subscription may be a moment behind its connection.
    until("it is announced again", || {
        let _ = reader.client.try_publish("homeassistant/status", "online", PublishOptions::at_most_once());
        reader.announced() >= before + 7
    })
    .await;
}

#[tokio::test]
async fn hub_that_dies_or_leaves_is_offline() {
    let broker = Broker::start().await;
    let reader = Reader::start(&broker).await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is there", || reader.of(STATUS) == ["online"]).await;
    // Without a word: its socket closes.
    hub.keeper.abort();
    until("its last will is known", || reader.of(STATUS) == ["online", "offline"]).await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is there", || reader.of(STATUS).len() == 3).await;
    hub.stop.cancel();
    until("it has left", || reader.of(STATUS) == ["online", "offline", "online", "offline"]).await;
    tokio::time::timeout(SOON, hub.keeper).await.unwrap().unwrap();
}

#[tokio::test]
async fn notification_is_confirmed_by_the_broker_or_fails() {
    let mut broker = Broker::start().await;
    let hub = Hub::start(&broker.config("topic = \"cats\""));
    until("the hub is connected", || hub.mqtt.is_connected()).await;
    let reader = Reader::start(&broker).await;
    hub.mqtt.publish_confirmed("cats/notices/Anna", "first".into()).await.unwrap();
    until("it arrives", || reader.of("cats/notices/Anna") == ["first"]).await;
    broker.kill();
    until("the hub notices", || !hub.mqtt.is_connected()).await;
    hub.mqtt.publish_confirmed("cats/notices/Anna", "lost".into()).await.unwrap_err();
    broker.start_again().await;
    until("the hub is connected again", || hub.mqtt.is_connected()).await;
    let reader = Reader::start(&broker).await;
    hub.mqtt.publish_confirmed("cats/notices/Anna", "second".into()).await.unwrap();
    until("it arrives", || reader.of("cats/notices/Anna") == ["second"]).await;
}

#[tokio::test]
async fn connection_to_a_broker_that_confirms_nothing_is_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!("url = \"mqtt://{}\"\nhome_assistant = false", listener.local_addr().unwrap());
    let (data, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let (mqtt, keeper) = Mqtt::new(&toml::from_str(&config).unwrap(), data.path(), false, stop).unwrap();
    tokio::spawn(keeper);
    // Accepts the connection and confirms nothing.
    let let_in = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(1_024)).await.unwrap();
        stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        stream
    };
    let first = let_in().await;
    until("the hub is connected", || mqtt.is_connected()).await;
    let error = mqtt.publish_confirmed("a", "b".into()).await.unwrap_err();
    assert!(error.reason.contains("did not confirm") && !error.is_final, "{error:?}");
    // A new connection may help.
    let _second = tokio::time::timeout(SOON, let_in()).await.unwrap();
    drop(first);
}

#[tokio::test]
async fn owner_is_notified_through_the_broker() {
    let broker = Broker::start().await;
    let hub = Hub::start(&broker.config(""));
    until("the hub is connected", || hub.mqtt.is_connected()).await;
    let reader = Reader::start(&broker).await;
    let anna: OwnerConfig = toml::from_str("name = \"Anna\"\n[[channels]]\ntype = \"mqtt\"").unwrap();
    let channels = open_channels([&anna], None, Some(&hub.mqtt)).unwrap();
    let notification = event_notification(7);
    channels[0].deliver(&notification).await.unwrap();
    until("it arrives", || reader.last_json("meowlink/notices/Anna")["key"] == notification.key).await;
    assert_eq!(reader.last_json("meowlink/notices/Anna")["event"]["id"], 7);
}

/// Topics with a retained message, as a subscriber that comes now gets them.
async fn retained(broker: &Broker) -> Vec<String> {
    let late = Reader::start(broker).await;
    // The broker sends what it has retained before it echoes this message.
    late.client.publish("end", "", PublishOptions::at_least_once()).await.unwrap();
    until("the echo comes", || !late.of("end").is_empty()).await;
    late.read.lock().unwrap().iter().filter(|(_, _, retain)| *retain).map(|(topic, ..)| topic.clone()).collect()
}

#[tokio::test]
async fn node_that_has_left_the_config_is_taken_out_of_home_assistant() {
    let broker = Broker::start().await;
    let config = broker.config("");
    let hub = Hub::start_with(&config, &[NODE, "http://attic:1"], Arc::new(tempfile::tempdir().unwrap()), false);
    let reader = Reader::start(&broker).await;
    until("both nodes are announced", || reader.entities() == 14).await;
    until("both are published", || !reader.of("meowlink/attic_1/state").is_empty()).await;
    hub.meow(7);
    until("a meow is retained", || !reader.of(LAST).is_empty()).await;
    // A hub of its own with the same topic keeps its node.
    let other = Hub::start_with(&config, &["http://cellar:1"], Arc::new(tempfile::tempdir().unwrap()), false);
    until("the other hub's node is announced", || reader.entities() == 21).await;
    until("the other hub's node is published", || !reader.of("meowlink/cellar_1/state").is_empty()).await;
    let data = hub.leave().await;

    let _hub = Hub::start_with(&config, &["http://attic:1"], data, false);
    let is_gone = |topic: &String| topic.contains("kitchen_50056");
    let all_empty = || {
        let read = reader.read.lock().unwrap();
        let mut last = BTreeMap::new();
        read.iter().filter(|(topic, ..)| is_gone(topic)).for_each(|(topic, payload, _)| {
            last.insert(topic.clone(), payload.clone());
        });
        // Seven entities, the availability, the state and the last event.
        last.values().filter(|payload| payload.is_empty()).count() == 10
    };
    until("the kitchen is taken back", all_empty).await;
    let left = retained(&broker).await;
    assert_eq!(left.iter().filter(|topic| is_gone(topic)).count(), 0, "{left:?}");
    for node in ["attic_1", "cellar_1"] {
        let announced = left.iter().filter(|topic| topic.contains(node) && topic.ends_with("/config")).count();
        assert_eq!(announced, 7, "{node}: {left:?}");
    }
    drop(other);
}

#[tokio::test]
async fn node_that_may_still_be_discovered_is_offline_and_stays_until_it_is_back() {
    let broker = Broker::start().await;
    let config = broker.config("");
    let hub = Hub::start_with(&config, &[NODE, "http://attic:1"], Arc::new(tempfile::tempdir().unwrap()), true);
    let reader = Reader::start(&broker).await;
    hub.live.set_state(&hub.live.nodes()[1], NodeState::Live, "");
    let attic = "meowlink/attic_1/availability";
    until("the attic is online", || reader.of(attic).last().is_some_and(|last| last == "online")).await;
    let data = hub.leave().await;
    let hub = Hub::start_with(&config, &[NODE], data, true);
    until("the attic is offline", || reader.of(attic).last().is_some_and(|last| last == "offline")).await;
    until("its connection is off", || reader.last_json("meowlink/attic_1/state")["connected"] == false).await;
    let announced = retained(&broker).await.iter().filter(|topic| topic.contains("_attic_1/")).count();
    assert_eq!(announced, 7, "its entities stay");
    hub.live.add("http://attic:1".into());
    hub.live.set_state(&hub.live.nodes()[1], NodeState::Live, "");
    until("the attic is online", || reader.of(attic).last().is_some_and(|last| last == "online")).await;
}

#[tokio::test]
async fn devices_are_named_after_their_cats() {
    let broker = Broker::start().await;
    let data = Arc::new(tempfile::tempdir().unwrap());
    let nodes = ["Tom=http://kitchen:50056", "Ada=http://attic:1", "Ada=http://cellar:1"];
    let _hub = Hub::start_with(&broker.config(""), &nodes, data, false);
    let reader = Reader::start(&broker).await;
    until("all nodes are announced", || reader.entities() == 21).await;
    let name = |id: &str| {
        let config = reader.last_json(&format!("homeassistant/event/meowlink_{id}/cat/config"));
        config["device"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name("kitchen_50056"), "Tom's cat-node");
    assert_eq!(
        (name("attic_1"), name("cellar_1")),
        ("Ada's cat-node (attic:1)".into(), "Ada's cat-node (cellar:1)".into())
    );
}

/// A node that has answered this hub, and proved an id if it has a key. The store knows what listening would tell it.
async fn answered(hub: &Hub, url: &str) {
    hub.nodes.get(url).unwrap().describe().await.unwrap();
    let id = hub.nodes.get(url).unwrap().id().map(|id| id.to_string());
    let seen = SeenNode { url: url.into(), node_id: id, claimed_id: None, boot_id: 7, captured_samples: 0 };
    hub.store.see_node(seen).await.unwrap();
}

/// Ids of the devices that the broker announces to a subscriber that comes now.
async fn devices(broker: &Broker) -> HashSet<String> {
    let device =
        |topic: &String| topic.strip_prefix("homeassistant/event/")?.split_once('/').map(|(id, _)| id.to_owned());
    retained(broker).await.iter().filter_map(device).collect()
}

#[tokio::test]
async fn node_with_an_id_stays_one_device_when_its_url_changes() {
    let tape = Tape { boot_id: 7, key: Some(Arc::new(Key::generate().unwrap().0)), ..Tape::default() };
    let node = FakeNode::new(tape);
    let (first, second) = (format!("http://{}", node.serve().await), format!("http://{}", node.serve().await));
    let broker = Broker::start().await;
    let config = broker.config("");
    let reader = Reader::start(&broker).await;
    let data = Arc::new(tempfile::tempdir().unwrap());
    // It is new, so its device goes by its id.
    let hub = Hub::start_of_nodes(&config, &[&first], Arc::clone(&data));
    answered(&hub, &first).await;
    until("the node is announced", || reader.entities() == 7).await;
    let id = hub.nodes.get(&first).unwrap().id().unwrap().to_string();
    let state = format!("meowlink/{}/state", &id[..16]);
    until("its state is published", || !reader.of(&state).is_empty()).await;
    let expected = HashSet::from([format!("meowlink_{}", &id[..16])]);
    assert_eq!(devices(&broker).await, expected);
    hub.leave().await;
    // At its next URL it takes a while until it has answered. Meanwhile its device stays.
    let hub = Hub::start_of_nodes(&config, &[&second], data);
    let offline = || reader.last_json(&state)["error"].as_str().is_some_and(|why| why.contains("does not know"));
    until("its device is offline", offline).await;
    answered(&hub, &second).await;
    until("it is back", || reader.last_json(&state)["error"] == "").await;
    assert_eq!(devices(&broker).await, expected);
    assert_eq!(reader.entities(), 7, "no other entities were announced");
    hub.leave().await;
}

#[tokio::test]
async fn device_of_a_configured_name_goes_on_with_the_admitted_name_of_its_node() {
    let key = Arc::new(Key::generate().unwrap().0);
    let node = FakeNode::new(Tape { boot_id: 7, key: Some(Arc::clone(&key)), ..Tape::default() });
    let address = node.serve().await;
    // Behind a forwarded port the node proves no id, because the hub dials another address.
    let forwarder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarded = format!("http://{}", forwarder.local_addr().unwrap());
    let forwarding = tokio::spawn(async move {
        while let Ok((mut near, _)) = forwarder.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(address).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    let broker = Broker::start().await;
    let reader = Reader::start(&broker).await;
    let hub = Hub::start_of_nodes(&broker.config(""), &[&forwarded], Arc::new(tempfile::tempdir().unwrap()));
    answered(&hub, &forwarded).await;
    assert!(hub.nodes.get(&forwarded).unwrap().id().is_none());
    until("the node is announced", || reader.entities() == 7).await;
    let slug = forwarded.trim_start_matches("http://").replace(['.', ':'], "_");
    assert_eq!(devices(&broker).await, HashSet::from([format!("meowlink_{slug}")]));

    let found = "http://pi.local:50056";
    hub.nodes.set_admitted([key.id().to_string()].into(), []);
    announce(&hub.nodes, found, address).await;
    answered(&hub, found).await;
    hub.live.set_state(&hub.live.nodes()[0], NodeState::Away, "the same node");
    let standing = hub.live.add(found.into());
    hub.live.set_state(&standing, NodeState::Live, "");
    let state = format!("meowlink/{slug}/state");
    until("its device has no problem", || reader.last_json(&state)["connected"] == true).await;
    assert_eq!(reader.entities(), 7, "no other entities were announced");
    forwarding.abort();
    hub.leave().await;
}

#[tokio::test]
async fn node_that_had_a_device_before_it_had_an_id_keeps_it() {
    let node = FakeNode::new(Tape { boot_id: 7, ..Tape::default() });
    let (first, second) = (format!("http://{}", node.serve().await), format!("http://{}", node.serve().await));
    let broker = Broker::start().await;
    let config = broker.config("");
    let reader = Reader::start(&broker).await;
    let hub = Hub::start_of_nodes(&config, &[&first], Arc::new(tempfile::tempdir().unwrap()));
    answered(&hub, &first).await;
    let slug = first.trim_start_matches("http://").replace(['.', ':'], "_");
    until("the node is announced", || reader.entities() == 7).await;
    assert_eq!(devices(&broker).await, HashSet::from([format!("meowlink_{slug}")]));
    let watermark = hub_store::testing::watermark(&first, 100);
    let heard = vec![hub_store::events::Progress { watermark, gaps: vec![] }];
    hub.store.commit_progress(heard).await.unwrap();
    // An update gives it a key, and then it moves.
    node.change(|tape| tape.key = Some(Arc::new(Key::generate().unwrap().0)));
    answered(&hub, &first).await;
    let data = hub.leave().await;
    let hub = Hub::start_of_nodes(&config, &[&second], data);
    let state = format!("meowlink/{slug}/state");
    until("its device is offline", || reader.last_json(&state)["error"] != "").await;
    answered(&hub, &second).await;
    until("it is back", || reader.last_json(&state)["error"] == "").await;
    assert_eq!(devices(&broker).await, HashSet::from([format!("meowlink_{slug}")]));
    assert_eq!(reader.entities(), 7, "no other entities were announced");
    hub.leave().await;
}

#[tokio::test]
async fn two_hubs_with_the_default_config_do_not_disconnect_each_other() {
    let broker = Broker::start().await;
    let hubs = [Hub::start(&broker.config("")), Hub::start(&broker.config(""))];
    for hub in &hubs {
        until("the hub is connected", || hub.mqtt.is_connected()).await;
    }
    // A broker would close the connection of the first before it accepts the second.
    for hub in &hubs {
        hub.mqtt.publish_confirmed("cats/notices/Anna", "one".into()).await.unwrap();
    }
    assert_ne!(hubs[0].mqtt.client_id(), hubs[1].mqtt.client_id());
}
