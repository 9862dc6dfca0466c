//! The listening sockets of a hub.

use daemon::listen::{BindError, Listen};
use tokio::net::TcpListener;

use crate::config::{ADDRESS_KEYS, GATEWAY_KEY, HubSettings, OWNER_KEY};

/// The listening sockets of a hub. A role that this process does not have has none.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Sockets of the HTTP gateway.
    pub http: Vec<TcpListener>,
    /// Sockets of the Owner service.
    pub owner: Vec<TcpListener>,
    /// Sockets of the dog service.
    pub dog: Vec<TcpListener>,
    /// Sockets of the catAnalysis service.
    pub analysis: Vec<TcpListener>,
}

impl Listeners {
    /// Opens the sockets for the roles of `config`.
    ///
    /// # Errors
    /// Names the address that could not be bound.
    pub async fn bind(config: &HubSettings) -> Result<Self, BindError> {
        // The first check of the addresses ran before the log was open. This second one logs the addresses that are not
        // loopback, before any of them is bound.
        let opened = ADDRESS_KEYS.map(|(role, key)| (config.has(role), key, config.addresses(role)));
        // Without `insecure`, the gateway and the owner service are encrypted there.
        let is_open = |key: &str| config.insecure || ![GATEWAY_KEY, OWNER_KEY].contains(&key);
        for (_, key, addresses) in opened.iter().filter(|(opens, key, _)| *opens && is_open(key)) {
            let _ = addresses.check(key, true);
        }
        let [http, owner, dog, analysis] = opened;
        Ok(Self {
            http: bind(http).await?,
            owner: bind(owner).await?,
            dog: bind(dog).await?,
            analysis: bind(analysis).await?,
        })
    }
}

async fn bind((opens, key, addresses): (bool, &str, Listen)) -> Result<Vec<TcpListener>, BindError> {
    if opens { addresses.bind(key).await } else { Ok(Vec::new()) }
}
