//! What the parts of the hub share.

use std::convert::Infallible;

use daemon::config::ConfigError;
use daemon::grpc;
use daemon::shutdown::CancellationToken;
use hub_base::role::Role;
use hub_nodes::Nodes;
use hub_owner::Outbox;
use hub_owner::config::ChannelConfig;
use hub_owner::mqtt::Mqtt;
use hub_store::backup::keep_before_upgrade;
use hub_store::{Access, Store, StoreError};
use hub_watch::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;

use super::RunError;
use crate::config::Config;

/// What the parts of the hub share.
pub(super) struct Shared {
    pub(super) config: Config,
    /// `None` if no role of this process needs the store.
    pub(super) store: Option<Store>,
    pub(super) nodes: Nodes,
    /// `None` if there are no owners, or no store.
    pub(super) outbox: Option<Outbox>,
    /// `None` if this process sends nothing to a broker.
    pub(super) mqtt: Option<Mqtt>,
    pub(super) metrics: Metrics,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Shared {
    /// Opens the store, the nodes, the outbox and the connection to the broker, as far as the roles of `config` need
    /// them.
    pub(super) async fn open(config: Config, stop: CancellationToken) -> Result<Self, RunError> {
        let notifies = !config.owners.is_empty() && config.has(Role::Owner);
        let store = if hears_or_shows(&config) || notifies { Some(open_store(&config).await?) } else { None };
        let has_owners = !config.owners.is_empty();
        let outbox = store.as_ref().filter(|_| has_owners).map(|store| Outbox::new(&config.owners, store.clone()));
        let nodes = Nodes::new(&config.nodes).map_err(RunError::url("node"))?;
        let tasks = TaskTracker::new();
        let mqtt = start_mqtt(&config, notifies, &tasks, &stop)?;
        Ok(Self { config, store, nodes, outbox, mqtt, metrics: Metrics::default(), tasks, stop })
    }

    /// Whether this process listens to the nodes or has the gateway.
    pub(super) fn hears_or_shows(&self) -> bool {
        hears_or_shows(&self.config)
    }

    /// Serves a role on its sockets until the hub stops. Its health service reports "not serving" from the stop on.
    pub(super) fn serve<S>(&self, service: S, listeners: Vec<TcpListener>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let (meter, stop) = (self.metrics.meter(), self.stop.clone());
        self.tasks.spawn(async move {
            let (health, health_service) = tonic_health::server::health_reporter();
            health.set_serving::<S>().await;
            let stopping = async {
                stop.cancelled().await;
                health.set_not_serving::<S>().await;
            };
            let served =
                grpc::serve(service, health_service, proto::FILE_DESCRIPTOR_SET, meter, listeners, stop.clone());
            tokio::join!(served, stopping);
        });
    }
}

fn hears_or_shows(config: &Config) -> bool {
    config.has(Role::Analysis) || config.has(Role::Gateway)
}

async fn open_store(config: &Config) -> Result<Store, StoreError> {
    let access = if config.has(Role::Analysis) { Access::Keeper } else { Access::Guest };
    let data_dir = config.data_dir.clone();
    let open = move || {
        if access == Access::Keeper {
            keep_before_upgrade(&data_dir);
        }
        Store::open(&data_dir, access)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|crash| Err(StoreError::Cut(crash.to_string())))
}

/// Starts the connection to the broker, if this process publishes its nodes for Home Assistant or notifies owners by
/// MQTT.
fn start_mqtt(
    config: &Config,
    notifies: bool,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Mqtt>, ConfigError> {
    let Some(broker) = &config.mqtt else { return Ok(None) };
    let speaks_for_the_hub = config.has(Role::Analysis) && config.listen.enabled && broker.home_assistant;
    let mut channels = config.owners.iter().flat_map(|owner| &owner.channels);
    let notifies_by_broker = notifies && channels.any(ChannelConfig::needs_broker);
    if !speaks_for_the_hub && !notifies_by_broker {
        return Ok(None);
    }
    let (mqtt, keeper) = Mqtt::new(broker, speaks_for_the_hub, stop.clone())?;
    tasks.spawn(keeper);
    Ok(Some(mqtt))
}
