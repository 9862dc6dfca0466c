//! The registry of cat-nodes: which ones the hub knows, and which one hears a given cat.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::shutdown::CancellationToken;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::info;

use crate::address::NodeConfig;
use crate::lobby::{Lobby, Seated, WaitingNode};
use crate::node::Node;

/// Most nodes that a hub listens to, configured ones included. A node that is discovered beyond that is refused, which
/// is counted and logged.
pub const MAX_NODES: usize = 64;

/// Most entries of the list of nodes, those included that a person has taken back since the start. None can be added
/// beyond that until the hub is restarted.
const MAX_ENTRIES: usize = 4 * MAX_NODES;

/// First and longest wait before the default node, which has not answered yet, is asked again.
const DEFAULT_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The nodes of the hub: the configured ones in the order of the config, then the discovered ones in the order of their
/// discovery. Without configured nodes, the default node joins them once it has answered. A node never changes its
/// place: one that is away is still known. Only when a person takes the admission of a discovered node back, the node
/// is dismissed. Beside the nodes, the registry has the discovered nodes that wait to be admitted. Clones share the
/// registry.
#[derive(Debug, Clone)]
pub struct Nodes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: watch::Sender<Vec<Node>>,
    /// The node that is on the hub's own machine, if there is one. `None`: nodes are configured.
    default: Option<Node>,
    /// URL of the node on the hub's own machine, which no config names. `None`: nodes are configured.
    local_url: Option<String>,
    lobby: Mutex<Lobby>,
    /// How many nodes were dismissed.
    dismissals: watch::Sender<u64>,
    refused: AtomicU64,
}

/// What became of a discovered node that has answered.
#[derive(Debug)]
pub(crate) enum Received {
    /// It is a node of the hub from now on.
    Joined,
    /// It is the node that has its URL, which can be dialled at its addresses.
    AtHome,
    /// It is already known under another name.
    Known(Node),
    /// It waits until a person admits it. `true`: since now.
    Waits(bool),
    /// It has the URL of a node whose id it does not prove.
    Impostor,
    /// A person has refused it.
    Refused,
    /// There are [`MAX_NODES`] already.
    Full,
    /// Too many nodes wait, in all or at its address.
    Crowded,
}

/// Whether a URL is like those of discovered nodes: `http://HOST.local:PORT`.
fn is_discovered_url(url: &str) -> bool {
    url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':')).is_some_and(|(host, _)| host.ends_with(".local"))
}

/// The registry already holds [`MAX_NODES`] nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Nodes {
    /// The nodes of a config, of which there must be at least one. Nothing is connected yet.
    ///
    /// # Errors
    /// If a URL is not valid.
    pub fn new(configs: &[NodeConfig]) -> Result<Self, tonic::transport::Error> {
        assert!(!configs.is_empty(), "without configured nodes there is a default node");
        Ok(Self::with(configs.iter().map(Node::new).collect::<Result<_, _>>()?, None, None))
    }

    /// No configured nodes, but the default node was heard before, or no others can be discovered: it counts as
    /// configured.
    ///
    /// # Errors
    /// If its URL is not valid.
    pub fn with_default_heard(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
        let node = Node::new(config)?;
        let local_url = Some(node.url().to_owned());
        Ok(Self::with(vec![node], None, local_url))
    }

    /// No configured nodes. The default node is called while no other is known. It joins the nodes once it has
    /// answered: a hub on a machine of its own has none there, and does not miss it.
    ///
    /// # Errors
    /// If its URL is not valid.
    pub fn with_default(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
        let node = Node::new(config)?;
        let local_url = Some(node.url().to_owned());
        Ok(Self::with(Vec::new(), Some(node), local_url))
    }

    fn with(nodes: Vec<Node>, default: Option<Node>, local_url: Option<String>) -> Self {
        let (nodes, dismissals) = (watch::Sender::new(nodes), watch::Sender::new(0));
        let (lobby, refused) = (Mutex::default(), AtomicU64::new(0));
        let shared = Shared { nodes, default, local_url, lobby, dismissals, refused };
        Self { shared: Arc::new(shared) }
    }

    /// The default node, while no node is known.
    pub fn expected(&self) -> Option<Node> {
        self.shared.default.clone().filter(|_| self.known().is_empty())
    }

    /// Whether this is the node on the hub's own machine, which no config names.
    pub fn is_on_this_machine(&self, node: &Node) -> bool {
        self.shared.local_url.as_deref() == Some(node.url())
    }

    /// Asks the default node, and lets it join the nodes if it answers, unless it is known under another name. Returns
    /// whether there is nothing more to ask.
    pub(crate) async fn ask_default(&self) -> bool {
        let Some(node) = &self.shared.default else { return true };
        if self.get(node.url()).is_some() {
            return true;
        }
        if node.describe().await.is_err() {
            return false;
        }
        // Their boot ids and ids show whether it is one of them.
        let asked = self.iter().map(|known| async move { known.describe().await.is_ok() });
        futures_util::future::join_all(asked).await;
        let mine = node.description().filter(|mine| mine.boot_id != 0);
        let twin = self.iter().find(|known| {
            let theirs = known.recent_description();
            mine.as_ref()
                .zip(theirs)
                .is_some_and(|(mine, theirs)| (mine.boot_id, mine.id) == (theirs.boot_id, theirs.id))
        });
        if let Some(twin) = twin {
            info!(url = node.url(), node = twin.url(), "the node on this machine is already known");
            return true;
        }
        let added = self.shared.nodes.send_if_modified(|nodes| {
            let joins = has_room(nodes) && nodes.iter().all(|known| known.url() != node.url());
            if joins {
                nodes.push(node.clone());
            }
            joins
        });
        if added {
            info!(node = node.url(), "node on this machine found");
        }
        true
    }

    /// Asks the default node until it has answered.
    async fn await_default(&self) {
        let mut again = Backoff::new(DEFAULT_AGAIN.0, DEFAULT_AGAIN.1);
        while !self.ask_default().await {
            tokio::time::sleep(again.next_wait()).await;
        }
    }

    /// All nodes, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = Node> + use<> {
        self.known().into_iter()
    }

    fn known(&self) -> Vec<Node> {
        self.shared.nodes.borrow().iter().filter(|node| !node.is_dismissed()).cloned().collect()
    }

    /// Wakes when nodes are added. The list has dismissed nodes too.
    fn watch(&self) -> watch::Receiver<Vec<Node>> {
        self.shared.nodes.subscribe()
    }

    /// For something that is done once for each node. All nodes are new to it at first.
    pub fn newcomers(&self) -> Newcomers {
        Newcomers { nodes: self.watch(), known: Vec::new() }
    }

    /// The node with this URL.
    pub fn get(&self, url: &str) -> Option<Node> {
        self.iter().find(|node| node.url() == url)
    }

    /// The node with this URL, this id, or an id that begins with these 16 digits.
    pub fn named(&self, name: &str) -> Option<Node> {
        let has_id = |node: &Node| {
            node.id()
                .is_some_and(|id| id.to_string().eq_ignore_ascii_case(name) || id.short().eq_ignore_ascii_case(name))
        };
        self.get(name).or_else(|| self.iter().find(has_id))
    }

    /// Makes the paired nodes those with these URLs, which `make` makes with their
    /// configured cats. Another node at such a URL gives way; the cat of
    /// a configured one stays. Paired nodes that are not among the URLs are dismissed. A node that waited for its code
    /// is dialled where it was announced.
    ///
    /// # Errors
    /// If there are [`MAX_NODES`] already. The nodes that fit are added.
    pub fn set_paired(&self, urls: &[String], make: impl Fn(&str, Option<&str>) -> Option<Node>) -> Result<(), Full> {
        let mut lobby = self.lobby();
        for node in self.iter().filter(|node| node.is_paired() && !urls.iter().any(|url| url == node.url())) {
            self.dismiss(&node);
            info!(node = node.url(), "node removed: it is not listened to any more");
        }
        let mut all_fit = Ok(());
        for url in urls {
            let mut addresses = lobby.addresses_at(url);
            match self.get(url) {
                Some(node) if node.is_paired() => continue,
                Some(node) => {
                    let Some(paired) = make(url, node.configured_cat()) else { continue };
                    if addresses.is_empty() {
                        addresses = node.addresses();
                    }
                    paired.set_addresses(addresses);
                    self.replace(&node, paired);
                }
                None => {
                    let Some(node) = make(url, None) else { continue };
                    node.set_addresses(addresses);
                    all_fit = all_fit.and(self.add(node));
                }
            }
        }
        let keys: Vec<_> = self.iter().filter_map(|node| node.paired_id()).collect();
        lobby.unseat(|node| node.needs_code() && node.id().is_some_and(|id| keys.contains(&id)));
        all_fit
    }

    /// Stops using the paired node with this URL, for a new pairing with another key.
    pub fn dismiss_paired(&self, url: &str) {
        if let Some(node) = self.get(url).filter(Node::is_paired) {
            self.dismiss(&node);
        }
    }

    /// Uses another node in the place of this one, which is not used any more.
    fn replace(&self, old: &Node, new: Node) {
        self.shared.nodes.send_modify(|nodes| match nodes.iter_mut().find(|node| node.url() == old.url()) {
            Some(place) => *place = new,
            None => nodes.push(new),
        });
        self.dismiss(old);
    }

    /// Adds a node at the end.
    ///
    /// # Errors
    /// If there are [`MAX_NODES`] already.
    pub fn add(&self, node: Node) -> Result<(), Full> {
        let added = self.shared.nodes.send_if_modified(|nodes| {
            let fits = has_room(nodes);
            if fits {
                nodes.push(node);
            }
            fits
        });
        if added { Ok(()) } else { Err(Full) }
    }

    /// Admits every discovered node that no person has refused.
    pub fn admit_all(&self) {
        self.lobby().admit_all();
    }

    /// Whether every discovered node is admitted.
    pub fn admits_all(&self) -> bool {
        self.lobby().admits_all()
    }

    /// Replaces the keys of the admitted nodes (ids, or URLs of nodes without one), and adds pairs of a URL and an id
    /// that was proved there. Waiting nodes that are admitted now join. Discovered nodes that are not admitted any more
    /// are dismissed. Nodes that find no place go on waiting.
    pub fn set_admitted(&self, keys: BTreeSet<String>, ids: impl IntoIterator<Item = (String, String)>) {
        let mut lobby = self.lobby();
        let configured: Vec<Node> = self.iter().filter(|node| !node.is_discovered()).collect();
        lobby.set(keys, ids, |url| configured.iter().any(|node| node.url() == url));
        lobby.unseat(|node| self.configured_twin_of(node).is_some());
        for (node, service) in lobby.take_admitted() {
            if self.join(&mut lobby, &node).is_err() {
                lobby.seat(node, service);
            }
        }
        for node in self.iter().filter(|node| !lobby.keeps(node)) {
            self.dismiss(&node);
            info!(node = node.url(), "node forgotten: it is not listened to any more");
        }
    }

    fn dismiss(&self, node: &Node) {
        node.dismiss();
        self.shared.dismissals.send_modify(|count| *count += 1);
    }

    /// Wakes when nodes are dismissed.
    pub(crate) fn dismissals(&self) -> watch::Receiver<u64> {
        self.shared.dismissals.subscribe()
    }

    /// Whether the node with this URL was dismissed, and none has this URL now.
    pub(crate) fn is_dismissed(&self, url: &str) -> bool {
        let nodes = self.shared.nodes.borrow();
        let mut of_url = nodes.iter().filter(|node| node.url() == url).peekable();
        of_url.peek().is_some() && of_url.all(Node::is_dismissed)
    }

    /// Adds an admitted node that was heard before the hub started, by the key under which it was admitted, so that it
    /// is missed if it does not come back. Does nothing if there is a node with this URL, or no place, or if the URL is
    /// not that of a discovered node.
    pub fn expect(&self, key: &str, url: &str) {
        let mut lobby = self.lobby();
        if self.get(url).is_some() || !is_discovered_url(url) {
            return;
        }
        let Ok(node) = Node::discovered(url.to_owned()) else { return };
        if self.add(node).is_ok() {
            lobby.expect(key, url);
            info!(node = url, "a node that was heard before is expected");
        }
    }

    fn join(&self, lobby: &mut Lobby, node: &Node) -> Result<(), Full> {
        match self.get(node.url()) {
            Some(entry) => {
                entry.set_addresses(node.addresses());
            }
            None => {
                // It may have been expected at the URL that it had before.
                let has_moved = |old: &Node| old.description().is_none() && lobby.is_expected(old.url(), node);
                let before: Vec<Node> = self.iter().filter(has_moved).collect();
                for old in before {
                    lobby.expect_no_more(old.url());
                    self.dismiss(&old);
                }
                self.add(node.clone())?;
            }
        }
        lobby.learn(node);
        info!(node = node.url(), addresses = ?node.addresses(), "node discovered");
        Ok(())
    }

    /// Decides about a discovered node that has answered, and was announced as this service.
    pub(crate) fn receive(&self, node: Node, service: &str) -> Received {
        let mut lobby = self.lobby();
        if node.needs_code() {
            if let Some(known) = self.known_as_closed(&node) {
                // What is configured is dialled where it was, whoever announces its name.
                let is_at_home = known.url() == node.url() && known.is_paired();
                return if is_at_home { Received::AtHome } else { Received::Known(known) };
            }
        } else if let Some(entry) = self.get(node.url()) {
            // What answers without TLS in the place of a paired node is that node only if it proves the same key.
            if entry.is_paired() && entry.paired_id() == node.id() {
                return Received::AtHome;
            }
            if !entry.is_paired() && lobby.may_stand_for(&entry, &node, &self.known()) {
                lobby.learn(&node);
                return Received::AtHome;
            }
            if node.id().is_none() {
                return Received::Impostor;
            }
        } else if let Some(twin) = self.twin_of(&node) {
            return Received::Known(twin);
        } else if lobby.admits(&node) {
            return if self.join(&mut lobby, &node).is_ok() { Received::Joined } else { Received::Full };
        } else if let Some(configured) = self.configured_twin_of(&node) {
            return Received::Known(configured);
        }
        match lobby.seat(node, service.to_owned()) {
            Seated::New => Received::Waits(true),
            Seated::Again => Received::Waits(false),
            Seated::Refused => Received::Refused,
            Seated::Full => Received::Crowded,
        }
    }

    /// The node of the hub that a node which answers only after it is paired is already: a paired one with its key, a
    /// configured one at its URL, or one of this machine, which is heard without a pairing and has proved its id.
    fn known_as_closed(&self, node: &Node) -> Option<Node> {
        let is_at_home = |entry: &Node| entry.url() == node.url();
        let has_key = |entry: &Node| entry.paired_id().is_some() && entry.paired_id() == node.id();
        let answers = |entry: &Node| is_at_home(entry) || entry.recent_description().is_some();
        let is_heard = |entry: &Node| {
            let has_its_id = entry.id().is_some() && entry.id() == node.id();
            has_its_id && !entry.is_discovered() && entry.recent_description().is_some()
        };
        self.iter().find(|entry| {
            has_key(entry) && answers(entry) || is_at_home(entry) && !entry.is_discovered() || is_heard(entry)
        })
    }

    /// Of the waiting nodes that were announced as `service`, only those with these keys are there still.
    pub(crate) fn keep_waiting(&self, service: &str, keys: &[String]) {
        self.lobby().keep_of(service, keys);
    }

    /// Whether a node with an id is known to have this node's URL.
    pub(crate) fn knows_id_at(&self, node: &Node) -> bool {
        self.lobby().knows_id_at(node)
    }

    /// Whether there is a node with this URL, or an id is known there.
    pub(crate) fn knows_url(&self, url: &str) -> bool {
        let has_id = || Node::discovered(url.to_owned()).is_ok_and(|node| self.knows_id_at(&node));
        self.get(url).is_some() || has_id()
    }

    /// Whether the hub may listen to what has answered last at this node's URL. `false`: the node was discovered, and
    /// another one answers there, which no person has admitted.
    pub fn may_be_heard(&self, node: &Node) -> bool {
        let all = self.known();
        self.lobby().may_be_heard(node, &all)
    }

    /// The discovered nodes that wait to be admitted, in the order of their coming. At most
    /// [`MAX_WAITING`](crate::MAX_WAITING).
    pub fn waiting(&self) -> Vec<WaitingNode> {
        self.lobby().waiting()
    }

    /// The nodes that a person has refused since the start, as they waited.
    pub fn refused_nodes(&self) -> Vec<WaitingNode> {
        self.lobby().refused()
    }

    /// The ids that were proved at a URL and count there.
    pub fn ids_at(&self, url: &str) -> BTreeSet<String> {
        self.lobby().ids_at(url)
    }

    /// The keys under which the node at a URL may be admitted: the URL, and every id that counts there, except those
    /// that another node has recently proved: two machines may have swapped their names.
    pub fn keys_at(&self, url: &str) -> BTreeSet<String> {
        let mut keys = self.lobby().keys_at(url);
        for other in self.iter().filter(|other| other.url() != url) {
            if let Some(id) = other.recent_description().and_then(|description| description.id) {
                keys.remove(&id.to_string());
            }
        }
        keys
    }

    /// Forgets which nodes were at a URL that is not configured, and dismisses the node there.
    pub fn forget(&self, url: &str) {
        let mut lobby = self.lobby();
        lobby.forget(url);
        if let Some(node) = self.get(url).filter(Node::is_discovered) {
            self.dismiss(&node);
            info!(node = url, "node forgotten: it is not listened to any more");
        }
    }

    /// Forgets an id whose key is lost: it counts at no URL any more.
    pub fn forget_id(&self, id: &str) {
        self.lobby().forget_id(id);
    }

    /// Drops a waiting node, and does not let it wait again until the hub stops. A discovered node with this key that
    /// the hub listens to is dismissed.
    pub fn refuse(&self, key: &str) {
        let mut lobby = self.lobby();
        lobby.refuse(key.to_owned());
        for node in self.iter().filter(|node| !lobby.keeps(node)) {
            self.dismiss(&node);
            info!(node = node.url(), "node refused: it is not listened to any more");
        }
    }

    /// Takes a refusal back.
    pub fn pardon(&self, key: &str) {
        self.lobby().pardon(key);
    }

    /// Whether another node can be added.
    pub fn has_room(&self) -> bool {
        has_room(&self.shared.nodes.borrow())
    }

    fn lobby(&self) -> MutexGuard<'_, Lobby> {
        self.shared.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a discovered node that was refused.
    pub fn count_refused(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the hub turned away an announced node: there were [`MAX_NODES`] already, too many waited, or it
    /// claimed the URL of another node.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The same node under another name, if there is one. What proves or claims the key of a paired node is that node,
    /// whether it answers over TLS or not: nobody gets the hub to call it in plain. A paired node is no other's twin.
    /// Else it is an entry that has recently answered with the same boot id. Of two that have proved the same id, the
    /// earlier one counts. A node that proves no id gives way to one that does, since it may only repeat what the other
    /// says; a configured one only if it claims that id itself, so that nobody else can silence it. Of two that prove
    /// none, the earlier one counts, unless the later one is configured: then it is so on purpose.
    pub fn twin_of(&self, node: &Node) -> Option<Node> {
        let pairings = || self.iter().filter(|other| other.is_paired());
        if let Some(key) = node.paired_id() {
            let first = pairings().find(|other| other.paired_id() == Some(key));
            return first.filter(|first| first.url() != node.url());
        }
        let said = node.recent_description();
        let keys = said.as_ref().map(|said| [said.id, said.claimed_id]).unwrap_or_default();
        if let Some(paired) = pairings().find(|other| keys.contains(&other.paired_id())) {
            return Some(paired);
        }
        let mine = node.recent_description().filter(|description| description.boot_id != 0)?;
        let mut is_earlier = true;
        self.iter().find(|other| {
            if other.url() == node.url() {
                is_earlier = false;
                return false;
            }
            let theirs = other.recent_description().filter(|theirs| theirs.boot_id == mine.boot_id);
            theirs.is_some_and(|theirs| match (mine.id, theirs.id) {
                (Some(mine), Some(theirs)) => is_earlier && mine == theirs,
                (Some(_), None) => false,
                (None, Some(theirs)) => node.is_discovered() || mine.claimed_id == Some(theirs),
                (None, None) => is_earlier && node.is_discovered(),
            })
        })
    }

    /// The configured node that a discovered one, which has proved its id, is too: it has the same boot id, and proves
    /// or claims that id. Behind a forwarded port a node proves no id, because the hub dials another address than its
    /// own. Its owner wrote the address down, so the claim is believed.
    fn configured_twin_of(&self, node: &Node) -> Option<Node> {
        let mine = node.description().filter(|description| description.boot_id != 0)?;
        let id = mine.id?;
        self.iter().filter(|other| !other.is_discovered()).find(|other| {
            let theirs = other.recent_description().filter(|theirs| theirs.boot_id == mine.boot_id);
            theirs.is_some_and(|theirs| theirs.id.or(theirs.claimed_id) == Some(id))
        })
    }

    /// All nodes, each under one name only.
    pub fn distinct(&self) -> Vec<Node> {
        self.iter().filter(|node| self.twin_of(node).is_none()).collect()
    }

    /// Pairs of nodes that have recently proved one id in different boots: copies of one key.
    pub fn of_one_id(&self) -> Vec<(Node, Node)> {
        let described: Vec<_> = self.iter().filter_map(|node| Some((node.recent_description()?, node))).collect();
        let mut pairs = Vec::new();
        for (place, (mine, node)) in described.iter().enumerate() {
            let copy = described[..place]
                .iter()
                .find(|(theirs, _)| mine.id.is_some() && theirs.id == mine.id && theirs.boot_id != mine.boot_id);
            pairs.extend(copy.map(|(_, other)| (other.clone(), node.clone())));
        }
        pairs
    }

    /// The node that hears this cat: the one that is configured for it, else the one that describes itself so. Names
    /// that no node claims go to the default node if it is known, else to the first node.
    pub fn for_cat(&self, cat: &str) -> Node {
        let nodes = self.known();
        let configured = || nodes.iter().find(|node| node.configured_cat() == Some(cat));
        let described =
            || nodes.iter().find(|node| node.configured_cat().is_none() && node.cat().is_some_and(|name| name == cat));
        let default = self.shared.default.as_ref();
        let first = || nodes.iter().find(|node| default.is_some_and(|default| default.url() == node.url()));
        let claimed = configured().or_else(described).or_else(first).or(nodes.first()).or(default);
        claimed.expect("without configured nodes there is a default node").clone()
    }

    /// Asks each node every few seconds to describe itself, until `stop`. This also keeps the connections open, so that
    /// the first call after an outage finds one.
    pub async fn keep_described(&self, stop: &CancellationToken) {
        let mut newcomers = self.newcomers();
        let mut described = FuturesUnordered::new();
        let mut default = std::pin::pin!(self.await_default());
        let mut awaits_default = true;
        loop {
            described.extend(newcomers.take().into_iter().map(|node| async move { node.keep_described().await }));
            tokio::select! {
                Some(()) = described.next() => {}
                () = &mut default, if awaits_default => awaits_default = false,
                () = newcomers.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

/// The nodes that were added to a list since somebody last looked.
#[derive(Debug)]
pub struct Newcomers {
    nodes: watch::Receiver<Vec<Node>>,
    /// Those that were returned, as long as the hub uses them. A node that is paired takes the place of the one at its
    /// URL, so places in the list do not tell.
    known: Vec<Node>,
}

impl Newcomers {
    /// The nodes that the hub uses and that were not returned before.
    pub fn take(&mut self) -> Vec<Node> {
        self.known.retain(|node| !node.is_dismissed());
        let is_new = |node: &&Node| !node.is_dismissed() && !self.known.iter().any(|known| known.is(node));
        let new: Vec<Node> = self.nodes.borrow_and_update().iter().filter(is_new).cloned().collect();
        self.known.extend(new.iter().cloned());
        new
    }

    /// Waits until the list has changed since the last [`Self::take`].
    pub async fn changed(&mut self) {
        if self.nodes.changed().await.is_err() {
            // The list is gone, and nobody can add to it.
            std::future::pending::<()>().await;
        }
    }
}

fn has_room(nodes: &[Node]) -> bool {
    nodes.len() < MAX_ENTRIES && nodes.iter().filter(|node| !node.is_dismissed()).count() < MAX_NODES
}

#[cfg(test)]
mod tests;
