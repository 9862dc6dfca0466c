//! Finds nodes that announce themselves on the local network by mDNS.
//!
//! A discovered node is named `http://HOST.local:PORT`, after the host name and port that it announces. Events are
//! stored under that URL, so it has to stay the same when the node restarts or gets another address. The addresses
//! behind the name come from the last announcement, so the system does not need to resolve names in `.local`.
//!
//! An announced node that answers is asked once to describe itself. If a person has admitted it, it becomes a node of
//! the hub; else it waits in the registry, and is neither listened to nor called. It is dropped if its boot id shows
//! that the hub knows it already under another name. A node of the hub that withdraws its announcement, or does not
//! renew it, still counts as up as long as it answers. A node that is closed to all but paired hubs waits too, until it
//! is paired: a handshake shows its key.
//!
//! Anybody on the network can announce anything. So only addresses of the networks of this machine are dialled. Each
//! announced address is asked for itself, and once an id is known at a URL, only addresses that prove this id, or that
//! of another trusted node, come to stand for it. What one machine can announce at a time is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::allowance::Allowance;
use daemon::backoff::Backoff;
use daemon::cause::cause;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error, Who};
use hub_base::route::MAX_ADDRESSES;
use mdns_sd::{Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use proto::NODE_SERVICE;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::lobby::{MAX_PER_ADDRESS, key_of};
use crate::networks::Networks;
use crate::node::Node;
use crate::pairing::closed_node;
use crate::registry::{MAX_NODES, Nodes, Received};

/// First and longest wait before browsing is tried again. The network may not be up yet.
const BROWSE_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// First and longest wait before an announced node that did not answer is asked again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// When the network is browsed again after the start of browsing. mdns-sd tells nothing of a node whose announcement
/// comes between the start and its first question: it takes the answer for known, and resolves the node only when the
/// announcement is about to expire, after a minute and a half. Browsing again reports all that is known by then.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// When an announcement was turned away, all that is announced is looked at again after this time: there may be places
/// by then. So it is after a person has taken an admission back: the node may wait again.
const LOOK_AGAIN_FOR_PLACES: Duration = Duration::from_secs(60);

/// Most announced nodes that are asked at a time. When there are as many, one that has not answered a first time gives
/// way; if there is none, the newcomer is turned away.
const MAX_CANDIDATES: usize = 64;

/// Places beside [`MAX_CANDIDATES`] for nodes whose URL the hub knows, so that strangers do not keep them out.
const KNOWN_RESERVE: usize = 16;

/// Most announced nodes whose addresses are dialled at the same moment. The others wait for their turn.
const MAX_ASKED_AT_ONCE: usize = 16;

/// New announcements that are followed at once, and in each second after that. More are turned away.
const NEW_AT_ONCE: f64 = 128.0;
const NEW_A_SECOND: f64 = 2.0;

/// Announcements that are remembered because they need not be followed a second time. When there are more, all are
/// forgotten, and followed again when they are repeated.
const MAX_FOLLOWED: usize = 256;

/// How often an announcement is looked at again because some of its addresses do not answer. After that, those that
/// answered count until the announcement changes.
const MAX_LOOKS_FOR_SILENT: u32 = 10;

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// How often it is logged that an announced node does not answer.
const SILENT_LOG_PERIOD: Duration = Duration::from_secs(60);

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
    announcement: Announcement,
    /// It was asked and did not answer.
    has_failed: Arc<AtomicBool>,
    asking: AbortHandle,
}

/// The nodes that answered at the addresses of an announcement.
struct Answered {
    announcement: Announcement,
    nodes: Vec<Node>,
}

/// Turns announcements into nodes.
struct Finder {
    nodes: Nodes,
    /// Wakes when a person has taken the admission of nodes back.
    dismissals: watch::Receiver<u64>,
    /// The networks whose addresses are dialled, as they are now.
    networks: fn() -> Networks,
    /// By URL. At most [`MAX_CANDIDATES`] and [`KNOWN_RESERVE`].
    candidates: BTreeMap<String, Candidate>,
    /// By URL: announcements that were followed, and led to something that need not be asked again.
    followed: BTreeMap<String, Announcement>,
    /// By URL: announcements with addresses that did not answer, and how often they were asked. At most
    /// [`MAX_FOLLOWED`]; then all are forgotten.
    incomplete: BTreeMap<String, (Announcement, u32)>,
    /// By URL: the addresses that stand for a node because it proved its id there.
    proved: BTreeMap<String, Vec<SocketAddr>>,
    asking: JoinSet<Answered>,
    turns: Arc<Semaphore>,
    /// How many new announcements are followed yet.
    allowance: Allowance,
    /// Whether an announcement is to be looked at again, for example because there was no place for it.
    turned_away: bool,
    full_log: Quiet,
    odd_log: Quiet,
    foreign_log: Quiet,
    impostor_log: Quiet,
    /// Shared by all that is asked: whoever announces many names does not fill the log.
    silent_log: Arc<Mutex<Quiet>>,
    /// The keys of nodes whose waiting was logged. At most [`MAX_FOLLOWED`]; then all are forgotten.
    told: BTreeSet<String>,
}

impl Finder {
    fn new(nodes: Nodes) -> Self {
        let quiet = || Quiet::new(LOG_PERIOD);
        Self {
            dismissals: nodes.dismissals(),
            nodes,
            networks: Networks::of_this_machine,
            candidates: BTreeMap::new(),
            followed: BTreeMap::new(),
            incomplete: BTreeMap::new(),
            proved: BTreeMap::new(),
            asking: JoinSet::new(),
            turns: Arc::new(Semaphore::new(MAX_ASKED_AT_ONCE)),
            allowance: Allowance::new(NEW_AT_ONCE, NEW_A_SECOND, Instant::now().into_std()),
            turned_away: false,
            full_log: quiet(),
            odd_log: quiet(),
            foreign_log: quiet(),
            impostor_log: quiet(),
            silent_log: Arc::new(Mutex::new(Quiet::new(SILENT_LOG_PERIOD))),
            told: BTreeSet::new(),
        }
    }

    /// Handles announcements until they end. Returns why they ended.
    async fn follow(&mut self, browser: &mut Browser) -> String {
        let start = Instant::now();
        let mut looks = LOOK_AGAIN.into_iter().map(|after| start + after);
        let mut next_look = looks.next();
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
                    next_look = looks.next();
                    self.turned_away = false;
                    match browser.look_again() {
                        Ok(unread) => unread.into_iter().for_each(|event| self.handle(event)),
                        Err(error) => return error.to_string(),
                    }
                }
                // The registry is there as long as this.
                Ok(()) = self.dismissals.changed() => self.ask_dismissed_again(),
                Some(answered) = self.asking.join_next() => {
                    // An error means that the announcement was withdrawn meanwhile.
                    if let Ok(answered) = answered {
                        self.judge(answered);
                    }
                }
            }
            if self.turned_away && next_look.is_none() {
                next_look = Some(Instant::now() + LOOK_AGAIN_FOR_PLACES);
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

    fn take(&mut self, mut announcement: Announcement) {
        if announcement.addresses.is_empty() {
            // They come with a later announcement.
            return;
        }
        let networks = (self.networks)();
        announcement.addresses.retain(|address| networks.contain(address));
        announcement.addresses.truncate(MAX_ADDRESSES);
        let Announcement { url, addresses, .. } = &announcement;
        if addresses.is_empty() {
            if let Some(suppressed_lines) = self.foreign_log.allow() {
                warn!(url, suppressed_lines, "announced node ignored: its addresses are in no network of this machine");
            }
            return;
        }
        if self.followed.get(url) == Some(&announcement) {
            return;
        }
        // Whatever answers at the addresses of a paired node, only what holds its key is talked to.
        if let Some(entry) = self.nodes.get(url)
            && (entry.is_paired() || !self.nodes.knows_id_at(&entry))
        {
            if entry.set_addresses(addresses.clone()) {
                info!(node = url, ?addresses, "node announced");
            }
            // If it does not answer, another node may have taken its place, which waits for its code.
            if !entry.is_paired() {
                return;
            }
            if entry.recent_description().is_some() {
                self.settle(announcement);
                return;
            }
        }
        if let Some(candidate) = self.candidates.get(url) {
            if candidate.announcement == announcement {
                return;
            }
            candidate.asking.abort();
        } else if !self.has_place_for(&announcement) {
            self.turn_away(&announcement.url, "too many nodes are announced");
            return;
        }
        self.followed.remove(&announcement.url);
        let has_failed = Arc::new(AtomicBool::new(false));
        let (turns, log) = (Arc::clone(&self.turns), Arc::clone(&self.silent_log));
        let asked = ask(announcement.clone(), self.nodes.clone(), turns, log, Arc::clone(&has_failed));
        let asking = self.asking.spawn(asked);
        let url = announcement.url.clone();
        self.candidates.insert(url, Candidate { announcement, has_failed, asking });
    }

    /// Whether a new announcement can be followed. Candidates that did not answer give way. What strangers announce
    /// takes nothing from the nodes that the hub knows.
    fn has_place_for(&mut self, announcement: &Announcement) -> bool {
        if self.nodes.knows_url(&announcement.url) {
            let most = MAX_CANDIDATES + KNOWN_RESERVE;
            return self.candidates.len() < most || self.drop_one_that_failed(|_| true);
        }
        if !self.allowance.take(Instant::now().into_std()) {
            return false;
        }
        let shares_address = |candidate: &Candidate| {
            candidate
                .announcement
                .addresses
                .iter()
                .any(|one| announcement.addresses.iter().any(|own| own.ip() == one.ip()))
        };
        let neighbours = self.candidates.values().filter(|candidate| shares_address(candidate)).count();
        if neighbours >= MAX_PER_ADDRESS && !self.drop_one_that_failed(shares_address) {
            return false;
        }
        self.candidates.len() < MAX_CANDIDATES || self.drop_one_that_failed(|_| true)
    }

    fn drop_one_that_failed(&mut self, of: impl Fn(&Candidate) -> bool) -> bool {
        let gives_way = |candidate: &Candidate| candidate.has_failed.load(Ordering::Relaxed) && of(candidate);
        let Some(url) = self.candidates.iter().find(|(_, candidate)| gives_way(candidate)).map(|(url, _)| url.clone())
        else {
            return false;
        };
        if let Some(candidate) = self.candidates.remove(&url) {
            candidate.asking.abort();
        }
        // It gets another try, if there is a place for it then.
        self.turned_away = true;
        true
    }

    /// An announcement was withdrawn. Drops the candidate and the nodes that wait; a node of the hub is kept.
    fn forget(&mut self, name: &str) {
        self.followed.retain(|_, followed| followed.name != name);
        self.incomplete.retain(|_, (incomplete, _)| incomplete.name != name);
        self.nodes.keep_waiting(name, &[]);
        self.candidates.retain(|_, candidate| {
            let stays = candidate.announcement.name != name;
            if !stays {
                candidate.asking.abort();
            }
            stays
        });
    }

    /// Nodes were dismissed. What they announce does not change, so it is looked at again without news: they may wait
    /// to be admitted again.
    fn ask_dismissed_again(&mut self) {
        let before = self.followed.len();
        self.followed.retain(|url, _| !self.nodes.is_dismissed(url));
        self.turned_away |= self.followed.len() < before;
    }

    /// A candidate has answered.
    fn judge(&mut self, answered: Answered) {
        let Answered { announcement, mut nodes } = answered;
        // Once an id is proved at the URL, nothing without one stands for it.
        nodes.sort_by_key(|node| node.id().is_none());
        let Announcement { name, url, .. } = &announcement;
        self.candidates.remove(url);
        let answered: Vec<SocketAddr> = nodes.iter().flat_map(Node::addresses).collect();
        let silent: Vec<SocketAddr> =
            announcement.addresses.iter().filter(|address| !answered.contains(address)).copied().collect();
        let keys: Vec<String> = nodes.iter().map(key_of).collect();
        self.nodes.keep_waiting(name, &keys);
        let (mut is_settled, mut home) = (true, Vec::new());
        for node in nodes {
            is_settled &= self.receive(node, name, &mut home);
        }
        self.settle_home(&announcement, &home, &silent);
        if self.asks_silent_again(&announcement, &silent) {
            (is_settled, self.turned_away) = (false, true);
        }
        if is_settled {
            self.settle(announcement);
        }
    }

    /// The announcement led to something that need not be asked again.
    fn settle(&mut self, announcement: Announcement) {
        if self.followed.len() >= MAX_FOLLOWED {
            self.followed.clear();
        }
        self.followed.insert(announcement.url.clone(), announcement);
    }

    /// Whether the addresses of an announcement that did not answer are to be asked again.
    fn asks_silent_again(&mut self, announcement: &Announcement, silent: &[SocketAddr]) -> bool {
        let before = self.incomplete.remove(&announcement.url);
        if silent.is_empty() {
            return false;
        }
        let asked = before.filter(|(before, _)| before == announcement).map_or(0, |(_, asked)| asked);
        if self.incomplete.len() >= MAX_FOLLOWED {
            self.incomplete.clear();
        }
        let next = (announcement.clone(), asked.saturating_add(1));
        self.incomplete.insert(announcement.url.clone(), next);
        asked < MAX_LOOKS_FOR_SILENT
    }

    /// The node at the URL of an announcement is dialled at all its addresses where something may stand for the node.
    /// They are set at once, so that a connection to one of them goes on. So does one to an address that counted before
    /// and is only silent now.
    fn settle_home(&mut self, announcement: &Announcement, home: &[SocketAddr], silent: &[SocketAddr]) {
        let Some(entry) = self.nodes.get(&announcement.url).filter(|_| !home.is_empty()) else { return };
        let knows_id = self.nodes.knows_id_at(&entry);
        let before =
            if knows_id { self.proved.remove(&announcement.url).unwrap_or_default() } else { entry.addresses() };
        let mut addresses = announcement.addresses.clone();
        let counts_still = |address: &SocketAddr| silent.contains(address) && before.contains(address);
        addresses.retain(|address| home.contains(address) || counts_still(address));
        if entry.set_addresses(addresses.clone()) {
            info!(node = announcement.url, ?addresses, "node announced");
        }
        if knows_id {
            self.proved.insert(announcement.url.clone(), addresses);
        }
    }

    /// Adds to `home` the addresses of a node that is now the one at its URL. Returns whether it is settled what the
    /// node is.
    fn receive(&mut self, node: Node, service: &str, home: &mut Vec<SocketAddr>) -> bool {
        let (url, key, addresses) = (node.url().to_owned(), key_of(&node), node.addresses());
        let (cat, needs_code) = (node.cat().unwrap_or_default(), node.needs_code());
        match self.nodes.receive(node, service) {
            Received::Joined | Received::AtHome => home.extend(addresses),
            Received::Waits(false) | Received::Refused => {}
            Received::Known(twin) => {
                info!(url, node = twin.url(), "announced node is already known");
                // The other name may go away.
                return false;
            }
            Received::Waits(true) => {
                if self.told.len() >= MAX_FOLLOWED {
                    self.told.clear();
                }
                if !self.told.insert(key.clone()) {
                    return true;
                }
                if needs_code {
                    let what = "a node waits for its pairing code: run `cat-node pair` on it, then hub pair CODE";
                    info!(url, key, ?addresses, "{what}");
                } else {
                    info!(url, cat, key, ?addresses, "a node waits to be admitted: hub nodes admit {}", name_of(&url));
                }
            }
            Received::Impostor => {
                self.nodes.count_refused();
                if let Some(suppressed_lines) = self.impostor_log.allow() {
                    let what = "announcement ignored: it does not prove the id that is known at this URL";
                    warn!(url, ?addresses, suppressed_lines, "{what}");
                }
            }
            Received::Full => {
                self.turn_away(&url, "the hub has the most nodes that it can listen to");
                return false;
            }
            Received::Crowded => {
                self.turn_away(&url, "too many nodes wait to be admitted");
                return false;
            }
        }
        true
    }

    fn turn_away(&mut self, url: &str, why: &str) {
        self.turned_away = true;
        self.nodes.count_refused();
        if let Some(suppressed_lines) = self.full_log.allow() {
            warn!(url, why, most = MAX_NODES, suppressed_lines, "announced node refused");
        }
    }
}

/// The host name in the URL of a discovered node, without `.local`.
fn name_of(url: &str) -> &str {
    let host = url.strip_prefix("http://").unwrap_or(url);
    host.split_once(".local:").map_or(host, |(name, _)| name)
}

/// Asks at the addresses of an announcement until a node answers. Then asks the nodes that the hub knows, so that their
/// boot ids show whether this is one of them.
async fn ask(
    announcement: Announcement,
    nodes: Nodes,
    turns: Arc<Semaphore>,
    log: Arc<Mutex<Quiet>>,
    has_failed: Arc<AtomicBool>,
) -> Answered {
    let mut again = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
    let answered = loop {
        let answered = {
            // Nobody closes the semaphore.
            let _turn = turns.acquire().await;
            ask_addresses(&announcement).await
        };
        match answered {
            Ok(nodes) => break nodes,
            Err(error) => {
                has_failed.store(true, Ordering::Relaxed);
                let allowed = log.lock().unwrap_or_else(PoisonError::into_inner).allow();
                if let Some(suppressed_lines) = allowed {
                    let code = error.code.as_str();
                    warn!(url = announcement.url, code, %error, suppressed_lines, "announced node does not answer");
                }
            }
        }
        tokio::time::sleep(again.next_wait()).await;
    };
    // A node on this machine is better known under the name that does not change.
    nodes.ask_default().await;
    let asked = nodes.iter().map(|known| async move { known.describe().await.is_ok() });
    futures_util::future::join_all(asked).await;
    Answered { announcement, nodes: answered }
}

/// Asks at each address of an announcement. Returns one node for each id that was proved, with the addresses where it
/// was. Of those that proved none, there is one for each boot id.
///
/// # Errors
/// If none answers.
async fn ask_addresses(announcement: &Announcement) -> Result<Vec<Node>, Error> {
    let asked = announcement.addresses.iter().map(|address| async move {
        let node =
            Node::discovered(announcement.url.clone()).map_err(|error| Error::new(Code::BadRequest, cause(&error)))?;
        node.set_addresses(vec![*address]);
        let Err(error) = node.describe().await else { return Ok(node) };
        // It may be closed to everybody without TLS.
        let Some(id) = closed_node(*address).await else { return Err(error) };
        let closed = Node::needing_code(announcement.url.clone(), id);
        let node = closed.map_err(|error| Error::new(Code::BadRequest, cause(&error)))?;
        node.set_addresses(vec![*address]);
        Ok(node)
    });
    let mut found: Vec<Node> = Vec::new();
    let mut failure = Error::new(Code::Unavailable(Who::Node), "no address is announced");
    let mut answers = futures_util::future::join_all(asked).await;
    // A node that is open at one of its addresses needs no code.
    answers.sort_by_key(|answer| answer.as_ref().is_ok_and(Node::needs_code));
    for answer in answers {
        match answer {
            Ok(node) => match found.iter().find(|other| is_same(other, &node)) {
                Some(other) => {
                    other.set_addresses([other.addresses(), node.addresses()].concat());
                }
                None => found.push(node),
            },
            Err(error) => failure = error,
        }
    }
    if found.is_empty() { Err(failure) } else { Ok(found) }
}

/// Whether two addresses lead to one node, by its id or else by its boot id.
fn is_same(one: &Node, other: &Node) -> bool {
    let boot_id = |node: &Node| node.description().map(|description| description.boot_id);
    one.id() == other.id() && (one.id().is_some() || boot_id(one) == boot_id(other))
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
