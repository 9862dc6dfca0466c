//! The gRPC service `Owner`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::MAX_NAME_BYTES;
use hub_base::time::now_ns;
use hub_store::notifications::{NotificationPlan, Subject};
use proto::owner_server::Owner;
use proto::{NotifyRequest, NotifyResponse};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use tracing::{debug, error, warn};

use crate::outbox::Outbox;

/// Calls that wait for the store. When the queue is full, a further call notifies no owner. That is counted; the caller
/// gets the usual answer.
const QUEUE: usize = 256;

/// Most calls that are stored in one transaction.
const BATCH: usize = 64;

/// How long an answer waits for the store, so that an answered call survives a kill of the hub. If the store is slower,
/// the call is answered first and stored later, and that is counted.
const STORED_WITHIN: Duration = Duration::from_millis(100);

/// First and longest wait before the store is tried again.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How often a failure of the store or a full queue is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Answers every call at once, and notifies the owners.
#[derive(Debug, Clone, Default)]
pub struct OwnerService {
    calls: Option<Calls>,
}

/// The queue of calls that an owner is to be notified of.
#[derive(Debug, Clone)]
struct Calls {
    outbox: Outbox,
    queue: mpsc::Sender<Call>,
    full_log: Arc<Mutex<Quiet>>,
}

#[derive(Debug)]
struct Call {
    subject: Subject,
    plans: Vec<NotificationPlan>,
    stored: oneshot::Sender<()>,
}

/// Stores the calls. Must run next to the service.
#[derive(Debug)]
pub struct CallKeeper {
    calls: mpsc::Receiver<Call>,
    outbox: Outbox,
}

impl OwnerService {
    /// A service whose calls go to the outbox, while the keeper runs.
    pub fn keeping(outbox: Outbox) -> (Self, CallKeeper) {
        let (queue, calls) = mpsc::channel(QUEUE);
        let full_log = Arc::new(Mutex::new(Quiet::new(LOG_PERIOD)));
        let keeper = CallKeeper { calls, outbox: outbox.clone() };
        (Self { calls: Some(Calls { outbox, queue, full_log }) }, keeper)
    }
}

#[tonic::async_trait]
impl Owner for OwnerService {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        debug!(animal_name, animal_type, "call of an animal");
        if let Some(calls) = &self.calls {
            calls.keep(&animal_name, &animal_type).await;
        }
        Ok(Response::new(NotifyResponse { message: format!("Owner of {animal_name} {animal_type} is notified") }))
    }
}

impl Calls {
    async fn keep(&self, animal: &str, animal_type: &str) {
        let (animal, now_ns) = (shortened(animal), now_ns());
        let plans = self.outbox.plan_call(&animal, now_ns);
        if plans.is_empty() {
            return;
        }
        let subject = Subject::Call { animal, animal_type: shortened(animal_type), called_at_ns: now_ns };
        let (stored, is_stored) = oneshot::channel();
        let counters = self.outbox.counters();
        if let Err(refused) = self.queue.try_send(Call { subject, plans, stored }) {
            counters.calls_dropped.fetch_add(1, Ordering::Relaxed);
            let why = match refused {
                TrySendError::Full(_) => "the store is too slow",
                TrySendError::Closed(_) => "the hub is stopping",
            };
            let suppressed_lines = self.full_log.lock().unwrap_or_else(PoisonError::into_inner).allow();
            if let Some(suppressed_lines) = suppressed_lines {
                warn!(why, suppressed_lines, "a call notifies no owner, because {why}");
            }
        } else if tokio::time::timeout(STORED_WITHIN, is_stored).await.is_err() {
            counters.calls_late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Truncates a name to [`MAX_NAME_BYTES`], on a character boundary.
fn shortened(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

impl CallKeeper {
    /// Stores calls until `stop`, and then those that are still in the queue.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut log = Quiet::new(LOG_PERIOD);
        let mut stopping = false;
        loop {
            tokio::select! {
                count = self.calls.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.store(&mut batch, &mut log, &stop).await;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.calls.close();
                }
            }
        }
    }

    /// Tries until the calls are stored, but only once when the hub is stopping.
    async fn store(&self, batch: &mut Vec<Call>, log: &mut Quiet, stop: &CancellationToken) {
        let (calls, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|call| ((call.subject, call.plans), call.stored)).unzip();
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        loop {
            match self.outbox.notify_of_calls(calls.clone(), now_ns()).await {
                Ok(()) => break,
                Err(error) => {
                    if let Some(suppressed_lines) = log.allow() {
                        error!(%error, suppressed_lines, "cannot store calls; retrying");
                    }
                    if stop.is_cancelled() {
                        let lost = calls.len() as u64;
                        self.outbox.counters().calls_dropped.fetch_add(lost, Ordering::Relaxed);
                        break;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_wait()) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
        for stored in waiting {
            // Fails only if the caller has its answer already.
            let _ = stored.send(());
        }
    }
}

#[cfg(test)]
mod tests;
