//! How a peer is reached: the addresses that it announces, and the one that the hub is connected to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

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

/// The way to a peer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Route {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The addresses of the last announcement. Empty: none was made, and the system resolves the name.
    announced: Vec<SocketAddr>,
    /// The last connection.
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    address: SocketAddr,
    cut: CancellationToken,
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
        state.announced = addresses;
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

    /// A channel along this route, which connects on first use, and reconnects after the connection broke. `None` for
    /// `tls`: without encryption.
    pub fn channel(&self, endpoint: &Endpoint, tls: Option<TlsClient>) -> Channel {
        let route = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let (route, tls) = (route.clone(), tls.clone());
            async move {
                let line = route.dial(uri).await?;
                Ok::<_, io::Error>(TokioIo::new(match tls {
                    None => Either::Left(line),
                    Some(tls) => Either::Right(Box::new(tls.connect(line).await?)),
                }))
            }
        }))
    }

    /// Tries all addresses at once, because some may be unreachable from here, and takes the first that answers.
    async fn dial(self, uri: Uri) -> io::Result<Line> {
        let mut addresses = self.announced();
        if addresses.is_empty() {
            let (host, port) = (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or(80));
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            addresses = tokio::net::lookup_host((host, port)).await?.take(MAX_ADDRESSES).collect();
        }
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
        }
        let tries = addresses
            .into_iter()
            .map(|address| Box::pin(async move { TcpStream::connect(address).await.map(|stream| (stream, address)) }));
        let ((stream, address), _) = futures_util::future::select_ok(tries).await?;
        stream.set_nodelay(true)?;
        let cut = CancellationToken::new();
        let line = Line { stream, cut: Box::pin(cut.clone().cancelled_owned()) };
        self.lock().connection = Some(Connection { address, cut });
        Ok(line)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            let why = "the node announces other addresses than before";
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
    use std::time::Duration;

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
