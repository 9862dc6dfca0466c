//! A person admits discovered nodes, refuses them, or takes an admission back. The store keeps what was decided; the
//! registry of nodes follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::identity::{Fingerprint, NodeId, OwnKey};
use daemon::pairing::{Code as PairingCode, NotACode, Refusal};
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use daemon::tls::{Keyring, TlsClient};
use hub_base::error::{Code, Error};
use hub_base::time::now_ns;
use hub_nodes::pairing::{self, HubCard, Known, Place};
use hub_nodes::{MAX_NODES, Node, Nodes, WaitingNode};
use hub_people::AuditLog;
use hub_store::{MAX_ADMITTED, MAX_PAIRED, Moved, PairedNode, Replaced, Replacement, Store, StoreError};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// How often the store is read again: another process of the hub may have admitted a node.
const FOLLOW_PERIOD: Duration = Duration::from_secs(2);

/// A node that was heard within this time before the start of the hub is missed until it is heard again: a week.
const MISSED_FOR_NS: i64 = 7 * 86_400 * 1_000_000_000;

/// How often the same failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Most nodes at which a code is tried that comes without the name of a node.
pub const MAX_TRIED: usize = 4;

/// Time for a pairing with one node. A command waits longer.
const PAIR_DEADLINE: Duration = Duration::from_secs(11);

/// Time for all tries of a code that comes without the name of a node, after the nodes have said whether they show one.
const TRY_DEADLINE: Duration = Duration::from_secs(8);

/// What a change of a node's key is called in the audit log. The node stands there as who made it.
const KEY_CHANGE: &str = "change_node_key";

/// Who pairs by the secret of both configs, in the audit log, and what that is called there.
const BY_SECRET: &str = "pairing_secret";
const PAIRING: &str = "pair_node";

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

/// By what nodes know the hub.
#[derive(Debug)]
pub struct HubPairing {
    /// Its key.
    pub key: OwnKey,
    /// What it tells nodes about itself.
    pub card: HubCard,
    /// One pairing at a time: what people type is tried in one order, and strangers cause no crowd.
    turn: Mutex<()>,
    /// The keys of the paired nodes, which may call the hub.
    keyring: Keyring,
    /// The ids of the paired nodes, and the keys that they have.
    pins: Mutex<BTreeMap<String, Fingerprint>>,
}

impl HubPairing {
    /// With this key, and this to tell nodes.
    pub fn new(key: OwnKey, card: HubCard) -> Self {
        Self { key, card, turn: Mutex::default(), keyring: Keyring::default(), pins: Mutex::default() }
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

/// A node that has taken the place of one whose key is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Successor {
    /// The id of the node whose key is lost.
    pub old: String,
    /// The id of the node that has its history now.
    pub new: String,
    /// The URL of that node.
    pub url: String,
    /// What has moved. `None`: the history is long and moves on in the background.
    pub moved: Option<Moved>,
}

/// Decides which discovered nodes the hub listens to. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission {
    nodes: Nodes,
    store: Store,
    /// `None`: this process has no key, so it pairs with no node and calls no paired one.
    pairing: Option<Arc<HubPairing>>,
    /// What nodes change, and what the hub decides by itself, is noted here. What people do is noted by whoever asks.
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

    /// The keys of the paired nodes, kept up to date. `None`: this process has no key, so it pairs with no node.
    pub fn keyring(&self) -> Option<Keyring> {
        self.pairing.as_ref().map(|pairing| pairing.keyring.clone())
    }

    /// The hub's key. `None`: this process has none.
    pub fn own_key(&self) -> Option<OwnKey> {
        self.pairing.as_ref().map(|pairing| pairing.key.clone())
    }

    /// Changes the hub's key, and returns the fingerprint of the new one. Streams go on. The nodes that answer are told
    /// within seconds, others when they come back.
    ///
    /// # Errors
    /// [`Code::Conflict`] if the hub has no key, or has changed it too often, and if the new one cannot be stored.
    pub async fn change_own_key(&self) -> Result<Fingerprint, Error> {
        let own = self.own_key().ok_or_else(no_key)?;
        let changing = own.clone();
        let changed = tokio::task::spawn_blocking(move || changing.change()).await;
        let changed = changed.map_err(|crash| Error::new(Code::Internal, crash.to_string()))?;
        let key = changed.map_err(|error| conflict(error.to_string()))?;
        warn!(id = %own.id(), %key, "the hub has a new key");
        Ok(key)
    }

    /// The paired nodes of the hub.
    pub fn paired_nodes(&self) -> Vec<Node> {
        self.nodes.iter().filter(Node::is_paired).collect()
    }

    /// The paired node at this URL, with this id, has the key `new` in place of `old`. This is noted in the audit log.
    ///
    /// # Errors
    /// As of the store.
    pub async fn change_node_key(
        &self,
        url: &str,
        id: NodeId,
        old: Fingerprint,
        new: Fingerprint,
    ) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        if self.store.change_node_key(id.to_string(), old.to_string(), new.to_string()).await? {
            warn!(node = url, %id, %old, %new, "a paired node has a new key");
            self.audit.add(url, None, KEY_CHANGE, &format!("{old} to {new}")).await;
        }
        self.follow_pairings().await
    }

    /// Pairs with the node at `host`, which shows this code: the hub listens to it from now on, over TLS, also after a
    /// restart. Without a host, the waiting nodes that show a code are tried one after the other, at most
    /// [`MAX_TRIED`]; a wrong code then uses one try at each of them. Returns the URL of the node.
    ///
    /// # Errors
    /// [`Code::BadRequest`] if code or host have not the form of one, [`Code::NotFound`] if no waiting node shows a
    /// code, [`Code::Conflict`] if the node does not know the code, or the hub has no place for it, if
    /// too many nodes show one, or another pairing is under way, and as of the node and the store.
    pub async fn pair(&self, code: &str, host: Option<&str>) -> Result<String, Error> {
        let code: PairingCode =
            code.parse().map_err(|error: NotACode| Error::new(Code::BadRequest, error.to_string()))?;
        let code = Known::Code(code);
        let place = host.map(|host| self.place_of(host)).transpose()?;
        let own = self.clone();
        // It goes on when the caller goes away: the node may know the hub by then.
        let pairing = tokio::spawn(async move { own.pair_at(&code, place).await });
        pairing.await.unwrap_or_else(|crash| Err(Error::new(Code::Internal, crash.to_string())))
    }

    async fn pair_at(&self, code: &Known, place: Option<Place>) -> Result<String, Error> {
        let pairing = self.pairing.as_deref().ok_or_else(no_key)?;
        let busy = |_| conflict("another pairing is under way; try again in ten seconds".into());
        let _one = pairing.turn.try_lock().map_err(busy)?;
        let Some(place) = place else { return self.pair_with_waiting(pairing, code).await };
        Ok(self.pair_with(pairing, &place, code, PAIR_DEADLINE).await?.url)
    }

    /// Where the node is that a person means: a waiting or known one by any of its names, else the host.
    fn place_of(&self, host: &str) -> Result<Place, Error> {
        let waiting = self.nodes.waiting().into_iter().filter(|node| node.needs_code);
        let mut meant =
            waiting.filter(|node| is_named(host, &node.url, node.node_id.as_deref(), None, &node.addresses));
        if let (Some(WaitingNode { url, addresses, .. }), None) = (meant.next(), meant.next()) {
            return Ok(Place { url, addresses });
        }
        let url = pairing::url_of(host)?;
        let addresses = self.nodes.get(&url).map(|node| node.addresses()).unwrap_or_default();
        Ok(Place { url, addresses })
    }

    async fn pair_with_waiting(&self, pairing: &HubPairing, code: &Known) -> Result<String, Error> {
        let waiting = self.nodes.waiting().into_iter().filter(|node| node.needs_code);
        let asked = waiting.map(|WaitingNode { url, addresses, .. }| async move {
            let place = Place { url, addresses };
            pairing::shows_code(&pairing.key.key(), &place).await.then_some(place)
        });
        let showing: Vec<Place> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
        if showing.is_empty() {
            let message = "no waiting node shows a pairing code: run `cat-node pair` on the node, and if the hub does \
                           not find it, name its host too: hub pair CODE HOST";
            return Err(Error::new(Code::NotFound, message));
        }
        let urls = |places: &[Place]| places.iter().map(|place| place.url.as_str()).collect::<Vec<_>>().join(", ");
        let count = u32::try_from(showing.len()).unwrap_or(u32::MAX);
        if showing.len() > MAX_TRIED {
            return Err(conflict(format!("{count} nodes show a code; name the host of yours: {}", urls(&showing))));
        }
        let mut failure = None;
        for place in &showing {
            match self.pair_with(pairing, place, code, TRY_DEADLINE / count).await {
                Ok(node) => return Ok(node.url),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if count == 1 => Err(error),
            _ => Err(conflict(format!(
                "not paired: the code is good at none of {}; it was tried at each of them, and a code can be tried {} \
                 times",
                urls(&showing),
                daemon::pairing::TRIES
            ))),
        }
    }

    async fn pair_with(
        &self,
        HubPairing { key, card, .. }: &HubPairing,
        place: &Place,
        code: &Known,
        limit: Duration,
    ) -> Result<PairedNode, Error> {
        let url = place.url.clone();
        let known = self.nodes.get(&url);
        if known.is_none() && !self.nodes.has_room() {
            let message = format!("the hub has {MAX_NODES} nodes already, which is the most that it can listen to");
            return Err(conflict(message));
        }
        let paired = pairing::pair(&key.key(), place, code, card.clone(), limit).await?;
        // Not earlier: a node that is slow keeps nobody from removing another one.
        let _turn = self.turn.lock().await;
        let key = paired.key.to_string();
        let node = PairedNode { url: url.clone(), node_id: paired.id.to_string(), key };
        let paired_nodes = self.store.paired_nodes().await?;
        let already = paired_nodes.contains(&node);
        if matches!(code, Known::Secret(_)) && takes_a_place(&node, &paired_nodes) {
            return Err(conflict(format!("not paired with the node at {url}: {}", Refusal::AlreadyPaired)));
        }
        if !self.store.pair_node(node.clone()).await? {
            let message = format!("{MAX_PAIRED} nodes are paired already; remove one: hub nodes remove NAME");
            return Err(conflict(message));
        }
        // After the pairing ends, it waits again.
        let admitted = self.nodes.keys_at(&url).into_iter().chain([node.node_id.clone()]).collect();
        self.store.forget_admitted(admitted).await?;
        self.nodes.pardon(&node.node_id);
        if !already {
            // It may have had another key.
            self.nodes.dismiss_paired(&url);
        }
        self.read_again().await?;
        if let Some(node) = self.nodes.get(&url).filter(|_| !place.addresses.is_empty()) {
            node.set_addresses(place.addresses.clone());
        }
        info!(node = url, id = node.node_id, cat = paired.cat, "paired with a node");
        Ok(node)
    }

    /// Pairs with the node at this place by the secret of both configs, and notes it in the audit log. Returns the id
    /// of the node.
    ///
    /// # Errors
    /// As of [`Admission::pair`].
    pub(crate) async fn pair_by_secret(&self, place: &Place, secret: &Known, limit: Duration) -> Result<String, Error> {
        let pairing = self.pairing.as_deref().ok_or_else(no_key)?;
        let node = self.pair_with(pairing, place, secret, limit).await?;
        self.audit.add(BY_SECRET, None, PAIRING, &node.url).await;
        Ok(node.node_id)
    }

    /// The nodes that the hub could pair with by the secret, with their ids as far as they are known: configured ones
    /// and those that wait for a code. None of them has the URL of a paired node, because who knows the secret must not
    /// take that node's place, and none has its key.
    pub(crate) fn unpaired(&self) -> Vec<(Place, Option<String>)> {
        let configured = self.nodes.iter().filter(|node| !node.is_discovered());
        let configured = configured.map(|node| {
            let id = node.id().map(|id| id.to_string());
            (Place { url: node.url().to_owned(), addresses: node.addresses() }, id)
        });
        let waiting = self.nodes.waiting().into_iter().filter(|node| node.needs_code);
        let waiting = waiting.map(|WaitingNode { url, addresses, node_id, .. }| (Place { url, addresses }, node_id));
        let paired: Vec<Node> = self.nodes.iter().filter(Node::is_paired).collect();
        let is_paired = |url: &str, id: &Option<String>| {
            let has_id = |node: &Node| id.is_some() && node.id().map(|id| id.to_string()) == *id;
            paired.iter().any(|node| node.url() == url || has_id(node))
        };
        configured.chain(waiting).filter(|(place, id)| !is_paired(&place.url, id)).collect()
    }

    /// Makes the paired nodes those that the store has.
    async fn follow_pairings(&self) -> Result<(), StoreError> {
        let paired = self.store.paired_nodes().await?;
        if let Some(pairing) = &self.pairing {
            let mut pins = pairing.pins.lock().await;
            let keys = paired.iter().filter_map(|node| Some((node.node_id.clone(), node.key.parse().ok()?)));
            for (id, before) in std::mem::replace(&mut *pins, keys.collect()) {
                // Its connections go on.
                if let Some(now) = pins.get(&id) {
                    pairing.keyring.change(before, *now);
                }
            }
            drop(pins);
            pairing.keyring.set(paired.iter().filter_map(|node| node.key.parse().ok()));
        }
        let urls: Vec<String> = paired.iter().map(|node| node.url.clone()).collect();
        let make = |url: &str, cat: Option<&str>| {
            let known = paired.iter().find(|node| node.url == url)?;
            let (expected, id) = (known.key.parse().ok()?, known.node_id.parse().ok()?);
            let node = match &self.pairing {
                Some(pairing) => TlsClient::new(pairing.key.clone(), vec![expected])
                    .map_err(|error| error.to_string())
                    .and_then(|tls| Node::paired(url.to_owned(), cat, id, tls).map_err(|error| error.to_string())),
                // Listed with the reason: a person would otherwise miss them without a word.
                None => Node::paired_without_key(url.to_owned(), cat, id).map_err(|error| error.to_string()),
            };
            node.inspect_err(|error| warn!(node = url, %error, "a paired node cannot be called")).ok()
        };
        // Pairing checks that there is room. Nodes that another process paired may find none: they wait for it.
        let _ = self.nodes.set_paired(&urls, make);
        for known in &paired {
            let is_it = |node: &Node| node.paired_id().is_some_and(|id| id.to_string() == known.node_id);
            if let (Some(node), Ok(key)) = (self.nodes.get(&known.url).filter(is_it), known.key.parse()) {
                node.pin_key(key);
            }
        }
        Ok(())
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

    /// Moves the history of a node whose key is lost to the node that replaces it: events, clips, labels and the
    /// admission. The old key is not trusted any more. `force`: also if both were heard at the same time.
    ///
    /// # Errors
    /// [`Code::NotFound`] if the hub knows no node by one of the names. [`Code::Conflict`] if a name is that of several
    /// nodes, if both are one node, if the old one still answers with its key, if the new one has no key, is not
    /// paired or admitted, and if both were heard at the same time. And as of the store.
    pub async fn replace(&self, old: &str, new: &str, force: bool) -> Result<Successor, Error> {
        let (own, old, new) = (self.clone(), old.to_owned(), new.to_owned());
        // It goes on when the caller goes away, so that the registry follows the store.
        let replacing = tokio::spawn(async move { own.replace_now(&old, &new, force).await });
        replacing.await.unwrap_or_else(|crash| Err(Error::new(Code::Internal, crash.to_string())))
    }

    async fn replace_now(&self, old: &str, new: &str, force: bool) -> Result<Successor, Error> {
        let _turn = self.turn.lock().await;
        let (new, url) = self.successor_named(new)?;
        let (old, old_url) = self.lost_named(old, &new).await?;
        let answers =
            |node: &Node| node.recent_description().and_then(|said| said.id).is_some_and(|id| id.to_string() == old);
        if let Some(node) = self.nodes.iter().find(answers) {
            let message = format!(
                "{} answers with the key of the node {old}, so that key is not lost; switch that node off first",
                node.url()
            );
            return Err(conflict(message));
        }
        let is_heard = self.nodes.iter().any(|node| node.id().is_some_and(|id| id.to_string() == new));
        if !is_heard && !self.nodes.admits_all() && !self.store.admitted().await?.keys.contains(&old) {
            return Err(conflict(format!("{url} waits to be admitted; admit it first: hub nodes admit {url}")));
        }
        let replacement = Replacement { old: old.clone(), new: new.clone(), new_url: url.clone(), force };
        let moved = match self.store.replace_node(replacement).await? {
            Replaced::Done(moved) => Some(moved),
            Replaced::Begun { .. } => None,
            Replaced::Moving { old, new } => {
                let message =
                    format!("the history of the node {old} still moves to {new}; try again when it has moved");
                return Err(conflict(message));
            }
            Replaced::HeardTogether => {
                let message = "both nodes were heard at the same time, so the second one did not replace the first; if \
                               it did, and a clock was wrong: hub nodes replace --force OLD NEW";
                return Err(conflict(message.into()));
            }
        };
        self.nodes.pardon(&new);
        // Another node may have its URL by now.
        if old_url != url && self.nodes.ids_at(&old_url).iter().all(|id| *id == old) {
            self.nodes.forget(&old_url);
        }
        self.read_again().await?;
        self.nodes.forget_id(&old);
        let events = moved.map(|moved| moved.events);
        info!(old, new, node = url, events, "a node has replaced one whose key is lost");
        Ok(Successor { old, new, url, moved })
    }

    /// Id and URL of the node with a key that a person means by this name: one of the hub, or one that waits.
    fn successor_named(&self, name: &str) -> Result<(String, String), Error> {
        let known = self.known_as(name, true);
        let waiting = || {
            let is_meant = |node: &WaitingNode| {
                is_named(name, &node.url, node.node_id.as_deref(), node.cat.as_deref(), &node.addresses)
            };
            self.nodes.waiting().into_iter().filter(is_meant).collect::<Vec<_>>()
        };
        let no_key = |url: &str| {
            conflict(format!("{url} has not proved an id, so it cannot replace a node; it needs a state folder"))
        };
        match known.as_slice() {
            [node] => node.id().map(|id| (id.to_string(), node.url().to_owned())).ok_or_else(|| no_key(node.url())),
            [] => match waiting().as_slice() {
                [] => Err(Error::new(Code::NotFound, format!("the hub has no node {name:?}; see hub nodes list"))),
                [node] if node.needs_code => {
                    let message = format!("{} waits for its pairing code; pair it first: hub pair CODE", node.url);
                    Err(conflict(message))
                }
                [node] => node.node_id.clone().map(|id| (id, node.url.clone())).ok_or_else(|| no_key(&node.url)),
                several => {
                    let names = several.iter().map(|node| (node.url.clone(), node.node_id.clone()));
                    Err(ambiguous(name, &names.collect::<Vec<_>>()))
                }
            },
            several => {
                let names = several.iter().map(|node| (node.url().to_owned(), node.id().map(|id| id.to_string())));
                Err(ambiguous(name, &names.collect::<Vec<_>>()))
            }
        }
    }

    /// Id and last URL of the node that a person means by this name, and that has proved another id than `new`.
    async fn lost_named(&self, name: &str, new: &str) -> Result<(String, String), Error> {
        let mut known = self.store.known_ids().await?;
        known.retain(|(id, url)| is_named(name, url, Some(id), None, &[]));
        let is_new = |(id, _): &(String, String)| id == new;
        let names_new = known.iter().any(is_new);
        known.retain(|node| !is_new(node));
        match known.as_slice() {
            [node] => Ok(node.clone()),
            [] if names_new => {
                Err(conflict(format!("the hub knows one node only by the name {name:?}; a node cannot replace itself")))
            }
            [] => {
                let message = format!(
                    "the hub has heard no node with the name {name:?} that has proved an id; name it by its id or the \
                     URL that it had"
                );
                Err(Error::new(Code::NotFound, message))
            }
            several => {
                let names: Vec<_> = several.iter().map(|(id, url)| (url.clone(), Some(id.clone()))).collect();
                Err(ambiguous(name, &names))
            }
        }
    }

    /// The nodes of the hub that a person may mean by this name. `by_cat`: the name of its cat counts too.
    fn known_as(&self, name: &str, by_cat: bool) -> Vec<Node> {
        let is_meant = |node: &Node| {
            let (id, cat) = (node.id().map(|id| id.to_string()), node.cat().filter(|_| by_cat));
            is_named(name, node.url(), id.as_deref(), cat.as_deref(), &node.addresses())
        };
        self.nodes.iter().filter(is_meant).collect()
    }

    /// The URL of a paired node that is not a node of the hub now, because there was no room.
    async fn paired_named(&self, name: &str) -> Result<Option<String>, Error> {
        let paired = self.store.paired_nodes().await?;
        let found = paired.into_iter().find(|node| is_named(name, &node.url, Some(&node.node_id), None, &[]));
        Ok(found.map(|node| node.url))
    }

    /// The URL of a node that is admitted or was known, and is not a node of the hub now. Its key if it has no URL of
    /// its own.
    async fn admitted_named(&self, name: &str) -> Result<String, Error> {
        let admitted = self.store.admitted().await?;
        let is_free = |url: &str| self.nodes.get(url).is_none_or(|node| node.is_discovered());
        let url_of = |key: &String| {
            let url = admitted.ids.iter().find(|(url, id)| id == key && is_free(url)).map(|(url, _)| url);
            url.unwrap_or(key).clone()
        };
        let keys = admitted.keys.iter().filter(|key| is_named(name, &url_of(key), Some(key), None, &[])).map(url_of);
        let known = admitted.ids.iter().filter(|(url, id)| {
            is_free(url) && self.nodes.ids_at(url).contains(id) && is_named(name, url, Some(id), None, &[])
        });
        let urls: BTreeSet<String> = keys.chain(known.map(|(url, _)| url.clone())).collect();
        let mut several = urls.iter();
        match (several.next(), several.next()) {
            (Some(url), None) => Ok(url.clone()),
            (None, _) => {
                Err(Error::new(Code::NotFound, format!("no admitted node has the name {name:?}; see hub nodes list")))
            }
            _ => Err(ambiguous(name, &urls.iter().map(|url| (url.clone(), None)).collect::<Vec<_>>())),
        }
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

    fn waiting_named(&self, name: &str) -> Result<WaitingNode, Error> {
        let waiting = self.nodes.waiting();
        if let Some(node) = waiting.iter().find(|node| node.key == name) {
            return Ok(node.clone());
        }
        // Names that a node gives itself come last: a stranger may call its cat as another node is called.
        let is_meant = |node: &&WaitingNode| is_named(name, &node.url, node.node_id.as_deref(), None, &node.addresses);
        let mut meant: Vec<_> = waiting.iter().filter(is_meant).collect();
        if meant.is_empty() && self.known_as(name, false).is_empty() {
            let has_cat = |node: &&WaitingNode| node.cat.as_deref().is_some_and(|cat| cat.eq_ignore_ascii_case(name));
            meant = waiting.iter().filter(has_cat).collect();
        }
        match meant.as_slice() {
            [node] => Ok((*node).clone()),
            [] => Err(self.why_not_waiting(name)),
            several => {
                let names = several.iter().map(|node| (node.url.clone(), node.node_id.clone()));
                Err(ambiguous(name, &names.collect::<Vec<_>>()))
            }
        }
    }

    /// Why no node waits under this name.
    fn why_not_waiting(&self, name: &str) -> Error {
        let (known, refused) = (self.known_as(name, true), self.nodes.refused_nodes());
        let is_refused =
            |node: &&WaitingNode| is_named(name, &node.url, Some(&node.key), node.cat.as_deref(), &node.addresses);
        let message = if let Some(node) = known.first() {
            let why = if node.is_discovered() { "it is admitted already" } else { "it needs no admission" };
            format!("{} does not wait: {why}", node.url())
        } else if let Some(node) = refused.iter().find(is_refused) {
            format!("{} was refused; it waits again once the hub is restarted", node.url)
        } else {
            format!("no node with the name {name:?} waits to be admitted; see hub nodes list")
        };
        Error::new(Code::NotFound, message)
    }
}

/// Whether this node would take the place of a paired one. Who knows the secret, and maybe a former key of a node, must
/// not.
fn takes_a_place(node: &PairedNode, paired: &[PairedNode]) -> bool {
    paired.iter().any(|known| known.url == node.url || known.node_id == node.node_id)
}

fn no_key() -> Error {
    conflict("the hub has no key, and its log says why".into())
}

fn conflict(message: String) -> Error {
    Error::new(Code::Conflict, message)
}

/// Several nodes have a name. Offers their URLs, or their ids if they have one URL. `nodes`: URL and id of each.
fn ambiguous(name: &str, nodes: &[(String, Option<String>)]) -> Error {
    let urls: BTreeSet<&String> = nodes.iter().map(|(url, _)| url).collect();
    let by_url = urls.len() == nodes.len();
    let names: Vec<&str> =
        nodes.iter().map(|(url, id)| id.as_deref().filter(|_| !by_url).unwrap_or(url.as_str())).collect();
    let message = format!("several nodes have the name {name:?}; use one of these: {}", names.join(", "));
    Error::new(Code::Conflict, message)
}

/// Whether a person who says `name` may mean this node: by its URL, its host name with or without `.local` and the
/// port, its IP address with or without the port, its id, the first 16 digits of it, or its cat.
fn is_named(name: &str, url: &str, id: Option<&str>, cat: Option<&str>, addresses: &[SocketAddr]) -> bool {
    let name = name.trim_end_matches('/');
    let is = |other: &str| other.eq_ignore_ascii_case(name);
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let is_short = |short: &str| is(short) || is(&format!("{short}:{port}"));
    let is_bare = || host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(is);
    let is_id = |id: &str| is(id) || id.get(..16).is_some_and(is);
    let is_address = |address: &SocketAddr| {
        let ip = address.ip().to_canonical();
        is(&ip.to_string()) || is(&SocketAddr::new(ip, address.port()).to_string())
    };
    is(url.trim_end_matches('/'))
        || is(authority)
        || is(host)
        || is_bare()
        || host.strip_suffix(".local").is_some_and(is_short)
        || addresses.iter().any(is_address)
        || id.is_some_and(is_id)
        || cat.is_some_and(is)
}

#[cfg(test)]
mod tests {
    use daemon::identity::Key;
    use hub_nodes::testing::{FakeNode, announce};
    use hub_store::events::{Progress, Watermark};
    use hub_store::{Access, SeenNode};

    use super::*;

    const KITCHEN: &str = "http://kitchen.local:50056";

    /// A hub without discovered nodes, whose store knows nodes with these ids at [`KITCHEN`].
    async fn admission(dir: &std::path::Path, ids: &[&str]) -> Admission {
        let store = Store::open(dir, Access::Keeper).unwrap();
        for (id, boot_id) in ids.iter().zip(1..) {
            let (url, node_id) = (KITCHEN.to_owned(), Some(id.repeat(64)));
            let seen = SeenNode { url, node_id, claimed_id: None, boot_id, captured_samples: 0 };
            store.see_node(seen).await.unwrap();
        }
        let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
        Admission::open(nodes, store).await.unwrap()
    }

    #[tokio::test]
    async fn node_that_would_not_be_heard_is_not_said_to_be_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &["a"]).await;
        announce(&admission.nodes, KITCHEN, FakeNode::with(vec![]).serve().await).await;
        let error = admission.admit("kitchen", By::Page).await.unwrap_err();
        assert_eq!(error.code, Code::Conflict);
        assert!(error.message.contains(&format!("hub nodes forget {KITCHEN}")), "{}", error.message);
        assert!(admission.store.admitted().await.unwrap().keys.is_empty());
        assert_eq!(admission.forget(KITCHEN).await.unwrap().url, KITCHEN);
        admission.admit("kitchen", By::Page).await.unwrap();
        assert!(admission.nodes.get(KITCHEN).is_some());
    }

    #[tokio::test]
    async fn admitted_node_that_was_heard_is_missed_after_a_restart_until_it_comes_back_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let (fake, key) = (FakeNode::with(vec![]), Arc::new(Key::generate().unwrap().0));
        fake.change(|tape| tape.key = Some(Arc::clone(&key)));
        let id = key.id().to_string();
        let before = admission(dir.path(), &[]).await;
        announce(&before.nodes, KITCHEN, fake.serve().await).await;
        before.admit("kitchen", By::Page).await.unwrap();
        let seen = |url: &str, node_id: &str| SeenNode {
            url: url.to_owned(),
            node_id: Some(node_id.to_owned()),
            claimed_id: None,
            boot_id: 7,
            captured_samples: 0,
        };
        before.store.see_node(seen(KITCHEN, &id)).await.unwrap();
        let heard = Watermark { node: KITCHEN.into(), boot_id: 7, resume_sequence: 1, settled_sample: 320 };
        before.store.commit_progress(vec![Progress { watermark: heard, gaps: vec![] }]).await.unwrap();
        // Heard, and not admitted.
        before.store.see_node(seen("http://attic.local:50056", &"b".repeat(64))).await.unwrap();
        drop(before);

        let after = admission(dir.path(), &[]).await;
        after.expect_heard().await.unwrap();
        let discovered = || after.nodes.iter().filter(|node| node.is_discovered()).map(|node| node.url().to_owned());
        assert_eq!(discovered().collect::<Vec<_>>(), [KITCHEN]);
        after.read_again().await.unwrap();
        assert_eq!(discovered().collect::<Vec<_>>(), [KITCHEN], "it is still admitted");
        let cellar = "http://cellar.local:50056";
        announce(&after.nodes, cellar, fake.serve().await).await;
        assert_eq!(discovered().collect::<Vec<_>>(), [cellar], "it is not missed under its former name");
    }

    #[tokio::test]
    async fn node_that_replaces_a_lost_one_is_admitted_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let [(old, old_key), (new, new_key)] = [(); 2].map(|()| {
            let (fake, key) = (FakeNode::with(vec![]), Arc::new(Key::generate().unwrap().0));
            fake.change(|tape| tape.key = Some(Arc::clone(&key)));
            (fake, key.id().to_string())
        });
        let shed = "http://shed.local:50056";
        let before = admission(dir.path(), &[]).await;
        announce(&before.nodes, KITCHEN, old.serve().await).await;
        before.admit("kitchen", By::Page).await.unwrap();
        let seen = |url: &str, id: &str, boot_id| SeenNode {
            url: url.to_owned(),
            node_id: Some(id.to_owned()),
            claimed_id: None,
            boot_id,
            captured_samples: 0,
        };
        before.store.see_node(seen(KITCHEN, &old_key, 7)).await.unwrap();
        let heard = Watermark { node: KITCHEN.into(), boot_id: 7, resume_sequence: 1, settled_sample: 320 };
        before.store.commit_progress(vec![Progress { watermark: heard, gaps: vec![] }]).await.unwrap();
        announce(&before.nodes, shed, new.serve().await).await;
        let refused = before.replace("kitchen", "shed", true).await.unwrap_err();
        assert!(refused.code == Code::Conflict && refused.message.contains("that key is not lost"), "{refused:?}");
        drop(before);

        let after = admission(dir.path(), &[]).await;
        after.expect_heard().await.unwrap();
        announce(&after.nodes, shed, new.serve().await).await;
        for (old, new, code, why) in [
            ("kitchen", "attic", Code::NotFound, "the hub has no node \"attic\""),
            ("attic", "shed", Code::NotFound, "has heard no node with the name \"attic\""),
            ("kitchen", "kitchen", Code::Conflict, "has not proved an id"),
        ] {
            let refused = after.replace(old, new, false).await.unwrap_err();
            assert!(refused.code == code && refused.message.contains(why), "{refused:?}");
        }
        let done = after.replace("kitchen", "shed", false).await.unwrap();
        assert_eq!((&done.old, &done.new, done.url.as_str()), (&old_key, &new_key, shed));
        assert!(after.nodes.get(KITCHEN).is_none() && after.nodes.get(shed).is_some());
        assert_eq!(after.store.admitted().await.unwrap().keys, BTreeSet::from([new_key.clone()]));
        assert_eq!(after.store.watermark(&new_key).await.unwrap().unwrap().boot_id, 7);
        let refused = after.replace(&new_key[..16], "shed", false).await.unwrap_err();
        assert!(refused.message.contains("cannot replace itself"), "{refused:?}");
        // Whoever has the lost card gets nothing.
        announce(&after.nodes, KITCHEN, old.serve().await).await;
        assert!(after.nodes.get(KITCHEN).is_none());
        assert_eq!(after.nodes.waiting().len(), 1);
    }

    #[tokio::test]
    async fn hub_without_a_key_lists_its_paired_nodes_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let own = admission(dir.path(), &[]).await;
        // What answers there without TLS is not called.
        let url = format!("http://{}", FakeNode::with(vec![]).serve().await);
        let id = Key::generate().unwrap().0.id().to_string();
        own.store.pair_node(PairedNode { url: url.clone(), node_id: id.clone(), key: id }).await.unwrap();
        own.read_again().await.unwrap();
        let node = own.nodes.get(&url).expect("it is listed");
        let error = node.describe().await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable(hub_base::error::Who::Node));
        assert!(error.message.contains("the hub has no usable key"), "{}", error.message);
        assert!(node.is_paired() && node.recent_description().is_none());
        assert_eq!(own.forget(&url).await.unwrap().url, url);
        assert!(own.nodes.get(&url).is_none());
    }

    #[tokio::test]
    async fn new_key_of_a_node_is_in_the_audit_log_once() {
        let dir = tempfile::tempdir().unwrap();
        let own = admission(dir.path(), &[]).await;
        let [old, new] = [(); 2].map(|()| Key::generate().unwrap().0);
        let (id, [old, new]) = (old.id(), [&old, &new].map(|key| key.public().fingerprint()));
        let paired = PairedNode { url: KITCHEN.into(), node_id: id.to_string(), key: old.to_string() };
        own.store.pair_node(paired).await.unwrap();
        // The second time it is known: another process of the hub may have asked the node too.
        for _ in 0..2 {
            own.change_node_key(KITCHEN, id, old, new).await.unwrap();
        }
        let entries = own.store.audit(None, 9).await.unwrap();
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((entry.who.as_str(), entry.action.as_str()), (KITCHEN, "change_node_key"));
        assert_eq!((entry.address.as_str(), entry.subject.as_str()), ("", format!("{old} to {new}").as_str()));
    }

    #[tokio::test]
    async fn name_of_a_cat_selects_a_node_only_if_no_host_has_that_name() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &[]).await;
        // The cat of a fake node is Tom.
        for host in ["stranger", "tom"] {
            announce(&admission.nodes, &format!("http://{host}.local:1"), FakeNode::with(vec![]).serve().await).await;
        }
        assert_eq!(admission.admit("tom", By::Page).await.unwrap().url, "http://tom.local:1");
        assert_eq!(admission.admit("tom", By::Page).await.unwrap_err().code, Code::NotFound);
        assert!(admission.nodes.get("http://stranger.local:1").is_none());
        admission.forget("tom.local").await.unwrap();
        assert_eq!(admission.admit("tom", By::Page).await.unwrap().url, "http://stranger.local:1");
    }

    #[tokio::test]
    async fn node_that_was_admitted_by_its_url_is_admitted_by_the_first_id_that_it_proves() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &[]).await;
        let fake = FakeNode::with(vec![]);
        announce(&admission.nodes, KITCHEN, fake.serve().await).await;
        admission.admit("kitchen", By::Page).await.unwrap();
        let node = admission.nodes.get(KITCHEN).unwrap();
        let mut known = BTreeSet::from([KITCHEN.to_owned()]);
        for is_first in [true, false] {
            fake.change(|tape| tape.key = Some(Arc::new(Key::generate().unwrap().0)));
            node.describe().await.unwrap();
            admission.follow_once().await.unwrap();
            assert_eq!(admission.store.admitted().await.unwrap().keys, known, "the id is not checked yet");
            assert_eq!(admission.nodes.may_be_heard(&node), is_first);
            if is_first {
                known.insert(node.id().unwrap().to_string());
            }
            admission.follow_once().await.unwrap();
            assert_eq!(admission.store.admitted().await.unwrap().keys, known);
        }
    }

    #[tokio::test]
    async fn node_is_forgotten_whatever_answers_there_now() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &[]).await;
        let fake = FakeNode::with(vec![]);
        fake.change(|tape| tape.key = Some(Arc::new(Key::generate().unwrap().0)));
        announce(&admission.nodes, KITCHEN, fake.serve().await).await;
        admission.admit("kitchen", By::Page).await.unwrap();
        let node = admission.nodes.get(KITCHEN).unwrap();
        assert!(node.id().is_some());
        fake.change(|tape| tape.key = None);
        node.describe().await.unwrap();
        assert!(node.id().is_none());
        assert_eq!(admission.forget("kitchen").await.unwrap().url, KITCHEN);
        assert!(admission.nodes.get(KITCHEN).is_none() && node.is_dismissed());
        assert!(admission.store.admitted().await.unwrap().keys.is_empty());
    }

    #[tokio::test]
    async fn forgotten_node_is_not_listened_to_whatever_it_was_admitted_by() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &["a", "b"]).await;
        for id in ["a", "b"] {
            assert!(admission.store.admit(id.repeat(64), "page").await.unwrap());
        }
        // Nothing has announced itself. Both ids are the node at this URL.
        assert_eq!(admission.forget("kitchen").await.unwrap().url, KITCHEN);
        assert!(admission.store.admitted().await.unwrap().keys.is_empty());
        assert!(admission.forget("kitchen").await.is_err(), "it is forgotten already");
        for host in ["attic", "cellar"] {
            assert!(admission.store.admit(format!("http://{host}:1"), "page").await.unwrap());
            assert!(admission.store.admit(format!("http://{host}:2"), "page").await.unwrap());
        }
        let error = admission.forget("attic").await.unwrap_err();
        assert_eq!(error.code, Code::Conflict);
        assert!(error.message.contains("http://attic:1, http://attic:2"), "{}", error.message);
    }

    #[tokio::test]
    async fn person_hears_why_a_node_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let admission = admission(dir.path(), &[]).await;
        let address = FakeNode::with(vec![]).serve().await;
        for host in ["kitchen", "attic"] {
            announce(&admission.nodes, &format!("http://{host}.local:50056"), address).await;
        }
        // The cat of both is Tom.
        let several = admission.admit("Tom", By::Page).await.unwrap_err().message;
        assert!(
            several.ends_with("use one of these: http://kitchen.local:50056, http://attic.local:50056"),
            "{several}"
        );
        admission.admit("kitchen.local:50056", By::Page).await.unwrap();
        admission.refuse("http://attic.local:50056/").await.unwrap();
        for (name, said) in [
            ("kitchen", "http://kitchen.local:50056 does not wait: it is admitted already"),
            ("127.0.0.1:9", "http://127.0.0.1:9 does not wait: it needs no admission"),
            ("attic", "http://attic.local:50056 was refused; it waits again once the hub is restarted"),
            ("shed", "no node with the name \"shed\" waits to be admitted; see hub nodes list"),
        ] {
            let error = admission.admit(name, By::Command).await.unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (Code::NotFound, said));
        }
    }

    #[tokio::test]
    async fn person_who_forgets_a_node_hears_how_long_that_holds() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let own = FakeNode::with(vec![]).serve().await;
        let config = format!("http://{own}").parse().unwrap();
        let nodes = Nodes::with_default_heard(&config).unwrap();
        let admission = Admission::open(nodes.clone(), store).await.unwrap();
        let error = admission.forget(&format!("http://{own}")).await.unwrap_err().message;
        assert!(error.contains("is the node on this machine"), "{error}");
        let address = FakeNode::with(vec![]).serve().await;
        announce(&nodes, KITCHEN, address).await;
        admission.admit("kitchen", By::Page).await.unwrap();
        assert!(!admission.forget("kitchen").await.unwrap().until_restart);
        nodes.admit_all();
        announce(&nodes, KITCHEN, address).await;
        assert!(admission.forget("kitchen").await.unwrap().until_restart);
    }

    #[test]
    fn node_has_the_names_by_which_people_know_it() {
        let id = "0123456789abcdef".repeat(4);
        let addresses = ["192.168.1.7:50056", "[fd00::7]:50056"].map(|address| address.parse().unwrap());
        let is_meant = |name| is_named(name, "http://kitchen.local:50056", Some(&id), Some("Tom"), &addresses);
        for name in ["http://kitchen.local:50056", "kitchen.local", "Kitchen", "tom", "0123456789ABCDEF", &id] {
            assert!(is_meant(name), "{name}");
        }
        for name in ["http://kitchen.local:50056/", "kitchen.local:50056", "kitchen:50056"] {
            assert!(is_meant(name), "{name}");
        }
        for name in ["192.168.1.7", "192.168.1.7:50056", "fd00::7", "[fd00::7]:50056"] {
            assert!(is_meant(name), "{name}");
        }
        for name in ["kit", "", "/", "0123456789", "local", "50056", "192.168.1.70", "kitchen:1", "kitchen:"] {
            assert!(!is_meant(name), "{name}");
        }
        assert!(is_named("fd00::7", "http://[fd00::7]:50056", None, None, &[]));
    }

    #[test]
    fn who_knows_the_secret_and_a_former_key_takes_no_paired_place() {
        let node = |url: &str, id: &str, key: &str| PairedNode { url: url.into(), node_id: id.into(), key: key.into() };
        let paired = [node("http://kitchen:1", "kitchen", "present")];
        assert!(takes_a_place(&node("http://thief:1", "kitchen", "former"), &paired));
        assert!(takes_a_place(&node("http://kitchen:1", "thief", "other"), &paired));
        assert!(!takes_a_place(&node("http://attic:1", "attic", "other"), &paired));
    }
}
