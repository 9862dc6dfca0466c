//! Starts the dog role.

use daemon::grpc::MAX_REQUEST_BYTES;
use hub_base::peer::{self, Peer};
use hub_base::role::Role;
use hub_owner::client::OwnerCaller;
use proto::dog_server::DogServer;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

use super::RunError;
use super::shared::Shared;
use crate::dog::DogService;

/// Starts the dog role, or connects to the process that has it.
pub(super) fn start(
    shared: &Shared,
    owner: Option<OwnerCaller>,
    listeners: Vec<TcpListener>,
) -> Result<Peer, RunError> {
    let config = &shared.config;
    if !config.has(Role::Dog) {
        return peer::remote(config.dog_url.expose()).map_err(RunError::url("dog_url"));
    }
    let owner = match owner {
        Some(owner) => owner,
        None => OwnerCaller::new(peer::remote(config.owner_url.expose()).map_err(RunError::url("owner_url"))?),
    };
    let dog = DogServer::new(DogService::new(owner))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    shared.serve(dog.clone(), listeners, None);
    Ok(peer::local(dog))
}
