//! `[page]` of the config file.

use daemon::config::ConfigError;

use crate::origin::is_host_name;

/// `[page]` of the config file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Whether everyone who reaches the page can hear live audio.
    pub live_audio: bool,
    /// Who may use the page and the API from this machine once there are users.
    pub loopback: Loopback,
    /// Public host names, without a port, by which clients may address the gateway. `*` allows every name. Addresses,
    /// names without a dot, names of home networks (`.local`, `.home.arpa`, `.lan`, ...) and the name in
    /// `notices.public_url` are always allowed.
    pub hosts: Vec<String>,
}

/// Who may use the page and the API from this machine, without a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loopback {
    /// Everyone until there is a user; then those who log in, and programs with a token.
    #[default]
    UntilFirstUser,
    /// Everyone, always.
    Open,
}

impl PageConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the key whose value is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.hosts.iter().find(|name| !is_host_name(name)) {
            Some(name) => {
                let why = format!(
                    "{name:?} is not a host name; write it without scheme and port, as in \"cats.example.org\""
                );
                Err(ConfigError::value("page.hosts", why))
            }
            None => Ok(()),
        }
    }
}

impl Default for PageConfig {
    fn default() -> Self {
        Self { live_audio: true, loopback: Loopback::default(), hosts: Vec::new() }
    }
}
