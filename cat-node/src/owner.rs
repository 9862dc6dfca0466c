//! The node's client of the owner: one shared channel that connects when it is needed, and one deadline per call.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::call::{CallError, ERROR_CODE_KEY, call_within};
use daemon::cause::{cause, without_number};
use daemon::identity::{Fingerprint, OwnKey};
use daemon::metrics::Histogram;
use daemon::quiet::Quiet;
use daemon::tls::TlsClient;
use http::Uri;
use hyper_util::rt::TokioIo;
use proto::NotifyRequest;
use proto::owner_client::OwnerClient;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tracing::warn;

use crate::config::OwnerUrl;
use crate::pairing::Pairing;

/// The kind of animal that the owner is notified about.
const ANIMAL_TYPE: &str = "cat";

/// The name in calls to a paired hub. It means nothing: the hub is known by its key.
const PAIRED_NAME: &str = "http://hub";

/// How often an idle connection is probed, so that the node notices an owner whose machine is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long the answer to a probe may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer of an owner, in bytes. Answers are empty or hold a sentence.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Most bytes of the headers and trailers of an answer, which hold the text of an error.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Failures are logged at most this often.
const LOG_PERIOD: Duration = Duration::from_secs(30);

/// A client of the owner, shared by all calls.
#[derive(Debug)]
pub struct Owner {
    client: OwnerClient<Channel>,
    url: OwnerUrl,
    paired: Option<PairedOwner>,
    timeout: Duration,
    failure_log: Mutex<Quiet>,
    latency: Histogram,
}

/// The Owner service of the hub that the node is paired with.
#[derive(Debug)]
struct PairedOwner {
    key: OwnKey,
    pairing: Pairing,
    /// The client that was used last, and the hub's key and address that it is for.
    last: Mutex<Option<(Fingerprint, SocketAddr, OwnerClient<Channel>)>>,
}

impl PairedOwner {
    /// A client of the Owner service of the hub that was paired last, and its address. `None`: no hub has one.
    fn client(&self, timeout: Duration) -> Option<(OwnerClient<Channel>, SocketAddr)> {
        let (hub, address) = self.pairing.hubs().owner()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, client)) = last.as_ref().filter(|(key, at, _)| (*key, *at) == (hub, address)) {
            return Some((client.clone(), address));
        }
        // TLS was set up with this key before: the node listens with it.
        let tls = TlsClient::new(self.key.clone(), vec![hub]).ok()?;
        let connect = tower::service_fn(move |_: Uri| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(tls.connect(stream).await?))
            }
        });
        let channel = endpoint(PAIRED_NAME, timeout).ok()?.connect_with_connector_lazy(connect);
        let client = OwnerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        *last = Some((hub, address, client.clone()));
        Some((client, address))
    }
}

/// How connections to an owner are made, and watched.
fn endpoint(url: &str, timeout: Duration) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(url.to_owned())?
        // If connecting hangs, there is time left for a second try.
        .connect_timeout(timeout / 2)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES))
}

impl Owner {
    /// A client of the owner at this URL. It connects at the first call. `timeout` is the longest that a call may take.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(url: OwnerUrl, timeout: Duration) -> Result<Self, tonic::transport::Error> {
        let channel = endpoint(url.expose(), timeout)?.connect_lazy();
        Ok(Self {
            client: OwnerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
            url,
            paired: None,
            timeout,
            failure_log: Mutex::new(Quiet::new(LOG_PERIOD)),
            latency: Histogram::default(),
        })
    }

    /// With the Owner service of the hub that was paired last, over TLS, in place of the one on this machine. An owner
    /// that the config names stays.
    #[must_use]
    pub fn with_paired(self, key: OwnKey, pairing: Pairing) -> Self {
        let is_named = self.url != OwnerUrl::default();
        let paired = PairedOwner { key, pairing, last: Mutex::default() };
        Self { paired: (!is_named).then_some(paired), ..self }
    }

    /// A paired hub has called from this address: see [`Hubs::note_address`](crate::hubs::Hubs::note_address).
    pub fn note_hub(&self, key: Fingerprint, address: IpAddr) {
        if let Some(paired) = &self.paired {
            paired.pairing.hubs().note_address(key, address);
        }
    }

    /// The client for a call, and where it leads.
    fn client(&self) -> (OwnerClient<Channel>, String) {
        let paired = self.paired.as_ref().and_then(|paired| paired.client(self.timeout));
        match paired {
            Some((client, address)) => (client, format!("{address}, the paired hub,")),
            None => (self.client.clone(), self.url.to_string()),
        }
    }

    /// Notifies the owner that a cat was called. Connecting is retried until the deadline, so that the first calls do
    /// not fail when the node starts before its owner. A request that may have reached the owner is never sent again.
    /// `patience` is how long the caller of the cat waits, if that is known; the owner is not waited for longer.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the owner cannot be reached or is not available, `DEADLINE_EXCEEDED` if it is too slow, and
    /// `INTERNAL` if it answers with another error. The metadata `error-code` says that the error is about the owner.
    pub async fn notify(&self, cat_name: &str, patience: Option<Duration>) -> Result<(), Status> {
        let began = Instant::now();
        let limit = patience.map_or(self.timeout, |patience| patience.min(self.timeout));
        let (client, place) = self.client();
        let notified = call_within(limit, |left| {
            let notification = NotifyRequest { animal_name: cat_name.to_owned(), animal_type: ANIMAL_TYPE.to_owned() };
            let mut request = Request::new(notification);
            request.set_timeout(left);
            let mut client = client.clone();
            async move { client.notify(request).await }
        });
        let notified = notified.await;
        self.latency.observe(began.elapsed());
        notified.map(drop).map_err(|error| {
            let failure = Self::failure(&error, limit, &place);
            let suppressed_lines = self.failure_log.lock().unwrap_or_else(PoisonError::into_inner).allow();
            if let Some(suppressed_lines) = suppressed_lines {
                warn!(error = failure.message(), suppressed_lines, "the owner was not notified");
            }
            failure
        })
    }

    /// How long calls took, failed ones too.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// The error for the caller of the cat. Hubs know the words of the metadata, other callers the codes.
    fn failure(error: &CallError, limit: Duration, url: &str) -> Status {
        let (code, word, message) = match error {
            CallError::NotReached(status) => (
                Code::Unavailable,
                "owner_unavailable",
                format!(
                    "the owner at {url} cannot be reached: {}; `owner` in the config of the node sets its address",
                    cause(status)
                ),
            ),
            CallError::TooSlow => (
                Code::DeadlineExceeded,
                "owner_too_slow",
                format!("the owner at {url} did not answer within {} ms", limit.as_millis()),
            ),
            CallError::Failed(status) if status.source().is_some() => (
                Code::Unavailable,
                "owner_unavailable",
                format!("the connection to the owner at {url} broke: {}", cause(status)),
            ),
            CallError::Failed(status) => {
                let said = without_number(status.message());
                match status.code() {
                    Code::Unavailable | Code::ResourceExhausted => {
                        (Code::Unavailable, "owner_unavailable", format!("the owner at {url} is not available: {said}"))
                    }
                    code => {
                        (Code::Internal, "owner_bad_answer", format!("the owner at {url} answered {code:?}: {said}"))
                    }
                }
            }
        };
        let mut failure = Status::new(code, message);
        failure.metadata_mut().insert(ERROR_CODE_KEY, MetadataValue::from_static(word));
        failure
    }
}
