//! `[[owners]]`, `[notices]` and `[mqtt]` of the config file: who is told what, and how.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use daemon::config::{ConfigError, Secret};
use hub_store::events::OwnerLabel;
use hub_store::notices::ChannelKind;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sound::detector::Kind;

/// Owners that may be configured. Each event is looked at for each of them.
const MOST_OWNERS: usize = 50;

/// Channels an owner may have. Each has a task of its own.
const MOST_CHANNELS: usize = 10;

/// Longest cool-down, in seconds: a week.
const LONGEST_COOLDOWN_S: u32 = 7 * 86_400;

/// Somebody to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerConfig {
    /// Name of the owner.
    pub name: String,
    /// Names of the owner's animals. Empty: all.
    #[serde(default)]
    pub animals: Vec<String>,
    /// Contexts that the owner is told of. Empty: all.
    #[serde(default)]
    pub contexts: Vec<String>,
    /// Kinds of sound that the owner is told of, such as `meow`. Empty: all, and those that were not told apart.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Lowest score of an event that the owner is told of, 0 to 1.
    #[serde(default)]
    pub min_score: f32,
    /// Whether the owner is told of calls: `/cat/NAME`, `/dog/NAME`, and the rpc `Notify`.
    #[serde(default = "yes")]
    pub calls: bool,
    /// Whether the owner is told of nodes that do not hear. Of all whose cat is not known, and those of the owner's cats.
    #[serde(default = "yes")]
    pub nodes: bool,
    /// Whether the owner is told of things one by one. Without, everything waits for the digest.
    #[serde(default = "yes")]
    pub alerts: bool,
    /// After an alert, further ones about the same animal are held back for so many seconds, up to a week. 0: never.
    #[serde(default = "default_cooldown_s")]
    pub cooldown_s: u32,
    /// When the digest of what was held back is sent, each day. `None`: never; it stays in the database.
    pub digest_at: Option<ClockTime>,
    /// Hours in which nothing is sent. What they hold back comes as one digest when they end.
    pub quiet_hours: Option<QuietHours>,
    /// Where the two above are meant, by its IANA name.
    pub time_zone: Option<Zone>,
    /// How the owner is told.
    #[serde(default)]
    pub channels: Vec<ChannelConfig>,
}

/// A way to tell an owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelConfig {
    /// A line in the hub's log.
    Log {
        /// Name among the owner's channels. Without: the type.
        name: Option<String>,
    },
    /// An HTTP POST of JSON.
    Webhook {
        /// Name among the owner's channels. Without: the type.
        name: Option<String>,
        /// Where it goes: `http://` or `https://`.
        url: String,
        /// Signs the body. Without: not signed.
        secret: Option<Secret>,
        /// A file that holds the secret.
        secret_file: Option<PathBuf>,
    },
    /// A push message by an ntfy server.
    Ntfy {
        /// Name among the owner's channels. Without: the type.
        name: Option<String>,
        /// The server.
        #[serde(default = "default_ntfy_server")]
        server: String,
        /// The topic that the owner's phone subscribes to.
        topic: String,
        /// Access token. Without: none.
        token: Option<Secret>,
        /// A file that holds the token.
        token_file: Option<PathBuf>,
        /// 1 (least) to 5.
        #[serde(default = "default_priority")]
        priority: u8,
        /// Tags; ntfy shows those that are names of emojis as such.
        #[serde(default = "default_tags")]
        tags: Vec<String>,
        /// Whether the phone is given the event's sound. Needs `notices.public_url`.
        #[serde(default)]
        attach: bool,
    },
    /// A message to the broker of `[mqtt]`.
    Mqtt {
        /// Name among the owner's channels. Without: the type.
        name: Option<String>,
        /// Topic. Without: `notices/OWNER` below the topic of `[mqtt]`.
        topic: Option<String>,
    },
}

/// `[notices]` of the config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoticesConfig {
    /// Where an owner's browser finds the gateway, for links in notices. Without: no links.
    pub public_url: Option<String>,
    /// Tries before a notice is given up, 1 to 1000.
    pub max_tries: u32,
    /// Hours before a notice is given up, 1 to 720.
    pub max_age_h: u32,
    /// Notices are forgotten after this many days, 1 to 3650.
    pub keep_days: u32,
}

/// `[mqtt]` of the config file: a broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// The broker: `mqtt://HOST:PORT`, or `mqtts://HOST:PORT` with TLS.
    pub url: String,
    /// Name to log in with.
    pub username: Option<String>,
    /// Password to log in with.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// What the broker knows the hub as; must be unique there.
    #[serde(default = "default_topic")]
    pub client_id: String,
    /// Everything is published below this topic.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Whether Home Assistant is told of the nodes.
    #[serde(default = "yes")]
    pub home_assistant: bool,
    /// Where Home Assistant looks for what is new.
    #[serde(default = "default_discovery_prefix")]
    pub discovery_prefix: String,
    /// Levels and scores of a node are published at most once in so many seconds, 1 to 3600.
    #[serde(default = "default_level_period_s")]
    pub level_period_s: u32,
    /// The sensor 'cat heard' goes off after so many seconds without a cat, 1 to 3600.
    #[serde(default = "default_heard_off_s")]
    pub heard_off_s: u32,
}

/// A time of day, `HH:MM`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ClockTime(pub Time);

impl From<ClockTime> for String {
    fn from(ClockTime(time): ClockTime) -> Self {
        time.strftime("%H:%M").to_string()
    }
}

impl TryFrom<String> for ClockTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is no time of day of the form HH:MM");
        let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
        let two_digits = |part: &str| Some(part).filter(|part| part.len() == 2).and_then(|part| part.parse().ok());
        let (hour, minute) = (two_digits(hour).ok_or_else(bad)?, two_digits(minute).ok_or_else(bad)?);
        Time::new(hour, minute, 0, 0).map(Self).map_err(|_| bad())
    }
}

/// From one time of day to another, `HH:MM-HH:MM`; over midnight when the second is the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct QuietHours {
    /// They begin.
    pub from: Time,
    /// They end.
    pub until: Time,
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        format!("{}-{}", hours.from.strftime("%H:%M"), hours.until.strftime("%H:%M"))
    }
}

impl TryFrom<String> for QuietHours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("{text:?} is not of the form HH:MM-HH:MM");
        let (from, until) = text.split_once('-').ok_or_else(bad)?;
        let time = |text: &str| ClockTime::try_from(text.trim().to_owned()).map(|ClockTime(time)| time);
        let hours = Self { from: time(from)?, until: time(until)? };
        if hours.from == hours.until {
            return Err(format!("{text:?} begins when it ends"));
        }
        Ok(hours)
    }
}

/// An IANA time zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Zone(pub TimeZone);

impl From<Zone> for String {
    fn from(Zone(zone): Zone) -> Self {
        zone.iana_name().expect("a zone of the config was found by its name").to_owned()
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TimeZone::get(&text).map(Self).map_err(|_| format!("{text:?} is no IANA time zone such as Europe/Berlin"))
    }
}

fn yes() -> bool {
    true
}

fn default_cooldown_s() -> u32 {
    300
}

fn default_ntfy_server() -> String {
    "https://ntfy.sh".into()
}

fn default_priority() -> u8 {
    3
}

fn default_tags() -> Vec<String> {
    vec!["cat".into()]
}

fn default_topic() -> String {
    "meowlink".into()
}

fn default_discovery_prefix() -> String {
    "homeassistant".into()
}

fn default_level_period_s() -> u32 {
    5
}

fn default_heard_off_s() -> u32 {
    30
}

impl Default for NoticesConfig {
    fn default() -> Self {
        Self { public_url: None, max_tries: 1_000, max_age_h: 24, keep_days: 30 }
    }
}

impl OwnerConfig {
    /// Whether the values make sense.
    fn check(&self, has_broker: bool, has_public_url: bool) -> Result<(), ConfigError> {
        let bad = |key: &str, why: String| Err(ConfigError::value(format!("owners.{}.{key}", self.name), why));
        if let Some(error) = self.contexts.iter().find_map(|word| word.parse::<OwnerLabel>().err()) {
            return bad("contexts", error.to_string());
        }
        if self.contexts.iter().any(|word| word == OwnerLabel::NotACat.as_str()) {
            return bad("contexts", "what is not_a_cat is never heard".into());
        }
        let known = Kind::ALL.map(Kind::as_str);
        if let Some(kind) = self.kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            return bad("kinds", format!("unknown kind {kind:?} (expected one of {})", known.join(", ")));
        }
        if !(0.0..=1.0).contains(&self.min_score) {
            return bad("min_score", format!("{} is not within 0 to 1", self.min_score));
        }
        if self.cooldown_s > LONGEST_COOLDOWN_S {
            return bad("cooldown_s", format!("{} is more than {LONGEST_COOLDOWN_S}", self.cooldown_s));
        }
        if !self.alerts && self.digest_at.is_none() {
            return bad("alerts", "is false, and without digest_at the owner would never be told anything".into());
        }
        if self.time_zone.is_none() && (self.digest_at.is_some() || self.quiet_hours.is_some()) {
            return bad("time_zone", "is needed with digest_at and quiet_hours, such as \"Europe/Berlin\"".into());
        }
        if self.channels.is_empty() {
            return bad("channels", "names no channel; add an [[owners.channels]] below the owner".into());
        }
        if self.channels.len() > MOST_CHANNELS {
            return bad("channels", format!("has more than {MOST_CHANNELS}"));
        }
        let mut names = HashSet::new();
        for channel in &self.channels {
            if !names.insert(channel.name()) {
                return bad("channels", format!("two are called {:?}; give one a name of its own", channel.name()));
            }
            let key = |key: &str| format!("channels.{}.{key}", channel.name());
            match channel {
                ChannelConfig::Log { .. } => {}
                ChannelConfig::Webhook { url, secret, secret_file, .. } => {
                    check_url(url).or_else(|why| bad(&key("url"), why))?;
                    if secret.is_some() && secret_file.is_some() {
                        return bad(&key("secret_file"), "is given beside secret".into());
                    }
                }
                ChannelConfig::Ntfy { server, topic, token, token_file, priority, attach, .. } => {
                    check_url(server).or_else(|why| bad(&key("server"), why))?;
                    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
                    if topic.is_empty() || topic.len() > 64 || !topic.chars().all(plain) {
                        return bad(&key("topic"), format!("{topic:?} is not 1 to 64 letters, digits, _ and -"));
                    }
                    if token.is_some() && token_file.is_some() {
                        return bad(&key("token_file"), "is given beside token".into());
                    }
                    if !(1..=5).contains(priority) {
                        return bad(&key("priority"), format!("{priority} is not within 1 to 5"));
                    }
                    if *attach && !has_public_url {
                        return bad(
                            &key("attach"),
                            "needs notices.public_url, for the phone to fetch the sound".into(),
                        );
                    }
                }
                ChannelConfig::Mqtt { topic, .. } => {
                    if !has_broker {
                        return bad("channels", "one is of the type mqtt, and there is no [mqtt]".into());
                    }
                    // The default ends in the owner's name.
                    check_topic(topic.as_ref().unwrap_or(&self.name)).or_else(|why| bad(&key("topic"), why))?;
                }
            }
        }
        Ok(())
    }
}

impl ChannelConfig {
    /// Name among the owner's channels.
    pub fn name(&self) -> &str {
        let (Self::Log { name } | Self::Webhook { name, .. } | Self::Ntfy { name, .. } | Self::Mqtt { name, .. }) =
            self;
        name.as_deref().unwrap_or(self.kind().as_str())
    }

    /// What it is.
    pub fn kind(&self) -> ChannelKind {
        match self {
            Self::Log { .. } => ChannelKind::Log,
            Self::Webhook { .. } => ChannelKind::Webhook,
            Self::Ntfy { .. } => ChannelKind::Ntfy,
            Self::Mqtt { .. } => ChannelKind::Mqtt,
        }
    }
}

/// Whether the three tables make sense, together.
///
/// # Errors
/// Names the key.
pub fn check(owners: &[OwnerConfig], notices: &NoticesConfig, mqtt: Option<&MqttConfig>) -> Result<(), ConfigError> {
    if owners.len() > MOST_OWNERS {
        return Err(ConfigError::value("owners", format!("has more than {MOST_OWNERS}")));
    }
    let mut names = HashSet::new();
    for owner in owners {
        if owner.name.is_empty() || !names.insert(&owner.name) {
            return Err(ConfigError::value("owners.name", format!("{:?} is empty or given twice", owner.name)));
        }
        owner.check(mqtt.is_some(), notices.public_url.is_some())?;
    }
    let within = |key: &str, value: u32, most: u32| {
        let why = || ConfigError::value(key, format!("{value} is not within 1 to {most}"));
        if (1..=most).contains(&value) { Ok(()) } else { Err(why()) }
    };
    within("notices.max_tries", notices.max_tries, 1_000)?;
    within("notices.max_age_h", notices.max_age_h, 720)?;
    within("notices.keep_days", notices.keep_days, 3_650)?;
    if let Some(url) = &notices.public_url {
        check_url(url).map_err(|why| ConfigError::value("notices.public_url", why))?;
    }
    if let Some(mqtt) = mqtt {
        within("mqtt.level_period_s", mqtt.level_period_s, 3_600)?;
        within("mqtt.heard_off_s", mqtt.heard_off_s, 3_600)?;
        mqtt.address().map_err(|why| ConfigError::value("mqtt.url", why))?;
        check_topic(&mqtt.topic).map_err(|why| ConfigError::value("mqtt.topic", why))?;
        check_topic(&mqtt.discovery_prefix).map_err(|why| ConfigError::value("mqtt.discovery_prefix", why))?;
        if mqtt.password.is_some() && mqtt.password_file.is_some() {
            return Err(ConfigError::value("mqtt.password_file", "is given beside password"));
        }
        if mqtt.username.is_none() && (mqtt.password.is_some() || mqtt.password_file.is_some()) {
            return Err(ConfigError::value("mqtt.username", "is needed with a password"));
        }
        if mqtt.client_id.is_empty() {
            return Err(ConfigError::value("mqtt.client_id", "is empty"));
        }
    }
    Ok(())
}

impl MqttConfig {
    /// Host, port, and whether TLS is wanted.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn address(&self) -> Result<(String, u16, bool), String> {
        let bad = || format!("{:?} is no URL of the form mqtt://HOST:PORT or mqtts://HOST:PORT", self.url);
        let url: http::Uri = self.url.parse().map_err(|_| bad())?;
        let tls = match url.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            _ => return Err(bad()),
        };
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            // Not shown: there may be a password in it.
            return Err("the URL names a user; give username and password_file instead".into());
        }
        let host = url.host().filter(|host| !host.is_empty() && url.path().len() <= 1).ok_or_else(bad)?;
        Ok((host.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(if tls { 8883 } else { 1883 }), tls))
    }
}

/// A secret as it is given, or the first line of its file. A file without a folder lies among the credentials that systemd
/// hands over (`LoadCredential=`).
///
/// # Errors
/// Names `key` when the file cannot be read.
pub fn secret(key: &str, given: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let Some(file) = file else { return Ok(given.cloned()) };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|_| file.components().count() == 1);
    let path = credentials.map_or_else(|| file.to_owned(), |folder| Path::new(&folder).join(file));
    let text = std::fs::read_to_string(&path)
        .map_err(|why| ConfigError::value(key, format!("{}: cannot read: {why}", path.display())))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(Secret::new(line))),
        None => Err(ConfigError::value(key, format!("{}: its first line is empty", path.display()))),
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let parsed: http::Uri = url.parse().map_err(|why| format!("{url:?} is no URL: {why}"))?;
    match (parsed.scheme_str(), parsed.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err(format!("{url:?} is no URL of the form http://HOST or https://HOST")),
    }
}

fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > 1_000 || topic.contains(['+', '#', '\0']) {
        return Err(format!("{topic:?} is no topic to publish to: empty, too long, or with one of + and #"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
