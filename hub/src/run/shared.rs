//! What the parts of the hub share.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use daemon::config::{ConfigError, Variables};
use daemon::grpc::{self, Services};
use daemon::identity::{Identity, Machine, Origin, OwnKey};
use daemon::shutdown::CancellationToken;
use daemon::tls::{Keyring, TlsServer};
use hub_base::role::Role;
use hub_nodes::pairing::HubCard;
use hub_nodes::{Discover, Nodes};
use hub_owner::Outbox;
use hub_owner::config::ChannelConfig;
use hub_owner::mqtt::Mqtt;
use hub_people::{People, USERS_LOST};
use hub_store::backup::keep_before_upgrade;
use hub_store::{Access, Store, StoreError};
use hub_watch::admission::{Admission, HubPairing};
use hub_watch::metrics::Metrics;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tracing::{info, warn};

use super::RunError;
use super::tokens::Checked;
use crate::config::{HubSettings, default_node};

/// What the parts of the hub share.
pub(super) struct Shared {
    pub(super) config: HubSettings,
    /// Folder of the database and the clips.
    pub(super) data_dir: PathBuf,
    /// `None` if no role of this process needs the store.
    pub(super) store: Option<Store>,
    pub(super) nodes: Nodes,
    /// `None` if no role of this process needs the nodes.
    pub(super) admission: Option<Admission>,
    /// The hub's key. `None`: it has none, or no role of this process needs it.
    pub(super) key: Option<OwnKey>,
    /// Users and tokens. `None` without a store.
    pub(super) people: Option<People>,
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
    /// `owner_port`: where other machines reach the Owner service of this process.
    pub(super) async fn open(
        config: HubSettings,
        owner_port: Option<u16>,
        stop: CancellationToken,
    ) -> Result<Self, RunError> {
        let data_dir = config.data_dir()?;
        if let Some(unused) = config.unused_data(&Variables::of_process()) {
            let (data_dir, unused) = (data_dir.display(), unused.display());
            warn!(%data_dir, %unused, "the database in the folder of the service is not used: data_dir names another folder");
        }
        let has_owners = !config.owners.is_empty();
        let notifies = has_owners && config.has(Role::Owner);
        let store =
            if hears_or_shows(&config) || notifies { Some(open_store(&config, &data_dir).await?) } else { None };
        let outbox = store.as_ref().filter(|_| has_owners).map(|store| Outbox::new(&config.owners, store.clone()));
        let key = if hears_or_shows(&config) { open_key(&data_dir, config.has(Role::Analysis)).await } else { None };
        let nodes = nodes_of(&config, store.as_ref()).await?;
        let admission = match store.clone().filter(|_| hears_or_shows(&config)) {
            Some(store) => {
                if config.has(Role::Analysis)
                    && let Err(error) = store.follow_admission_log().await
                {
                    warn!(%error, "cannot read the log of admissions; retrying at the next start");
                }
                Some(Admission::open_with(nodes.clone(), store, hub_pairing(key.as_ref(), owner_port)).await?)
            }
            None => None,
        };
        if let Some(admission) = admission.as_ref().filter(|_| config.discover.is_on()) {
            admission.expect_heard().await?;
        }
        let people = store.clone().map(People::new);
        if let Some(store) = &store {
            keep_closed(store).await?;
        }
        let tasks = TaskTracker::new();
        let mqtt = start_mqtt(&config, &data_dir, notifies, &tasks, &stop)?;
        Ok(Self {
            config,
            data_dir,
            store,
            nodes,
            admission,
            key,
            people,
            outbox,
            mqtt,
            metrics: Metrics::default(),
            tasks,
            stop,
        })
    }

    /// Whether this process listens to the nodes or has the gateway.
    pub(super) fn hears_or_shows(&self) -> bool {
        hears_or_shows(&self.config)
    }

    /// The keys of the paired nodes. `None`: this process pairs with none.
    pub(super) fn keyring(&self) -> Option<Keyring> {
        self.admission.as_ref()?.keyring()
    }

    /// Serves a role on its sockets until the hub stops. Its health service reports "not serving" from the stop on.
    pub(super) fn serve<S>(&self, service: S, listeners: Vec<TcpListener>, opening: Option<TlsServer>)
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
        let service = Checked::new(service, self.people.clone());
        self.tasks.spawn(async move {
            let (health, health_service) = tonic_health::server::health_reporter();
            health.set_serving::<S>().await;
            let stopping = async {
                stop.cancelled().await;
                health.set_not_serving::<S>().await;
            };
            let descriptors = proto::FILE_DESCRIPTOR_SET;
            let served = grpc::serve(
                Services::only(service),
                health_service,
                descriptors,
                meter,
                listeners,
                opening,
                stop.clone(),
            );
            tokio::join!(served, stopping);
        });
    }
}

/// The configured nodes, or the default node. It counts as configured where nodes cannot be discovered, and where it
/// was heard before.
async fn nodes_of(config: &HubSettings, store: Option<&Store>) -> Result<Nodes, RunError> {
    let default = default_node();
    let is_configured = !config.node.is_empty();
    let was_heard = match store {
        Some(store) => store.watermark(default.url.expose()).await?.is_some(),
        None => false,
    };
    let nodes = if is_configured {
        let loopback = ["://localhost", "://127.", "://[::1]"];
        let is_here = config.node.iter().any(|node| loopback.iter().any(|host| node.url.expose().contains(host)));
        if was_heard && !is_here {
            let url = default.url.expose();
            warn!(url, "the node of this machine was heard before, and is not heard now: `node` names only others");
        }
        Nodes::new(&config.node)
    } else if was_heard || !config.discover.is_on() {
        Nodes::with_default_heard(&default)
    } else {
        Nodes::with_default(&default)
    };
    let nodes = nodes.map_err(RunError::url("node"))?;
    if config.discover == Discover::AdmitAll {
        warn!("discover = \"admit-all\": the hub listens to whoever announces a node on the network");
        nodes.admit_all();
    }
    Ok(nodes)
}

/// By what nodes know the hub. `None` without a key.
fn hub_pairing(key: Option<&OwnKey>, owner_port: Option<u16>) -> Option<HubPairing> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let card = HubCard { name, owner_port };
    key.map(|key| HubPairing::new(key.clone(), card))
}

fn hears_or_shows(config: &HubSettings) -> bool {
    config.has(Role::Analysis) || config.has(Role::Gateway)
}

async fn open_store(config: &HubSettings, data_dir: &Path) -> Result<Store, StoreError> {
    let access = if config.has(Role::Analysis) { Access::Keeper } else { Access::Guest };
    let data_dir = data_dir.to_owned();
    let open = move || {
        if access == Access::Keeper {
            keep_before_upgrade(&data_dir);
        }
        Store::open(&data_dir, access)
    };
    let opened = tokio::task::spawn_blocking(open).await;
    let store = opened.unwrap_or_else(|crash| Err(StoreError::Cut(crash.to_string())))?;
    store.set_aside_false_alarms(config.listen.reject_like_false_alarms);
    store.set_min_scores(config.min_scores());
    Ok(store)
}

/// Folder of the hub's key, in the data folder. Backups leave it out: whoever has the key is the hub.
const KEY_FOLDER: &str = "identity";

/// The hub's key. The process that owns the store makes it at its first start; others only read it. The key belongs to
/// the data folder, on whatever machine that is: the nodes then know the hub again. Without a key the hub works too, so
/// a failure is logged.
async fn open_key(data_dir: &Path, makes_it: bool) -> Option<OwnKey> {
    let folder = data_dir.join(KEY_FOLDER);
    let open = move || {
        if !makes_it {
            return Identity::read(&folder);
        }
        let identity = Identity::open(&folder, &Machine::default())?;
        if identity.origin == Origin::Created {
            info!(id = %identity.key.id(), "new key: the data folder had none");
        }
        Ok(Some(identity.key))
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(key)) => key,
        Ok(Err(error)) => {
            warn!(%error, "the hub has no key, so it cannot be paired with nodes");
            None
        }
        Err(error) => {
            warn!(%error, "the hub has no key, so it cannot be paired with nodes");
            None
        }
    }
}

/// Keeps a hub closed that has users, and says so if they are lost.
async fn keep_closed(store: &Store) -> Result<(), StoreError> {
    store.mark_users().await?;
    if store.are_users_lost().await? {
        warn!("USERS LOST: {USERS_LOST}. Until then, the hub asks everybody to log in");
    }
    Ok(())
}

/// Starts the connection to the broker, if this process publishes its nodes for Home Assistant or notifies owners by
/// MQTT.
fn start_mqtt(
    config: &HubSettings,
    data_dir: &Path,
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
    let (mqtt, keeper) = Mqtt::new(broker, data_dir, speaks_for_the_hub, stop.clone())?;
    tasks.spawn(keeper);
    Ok(Some(mqtt))
}
