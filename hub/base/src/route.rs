//! How a peer is reached: the addresses that it announces, and the one that the hub is connected to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::shutdown::CancellationToken;
use daemon::tls::TlsClient;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::either::Either;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::{Channel, Endpoint};

/// Most addresses of one peer that are tried.
pub const MAX_ADDRESSES: usize = 16;

/// How long the other addresses of a peer are tried alone, before those where another peer answered are tried too. A
/// machine that is off refuses nothing, so its address has to be given up by time.
const HEAD_START: Duration = Duration::from_millis(600);

/// How long an address that is no longer announced may be tried, when another peer answers at all others. After two
/// machines have swapped their names, mDNS may give the wrong address for a name again and again.
const FORMER_HOLDS: Duration = Duration::from_secs(3_600);

/// First and longest wait before a route leaves its address a second time. Mostly no other peer is to be found: one
/// peer has two names.
const LEAVE_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The way to a peer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Route {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// The addresses of the last announcement. Empty: none was made, and the system resolves the name.
    announced: Vec<SocketAddr>,
    /// The addresses to dial: those of the announcement, or else those that the system found last.
    current: Vec<SocketAddr>,
    /// Addresses of earlier announcements, with the end of their announcement. At most [`MAX_ADDRESSES`].
    former: Vec<(SocketAddr, Instant)>,
    /// Addresses of the peer at which another peer answered, and former ones that were tried.
    wrong: Vec<SocketAddr>,
    /// The last connection.
    connection: Option<Connection>,
    leave_again: Backoff,
    /// When the address may be left again. `None`: at any time.
    stays_until: Option<Instant>,
    /// Nothing is dialled any more.
    closed: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            announced: Vec::new(),
            current: Vec::new(),
            former: Vec::new(),
            wrong: Vec::new(),
            connection: None,
            leave_again: Backoff::new(LEAVE_AGAIN.0, LEAVE_AGAIN.1),
            stays_until: None,
            closed: false,
        }
    }
}

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    cut: CancellationToken,
}

impl State {
    fn change_to(&mut self, addresses: &[SocketAddr], now: Instant) {
        let gone = self.announced.iter().filter(|address| !addresses.contains(address)).map(|address| (*address, now));
        let mut former: Vec<_> = gone.collect();
        former.extend(self.former.iter().filter(|(address, _)| !self.announced.contains(address)));
        former.retain(|(address, _)| !addresses.contains(address));
        former.truncate(MAX_ADDRESSES);
        self.former = former;
        self.current = addresses.to_vec();
        self.wrong.clear();
        self.leave_again.reset();
        self.stays_until = None;
    }

    fn former(&self, now: Instant) -> Vec<SocketAddr> {
        let holds = self.former.iter().filter(|(_, until)| now.duration_since(*until) < FORMER_HOLDS);
        holds.map(|(address, _)| *address).collect()
    }
}

impl Route {
    /// Replaces the announced addresses, of which it keeps the first [`MAX_ADDRESSES`]. A connection to an address that
    /// is not among them is cut: another machine may have that address now. Returns whether the addresses changed.
    pub fn announce(&self, mut addresses: Vec<SocketAddr>) -> bool {
        addresses.truncate(MAX_ADDRESSES);
        let mut state = self.lock();
        if state.announced == addresses {
            return false;
        }
        if let Some(connection) = state.connection.take_if(|connection| !addresses.contains(&connection.address)) {
            connection.cut.cancel();
        }
        state.change_to(&addresses, Instant::now());
        state.announced = addresses;
        true
    }

    /// Another peer answers where the hub is connected to: two machines have swapped their names, and for a while each
    /// name leads to both, or both to one. Cuts the connection. The next one prefers the addresses that have not turned
    /// out to be wrong, and then those that the peer announced within the last hour. An address is left at once, and
    /// then at growing intervals of up to a minute. Returns whether there is another address to try now.
    pub fn leave(&self) -> bool {
        self.leave_at(Instant::now())
    }

    fn leave_at(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let all = [state.current.clone(), state.former(now)].concat();
        let State { wrong, connection, leave_again, stays_until, .. } = &mut *state;
        let Some(address) = connection.as_ref().map(|connection| connection.address) else { return false };
        let is_known = wrong.contains(&address);
        if !is_known {
            wrong.push(address);
        }
        wrong.retain(|known| *known == address || all.contains(known));
        let all_wrong = all.iter().all(|address| wrong.contains(address));
        let waits = (is_known || all_wrong) && stays_until.is_some_and(|until| now < until);
        if waits || all.len() < 2 {
            return false;
        }
        if all_wrong {
            // Addresses change hands.
            wrong.retain(|known| *known == address);
        }
        *stays_until = Some(now + leave_again.next_wait());
        if let Some(connection) = connection.take() {
            connection.cut.cancel();
        }
        true
    }

    /// The addresses of the last announcement.
    pub fn announced(&self) -> Vec<SocketAddr> {
        self.lock().announced.clone()
    }

    /// The address that the hub last connected to. `None`: it never did, or the connection was cut.
    pub fn connected_to(&self) -> Option<SocketAddr> {
        self.lock().connection.as_ref().map(|connection| connection.address)
    }

    /// Cuts the connection. Later tries to connect fail.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(connection) = state.connection.take() {
            connection.cut.cancel();
        }
    }

    /// A channel along this route, which connects on first use, and reconnects after the connection broke. `None` for
    /// `tls`: without encryption.
    pub fn channel(&self, endpoint: &Endpoint, tls: Option<TlsClient>) -> Channel {
        let route = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let (route, tls) = (route.clone(), tls.clone());
            async move {
                let line = route.clone().dial(uri).await?;
                let Some(tls) = tls else { return Ok(TokioIo::new(Either::Left(line))) };
                match tls.connect(line).await {
                    Ok(stream) => Ok::<_, io::Error>(TokioIo::new(Either::Right(Box::new(stream)))),
                    Err(error) => {
                        // Another key, or none: the peer may be at another address.
                        route.leave();
                        Err(error)
                    }
                }
            }
        }))
    }

    /// Tries all addresses at once, because some may be unreachable from here, and takes the first that answers. Those
    /// where another peer answered come last.
    async fn dial(self, uri: Uri) -> io::Result<Line> {
        if self.lock().closed {
            return Err(closed());
        }
        let mut addresses = self.announced();
        if addresses.is_empty() {
            let (host, port) = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(80));
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            addresses = tokio::net::lookup_host((host, port)).await?.take(MAX_ADDRESSES).collect();
        }
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
        }
        let (others, former) = {
            let mut state = self.lock();
            state.current.clone_from(&addresses);
            let good = |addresses: &[SocketAddr]| -> Vec<SocketAddr> {
                addresses.iter().copied().filter(|address| !state.wrong.contains(address)).collect()
            };
            let others = good(&addresses);
            if others.len() == addresses.len() {
                (vec![], vec![])
            } else {
                (others, good(&state.former(Instant::now())))
            }
        };
        let (stream, address) = if let Some(found) = soon(&others).await {
            found
        } else if let Some((stream, address)) = soon(&former).await {
            // Whatever answers here, the next connection goes elsewhere.
            self.lock().wrong.push(address);
            (stream, address)
        } else {
            first_of(&addresses).await?
        };
        stream.set_nodelay(true)?;
        let cut = CancellationToken::new();
        let line = Line { stream, cut: Box::pin(cut.clone().cancelled_owned()) };
        let mut state = self.lock();
        if state.closed {
            return Err(closed());
        }
        state.connection = Some(Connection { address, cut });
        Ok(line)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the hub does not use this node any more")
}

/// The first of these addresses that answers within [`HEAD_START`].
async fn soon(addresses: &[SocketAddr]) -> Option<(TcpStream, SocketAddr)> {
    if addresses.is_empty() {
        return None;
    }
    tokio::time::timeout(HEAD_START, first_of(addresses)).await.ok()?.ok()
}

/// The first of these addresses that answers. There must be one.
async fn first_of(addresses: &[SocketAddr]) -> io::Result<(TcpStream, SocketAddr)> {
    let tries = addresses
        .iter()
        .map(|address| Box::pin(async move { TcpStream::connect(address).await.map(|stream| (stream, *address)) }));
    Ok(futures_util::future::select_ok(tries).await?.0)
}

/// A connection that can be cut.
#[derive(Debug)]
struct Line {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            let why = "the node is looked for at another address";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use daemon::identity::Key;
    use daemon::opening::{Opening, PeerKey};
    use daemon::tls::{Policy, TlsServer};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tonic::body::Body;
    use tower::{Service, ServiceExt};

    use super::*;

    /// How long a test waits before it fails.
    const SOON: Duration = Duration::from_secs(20);

    async fn dial(route: &Route, address: SocketAddr) -> Line {
        route.clone().dial(format!("http://{address}").parse().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn connection_is_cut_when_its_address_is_announced_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let route = Route::default();
        assert_eq!(route.connected_to(), None);
        let mut line = dial(&route, address).await;
        let _accepted = listener.accept().await.unwrap();
        assert_eq!(route.connected_to(), Some(address));

        let elsewhere: SocketAddr = "192.0.2.1:50056".parse().unwrap();
        assert!(route.announce(vec![address, elsewhere]));
        assert!(!route.announce(vec![address, elsewhere]), "nothing has changed");
        assert_eq!(route.connected_to(), Some(address), "it is still announced");

        let reading = tokio::spawn(async move { line.read_u8().await });
        assert!(route.announce(vec![elsewhere]));
        let error = tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(route.connected_to(), None);
    }

    /// Two peers, and a route that leads to both and is connected to the first of them.
    async fn two_peers() -> (Route, TcpListener, TcpListener, Line) {
        let (one, two) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let route = Route::default();
        let at_one = one.local_addr().unwrap();
        route.announce(vec![at_one]);
        let line = dial(&route, at_one).await;
        route.announce(vec![at_one, two.local_addr().unwrap()]);
        assert_eq!(route.connected_to(), Some(at_one));
        (route, one, two, line)
    }

    #[tokio::test]
    async fn peer_that_is_another_one_is_left_for_the_other_addresses() {
        let (route, one, two, mut line) = two_peers().await;
        let now = Instant::now();
        assert!(route.leave_at(now));
        assert!(line.read_u8().await.is_err(), "the connection is cut");
        let at_two = two.local_addr().unwrap();
        for _ in 0..20 {
            let _line = dial(&route, at_two).await;
            assert_eq!(route.connected_to(), Some(at_two));
        }
        // There is the same peer: both addresses are its own, and it is left in peace for a while.
        assert!(!route.leave_at(now), "no address is left");
        assert_eq!(route.connected_to(), Some(at_two));
        assert!(route.leave_at(now + LEAVE_AGAIN.0));
        dial(&route, at_two).await;
        assert_eq!(route.connected_to(), one.local_addr().ok(), "addresses change hands");
    }

    #[tokio::test]
    async fn peer_whose_other_addresses_do_not_answer_is_dialled_where_it_was() {
        let (route, one, two, _line) = two_peers().await;
        let (at_one, at_two, now) = (one.local_addr().unwrap(), two.local_addr().unwrap(), Instant::now());
        drop(two);
        assert!(route.leave_at(now));
        let _line = dial(&route, at_one).await;
        assert_eq!(route.connected_to(), Some(at_one));
        assert!(!route.leave_at(now), "not at once again");
        let _two = TcpListener::bind(at_two).await.unwrap();
        assert!(route.leave_at(now + LEAVE_AGAIN.0));
        let _line = dial(&route, at_one).await;
        assert_eq!(route.connected_to(), Some(at_two), "it has come up meanwhile");
    }

    #[tokio::test]
    async fn peer_whose_name_has_lost_its_address_is_found_where_it_was_announced_before() {
        let (route, one, two, _line) = two_peers().await;
        let (at_one, at_two) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        // mDNS gives the address of the other machine alone.
        route.announce(vec![at_two]);
        let _line = dial(&route, at_two).await;
        assert_eq!(route.connected_to(), Some(at_two));
        let now = Instant::now();
        assert!(route.leave_at(now));
        let _line = dial(&route, at_two).await;
        assert_eq!(route.connected_to(), Some(at_one));
        // What answers there need not be a node: the next connection goes to the announced address.
        let _line = dial(&route, at_two).await;
        assert_eq!(route.connected_to(), Some(at_two));
        assert!(!route.leave_at(now + FORMER_HOLDS), "an old announcement counts no longer");
        // Announcements of the past are bounded.
        for port in 1..=100 {
            route.announce(vec![SocketAddr::from(([192, 0, 2, 1], port))]);
        }
        assert_eq!(route.lock().former.len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn only_address_of_a_peer_is_never_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let route = Route::default();
        assert!(!route.leave(), "it is not connected");
        let _line = dial(&route, address).await;
        assert!(!route.leave());
        assert_eq!(route.connected_to(), Some(address));
    }

    #[tokio::test]
    async fn channel_with_tls_connects_to_the_expected_key_only() {
        let [node, stranger, hub] = [(); 3].map(|()| Arc::new(Key::generate().unwrap().0));
        for (expected, accepted) in [(&node, true), (&stranger, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = TlsServer::new(Arc::clone(&node), Policy::TlsOnly).unwrap();
            let served = tokio::spawn(async move {
                let (stream, peer) = listener.accept().await.unwrap();
                server.open(stream, peer).await.map(|(_, key)| key)
            });
            let tls = TlsClient::new(Arc::clone(&hub), vec![expected.public().fingerprint()]).unwrap();
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            let mut channel = Route::default().channel(&endpoint, Some(tls));
            // The server ends the connection after the handshake, so that no call succeeds.
            let call = async { channel.ready().await?.call(http::Request::new(Body::empty())).await };
            assert!(tokio::time::timeout(SOON, call).await.expect("the call ends").is_err());
            let key = tokio::time::timeout(SOON, served).await.expect("the handshake ends").unwrap();
            assert_eq!(key.ok(), accepted.then(|| Some(PeerKey(hub.public()))));
        }
    }

    #[tokio::test]
    async fn closed_route_has_no_connection_and_makes_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let route = Route::default();
        let mut line = dial(&route, address).await;
        let _accepted = listener.accept().await.unwrap();
        route.close();
        assert_eq!(line.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let again = route.clone().dial(format!("http://{address}").parse().unwrap()).await;
        assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::NotConnected));
    }

    #[tokio::test]
    async fn announced_addresses_are_dialled_and_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let route = Route::default();
        route.announce(vec![listener.local_addr().unwrap()]);
        dial(&route, "192.0.2.1:9".parse().unwrap()).await;
        assert_eq!(route.connected_to(), Some(listener.local_addr().unwrap()));
        route.announce((0..100).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect());
        assert_eq!(route.announced().len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn name_that_is_not_announced_is_resolved_by_the_system() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let address = listener.local_addr().unwrap();
        let route = Route::default();
        dial(&route, address).await;
        assert_eq!(route.connected_to(), Some(address));
    }
}
