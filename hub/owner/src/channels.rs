//! Channels: the ways to notify an owner.
//!
//! Each kind is one file, `channels/KIND.rs`, with its config, its check and its sending, and one row in the table
//! `kinds!`. The config file, the database, the API and the metrics all name a kind by the name of its file.

use daemon::config::ConfigError;
use hub_base::time::now_ns;
use hub_store::notifications::{ChannelName, Notification};
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::delivery::DeliveryFailure;
use crate::message::Message;
use crate::moment::Moments;
use crate::secret::check_secret;

mod kind;
mod log;
mod mqtt;
mod ntfy;
mod post;
mod server;
mod webhook;

pub(crate) use kind::Tools;
use kind::{Sender, Settings};

/// Makes the type of a channel's config, and the names of the kinds, from the table of kinds.
macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident: $module:ident),+ $(,)?) => {
        /// A channel of an owner, as configured.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum ChannelConfig {
            $($(#[$doc])* $variant($module::Config)),+
        }

        /// Names of all kinds of channel.
        pub const KINDS: &[&str] = &[$(stringify!($module)),+];

        impl ChannelConfig {
            /// Name of the kind.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($module)),+ }
            }

            fn settings(&self) -> &dyn Settings {
                match self { $(Self::$variant(config) => config),+ }
            }
        }
    };
}

kinds! {
    /// A line in the hub's log.
    Log: log,
    /// An HTTP POST of JSON.
    Webhook: webhook,
    /// A push message through an ntfy server.
    Ntfy: ntfy,
    /// A message to the broker of `[mqtt]`.
    Mqtt: mqtt,
}

impl ChannelConfig {
    /// Name among the owner's channels: the name of the kind if none is given.
    pub fn name(&self) -> &str {
        self.settings().name().unwrap_or(self.kind())
    }

    /// Whether the channel needs the broker of `[mqtt]`.
    pub fn needs_broker(&self) -> bool {
        self.settings().needs_broker()
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The key within the channel, and what is wrong with its value.
    pub(super) fn check(&self, owner: &str, has_public_url: bool) -> Result<(), (&'static str, String)> {
        self.settings().check(owner, has_public_url)
    }
}

/// Checks that the secrets of an owner's channels can be read.
///
/// # Errors
/// Names the key of a secret that cannot.
pub(super) fn check_secrets(owner: &str, channels: &[ChannelConfig]) -> Result<(), ConfigError> {
    for channel in channels {
        if let Some((key, file)) = channel.settings().secret_file() {
            check_secret(&format!("owners.{owner}.channels.{}.{key}", channel.name()), Some(file))?;
        }
    }
    Ok(())
}

/// One channel of an owner.
#[derive(Debug)]
pub struct Channel {
    /// Name of the owner.
    pub owner: String,
    /// Name among the owner's channels.
    pub name: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// The owner's time zone. `None`: that of this machine.
    zone: Option<TimeZone>,
    sender: Box<dyn Sender>,
}

impl Channel {
    /// The channels of an owner whose time zone is `zone`.
    ///
    /// # Errors
    /// Names the key of a secret that cannot be read.
    pub(super) fn of_owner(
        owner: &str,
        channels: &[ChannelConfig],
        zone: Option<&TimeZone>,
        tools: &Tools,
    ) -> Result<Vec<Self>, ConfigError> {
        let open = |config: &ChannelConfig| {
            let (name, kind) = (config.name().to_owned(), config.kind());
            let sender = config.settings().open(owner, &format!("owners.{owner}.channels.{name}"), tools)?;
            Ok(Self { owner: owner.to_owned(), name, kind, zone: zone.cloned(), sender })
        };
        channels.iter().map(open).collect()
    }

    /// Sends a notification. The caller sets the deadline.
    ///
    /// # Errors
    /// Why the channel did not accept it.
    pub async fn deliver(&self, notification: &Notification) -> Result<(), DeliveryFailure> {
        let message = Message::new(&notification.subject, &Moments::new(self.zone.as_ref(), now_ns()));
        self.sender.send(notification, &message).await
    }
}

impl From<&ChannelConfig> for ChannelName {
    fn from(config: &ChannelConfig) -> Self {
        Self { name: config.name().to_owned(), kind: config.kind().to_owned() }
    }
}
