//! Listening addresses: loopback by default, any other only when the user insists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tracing::warn;

use crate::config::ConfigError;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Both loopback addresses at this port. A machine without IPv6 (or IPv4) is served on the other alone.
    Loopback(u16),
    /// These addresses, each of which must be free.
    At(Vec<SocketAddr>),
}

impl Listen {
    /// The addresses that were given, or both loopback addresses when none was.
    pub fn given_or_loopback(given: &[SocketAddr], default_port: u16) -> Self {
        if given.is_empty() { Self::Loopback(default_port) } else { Self::At(given.to_vec()) }
    }

    /// Whether an address is within what the user allows: without `insecure`, loopback alone.
    ///
    /// # Errors
    /// Names the key and the address.
    pub fn check(&self, key: &str, insecure: bool) -> Result<(), ConfigError> {
        let Self::At(addresses) = self else { return Ok(()) };
        for address in addresses {
            if !address.ip().to_canonical().is_loopback() {
                if !insecure {
                    let why = format!(
                        "{address} is not a loopback address, and traffic is neither encrypted nor authenticated; \
                         add --insecure (insecure = true) to listen there all the same"
                    );
                    return Err(ConfigError::value(key, why));
                }
                warn!(%address, key, "listening without encryption or authentication");
            }
        }
        Ok(())
    }

    /// Opens the addresses.
    ///
    /// # Errors
    /// Names the address that cannot be had. With [`Listen::Loopback`] only when neither can.
    pub async fn bind(&self, key: &str) -> Result<Vec<TcpListener>, BindError> {
        match self {
            Self::At(addresses) => {
                let mut listeners = Vec::with_capacity(addresses.len());
                for address in addresses {
                    listeners.push(bind_one(key, *address).await?);
                }
                Ok(listeners)
            }
            Self::Loopback(port) => {
                let v4 = bind_one(key, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port)).await;
                let v6 = bind_one(key, SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), *port)).await;
                match (v4, v6) {
                    (Ok(v4), Ok(v6)) => Ok(vec![v4, v6]),
                    (Ok(one), Err(error)) | (Err(error), Ok(one)) if error.family_is_missing() => {
                        warn!(%error, "listening on one loopback address only");
                        Ok(vec![one])
                    }
                    (Err(error), _) | (_, Err(error)) => Err(error),
                }
            }
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {source}")]
pub struct BindError {
    key: String,
    address: SocketAddr,
    source: std::io::Error,
}

impl BindError {
    /// The machine has no such address family, as opposed to a port that is taken.
    fn family_is_missing(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self.source.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
            // EAFNOSUPPORT has no ErrorKind of its own.
            || self.source.raw_os_error() == Some(97)
    }
}

async fn bind_one(key: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { key: key.into(), address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Listen {
        Listen::At(vec![address.parse().unwrap()])
    }

    #[test]
    fn other_addresses_need_insecure() {
        let error = at("0.0.0.0:5000").check("http", false).unwrap_err().to_string();
        assert!(error.starts_with("http: 0.0.0.0:5000"), "{error}");
        assert!(at("0.0.0.0:5000").check("http", true).is_ok());
    }

    #[test]
    fn loopback_needs_nothing() {
        for address in ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(at(address).check("http", false).is_ok(), "{address}");
        }
        assert!(Listen::Loopback(5000).check("http", false).is_ok());
    }

    #[tokio::test]
    async fn taken_port_names_key_and_address() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listen::At(vec![address]).bind("dog").await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("dog: cannot listen on {address}")), "{error}");
        let error = Listen::Loopback(address.port()).bind("dog").await.unwrap_err().to_string();
        assert!(error.contains("cannot listen on 127.0.0.1"), "{error}");
    }
}
