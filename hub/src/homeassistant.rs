//! Home Assistant: each node is a device, found by MQTT discovery.
//!
//! The hub publishes everything again after each connection, and when Home Assistant publishes that it has started, so
//! neither Home Assistant nor the broker needs to remember anything. Without a connection nothing is kept for later: an
//! automation that runs an hour late is worse than none, and states are published again after the next connection.

use std::collections::BTreeMap;

use daemon::shutdown::CancellationToken;
use hub_base::time::rfc3339;
use hub_listen::Live;
use hub_listen::live::{LiveLevel, News, NodeReport, NodeState};
use hub_owner::event_url;
use hub_owner::mqtt::Mqtt;
use hub_store::events::Event;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

mod discovery;

use discovery::Names;

/// Peak, in dB of full scale, at or below which a node hears zeros: its microphone is muted or broken.
const SILENCE_DBFS: f32 = -119.0;

/// An event in audio older than this triggers no automation: its node is catching up after an outage.
const STALE_AFTER_MS: u64 = 60_000;

/// Publishes the nodes to Home Assistant.
#[derive(Debug)]
pub struct HomeAssistant {
    mqtt: Mqtt,
    live: Live,
    public_url: Option<String>,
    /// By node: the state that was published last. These nodes have been announced.
    published: BTreeMap<String, String>,
    /// By node: the latest level that has not been published.
    levels: BTreeMap<String, LiveLevel>,
}

impl HomeAssistant {
    /// Nothing is published yet.
    pub fn new(mqtt: Mqtt, live: Live, public_url: Option<String>) -> Self {
        Self { mqtt, live, public_url, published: BTreeMap::new(), levels: BTreeMap::new() }
    }

    /// Publishes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut news, mut ready) = (self.live.watch(), self.mqtt.ready());
        let mut tick = tokio::time::interval(std::time::Duration::from_secs(self.mqtt.config().level_period_s.into()));
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
                _ = tick.tick() => {
                    self.publish_states().await;
                    self.publish_levels().await;
                }
            }
        }
    }

    async fn update(&mut self, news: &News) {
        match news {
            News::Event(event) => self.publish_event(event).await,
            News::State { .. } => self.publish_states().await,
            News::Level(level) => {
                self.levels.insert(level.node.clone(), level.clone());
            }
            News::Labelled(_) | News::Deleted { .. } | News::Redated { .. } | News::Gap(_) => {}
        }
    }

    /// Announces new nodes, and publishes the states that have changed.
    async fn publish_states(&mut self) {
        if !self.mqtt.is_connected() {
            return;
        }
        for node in self.live.nodes() {
            let (report, node) = (node.report(), node.name().to_owned());
            let names = Names::new(self.mqtt.config(), &node);
            if !self.published.contains_key(&node) {
                for (topic, config) in discovery::configs(self.mqtt.config(), &names, self.public_url.as_deref()) {
                    self.mqtt.publish(topic, true, config.to_string()).await;
                }
            }
            let state = state_of(&report);
            if self.published.get(&node) != Some(&state) {
                let there = if is_connected(&report) { "online" } else { "offline" };
                self.mqtt.publish(names.topic("availability"), true, there.into()).await;
                self.mqtt.publish(names.topic("state"), true, state.clone()).await;
                self.published.insert(node, state);
            }
        }
    }

    async fn publish_levels(&mut self) {
        for (node, level) in std::mem::take(&mut self.levels) {
            let names = Names::new(self.mqtt.config(), &node);
            let LiveLevel { rms_dbfs, peak_dbfs, score, lag_ms, .. } = level;
            let level = json!({
                "rms_dbfs": tenths(rms_dbfs), "peak_dbfs": tenths(peak_dbfs), "score": hundredths(score), "lag_ms": lag_ms
            });
            self.mqtt.publish(names.topic("level"), false, level.to_string()).await;
        }
    }

    async fn publish_event(&self, event: &Event) {
        let (names, found) = (Names::new(self.mqtt.config(), &event.found.node), &event.found);
        let url = event_url(&event.subject(), self.public_url.as_deref());
        let payload = json!({
            "event_type": event.counts_as().as_str(),
            "id": event.id,
            "cat": found.cat,
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
fn state_of(report: &NodeReport) -> String {
    let hears = matches!(report.state, NodeState::Live | NodeState::CatchingUp);
    let silent = hears && report.level.as_ref().is_some_and(|level| level.peak_dbfs <= SILENCE_DBFS);
    let state = if silent { "silent" } else { report.state.as_str() };
    json!({
        "state": state,
        "connected": is_connected(report),
        "problem": !hears || silent,
        "error": report.error,
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
