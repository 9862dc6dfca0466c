//! `[[owners]]`, `[notices]` and `[mqtt]` of the config file: who is notified of what, and how.

use std::collections::HashSet;
use std::sync::Arc;

use daemon::config::ConfigError;
use hub_store::events::OwnerLabel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sound::detector::Kind;

pub use crate::channels::ChannelConfig;
use crate::channels::{self, Channel, Tools};
pub use crate::clock::{ClockTime, QuietHours, Zone};
use crate::mqtt::Mqtt;
pub use crate::mqtt::MqttConfig;
use crate::secret::check_secret;
use crate::values::{check_url, has_login};

/// Most owners. The rules of each of them are evaluated for each event.
const MOST_OWNERS: usize = 50;

/// Most channels of an owner. Each has its own task.
const MOST_CHANNELS: usize = 10;

/// Longest cool-down, in seconds: a week.
const LONGEST_COOLDOWN_S: u32 = 7 * 86_400;

/// An owner, and the channels that the owner is notified through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerConfig {
    /// Name of the owner.
    pub name: String,
    /// Names of the owner's animals. Empty: all.
    #[serde(default)]
    pub animals: Vec<String>,
    /// Contexts that the owner wants notifications about. Empty: all.
    #[serde(default)]
    pub contexts: Vec<String>,
    /// Kinds of sound that the owner wants notifications about, such as `meow`. Empty: all, and unknown ones.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Lowest score of an event that the owner wants a notification about, 0 to 1.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_score: f32,
    /// Whether the owner is notified of calls: `/cat/NAME`, `/dog/NAME`, and the rpc `Notify`.
    #[serde(default = "yes")]
    pub calls: bool,
    /// Whether the owner is notified of nodes that stop hearing: those of the owner's cats, and those whose cat is
    /// unknown.
    #[serde(default = "yes")]
    pub nodes: bool,
    /// Whether each notification is sent by itself. If not, all of them wait for the digest.
    #[serde(default = "yes")]
    pub alerts: bool,
    /// Cool-down per animal, in seconds, up to one week. 0: none.
    #[serde(default = "default_cooldown_s")]
    #[schemars(range(max = LONGEST_COOLDOWN_S))]
    pub cooldown_s: u32,
    /// Time of the daily digest of suppressed notifications. `None`: there is none; they stay in the database.
    pub digest_at: Option<ClockTime>,
    /// Hours in which nothing is sent. Notifications of these hours are sent as one digest when the hours end.
    pub quiet_hours: Option<QuietHours>,
    /// IANA name of the time zone of `digest_at` and `quiet_hours`, and of the times in messages. `None`: messages have
    /// the time of this machine.
    pub time_zone: Option<Zone>,
    /// The owner's channels.
    #[serde(default)]
    pub channels: Vec<ChannelConfig>,
}

/// `[notices]` of the config file: how long notifications are tried and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationsConfig {
    /// Where an owner's browser finds the gateway, for links in notifications. `None`: no links.
    pub public_url: Option<String>,
    /// Deliveries before a notification is given up, 1 to 1000.
    #[schemars(range(min = 1, max = 1_000))]
    pub max_tries: u32,
    /// Hours before a notification is given up, 1 to 720.
    #[schemars(range(min = 1, max = 720))]
    pub max_age_h: u32,
    /// Days before a notification is deleted, 1 to 3650.
    #[schemars(range(min = 1, max = 3_650))]
    pub keep_days: u32,
}

fn yes() -> bool {
    true
}

fn default_cooldown_s() -> u32 {
    300
}

impl Default for NotificationsConfig {
    fn default() -> Self {
        Self { public_url: None, max_tries: 1_000, max_age_h: 24, keep_days: 30 }
    }
}

impl OwnerConfig {
    fn check(&self, has_broker: bool, has_public_url: bool) -> Result<(), ConfigError> {
        self.check_rules()?;
        if self.channels.is_empty() {
            return self.bad("channels", "is empty; add an [[owners.channels]] below the owner");
        }
        if self.channels.len() > MOST_CHANNELS {
            return self.bad("channels", format!("has more than {MOST_CHANNELS}"));
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.channels.iter().find(|channel| !names.insert(channel.name())) {
            let name = twice.name();
            let why = format!("two channels are named {name:?}; give one of them another name");
            return self.bad(&format!("channels.{name}"), why);
        }
        for channel in &self.channels {
            let name = channel.name();
            if channel.needs_broker() && !has_broker {
                let why = format!("a channel of type {} needs an [mqtt] table", channel.kind());
                return self.bad("channels", why);
            }
            let checked = channel.check(&self.name, has_public_url);
            checked.or_else(|(key, why)| self.bad(&format!("channels.{name}.{key}"), why))?;
        }
        Ok(())
    }

    /// Checks what the owner is notified of, and when.
    fn check_rules(&self) -> Result<(), ConfigError> {
        if let Some(error) = self.contexts.iter().find_map(|word| word.parse::<OwnerLabel>().err()) {
            return self.bad("contexts", error.to_string());
        }
        if self.contexts.iter().any(|word| word == OwnerLabel::NotACat.as_str()) {
            return self.bad("contexts", "there are no notifications about not_a_cat");
        }
        let known = Kind::ALL.map(Kind::as_str);
        if let Some(kind) = self.kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            return self.bad("kinds", format!("unknown kind {kind:?} (expected one of {})", known.join(", ")));
        }
        if !self.alerts && self.digest_at.is_none() {
            return self.bad("alerts", "false needs digest_at; otherwise this owner would never be notified");
        }
        if self.time_zone.is_none() && (self.digest_at.is_some() || self.quiet_hours.is_some()) {
            return self.bad("time_zone", "is needed with digest_at and quiet_hours, such as \"Europe/Berlin\"");
        }
        Ok(())
    }

    fn bad(&self, key: &str, why: impl Into<String>) -> Result<(), ConfigError> {
        Err(ConfigError::value(format!("owners.{}.{key}", self.name), why.into()))
    }
}

/// Checks the three tables, together. The ranges of their numbers are those of the schema, checked on load.
///
/// # Errors
/// Names the key.
pub fn check(
    owners: &[OwnerConfig],
    notices: &NotificationsConfig,
    mqtt: Option<&MqttConfig>,
) -> Result<(), ConfigError> {
    if owners.len() > MOST_OWNERS {
        return Err(ConfigError::value("owners", format!("has more than {MOST_OWNERS}")));
    }
    let mut names = HashSet::new();
    for (index, owner) in owners.iter().enumerate() {
        if owner.name.is_empty() {
            // An owner without a name is named by its place.
            let key = format!("owners.{}.name", index + 1);
            return Err(ConfigError::value(key, "is empty; give every owner a name"));
        }
        if !names.insert(&owner.name) {
            let why = format!("two owners are named {:?}; give one of them another name", owner.name);
            return owner.bad("name", why);
        }
    }
    // After the names: what follows says by its name which owner it is about.
    for owner in owners {
        owner.check(mqtt.is_some(), notices.public_url.is_some())?;
    }
    if let Some(url) = &notices.public_url {
        check_url(url).map_err(|why| ConfigError::value("notices.public_url", why))?;
        if has_login(url) {
            let why = "contains a user name, which every notification would show; leave it out";
            return Err(ConfigError::value("notices.public_url", why));
        }
    }
    mqtt.map_or(Ok(()), MqttConfig::check)
}

/// The channels of all owners. `mqtt` is the connection for channels that need one.
///
/// # Errors
/// Names the key of a secret that cannot be read.
pub fn open_channels<'a>(
    owners: impl IntoIterator<Item = &'a OwnerConfig>,
    public_url: Option<&str>,
    mqtt: Option<&Mqtt>,
) -> Result<Vec<Channel>, ConfigError> {
    let tools = Tools { poster: Arc::default(), public_url: public_url.map(Into::into), mqtt: mqtt.cloned() };
    let mut all = Vec::new();
    for owner in owners {
        let zone = owner.time_zone.as_ref().map(|zone| &zone.0);
        all.extend(Channel::of_owner(&owner.name, &owner.channels, zone, &tools)?);
    }
    Ok(all)
}

/// Checks that the files with the secrets of these owners' channels and of the broker can be read. A file name without
/// a folder, which stands for a credential of systemd, is not checked before the start.
///
/// # Errors
/// Names the key of a secret that cannot be read.
pub fn check_secrets(owners: &[OwnerConfig], mqtt: Option<&MqttConfig>) -> Result<(), ConfigError> {
    for owner in owners {
        channels::check_secrets(&owner.name, &owner.channels)?;
    }
    check_secret("mqtt.password_file", mqtt.and_then(|mqtt| mqtt.password_file.as_deref()))
}

#[cfg(test)]
mod tests;
