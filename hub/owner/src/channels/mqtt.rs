//! A notification as a message to the MQTT broker, which confirms it. The payload is that of a webhook.

use std::sync::Arc;

use daemon::config::ConfigError;
use hub_store::notifications::Notification;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Sender, Settings, Tools};
use crate::delivery::DeliveryFailure;
use crate::message::{Message, Payload};
use crate::mqtt::Mqtt;
use crate::values::check_topic;

/// `type = "mqtt"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name among the owner's channels. Default: the type.
    name: Option<String>,
    /// Topic. Default: `notices/OWNER` below the topic of `[mqtt]`.
    topic: Option<String>,
}

impl Settings for Config {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn needs_broker(&self) -> bool {
        true
    }

    fn check(&self, owner: &str, _has_public_url: bool) -> Result<(), (&'static str, String)> {
        // The default topic ends with the owner's name.
        check_topic(self.topic.as_deref().unwrap_or(owner)).map_err(|why| ("topic", why))
    }

    fn open(&self, owner: &str, _prefix: &str, tools: &Tools) -> Result<Box<dyn Sender>, ConfigError> {
        let mqtt = tools.mqtt.clone().expect("a checked config has a broker for its channels");
        let default_topic = || format!("{}/notices/{owner}", mqtt.config().topic);
        let topic = self.topic.clone().unwrap_or_else(default_topic);
        Ok(Box::new(MqttTopic { mqtt, topic, public_url: tools.public_url.clone() }))
    }
}

#[derive(Debug)]
struct MqttTopic {
    mqtt: Mqtt,
    topic: String,
    public_url: Option<Arc<str>>,
}

#[tonic::async_trait]
impl Sender for MqttTopic {
    async fn send(&self, notification: &Notification, message: &Message) -> Result<(), DeliveryFailure> {
        let payload = Payload::new(notification, message, self.public_url.as_deref()).to_json();
        self.mqtt.publish_confirmed(&self.topic, payload).await
    }
}
