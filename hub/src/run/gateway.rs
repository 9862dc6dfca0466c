//! Starts the gateway role.

use std::sync::Arc;

use daemon::config::ConfigError;
use hub_base::peer::{MAX_ANSWER_BYTES, Peer};
use hub_base::role::Role;
use hub_gateway::tls::{Authority, CertificateError, Certificates, Names};
use hub_gateway::{App, Entrance, Hosts, Limits, PrivacySettings, Proxies};
use hub_owner::client::OwnerCaller;
use hub_store::backup::Backups;
use hub_watch::readiness::Checks;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::RunError;
use super::listening::Audio;
use super::shared::Shared;
use super::welcome::machine;

/// The services that the gateway calls.
pub(super) struct Peers {
    /// The owner of this process. `None`: this process does not have the role.
    pub(super) owner: Option<OwnerCaller>,
    pub(super) dog: Peer,
    pub(super) analysis: Peer,
}

/// Starts the gateway. Returns whether it has TLS.
pub(super) async fn start(
    shared: &Shared,
    peers: Peers,
    audio: &Audio,
    backups: Option<Backups>,
    listeners: Vec<TcpListener>,
) -> Result<bool, RunError> {
    let (Some(store), Some(clips)) = (shared.store.clone(), audio.clips.clone()) else { return Ok(false) };
    let Some(admission) = shared.admission.clone() else { return Ok(false) };
    let Some(people) = shared.people.clone() else { return Ok(false) };
    let config = &shared.config;
    let certificates = certificates(shared, &listeners).await?;
    let proxies = Proxies::new(&config.gateway.trusted_proxies)
        .map_err(|why| ConfigError::value("gateway.trusted_proxies", why))?;
    let app = App {
        nodes: shared.nodes.clone(),
        admission,
        owner: peers.owner,
        dog: DogClient::new(peers.dog).max_decoding_message_size(MAX_ANSWER_BYTES),
        analysis: CatAnalysisClient::new(peers.analysis).max_decoding_message_size(MAX_ANSWER_BYTES),
        store,
        clips,
        backups,
        live: audio.live(),
        mqtt: shared.mqtt.clone(),
        people,
        insecure: config.insecure,
        stop: shared.stop.clone(),
        hosts: Hosts::new(&config.page.hosts, config.notices.public_url.as_deref()),
        loopback: config.gateway.loopback,
        page: config.page.clone(),
        privacy: PrivacySettings {
            data_dir: shared.data_dir.clone(),
            events: config.events.clone(),
            notices_keep_days: config.notices.keep_days,
            backup: config.backup.clone(),
        },
        proxies,
        certificates: certificates.clone(),
        machine: machine(),
        checks: checks(shared)?,
        metrics: shared.metrics.clone(),
        limits: Limits::default(),
    };
    let has_tls = certificates.is_some();
    if has_tls && config.insecure {
        info!(
            "insecure: other machines may use plain HTTP too. The page has HTTPS at the same addresses: remove `insecure` \
             once all programs use it, and add users with `hub user add`"
        );
    }
    let entrance = Entrance { certificates, plain_everywhere: config.insecure };
    let served = hub_gateway::serve(listeners, hub_gateway::router(app), entrance, shared.stop.clone())?;
    shared.tasks.spawn(served);
    Ok(has_tls)
}

/// The certificate in the configured files, or else one of the hub's own CA, if the gateway listens beyond loopback.
async fn certificates(shared: &Shared, listeners: &[TcpListener]) -> Result<Option<Arc<Certificates>>, RunError> {
    let config = &shared.config;
    if let Some((cert, key)) = config.gateway.files() {
        let (cert, key) = (cert.clone(), key.clone());
        let read = blocking(move || Certificates::in_files(&cert, &key)).await;
        let certificates = read.map_err(|error| ConfigError::value("gateway.cert", error.to_string()))?;
        return Ok(Some(Arc::new(certificates)));
    }
    let beyond = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let Some(address) = beyond.into_iter().find(|address| !address.ip().to_canonical().is_loopback()) else {
        return Ok(None);
    };
    let names = Names::of_this_machine(&config.page.hosts, config.notices.public_url.as_deref());
    let data_dir = shared.data_dir.clone();
    match blocking(move || Certificates::own(&data_dir, names)).await {
        Ok(certificates) => {
            let fingerprint = certificates.authority().map(Authority::fingerprint).unwrap_or_default();
            info!(%address, %fingerprint, "other machines reach the gateway by https; `hub cert` shows the CA");
            Ok(Some(Arc::new(certificates)))
        }
        // Before there was TLS, such a hub ran.
        Err(error) if config.insecure => {
            warn!(%error, "the gateway has no TLS");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CertificateError> + Send + 'static,
) -> Result<T, CertificateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(CertificateError::Key))
}

/// What `/readyz` checks: the roles of this process, and the roles of other processes that it calls.
fn checks(shared: &Shared) -> Result<Checks, RunError> {
    let config = &shared.config;
    let mut checks = Checks::new(config.health.clone());
    for role in [Role::Owner, Role::Dog, Role::Analysis] {
        let (key, url, is_called) = match role {
            Role::Owner => ("owner_url", config.owner_url.expose(), config.has(Role::Dog)),
            Role::Dog => ("dog_url", config.dog_url.expose(), true),
            _ => ("analysis_url", config.analysis_url.expose(), true),
        };
        if config.has(role) {
            checks.add_here(role);
        } else if is_called {
            checks.add_elsewhere(role, url).map_err(RunError::url(key))?;
        }
    }
    Ok(checks)
}
