//! The real node, paired with hubs over its port: by a person with a code, by guessers, and with a proxy in the middle.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cat_node::config::NodeSettings;
use cat_node::control::{self, Answer, Command};
use cat_node::hubs::PairedHub;
use cat_node::run::run;
use cat_node::source::SourceSpec;
use daemon::config::Secret;
use daemon::identity::{Fingerprint, Identity, Key};
use daemon::opening::Opening;
use daemon::pairing::{BadExchange, Code, Ends, HubExchange, PairingSecret, TRIES};
use daemon::shutdown::CancellationToken;
use daemon::tls::{Policy, TlsClient, TlsServer};
use hyper_util::rt::TokioIo;
use proto::cat_client::CatClient;
use proto::pairing_client::PairingClient;
use proto::{
    AnalyzeCatSoundRequest, Cursor, DescribeRequest, ListenRequest, PairingBeginRequest, PairingConfirmRequest,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code as Grpc, Status};

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

fn key() -> Arc<Key> {
    Arc::new(Key::generate().unwrap().0)
}

fn fingerprint(key: &Key) -> Fingerprint {
    key.public().fingerprint()
}

struct Node {
    address: SocketAddr,
    folder: PathBuf,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    async fn start(folder: &Path) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    async fn start_with(folder: &Path, change: impl FnOnce(&mut NodeSettings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let mut settings = NodeSettings {
            source: SourceSpec::Synthetic { seed: 1, vocalisations: true },
            cat: "Tom".into(),
            state_dir: Some(folder.to_owned()),
            ..NodeSettings::default()
        };
        change(&mut settings);
        tokio::spawn(run(settings, vec![listener], stop.clone()));
        let node = Self { address, folder: folder.to_owned(), stop };
        within("the node runs", async {
            while !control::place_of_client(Some(folder)).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        node
    }

    fn key(&self) -> Fingerprint {
        fingerprint(&Identity::read(&self.folder).unwrap().unwrap())
    }

    async fn command(&self, command: Command) -> Answer {
        let socket = control::place_of_client(Some(&self.folder));
        tokio::task::spawn_blocking(move || control::ask(&socket, command)).await.unwrap().unwrap()
    }

    async fn code(&self) -> Code {
        match self.command(Command::Pair).await {
            Answer::Code(code) => code.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn hubs(&self) -> Vec<PairedHub> {
        match self.command(Command::ListHubs).await {
            Answer::Hubs(hubs) => hubs,
            other => panic!("{other:?}"),
        }
    }
}

/// A channel to whoever is at the address.
async fn channel(address: SocketAddr, tls: TlsClient) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(tls.connect(TcpStream::connect(address).await?).await?)) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    within("a connection", endpoint.connect_with_connector(connect)).await.unwrap()
}

#[derive(Debug)]
enum Failure {
    Node(Status),
    Proof(BadExchange),
}

/// Pairs as a hub with this key, which sees `seen` at the other end.
async fn pair(address: SocketAddr, hub: &Arc<Key>, seen: Fingerprint, code: &Code) -> Result<(), Failure> {
    pair_by(address, hub, HubExchange::begin(code, Ends { hub: fingerprint(hub), node: seen }), false).await
}

/// Pairs as a hub that has this secret in its config.
async fn pair_by_secret(node: &Node, hub: &Arc<Key>, secret: &str) -> Result<(), Failure> {
    let secret = PairingSecret::new(&Secret::new(secret)).unwrap();
    let ends = Ends { hub: fingerprint(hub), node: node.key() };
    pair_by(node.address, hub, HubExchange::begin_with_secret(&secret, ends), true).await
}

async fn pair_by(address: SocketAddr, hub: &Arc<Key>, exchange: HubExchange, by_secret: bool) -> Result<(), Failure> {
    let channel = channel(address, TlsClient::to_anybody(Arc::clone(hub)).unwrap()).await;
    let mut client = PairingClient::new(channel);
    let begin = PairingBeginRequest { exchange: exchange.message().to_vec(), by_secret };
    let begun = client.begin(begin).await.map_err(Failure::Node)?.into_inner();
    let proof = exchange.finish(&begun.exchange, &begun.proof).map_err(Failure::Proof)?;
    let confirm = PairingConfirmRequest { proof, hub_name: "home".into(), owner_port: 50_051 };
    let confirmed = client.confirm(confirm).await.map_err(Failure::Node)?.into_inner();
    assert_eq!(confirmed.cat_name, "Tom");
    Ok(())
}

/// Describes the node as a hub with this key.
async fn describe(node: &Node, hub: &Arc<Key>) -> Result<String, Status> {
    let tls = TlsClient::new(Arc::clone(hub), vec![node.key()]).unwrap();
    let mut client = CatClient::new(channel(node.address, tls).await);
    within("an answer", client.describe(DescribeRequest::default())).await.map(|answer| answer.into_inner().cat_name)
}

#[tokio::test]
async fn paired_hub_listens_until_the_node_forgets_it() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, stranger) = (key(), key());
    let node = Node::start(folder.path()).await;
    assert_eq!(describe(&node, &hub).await.unwrap_err().code(), Grpc::PermissionDenied);
    let code = node.code().await;
    pair(node.address, &hub, node.key(), &code).await.unwrap();
    let owner = Some("127.0.0.1:50051".parse().unwrap());
    assert_eq!(node.hubs().await, [PairedHub { key: fingerprint(&hub).to_string(), name: "home".into(), owner }]);
    assert_eq!(describe(&node, &hub).await.unwrap(), "Tom");
    assert_eq!(describe(&node, &stranger).await.unwrap_err().code(), Grpc::PermissionDenied);

    // The pairing outlives a restart.
    node.stop.cancel();
    within("the node stops", async {
        while control::place_of_client(Some(folder.path())).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let node = Node::start(folder.path()).await;
    let tls = TlsClient::new(Arc::clone(&hub), vec![node.key()]).unwrap();
    let mut client = CatClient::new(channel(node.address, tls).await);
    let mut stream = client.listen(ListenRequest::default()).await.unwrap().into_inner();
    within("a frame", stream.message()).await.unwrap().unwrap();

    let forgotten = node.command(Command::ForgetHub { name: "home".into() }).await;
    assert!(matches!(forgotten, Answer::Forgotten(_)), "{forgotten:?}");
    let ended = within("the stream ends", async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    assert!(ended.await.is_err(), "the connection is cut");
    assert_eq!(describe(&node, &hub).await.unwrap_err().code(), Grpc::PermissionDenied);
    assert_eq!(node.hubs().await, []);

    let code = node.code().await;
    pair(node.address, &hub, node.key(), &code).await.unwrap();
    assert_eq!(describe(&node, &hub).await.unwrap(), "Tom");
}

#[tokio::test]
async fn node_pairs_by_its_secret_once_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [key(), key()];
    let (secret, other) = ("a secret in both configs", "a secret in one config");
    let with_secret = |settings: &mut NodeSettings| settings.pairing_secret = Some(Secret::new(secret));
    let node = Node::start_with(folder.path(), with_secret).await;
    let wrong = pair_by_secret(&node, &first, other).await;
    assert!(matches!(wrong, Err(Failure::Proof(_))), "{wrong:?}");
    assert_eq!(node.hubs().await, []);
    // An open code changes nothing: the hub says which of both it means.
    node.code().await;
    pair_by_secret(&node, &first, secret).await.unwrap();
    assert_eq!(describe(&node, &first).await.unwrap(), "Tom");
    // It did not get the answer.
    pair_by_secret(&node, &first, secret).await.unwrap();
    assert_eq!(node.hubs().await.len(), 1);

    let refused = |tried: Result<(), Failure>| {
        assert!(
            matches!(&tried, Err(Failure::Node(status)) if status.code() == Grpc::FailedPrecondition
                && status.message().contains("takes no pairing secret")),
            "{tried:?}"
        );
    };
    refused(pair_by_secret(&node, &second, secret).await);
    // A hub that a person has forgotten does not come back, even after a restart.
    node.command(Command::ForgetHub { name: "home".into() }).await;
    refused(pair_by_secret(&node, &first, secret).await);
    drop(node);
    let node = Node::start_with(folder.path(), with_secret).await;
    refused(pair_by_secret(&node, &first, secret).await);
    let code = node.code().await;
    pair(node.address, &second, node.key(), &code).await.unwrap();
}

#[tokio::test]
async fn node_without_a_secret_takes_none_and_guesses_use_no_code_up() {
    let folder = tempfile::tempdir().unwrap();
    let hub = key();
    let node = Node::start(folder.path()).await;
    let code = node.code().await;
    for _ in 0..2 * TRIES {
        let tried = pair_by_secret(&node, &hub, "a secret in one config").await;
        assert!(matches!(&tried, Err(Failure::Node(status)) if status.code() == Grpc::FailedPrecondition), "{tried:?}");
    }
    pair(node.address, &hub, node.key(), &code).await.unwrap();
}

#[tokio::test]
async fn guesses_pair_nobody_and_use_the_code_up() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, guesser) = (key(), key());
    let node = Node::start(folder.path()).await;
    let without = pair(node.address, &hub, node.key(), &Code::random()).await;
    assert!(matches!(&without, Err(Failure::Node(status)) if status.code() == Grpc::FailedPrecondition), "{without:?}");
    let code = node.code().await;
    for _ in 0..TRIES {
        let guess = pair(node.address, &guesser, node.key(), &Code::random()).await;
        assert!(matches!(guess, Err(Failure::Proof(_))), "{guess:?}");
    }
    let late = pair(node.address, &hub, node.key(), &code).await;
    assert!(matches!(&late, Err(Failure::Node(status)) if status.message().contains("too often")), "{late:?}");
    assert_eq!(node.hubs().await, []);
    let code = node.code().await;
    pair(node.address, &hub, node.key(), &code).await.unwrap();
    let again = pair(node.address, &guesser, node.key(), &code).await;
    assert!(matches!(&again, Err(Failure::Node(status)) if status.code() == Grpc::FailedPrecondition), "{again:?}");
}

/// A program between hub and node: it has a key of its own, speaks TLS with both, and passes everything on.
async fn proxy(key: Arc<Key>, node: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, client) =
        (TlsServer::new(Arc::clone(&key), Policy::TlsOnly).unwrap(), TlsClient::to_anybody(key).unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, peer) = listener.accept().await.unwrap();
            let (server, client) = (server.clone(), client.clone());
            tokio::spawn(async move {
                let (mut hub, _) = server.open(stream, peer).await.unwrap();
                let mut node = client.connect(TcpStream::connect(node).await.unwrap()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut hub, &mut node).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn proxy_in_the_middle_gets_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, between) = (key(), key());
    let node = Node::start(folder.path()).await;
    let code = node.code().await;
    let address = proxy(Arc::clone(&between), node.address).await;
    // The hub is led to the proxy, and sees its key.
    let led_astray = pair(address, &hub, fingerprint(&between), &code).await;
    assert!(matches!(led_astray, Err(Failure::Proof(_))), "{led_astray:?}");
    assert_eq!(node.hubs().await, [], "neither the hub nor the proxy is paired");
    assert_eq!(describe(&node, &between).await.unwrap_err().code(), Grpc::PermissionDenied);
    // The same code is good without the proxy.
    pair(node.address, &hub, node.key(), &code).await.unwrap();
    assert_eq!(describe(&node, &hub).await.unwrap(), "Tom");
}

#[tokio::test]
async fn pairing_needs_tls() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path()).await;
    node.code().await;
    let plain = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    let refused = PairingClient::new(plain.clone()).begin(PairingBeginRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Grpc::Unauthenticated);
    // A program of this machine calls the rest as before.
    assert_eq!(CatClient::new(plain).describe(DescribeRequest::default()).await.unwrap().into_inner().cat_name, "Tom");
}

#[tokio::test]
async fn without_live_listening_paired_hubs_alone_get_sound() {
    let folder = tempfile::tempdir().unwrap();
    let hub = key();
    let node = Node::start_with(folder.path(), |settings| settings.listen_live = false).await;
    let plain = Endpoint::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap();
    let mut program = CatClient::new(plain);
    let refused = [
        program.listen(ListenRequest::default()).await.unwrap_err(),
        // The tape is no way around it.
        program.listen(ListenRequest { from: Some(Cursor::default()), ..ListenRequest::default() }).await.unwrap_err(),
        program
            .analyze_cat_sound(AnalyzeCatSoundRequest { with_audio: true, ..AnalyzeCatSoundRequest::default() })
            .await
            .unwrap_err(),
    ];
    for status in refused {
        assert!(status.code() == Grpc::PermissionDenied && status.message().contains("listen_live"), "{status:?}");
    }
    // What is not sound is there as before, for clients of the original system too.
    assert_eq!(program.describe(DescribeRequest::default()).await.unwrap().into_inner().cat_name, "Tom");
    let mut words = program.analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap().into_inner();
    assert_eq!(within("a message", words.message()).await.unwrap().unwrap().audio, []);

    let code = node.code().await;
    pair(node.address, &hub, node.key(), &code).await.unwrap();
    let tls = TlsClient::new(Arc::clone(&hub), vec![node.key()]).unwrap();
    let mut client = CatClient::new(channel(node.address, tls).await);
    let mut stream = client.listen(ListenRequest::default()).await.unwrap().into_inner();
    within("a frame", stream.message()).await.unwrap().unwrap();
}
