//! A notification as a line in the hub's log.

use daemon::config::ConfigError;
use hub_store::notifications::Notification;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::kind::{Sender, Settings, Tools};
use crate::delivery::DeliveryFailure;
use crate::message::Message;

/// `type = "log"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name among the owner's channels. Default: the type.
    name: Option<String>,
}

impl Settings for Config {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check(&self, _owner: &str, _has_public_url: bool) -> Result<(), (&'static str, String)> {
        Ok(())
    }

    fn open(&self, _owner: &str, _prefix: &str, _tools: &Tools) -> Result<Box<dyn Sender>, ConfigError> {
        Ok(Box::new(Log))
    }
}

#[derive(Debug)]
struct Log;

#[tonic::async_trait]
impl Sender for Log {
    async fn send(&self, notification: &Notification, message: &Message) -> Result<(), DeliveryFailure> {
        let Notification { owner, key, subject, .. } = notification;
        let Message { title, text } = message;
        info!(owner, key, kind = subject.kind(), title, text, "notification");
        Ok(())
    }
}
