//! The hub's side of pairing: proves to a node that it knows the code, and learns the node's key.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::cause::{cause, without_number};
use daemon::identity::{Fingerprint, Key};
use daemon::pairing::{Code, Ends, HubExchange};
use daemon::tls::{TlsClient, TlsStream, server_key};
use daemon::url::HttpUrl;
use http::Uri;
use hub_base::error::{Code as ErrorCode, Error, Who};
use hub_base::peer::{CONNECT_TIMEOUT, connected};
use hub_base::text::{MAX_WORD_BYTES, clean};
use proto::pairing_client::PairingClient;
use proto::{PairingBeginRequest, PairingConfirmRequest};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

/// Port of a node whose host is given without one.
const DEFAULT_PORT: u16 = 50056;

/// Time for a whole pairing, from the lookup of the host to the last answer. A command waits longer.
const DEADLINE: Duration = Duration::from_secs(12);

/// Largest answer of a node during the pairing, in bytes. Answers hold a few numbers and a name.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// Most addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

/// What the hub tells the node about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubCard {
    /// Name of the hub, for people.
    pub name: String,
    /// Port of its Owner service. `None`: other machines cannot reach it.
    pub owner_port: Option<u16>,
}

/// A node that has just been paired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paired {
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

/// Pairs with the node at a URL, as the hub with this key. Both then know each other's keys; the node has stored it.
///
/// # Errors
/// [`ErrorCode::Unavailable`] if the node cannot be reached, [`ErrorCode::TooSlow`] if it takes longer than
/// [`DEADLINE`], [`ErrorCode::Conflict`] if it has no code open or has another code, and if a program is between the
/// two, which looks the same.
pub async fn pair(key: &Arc<Key>, url: &str, code: &Code, card: HubCard) -> Result<Paired, Error> {
    let paired = tokio::time::timeout(DEADLINE, try_pair(key, url, code, card)).await;
    paired.unwrap_or_else(|_| Err(Error::new(ErrorCode::TooSlow(Who::Node), format!("the node at {url} is too slow"))))
}

async fn try_pair(key: &Arc<Key>, url: &str, code: &Code, card: HubCard) -> Result<Paired, Error> {
    let stream = connect(key, url).await.map_err(|error| {
        let message = format!("the node at {url} cannot be reached with TLS: {}", cause(&error));
        Error::new(ErrorCode::Unavailable(Who::Node), message)
    })?;
    let node = server_key(&stream).map_err(|error| failed(url, &cause(&error)))?.fingerprint();
    let exchange = HubExchange::begin(code, Ends { hub: key.public().fingerprint(), node });
    let mut client = PairingClient::new(channel(url, stream).await.map_err(|error| failed(url, &cause(&error)))?)
        .max_decoding_message_size(MAX_ANSWER_BYTES);
    let begin = PairingBeginRequest { exchange: exchange.message().to_vec() };
    let begun = client.begin(begin).await.map_err(|status| refused(url, &status))?.into_inner();
    let proof = exchange.finish(&begun.exchange, &begun.proof).map_err(|error| failed(url, &error.to_string()))?;
    let confirm =
        PairingConfirmRequest { proof, hub_name: card.name, owner_port: card.owner_port.unwrap_or_default().into() };
    let confirmed = client.confirm(confirm).await.map_err(|status| refused(url, &status))?.into_inner();
    Ok(Paired { key: node, cat: clean(&confirmed.cat_name, MAX_WORD_BYTES) })
}

/// Connects to the first address that answers.
async fn connect(key: &Arc<Key>, url: &str) -> io::Result<TlsStream<TcpStream>> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(DEFAULT_PORT));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tls = TlsClient::to_anybody(Arc::clone(key)).map_err(io::Error::other)?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await?.take(MAX_ADDRESSES) {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => return tls.connect(stream).await,
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A channel over this one connection. It does not connect again: that could lead to another peer.
async fn channel(url: &str, stream: TlsStream<TcpStream>) -> Result<Channel, tonic::transport::Error> {
    let stream = Mutex::new(Some(stream));
    connected(url, move || stream.lock().unwrap_or_else(PoisonError::into_inner).take()).await
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
