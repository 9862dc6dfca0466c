//! A person admits discovered nodes, refuses them, or takes an admission back. The store keeps what was decided; the
//! registry of nodes follows.

mod names;
mod pairing;
mod replacement;

use std::sync::Arc;
use std::time::Duration;

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error};
use hub_base::time::now_ns;
use hub_nodes::{MAX_NODES, Nodes, WaitingNode};
use hub_people::AuditLog;
use hub_store::{MAX_ADMITTED, Store, StoreError};
use tokio::sync::Mutex;
use tracing::{info, warn};

use self::names::ambiguous;
pub use self::pairing::{HubPairing, MAX_TRIED};
pub use self::replacement::Successor;

/// How often the store is read again: another process of the hub may have admitted a node.
const FOLLOW_PERIOD: Duration = Duration::from_secs(2);

/// A node that was heard within this time before the start of the hub is missed until it is heard again: a week.
const MISSED_FOR_NS: i64 = 7 * 86_400 * 1_000_000_000;

/// How often the same failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Who admits a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Somebody on the page, or a program that uses the API.
    Page,
    /// `hub nodes admit`.
    Command,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Command => "command",
        }
    }
}

/// A node whose admission was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its URL, or the key that was admitted.
    pub url: String,
    /// The hub admits every node, so it admits this one again after its next start.
    pub until_restart: bool,
}

/// Decides which discovered nodes the hub listens to. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    nodes: Nodes,
    store: Store,
    /// `None`: this process has no key, so it pairs with no node and calls no paired one.
    pairing: Option<Arc<HubPairing>>,
    /// Changes by nodes and by the hub itself are noted here. What people do is noted by the caller.
    audit: AuditLog,
    /// What the store says and what the registry does change in one order.
    turn: Arc<Mutex<()>>,
}

impl Admission {
    /// Reads who is admitted.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(nodes: Nodes, store: Store) -> Result<Self, StoreError> {
        Self::open_with(nodes, store, None).await
    }

    /// Reads who is admitted, and who is paired.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open_with(nodes: Nodes, store: Store, pairing: Option<HubPairing>) -> Result<Self, StoreError> {
        let (pairing, audit) = (pairing.map(Arc::new), AuditLog::new(store.clone()));
        let admission = Self { nodes, store, pairing, audit, turn: Arc::default() };
        admission.read_again().await?;
        Ok(admission)
    }

    /// Makes the admitted nodes that were heard lately nodes of the hub before they are announced: one that does not
    /// come back after a power cut is missed.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn expect_heard(&self) -> Result<(), StoreError> {
        let since_ns = now_ns().saturating_sub(MISSED_FOR_NS);
        for (key, url) in self.store.admitted_and_heard(since_ns).await? {
            self.nodes.expect(&key, &url);
        }
        Ok(())
    }

    /// Reads again and again who is admitted, until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        let mut quiet = Quiet::new(LOG_PERIOD);
        loop {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_PERIOD) => {}
                () = stop.cancelled() => return,
            }
            let _turn = self.turn.lock().await;
            match self.follow_once().await {
                Ok(()) => quiet.reset(),
                Err(error) => {
                    if let Some(suppressed_lines) = quiet.allow() {
                        warn!(%error, suppressed_lines, "cannot read which nodes are admitted");
                    }
                }
            }
        }
    }

    /// Whether every discovered node is admitted.
    pub fn admits_all(&self) -> bool {
        self.nodes.admits_all()
    }

    /// Admits a waiting node: the hub listens to it from now on, also after a restart.
    ///
    /// # Errors
    /// [`Code::NotFound`] if no node with this name waits, [`Code::Conflict`] if several do or the hub has the most
    /// nodes that it can listen to, and as of the store.
    pub async fn admit(&self, name: &str, by: By) -> Result<WaitingNode, Error> {
        let _turn = self.turn.lock().await;
        let node = self.waiting_named(name)?;
        if node.needs_code {
            let message =
                format!("{} waits for its pairing code: run `cat-node pair` on it, then hub pair CODE", node.url);
            return Err(conflict(message));
        }
        let is_at_home = self.nodes.get(&node.url).is_some();
        if !is_at_home && !self.nodes.has_room() {
            let message = format!("the hub has {MAX_NODES} nodes already, which is the most that it can listen to");
            return Err(Error::new(Code::Conflict, message));
        }
        let was_admitted = self.store.admitted().await?.keys.contains(&node.key);
        if !self.store.admit(node.key.clone(), by.as_str()).await? {
            let message = format!("{MAX_ADMITTED} nodes are admitted already; forget one: hub nodes forget NAME");
            return Err(Error::new(Code::Conflict, message));
        }
        self.nodes.pardon(&node.key);
        self.read_again().await?;
        if self.nodes.waiting().iter().any(|waiting| waiting.key == node.key) {
            if !was_admitted {
                self.store.forget_admitted(vec![node.key.clone()]).await?;
                self.read_again().await?;
            }
            let url = &node.url;
            let message = format!(
                "another node has proved its id at {url}, and this one proves none; if it is to take that node's place, \
                 forget that one first: hub nodes forget {url}"
            );
            return Err(Error::new(Code::Conflict, message));
        }
        info!(node = node.url, key = node.key, by = by.as_str(), "node admitted");
        Ok(node)
    }

    /// Drops a waiting node, and does not show it again until the hub is restarted.
    ///
    /// # Errors
    /// [`Code::NotFound`] if no node with this name waits, and [`Code::Conflict`] if several do.
    pub async fn refuse(&self, name: &str) -> Result<WaitingNode, Error> {
        let _turn = self.turn.lock().await;
        let node = self.waiting_named(name)?;
        self.nodes.refuse(&node.key);
        info!(node = node.url, key = node.key, "node refused until the hub is restarted");
        Ok(node)
    }

    /// Takes an admission back: the hub stops listening to the node at once.
    ///
    /// # Errors
    /// [`Code::NotFound`] if no admitted node has this name, [`Code::Conflict`] if several have, or the node is
    /// configured, and as of the store.
    pub async fn forget(&self, name: &str) -> Result<Forgotten, Error> {
        let _turn = self.turn.lock().await;
        let found = self.known_as(name, true);
        let url = match found.as_slice() {
            [node] if self.nodes.is_on_this_machine(node) => {
                let message = format!(
                    "{} is the node on this machine, which needs no admission; to listen to other nodes only, name \
                     them in `node` in the config of the hub",
                    node.url()
                );
                return Err(Error::new(Code::Conflict, message));
            }
            [node] if !node.is_discovered() => {
                let message = format!("{} is in the config of the hub: remove it from `node`", node.url());
                return Err(Error::new(Code::Conflict, message));
            }
            [node] => node.url().to_owned(),
            // A node that has not announced itself since the start.
            [] => match self.paired_named(name).await? {
                Some(url) => url,
                None => self.admitted_named(name).await?,
            },
            several => {
                let names = several.iter().map(|node| (node.url().to_owned(), node.id().map(|id| id.to_string())));
                return Err(ambiguous(name, &names.collect::<Vec<_>>()));
            }
        };
        let keys = self.nodes.keys_at(&url);
        self.store.unpair_node(url.clone()).await?;
        self.store.forget_admitted(keys.iter().cloned().collect()).await?;
        self.nodes.forget(&url);
        let until_restart = self.nodes.admits_all();
        if until_restart {
            keys.iter().for_each(|key| self.nodes.refuse(key));
        }
        self.read_again().await?;
        info!(node = url, "admission of the node taken back");
        if self.nodes.get(&url).is_some() {
            return Err(Error::new(Code::Conflict, format!("{url} is still listened to; forget it again")));
        }
        Ok(Forgotten { url, until_restart })
    }

    /// Reads who is admitted, and admits the ids that nodes have proved which were admitted by their URLs, so that such
    /// a node stays admitted under another URL.
    async fn follow_once(&self) -> Result<(), StoreError> {
        self.follow_pairings().await?;
        let admitted = self.store.admitted().await?;
        let (keys, has_room) = (admitted.keys.clone(), admitted.keys.len() < MAX_ADMITTED);
        self.nodes.set_admitted(admitted.keys, admitted.ids);
        let mut is_changed = false;
        for node in self.nodes.iter().filter(|node| has_room && node.is_discovered() && keys.contains(node.url())) {
            let ids = self.nodes.ids_at(node.url());
            let Some(id) = node.id().map(|id| id.to_string()) else { continue };
            // With several ids it is not known which of them the person meant.
            if ids.len() == 1 && ids.contains(&id) && !keys.contains(&id) {
                self.store.admit_id_of(node.url().to_owned(), id).await?;
                is_changed = true;
            }
        }
        if is_changed { self.read_again().await } else { Ok(()) }
    }

    async fn read_again(&self) -> Result<(), StoreError> {
        self.follow_pairings().await?;
        let admitted = self.store.admitted().await?;
        self.nodes.set_admitted(admitted.keys, admitted.ids);
        Ok(())
    }
}

fn conflict(message: String) -> Error {
    Error::new(Code::Conflict, message)
}

#[cfg(test)]
mod tests;
