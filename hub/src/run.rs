//! Starts the parts of the hub in order, and stops them.

use std::future::Future;
use std::time::Duration;

use daemon::cause::cause;
use daemon::config::ConfigError;
use daemon::shutdown::{CancellationToken, STOP_DEADLINE};
use daemon::systemd;
use daemon::tls::TlsError;
use hub_base::role::Role;
use hub_gateway::tls::CertificateError;
use hub_store::StoreError;
use tracing::{info, warn};

use crate::config::HubSettings;

mod analysis;
mod backup;
mod control;
mod dog;
mod gateway;
mod listeners;
mod listening;
mod owner;
mod shared;
mod tokens;
mod watch;
mod welcome;

pub use listeners::Listeners;

use gateway::Peers;
use shared::Shared;

/// Part of [`STOP_DEADLINE`] in which running requests and analyses may finish. The rest is for the store.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// Why a hub could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file with a secret, which the config names, cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gateway's certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The owner service would listen beyond loopback, and there is no key to encrypt with.
    #[error("owner: the hub has no key, so its owner service cannot listen beyond loopback: the log says why")]
    NoKey,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A URL of the config cannot be used.
    #[error("{key}: {}", cause(error))]
    Url {
        /// The config key.
        key: &'static str,
        /// Why. Not the error's source: the message has all that it says.
        error: tonic::transport::Error,
    },
}

impl RunError {
    /// Makes the error for the URL under `key`.
    fn url(key: &'static str) -> impl Fn(tonic::transport::Error) -> Self {
        move |error| Self::Url { key, error }
    }
}

/// Runs the roles of checked settings until `stop` is cancelled, then finishes running work, within [`STOP_DEADLINE`].
///
/// # Errors
/// If the hub cannot start.
pub async fn run(config: HubSettings, listeners: Listeners, stop: CancellationToken) -> Result<(), RunError> {
    let roles = config.roles().iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
    let page_url = welcome::page_url(&listeners.http, config.insecure);
    let secure_url = welcome::page_url(&listeners.http, false);
    let is_beyond_loopback = welcome::is_beyond_loopback(&listeners.http);
    let owner_port = owner::port_beyond_loopback(&listeners.owner);
    let shared = Shared::open(config, owner_port, stop).await?;
    let owner = owner::start(&shared, listeners.owner)?;
    let dog = dog::start(&shared, owner.clone(), listeners.dog)?;
    let analysis = analysis::start(&shared, listeners.analysis).await?;
    let listening = listening::start(&shared).await?;
    let backups = backup::start(&shared)?;
    listening.start_eraser(&shared, backups.clone());
    watch::start(&shared, &analysis, &listening, backups.clone());
    control::start(&shared, &listening);
    let mut has_tls = false;
    if shared.config.has(Role::Gateway) {
        let peers = Peers { owner, dog, analysis: analysis.peer.clone() };
        has_tls = gateway::start(&shared, peers, &listening, backups, listeners.http).await?;
    }
    shared.tasks.close();

    info!(roles, version = env!("CARGO_PKG_VERSION"), "hub runs");
    if let Some(page_url) = page_url {
        welcome::log(&page_url, &shared);
        // Its secret and the password that is entered there are not for plain HTTP.
        let setup_url = secure_url.filter(|_| has_tls).unwrap_or(page_url);
        welcome::log_setup_link(&setup_url, is_beyond_loopback, shared.people.as_ref()).await;
    }
    systemd::ready(&format!("serving {roles}"));
    shared.stop.cancelled().await;
    systemd::stopping();

    within_stop_deadline(async {
        listening.finish().await;
        shared.tasks.wait().await;
        analysis.finish().await;
    })
    .await;
    info!("hub has stopped");
    Ok(())
}

async fn within_stop_deadline(drained: impl Future<Output = ()>) {
    let limit = DRAIN_DEADLINE.min(STOP_DEADLINE);
    if tokio::time::timeout(limit, drained).await.is_err() {
        warn!(limit_ms = limit.as_millis() as u64, "stopping although some requests or analyses have not finished");
    }
}
