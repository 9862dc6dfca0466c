//! The connection to the MQTT broker: one for the process. It reconnects by itself, and queues nothing while it is
//! down.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::cause::cause;
use daemon::config::{ConfigError, Secret};
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions,
    NoticeFailureReason, Outgoing, PublishNoticeError, PublishOptions, QoS, StateError,
};
use rustls::ClientConfig;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use crate::delivery::DeliveryFailure;
use crate::secret::secret;
use crate::tls;

mod client_id;
pub(crate) mod config;
mod dial;

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

/// How often the broker is probed when nothing is published, in seconds. It declares the hub dead after one and a half
/// times this.
const KEEP_ALIVE_S: u16 = 15;

/// Retained states of nodes that wait to be read. Further ones are dropped: they are read again after the next
/// connection.
const RETAINED_QUEUE: usize = 512;

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
    client_id: String,
    config: MqttConfig,
    /// Whether there is a connection. Sent, even if unchanged, whenever everything is to be published again.
    ready: watch::Sender<bool>,
    retained: Mutex<Option<mpsc::Receiver<Retained>>>,
    reset: Notify,
}

/// A message that the broker has kept from an earlier time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// Its topic.
    pub topic: String,
    /// What was published: at most [`MAX_MESSAGE_BYTES`].
    pub payload: Vec<u8>,
}

impl Mqtt {
    /// Prepares the connection of a checked config, and the task that keeps it up. With `speaks_for_the_hub`, this
    /// process publishes whether the hub is online, by its last will too; only one process of a hub does. A client
    /// identifier that the config does not give is kept in `data_dir`.
    ///
    /// # Errors
    /// Names the key of a password that cannot be read, of a bad URL, or of a client identifier that cannot be kept.
    pub fn new(
        config: &MqttConfig,
        data_dir: &Path,
        speaks_for_the_hub: bool,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), ConfigError> {
        Self::with_tls(config, data_dir, speaks_for_the_hub, stop, &tls::client_config)
    }

    fn with_tls(
        config: &MqttConfig,
        data_dir: &Path,
        speaks_for_the_hub: bool,
        stop: CancellationToken,
        tls_config: &dyn Fn() -> ClientConfig,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), ConfigError> {
        let bad_url = |why| ConfigError::value("mqtt.url", why);
        let (host, port, tls) = config.address().map_err(bad_url)?;
        let client_id = client_id::of(config.client_id.as_deref(), data_dir, speaks_for_the_hub)
            .map_err(|why| ConfigError::value("mqtt.client_id", why))?;
        // The client appends the port to the host, so an address of IPv6 needs its brackets.
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut options = MqttOptions::new(client_id.as_str(), Broker::tcp(bracketed, port));
        options.set_keep_alive(KEEP_ALIVE_S).set_clean_session(true);
        options.set_max_packet_size(MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES);
        if tls {
            dial::by_tls(&mut options, &host, tls_config()).map_err(bad_url)?;
        }
        if let Some(username) = &config.username {
            let password = secret("mqtt.password_file", config.password.as_ref(), config.password_file.as_deref())?;
            let password = password.as_ref().map(Secret::expose).unwrap_or_default();
            options.set_credentials(username, password.to_owned());
        }
        let status = speaks_for_the_hub.then(|| format!("{}/status", config.topic));
        if let Some(status) = &status {
            options.set_last_will(LastWill::new(status, "offline", QoS::AtLeastOnce, true));
        }
        let (client, events) = AsyncClient::builder(options).capacity(QUEUE).build();
        let (read, retained) = mpsc::channel(RETAINED_QUEUE);
        let mqtt = Self {
            inner: Arc::new(Inner {
                client,
                client_id,
                config: config.clone(),
                ready: watch::Sender::new(false),
                retained: Mutex::new(Some(retained)),
                reset: Notify::new(),
            }),
        };
        let keeper = Keeper { mqtt: mqtt.clone(), events, status, read, stop };
        Ok((mqtt, keeper.run()))
    }

    /// The client identifier of the connection. It stays the same over restarts.
    pub fn client_id(&self) -> &str {
        &self.inner.client_id
    }

    /// The states of nodes (`TOPIC/NODE/state`) that the broker has retained, after each connection. `None`: they have
    /// been taken already.
    pub fn take_retained(&self) -> Option<mpsc::Receiver<Retained>> {
        self.inner.retained.lock().unwrap_or_else(PoisonError::into_inner).take()
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
            let queued = self.inner.client.publish(topic, payload, PublishOptions::at_most_once().retain(retain));
            // An error means that the hub is stopping. After a timeout, the connection is about to be closed as dead.
            let _ = tokio::time::timeout(QUEUE_WITHIN, queued).await;
        }
    }

    /// Publishes a message, and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// Why it may not have arrived.
    pub async fn publish_confirmed(&self, topic: &str, payload: String) -> Result<(), DeliveryFailure> {
        if !self.is_connected() {
            return Err(DeliveryFailure::temporary("the MQTT broker is not connected"));
        }
        let published = async {
            let queued = self.inner.client.publish_tracked(topic, payload, PublishOptions::at_least_once()).await;
            let confirmed = queued.map_err(|why| DeliveryFailure::temporary(why.to_string()))?;
            confirmed.wait_completion_async().await.map_err(|why| {
                DeliveryFailure::temporary(match why {
                    PublishNoticeError::Recv | PublishNoticeError::SessionReset => {
                        "the connection to the broker broke".to_owned()
                    }
                    other => other.to_string(),
                })
            })
        };
        let Ok(published) = tokio::time::timeout(CONFIRM_WITHIN, published).await else {
            // A broker that confirms nothing is as good as gone; a new connection may help.
            self.inner.reset.notify_one();
            let reason = format!("the broker did not confirm the message within {} s", CONFIRM_WITHIN.as_secs());
            return Err(DeliveryFailure::temporary(reason));
        };
        published
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
    read: mpsc::Sender<Retained>,
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
                    // Ends the waits for confirmations that cannot come.
                    self.events.drain_pending_as_failed(NoticeFailureReason::SessionReset);
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
                    // These cannot fail: the queue is empty now.
                    let _ = client.try_publish(status.as_str(), "online", PublishOptions::at_most_once().retained());
                    let _ = client.try_subscribe(births, QoS::AtMostOnce);
                    let _ = client.try_subscribe(format!("{}/+/state", config.topic), QoS::AtMostOnce);
                }
                ready.send_replace(true);
            }
            Incoming::Publish(message) if message.topic == births && message.payload == "online" => {
                ready.send_replace(true);
            }
            // What the hub publishes now comes back too, but not as retained.
            Incoming::Publish(message) if message.retain => {
                let topic = String::from_utf8_lossy(&message.topic).into_owned();
                let _ = self.read.try_send(Retained { topic, payload: message.payload.to_vec() });
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
            let offline = PublishOptions::at_most_once().retained();
            let _ = self.mqtt.inner.client.try_publish(status.as_str(), "offline", offline);
        }
        let _ = self.mqtt.inner.client.try_disconnect();
        let left =
            async { while !matches!(self.events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {} };
        let _ = tokio::time::timeout(LEAVE_WITHIN, left).await;
    }
}

#[cfg(test)]
mod tests;
