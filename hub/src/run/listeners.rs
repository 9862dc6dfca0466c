//! The sockets of a hub.

use daemon::listen::{BindError, Listen};
use hub_base::role::Role;
use tokio::net::TcpListener;

use crate::config::Config;

/// The sockets of a hub, open. Those of roles that it does not have are empty.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Of the HTTP gateway.
    pub http: Vec<TcpListener>,
    /// Of the Owner service.
    pub owner: Vec<TcpListener>,
    /// Of the dog service.
    pub dog: Vec<TcpListener>,
    /// Of the catAnalysis service.
    pub analysis: Vec<TcpListener>,
}

impl Listeners {
    /// Opens the sockets of the roles that a config has.
    ///
    /// # Errors
    /// Names the address that could not be bound.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        // The addresses were checked before there was a log. Checked again, those that are not loopback are logged, all of them
        // before the first one is bound.
        let opened = [
            (Role::Gateway, "http", &config.http),
            (Role::Owner, "owner", &config.owner),
            (Role::Dog, "dog", &config.dog),
            (Role::Analysis, "analysis", &config.analysis),
        ]
        .map(|(role, key, addresses)| (config.has(role), key, addresses));
        for (_, key, addresses) in opened.iter().filter(|(opens, ..)| *opens) {
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

async fn bind((opens, key, addresses): (bool, &str, &Listen)) -> Result<Vec<TcpListener>, BindError> {
    if opens { addresses.bind(key).await } else { Ok(Vec::new()) }
}
