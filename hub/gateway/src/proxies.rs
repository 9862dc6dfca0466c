//! Proxies before the gateway: which are trusted, and what they say of the client.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;

use crate::headers::{FORWARDED_FOR, values};

/// Most trusted proxies and networks.
const MAX_PROXIES: usize = 64;

/// The addresses of trusted proxies. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[Network]>);

/// The addresses that begin with the same bits. Addresses of IPv4 are mapped to IPv6.
#[derive(Debug, Clone, Copy)]
struct Network {
    first: u128,
    bits: u32,
}

impl Proxies {
    /// Reads addresses (`127.0.0.1`) and networks (`172.18.0.0/16`).
    ///
    /// # Errors
    /// Says which text is neither, or that there are too many.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        if texts.len() > MAX_PROXIES {
            return Err(format!("names {} proxies; at most {MAX_PROXIES} are possible", texts.len()));
        }
        let networks = texts.iter().map(|text| {
            Network::parse(text).ok_or_else(|| {
                format!("{text:?} is neither an address nor a network; write \"127.0.0.1\" or \"172.18.0.0/16\"")
            })
        });
        Ok(Self(networks.collect::<Result<_, _>>()?))
    }

    /// Whether this is the address of a trusted proxy.
    pub(super) fn trust(&self, address: IpAddr) -> bool {
        let address = mapped(address);
        self.0.iter().any(|network| (address ^ network.first) & mask(network.bits) == 0)
    }

    /// The address of the client, by `X-Forwarded-For`. Each proxy adds the address that it was called from at the end.
    /// What stands before the last address that is not a trusted proxy may be made up by the client.
    pub(super) fn client(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = proxy;
        for text in values(headers, &FORWARDED_FOR).rev() {
            let Some(address) = address_in(text) else { break };
            client = address;
            if !self.trust(address) {
                break;
            }
        }
        client
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then(|| Self { first: mapped(address), bits: bits + 128 - width })
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

/// The address in an entry of `X-Forwarded-For`: alone, or with a port, as some proxies write it.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']')).map_or(text, |(address, _)| address);
    let parsed = bare.parse().ok().or_else(|| bare.rsplit_once(':').and_then(|(address, _)| address.parse().ok()));
    parsed.map(|address: IpAddr| match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies::new(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn networks_and_addresses_are_told_apart() {
        let trusted = proxies(&["127.0.0.1", "172.18.0.0/16", "fd00::/8"]);
        for yes in ["127.0.0.1", "::ffff:127.0.0.1", "172.18.255.1", "fd12::1"] {
            assert!(trusted.trust(yes.parse().unwrap()), "{yes}");
        }
        for no in ["127.0.0.2", "172.19.0.1", "::1", "fc00::1", "::"] {
            assert!(!trusted.trust(no.parse().unwrap()), "{no}");
        }
        assert!(proxies(&["0.0.0.0/0"]).trust("1.2.3.4".parse().unwrap()));
        assert!(!proxies(&["0.0.0.0/0"]).trust("2001:db8::1".parse().unwrap()));
        assert!(proxies(&["::/0"]).trust("2001:db8::1".parse().unwrap()));
        for bad in ["", "proxy", "127.0.0.1/33", "::1/129", "127.0.0.1/", "127.0.0.1/-1", "127.0.0.1:80"] {
            assert!(Proxies::new(&[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(Proxies::new(&vec!["127.0.0.1".to_owned(); MAX_PROXIES + 1]).is_err());
    }

    #[test]
    fn client_is_the_last_address_that_is_no_trusted_proxy() {
        let trusted = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        let client = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            trusted.client("127.0.0.1".parse().unwrap(), &headers).to_string()
        };
        for (lines, expected) in [
            (&[][..], "127.0.0.1"),
            (&["192.168.1.7"], "192.168.1.7"),
            // The client has made up the first one.
            (&["127.0.0.1, 192.168.1.7"], "192.168.1.7"),
            (&["127.0.0.1", "192.168.1.7, 10.0.0.1"], "192.168.1.7"),
            (&["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
            (&["192.168.1.7:4711"], "192.168.1.7"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["::ffff:192.168.1.7"], "192.168.1.7"),
            (&["192.168.1.7, unknown"], "127.0.0.1"),
            (&["192.168.1.7, unknown, 10.0.0.1"], "10.0.0.1"),
        ] {
            assert_eq!(client(lines), expected, "{lines:?}");
        }
    }
}
