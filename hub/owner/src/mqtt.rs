//! The connection to an MQTT broker: one for the process, kept up, with nothing waiting while it is down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::config::{ConfigError, Secret};
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, QoS, TlsConfiguration, Transport,
};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{info, warn};

use super::config::{MqttConfig, secret};
use super::tls;

/// Messages that wait for the socket. When it is full, whoever publishes waits; what waits when the connection breaks is
/// lost, and said anew or tried again by whoever said it.
const QUEUE: usize = 64;

/// How long a broker may take to confirm a message.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// How long a message without confirmation may wait for its place in the queue.
const QUEUE_WITHIN: Duration = Duration::from_secs(5);

/// How long the broker may take to take leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How often the broker is probed when there is nothing else to say. It misses the hub after one and a half times this.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Largest message either way, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// First and longest wait before the next try to connect.
const CONNECT_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// How often a failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// A connection to the broker. Clones share it.
#[derive(Debug, Clone)]
pub struct Mqtt {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: AsyncClient,
    config: MqttConfig,
    /// Whether there is a connection. Sent whenever everything is to be said anew, though it may be the same.
    ready: watch::Sender<bool>,
    /// Held by the one whose message waits for its confirmation: one at a time, so a confirmation is that one's.
    turn: tokio::sync::Mutex<()>,
    confirmed: Mutex<Option<oneshot::Sender<()>>>,
    reset: Notify,
}

impl Mqtt {
    /// Prepares the connection of a checked config, and the task that keeps it up. With `speaks_for_the_hub`, the broker
    /// tells whether the hub is there, its last will among it; only one process of a hub does so.
    ///
    /// # Errors
    /// Names the key of a password that cannot be read.
    pub fn new(
        config: &MqttConfig,
        speaks_for_the_hub: bool,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), ConfigError> {
        let (host, port, tls) = config.address().map_err(|why| ConfigError::value("mqtt.url", why))?;
        let id = if speaks_for_the_hub { config.client_id.clone() } else { format!("{}-owner", config.client_id) };
        let mut options = MqttOptions::new(id, host, port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true);
        options.set_max_packet_size(MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
        if tls {
            let tls = TlsConfiguration::Rustls(Arc::new(tls::client_config()));
            options.set_transport(Transport::tls_with_config(tls));
        }
        if let Some(username) = &config.username {
            let password = secret("mqtt.password_file", config.password.as_ref(), config.password_file.as_deref())?;
            options.set_credentials(username, password.as_ref().map(Secret::expose).unwrap_or_default());
        }
        let status = speaks_for_the_hub.then(|| format!("{}/status", config.topic));
        if let Some(status) = &status {
            options.set_last_will(LastWill::new(status, "offline", QoS::AtLeastOnce, true));
        }
        let (client, events) = AsyncClient::new(options, QUEUE);
        let mqtt = Self {
            inner: Arc::new(Inner {
                client,
                config: config.clone(),
                ready: watch::Sender::new(false),
                turn: tokio::sync::Mutex::default(),
                confirmed: Mutex::default(),
                reset: Notify::new(),
            }),
        };
        let keeper = Keeper { mqtt: mqtt.clone(), events, status, stop };
        Ok((mqtt, keeper.run()))
    }

    /// The config it was made of.
    pub fn config(&self) -> &MqttConfig {
        &self.inner.config
    }

    /// Whether the broker can be reached.
    pub fn is_connected(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Whether there is a connection. Changes whenever everything is to be said anew too: when Home Assistant has started.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// Says something that is said again after the next connection anyway. It is lost when there is none.
    pub async fn say(&self, topic: String, retain: bool, payload: String) {
        if self.is_connected() {
            let queued = self.inner.client.publish(topic, QoS::AtMostOnce, retain, payload);
            // An error means that the hub stops; a broker that takes nothing for so long is about to be given up.
            let _ = tokio::time::timeout(QUEUE_WITHIN, queued).await;
        }
    }

    /// Says something, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Why it may not have arrived.
    pub async fn confirmed(&self, topic: &str, payload: String) -> Result<(), String> {
        let _turn = self.inner.turn.lock().await;
        if !self.is_connected() {
            return Err("there is no connection to the broker".into());
        }
        let (sender, confirmed) = oneshot::channel();
        *self.waiting() = Some(sender);
        // Cut short here, its confirmation could be taken for that of the next message: a new connection knows neither.
        let unconfirmed = ResetOnDrop(Some(self));
        let said = async {
            let queued = self.inner.client.publish(topic, QoS::AtLeastOnce, false, payload).await;
            queued.map_err(|why| why.to_string())?;
            confirmed.await.map_err(|_| "the connection to the broker broke".to_owned())
        };
        let said = tokio::time::timeout(CONFIRM_WITHIN, said).await;
        let said = said.map_err(|_| format!("the broker did not confirm it within {} s", CONFIRM_WITHIN.as_secs()))?;
        unconfirmed.defuse();
        said
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<()>>> {
        self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ResetOnDrop<'a>(Option<&'a Mqtt>);

impl ResetOnDrop<'_> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(mqtt) = self.0 {
            mqtt.inner.reset.notify_one();
        }
    }
}

/// Keeps the connection up.
struct Keeper {
    mqtt: Mqtt,
    events: EventLoop,
    status: Option<String>,
    stop: CancellationToken,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = Backoff::new(CONNECT_AGAIN.0, CONNECT_AGAIN.1);
        let mut log = Quiet::new(LOG_PERIOD);
        loop {
            let mqtt = self.mqtt.clone();
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = mqtt.inner.reset.notified() => {
                    self.events.clean();
                    Err("a message was not confirmed".to_owned())
                }
                event = self.events.poll() => event.map_err(|why| why.to_string()),
            };
            match event {
                Ok(Event::Incoming(packet)) => {
                    if matches!(packet, Incoming::ConnAck(_)) {
                        info!(broker = self.mqtt.config().url, "connected to the broker");
                        log.reset();
                    }
                    // The broker does not only let us in, it talks to us.
                    if matches!(packet, Incoming::SubAck(_) | Incoming::PingResp) {
                        backoff.reset();
                    }
                    self.take(&packet);
                }
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    self.mqtt.inner.ready.send_replace(false);
                    // Dropped: whoever waits for a confirmation learns that there will be none.
                    *self.mqtt.waiting() = None;
                    self.events.pending.clear();
                    if let Some(held_back) = log.allow() {
                        warn!(broker = self.mqtt.config().url, error, held_back, "no connection to the broker");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_wait()) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
            }
        }
        self.leave().await;
    }

    fn take(&self, packet: &Incoming) {
        let Inner { client, config, ready, .. } = &*self.mqtt.inner;
        let births = format!("{}/status", config.discovery_prefix);
        match packet {
            Incoming::ConnAck(_) => {
                if let Some(status) = &self.status {
                    // The queue is empty now: errors cannot be.
                    let _ = client.try_publish(status, QoS::AtMostOnce, true, "online");
                    let _ = client.try_subscribe(births, QoS::AtMostOnce);
                }
                ready.send_replace(true);
            }
            Incoming::Publish(message) if message.topic == births && message.payload == "online" => {
                ready.send_replace(true);
            }
            Incoming::PubAck(_) => {
                if let Some(waiting) = self.mqtt.waiting().take() {
                    // An error means that nobody waits any more.
                    let _ = waiting.send(());
                }
            }
            _ => {}
        }
    }

    /// Says that the hub is gone, rather than let the broker find out.
    async fn leave(mut self) {
        if !self.mqtt.is_connected() {
            return;
        }
        if let Some(status) = &self.status {
            let _ = self.mqtt.inner.client.try_publish(status, QoS::AtMostOnce, true, "offline");
        }
        let _ = self.mqtt.inner.client.try_disconnect();
        let left =
            async { while !matches!(self.events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {} };
        let _ = tokio::time::timeout(LEAVE_WITHIN, left).await;
    }
}
