//! The hub pairs with nodes by a code or by the secret of both configs, and follows changes of keys on both sides.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::identity::{Fingerprint, NodeId, OwnKey};
use daemon::pairing::{Code as PairingCode, NotACode, Refusal};
use daemon::tls::{Keyring, TlsClient};
use hub_base::error::{Code, Error};
use hub_nodes::pairing::{self, HubCard, Known, Place};
use hub_nodes::{MAX_NODES, Node, WaitingNode};
use hub_store::{MAX_PAIRED, PairedNode, StoreError};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::names::is_named;
use super::{Admission, conflict};

/// Most nodes at which a code is tried, if the person did not name the node.
pub const MAX_TRIED: usize = 4;

/// Time for a pairing with one node. A command waits longer.
const PAIR_DEADLINE: Duration = Duration::from_secs(11);

/// Time for all tries of a code for which the person did not name the node, after the nodes have said whether they show
/// a code.
const TRY_DEADLINE: Duration = Duration::from_secs(8);

/// What a change of a node's key is called in the audit log. The node stands there as who made it.
const KEY_CHANGE: &str = "change_node_key";

/// Who pairs by the secret of both configs, in the audit log, and what that is called there.
const BY_SECRET: &str = "pairing_secret";
const PAIRING: &str = "pair_node";

/// The hub, as nodes know it.
#[derive(Debug)]
pub struct HubPairing {
    /// Its key.
    pub key: OwnKey,
    /// What it tells nodes about itself.
    pub card: HubCard,
    /// One pairing at a time, so that codes are tried in the order in which people type them, and strangers cannot
    /// start many.
    turn: Mutex<()>,
    /// The keys of the paired nodes, which may call the hub.
    keyring: Keyring,
    /// The ids of the paired nodes, and the keys that they have.
    pins: Mutex<BTreeMap<String, Fingerprint>>,
}

impl HubPairing {
    /// With this key. Nodes get the card.
    pub fn new(key: OwnKey, card: HubCard) -> Self {
        Self { key, card, turn: Mutex::default(), keyring: Keyring::default(), pins: Mutex::default() }
    }
}

impl Admission {
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
    /// [`Code::BadRequest`] if the code or the host is malformed, [`Code::NotFound`] if no waiting node shows a code,
    /// [`Code::Conflict`] if the node does not know the code, or the hub has no place for it, if too many nodes show
    /// one, or another pairing is under way, and as of the node and the store.
    pub async fn pair(&self, code: &str, host: Option<&str>) -> Result<String, Error> {
        let code: PairingCode =
            code.parse().map_err(|error: NotACode| Error::new(Code::BadRequest, error.to_string()))?;
        let code = Known::Code(code);
        let place = host.map(|host| self.place_of(host)).transpose()?;
        let own = self.clone();
        // It goes on when the caller goes away, because the node may know the hub by then.
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
        // Not earlier, so that a slow node does not delay the removal of another one.
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
    pub(super) async fn follow_pairings(&self) -> Result<(), StoreError> {
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
                // Listed with the reason, so that a person does not look for them in vain.
                None => Node::paired_without_key(url.to_owned(), cat, id).map_err(|error| error.to_string()),
            };
            node.inspect_err(|error| warn!(node = url, %error, "a paired node cannot be called")).ok()
        };
        // Pairing checks that there is room. There may be none for nodes that another process paired. They wait for it.
        let _ = self.nodes.set_paired(&urls, make);
        for known in &paired {
            let is_it = |node: &Node| node.paired_id().is_some_and(|id| id.to_string() == known.node_id);
            if let (Some(node), Ok(key)) = (self.nodes.get(&known.url).filter(is_it), known.key.parse()) {
                node.pin_key(key);
            }
        }
        Ok(())
    }
}

/// Whether this node would take the place of a paired one. The secret, even together with a former key of a node, is
/// not enough for that.
pub(super) fn takes_a_place(node: &PairedNode, paired: &[PairedNode]) -> bool {
    paired.iter().any(|known| known.url == node.url || known.node_id == node.node_id)
}

fn no_key() -> Error {
    conflict("the hub has no key, and its log says why".into())
}
