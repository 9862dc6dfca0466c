//! The line of the log that says, after the start, where the page is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use hub_nodes::address::NodeConfig;
use hub_nodes::{Discover, Node};
use hub_people::People;
use tokio::net::TcpListener;
use tracing::{info, warn};

use super::shared::Shared;

/// With more configured nodes than this, the line gives their number instead of their URLs.
const MOST_NAMED_NODES: usize = 4;

/// The address of the page, as a user can open it: the first of `listeners` that other machines reach, or else the
/// first. `None` if there are no listeners. Other machines need HTTPS, unless `insecure`.
pub(super) fn page_url(listeners: &[TcpListener], insecure: bool) -> Option<String> {
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    // A phone often cannot resolve the name of a machine. The gateway accepts every address.
    url_of(&addresses, insecure, || outward_address().map_or_else(machine, |address| address.to_string()))
}

/// The IPv4 address that this machine has towards others. To ask the system for the way to an address of the block for
/// documentation sends nothing.
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

/// The name of this machine, without a domain.
pub(super) fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().filter(|name| !name.is_empty()).unwrap_or("localhost").to_owned()
}

/// Logs where the page is, which nodes the hub listens to, and where it stores what it hears.
pub(super) fn log(page_url: &str, shared: &Shared) {
    let known = || shared.nodes.iter();
    let admitted: Vec<String> = known().filter(Node::is_discovered).map(|node| node.url().to_owned()).collect();
    let has_local = known().any(|node| shared.nodes.is_on_this_machine(&node));
    let nodes = nodes_in_words(&shared.config.node, &admitted, has_local);
    let discovery = match shared.config.discover {
        Discover::Off => "off",
        Discover::On => "on",
        Discover::AdmitAll => "on, admits all",
    };
    info!(nodes, %discovery, data_dir = %shared.data_dir.display(), "the page is at {page_url}");
}

/// Logs the set-up link, with which the first user is added from another machine. It is printed if other machines reach
/// the page and there are no users, and it is good once.
pub(super) async fn log_setup_link(page_url: &str, listeners_beyond_loopback: bool, people: Option<&People>) {
    let Some(people) = people.filter(|_| listeners_beyond_loopback) else { return };
    match people.begin_setup().await {
        Ok(Some(secret)) => {
            info!("no users yet: add the first at {page_url}#/setup/{} (good once)", secret.expose());
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "there is no set-up link; `hub user add` adds the first user"),
    }
}

/// Whether other machines reach one of these sockets.
pub(super) fn is_beyond_loopback(listeners: &[TcpListener]) -> bool {
    let mut addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    addresses.any(|address| !address.ip().to_canonical().is_loopback())
}

/// `host` gives the name or address of this machine: it stands for an address that means all addresses, such as
/// 0.0.0.0.
fn url_of(addresses: &[SocketAddr], insecure: bool, host: impl FnOnce() -> String) -> Option<String> {
    let reachable = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback());
    let address = reachable.or(addresses.first())?;
    let scheme = if insecure || reachable.is_none() { "http" } else { "https" };
    Some(if address.ip().is_unspecified() {
        format!("{scheme}://{}:{}/", host(), address.port())
    } else {
        format!("{scheme}://{address}/")
    })
}

/// `admitted`: the URLs of nodes that were admitted and are expected. `has_local`: so is the node on this machine.
fn nodes_in_words(configured: &[NodeConfig], admitted: &[String], has_local: bool) -> String {
    let counted = |urls: Vec<String>, kind: &str| match urls.len() {
        0 => None,
        few if few <= MOST_NAMED_NODES => Some(urls.join(", ")),
        many => Some(format!("{many} {kind} nodes")),
    };
    let configured = counted(configured.iter().map(|node| node.url.to_string()).collect(), "configured");
    let admitted = counted(admitted.to_vec(), "admitted");
    let is_local = has_local || configured.is_none() && admitted.is_none();
    let local = is_local.then(|| "one on this machine".to_owned());
    [local, configured, admitted].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(addresses: &[&str]) -> Option<String> {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        url_of(&addresses, false, || "raspberrypi".into())
    }

    #[test]
    fn url_is_one_that_other_machines_reach_if_there_is_one() {
        for (addresses, expected) in [
            (&["127.0.0.1:5000", "[::1]:5000"][..], "http://127.0.0.1:5000/"),
            (&["127.0.0.1:5000", "192.168.1.7:5001"], "https://192.168.1.7:5001/"),
            (&["[fd00::7]:5000"], "https://[fd00::7]:5000/"),
            (&["0.0.0.0:80"], "https://raspberrypi:80/"),
            (&["127.0.0.1:5000", "[::]:5000"], "https://raspberrypi:5000/"),
        ] {
            assert_eq!(url(addresses).as_deref(), Some(expected), "{addresses:?}");
        }
        assert_eq!(url(&[]), None);
        let insecure = url_of(&["192.168.1.7:5001".parse().unwrap()], true, || "raspberrypi".into());
        assert_eq!(insecure.as_deref(), Some("http://192.168.1.7:5001/"), "as before there was TLS");
    }

    #[test]
    fn nodes_are_named_as_long_as_they_are_few() {
        let nodes = |count: usize| -> Vec<NodeConfig> {
            (0..count).map(|number| format!("Tom{number}=http://n{number}:1").parse().unwrap()).collect()
        };
        let words = |configured: usize, admitted: usize, has_local| {
            let admitted: Vec<_> = (0..admitted).map(|number| format!("http://a{number}.local:1")).collect();
            nodes_in_words(&nodes(configured), &admitted, has_local)
        };
        assert_eq!(words(1, 0, false), "http://n0:1");
        assert_eq!(words(2, 0, false), "http://n0:1, http://n1:1");
        assert_eq!(words(5, 0, false), "5 configured nodes");
        assert_eq!(words(0, 0, false), "one on this machine");
        assert_eq!(words(0, 1, false), "http://a0.local:1");
        assert_eq!(words(0, 5, true), "one on this machine, 5 admitted nodes");
        assert_eq!(words(1, 1, false), "http://n0:1, http://a0.local:1");
    }
}
