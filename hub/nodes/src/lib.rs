//! The cat-nodes of the hub, and which one hears a given cat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemon::shutdown::CancellationToken;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use self::address::NodeConfig;

pub mod address;
pub mod discover;
mod node;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use self::node::{Node, Told, state_word};

/// Nodes that a hub listens to at most, those of the config among them. A further one that is found is not taken; that is
/// counted and logged.
pub const MAX_NODES: usize = 64;

/// The nodes of the hub: those of the config in its order, then those that were found. One that is here stays, and keeps its
/// place: a node that is away is not forgotten. Clones share them.
#[derive(Debug, Clone)]
pub struct Nodes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: watch::Sender<Vec<Node>>,
    refused: AtomicU64,
}

/// There are [`MAX_NODES`] nodes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Nodes {
    /// The nodes of a config; nothing is connected yet. There must be at least one.
    ///
    /// # Errors
    /// When a URL is not one.
    pub fn new(configs: &[NodeConfig]) -> Result<Self, tonic::transport::Error> {
        assert!(!configs.is_empty(), "the config has a default node");
        let nodes = configs.iter().map(Node::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared: Arc::new(Shared { nodes: watch::Sender::new(nodes), refused: AtomicU64::new(0) }) })
    }

    /// All of them, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = Node> + use<> {
        self.shared.nodes.borrow().clone().into_iter()
    }

    /// Wakes when nodes are added.
    pub fn watch(&self) -> watch::Receiver<Vec<Node>> {
        self.shared.nodes.subscribe()
    }

    /// The node of that URL.
    pub fn get(&self, url: &str) -> Option<Node> {
        self.shared.nodes.borrow().iter().find(|node| node.url() == url).cloned()
    }

    /// Adds a node after the others.
    ///
    /// # Errors
    /// When there are [`MAX_NODES`].
    pub fn add(&self, node: Node) -> Result<(), Full> {
        let added = self.shared.nodes.send_if_modified(|nodes| {
            let fits = nodes.len() < MAX_NODES;
            if fits {
                nodes.push(node);
            }
            fits
        });
        if added { Ok(()) } else { Err(Full) }
    }

    /// Counts a node that was found and not taken.
    pub fn count_refused(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a node was found that was not taken, for there are [`MAX_NODES`].
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The node that this one is under another name: one that stands before it and has just answered with the same boot id.
    /// Those of the config are never taken for another.
    pub fn twin_of(&self, node: &Node) -> Option<Node> {
        let boot_id = node.boot_id().filter(|_| node.is_discovered())?;
        self.iter().take_while(|other| other.url() != node.url()).find(|other| other.boot_id() == Some(boot_id))
    }

    /// All of them, each under one name.
    pub fn distinct(&self) -> Vec<Node> {
        self.iter().filter(|node| self.twin_of(node).is_none()).collect()
    }

    /// The node that hears this cat: the one that is configured for it, else the one that says so, else the first, so
    /// that every name is answered.
    pub fn for_cat(&self, cat: &str) -> Node {
        let nodes = self.shared.nodes.borrow();
        let configured = || nodes.iter().find(|node| node.configured_cat() == Some(cat));
        let described =
            || nodes.iter().find(|node| node.configured_cat().is_none() && node.cat().is_some_and(|name| name == cat));
        configured().or_else(described).unwrap_or(&nodes[0]).clone()
    }

    /// Asks each node again and again which cat it hears, until `stop`. Keeps the connections up besides, so that the
    /// first call after an outage finds one.
    pub async fn keep_known(&self, stop: &CancellationToken) {
        let mut nodes = self.watch();
        let mut known = FuturesUnordered::new();
        loop {
            let added: Vec<Node> = nodes.borrow_and_update().iter().skip(known.len()).cloned().collect();
            known.extend(added.into_iter().map(|node| async move { node.keep_known().await }));
            tokio::select! {
                _ = known.next() => {}
                _ = nodes.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
