//! Where the sound server is, and the socket to it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// The port of a sound server that listens on TCP, unless `PULSE_SERVER` names another one.
const DEFAULT_PORT: u16 = 4713;

/// How long a connection, or one answer on it, may take. A server that hangs accepts connections and answers none.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// The socket of a system-wide server.
const SYSTEM_SOCKET: &str = "/run/pulse/native";

/// Address of a sound server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(String, u16),
}

/// Where a sound server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// The addresses, in the order in which they are tried.
    pub(super) addresses: Vec<Address>,
    /// `PULSE_SERVER` names them. Otherwise they are the usual ones.
    pub(super) named: bool,
    /// The one of them that is the socket of a system-wide server and that nobody named. Such a server may be meant for
    /// other programs.
    pub(super) system: Option<Address>,
}

impl Places {
    /// The places by the environment, as other clients of sound servers find them: `PULSE_SERVER`, or else the socket
    /// of the session, or else that of a system-wide server.
    pub(super) fn by_environment() -> Self {
        Self::by(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn by(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        if let Some(server) = variable("PULSE_SERVER") {
            let addresses = server.to_string_lossy().split_whitespace().filter_map(Address::read).collect();
            return Self { addresses, named: true, system: None };
        }
        let session = variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("pulse"));
        let folder = variable("PULSE_RUNTIME_PATH").map(PathBuf::from).or(session);
        let session = folder.map(|folder| Address::Unix(folder.join("native")));
        let system = Address::Unix(SYSTEM_SOCKET.into());
        let addresses = session.into_iter().chain([system.clone()]).collect();
        Self { addresses, named: false, system: Some(system) }
    }

    /// Whether a server should be at this address: somebody named it, or its socket exists.
    pub(super) fn expects(&self, address: &Address) -> bool {
        self.named || matches!(address, Address::Unix(path) if path.exists())
    }
}

impl fmt::Display for Places {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        out.write_str(&addresses.join(" or "))
    }
}

impl Address {
    /// Reads one address of `PULSE_SERVER`: `/PATH`, `unix:PATH`, `tcp:HOST[:PORT]` or `HOST[:PORT]`, perhaps after the
    /// id of a machine in braces. `None`: it is not an address.
    fn read(text: &str) -> Option<Self> {
        let text =
            text.strip_prefix('{').map_or(Some(text), |rest| rest.split_once('}').map(|(_, address)| address))?;
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            return (!path.is_empty()).then(|| Self::Unix(path.into()));
        }
        let host = ["tcp:", "tcp4:", "tcp6:"].iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                (host, rest.strip_prefix(':'))
            }
            None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).ok()?;
        (!host.is_empty()).then(|| Self::Tcp(host.into(), port))
    }

    /// Connects. The name of a host is looked up first, which may take longer than [`ANSWER_DEADLINE`].
    pub(super) fn connect(&self) -> io::Result<Link> {
        match self {
            Self::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // Also limits how long `connect` waits for a server that no longer accepts connections.
                socket.set_write_timeout(Some(ANSWER_DEADLINE))?;
                socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
                socket.connect(&SockAddr::unix(path)?)?;
                Ok(Link::Unix(UnixStream::from(OwnedFd::from(socket))))
            }
            Self::Tcp(host, port) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, ANSWER_DEADLINE) {
                        Ok(stream) => {
                            stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
                            stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
                            return Ok(Link::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "{}", path.display()),
            Self::Tcp(host, port) => write!(out, "{host}:{port}"),
        }
    }
}

/// A connection. Reading and writing wait [`ANSWER_DEADLINE`] at most, unless another wait is set.
#[derive(Debug)]
pub(super) enum Link {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Link {
    /// Sets how long a read may wait. Not zero.
    pub(super) fn set_read_wait(&self, wait: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(wait)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(wait)),
        }
    }
}

impl Read for Link {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(out),
            Self::Tcp(stream) => stream.read(out),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)]) -> Places {
        Places::by(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn unix(path: &str) -> Address {
        Address::Unix(path.into())
    }

    #[test]
    fn pulse_server_is_honoured_in_all_its_forms() {
        let tcp = |host: &str, port| Address::Tcp(host.into(), port);
        for (text, address) in [
            ("unix:/tmp/native", unix("/tmp/native")),
            ("/tmp/native", unix("/tmp/native")),
            ("{0123abcd}unix:/run/user/1000/pulse/native", unix("/run/user/1000/pulse/native")),
            ("tcp:127.0.0.1:4000", tcp("127.0.0.1", 4000)),
            ("tcp:127.0.0.1", tcp("127.0.0.1", 4713)),
            ("tcp6:[::1]:4000", tcp("::1", 4000)),
            ("living-room", tcp("living-room", 4713)),
        ] {
            assert_eq!(
                places(&[("PULSE_SERVER", text)]),
                Places { addresses: vec![address], named: true, system: None },
                "{text}"
            );
        }
        let two = places(&[("PULSE_SERVER", "unix:/a tcp:b")]);
        assert_eq!(two.addresses, [unix("/a"), tcp("b", 4713)]);
        for nonsense in ["unix:", "tcp:host:99999", "{0123", "tcp:"] {
            assert_eq!(places(&[("PULSE_SERVER", nonsense)]).addresses, [], "{nonsense}");
        }
    }

    #[test]
    fn session_comes_before_the_system() {
        let session = places(&[("XDG_RUNTIME_DIR", "/run/user/1000")]);
        assert_eq!(session.addresses, [unix("/run/user/1000/pulse/native"), unix(SYSTEM_SOCKET)]);
        assert!(!session.named && session.system == Some(unix(SYSTEM_SOCKET)));
        let moved = places(&[("XDG_RUNTIME_DIR", "/run/user/1000"), ("PULSE_RUNTIME_PATH", "/tmp/pulse")]);
        assert_eq!(moved.addresses[0], unix("/tmp/pulse/native"));
        assert_eq!(places(&[]).addresses, [unix(SYSTEM_SOCKET)]);
    }

    #[test]
    fn server_is_expected_where_it_was_named_or_left_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let here = places(&[("PULSE_RUNTIME_PATH", path)]);
        assert!(!here.expects(&here.addresses[0]));
        std::fs::write(folder.path().join("native"), "").unwrap();
        assert!(here.expects(&here.addresses[0]));
        let named = places(&[("PULSE_SERVER", "tcp:nowhere")]);
        assert!(named.expects(&named.addresses[0]));
    }
}
