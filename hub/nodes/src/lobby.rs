//! Who may be a node of the hub: the keys of the nodes that a person has admitted, and the discovered nodes that wait
//! to be admitted. The key of a node is its id if it has proved one, else its URL.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hub_base::time::now_ns;

use crate::node::Node;

/// Most nodes that wait to be admitted. One that comes when so many wait is turned away, which is counted and logged.
pub const MAX_WAITING: usize = 64;

/// Most waiting nodes at one IP address, so that one machine with many names leaves places for others.
pub const MAX_PER_ADDRESS: usize = 4;

/// Most nodes whose refusal is remembered until the hub stops. One that is refused beyond that may wait again.
const MAX_REFUSED: usize = 256;

/// A discovered node that waits to be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingNode {
    /// Its id if it has proved one, else its URL.
    pub key: String,
    /// The URL that it will have.
    pub url: String,
    /// The id that it has proved, 64 hexadecimal digits.
    pub node_id: Option<String>,
    /// The cat that it hears, by its own word.
    pub cat: Option<String>,
    /// Version of its program. Empty: it does not say.
    pub version: String,
    /// Where it answered.
    pub addresses: Vec<SocketAddr>,
    /// Since when it waits, in nanoseconds since 1970 UTC.
    pub since_ns: i64,
    /// It answers only after it is paired, so it cannot be admitted: `cat-node pair` on it shows a code.
    pub needs_code: bool,
}

/// A node in the lobby.
#[derive(Debug)]
struct Newcomer {
    key: String,
    node: Node,
    /// Full name of the announced service, which a withdrawal refers to.
    service: String,
    since_ns: i64,
}

/// What the lobby did with a node that is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seated {
    /// It waits since now.
    New,
    /// It waits already.
    Again,
    /// A person has refused it.
    Refused,
    /// Too many nodes wait, in all or at its address.
    Full,
}

/// The admitted keys, and the nodes that wait.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
    /// Every discovered node is admitted, unless it is refused.
    admits_all: bool,
    admitted: BTreeSet<String>,
    /// By key. `None`: the node was a node of the hub and did not wait.
    refused: BTreeMap<String, Option<WaitingNode>>,
    /// The ids that were proved at each URL.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// Ids that came to a configured URL after another one. They are heard there and vouch for nothing elsewhere.
    doubted: BTreeSet<String>,
    /// Pairs of URL and id that a person has forgotten since the start. The store still has them, for its events.
    forgotten: BTreeSet<(String, String)>,
    /// The keys under which the discovered nodes of the hub were admitted, by their URLs.
    joined: BTreeMap<String, String>,
    waiting: Vec<Newcomer>,
}

/// The key of a node: its id if it has proved one, else its URL.
pub(crate) fn key_of(node: &Node) -> String {
    node.id().map_or_else(|| node.url().to_owned(), |id| id.to_string())
}

impl Lobby {
    pub(crate) fn admit_all(&mut self) {
        self.admits_all = true;
    }

    pub(crate) fn admits_all(&self) -> bool {
        self.admits_all
    }

    /// Replaces the admitted keys, and adds ids that were proved at URLs. At a configured URL every id is heard, so an
    /// id that came there after another one is trusted nowhere else.
    pub(crate) fn set(
        &mut self,
        admitted: BTreeSet<String>,
        ids: impl IntoIterator<Item = (String, String)>,
        is_configured: impl Fn(&str) -> bool,
    ) {
        self.admitted = admitted;
        let mut new: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (url, id) in ids.into_iter().filter(|pair| !self.forgotten.contains(pair)) {
            if !self.ids.get(&url).is_some_and(|known| known.contains(&id)) {
                new.entry(url).or_default().insert(id);
            }
        }
        for (url, ids) in new {
            let is_first = !self.ids.contains_key(&url) && ids.len() == 1;
            if is_configured(&url) && !is_first {
                let known = |id: &&String| self.ids.values().any(|ids| ids.contains(*id));
                let doubted: Vec<_> = ids.iter().filter(|id| !known(id)).cloned().collect();
                self.doubted.extend(doubted);
            }
            self.ids.entry(url).or_default().extend(ids);
        }
    }

    /// Whether a node is admitted. An admitted URL counts for the first id that is proved there, and for no other.
    pub(crate) fn admits(&self, node: &Node) -> bool {
        let key = key_of(node);
        if self.refused.contains_key(&key) {
            return false;
        }
        let is_admitted_by_url = || {
            let ids = self.ids.get(node.url());
            self.admitted.contains(node.url()) && ids.is_none_or(|ids| ids.contains(&key))
        };
        self.admits_all || self.admitted.contains(&key) && node.id().is_some() || is_admitted_by_url()
    }

    /// Whether a node of the hub may stay one. Those that were not discovered may, and so do those that are paired:
    /// they leave when the pairing ends.
    pub(crate) fn keeps(&self, node: &Node) -> bool {
        let is_admitted_here = node.is_discovered() && !node.is_paired();
        let Some(key) = self.joined.get(node.url()).filter(|_| is_admitted_here) else { return true };
        let is_admitted = || self.admitted.contains(key) || self.admitted.contains(node.url());
        !self.refused.contains_key(key) && (self.admits_all || is_admitted())
    }

    /// The ids that were proved at a URL.
    pub(crate) fn ids_at(&self, url: &str) -> BTreeSet<String> {
        self.ids.get(url).cloned().unwrap_or_default()
    }

    /// The keys under which what is at a URL may be admitted: the URL, and every id that counts there.
    pub(crate) fn keys_at(&self, url: &str) -> BTreeSet<String> {
        let mut keys = self.ids_at(url);
        keys.extend(self.joined.get(url).cloned());
        keys.insert(url.to_owned());
        keys
    }

    /// Forgets which nodes were at a URL.
    pub(crate) fn forget(&mut self, url: &str) {
        self.joined.remove(url);
        let ids = self.ids.remove(url).unwrap_or_default();
        self.forgotten.extend(ids.into_iter().map(|id| (url.to_owned(), id)));
    }

    /// Forgets an id at every URL where it was proved.
    pub(crate) fn forget_id(&mut self, id: &str) {
        for (url, _) in self.ids.iter_mut().filter_map(|(url, ids)| ids.remove(id).then_some((url, ids))) {
            self.forgotten.insert((url.clone(), id.to_owned()));
        }
        self.ids.retain(|_, ids| !ids.is_empty());
        self.doubted.remove(id);
    }

    /// Notes that the node is the one at its URL.
    pub(crate) fn learn(&mut self, node: &Node) {
        self.joined.insert(node.url().to_owned(), key_of(node));
        if let Some(id) = node.id() {
            self.note_id(node.url(), id.to_string());
        }
    }

    fn note_id(&mut self, url: &str, id: String) {
        let pair = (url.to_owned(), id);
        self.forgotten.remove(&pair);
        self.ids.entry(pair.0).or_default().insert(pair.1);
    }

    /// The node that was admitted under this key is expected at this URL.
    pub(crate) fn expect(&mut self, key: &str, url: &str) {
        self.joined.insert(url.to_owned(), key.to_owned());
    }

    /// The node that was expected at this URL is elsewhere.
    pub(crate) fn expect_no_more(&mut self, url: &str) {
        self.joined.remove(url);
    }

    /// Whether this node is the one that is expected at a URL.
    pub(crate) fn is_expected(&self, url: &str, node: &Node) -> bool {
        self.joined.get(url).is_some_and(|key| *key == key_of(node))
    }

    /// Whether a node that was known before is at this URL: one that has proved an id there.
    pub(crate) fn knows_id_at(&self, entry: &Node) -> bool {
        self.ids.contains_key(entry.url()) || entry.id().is_some()
    }

    /// Whether what answered at announced addresses may take the place of `entry`, which has the same URL: it proves
    /// the id that is known there, or that of another node which the hub trusts, because two machines may swap their
    /// names.
    pub(crate) fn may_stand_for(&self, entry: &Node, answered: &Node, all: &[Node]) -> bool {
        let Some(id) = answered.id() else { return !self.knows_id_at(entry) };
        let key = id.to_string();
        if self.refused.contains_key(&key) {
            return false;
        }
        match self.ids.get(entry.url()) {
            Some(ids) if ids.contains(&key) => return true,
            Some(_) => {}
            None if entry.id().is_none_or(|known| known == id) => return true,
            None => {}
        }
        let is_known_elsewhere = || {
            all.iter().any(|node| match self.ids.get(node.url()) {
                Some(ids) => ids.contains(&key) && !self.doubted.contains(&key),
                None => node.id() == Some(id),
            })
        };
        self.admitted.contains(&key) || (self.admits_all && entry.is_discovered()) || is_known_elsewhere()
    }

    /// Whether the hub may listen to what answers now at a node's URL, whatever address was dialled: see
    /// [`may_stand_for`](Self::may_stand_for). If so, its id is known there from now on.
    ///
    /// At a configured URL everything is heard: the owner wrote the address down, and may have replaced the board,
    /// whose new id nobody has announced or admitted. Such an id is doubted: see [`set`](Self::set).
    pub(crate) fn may_be_heard(&mut self, node: &Node, all: &[Node]) -> bool {
        if !node.is_discovered() {
            return true;
        }
        // Looked at once: the node may describe itself again at any time.
        let id = node.id();
        // A paired node has proved its key before it said anything.
        let may = node.is_paired() || self.may_stand_for(node, node, all) && node.id() == id;
        if let Some(id) = id.filter(|_| may) {
            self.note_id(node.url(), id.to_string());
        }
        may
    }

    /// Lets a node wait, unless it was refused or there is no place.
    pub(crate) fn seat(&mut self, node: Node, service: String) -> Seated {
        let key = key_of(&node);
        if self.refused.contains_key(&key) {
            return Seated::Refused;
        }
        if let Some(known) = self.waiting.iter_mut().find(|known| known.key == key) {
            (known.node, known.service) = (node, service);
            return Seated::Again;
        }
        let hosts = hosts(&node);
        let at_one_address = hosts.iter().map(|host| self.waiting_at(*host)).max().unwrap_or(0);
        if self.waiting.len() >= MAX_WAITING || at_one_address >= MAX_PER_ADDRESS {
            return Seated::Full;
        }
        self.waiting.push(Newcomer { key, node, service, since_ns: now_ns() });
        Seated::New
    }

    fn waiting_at(&self, host: IpAddr) -> usize {
        self.waiting.iter().filter(|known| hosts(&known.node).contains(&host)).count()
    }

    /// Of the nodes that one announcement led to, only these are there still.
    pub(crate) fn keep_of(&mut self, service: &str, keys: &[String]) {
        self.waiting.retain(|known| known.service != service || keys.contains(&known.key));
    }

    /// Drops the waiting nodes that have turned out to be nodes of the hub.
    pub(crate) fn unseat(&mut self, is_known: impl Fn(&Node) -> bool) {
        self.waiting.retain(|known| !is_known(&known.node));
    }

    /// Takes the nodes out that are admitted by now.
    pub(crate) fn take_admitted(&mut self) -> Vec<(Node, String)> {
        let all = std::mem::take(&mut self.waiting);
        let joins = |known: &Newcomer| !known.node.needs_code() && self.admits(&known.node);
        let (admitted, waiting) = all.into_iter().partition(joins);
        self.waiting = waiting;
        Vec::<Newcomer>::into_iter(admitted).map(|known| (known.node, known.service)).collect()
    }

    /// Drops a node, and does not let it wait again until the hub stops.
    pub(crate) fn refuse(&mut self, key: String) {
        let waited = self.waiting.iter().find(|known| known.key == key).map(Newcomer::shown);
        self.waiting.retain(|known| known.key != key);
        if self.refused.len() < MAX_REFUSED || self.refused.contains_key(&key) {
            let before = self.refused.remove(&key).flatten();
            self.refused.insert(key, waited.or(before));
        }
    }

    /// The refused nodes that waited before.
    pub(crate) fn refused(&self) -> Vec<WaitingNode> {
        self.refused.values().flatten().cloned().collect()
    }

    /// A person wants the node after all.
    pub(crate) fn pardon(&mut self, key: &str) {
        self.refused.remove(key);
    }

    /// Where the waiting node with this URL was announced. Empty: none waits.
    pub(crate) fn addresses_at(&self, url: &str) -> Vec<SocketAddr> {
        self.waiting
            .iter()
            .find(|known| known.node.url() == url)
            .map(|known| known.node.addresses())
            .unwrap_or_default()
    }

    pub(crate) fn waiting(&self) -> Vec<WaitingNode> {
        self.waiting.iter().map(Newcomer::shown).collect()
    }
}

impl Newcomer {
    fn shown(&self) -> WaitingNode {
        let described = self.node.description();
        WaitingNode {
            key: self.key.clone(),
            url: self.node.url().to_owned(),
            node_id: self.node.id().map(|id| id.to_string()),
            cat: self.node.cat(),
            version: described.map(|described| described.version).unwrap_or_default(),
            addresses: self.node.addresses(),
            since_ns: self.since_ns,
            needs_code: self.node.needs_code(),
        }
    }
}

fn hosts(node: &Node) -> BTreeSet<IpAddr> {
    node.addresses().into_iter().map(|address| address.ip().to_canonical()).collect()
}
