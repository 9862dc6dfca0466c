//! The Owner service: the person the animals belong to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::MAX_NAME_BYTES;
use hub_base::time::now_ns;
use hub_store::Store;
use hub_store::notices::{NoticePlan, Subject};
use proto::owner_server::Owner;
use proto::{NotifyRequest, NotifyResponse};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use tracing::{debug, error, warn};

use super::outbox::Outbox;

/// Calls that wait for the store. When it is full, the owners are not told of a further one, and that is counted; its
/// caller notices nothing.
const QUEUE: usize = 256;

/// Calls that are stored in one transaction at most.
const BATCH: usize = 64;

/// How long an answer waits for the store, so that what was answered survives a kill of the hub. A store that is slower
/// gets it a little later, and that is counted.
const STORED_WITHIN: Duration = Duration::from_millis(100);

/// First and longest wait before the store is tried again.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How often a failure of the store, or a full queue, is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Answers every notice at once, and has the owners told.
#[derive(Debug, Clone, Default)]
pub struct OwnerService {
    calls: Option<Calls>,
}

/// Where calls go that somebody is to be told of.
#[derive(Debug, Clone)]
struct Calls {
    outbox: Outbox,
    queue: mpsc::Sender<Call>,
    full_log: Arc<Mutex<Quiet>>,
}

#[derive(Debug)]
struct Call {
    subject: Subject,
    plans: Vec<NoticePlan>,
    stored: oneshot::Sender<()>,
}

/// Stores the calls. To be run beside the service.
#[derive(Debug)]
pub struct CallKeeper {
    calls: mpsc::Receiver<Call>,
    outbox: Outbox,
    store: Store,
}

impl OwnerService {
    /// A service whose calls are kept in the outbox, once the keeper runs.
    pub fn keeping(outbox: Outbox, store: Store) -> (Self, CallKeeper) {
        let (queue, calls) = mpsc::channel(QUEUE);
        let full_log = Arc::new(Mutex::new(Quiet::new(LOG_PERIOD)));
        let keeper = CallKeeper { calls, outbox: outbox.clone(), store };
        (Self { calls: Some(Calls { outbox, queue, full_log }) }, keeper)
    }
}

#[tonic::async_trait]
impl Owner for OwnerService {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        debug!(animal_name, animal_type, "owner notified");
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
            let held_back = self.full_log.lock().unwrap_or_else(PoisonError::into_inner).allow();
            if let Some(held_back) = held_back {
                warn!(why, held_back, "owners are not told of a call");
            }
        } else if tokio::time::timeout(STORED_WITHIN, is_stored).await.is_err() {
            counters.calls_late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A name as it is kept: [`MAX_NAME_BYTES`] at most.
fn shortened(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

impl CallKeeper {
    /// Stores calls until `stop`, and then those that wait.
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

    /// Tries until it works, once when the hub stops.
    async fn store(&self, batch: &mut Vec<Call>, log: &mut Quiet, stop: &CancellationToken) {
        let (calls, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|call| ((call.subject, call.plans), call.stored)).unzip();
        let mut backoff = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        loop {
            match self.store.commit_notices(calls.clone(), now_ns()).await {
                Ok(put_in) => {
                    self.outbox.put_in(put_in);
                    break;
                }
                Err(error) => {
                    if let Some(held_back) = log.allow() {
                        error!(%error, held_back, "calls cannot be stored; trying again");
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
            // An error means that the caller has its answer already.
            let _ = stored.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use hub_store::Access;
    use hub_store::notices::NoticeState;

    use super::*;

    async fn notify(service: &OwnerService, animal_name: &str, animal_type: &str) -> String {
        let request = NotifyRequest { animal_name: animal_name.into(), animal_type: animal_type.into() };
        service.notify(Request::new(request)).await.unwrap().into_inner().message
    }

    fn outbox() -> Outbox {
        let toml = "name = \"Anna\"\nanimals = [\"Tom\", \"Rex\"]\n[[channels]]\ntype = \"log\"";
        Outbox::new(&[toml::from_str(toml).unwrap()]).unwrap()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        (dir, store)
    }

    #[tokio::test]
    async fn answers_are_the_contracts() {
        let (_dir, store) = store();
        let (keeping, keeper) = OwnerService::keeping(outbox(), store);
        let stop = CancellationToken::new();
        let kept = tokio::spawn(keeper.run(stop.clone()));
        for service in [OwnerService::default(), keeping] {
            assert_eq!(notify(&service, "Tom", "cat").await, "Owner of Tom cat is notified");
            assert_eq!(notify(&service, "", "").await, "Owner of   is notified");
            let long = "ä".repeat(MAX_NAME_BYTES);
            assert_eq!(notify(&service, &long, "cat").await, format!("Owner of {long} cat is notified"));
        }
        stop.cancel();
        kept.await.unwrap();
    }

    #[tokio::test]
    async fn call_is_stored_before_it_is_answered_and_none_of_their_business_is_not() {
        let (_dir, store) = store();
        let outbox = outbox();
        let (service, keeper) = OwnerService::keeping(outbox.clone(), store.clone());
        let stop = CancellationToken::new();
        let kept = tokio::spawn(keeper.run(stop.clone()));
        notify(&service, "Tom", "cat").await;
        if outbox.counters().calls_late.load(Ordering::Relaxed) == 0 {
            assert_eq!(store.notices(None, None, 9).await.unwrap().len(), 1);
        }
        notify(&service, "Ada", "cat").await;
        notify(&service, "Rex", "Dog").await;
        stop.cancel();
        kept.await.unwrap();
        let animals: Vec<_> = store.notices(Some(NoticeState::Pending), None, 9).await.unwrap();
        let animals: Vec<_> = animals.iter().map(|notice| notice.subject.animal().to_owned()).collect();
        assert_eq!(animals, ["Rex", "Tom"]);
    }

    #[tokio::test]
    async fn slow_store_delays_no_answer_for_long_and_what_it_cannot_take_is_counted() {
        let (_dir, store) = store();
        let outbox = outbox();
        // Nobody takes the calls: a store that hangs.
        let (service, keeper) = OwnerService::keeping(outbox.clone(), store.clone());
        let many = (0..QUEUE + 5).map(|_| notify(&service, "Tom", "cat"));
        for answer in futures_util::future::join_all(many).await {
            assert_eq!(answer, "Owner of Tom cat is notified");
        }
        let counters = outbox.counters();
        assert_eq!(counters.calls_dropped.load(Ordering::Relaxed), 5);
        assert_eq!(counters.calls_late.load(Ordering::Relaxed), QUEUE as u64);
        // Once it works, all that were taken are stored: one alert, the rest is spared by the cool-down.
        let stop = CancellationToken::new();
        stop.cancel();
        keeper.run(stop).await;
        assert_eq!(store.notices(None, None, 1_000).await.unwrap().len(), QUEUE);
        assert_eq!(store.notices(Some(NoticeState::Pending), None, 1_000).await.unwrap().len(), 1);
    }
}
