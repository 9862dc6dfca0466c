//! What each kind of channel implements.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use daemon::config::ConfigError;
use hub_store::notifications::Notification;

use super::post::Poster;
use crate::delivery::DeliveryFailure;
use crate::message::Message;
use crate::mqtt::Mqtt;

/// The config of a channel.
pub(super) trait Settings {
    /// The channel's name, if one is given.
    fn name(&self) -> Option<&str>;

    /// Whether the channel needs the broker of `[mqtt]`.
    fn needs_broker(&self) -> bool {
        false
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    fn check(&self, owner: &str, has_public_url: bool) -> Result<(), (&'static str, String)>;

    /// The key and the path of the file that holds the channel's secret, if it has one.
    fn secret_file(&self) -> Option<(&'static str, &Path)> {
        None
    }

    /// Makes the sender of a checked config, whose keys begin with `prefix`.
    ///
    /// # Errors
    /// Names the key of a secret that cannot be read.
    fn open(&self, owner: &str, prefix: &str, tools: &Tools) -> Result<Box<dyn Sender>, ConfigError>;
}

/// The sending through a channel.
#[tonic::async_trait]
pub(super) trait Sender: Debug + Send + Sync {
    /// Sends a notification, which `message` puts into words. The caller sets the deadline.
    ///
    /// # Errors
    /// Why it did not arrive, or may not have arrived.
    async fn send(&self, notification: &Notification, message: &Message) -> Result<(), DeliveryFailure>;
}

/// What all channels of a process share.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Sends HTTP requests.
    pub(crate) poster: Arc<Poster>,
    /// Where the owners' browsers find the gateway.
    pub(crate) public_url: Option<Arc<str>>,
    /// The connection to the broker.
    pub(crate) mqtt: Option<Mqtt>,
}
