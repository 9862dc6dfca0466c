//! `[page]` of the config file.

use daemon::config::ConfigError;

use crate::origin::is_host_name;

/// `[page]` of the config file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Whether whoever reaches the page can hear a room as it is now.
    pub live_audio: bool,
    /// Names in the public DNS, without a port, by which browsers and programs may call the gateway; `*`: any. Addresses, names without
    /// a dot and names of home networks (`.local`, `.home.arpa`, `.lan`, ...) need not be here, nor that of `notices.public_url`.
    pub hosts: Vec<String>,
}

impl PageConfig {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.hosts.iter().find(|name| !is_host_name(name)) {
            Some(name) => {
                let why = format!(
                    "{name:?} is no name of a host; write it without scheme and port, as in \"cats.example.org\""
                );
                Err(ConfigError::value("page.hosts", why))
            }
            None => Ok(()),
        }
    }
}

impl Default for PageConfig {
    fn default() -> Self {
        Self { live_audio: true, hosts: Vec::new() }
    }
}
