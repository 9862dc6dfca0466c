//! Finds nodes that announce themselves on the local network by mDNS.
//!
//! A discovered node is named `http://HOST.local:PORT`, after the host name and port that it announces. Events are
//! stored under that URL, so it has to stay the same when the node restarts or gets another address. The addresses
//! behind the name come from the last announcement, so the system does not need to resolve names in `.local`.
//!
//! An announced node is admitted once it has described itself, unless its boot id shows that the hub knows it already
//! under another name. It then stays until the hub stops. A node that withdraws its announcement, or does not renew it,
//! still counts as up as long as it answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use proto::NODE_SERVICE;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::Node;
use crate::registry::{Full, MAX_NODES, Nodes};

/// First and longest wait before browsing is tried again. The network may not be up yet.
const BROWSE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// First and longest wait before an announced node that did not answer is asked again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// When the network is browsed again after the start of browsing. mdns-sd tells nothing of a node whose announcement
/// comes between the start and its first question: it takes the answer for known, and resolves the node only when the
/// announcement is about to expire, after a minute and a half. Browsing again reports all that is known by then.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Longest name of a machine, in bytes: the limit of a DNS label.
const MAX_HOST_BYTES: usize = 63;

/// Browses for nodes and adds them to `nodes`, until `stop`.
pub async fn discover(nodes: Nodes, stop: CancellationToken) {
    let mut again = Backoff::new(BROWSE_AGAIN.0, BROWSE_AGAIN.1);
    let mut quiet = Quiet::new(LOG_PERIOD);
    let mut finder = Finder::new(nodes);
    loop {
        let ended = match Browser::start() {
            Ok(mut browser) => tokio::select! {
                ended = finder.follow(&mut browser) => ended,
                () = stop.cancelled() => return,
            },
            Err(error) => error.to_string(),
        };
        if let Some(suppressed_lines) = quiet.allow() {
            warn!(error = ended, suppressed_lines, "cannot browse for nodes by mDNS; retrying");
        }
        tokio::select! {
            () = tokio::time::sleep(again.next_wait()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The thread that listens for announcements. It ends when this is dropped.
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

    /// Browses again. Returns the news that nobody has read yet.
    fn look_again(&mut self) -> mdns_sd::Result<Vec<ServiceEvent>> {
        let events = std::mem::replace(&mut self.events, self.mdns.browse(NODE_SERVICE)?);
        Ok(events.try_iter().collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ = self.mdns.shutdown();
    }
}

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announcement {
    /// Full name of the service, which a withdrawal refers to.
    name: String,
    url: String,
    /// The addresses that another machine can reach. Empty while they are not known yet.
    addresses: Vec<SocketAddr>,
}

/// An announced node that has not answered yet.
struct Candidate {
    node: Node,
    name: String,
    asking: AbortHandle,
}

/// Turns announcements into nodes.
struct Finder {
    nodes: Nodes,
    /// By URL. At most [`MAX_NODES`]; more are refused, as nodes are.
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

    /// Handles announcements until they end. Returns why they ended.
    async fn follow(&mut self, browser: &mut Browser) -> String {
        let start = Instant::now();
        let mut look_again = LOOK_AGAIN.into_iter().map(|after| start + after);
        let mut next_look = look_again.next();
        loop {
            let look = async {
                match next_look {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = browser.events.recv_async() => match event {
                    Ok(event) => self.handle(event),
                    Err(error) => return error.to_string(),
                },
                () = look => {
                    next_look = look_again.next();
                    match browser.look_again() {
                        Ok(unread) => unread.into_iter().for_each(|event| self.handle(event)),
                        Err(error) => return error.to_string(),
                    }
                }
                Some(answered) = self.asking.join_next() => {
                    // An error means that the announcement was withdrawn meanwhile.
                    if let Ok(node) = answered {
                        self.admit(node);
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => match Announcement::of(&service) {
                Some(announcement) => self.take(announcement),
                None => {
                    if let Some(suppressed_lines) = self.odd_log.allow() {
                        let (name, host) = (service.get_fullname(), service.get_hostname());
                        warn!(name, host, suppressed_lines, "announced node has no usable name");
                    }
                }
            },
            ServiceEvent::ServiceRemoved(_, name) => self.forget(&name),
            _ => {}
        }
    }

    fn take(&mut self, announcement: Announcement) {
        let Announcement { name, url, addresses } = announcement;
        if addresses.is_empty() {
            // They come with a later announcement.
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
        } else if let Ok(node) = Node::discovered(url) {
            node.set_addresses(addresses);
            self.ask(node, name);
        }
    }

    fn ask(&mut self, node: Node, name: String) {
        let asking = self.asking.spawn(ask(node.clone(), self.nodes.clone()));
        self.candidates.insert(node.url().to_owned(), Candidate { node, name, asking });
    }

    /// An announcement was withdrawn. Drops the candidate; a node that has ever answered is kept.
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
        let candidate = self.candidates.remove(node.url());
        // It was withdrawn and announced again meanwhile, so it was asked twice.
        if self.nodes.iter().any(|known| known.url() == node.url()) {
            return;
        }
        if let Some(twin) = self.nodes.twin_of(&node) {
            // Names that two machines have swapped lead to both for a while.
            if let Some(Candidate { name, .. }) = candidate.filter(|_| node.leave_address()) {
                return self.ask(node, name);
            }
            info!(url = node.url(), node = twin.url(), "announced node is already known");
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
        if let Some(suppressed_lines) = self.full_log.allow() {
            warn!(url, most = MAX_NODES, suppressed_lines, "announced node refused: too many nodes");
        }
    }
}

/// Asks a node until it answers. Then asks the nodes that the hub knows, so that their boot ids show whether this is
/// one of them.
async fn ask(node: Node, nodes: Nodes) -> Node {
    let mut again = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
    let mut quiet = Quiet::new(LOG_PERIOD);
    while let Err(error) = node.describe().await {
        if let Some(suppressed_lines) = quiet.allow() {
            let code = error.code.as_str();
            warn!(url = node.url(), code, %error, suppressed_lines, "announced node does not answer");
        }
        tokio::time::sleep(again.next_wait()).await;
    }
    // A node on this machine is better known under the name that does not change.
    nodes.ask_default().await;
    let asked = nodes.iter().map(|known| async move { known.describe().await.is_ok() });
    futures_util::future::join_all(asked).await;
    node
}

impl Announcement {
    /// `None`: the host name does not fit into a URL. Nothing that comes from the network is trusted.
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

/// `None`: another machine cannot be reached at this address.
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
mod fuzz;
#[cfg(test)]
mod tests;
