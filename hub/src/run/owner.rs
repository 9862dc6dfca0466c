//! Starts the Owner role: its service, and the tasks that notify owners.

use hub_base::role::Role;
use hub_owner::OwnerService;
use hub_owner::channels::Channel;
use hub_owner::dispatch::Dispatcher;
use proto::owner_server::OwnerServer;
use tokio::net::TcpListener;

use super::RunError;
use super::shared::Shared;

/// Starts the Owner role. If this process does not have the role, the returned service is not served and does nothing.
pub(super) fn start(shared: &Shared, listeners: Vec<TcpListener>) -> Result<OwnerServer<OwnerService>, RunError> {
    if !shared.config.has(Role::Owner) {
        return Ok(OwnerServer::new(OwnerService::default()));
    }
    let service = OwnerServer::new(match (&shared.outbox, &shared.store) {
        (Some(outbox), Some(store)) => {
            let config = &shared.config;
            let channels = Channel::all(&config.owners, &config.notices, shared.mqtt.as_ref())?;
            let dispatcher = Dispatcher {
                store: store.clone(),
                outbox: outbox.clone(),
                config: config.notices.clone(),
                stop: shared.stop.clone(),
            };
            dispatcher.start(channels, &shared.tasks);
            let (service, keeper) = OwnerService::keeping(outbox.clone(), store.clone());
            shared.tasks.spawn(keeper.run(shared.stop.clone()));
            service
        }
        _ => OwnerService::default(),
    });
    shared.serve(service.clone(), listeners);
    Ok(service)
}
