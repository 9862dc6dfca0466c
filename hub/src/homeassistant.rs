//! Home Assistant: each node is a device, found by MQTT discovery.
//!
//! The hub publishes everything again after each connection, and when Home Assistant publishes that it has started, so
//! neither Home Assistant nor the broker needs to remember anything. A node that has left is removed from both, also if
//! an earlier run of the hub published it: after each connection the hub reads back which nodes it published.
//!
//! A device is made for a node's id, so that it stays when the URL of the node changes. A node that Home Assistant may
//! know by its URL, because it had no id at first, keeps the device of that URL.
//!
//! Without a connection nothing is kept for later: an automation that runs an hour late is worse than none, and states
//! are published again after the next connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::identity::NodeId;
use daemon::shutdown::CancellationToken;
use hub_base::time::rfc3339;
use hub_listen::Live;
use hub_listen::live::{LiveLevel, News, NodeReport, NodeState, WatchedNode};
use hub_nodes::{Node, Nodes};
use hub_owner::event_url;
use hub_owner::mqtt::{Mqtt, Retained};
use hub_store::events::Event;
use hub_store::{KnownBy, Store};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::info;

mod discovery;

use discovery::Names;

/// Peak, in dB of full scale, at or below which a node hears zeros: its microphone is muted or broken.
const SILENCE_DBFS: f32 = -119.0;

/// An event in audio older than this triggers no automation: its node is catching up after an outage.
const STALE_AFTER_MS: u64 = 60_000;

/// How long a node that an earlier run of the hub published has to announce itself again, if the hub discovers nodes.
/// Until then it is shown as offline. Afterwards it is taken out of Home Assistant.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(600);

/// How long a node that the store does not know has to answer, and so to prove its id, before it is published under its
/// URL.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Most nodes of earlier runs that are remembered until they are taken out. Further ones stay as they are until the
/// next connection.
const MOST_GONE: usize = 256;

/// Publishes the nodes to Home Assistant.
#[derive(Debug)]
pub struct HomeAssistant {
    mqtt: Mqtt,
    live: Live,
    nodes: Nodes,
    store: Store,
    public_url: Option<String>,
    /// Nodes of earlier runs, or of this one, that the hub does not know any more: by id, when they are taken out.
    gone: BTreeMap<String, Instant>,
    comes_back_within: Duration,
    answers_within: Duration,
    /// By URL: which node is there.
    ids: BTreeMap<String, Identified>,
    /// By node: what was published last. These nodes have been announced.
    published: BTreeMap<String, Published>,
    /// By node: the latest level that has not been published.
    levels: BTreeMap<String, LiveLevel>,
}

/// Which node is at a URL.
#[derive(Debug)]
struct Identified {
    /// Its id in topics.
    id: String,
    /// The id that it had proved by then.
    proved: Option<NodeId>,
    /// Whether it had answered. If not, it may prove to be another node.
    has_answered: bool,
}

/// What was published about a node.
#[derive(Debug)]
struct Published {
    names: Names,
    state: String,
}

impl HomeAssistant {
    /// Nothing is published yet. With `discovers`, nodes of an earlier run may still announce themselves.
    pub fn new(
        mqtt: Mqtt,
        live: Live,
        nodes: Nodes,
        store: Store,
        public_url: Option<String>,
        discovers: bool,
    ) -> Self {
        Self {
            mqtt,
            live,
            nodes,
            store,
            public_url,
            gone: BTreeMap::new(),
            comes_back_within: if discovers { COMES_BACK_WITHIN } else { Duration::ZERO },
            answers_within: ANSWERS_WITHIN,
            ids: BTreeMap::new(),
            published: BTreeMap::new(),
            levels: BTreeMap::new(),
        }
    }

    /// Publishes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut news, mut ready) = (self.live.watch(), self.mqtt.ready());
        let mut retained = self.mqtt.take_retained().unwrap_or_else(|| mpsc::channel(1).1);
        let mut tick = tokio::time::interval(Duration::from_secs(self.mqtt.config().level_period_s.into()));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ready.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                // This cannot fail: this task holds the sender too.
                _ = ready.changed() => {
                    self.published.clear();
                    self.levels.clear();
                    self.publish_states().await;
                }
                one = news.recv() => match one {
                    Ok(one) => self.update(&one).await,
                    // Missed levels and events are out of date by now; states are not.
                    Err(RecvError::Lagged(_)) => self.publish_states().await,
                    Err(RecvError::Closed) => return,
                },
                Some(state) = retained.recv() => self.recognise(&state).await,
                _ = tick.tick() => {
                    self.publish_states().await;
                    self.publish_levels().await;
                    self.take_out_gone().await;
                }
            }
        }
    }

    /// Takes a state that the broker has retained. If it is that of a node which this hub published and does not know
    /// any more, the node is published as offline, to be taken out later.
    async fn recognise(&mut self, retained: &Retained) {
        let Some(id) = self.published_id(retained) else { return };
        if self.gone.contains_key(&id) || self.gone.len() >= MOST_GONE || self.known_ids().contains(&id) {
            return;
        }
        let names = Names::of_id(self.mqtt.config(), &id);
        let state = json!({
            "state": "unknown", "connected": false, "problem": false,
            "error": "the hub does not know this node any more", "hub": self.mqtt.client_id(),
        });
        self.mqtt.publish(names.topic("availability"), true, "offline".into()).await;
        self.mqtt.publish(names.topic("state"), true, state.to_string()).await;
        // It may be a node that has not answered yet at its new URL.
        let wait = if self.all_have_ids() { self.comes_back_within } else { COMES_BACK_WITHIN };
        self.gone.insert(id, Instant::now() + wait);
    }

    /// Whether it is known which node is at each URL.
    fn all_have_ids(&self) -> bool {
        self.live.nodes().iter().all(|node| self.ids.contains_key(node.name()))
    }

    /// Finds out which node is at each URL. A node that has not answered yet is the one that was there last.
    async fn find_ids(&mut self) {
        let all = self.live.nodes();
        self.ids.retain(|url, _| all.iter().any(|node| node.name() == url));
        for watched in all {
            let url = watched.name();
            let node = self.nodes.get(url);
            let proved = node.as_ref().and_then(Node::id);
            let has_answered = node.is_some_and(|node| node.description().is_some());
            let is_found = |known: &Identified| known.has_answered && known.proved == proved;
            if self.ids.get(url).is_some_and(is_found) {
                continue;
            }
            let id = proved.map(|id| id.to_string());
            let known_by = match self.store.known_by(url, id.as_deref().filter(|_| has_answered)).await {
                Ok(Some(known_by)) => known_by,
                // The store learns of a node when listening to it begins.
                Ok(None) if id.is_some() => continue,
                Ok(None) if has_answered || watched.since().elapsed() >= self.answers_within => {
                    KnownBy::Url(url.to_owned())
                }
                // The next round asks again.
                Ok(None) | Err(_) => continue,
            };
            let id = discovery::id_of(&known_by);
            self.ids.insert(url.to_owned(), Identified { id, proved, has_answered });
        }
        self.pass_on_devices();
    }

    /// A configured name may give way to the one under which its node proves its id. Then the device of the configured
    /// name goes on with that node: otherwise it would show a problem for ever.
    fn pass_on_devices(&mut self) {
        for node in self.nodes.iter().filter(|node| !node.is_discovered()) {
            let Some(standing) = self.nodes.twin_of(&node) else { continue };
            let Some(id) = self.ids.get(node.url()).map(|known| known.id.clone()) else { continue };
            if let Some(known) = self.ids.get_mut(standing.url()) {
                known.id = id;
            }
        }
    }

    /// The id of the node, if this hub has published the state. A state that does not say which hub published it is
    /// from a version before 0.1.
    fn published_id(&self, retained: &Retained) -> Option<String> {
        let base = self.mqtt.config().topic.as_str();
        let id = retained.topic.strip_prefix(base)?.strip_prefix('/')?.strip_suffix("/state")?;
        let state: Value = serde_json::from_slice(&retained.payload).ok()?;
        let is_ours = match &state["hub"] {
            Value::Null => state["connected"].is_boolean(),
            hub => hub == self.mqtt.client_id(),
        };
        (is_ours && discovery::is_id(id)).then(|| id.to_owned())
    }

    fn known_ids(&self) -> BTreeSet<String> {
        self.ids.values().map(|known| known.id.clone()).collect()
    }

    /// Removes nodes whose time is over from Home Assistant and from the broker.
    async fn take_out_gone(&mut self) {
        if self.gone.is_empty() || !self.mqtt.is_connected() {
            return;
        }
        let known = self.known_ids();
        self.gone.retain(|id, _| !known.contains(id));
        let now = Instant::now();
        let due: Vec<String> = self.gone.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            info!(node = id, "removing a node from Home Assistant that the hub does not know any more");
            for topic in discovery::topics(self.mqtt.config(), &Names::of_id(self.mqtt.config(), &id)) {
                // To a broker, an empty payload means to forget what it has retained.
                self.mqtt.publish(topic, true, String::new()).await;
            }
            self.gone.remove(&id);
        }
    }

    async fn update(&mut self, news: &News) {
        match news {
            // What sounds like a false alarm triggers no automation.
            News::Event(event) if event.is_set_aside() => {}
            News::Event(event) => self.publish_event(event).await,
            News::State { .. } => self.publish_states().await,
            News::Level(level) => {
                self.levels.insert(level.node.clone(), level.clone());
            }
            News::Linked(_)
            | News::Labelled(_)
            | News::Deleted { .. }
            | News::Reevaluated { .. }
            | News::Redated { .. }
            | News::Gap(_) => {}
        }
    }

    /// Announces new nodes and new names, and publishes the states that have changed.
    async fn publish_states(&mut self) {
        if !self.mqtt.is_connected() {
            return;
        }
        self.find_ids().await;
        let known = self.devices();
        let cats: Vec<_> = known.iter().map(|node| self.nodes.get(node.name()).and_then(|node| node.cat())).collect();
        for (node, cat) in known.iter().zip(&cats) {
            let (report, node) = (node.report(), node.name());
            let is_only_one = cats.iter().filter(|other| *other == cat).count() == 1;
            let Some(Identified { id, .. }) = self.ids.get(node) else { continue };
            let names = Names::new(self.mqtt.config(), id, node, cat.as_deref().map(|cat| (cat, is_only_one)));
            let before = self.published.get(node);
            if let Some(before) = before.filter(|before| before.names.id() != names.id()) {
                self.gone.insert(before.names.id().to_owned(), Instant::now() + self.comes_back_within);
            }
            let before = before.filter(|before| before.names.id() == names.id());
            if before.is_none_or(|before| before.names != names) {
                for (topic, config) in discovery::configs(self.mqtt.config(), &names, self.public_url.as_deref()) {
                    self.mqtt.publish(topic, true, config.to_string()).await;
                }
            }
            let state = state_of(&report, self.mqtt.client_id());
            if before.is_none_or(|before| before.state != state) {
                let there = if is_connected(&report) { "online" } else { "offline" };
                self.mqtt.publish(names.topic("availability"), true, there.into()).await;
                self.mqtt.publish(names.topic("state"), true, state.clone()).await;
            }
            self.gone.remove(names.id());
            self.published.insert(node.to_owned(), Published { names, state });
        }
        // Nodes that have left since they were published.
        let left: Vec<String> =
            self.published.keys().filter(|url| known.iter().all(|node| node.name() != *url)).cloned().collect();
        for url in left {
            if let Some(Published { names, .. }) = self.published.remove(&url) {
                self.gone.insert(names.id().to_owned(), Instant::now());
            }
        }
    }

    /// The nodes to publish, each once: of two URLs of one node, the one where it is connected, else the first.
    fn devices(&self) -> Vec<Arc<WatchedNode>> {
        let mut devices: Vec<(&str, Arc<WatchedNode>)> = Vec::new();
        for node in self.live.nodes() {
            let Some(Identified { id, .. }) = self.ids.get(node.name()) else { continue };
            match devices.iter_mut().find(|(other, _)| other == id) {
                Some((_, other)) if !is_connected(&other.report()) && is_connected(&node.report()) => *other = node,
                Some(_) => {}
                None => devices.push((id, node)),
            }
        }
        devices.into_iter().map(|(_, node)| node).collect()
    }

    async fn publish_levels(&mut self) {
        for (node, level) in std::mem::take(&mut self.levels) {
            let Some(Published { names, .. }) = self.published.get(&node) else { continue };
            let LiveLevel { rms_dbfs, peak_dbfs, score, lag_ms, .. } = level;
            let level = json!({
                "rms_dbfs": tenths(rms_dbfs), "peak_dbfs": tenths(peak_dbfs), "score": hundredths(score), "lag_ms": lag_ms
            });
            self.mqtt.publish(names.topic("level"), false, level.to_string()).await;
        }
    }

    async fn publish_event(&self, event: &Event) {
        let found = &event.found;
        let Some(Published { names, .. }) = self.published.get(&found.node) else { return };
        let url = event_url(&event.subject(), self.public_url.as_deref());
        let payload = json!({
            "event_type": event.counts_as().as_str(),
            "id": event.id,
            "cat": event.cat(),
            "score": hundredths(found.score),
            "sound": found.kind,
            "started_at": rfc3339(found.started_at_ns),
            "duration_s": event.duration_s(),
            "url": url,
        });
        let heard_by = self.live.nodes().into_iter().find(|node| node.name() == found.node);
        if heard_by.is_none_or(|node| node.report().lag_ms <= STALE_AFTER_MS) {
            self.mqtt.publish(names.topic("event"), false, payload.to_string()).await;
        }
        self.mqtt.publish(names.topic("last"), true, payload.to_string()).await;
    }
}

/// The state of a node, as JSON that stays the same as long as nothing changes.
fn state_of(report: &NodeReport, hub: &str) -> String {
    let hears = matches!(report.state, NodeState::Live | NodeState::CatchingUp);
    let silent = hears && report.level.as_ref().is_some_and(|level| level.peak_dbfs <= SILENCE_DBFS);
    let state = if silent { "silent" } else { report.state.as_str() };
    json!({
        "state": state,
        "connected": is_connected(report),
        "problem": !hears || silent,
        "error": report.error,
        "hub": hub,
    })
    .to_string()
}

fn is_connected(report: &NodeReport) -> bool {
    matches!(report.state, NodeState::Live | NodeState::CatchingUp | NodeState::Quiet)
}

fn tenths(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}

fn hundredths(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
