//! The hub's side of pairing: proves to a node that it knows the code, and learns the node's key.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::cause::{cause, without_number};
use daemon::identity::rotation::KeyHistory;
use daemon::identity::{Fingerprint, Key, NodeId, PublicKey};
use daemon::pairing::{Code, Ends, HubExchange, HubSecret, Refusal};
use daemon::tls::{TlsClient, TlsStream, server_key};
use daemon::url::HttpUrl;
use http::Uri;
use hub_base::error::{Code as ErrorCode, Error, Who};
use hub_base::peer::{CONNECT_TIMEOUT, connected};
use hub_base::text::{MAX_WORD_BYTES, clean};
use proto::pairing_client::PairingClient;
use proto::{
    PairingAnnounceKeyRequest, PairingBeginRequest, PairingConfirmRequest, PairingKeyChangesRequest,
    PairingStateRequest,
};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

/// Port of a node whose host is given without one.
const DEFAULT_PORT: u16 = 50056;

/// Time to find out whether a node speaks the pairing service, and whether it shows a code.
const STATE_DEADLINE: Duration = Duration::from_secs(3);

/// Time for an exchange of new keys with a node.
const KEYS_DEADLINE: Duration = Duration::from_secs(5);

/// Largest answer of a node during the pairing, in bytes. Answers hold a few numbers and a name, or 16
/// changes of a key, 152 bytes each.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its URL.
    pub url: String,
    /// The addresses that it announces. Empty: the system resolves the name in the URL.
    pub addresses: Vec<SocketAddr>,
}

/// What the hub tells the node about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubCard {
    /// Name of the hub, for people.
    pub name: String,
    /// Port of its Owner service. `None`: other machines cannot reach it.
    pub owner_port: Option<u16>,
}

/// What hub and node both know.
#[derive(Debug)]
pub enum Known {
    /// The code that the node shows.
    Code(Code),
    /// The secret of both configs.
    Secret(HubSecret),
}

/// A node that has just been paired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
    /// Its id: the fingerprint of its first key.
    pub id: NodeId,
    /// The fingerprint of its key.
    pub key: Fingerprint,
    /// The cat that it hears, by its own word. Empty: it does not say.
    pub cat: String,
}

/// The URL of a node that a person names by `HOST`, `HOST:PORT` or `http://HOST:PORT`.
///
/// # Errors
/// If that makes no URL.
pub fn url_of(host: &str) -> Result<String, Error> {
    let bad = || Error::new(ErrorCode::BadRequest, format!("{host:?} is not of the form HOST or HOST:PORT"));
    let host_part = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.strip_prefix("http://").unwrap_or(host).trim_end_matches('/').to_owned(),
    };
    let uri = daemon::url::parse(&format!("http://{host_part}")).map_err(|_| bad())?;
    let is_plain = uri.path() == "/" && uri.query().is_none() && !host_part.contains('@');
    let name = uri.host().filter(|name| is_plain && !name.is_empty()).ok_or_else(bad)?;
    let url = format!("http://{name}:{}", uri.port_u16().unwrap_or(DEFAULT_PORT));
    url.parse::<HttpUrl>().map_err(|_| bad())?;
    Ok(url)
}

/// Pairs with a node, as the hub with this key. Both then know each other's keys; the node has stored it. `limit` is
/// the time for all of it, from the lookup of the host to the last answer.
///
/// # Errors
/// [`ErrorCode::Unavailable`] if the node cannot be reached, [`ErrorCode::TooSlow`] if it takes longer than `limit`,
/// [`ErrorCode::Conflict`] if it has no code open or has another code, if it takes no secret or has another one, and if
/// a program is between the two, which looks the same.
pub async fn pair(
    key: &Arc<Key>,
    place: &Place,
    known: &Known,
    card: HubCard,
    limit: Duration,
) -> Result<Paired, Error> {
    let too_slow = || Error::new(ErrorCode::TooSlow(Who::Node), format!("the node at {} is too slow", place.url));
    tokio::time::timeout(limit, try_pair(key, place, known, card)).await.unwrap_or_else(|_| Err(too_slow()))
}

/// Whether the node says that it shows a code. A node that cannot be asked shows none.
pub async fn shows_code(key: &Arc<Key>, place: &Place) -> bool {
    let asked = async {
        let mut client = client(&place.url, connect(key, place).await.ok()?).await.ok()?;
        Some(client.state(PairingStateRequest {}).await.ok()?.into_inner().code_is_open)
    };
    tokio::time::timeout(STATE_DEADLINE, asked).await.ok().flatten().unwrap_or_default()
}

/// The id of the node at an address that answers to hubs it knows only. A key that is used once shows it. `None`: there
/// is no such node.
pub(crate) async fn closed_node(address: SocketAddr) -> Option<NodeId> {
    let asked = async {
        let (key, _) = Key::generate().ok()?;
        // The name means nothing: the address is dialled.
        let place = Place { url: "http://node.local".into(), addresses: vec![address] };
        let stream = connect(&Arc::new(key), &place).await.ok()?;
        let key = server_key(&stream).ok()?;
        let mut client = client(&place.url, stream).await.ok()?;
        client.state(PairingStateRequest {}).await.ok()?;
        Some(history_of(&mut client, &key).await.ok()?.id())
    };
    tokio::time::timeout(STATE_DEADLINE, asked).await.ok().flatten()
}

/// Exchanges new keys with a paired node, which the hub knows by this id and this key: learns the key that the node has
/// now, and announces the hub's own if it has changed. Returns the node's key. Nothing but the keys is believed.
///
/// # Errors
/// [`ErrorCode::Unavailable`] if the node cannot be reached, [`ErrorCode::Conflict`] if it is another node, or does not
/// know the hub, and [`ErrorCode::TooSlow`].
pub async fn follow_key(
    own: &Arc<Key>,
    history: &KeyHistory,
    place: &Place,
    pinned: (NodeId, Fingerprint),
) -> Result<Fingerprint, Error> {
    let too_slow = || Error::new(ErrorCode::TooSlow(Who::Node), format!("the node at {} is too slow", place.url));
    let following = try_follow_key(own, history, place, pinned);
    tokio::time::timeout(KEYS_DEADLINE, following).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn try_follow_key(
    own: &Arc<Key>,
    history: &KeyHistory,
    place: &Place,
    (id, pinned): (NodeId, Fingerprint),
) -> Result<Fingerprint, Error> {
    let url = place.url.as_str();
    let unreachable = |why: String| {
        Error::new(ErrorCode::Unavailable(Who::Node), format!("the node at {url} cannot be reached with TLS: {why}"))
    };
    let odd = |why: &str| Error::new(ErrorCode::Conflict, format!("the node at {url} {why}"));
    let stream = connect(own, place).await.map_err(|error| unreachable(cause(&error)))?;
    let key = server_key(&stream).map_err(|error| unreachable(cause(&error)))?;
    let mut client = client(url, stream).await.map_err(|error| unreachable(cause(&error)))?;
    if key.fingerprint() != pinned {
        let theirs = history_of(&mut client, &key).await.map_err(|why| odd(&why))?;
        if theirs.id() != id || !theirs.has_had(pinned) {
            return Err(odd("has another key, which the known one has not announced; it is not the paired node"));
        }
    }
    if !history.statements().is_empty() {
        let statements = history.statements().to_vec();
        client.announce_key(PairingAnnounceKeyRequest { statements }).await.map_err(|status| match status.code() {
            tonic::Code::Unimplemented => odd("is too old to learn the new key of the hub; pair it again"),
            tonic::Code::PermissionDenied => {
                odd("does not know the hub: look at `cat-node hubs` there, forget what is not yours, and pair it again")
            }
            _ => odd(&format!("does not take the new key of the hub: {}", cause(&status))),
        })?;
    }
    Ok(key.fingerprint())
}

/// The keys that a node has had, by its own word, which is checked. It has proved to hold `key`.
async fn history_of(client: &mut PairingClient<Channel>, key: &PublicKey) -> Result<KeyHistory, String> {
    match client.key_changes(PairingKeyChangesRequest {}).await {
        Ok(said) => KeyHistory::read(said.into_inner().statements, key).map_err(|error| error.to_string()),
        // Its program is older, so its key has not changed.
        Err(status) if status.code() == tonic::Code::Unimplemented => Ok(KeyHistory::begin(*key)),
        Err(status) => Err(cause(&status)),
    }
}

async fn try_pair(key: &Arc<Key>, place: &Place, known: &Known, card: HubCard) -> Result<Paired, Error> {
    let url = place.url.as_str();
    let stream = connect(key, place).await.map_err(|error| {
        let message = format!("the node at {url} cannot be reached with TLS: {}", cause(&error));
        Error::new(ErrorCode::Unavailable(Who::Node), message)
    })?;
    let node_key = server_key(&stream).map_err(|error| failed(url, &cause(&error)))?;
    let node = node_key.fingerprint();
    let ends = Ends { hub: key.public().fingerprint(), node };
    let from = stream.get_ref().0.peer_addr().ok().map(|address| address.ip());
    let mut client = client(url, stream).await.map_err(|error| failed(url, &cause(&error)))?;
    let history = history_of(&mut client, &node_key).await.map_err(|why| failed(url, &why))?;
    let (exchange, mut secret_try) = match known {
        Known::Code(code) => (HubExchange::begin(code, ends), None),
        Known::Secret(secret) => {
            let (exchange, secret_try) = secret.begin(ends, from).map_err(|error| failed(url, &error.to_string()))?;
            (exchange, Some(secret_try))
        }
    };
    let begin = PairingBeginRequest { exchange: exchange.message().to_vec(), by_secret: secret_try.is_some() };
    let begun = client.begin(begin).await.map_err(|status| refused(url, &status))?.into_inner();
    let proof = match (exchange.finish(&begun.exchange, &begun.proof), &mut secret_try) {
        (Ok(proof), _) => proof,
        (Err(error), None) => return Err(failed(url, &error.to_string())),
        (Err(_), Some(secret_try)) => {
            secret_try.count();
            // Ends the exchange, so that the log of the node says why too. What it answers does not matter.
            let _ = client.confirm(PairingConfirmRequest::default()).await;
            return Err(failed(url, &Refusal::WrongSecret.to_string()));
        }
    };
    let confirm =
        PairingConfirmRequest { proof, hub_name: card.name, owner_port: card.owner_port.unwrap_or_default().into() };
    let confirmed = client.confirm(confirm).await.map_err(|status| refused(url, &status))?.into_inner();
    Ok(Paired { id: history.id(), key: node, cat: clean(&confirmed.cat_name, MAX_WORD_BYTES) })
}

/// Connects to the first address that answers.
async fn connect(key: &Arc<Key>, place: &Place) -> io::Result<TlsStream<TcpStream>> {
    let tls = TlsClient::to_anybody(Arc::clone(key)).map_err(io::Error::other)?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses(place).await? {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => return tls.connect(stream).await,
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn addresses(place: &Place) -> io::Result<Vec<SocketAddr>> {
    if !place.addresses.is_empty() {
        return Ok(place.addresses.iter().copied().take(MAX_ADDRESSES).collect());
    }
    let uri: Uri = place.url.parse().map_err(io::Error::other)?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(DEFAULT_PORT));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok(tokio::net::lookup_host((host, port)).await?.take(MAX_ADDRESSES).collect())
}

/// A client over this one connection. It does not connect again: that could lead to another peer.
async fn client(url: &str, stream: TlsStream<TcpStream>) -> Result<PairingClient<Channel>, tonic::transport::Error> {
    let stream = Mutex::new(Some(stream));
    let channel = connected(url, move || stream.lock().unwrap_or_else(PoisonError::into_inner).take()).await?;
    Ok(PairingClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
}

fn failed(url: &str, why: &str) -> Error {
    Error::new(ErrorCode::Conflict, format!("not paired with the node at {url}: {why}"))
}

fn refused(url: &str, status: &Status) -> Error {
    match status.code() {
        tonic::Code::Unimplemented => failed(url, "its program is too old to be paired"),
        tonic::Code::FailedPrecondition | tonic::Code::PermissionDenied | tonic::Code::ResourceExhausted => {
            failed(url, &clean(&without_number(status.message()), MAX_WORD_BYTES))
        }
        _ => failed(url, &cause(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_becomes_a_url() {
        for (host, url) in [
            ("kitchen.local", "http://kitchen.local:50056"),
            ("kitchen:7", "http://kitchen:7"),
            ("192.168.1.7", "http://192.168.1.7:50056"),
            ("fd00::7", "http://[fd00::7]:50056"),
            ("[fd00::7]:9", "http://[fd00::7]:9"),
            ("http://kitchen.local:50056/", "http://kitchen.local:50056"),
        ] {
            assert_eq!(url_of(host).ok().as_deref(), Some(url), "{host}");
        }
        for host in ["", "a b", "https://kitchen", "kitchen/x", "tom:secret@kitchen", "kitchen:99999"] {
            assert!(url_of(host).is_err(), "{host}");
        }
    }
}
