//! Listening addresses: loopback by default, others only with `insecure`.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tracing::warn;

use crate::cause::cause;
use crate::config::{ConfigError, Derived};

/// Most connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// 127.0.0.1 and \[::1\] at this port. On a machine without IPv6 (or IPv4) the other one is enough.
    Loopback(u16),
    /// These addresses. All of them must be free.
    At(Vec<SocketAddr>),
}

impl Listen {
    /// The `given` addresses, or both loopback addresses at `default_port` if there are none.
    pub fn given_or_loopback(given: &[SocketAddr], default_port: u16) -> Self {
        if given.is_empty() { Self::Loopback(default_port) } else { Self::At(given.to_vec()) }
    }

    /// The addresses that stand for `key` if none is given, for `config show`.
    pub fn derived(&self, key: &'static str) -> Option<Derived> {
        let Self::Loopback(port) = self else { return None };
        let value = serde_json::json!([format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
        Some(Derived { key, value, from: "the loopback addresses of this machine".into() })
    }

    /// The first address that other machines can reach. `None`: all are loopback addresses.
    pub fn beyond_loopback(&self) -> Option<SocketAddr> {
        let Self::At(addresses) = self else { return None };
        addresses.iter().find(|address| !address.ip().to_canonical().is_loopback()).copied()
    }

    /// Checks that all addresses are loopback ones, unless the user allows others (`insecure`). `key` is the config key
    /// of the addresses.
    ///
    /// # Errors
    /// Names the key and the first address that is not allowed.
    pub fn check(&self, key: &str, insecure: bool) -> Result<(), ConfigError> {
        let Self::At(addresses) = self else { return Ok(()) };
        for address in addresses {
            if !address.ip().to_canonical().is_loopback() {
                if !insecure {
                    let why = format!(
                        "{address} is not a loopback address. Traffic would be unencrypted and clients would not be \
                         authenticated; to listen there anyway, add --insecure (insecure = true)"
                    );
                    return Err(ConfigError::value(key, why));
                }
                warn!(%address, key, "insecure: traffic is unencrypted and clients are not authenticated");
            }
        }
        Ok(())
    }

    /// Starts to listen on the addresses. `key` is their config key, for the error.
    ///
    /// # Errors
    /// Names the address that could not be bound. A machine without IPv6 (or IPv4) is tolerated where both families are
    /// asked for at one port: by [`Listen::Loopback`], and by 0.0.0.0 together with `[::]`.
    pub async fn bind(&self, key: &str) -> Result<Vec<TcpListener>, BindError> {
        match self {
            Self::At(addresses) => bind_all(addresses, |address, only_v6| bind_one(key, address, only_v6)),
            Self::Loopback(port) => {
                let v4 = bind_one(key, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port), false);
                let v6 = bind_one(key, SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), *port), false);
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

/// An address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {}", reason(.error))]
pub struct BindError {
    key: String,
    address: SocketAddr,
    /// Not the error's source: the message has all that it says.
    error: std::io::Error,
}

impl BindError {
    /// Whether the machine lacks this family of addresses (as opposed to a port that is in use).
    fn family_is_missing(&self) -> bool {
        matches!(self.error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
            // EAFNOSUPPORT has no ErrorKind of its own.
            || self.error.raw_os_error() == Some(97)
    }
}

/// What happened, and what to do where that is known.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "another program uses this port; stop it, or choose another port".into(),
        ErrorKind::AddrNotAvailable => "this machine does not have this address".into(),
        ErrorKind::PermissionDenied => "permission denied; ports below 1024 need privileges".into(),
        _ => cause(error),
    }
}

/// Whether `address` is `[::]` and its port is configured for IPv4 too. Alone, `[::]` takes IPv4 as well.
fn has_v4_twin(address: &SocketAddr, all: &[SocketAddr]) -> bool {
    address.is_ipv6()
        && address.ip().is_unspecified()
        && all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Whether `address` means all addresses of its family, and those of the other family are configured at its port too.
fn has_twin(address: &SocketAddr, all: &[SocketAddr]) -> bool {
    let is_twin = |other: &SocketAddr| {
        other.ip().is_unspecified() && other.is_ipv4() != address.is_ipv4() && other.port() == address.port()
    };
    address.ip().is_unspecified() && all.iter().any(is_twin)
}

/// Binds all addresses by `bind`, which is told whether IPv4 is left to another socket.
fn bind_all<T>(
    addresses: &[SocketAddr],
    bind: impl Fn(SocketAddr, bool) -> Result<T, BindError>,
) -> Result<Vec<T>, BindError> {
    let (mut listeners, mut missing) = (Vec::with_capacity(addresses.len()), None);
    for address in addresses {
        match bind(*address, has_v4_twin(address, addresses)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.family_is_missing() && has_twin(address, addresses) => {
                warn!(%error, "listening without this family of addresses");
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn bind_one(key: &str, address: SocketAddr, only_v6: bool) -> Result<TcpListener, BindError> {
    bind_socket(address, only_v6).map_err(|error| BindError { key: key.into(), address, error })
}

/// Listens on an address. With `only_v6`, `[::]` leaves IPv4 to another socket at the same port.
fn bind_socket(address: SocketAddr, only_v6: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if only_v6 && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted program can listen again at once.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
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
    async fn both_families_listen_at_one_port() {
        // The port of the first socket may be taken in the other family, so a few ports are tried.
        let mut errors = Vec::new();
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
            errors.clear();
            for addresses in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
                let addresses = addresses.map(|address| format!("{address}:{port}").parse().unwrap());
                if let Err(error) = Listen::At(addresses.to_vec()).bind("http").await {
                    errors.push(error.to_string());
                }
            }
            if errors.is_empty() {
                return;
            }
        }
        panic!("{errors:?}");
    }

    #[test]
    fn machine_without_one_family_listens_by_the_other() {
        // What a kernel without IPv6 says.
        let without_v6 = |address: SocketAddr, _| {
            let error = std::io::Error::from_raw_os_error(97);
            if address.is_ipv4() { Ok(address) } else { Err(BindError { key: "http".into(), address, error }) }
        };
        let bound = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            bind_all(&addresses, without_v6).map_err(|error| error.to_string())
        };
        assert_eq!(bound(&["0.0.0.0:5000", "[::]:5000"]), Ok(vec!["0.0.0.0:5000".parse().unwrap()]));
        // Whoever asks for an address of IPv6 without IPv4 at its port gets it, or an error.
        for addresses in [&["[::]:5000"][..], &["0.0.0.0:5000", "[::]:5001"], &["0.0.0.0:5000", "[fd00::7]:5000"]] {
            let error = bound(addresses).unwrap_err();
            assert!(error.starts_with("http: cannot listen on ["), "{error}");
        }
    }

    #[tokio::test]
    async fn alone_the_unspecified_address_of_ipv6_takes_ipv4_too() {
        let listeners = at("[::]:0").bind("http").await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    }

    #[tokio::test]
    async fn taken_port_names_key_address_and_reason_once() {
        use std::error::Error;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listen::At(vec![address]).bind("dog").await.unwrap_err();
        assert!(error.source().is_none(), "a report of the chain would repeat the reason");
        let error = error.to_string();
        assert!(error.starts_with(&format!("dog: cannot listen on {address}: another program")), "{error}");
        let error = Listen::Loopback(address.port()).bind("dog").await.unwrap_err().to_string();
        assert!(error.contains("cannot listen on 127.0.0.1"), "{error}");
    }
}
