//! Whether the hub can do its work: its roles, its store, its nodes.

use std::time::Duration;

use hub_base::error::{Error, Who, within};
use hub_base::peer;
use hub_base::role::Role;
use hub_listen::Live;
use hub_nodes::{Node, Nodes};
use hub_store::Store;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::condition::{Condition, HealthConfig, NodeHealth};

/// How long a role in another process may take to say that it serves.
const ROLE_DEADLINE: Duration = Duration::from_secs(2);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What: `store`, `owner`, `dog`, `analysis`, or `node:URL`.
    pub name: String,
    /// Whether the hub can do its work without an answer to this being `true`.
    pub required: bool,
    /// Whether it works.
    pub ok: bool,
    /// Why it does not, or what there is to say. Empty: nothing.
    pub detail: String,
    /// Of a node: how it is, and how old what was heard of it is.
    pub node: Option<NodeHealth>,
}

/// The roles that are looked at. Those in this process live as long as it does; the others are asked.
#[derive(Debug, Default)]
pub struct Checks {
    here: Vec<Role>,
    elsewhere: Vec<(Role, HealthClient<Channel>)>,
    config: HealthConfig,
}

impl Checks {
    /// Nothing but store and nodes, which count as deaf by this config.
    pub fn new(config: HealthConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// A role in this process.
    pub fn add_here(&mut self, role: Role) {
        self.here.push(role);
    }

    /// A role in another process.
    ///
    /// # Errors
    /// When `url` is not one.
    pub fn add_elsewhere(&mut self, role: Role, url: &str) -> Result<(), tonic::transport::Error> {
        self.elsewhere.push((role, HealthClient::new(peer::channel(url)?)));
        Ok(())
    }

    /// Looks at everything at once, now.
    ///
    /// A node that answers and does not hear is not ok, but it takes no hub out of service: that is required of a node only
    /// when no other answers.
    pub async fn run(&self, store: &Store, nodes: &Nodes, live: Option<&Live>) -> Vec<Check> {
        let here = self.here.iter().map(|role| Check::good(role.name(), true));
        let elsewhere =
            futures_util::future::join_all(self.elsewhere.iter().map(|(role, client)| role_check(*role, client)));
        let node_checks = futures_util::future::join_all(
            nodes.distinct().into_iter().map(|node| async move { node_check(&node, live, &self.config).await }),
        );
        let (stored, elsewhere, mut node_checks) = tokio::join!(store.check(), elsewhere, node_checks);
        // One node that answers is work to do. With none there is nothing to listen to.
        let alone = node_checks.iter().all(|check| check.required);
        node_checks.iter_mut().for_each(|check| check.required = alone);
        let stored = match stored {
            Ok(()) => Check::good("store", true),
            Err(error) => Check::bad("store", true, error.to_string()),
        };
        std::iter::once(stored).chain(here).chain(elsewhere).chain(node_checks).collect()
    }
}

impl Check {
    fn good(name: impl Into<String>, required: bool) -> Self {
        Self { name: name.into(), required, ok: true, detail: String::new(), node: None }
    }

    fn bad(name: impl Into<String>, required: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), required, ok: false, detail: detail.into(), node: None }
    }
}

async fn role_check(role: Role, client: &HealthClient<Channel>) -> Check {
    let who = match role {
        Role::Owner => Who::Owner,
        Role::Dog => Who::Dog,
        Role::Analysis | Role::Gateway => Who::Analysis,
    };
    let mut client = client.clone();
    let asked: Result<_, Error> = within(who, ROLE_DEADLINE, client.check(HealthCheckRequest::default())).await;
    match asked {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Check::good(role.name(), true),
        Ok(_) => Check::bad(role.name(), true, "it says that it is not serving"),
        Err(error) => Check::bad(role.name(), true, error.message),
    }
}

/// Required, for now, is a node that does not answer.
async fn node_check(node: &Node, live: Option<&Live>, config: &HealthConfig) -> Check {
    let asked = node.describe().await;
    let mut health = NodeHealth::of(node, live, config);
    let answers = asked.is_ok();
    // What it said a moment ago counts less than that it does not answer now.
    if let Err(error) = asked {
        (health.condition, health.detail) = (Condition::Away, error.message);
    }
    let (ok, detail) = (health.condition == Condition::Ok, health.detail.clone());
    Check { name: format!("node:{}", node.url()), required: !answers, ok, detail, node: Some(health) }
}
