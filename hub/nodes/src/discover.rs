//! Finds nodes that announce themselves on the local network by mDNS.
//!
//! A node that is found is called `http://HOST.local:PORT`, by the name and port that it announces. That stays the same when
//! its address changes or it starts anew, as it must: what was heard is stored under that URL. The addresses behind the name
//! are those of its last announcement, so the system need not know names in `.local`.
//!
//! An announcement becomes a node of the hub once it has answered like one, unless it turns out to be one that the hub has
//! already, by its boot id. It then stays until the hub stops: a node that takes its announcement back, or whose announcement
//! is not renewed, is shown as away when it does not answer, and not before.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use proto::NODE_SERVICE;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::{Full, MAX_NODES, Node, Nodes};

/// First and longest wait before the network is listened to again when that was not possible: it may not be there yet.
const BROWSE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// First and longest wait before an announced node that did not answer is asked again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Longest name of a machine, in bytes: that of a DNS label.
const MAX_HOST_BYTES: usize = 63;

/// Looks for nodes and adds them to the others, until `stop`.
pub async fn discover(nodes: Nodes, stop: CancellationToken) {
    let mut again = Backoff::new(BROWSE_AGAIN.0, BROWSE_AGAIN.1);
    let mut quiet = Quiet::new(LOG_PERIOD);
    let mut finder = Finder::new(nodes);
    loop {
        let ended = match Browser::start() {
            Ok(browser) => tokio::select! {
                ended = finder.follow(&browser.events) => ended,
                () = stop.cancelled() => return,
            },
            Err(error) => error.to_string(),
        };
        if let Some(held_back) = quiet.allow() {
            warn!(error = ended, held_back, "not looking for nodes by mDNS");
        }
        tokio::select! {
            () = tokio::time::sleep(again.next_wait()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The thread that listens to the network; it ends when this is dropped.
struct Browser {
    mdns: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Browser {
    fn start() -> mdns_sd::Result<Self> {
        let mdns = ServiceDaemon::new()?;
        let events = mdns.browse(NODE_SERVICE)?;
        Ok(Self { mdns, events })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.mdns.shutdown();
    }
}

/// What one announcement says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announcement {
    /// Full name of the service: what names it when it is taken back.
    name: String,
    url: String,
    /// Those that another machine can reach it by; none, when they are not known yet.
    addresses: Vec<SocketAddr>,
}

/// A node that was announced and has not answered yet.
struct Candidate {
    node: Node,
    name: String,
    asking: AbortHandle,
}

/// Turns announcements into nodes.
struct Finder {
    nodes: Nodes,
    /// By URL. At most [`MAX_NODES`]; further ones are refused like nodes.
    candidates: BTreeMap<String, Candidate>,
    asking: JoinSet<Node>,
    full_log: Quiet,
    odd_log: Quiet,
}

impl Finder {
    fn new(nodes: Nodes) -> Self {
        let (full_log, odd_log) = (Quiet::new(LOG_PERIOD), Quiet::new(LOG_PERIOD));
        Self { nodes, candidates: BTreeMap::new(), asking: JoinSet::new(), full_log, odd_log }
    }

    /// Follows what is announced. Says why that came to an end.
    async fn follow(&mut self, events: &Receiver<ServiceEvent>) -> String {
        loop {
            tokio::select! {
                event = events.recv_async() => match event {
                    Ok(ServiceEvent::ServiceResolved(service)) => match Announcement::of(&service) {
                        Some(announcement) => self.take(announcement),
                        None => if let Some(held_back) = self.odd_log.allow() {
                            let (name, host) = (service.get_fullname(), service.get_hostname());
                            warn!(name, host, held_back, "announced node has no usable name");
                        },
                    },
                    Ok(ServiceEvent::ServiceRemoved(_, name)) => self.forget(&name),
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                },
                Some(answered) = self.asking.join_next() => {
                    // An error means that it was taken back while it was asked.
                    if let Ok(node) = answered {
                        self.admit(node);
                    }
                }
            }
        }
    }

    fn take(&mut self, announcement: Announcement) {
        let Announcement { name, url, addresses } = announcement;
        if addresses.is_empty() {
            // They come with a later one.
            return;
        }
        if let Some(node) = self.nodes.get(&url) {
            if node.set_addresses(addresses.clone()) {
                info!(node = url, ?addresses, "node announced");
            }
        } else if let Some(candidate) = self.candidates.get_mut(&url) {
            candidate.node.set_addresses(addresses);
            candidate.name = name;
        } else if self.candidates.len() >= MAX_NODES {
            self.refuse(&url);
        } else if let Ok(node) = Node::discovered(url.clone()) {
            node.set_addresses(addresses);
            let asking = self.asking.spawn(ask(node.clone(), self.nodes.clone()));
            self.candidates.insert(url, Candidate { node, name, asking });
        }
    }

    /// An announcement was taken back. A node that has ever answered is kept.
    fn forget(&mut self, name: &str) {
        self.candidates.retain(|_, candidate| {
            let stays = candidate.name != name;
            if !stays {
                candidate.asking.abort();
            }
            stays
        });
    }

    /// A candidate has answered.
    fn admit(&mut self, node: Node) {
        self.candidates.remove(node.url());
        // It left and came back while it was asked, and was asked twice.
        if self.nodes.iter().any(|known| known.url() == node.url()) {
            return;
        }
        if let Some(twin) = self.nodes.twin_of(&node) {
            info!(url = node.url(), node = twin.url(), "announced node is known already");
            return;
        }
        let url = node.url().to_owned();
        let addresses = node.addresses();
        match self.nodes.add(node) {
            Ok(()) => info!(node = url, ?addresses, "node discovered"),
            Err(Full) => self.refuse(&url),
        }
    }

    fn refuse(&mut self, url: &str) {
        self.nodes.count_refused();
        if let Some(held_back) = self.full_log.allow() {
            warn!(url, most = MAX_NODES, held_back, "announced node is not taken, there are too many");
        }
    }
}

/// Asks a node until it answers, and then those that the hub has, so that it shows whether it is one of them.
async fn ask(node: Node, nodes: Nodes) -> Node {
    let mut again = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
    let mut quiet = Quiet::new(LOG_PERIOD);
    while let Err(error) = node.describe().await {
        if let Some(held_back) = quiet.allow() {
            warn!(url = node.url(), code = error.code.as_str(), %error, held_back, "announced node does not answer");
        }
        tokio::time::sleep(again.next_wait()).await;
    }
    let asked = nodes.iter().map(|known| async move { known.describe().await.is_ok() });
    futures_util::future::join_all(asked).await;
    node
}

impl Announcement {
    /// `None`: it has no name that a URL can be made of. What comes from the network is not trusted to have.
    fn of(service: &ResolvedService) -> Option<Self> {
        let host = service.get_hostname().trim_end_matches('.').to_ascii_lowercase();
        let label = host.strip_suffix(".local")?;
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain || !(1..=MAX_HOST_BYTES).contains(&label.len()) || service.get_port() == 0 {
            return None;
        }
        let mut addresses: Vec<SocketAddr> =
            service.get_addresses().iter().filter_map(|address| socket_address(address, service.get_port())).collect();
        addresses.sort_unstable();
        let url = format!("http://{host}:{}", service.get_port());
        Some(Self { name: service.get_fullname().to_owned(), url, addresses })
    }
}

/// `None`: nothing that another machine can be reached by.
fn socket_address(address: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let ip = address.to_ip_addr();
    if ip.to_canonical().is_loopback() || ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    match (ip, address) {
        (IpAddr::V6(ip), ScopedIp::V6(scoped)) if ip.is_unicast_link_local() => {
            Some(SocketAddrV6::new(ip, port, 0, scoped.scope_id().index).into())
        }
        _ => Some(SocketAddr::new(ip, port)),
    }
}

#[cfg(test)]
mod tests;
