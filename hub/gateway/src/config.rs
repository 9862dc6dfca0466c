//! `[page]` and `[gateway]` of the config file.

use std::path::PathBuf;

use daemon::config::ConfigError;

use crate::origin::is_host_name;
use crate::proxies::Proxies;

/// `[gateway]` of the config file: TLS, proxies before the gateway, and who needs no log-in.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// File with the certificate of the gateway and the chain behind it, in PEM, as certbot and Tailscale write them.
    /// Needs `key`. Both are read again when they change. Without: a certificate of the hub's own CA, if the gateway
    /// listens beyond loopback.
    pub cert: Option<PathBuf>,
    /// File with the private key of `cert`, in PEM.
    pub key: Option<PathBuf>,
    /// Addresses and networks of proxies, such as `127.0.0.1` or `172.18.0.0/16`. The hub believes the headers
    /// `X-Forwarded-For`, `-Proto` and `-Host` of these alone, and talks plain HTTP with them.
    pub trusted_proxies: Vec<String>,
    /// Who may use the page and the API from this machine once there are users.
    pub loopback: Loopback,
}

impl GatewayConfig {
    /// Checks the values. Does not read the files.
    ///
    /// # Errors
    /// Names the key whose value is invalid.
    pub fn check(&self) -> Result<(), ConfigError> {
        match (&self.cert, &self.key) {
            (Some(_), None) => return Err(ConfigError::value("gateway.key", "is needed with gateway.cert")),
            (None, Some(_)) => return Err(ConfigError::value("gateway.cert", "is needed with gateway.key")),
            _ => {}
        }
        let proxies = Proxies::new(&self.trusted_proxies);
        proxies.map(drop).map_err(|why| ConfigError::value("gateway.trusted_proxies", why))
    }

    /// The files of the certificate and the key, if both are given.
    pub fn files(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.cert.as_ref().zip(self.key.as_ref())
    }
}

/// `[page]` of the config file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PageConfig {
    /// Whether everyone who reaches the page can hear live audio.
    pub live_audio: bool,
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
        Self { live_audio: true, hosts: Vec::new() }
    }
}
