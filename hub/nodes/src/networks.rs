//! The networks that this machine is on. Announced addresses elsewhere are not dialled.

use std::net::{IpAddr, SocketAddr};

use if_addrs::{IfAddr, Interface};

/// An address of this machine with the length of its network's prefix, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// The networks that this machine has interfaces in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<Network>);

impl Networks {
    /// Those of the interfaces as they are now. None, if the system does not tell them.
    pub(crate) fn of_this_machine() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let network = |interface: Interface| match interface.addr {
            IfAddr::V4(own) => Network { address: own.ip.into(), prefix_bits: own.prefixlen },
            IfAddr::V6(own) => Network { address: own.ip.into(), prefix_bits: own.prefixlen },
        };
        Self(interfaces.into_iter().map(network).collect())
    }

    /// The network of loopback alone.
    #[cfg(test)]
    pub(crate) fn loopback() -> Self {
        Self(vec![Network { address: std::net::Ipv4Addr::LOCALHOST.into(), prefix_bits: 8 }])
    }

    /// Whether a machine with this address is on one of these networks. Link-local addresses of IPv6 are, if they name
    /// the interface.
    pub(crate) fn contain(&self, address: &SocketAddr) -> bool {
        match address {
            SocketAddr::V6(scoped) if scoped.ip().is_unicast_link_local() => scoped.scope_id() != 0,
            _ => self.0.iter().any(|network| network.contains(address.ip().to_canonical())),
        }
    }
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.prefix_bits.into())).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.prefix_bits.into())).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_own_networks_alone_are_contained() {
        let network = |address: &str, prefix_bits| Network { address: address.parse().unwrap(), prefix_bits };
        let networks = Networks(vec![network("192.168.7.5", 24), network("fd00:1::5", 64), network("10.8.0.2", 32)]);
        for (address, is_inside) in [
            ("192.168.7.200:1", true),
            ("192.168.8.200:1", false),
            ("[::ffff:192.168.7.9]:1", true),
            ("[::ffff:8.8.8.8]:1", false),
            ("[fd00:1::9]:1", true),
            ("[fd00:2::9]:1", false),
            ("[2001:db8::1]:1", false),
            ("[fe80::1%3]:1", true),
            ("[fe80::1]:1", false),
            ("10.8.0.2:1", true),
            ("10.8.0.3:1", false),
            ("8.8.8.8:1", false),
        ] {
            assert_eq!(networks.contain(&address.parse().unwrap()), is_inside, "{address}");
        }
        assert!(!Networks::default().contain(&"192.168.7.5:1".parse().unwrap()));
    }

    #[test]
    fn this_machine_is_on_its_own_loopback() {
        assert!(Networks::of_this_machine().contain(&"127.0.0.1:1".parse().unwrap()));
    }
}
