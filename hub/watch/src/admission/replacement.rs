//! A node takes the place of one whose key is lost.

use hub_base::error::{Code, Error};
use hub_nodes::{Node, WaitingNode};
use hub_store::{Moved, Replaced, Replacement};
use tracing::info;

use super::names::{ambiguous, is_named};
use super::{Admission, conflict};

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

impl Admission {
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
}
