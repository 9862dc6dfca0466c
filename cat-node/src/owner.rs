//! The node's client of the owner: one shared channel that connects when it is needed, and one deadline per call.

use std::error::Error;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use daemon::call::{CallError, ERROR_CODE_KEY, call_within};
use daemon::cause::{cause, without_number};
use daemon::metrics::Histogram;
use daemon::quiet::Quiet;
use proto::NotifyRequest;
use proto::owner_client::OwnerClient;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tracing::warn;

use crate::config::OwnerUrl;

/// The kind of animal that the owner is notified about.
const ANIMAL_TYPE: &str = "cat";

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
    timeout: Duration,
    failure_log: Mutex<Quiet>,
    latency: Histogram,
}

impl Owner {
    /// A client of the owner at this URL. It connects at the first call. `timeout` is the longest that a call may take.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(url: OwnerUrl, timeout: Duration) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.expose().to_owned())?
            // If connecting hangs, there is time left for a second try.
            .connect_timeout(timeout / 2)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(MAX_HEADER_BYTES);
        Ok(Self {
            client: OwnerClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER_BYTES),
            url,
            timeout,
            failure_log: Mutex::new(Quiet::new(LOG_PERIOD)),
            latency: Histogram::default(),
        })
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
        let notified = call_within(limit, |left| {
            let notification = NotifyRequest { animal_name: cat_name.to_owned(), animal_type: ANIMAL_TYPE.to_owned() };
            let mut request = Request::new(notification);
            request.set_timeout(left);
            let mut client = self.client.clone();
            async move { client.notify(request).await }
        });
        let notified = notified.await;
        self.latency.observe(began.elapsed());
        notified.map(drop).map_err(|error| {
            let failure = self.failure(&error, limit);
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
    fn failure(&self, error: &CallError, limit: Duration) -> Status {
        let url = &self.url;
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
