//! The state that all handlers share.

use std::sync::Arc;

use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error, Who};
use hub_base::peer::Peer;
use hub_listen::Live;
use hub_listen::live::News;
use hub_nodes::{Node, Nodes};
use hub_owner::client::OwnerCaller;
use hub_owner::mqtt::Mqtt;
use hub_people::People;
use hub_store::Store;
use hub_store::backup::Backups;
use hub_store::clips::Clips;
use hub_watch::admission::Admission;
use hub_watch::metrics::Metrics;
use hub_watch::readiness::Checks;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;

use crate::config::{Loopback, PageConfig};
use crate::limits::Limits;
use crate::origin::Hosts;
use crate::privacy_settings::PrivacySettings;
use crate::proxies::Proxies;
use crate::tls::Certificates;

/// The state that all handlers share.
#[derive(Debug)]
pub struct App {
    /// The cat-nodes.
    pub nodes: Nodes,
    /// Which discovered nodes are admitted.
    pub admission: Admission,
    /// The Owner service, if this process has that role. Then the gateway notifies it of calls of cats, and nodes do
    /// not.
    pub owner: Option<OwnerCaller>,
    /// The dog service, in this process or in another.
    pub dog: DogClient<Peer>,
    /// The analysis service, in this process or in another.
    pub analysis: CatAnalysisClient<Peer>,
    /// The database.
    pub store: Store,
    /// The clips of events.
    pub clips: Clips,
    /// Backups. `None`: another process makes them.
    pub backups: Option<Backups>,
    /// Live listening. `None`: this process does not listen.
    pub live: Option<Live>,
    /// The connection to the broker. `None`: this process has none.
    pub mqtt: Option<Mqtt>,
    /// Users, their sessions, and tokens.
    pub people: People,
    /// `insecure` of the config: without users, the network may do everything but change users.
    pub insecure: bool,
    /// Cancelled when the hub stops. Ends streams.
    pub stop: CancellationToken,
    /// `[gateway] loopback` of the config.
    pub loopback: Loopback,
    /// `[page]` of the config.
    pub page: PageConfig,
    /// Settings that say what is stored, where and how long.
    pub privacy: PrivacySettings,
    /// Names by which clients may address the hub.
    pub hosts: Hosts,
    /// Proxies whose headers are believed.
    pub proxies: Proxies,
    /// The certificate of the gateway. `None`: it has no TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// The name of this machine, without a domain.
    pub machine: String,
    /// The checks of `/readyz`.
    pub checks: Checks,
    /// The metrics of `/metrics`.
    pub metrics: Metrics,
    /// Limits on long requests.
    pub limits: Limits,
}

impl App {
    /// The node with this URL or id.
    ///
    /// # Errors
    /// [`Code::NotFound`] if the hub does not know it.
    pub(super) fn node(&self, name: &str) -> Result<Node, Error> {
        let unknown = || format!("the hub has no node {name:?}; `/api/v1/nodes` lists its nodes");
        self.nodes.named(name).ok_or_else(|| Error::new(Code::NotFound, unknown()))
    }

    /// Live listening.
    ///
    /// # Errors
    /// If this process does not listen.
    pub(super) fn live(&self) -> Result<&Live, Error> {
        self.live.as_ref().ok_or_else(|| {
            let message = "this process does not listen: it lacks the analysis role, or `[listen] enabled` is false";
            Error::new(Code::Unavailable(Who::Analysis), message)
        })
    }

    /// Sends news to all watchers of live listening. Does nothing if this process does not listen.
    pub(super) fn tell(&self, news: News) {
        if let Some(live) = &self.live {
            live.tell(news);
        }
    }
}
