//! `[mqtt]` of the config file.

use std::path::PathBuf;

use daemon::config::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::check_topic;
use daemon::config::Secret;

/// The broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// The broker: `mqtt://HOST:PORT`, or `mqtts://HOST:PORT` with TLS.
    pub url: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// Client identifier of the hub. Must be unique at the broker. Default: one that the hub draws at its first start
    /// and keeps in the data folder.
    pub client_id: Option<String>,
    /// The hub publishes everything below this topic.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Whether to announce the nodes to Home Assistant.
    #[serde(default = "yes")]
    pub home_assistant: bool,
    /// Topic below which Home Assistant looks for new devices.
    #[serde(default = "default_discovery_prefix")]
    pub discovery_prefix: String,
    /// Shortest time between two levels of a node, in seconds, 1 to 3600.
    #[serde(default = "default_level_period_s")]
    #[schemars(range(min = 1, max = 3_600))]
    pub level_period_s: u32,
    /// Time without a cat after which the sensor 'Cat heard' turns off, in seconds, 1 to 3600.
    #[serde(default = "default_heard_off_s")]
    #[schemars(range(min = 1, max = 3_600))]
    pub heard_off_s: u32,
}

fn yes() -> bool {
    true
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

impl MqttConfig {
    /// Host, port, and whether to use TLS.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn address(&self) -> Result<(String, u16, bool), String> {
        let bad = || format!("{:?} is not a URL of the form mqtt://HOST:PORT or mqtts://HOST:PORT", self.url);
        let url = daemon::url::parse(&self.url)?;
        let tls = match url.scheme_str() {
            Some("mqtt") => false,
            Some("mqtts") => true,
            _ => return Err(bad()),
        };
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            // The URL is not shown: it may contain a password.
            return Err("the URL contains a user name; give username and password_file instead".into());
        }
        let host = url.host().filter(|host| !host.is_empty() && url.path().len() <= 1).ok_or_else(bad)?;
        Ok((host.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(if tls { 8883 } else { 1883 }), tls))
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the key.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.address().map_err(|why| ConfigError::value("mqtt.url", why))?;
        check_topic(&self.topic).map_err(|why| ConfigError::value("mqtt.topic", why))?;
        check_topic(&self.discovery_prefix).map_err(|why| ConfigError::value("mqtt.discovery_prefix", why))?;
        if self.password.is_some() && self.password_file.is_some() {
            return Err(ConfigError::value("mqtt.password_file", "cannot be combined with password"));
        }
        if self.username.is_none() && (self.password.is_some() || self.password_file.is_some()) {
            return Err(ConfigError::value("mqtt.username", "is needed with a password"));
        }
        if self.client_id.as_deref() == Some("") {
            return Err(ConfigError::value("mqtt.client_id", "is empty"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_ports_are_those_of_the_standard() {
        let of = |url: &str| toml::from_str::<MqttConfig>(&format!("url = {url:?}")).unwrap().address().unwrap();
        assert_eq!(of("mqtt://broker"), ("broker".into(), 1883, false));
        assert_eq!(of("mqtts://10.0.0.7"), ("10.0.0.7".into(), 8883, true));
        assert_eq!(of("mqtt://[::1]:1/"), ("::1".into(), 1, false));
    }
}
