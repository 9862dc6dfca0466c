//! The hub as a whole: its roles put together, started and stopped.

use std::future::Future;
use std::time::Duration;

use daemon::config::ConfigError;
use daemon::listen::BindError;
use daemon::shutdown::{CancellationToken, STOP_DEADLINE};
use daemon::systemd;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::cat_analysis_server::CatAnalysisServer;
use proto::dog_client::DogClient;
use proto::dog_server::DogServer;
use proto::owner_server::OwnerServer;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::Config;
use crate::dog::DogService;
use crate::gateway::{self, App, Hosts};
use crate::grpc;
use crate::homeassistant::HomeAssistant;
use hub_base::peer::{self, Peer};
use hub_base::role::Role;
use hub_listen::analysis::AnalysisService;
use hub_listen::rehear::rehear;
use hub_listen::{Listening, Settings};
use hub_nodes::Nodes;
use hub_nodes::discover::discover;
use hub_owner::channels::Channel;
use hub_owner::dispatch::Dispatcher;
use hub_owner::mqtt::Mqtt;
use hub_owner::{Outbox, OwnerService};
use hub_store::clips::Clips;
use hub_store::notices::ChannelKind;
use hub_store::{Access, Store, StoreError};
use hub_watch::metrics::{Metrics, Parts};
use hub_watch::readiness::Checks;
use hub_watch::rounds;
use hub_watch::troubles::Troubles;

/// Part of [`STOP_DEADLINE`] in which requests and analyses in flight may finish. The rest is for the store.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// The sockets of a hub, open. Those of roles that it does not have are empty.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Of the HTTP gateway.
    pub http: Vec<TcpListener>,
    /// Of the Owner service.
    pub owner: Vec<TcpListener>,
    /// Of the dog service.
    pub dog: Vec<TcpListener>,
    /// Of the catAnalysis service.
    pub analysis: Vec<TcpListener>,
}

impl Listeners {
    /// Opens the sockets of the roles that a config has.
    ///
    /// # Errors
    /// Names the address that cannot be had.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let mut listeners = Self::default();
        // The config has been checked, before there was a log: this says there which addresses are not loopback.
        for (role, key, listen) in [
            (Role::Gateway, "http", &config.http),
            (Role::Owner, "owner", &config.owner),
            (Role::Dog, "dog", &config.dog),
            (Role::Analysis, "analysis", &config.analysis),
        ] {
            if config.has(role) {
                let _ = listen.check(key, true);
            }
        }
        if config.has(Role::Gateway) {
            listeners.http = config.http.bind("http").await?;
        }
        if config.has(Role::Owner) {
            listeners.owner = config.owner.bind("owner").await?;
        }
        if config.has(Role::Dog) {
            listeners.dog = config.dog.bind("dog").await?;
        }
        if config.has(Role::Analysis) {
            listeners.analysis = config.analysis.bind("analysis").await?;
        }
        Ok(listeners)
    }
}

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

/// Runs the roles of `config` until `stop`, then finishes what is in flight, for [`STOP_DEADLINE`] at most.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, listeners: Listeners, stop: CancellationToken) -> Result<(), RunError> {
    let roles: Vec<_> = config.roles.iter().map(|role| role.name()).collect();
    let roles = roles.join(",");
    let tasks = TaskTracker::new();
    let mut checks = Checks::new(config.health.clone());
    let metrics = Metrics::default();

    let url = |key| move |source| RunError::Url { key, source };
    let outbox = Outbox::new(&config.owners);
    let hears_or_shows = config.has(Role::Analysis) || config.has(Role::Gateway);
    let tells = outbox.clone().filter(|_| config.has(Role::Owner));
    let store = if hears_or_shows || tells.is_some() { Some(open_store(&config).await?) } else { None };
    let nodes = Nodes::new(&config.nodes).map_err(url("node"))?;

    let shows_nodes = config.has(Role::Analysis) && config.listen.enabled;
    let mqtt = start_mqtt(&config, shows_nodes, tells.is_some(), &tasks, &stop)?;
    let owner = match (tells, &store) {
        (Some(outbox), Some(store)) => {
            let channels = Channel::all(&config.owners, &config.notices, mqtt.as_ref())?;
            let dispatcher = Dispatcher {
                store: store.clone(),
                outbox: outbox.clone(),
                config: config.notices.clone(),
                stop: stop.clone(),
            };
            dispatcher.start(channels, &tasks);
            let (service, keeper) = OwnerService::keeping(outbox, store.clone());
            tasks.spawn(keeper.run(stop.clone()));
            service
        }
        _ => OwnerService::default(),
    };
    let owner = OwnerServer::new(owner);
    if config.has(Role::Owner) {
        checks.add_here(Role::Owner);
        tasks.spawn(grpc::serve(owner.clone(), metrics.meter(), listeners.owner, stop.clone()));
    }

    let dog: Peer = if config.has(Role::Dog) {
        checks.add_here(Role::Dog);
        let owner = if config.has(Role::Owner) {
            peer::local(owner)
        } else {
            checks.add_elsewhere(Role::Owner, &config.owner_url).map_err(url("owner_url"))?;
            peer::remote(&config.owner_url).map_err(url("owner_url"))?
        };
        let dog = DogServer::new(DogService::new(owner));
        tasks.spawn(grpc::serve(dog.clone(), metrics.meter(), listeners.dog, stop.clone()));
        peer::local(dog)
    } else {
        peer::remote(&config.dog_url).map_err(url("dog_url"))?
    };

    let mut analyses = None;
    let analysis: Peer = match &store {
        Some(store) if config.has(Role::Analysis) => {
            checks.add_here(Role::Analysis);
            let service = AnalysisService::start(
                store.clone(),
                nodes.clone(),
                config.max_analyses,
                config.detector,
                stop.clone(),
            )
            .await?;
            analyses = Some(service.clone());
            let server = CatAnalysisServer::new(service);
            tasks.spawn(grpc::serve(server.clone(), metrics.meter(), listeners.analysis, stop.clone()));
            peer::local(server)
        }
        _ => peer::remote(&config.analysis_url).map_err(url("analysis_url"))?,
    };

    let mut clips = None;
    let mut listening = None;
    if let Some(store) = store.as_ref().filter(|_| hears_or_shows) {
        let keeps = config.has(Role::Analysis);
        let opened = if keeps {
            Clips::open(&config.data_dir, config.clips.clone(), store.clone()).await?
        } else {
            Clips::guest(&config.data_dir, config.clips.clone(), store.clone())
        };
        if keeps {
            tasks.spawn(rehear(store.clone(), opened.clone(), stop.clone()));
        }
        if keeps && config.listen.enabled {
            let (listen, events) = (config.listen.clone(), config.events.clone());
            let settings = Settings { listen, detector: config.detector, events };
            let (store, clips) = (store.clone(), opened.clone());
            let started = Listening::start(&settings, &nodes, store, clips, outbox.clone(), &stop);
            let started = started.await?;
            if let Some(mqtt) = mqtt.clone().filter(|mqtt| mqtt.config().home_assistant) {
                let told = HomeAssistant::new(mqtt, started.live().clone(), config.notices.public_url.clone());
                tasks.spawn(told.run(stop.clone()));
            }
            listening = Some(started);
        }
        clips = Some(opened);
    }

    metrics.look_at(Parts {
        nodes: hears_or_shows.then(|| nodes.clone()),
        live: listening.as_ref().map(|listening| listening.live().clone()),
        store: store.clone(),
        clips: clips.clone(),
        analyses: analyses.clone(),
        outbox: outbox.clone(),
        mqtt: mqtt.clone(),
        health: config.health.clone(),
    });

    if let (Some(store), Some(clips)) = (&store, clips) {
        let (known, stopped) = (nodes.clone(), stop.clone());
        tasks.spawn(async move { known.keep_known(&stopped).await });
        if config.discover {
            tasks.spawn(discover(nodes.clone(), stop.clone()));
        }
        if config.has(Role::Analysis) {
            let live = listening.as_ref().map(|listening| listening.live().clone());
            let troubles = outbox.clone().map(|outbox| Troubles::new(outbox, store.clone(), &config.health));
            tasks.spawn(rounds::watch(nodes.clone(), live, config.health.clone(), troubles, stop.clone()));
        }
        if config.has(Role::Gateway) {
            if !config.has(Role::Dog) {
                checks.add_elsewhere(Role::Dog, &config.dog_url).map_err(url("dog_url"))?;
            }
            if !config.has(Role::Analysis) {
                checks.add_elsewhere(Role::Analysis, &config.analysis_url).map_err(url("analysis_url"))?;
            }
            let app = App {
                nodes,
                dog: DogClient::new(dog),
                analysis: CatAnalysisClient::new(analysis),
                store: store.clone(),
                clips,
                live: listening.as_ref().map(|listening| listening.live().clone()),
                outbox,
                mqtt,
                stop: stop.clone(),
                hosts: Hosts::new(&config.page.hosts, config.notices.public_url.as_deref()),
                page: config.page,
                checks,
                metrics,
                limits: gateway::Limits::default(),
            };
            tasks.spawn(gateway::serve(listeners.http, gateway::router(app), stop.clone()));
        }
    }
    tasks.spawn(feed_watchdog(store, stop.clone()));
    tasks.close();

    info!(roles, version = env!("CARGO_PKG_VERSION"), "hub runs");
    systemd::ready(&format!("serving {roles}"));
    stop.cancelled().await;
    systemd::stopping();

    let drained = async {
        if let Some(listening) = listening {
            listening.finish().await;
        }
        tasks.wait().await;
        if let Some(analyses) = &analyses {
            analyses.finish().await;
        }
    };
    within_stop_deadline(drained).await;
    Ok(())
}

/// Starts the connection to the broker, if this process has something to say there: about its nodes, or to its owners.
fn start_mqtt(
    config: &Config,
    listens: bool,
    tells: bool,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Mqtt>, ConfigError> {
    let Some(broker) = &config.mqtt else { return Ok(None) };
    let speaks_for_the_hub = listens && broker.home_assistant;
    let has_channel = config.owners.iter().flat_map(|owner| &owner.channels).any(|one| one.kind() == ChannelKind::Mqtt);
    let speaks_to_owners = tells && has_channel;
    if !speaks_for_the_hub && !speaks_to_owners {
        return Ok(None);
    }
    let (mqtt, keeper) = Mqtt::new(broker, speaks_for_the_hub, stop.clone())?;
    tasks.spawn(keeper);
    Ok(Some(mqtt))
}

async fn open_store(config: &Config) -> Result<Store, RunError> {
    let access = if config.has(Role::Analysis) { Access::Keeper } else { Access::Guest };
    let data_dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir, access)).await;
    Ok(opened.unwrap_or_else(|crash| Err(StoreError::Cut(crash.to_string())))?)
}

/// Feeds systemd's watchdog while the store takes writes: a hub that cannot store is of no use, and a restart may help.
async fn feed_watchdog(store: Option<Store>, stop: CancellationToken) {
    let Some(interval) = systemd::watchdog_interval() else { return };
    loop {
        let alive = match &store {
            Some(store) => store.check().await,
            None => Ok(()),
        };
        match alive {
            Ok(()) => systemd::feed_watchdog(),
            Err(error) => warn!(%error, "the store does not work, the watchdog is not fed"),
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn within_stop_deadline(drained: impl Future<Output = ()>) {
    let limit = DRAIN_DEADLINE.min(STOP_DEADLINE);
    if tokio::time::timeout(limit, drained).await.is_err() {
        warn!(limit_ms = limit.as_millis() as u64, "some work was not finished in time");
    }
}
