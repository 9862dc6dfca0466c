//! The names of this hub, and the names that its CA may sign.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::Uri;

use crate::origin::{ANY, is_host_name};
use crate::search::home_domains;

/// Names that every CA may sign.
const ALWAYS: [&str; 2] = ["local", "localhost"];

/// The networks whose addresses a CA may sign: private ones (RFC 1918, 4193), link-local ones, those that Tailscale and
/// some providers give out (RFC 6598), and loopback.
pub(super) const V4_NETWORKS: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
];

/// As [`V4_NETWORKS`].
pub(super) const V6_NETWORKS: [(Ipv6Addr, u8); 3] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::LOCALHOST, 128),
];

/// The names of this hub, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The names by which clients reach the hub.
    pub(super) own: BTreeSet<String>,
    /// The names that the CA may sign, each with the names below it.
    pub(super) permitted: BTreeSet<String>,
    /// The search domains of the home. Only a new CA takes them, because a network that the machine visits has one too.
    pub(super) home: BTreeSet<String>,
}

impl Names {
    /// The names of this machine, and the configured ones: `[page] hosts` and the host of `notices.public_url`.
    pub fn of_this_machine(configured: &[String], public_url: Option<&str>) -> Self {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let public = public_url.and_then(|url| url.parse::<Uri>().ok()).and_then(|url| url.host().map(str::to_owned));
        Self::of(&machine, &home_domains(), configured.iter().cloned().chain(public))
    }

    pub(crate) fn of(machine: &str, home: &[String], configured: impl IntoIterator<Item = String>) -> Self {
        let mut own = BTreeSet::from(["localhost".to_owned()]);
        let mut permitted: BTreeSet<_> = ALWAYS.map(str::to_owned).into();
        let machine = machine.trim().split('.').next().unwrap_or_default();
        if let Some(machine) = signable(machine) {
            own.extend(home.iter().filter_map(|domain| signable(&format!("{machine}.{domain}"))));
            own.extend([format!("{machine}.local"), machine.clone()]);
            permitted.insert(machine);
        }
        let configured: Vec<_> = configured.into_iter().filter_map(|name| signable(&name)).collect();
        own.extend(configured.iter().cloned());
        permitted.extend(configured);
        Self { own, permitted, home: home.iter().filter_map(|domain| signable(domain)).collect() }
    }
}

/// The name as it stands in a certificate. `None` for what is not a name there.
fn signable(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_name = name != ANY && is_host_name(&name) && !name.contains('_') && name.parse::<IpAddr>().is_err();
    (is_name && name.split('.').all(|label| !label.is_empty() && label.len() <= 63)).then_some(name)
}

/// Whether `name` is one of the `permitted`, or below one.
pub(super) fn is_permitted(name: &str, permitted: &BTreeSet<String>) -> bool {
    let below = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name).chain(below).any(|name| permitted.contains(name))
}

/// Whether the CA may sign the address.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => V4_NETWORKS.iter().any(|(network, bits)| {
            let shift = 32 - u32::from(*bits);
            address.to_bits() >> shift == network.to_bits() >> shift
        }),
        IpAddr::V6(address) => V6_NETWORKS.iter().any(|(network, bits)| {
            let shift = 128 - u32::from(*bits);
            address.to_bits() >> shift == network.to_bits() >> shift
        }),
    }
}
