//! The ways to tell an owner.

use std::sync::Arc;

use daemon::config::ConfigError;
use hub_store::notices::{ChannelKind, Notice};
use tracing::info;

use super::config::{ChannelConfig, NoticesConfig, OwnerConfig, secret};
use super::message::Message;
use super::mqtt::Mqtt;

mod mqtt;
mod ntfy;
mod post;
mod webhook;

use mqtt::MqttTopic;
use ntfy::Ntfy;
use post::Poster;
use webhook::Webhook;

/// One channel of an owner.
#[derive(Debug)]
pub struct Channel {
    /// Name of the owner.
    pub owner: String,
    /// Name among the owner's channels.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Log,
    Webhook(Webhook),
    Ntfy(Ntfy),
    Mqtt(MqttTopic),
}

impl Channel {
    /// All channels of all owners. `mqtt` is the connection for those that need one.
    ///
    /// # Errors
    /// Names the key: of a secret that cannot be read, or of one that cannot be sent.
    pub fn all(owners: &[OwnerConfig], notices: &NoticesConfig, mqtt: Option<&Mqtt>) -> Result<Vec<Self>, ConfigError> {
        let poster = Arc::new(Poster::new());
        let public_url: Option<Arc<str>> = notices.public_url.as_deref().map(Into::into);
        let mut all = Vec::new();
        for owner in owners {
            for channel in &owner.channels {
                let key = |key: &str| format!("owners.{}.channels.{}.{key}", owner.name, channel.name());
                let way = match channel {
                    ChannelConfig::Log { .. } => Way::Log,
                    ChannelConfig::Webhook { url, secret: given, secret_file, .. } => Way::Webhook(Webhook {
                        poster: Arc::clone(&poster),
                        url: url.clone(),
                        secret: secret(&key("secret_file"), given.as_ref(), secret_file.as_deref())?,
                        public_url: public_url.clone(),
                    }),
                    ChannelConfig::Ntfy { server, topic, token, token_file, priority, tags, attach, .. } => {
                        Way::Ntfy(Ntfy {
                            poster: Arc::clone(&poster),
                            server: server.clone(),
                            topic: topic.clone(),
                            token: secret(&key("token_file"), token.as_ref(), token_file.as_deref())?,
                            priority: *priority,
                            tags: tags.clone(),
                            attach: *attach,
                            public_url: public_url.clone(),
                        })
                    }
                    ChannelConfig::Mqtt { topic, .. } => {
                        let mqtt = mqtt.expect("a checked config has a broker for its channels").clone();
                        let default_topic = || format!("{}/notices/{}", mqtt.config().topic, owner.name);
                        let topic = topic.clone().unwrap_or_else(default_topic);
                        Way::Mqtt(MqttTopic { mqtt, topic, public_url: public_url.clone() })
                    }
                };
                let (owner, name) = (owner.name.clone(), channel.name().to_owned());
                all.push(Self { owner, name, kind: channel.kind(), way });
            }
        }
        Ok(all)
    }

    /// Tells the owner. The caller sets the deadline.
    ///
    /// # Errors
    /// Why the channel did not take it.
    pub async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        match &self.way {
            Way::Log => {
                let Message { title, text } = Message::new(&notice.subject);
                info!(owner = notice.owner, key = notice.key, kind = notice.subject.kind(), title, text, "notice");
                Ok(())
            }
            Way::Webhook(webhook) => webhook.deliver(notice).await,
            Way::Ntfy(ntfy) => ntfy.deliver(notice).await,
            Way::Mqtt(topic) => topic.deliver(notice).await,
        }
    }
}
