//! The hub as a whole: its parts started in order, and stopped.

use std::future::Future;
use std::time::Duration;

use daemon::config::ConfigError;
use daemon::shutdown::{CancellationToken, STOP_DEADLINE};
use daemon::systemd;
use hub_base::role::Role;
use hub_store::StoreError;
use tracing::{info, warn};

use crate::config::Config;

mod analysis;
mod dog;
mod gateway;
mod listeners;
mod listening;
mod owner;
mod shared;
mod watch;
mod welcome;

pub use listeners::Listeners;

use shared::Shared;

/// Part of [`STOP_DEADLINE`] in which requests and analyses in flight may finish. The rest is for the store.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret of the config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A URL of the config cannot be used.
    #[error("{key}: {source}")]
    Url {
        /// The key of the config.
        key: &'static str,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl RunError {
    /// The URL under `key` cannot be used.
    fn url(key: &'static str) -> impl Fn(tonic::transport::Error) -> Self {
        move |source| Self::Url { key, source }
    }
}

/// Runs the roles of `config` until `stop`, then finishes what is in flight, for [`STOP_DEADLINE`] at most.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, listeners: Listeners, stop: CancellationToken) -> Result<(), RunError> {
    let roles = config.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",");
    let page_url = welcome::page_url(&listeners.http);
    let shared = Shared::open(config, stop).await?;
    let owner = owner::start(&shared, listeners.owner)?;
    let dog = dog::start(&shared, owner, listeners.dog)?;
    let analysis = analysis::start(&shared, listeners.analysis).await?;
    let listening = listening::start(&shared).await?;
    watch::start(&shared, &analysis, &listening);
    if shared.config.has(Role::Gateway) {
        gateway::start(&shared, dog, analysis.peer.clone(), &listening, listeners.http)?;
    }
    shared.tasks.close();

    info!(roles, version = env!("CARGO_PKG_VERSION"), "hub runs");
    if let Some(page_url) = page_url {
        welcome::log(&page_url, &shared.config);
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
    Ok(())
}

async fn within_stop_deadline(drained: impl Future<Output = ()>) {
    let limit = DRAIN_DEADLINE.min(STOP_DEADLINE);
    if tokio::time::timeout(limit, drained).await.is_err() {
        warn!(limit_ms = limit.as_millis() as u64, "some work was not finished in time");
    }
}
