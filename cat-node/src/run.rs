//! The whole node: connects its parts, starts them and stops them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::cause::{cause, without_number};
use daemon::config::Variables;
use daemon::control::Socket;
use daemon::grpc::{self, Services};
use daemon::identity::{Identity, Machine, Origin, OwnKey};
use daemon::pairing::PairingSecret;
use daemon::shutdown::CancellationToken;
use daemon::systemd;
use daemon::tls::{Keyring, Policy, Rights, TlsError, TlsServer};
use proto::cat_server::CatServer;
use proto::pairing_server::PairingServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::codec::CompressionEncoding;
use tonic_health::server::health_reporter;
use tracing::{error, info, warn};

use crate::announce::announce;
use crate::capture;
use crate::clock::NodeClock;
use crate::config::NodeSettings;
use crate::control;
use crate::hubs::Hubs;
use crate::metrics;
use crate::node::Node;
use crate::owner::Owner;
use crate::pairing::{Pairing, SERVICE_PATH};
use crate::service::CatService;
use crate::status::Status;
use crate::subscribers::Subscribers;
use crate::tape::Tape;
use crate::tokens::Tokens;
use crate::watch;

/// How long calls in flight may take to finish when the node stops. Longer than a call waits for the owner by default.
const DRAIN_DEADLINE: Duration = Duration::from_millis(2500);

/// How long the capture thread may take to close its source after that. Both together are within
/// [`daemon::shutdown::STOP_DEADLINE`].
const CAPTURE_DEADLINE: Duration = Duration::from_millis(1500);

/// How often a stopping node checks whether the capture thread has ended.
const CAPTURE_POLL: Duration = Duration::from_millis(10);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The source cannot become usable.
    #[error("source: {0}")]
    Source(String),
    /// The URL of the owner cannot be used.
    #[error("the owner's URL cannot be used: {}", cause(.0))]
    Owner(tonic::transport::Error),
    /// The node would listen beyond loopback, and has no key to encrypt with.
    #[error("the node has no key, so it cannot listen beyond loopback: the log says why; or set `insecure`")]
    NoKey,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system cannot start the capture thread.
    #[error("cannot start the capture thread: {}", without_number(.0))]
    Capture(std::io::Error),
}

/// Runs a node with checked settings on open sockets until `stop`, then ends its streams and returns within
/// [`daemon::shutdown::STOP_DEADLINE`].
///
/// # Errors
/// If it cannot start.
pub async fn run(config: NodeSettings, listeners: Vec<TcpListener>, stop: CancellationToken) -> Result<(), RunError> {
    config.source.check(config.channel).map_err(RunError::Source)?;
    let clock = NodeClock::start();
    let tape = Tape::new(clock, usize::try_from(config.tape_bytes).unwrap_or(usize::MAX));
    let tape = Arc::new(match config.spill() {
        Some(spill) => tape.spill_to(&spill),
        None => tape,
    });
    let source = config.audio_source();
    let status = Arc::new(Status::new(source.kind()));
    let owner = Owner::new(config.owner.clone(), config.owner_timeout()).map_err(RunError::Owner)?;
    let state_folder = config.state_folder();
    let key = state_folder.as_deref().and_then(key);
    let id = key.as_ref().map(OwnKey::id);
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let boot_id = format!("{:016x}", tape.boot_id());
    info!(?addresses, cat = config.cat, %source, boot_id, "cat-node starts");

    let secret = config.pairing_secret.as_ref().and_then(|secret| PairingSecret::new(secret).ok());
    let pairing =
        key.clone().zip(state_folder.as_deref()).and_then(|(key, folder)| pairing(key, folder, &config.cat, secret));
    if config.pairing_secret.is_some() && pairing.is_none() {
        warn!("pairing_secret is ignored, because the node has no state folder for its key and its hubs");
    }
    let owner = match key.clone().zip(pairing.clone()) {
        Some((key, pairing)) => owner.with_paired(key, pairing),
        None => owner,
    };
    let tokens = state_folder.as_deref().and_then(tokens);
    let opening = opening(key.as_ref(), pairing.as_ref(), tokens.clone(), config.insecure, &addresses)?;

    // A token of its own: capture stops after the streams have ended, so that they get all audio until then.
    let stop_capture = CancellationToken::new();
    status.beat(clock.now_ns());
    let capture =
        capture::spawn(source, Arc::clone(&tape), Arc::clone(&status), config.capture(), stop_capture.clone())
            .map_err(RunError::Capture)?;

    let commands = state_folder.as_deref().zip(pairing.clone());
    let commands = commands.and_then(|(folder, pairing)| accept_commands(folder, pairing, tokens, stop.clone()));
    let (health, health_service) = health_reporter();
    let watcher = tokio::spawn(watch::watch(Arc::clone(&status), clock, health, stop.clone()));
    let subscribers = Subscribers::new(config.listen_live, pairing.clone());
    let node = Arc::new(Node { cat: config.cat.clone(), key, owner, subscribers, tape, status, stop: stop.clone() });
    let meter = metrics::meter(Arc::clone(&node));
    let service = CatServer::new(CatService::new(node))
        .max_decoding_message_size(grpc::MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    let mut services = Services::only(service);
    if let Some(pairing) = pairing {
        services.others = services.others.add_service(
            PairingServer::new(pairing)
                .max_decoding_message_size(grpc::MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip),
        );
    }
    let descriptors = proto::FILE_DESCRIPTOR_SET;
    let served = grpc::serve(services, health_service, descriptors, meter, listeners, opening, stop.clone());
    let mut server = tokio::spawn(served);
    let announcement = if config.announce { announce(&config.cat, id, &addresses) } else { None };
    systemd::ready("listening");

    stop.cancelled().await;
    systemd::stopping();
    drop(announcement);
    if let Some(commands) = commands {
        // It ends with the stop, and removes its socket.
        let _ = commands.await;
    }
    if timeout(DRAIN_DEADLINE, &mut server).await.is_err() {
        warn!("calls in flight did not finish in time and were aborted");
        server.abort();
    }
    watcher.abort();
    stop_capture.cancel();
    let ended = timeout(CAPTURE_DEADLINE, async {
        while !capture.is_finished() {
            sleep(CAPTURE_POLL).await;
        }
    });
    match ended.await {
        // The thread has ended, so joining it does not block.
        Ok(()) if capture.join() => info!("cat-node has stopped"),
        Ok(()) => warn!("the capture thread had panicked"),
        Err(_) => warn!("the capture thread did not end in time"),
    }
    Ok(())
}

/// How connections begin: with TLS if the node has a key. Programs of this machine may do without.
fn opening(
    key: Option<&OwnKey>,
    pairing: Option<&Pairing>,
    tokens: Option<Tokens>,
    insecure: bool,
    addresses: &[SocketAddr],
) -> Result<Option<TlsServer>, RunError> {
    let is_reachable = addresses.iter().any(|address| !address.ip().to_canonical().is_loopback());
    let Some(key) = key else {
        return if is_reachable && !insecure { Err(RunError::NoKey) } else { Ok(None) };
    };
    if insecure && is_reachable {
        info!(
            "insecure: to encrypt the sound, pair this node with its hub (`cat-node pair`, then `hub pair CODE` on the \
             hub), and remove `insecure`"
        );
    }
    let policy = if insecure { Policy::PlainEverywhere } else { Policy::PlainOnLoopback };
    // Without a list of hubs, no hub is known.
    let keyring = pairing.map_or_else(Keyring::default, |pairing| pairing.hubs().keyring().clone());
    let rights = Rights { keyring, for_strangers: &[SERVICE_PATH] };
    let server = match tokens {
        Some(tokens) => TlsServer::with_scrapers(key.clone(), policy, Arc::new(tokens))?,
        None => TlsServer::new(key.clone(), policy)?,
    };
    Ok(Some(server.with_rights(rights)))
}

/// The hubs of the node, and its pairing. `None`: their list cannot be used, which is logged. The node then records and
/// serves this machine.
fn pairing(key: OwnKey, folder: &Path, cat: &str, secret: Option<PairingSecret>) -> Option<Pairing> {
    match Hubs::open(folder) {
        Ok(hubs) => Some(Pairing::new(key, cat.to_owned(), hubs, secret)),
        Err(error) => {
            error!(%error, "paired hubs are turned away");
            None
        }
    }
}

/// The tokens for `/metrics`. `None`: they cannot be used, which is logged, and no token is good.
fn tokens(folder: &Path) -> Option<Tokens> {
    Tokens::open(folder).inspect_err(|error| error!(%error, "tokens for /metrics are refused")).ok()
}

/// Starts the socket for commands. Without it the node works too, so a failure is logged.
fn accept_commands(
    folder: &Path,
    pairing: Pairing,
    tokens: Option<Tokens>,
    stop: CancellationToken,
) -> Option<JoinHandle<()>> {
    let path = control::place_of_node(&Variables::of_process(), folder);
    match Socket::bind(&path) {
        Ok(socket) => {
            let answer = move |line| control::answer(pairing.clone(), tokens.clone(), line);
            Some(tokio::spawn(socket.serve(answer, stop)))
        }
        Err(error) => {
            warn!(socket = %path.display(), error = cause(&error), "commands such as `cat-node pair` are not accepted");
            None
        }
    }
}

/// The key in a state folder. `None`: it can neither be read nor made, which is logged once.
fn key(folder: &Path) -> Option<OwnKey> {
    match Identity::open(folder, &Machine::this()) {
        Ok(Identity { key, origin }) => {
            let id = key.id();
            match origin {
                Origin::Kept => info!(%id, "identity"),
                Origin::Created => info!(%id, "new identity: the state folder had none"),
                Origin::CreatedOnAnotherMachine { previous } => warn!(
                    %id, %previous,
                    "new identity: the state folder comes from another machine; if this machine replaces that one, run `cat-node identity keep`"
                ),
            }
            Some(key)
        }
        Err(error) => {
            warn!(%error, "the node has no id; hubs know it by its URL");
            None
        }
    }
}
