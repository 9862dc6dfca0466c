//! What the handlers work with.

use daemon::shutdown::CancellationToken;
use hub_base::peer::Peer;
use hub_listen::Live;
use hub_nodes::Nodes;
use hub_owner::mqtt::Mqtt;
use hub_store::Store;
use hub_store::clips::Clips;
use hub_watch::metrics::Metrics;
use hub_watch::readiness::Checks;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;

use crate::config::PageConfig;
use crate::limits::Limits;
use crate::origin::Hosts;

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// The cat-nodes.
    pub nodes: Nodes,
    /// The dog, here or elsewhere.
    pub dog: DogClient<Peer>,
    /// The analysis, here or elsewhere.
    pub analysis: CatAnalysisClient<Peer>,
    /// What was stored.
    pub store: Store,
    /// The sound of what was stored.
    pub clips: Clips,
    /// What is going on. `None`: this process does not listen.
    pub live: Option<Live>,
    /// The connection to the broker. `None`: this process has none.
    pub mqtt: Option<Mqtt>,
    /// Ends what would go on for ever.
    pub stop: CancellationToken,
    /// What the page may do.
    pub page: PageConfig,
    /// What the hub may be called.
    pub hosts: Hosts,
    /// What `/readyz` looks at.
    pub checks: Checks,
    /// What `/metrics` says.
    pub metrics: Metrics,
    /// How many clients may do what takes long.
    pub limits: Limits,
}
