//! Announces the node on the local network by mDNS, so that a hub can discover it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use daemon::cause::without_number;
use daemon::identity::NodeId;
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use proto::NODE_SERVICE;
use tracing::{info, warn};

/// How long a stopping node waits for the message that ends the announcement.
const FAREWELL: Duration = Duration::from_millis(300);

/// An announcement. Dropping it ends the announcement.
pub struct Announcement {
    mdns: ServiceDaemon,
    full_name: String,
}

/// Announces a node that listens on `addresses`, with the keys `cat`, `version` and, if it has one, `id`. A node that
/// listens on loopback only is not announced. A failure (a network without multicast) is logged, and the node runs
/// without an announcement.
pub fn announce(cat: &str, id: Option<NodeId>, addresses: &[SocketAddr]) -> Option<Announcement> {
    let Some(info) = service_info(cat, id, addresses, &host_name()) else {
        info!("not announcing the node by mDNS: it listens on loopback only");
        return None;
    };
    let info = match info {
        Ok(info) => info,
        Err(error) => {
            warn!(error = without_number(error), "cannot announce the node by mDNS");
            return None;
        }
    };
    let full_name = info.get_fullname().to_owned();
    let announced = ServiceDaemon::new().and_then(|mdns| mdns.register(info).map(|()| mdns));
    match announced {
        Ok(mdns) => {
            info!(name = full_name, "announcing the node by mDNS");
            Some(Announcement { mdns, full_name })
        }
        Err(error) => {
            warn!(error = without_number(error), "cannot announce the node by mDNS");
            None
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // If this fails, the announcement ends when its time to live is over.
        if let Ok(done) = self.mdns.unregister(&self.full_name) {
            let _ = done.recv_timeout(FAREWELL);
        }
        let _ = self.mdns.shutdown();
    }
}

/// What to announce. `None`: the node listens on loopback only.
fn service_info(
    cat: &str,
    id: Option<NodeId>,
    addresses: &[SocketAddr],
    host: &str,
) -> Option<mdns_sd::Result<ServiceInfo>> {
    let reachable: Vec<&SocketAddr> =
        addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()).collect();
    let port = reachable.first()?.port();
    let named: Vec<IpAddr> =
        reachable.iter().map(|address| address.ip()).filter(|address| !address.is_unspecified()).collect();
    let name = if cat.is_empty() { format!("{host} {port}") } else { format!("{cat} at {host} {port}") };
    let id = id.map(|id| id.to_string());
    let mut keys = vec![("cat", cat), ("version", env!("CARGO_PKG_VERSION"))];
    keys.extend(id.as_deref().map(|id| ("id", id)));
    let info = ServiceInfo::new(NODE_SERVICE, &name, &format!("{host}.local."), &named[..], port, &keys[..]);
    Some(info.map(|mut info| {
        if !named.is_empty() {
            return info;
        }
        // Nothing but IPv4 reaches 0.0.0.0.
        if reachable.iter().all(|address| address.ip() == Ipv4Addr::UNSPECIFIED) {
            info.set_interfaces(vec![IfKind::IPv4]);
        }
        // The node listens on every address that the machine has now or gets later.
        info.enable_addr_auto()
    }))
}

fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let first_label = read.trim().split('.').next().unwrap_or_default();
    if first_label.is_empty() { "cat-node".into() } else { first_label.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(cat: &str, addresses: &[&str]) -> Option<ServiceInfo> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        service_info(cat, Some(NodeId::of_spki(b"key")), &addresses, "attic").map(Result::unwrap)
    }

    #[test]
    fn loopback_is_not_announced() {
        assert!(info("Tom", &["127.0.0.1:50056", "[::1]:50056", "[::ffff:127.0.0.1]:1"]).is_none());
    }

    #[test]
    fn cat_version_and_port_are_announced() {
        let info = info("Tom", &["127.0.0.1:1", "0.0.0.0:50056"]).unwrap();
        assert_eq!(info.get_port(), 50056);
        assert_eq!(info.get_type(), NODE_SERVICE);
        assert_eq!(info.get_property_val_str("cat"), Some("Tom"));
        assert_eq!(info.get_property_val_str("version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(info.get_property_val_str("id"), Some(NodeId::of_spki(b"key").to_string().as_str()));
        assert!(info.is_addr_auto());
    }

    #[test]
    fn only_the_addresses_that_are_listened_on_are_announced() {
        let info = info("", &["192.168.7.5:50056"]).unwrap();
        assert!(!info.is_addr_auto());
        assert_eq!(info.get_addresses().len(), 1);
    }
}
