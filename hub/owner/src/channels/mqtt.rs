//! A notice as a message to the MQTT broker, confirmed by it. The payload is that of a webhook.

use std::sync::Arc;

use hub_store::notices::Notice;

use crate::message::Payload;
use crate::mqtt::Mqtt;

#[derive(Debug)]
pub(super) struct MqttTopic {
    pub(super) mqtt: Mqtt,
    pub(super) topic: String,
    pub(super) public_url: Option<Arc<str>>,
}

impl MqttTopic {
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let payload = Payload::new(notice, self.public_url.as_deref()).to_json();
        self.mqtt.confirmed(&self.topic, payload).await
    }
}
