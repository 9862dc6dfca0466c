//! Readiness: whether the roles, the store and the nodes work.

use std::error::Error as _;
use std::time::Duration;

use hub_base::error::{Error, Who, within};
use hub_base::peer;
use hub_base::role::Role;
use hub_listen::Live;
use hub_nodes::{Node, Nodes};
use hub_store::Store;
use tonic::Response;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::condition::{Condition, HealthConfig, NodeHealth};

/// How long a role in another process may take to answer a health check.
const ROLE_DEADLINE: Duration = Duration::from_secs(2);

/// One checked part of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The part: `store`, `owner`, `dog`, `analysis`, or `node:URL`.
    pub name: String,
    /// Whether the hub is not ready while this fails.
    pub required: bool,
    /// Whether it works.
    pub ok: bool,
    /// Why it does not work, or a remark. Empty: neither.
    pub detail: String,
    /// For a node: its condition, and how old its audio is.
    pub node: Option<NodeHealth>,
}

/// The roles to check. Roles in this process live as long as it does; the others are asked.
#[derive(Debug, Default)]
pub struct Checks {
    here: Vec<Role>,
    elsewhere: Vec<(Role, HealthClient<Channel>)>,
    config: HealthConfig,
}

impl Checks {
    /// Checks only the store and the nodes. `config` says when a node counts as deaf.
    pub fn new(config: HealthConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Adds a role in this process.
    pub fn add_here(&mut self, role: Role) {
        self.here.push(role);
    }

    /// Adds a role in another process.
    ///
    /// # Errors
    /// If `url` is not valid.
    pub fn add_elsewhere(&mut self, role: Role, url: &str) -> Result<(), tonic::transport::Error> {
        self.elsewhere
            .push((role, HealthClient::new(peer::channel(url)?).max_decoding_message_size(peer::MAX_ANSWER_BYTES)));
        Ok(())
    }

    /// The condition of a node that was asked just now. `error`: why it did not answer, if it did not. `not_stored`:
    /// why nothing can be stored, if so.
    pub fn judge(&self, node: &Node, live: Option<&Live>, error: Option<&str>, not_stored: Option<&str>) -> NodeHealth {
        let mut health = NodeHealth::of(node, live, &self.config);
        // No answer now counts for more than a description from a moment ago.
        if let Some(error) = error {
            (health.condition, health.detail) = (Condition::Away, error.to_owned());
        }
        not_stored.map_or(health.clone(), |why| health.while_nothing_is_stored(why))
    }

    /// Checks everything now, in parallel.
    ///
    /// A deaf node is reported as not ok, but does not make the hub unready. A node is required only if no node
    /// answers.
    pub async fn run(&self, store: &Store, nodes: &Nodes, live: Option<&Live>) -> Vec<Check> {
        let here = self.here.iter().map(|role| Check::good(role.name(), true));
        let elsewhere =
            futures_util::future::join_all(self.elsewhere.iter().map(|(role, client)| role_check(*role, client)));
        let mut known = nodes.distinct();
        known.extend(nodes.expected());
        let node_checks = futures_util::future::join_all(
            known.into_iter().map(|node| async move { self.node_check(&node, live).await }),
        );
        let (stored, elsewhere, mut node_checks) = tokio::join!(store.check(), elsewhere, node_checks);
        // With one node that answers, the hub has work to do. With none, it has nothing to listen to.
        let alone = node_checks.iter().all(|check| check.required);
        node_checks.iter_mut().for_each(|check| check.required = alone);
        let stored = match stored {
            Ok(()) => Check::good("store", true),
            Err(error) => {
                let why = error.to_string();
                node_checks = node_checks.into_iter().map(|check| check.while_nothing_is_stored(&why)).collect();
                Check::bad("store", true, why)
            }
        };
        std::iter::once(stored).chain(here).chain(elsewhere).chain(node_checks).collect()
    }

    /// Checks a node. `required` is set for a node that does not answer; the caller decides whether that holds.
    async fn node_check(&self, node: &Node, live: Option<&Live>) -> Check {
        let error = node.describe().await.err().map(|error| error.message);
        let health = self.judge(node, live, error.as_deref(), None);
        let (ok, detail) = (!health.condition.is_trouble(), health.detail.clone());
        Check { name: format!("node:{}", node.url()), required: error.is_some(), ok, detail, node: Some(health) }
    }
}

impl Check {
    fn good(name: impl Into<String>, required: bool) -> Self {
        Self { name: name.into(), required, ok: true, detail: String::new(), node: None }
    }

    fn bad(name: impl Into<String>, required: bool, detail: impl Into<String>) -> Self {
        Self { name: name.into(), required, ok: false, detail: detail.into(), node: None }
    }

    fn while_nothing_is_stored(self, why: &str) -> Self {
        let Some(node) = self.node.map(|node| node.while_nothing_is_stored(why)) else {
            return Self { node: None, ..self };
        };
        Self { ok: !node.condition.is_trouble(), detail: node.detail.clone(), node: Some(node), ..self }
    }
}

async fn role_check(role: Role, client: &HealthClient<Channel>) -> Check {
    let who = match role {
        Role::Owner => Who::Owner,
        Role::Dog => Who::Dog,
        Role::Analysis | Role::Gateway => Who::Analysis,
    };
    let mut client = client.clone();
    let check = async {
        match client.check(HealthCheckRequest::default()).await {
            // It answers, and has no health service, like the services of the original system. A status without a
            // source is an answer.
            Err(status) if status.code() == tonic::Code::Unimplemented && status.source().is_none() => {
                Ok(Response::new(None))
            }
            answer => answer.map(|answer| answer.map(Some)),
        }
    };
    let asked: Result<_, Error> = within(who, ROLE_DEADLINE, check).await;
    match asked.map(Response::into_inner) {
        Ok(None) => Check::good(role.name(), true),
        Ok(Some(answer)) if answer.status() == ServingStatus::Serving => Check::good(role.name(), true),
        Ok(Some(_)) => Check::bad(role.name(), true, "it says that it is not serving"),
        Err(error) => Check::bad(role.name(), true, error.message),
    }
}
