//! The node's client of the owner: one shared channel that connects when it is needed, and one deadline per call.

use std::error::Error;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::metrics::Histogram;
use daemon::quiet::Quiet;
use proto::NotifyRequest;
use proto::owner_client::OwnerClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Status};
use tracing::warn;

use crate::config::OwnerUrl;
use crate::error_text::without_number;

/// The kind of animal that the owner is notified about.
const ANIMAL_TYPE: &str = "cat";

/// First and longest wait before a connection is tried again, within the deadline of a call. Once the owner is back, a
/// call must work within a second; the longest wait is well below that.
const FIRST_RETRY: Duration = Duration::from_millis(25);
const LONGEST_RETRY: Duration = Duration::from_millis(250);

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
        let endpoint = Endpoint::from_shared(url.to_string())?
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
    ///
    /// # Errors
    /// `UNAVAILABLE` if the owner cannot be reached or refuses, `DEADLINE_EXCEEDED` if it is too slow.
    pub async fn notify(&self, cat_name: &str) -> Result<(), Status> {
        let began = Instant::now();
        let notified = self.notify_by_deadline(cat_name).await;
        self.latency.observe(began.elapsed());
        notified
    }

    /// How long calls took, failed ones too.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    async fn notify_by_deadline(&self, cat_name: &str) -> Result<(), Status> {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut not_reached = None;
        loop {
            let request = NotifyRequest { animal_name: cat_name.to_owned(), animal_type: ANIMAL_TYPE.to_owned() };
            let mut client = self.client.clone();
            let failure = match timeout_at(deadline, client.notify(request)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(status)) if was_never_sent(&status) => {
                    let wait = backoff.next_wait();
                    if Instant::now() + wait < deadline {
                        not_reached = Some(status);
                        sleep(wait).await;
                        continue;
                    }
                    self.unreachable(&status)
                }
                Ok(Err(status)) if status.code() == Code::DeadlineExceeded => self.too_slow(),
                Ok(Err(status)) => self.unreachable(&status),
                Err(_) => match &not_reached {
                    Some(status) => self.unreachable(status),
                    None => self.too_slow(),
                },
            };
            let held_back = self.failure_log.lock().unwrap_or_else(PoisonError::into_inner).allow();
            if let Some(held_back) = held_back {
                warn!(error = failure.message(), held_back, "the owner was not notified");
            }
            return Err(failure);
        }
    }

    fn unreachable(&self, status: &Status) -> Status {
        Status::unavailable(format!(
            "the owner at {} cannot be reached: {}",
            self.url,
            without_number(innermost(status))
        ))
    }

    fn too_slow(&self) -> Status {
        let waited_ms = self.timeout.as_millis();
        Status::deadline_exceeded(format!("the owner at {} did not answer within {waited_ms} ms", self.url))
    }
}

/// Whether a call failed before it was sent, because there was no connection.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost cause of a failure. The wrappers around it only say "transport error".
fn innermost(status: &Status) -> String {
    let mut cause = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
