//! Starts the Owner role: its service, and the tasks that notify owners.

use daemon::grpc::MAX_REQUEST_BYTES;
use hub_base::peer;
use hub_base::role::Role;
use hub_owner::OwnerService;
use hub_owner::client::OwnerCaller;
use hub_owner::config::open_channels;
use hub_owner::dispatch::Dispatcher;
use proto::owner_server::OwnerServer;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

use super::RunError;
use super::shared::Shared;

/// Starts the Owner role. Returns how this process calls it, or `None` if this process does not have the role.
pub(super) fn start(shared: &Shared, listeners: Vec<TcpListener>) -> Result<Option<OwnerCaller>, RunError> {
    let config = &shared.config;
    if !config.has(Role::Owner) {
        return Ok(None);
    }
    let service = if let Some(outbox) = shared.outbox.clone() {
        let channels = open_channels(&config.owners, config.notices.public_url.as_deref(), shared.mqtt.as_ref())?;
        let (config, stop) = (config.notices.clone(), shared.stop.clone());
        Dispatcher { outbox: outbox.clone(), config, stop }.start(channels, &shared.tasks);
        let (service, keeper) = OwnerService::keeping(outbox);
        shared.tasks.spawn(keeper.run(shared.stop.clone()));
        service
    } else {
        OwnerService::default()
    };
    let service = OwnerServer::new(service)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    shared.serve(service.clone(), listeners);
    Ok(Some(OwnerCaller::new(peer::local(service))))
}
