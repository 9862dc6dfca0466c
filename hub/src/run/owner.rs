//! Starts the Owner role: its service, and the tasks that notify owners.

use daemon::grpc::MAX_REQUEST_BYTES;
use daemon::tls::{Policy, Rights, TlsServer};
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

/// A port at which other machines reach the Owner service. `None`: it listens on loopback only.
pub(super) fn port_beyond_loopback(listeners: &[TcpListener]) -> Option<u16> {
    let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    addresses.into_iter().find(|address| !address.ip().to_canonical().is_loopback()).map(|address| address.port())
}

/// How connections begin: paired nodes use TLS, and programs of this machine may do without. `None`: the hub has no
/// key, so there is no TLS.
fn opening(shared: &Shared, is_reachable: bool) -> Result<Option<TlsServer>, RunError> {
    let insecure = shared.config.insecure;
    let Some((key, keyring)) = shared.key.as_ref().zip(shared.keyring()) else {
        return if is_reachable && !insecure { Err(RunError::NoKey) } else { Ok(None) };
    };
    let policy = if insecure { Policy::PlainEverywhere } else { Policy::PlainOnLoopback };
    let rights = Rights { keyring, for_strangers: &[] };
    Ok(Some(TlsServer::new(key.clone(), policy)?.with_rights(rights)))
}

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
    let is_reachable = port_beyond_loopback(&listeners).is_some();
    shared.serve(service.clone(), listeners, opening(shared, is_reachable)?);
    Ok(Some(OwnerCaller::new(peer::local(service))))
}
