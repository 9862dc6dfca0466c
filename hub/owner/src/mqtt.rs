//! The connection to the MQTT broker: one for the process. It reconnects by itself, and queues nothing while it is
//! down.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::cause::cause;
use daemon::config::{ConfigError, Secret};
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, QoS,
    StateError, TlsConfiguration, Transport,
};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{info, warn};

use crate::delivery::DeliveryFailure;
use crate::secret::secret;
use crate::tls;

pub(crate) mod config;

pub use config::MqttConfig;

/// Messages that wait for the socket. When the queue is full, publishers wait. Messages in it when the connection
/// breaks are lost; their publishers send them again.
const QUEUE: usize = 64;

/// Time limit for the broker to confirm a message.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// Time limit for a place in the queue, for messages without confirmation.
const QUEUE_WITHIN: Duration = Duration::from_secs(5);

/// Time limit for the farewell to the broker.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// How often the broker is probed when nothing is published. It declares the hub dead after one and a half times this.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Largest message either way, in bytes.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// First and longest wait before the next attempt to connect.
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
    /// Whether there is a connection. Sent, even if unchanged, whenever everything is to be published again.
    ready: watch::Sender<bool>,
    /// Held while a message waits for its confirmation. Only one message waits at a time, so the next confirmation is
    /// its own.
    turn: tokio::sync::Mutex<()>,
    confirmed: Mutex<Option<oneshot::Sender<()>>>,
    reset: Notify,
}

impl Mqtt {
    /// Prepares the connection of a checked config, and the task that keeps it up. With `speaks_for_the_hub`, this
    /// process publishes whether the hub is online, by its last will too; only one process of a hub does.
    ///
    /// # Errors
    /// Names the key of a password that cannot be read, or of a bad URL.
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

    /// The config of the connection.
    pub fn config(&self) -> &MqttConfig {
        &self.inner.config
    }

    /// Whether the broker is connected.
    pub fn is_connected(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Whether there is a connection. It also changes whenever everything is to be published again, because Home
    /// Assistant has started.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }

    /// Publishes a message that is published again after the next connection anyway. Without a connection it is lost.
    pub async fn publish(&self, topic: String, retain: bool, payload: String) {
        if self.is_connected() {
            let queued = self.inner.client.publish(topic, QoS::AtMostOnce, retain, payload);
            // An error means that the hub is stopping. After a timeout, the connection is about to be closed as dead.
            let _ = tokio::time::timeout(QUEUE_WITHIN, queued).await;
        }
    }

    /// Publishes a message, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Why it may not have arrived.
    pub async fn publish_confirmed(&self, topic: &str, payload: String) -> Result<(), DeliveryFailure> {
        let _turn = self.inner.turn.lock().await;
        if !self.is_connected() {
            return Err(DeliveryFailure::temporary("the MQTT broker is not connected"));
        }
        let (sender, confirmed) = oneshot::channel();
        *self.waiting() = Some(sender);
        // If this is cancelled, a late confirmation could be taken for that of the next message. A new connection
        // delivers neither.
        let unconfirmed = ResetOnDrop(Some(self));
        let published = async {
            let queued = self.inner.client.publish(topic, QoS::AtLeastOnce, false, payload).await;
            queued.map_err(|why| DeliveryFailure::temporary(why.to_string()))?;
            confirmed.await.map_err(|_| DeliveryFailure::temporary("the connection to the broker broke"))
        };
        let published = tokio::time::timeout(CONFIRM_WITHIN, published).await;
        let published = published.map_err(|_| {
            let reason = format!("the broker did not confirm the message within {} s", CONFIRM_WITHIN.as_secs());
            DeliveryFailure::temporary(reason)
        })?;
        unconfirmed.defuse();
        published
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

/// Why the connection failed, in words for people.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker does not accept the user name and password".to_owned(),
        ConnectionError::ConnectionRefused(code) => format!("the broker refused the connection ({code:?})"),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker closed the connection".to_owned(),
        ConnectionError::MqttState(StateError::AwaitPingResp) | ConnectionError::FlushTimeout => {
            "the broker does not answer".to_owned()
        }
        ConnectionError::NetworkTimeout => "timed out".to_owned(),
        other => cause(other),
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
                event = self.events.poll() => event.map_err(|why| reason(&why)),
            };
            match event {
                Ok(Event::Incoming(packet)) => {
                    if matches!(packet, Incoming::ConnAck(_)) {
                        info!(broker = self.mqtt.config().url, "connected to the MQTT broker");
                        log.reset();
                    }
                    // The broker has not only accepted the connection, it answers.
                    if matches!(packet, Incoming::SubAck(_) | Incoming::PingResp) {
                        backoff.reset();
                    }
                    self.take(&packet);
                }
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    let was_connected = self.mqtt.inner.ready.send_replace(false);
                    // Dropping the sender ends the wait for a confirmation that cannot come.
                    *self.mqtt.waiting() = None;
                    self.events.pending.clear();
                    if let Some(suppressed_lines) = log.allow() {
                        let broker = &self.mqtt.config().url;
                        if was_connected {
                            warn!(
                                broker,
                                suppressed_lines, "connection to the MQTT broker lost: {error}; reconnecting"
                            );
                        } else {
                            warn!(broker, suppressed_lines, "cannot connect to the MQTT broker: {error}; retrying");
                        }
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
                    // This cannot fail: the queue is empty now.
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
                    // Fails only if the receiver has been dropped.
                    let _ = waiting.send(());
                }
            }
            _ => {}
        }
    }

    /// Publishes that the hub is offline, so that the broker need not find out.
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
