//! Starts the gateway role.

use hub_base::peer::{MAX_ANSWER_BYTES, Peer};
use hub_base::role::Role;
use hub_gateway::{App, Hosts, Limits};
use hub_owner::client::OwnerCaller;
use hub_store::backup::Backups;
use hub_watch::readiness::Checks;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use tokio::net::TcpListener;

use super::RunError;
use super::listening::Audio;
use super::shared::Shared;

/// The services that the gateway calls.
pub(super) struct Peers {
    /// The owner of this process. `None`: this process does not have the role.
    pub(super) owner: Option<OwnerCaller>,
    pub(super) dog: Peer,
    pub(super) analysis: Peer,
}

/// Starts the gateway.
pub(super) fn start(
    shared: &Shared,
    peers: Peers,
    audio: &Audio,
    backups: Option<Backups>,
    listeners: Vec<TcpListener>,
) -> Result<(), RunError> {
    let (Some(store), Some(clips)) = (shared.store.clone(), audio.clips.clone()) else { return Ok(()) };
    let Some(admission) = shared.admission.clone() else { return Ok(()) };
    let Some(people) = shared.people.clone() else { return Ok(()) };
    let config = &shared.config;
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
        page: config.page.clone(),
        checks: checks(shared)?,
        metrics: shared.metrics.clone(),
        limits: Limits::default(),
    };
    shared.tasks.spawn(hub_gateway::serve(listeners, hub_gateway::router(app), shared.stop.clone()));
    Ok(())
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
