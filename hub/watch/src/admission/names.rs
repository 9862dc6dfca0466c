//! Which node a person means by a name.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hub_base::error::{Code, Error};
use hub_nodes::{Node, WaitingNode};
use hub_store::PairedNode;

use super::Admission;

impl Admission {
    /// The nodes of the hub that a person may mean by this name, which may also be the key of a paired node. `by_cat`:
    /// the name of its cat counts too.
    pub(super) fn known_as(&self, name: &str, by_cat: bool) -> Vec<Node> {
        let is_meant = |node: &Node| {
            let (id, cat) = (node.id().map(|id| id.to_string()), node.cat().filter(|_| by_cat));
            is_named(name, node.url(), id.as_deref(), cat.as_deref(), &node.addresses())
                || node.pinned_key().is_some_and(|key| has_digits(name, &key.to_string()))
        };
        self.nodes.iter().filter(is_meant).collect()
    }

    /// The URL of a paired node that is not a node of the hub now, because there was no room.
    pub(super) async fn paired_named(&self, name: &str) -> Result<Option<String>, Error> {
        let paired = self.store.paired_nodes().await?;
        let is_meant = |node: &PairedNode| {
            is_named(name, &node.url, Some(&node.node_id), None, &[]) || has_digits(name, &node.key)
        };
        Ok(paired.into_iter().find(is_meant).map(|node| node.url))
    }

    /// The URL of a node that is admitted or was known, and is not a node of the hub now. Its key if it has no URL of
    /// its own.
    pub(super) async fn admitted_named(&self, name: &str) -> Result<String, Error> {
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

    pub(super) fn waiting_named(&self, name: &str) -> Result<WaitingNode, Error> {
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

/// Several nodes have a name. Offers their URLs, or their ids if they have one URL. `nodes`: URL and id of each.
pub(super) fn ambiguous(name: &str, nodes: &[(String, Option<String>)]) -> Error {
    let urls: BTreeSet<&String> = nodes.iter().map(|(url, _)| url).collect();
    let by_url = urls.len() == nodes.len();
    let names: Vec<&str> =
        nodes.iter().map(|(url, id)| id.as_deref().filter(|_| !by_url).unwrap_or(url.as_str())).collect();
    let message = format!("several nodes have the name {name:?}; use one of these: {}", names.join(", "));
    Error::new(Code::Conflict, message)
}

/// Whether a name is these hexadecimal digits, of an id or a key, or the first 16 of them, as `hub nodes list` shows
/// them.
fn has_digits(name: &str, digits: &str) -> bool {
    let is = |digits: &str| digits.eq_ignore_ascii_case(name);
    is(digits) || digits.get(..16).is_some_and(is)
}

/// Whether a person who says `name` may mean this node: by its URL, its host name with or without `.local` and the
/// port, its IP address with or without the port, its id, the first 16 digits of it, or its cat.
pub(super) fn is_named(name: &str, url: &str, id: Option<&str>, cat: Option<&str>, addresses: &[SocketAddr]) -> bool {
    let name = name.trim_end_matches('/');
    let is = |other: &str| other.eq_ignore_ascii_case(name);
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let is_short = |short: &str| is(short) || is(&format!("{short}:{port}"));
    let is_bare = || host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(is);
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
        || id.is_some_and(|id| has_digits(name, id))
        || cat.is_some_and(is)
}
