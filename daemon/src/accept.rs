//! Accepts the connections of a server, within limits. All servers of both programs use this loop; what is said on a
//! connection is theirs.

use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::cause::cause;
use crate::connections::{Caps, Connections, Place};
use crate::opening::{Opening, PeerKey};
use crate::quiet::Quiet;

/// How long to wait after accepting failed, for example because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At most one refused connection and one failed accept of an address are logged in this time.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// How long an idle connection may take to end after the server has asked it to.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Most connections at a time of clients whose keys are not trusted, such as hubs that are about to be paired, or that
/// have no key, such as scrapers.
const MAX_STRANGERS: usize = 16;

/// How long a connection with TLS of a client without a key may last. A scrape takes less, and the next one connects
/// again.
const ANONYMOUS_LIFETIME: Duration = Duration::from_secs(30);

/// What a server grants its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections there may be, and how long they may be idle.
    pub connections: Caps,
    /// How long a client may leave sent data unacknowledged before its connection is cut.
    pub stall: Duration,
}

/// The client at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    /// The address that it has dialled, if the system knows it.
    pub local: Option<SocketAddr>,
    /// The key that it has proved to hold, if it connected with TLS.
    pub key: Option<PeerKey>,
    /// It connected with TLS, and has proved no key.
    pub is_anonymous: bool,
    /// The place of its connection. Whoever serves the connection counts the requests on it ([`Place::begin`]).
    pub place: Arc<Place>,
}

/// Accepts connections until `stop`, then ends those that are idle, finishes the requests in flight on the others and
/// returns. `opening` begins a connection, and `serve` makes its server.
pub async fn accept<O, F, C>(limits: Limits, listeners: Vec<TcpListener>, opening: O, serve: F, stop: CancellationToken)
where
    O: Opening,
    F: Fn(O::Stream, Client) -> C + Clone + Send + Sync + 'static,
    C: GracefulConnection<Error: Display + Send> + Send + 'static,
{
    let (connections, tasks) = (Connections::new(limits.connections), TaskTracker::new());
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    for listener in listeners {
        let port = Port {
            limits,
            opening: opening.clone(),
            serve: serve.clone(),
            connections: connections.clone(),
            strangers: Arc::clone(&strangers),
            stop: stop.clone(),
        };
        tasks.spawn(port.accept(listener, tasks.clone()));
    }
    tasks.close();
    tasks.wait().await;
}

/// What the connections of one address need.
#[derive(Clone)]
struct Port<O, F> {
    limits: Limits,
    opening: O,
    serve: F,
    connections: Connections,
    strangers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl<O, F, C> Port<O, F>
where
    O: Opening,
    F: Fn(O::Stream, Client) -> C + Clone + Send + Sync + 'static,
    C: GracefulConnection<Error: Display + Send> + Send + 'static,
{
    /// Accepts connections until the stop. If one cannot be accepted, this is logged, and the next one is awaited.
    async fn accept(self, listener: TcpListener, tasks: TaskTracker) {
        let (mut quiet, mut full) = (Quiet::new(LOG_PERIOD), Quiet::new(LOG_PERIOD));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => match self.connections.admit(peer.ip()) {
                    Some(place) => {
                        tasks.spawn(self.clone().connection(stream, peer, Arc::new(place)));
                        // A connection that made room closes before the next one is accepted.
                        tokio::task::yield_now().await;
                    }
                    None => {
                        if let Some(suppressed_lines) = full.allow() {
                            warn!(%peer, suppressed_lines, "connection refused: too many are in use");
                        }
                    }
                },
                Err(error) => {
                    if let Some(suppressed_lines) = quiet.allow() {
                        warn!(error = cause(&error), suppressed_lines, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends, is idle for too long or has to make room. After the stop it finishes its
    /// requests.
    async fn connection(self, stream: TcpStream, peer: SocketAddr, place: Arc<Place>) {
        prepare(&stream, self.limits.stall);
        let local = stream.local_addr().ok();
        let opened = tokio::select! {
            opened = self.opening.open(stream, peer) => opened,
            () = place.taken_over() => return debug!(%peer, "connection ended: another one needed its place"),
            () = place.idle_for_too_long() => return debug!(%peer, "connection ends: it was idle"),
            () = self.stop.cancelled() => return,
        };
        let (stream, key) = match opened {
            Ok(opened) => opened,
            Err(error) => return log_end(peer, Err(cause(&error))),
        };
        let is_anonymous = self.opening.is_anonymous(&stream);
        let is_stranger = is_anonymous || key.is_some_and(|key| self.opening.is_stranger(key));
        let _stranger = match is_stranger.then(|| self.strangers.try_acquire()).transpose() {
            Ok(permit) => permit,
            Err(_) => return debug!(%peer, "connection ended: too many clients have no key that is trusted"),
        };
        let client = Client { peer, local, key, is_anonymous, place: Arc::clone(&place) };
        let mut connection = pin!((self.serve)(stream, client));
        let mut revoked = pin!(async {
            match key {
                Some(key) => self.opening.revoked(key).await,
                None => std::future::pending().await,
            }
        });
        let mut too_old = pin!(async {
            if !is_anonymous {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(ANONYMOUS_LIFETIME).await;
        });
        tokio::select! {
            // Asked in this order: the key is watched before a request of it is answered.
            biased;
            () = &mut revoked => return info!(%peer, "connection ended: its key is trusted no longer"),
            ended = &mut connection => return log_end(peer, ended),
            () = place.taken_over() => return debug!(%peer, "connection ended: another one needed its place"),
            () = either(place.idle_for_too_long(), &mut too_old) => {
                debug!(%peer, "connection ends: it was idle, or too old for a client without a key");
                connection.as_mut().graceful_shutdown();
                if let Ok(ended) = tokio::time::timeout(GOODBYE_TIMEOUT, connection).await {
                    log_end(peer, ended);
                }
                return;
            }
            () = self.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => log_end(peer, ended),
            () = revoked => {}
            () = place.taken_over() => {}
            () = place.idle_for_too_long() => {}
        }
    }
}

async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = one => {}
        () = other => {}
    }
}

fn prepare(stream: &TcpStream, stall: Duration) {
    // Without TCP_NODELAY, the last packet of an answer can wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(stall)) {
        debug!(%error, "cannot set TCP_USER_TIMEOUT");
    }
}

fn log_end(peer: SocketAddr, ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use http::{Request, Response};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, watch};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::identity::{Key, PublicKey};
    use crate::opening::Plain;

    /// How long a test waits before it fails.
    const SOON: Duration = Duration::from_secs(30);

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    /// A server whose answers wait until the channel says `true`.
    struct Server {
        address: SocketAddr,
        release: watch::Sender<bool>,
        /// A request has come.
        begun: Arc<Notify>,
        stop: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn start(idle: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (release, released) = watch::channel(false);
        let begun = Arc::new(Notify::new());
        let has_begun = Arc::clone(&begun);
        let serve = move |stream, client: Client| {
            let (released, has_begun) = (released.clone(), Arc::clone(&has_begun));
            let service = service_fn(move |_: Request<Incoming>| {
                let (busy, mut released) = (client.place.begin(), released.clone());
                has_begun.notify_one();
                async move {
                    released.wait_for(|released| *released).await.unwrap();
                    drop(busy);
                    Ok::<_, Infallible>(Response::new("meow".to_owned()))
                }
            });
            http1::Builder::new().serve_connection(TokioIo::new(stream), service)
        };
        let connections = Caps { all: 8, per_address: 8, first_request: idle, idle };
        let task =
            tokio::spawn(accept(Limits { connections, stall: SOON }, vec![listener], Plain, serve, stop.clone()));
        Server { address, release, begun, stop, task }
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection ends").unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn connection_ends_when_it_is_idle_and_not_before() {
        let server = start(Duration::from_millis(500)).await;
        let silent = TcpStream::connect(server.address).await.unwrap();
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(REQUEST).await.unwrap();
        tokio::time::timeout(SOON, server.begun.notified()).await.expect("the request arrives");
        assert_eq!(rest(silent).await, "");
        server.release.send(true).unwrap();
        assert!(rest(busy).await.ends_with("meow"));
    }

    /// All clients have a key that is trusted no longer.
    #[derive(Clone)]
    struct Revoked(PublicKey);

    impl Opening for Revoked {
        type Stream = TcpStream;

        async fn open(&self, stream: TcpStream, _: SocketAddr) -> io::Result<(TcpStream, Option<PeerKey>)> {
            // The request is there before the connection is served.
            stream.peek(&mut [0]).await?;
            Ok((stream, Some(PeerKey(self.0))))
        }

        async fn revoked(&self, _: PeerKey) {}
    }

    #[tokio::test]
    async fn key_that_is_trusted_no_longer_gets_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let serve = |stream, _: Client| {
            let service =
                service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new("meow".to_owned())));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service)
        };
        let connections = Caps { all: 8, per_address: 8, first_request: SOON, idle: SOON };
        let opening = Revoked(Key::generate().unwrap().0.public());
        let limits = Limits { connections, stall: SOON };
        tokio::spawn(accept(limits, vec![listener], opening, serve, stop.clone()));
        for _ in 0..32 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(REQUEST).await.unwrap();
            let mut answer = Vec::new();
            // A connection that ends with an unread request is reset.
            let _ = tokio::time::timeout(SOON, client.read_to_end(&mut answer)).await.expect("the connection ends");
            assert_eq!(String::from_utf8(answer).unwrap(), "");
        }
        stop.cancel();
    }

    #[tokio::test]
    async fn stop_finishes_requests_and_returns() {
        let server = start(SOON).await;
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(REQUEST).await.unwrap();
        tokio::time::timeout(SOON, server.begun.notified()).await.expect("the request arrives");
        server.stop.cancel();
        server.release.send(true).unwrap();
        assert!(rest(busy).await.ends_with("meow"));
        tokio::time::timeout(SOON, server.task).await.expect("the server returns").unwrap();
    }
}
