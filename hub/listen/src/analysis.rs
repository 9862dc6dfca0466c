//! The catAnalysis service: answers at once, listens in the background, stores what it heard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error};
use hub_nodes::Nodes;
use hub_store::Store;
use hub_store::analyses::AnalysisStatus;
use proto::cat_analysis_server::CatAnalysis;
use proto::{AnalysisRequest, AnalysisResponse};
use sound::detector::DetectorConfig;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::error;

mod hearing;
mod task;

/// Reason of analyses that a hub left running when it was killed.
const CUT_OFF: &str = "the hub was stopped during the analysis";

/// How often failed analyses are logged. All are stored.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Starts analyses. Clones share them.
#[derive(Debug, Clone)]
pub struct AnalysisService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    nodes: Nodes,
    /// One for each analysis that may run. When all are taken, a further one is refused with `RESOURCE_EXHAUSTED`.
    places: Arc<Semaphore>,
    max_analyses: usize,
    detector: DetectorConfig,
    tasks: TaskTracker,
    stop: CancellationToken,
    failures: Arc<Mutex<Quiet>>,
    counters: AnalysisCounters,
}

/// How analyses ended since the start.
#[derive(Debug, Default)]
pub struct AnalysisCounters {
    /// All of the half minute was heard.
    pub complete: AtomicU64,
    /// Part of it.
    pub partial: AtomicU64,
    /// Nothing.
    pub failed: AtomicU64,
    /// Not begun, for as many as may run were running.
    pub refused: AtomicU64,
}

impl AnalysisCounters {
    fn count(&self, status: AnalysisStatus) {
        match status {
            AnalysisStatus::Complete => self.complete.fetch_add(1, Ordering::Relaxed),
            AnalysisStatus::Partial => self.partial.fetch_add(1, Ordering::Relaxed),
            AnalysisStatus::Failed => self.failed.fetch_add(1, Ordering::Relaxed),
            AnalysisStatus::Running => return,
        };
    }
}

impl AnalysisService {
    /// A service that runs `max_analyses` at once. `stop` ends those that run; they are stored as partial.
    ///
    /// # Errors
    /// When the store does not take that analyses of an earlier start have failed.
    pub async fn start(
        store: Store,
        nodes: Nodes,
        max_analyses: usize,
        detector: DetectorConfig,
        stop: CancellationToken,
    ) -> Result<Self, hub_store::StoreError> {
        store.fail_running_analyses(CUT_OFF).await?;
        let places = Arc::new(Semaphore::new(max_analyses));
        let failures = Arc::new(Mutex::new(Quiet::new(LOG_PERIOD)));
        let tasks = TaskTracker::new();
        let counters = AnalysisCounters::default();
        let inner = Inner { store, nodes, places, max_analyses, detector, tasks, stop, failures, counters };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until the analyses that run are stored. Cancel the token first.
    pub async fn finish(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// How analyses ended.
    pub fn counters(&self) -> &AnalysisCounters {
        &self.inner.counters
    }

    /// How many may run.
    pub fn limit(&self) -> usize {
        self.inner.max_analyses
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.inner.max_analyses - self.inner.places.available_permits()
    }

    async fn begin(&self, request: Request<AnalysisRequest>) -> Result<AnalysisResponse, Error> {
        let inner = &self.inner;
        let (metadata, _, AnalysisRequest { cat_name: cat }) = request.into_parts();
        if cat.len() > MAX_NAME_BYTES {
            let message = format!("the name has {} bytes, {MAX_NAME_BYTES} are allowed", cat.len());
            return Err(Error::new(Code::NameTooLong, message));
        }
        if inner.stop.is_cancelled() {
            return Err(Error::new(Code::Stopping, "the hub is stopping"));
        }
        let place = Arc::clone(&inner.places).try_acquire_owned().map_err(|_| {
            inner.counters.refused.fetch_add(1, Ordering::Relaxed);
            Error::new(Code::TooManyAnalyses, format!("{} analyses are running, try again later", inner.max_analyses))
        })?;

        // The task stores the beginning too: a caller that hangs up now leaves no analysis behind that nobody runs.
        let (begun, has_begun) = oneshot::channel();
        let node = inner.nodes.for_cat(&cat);
        let task = task::Task {
            store: inner.store.clone(),
            detector: inner.detector,
            cat: cat.clone(),
            node,
            metadata: task::passed_on(metadata),
            stop: inner.stop.clone(),
            failures: Arc::clone(&inner.failures),
        };
        let (store, service) = (inner.store.clone(), self.clone());
        inner.tasks.spawn(async move {
            let id = match store.begin_analysis(task.cat.clone(), task.node.url().to_owned()).await {
                Ok(id) => id,
                Err(error) => return drop(begun.send(Err(error))),
            };
            // The caller may have hung up; the analysis goes on all the same.
            drop(begun.send(Ok(id)));
            let outcome = task.run(id).await;
            service.inner.counters.count(outcome.status);
            if let Err(error) = store.end_analysis(id, outcome).await {
                error!(analysis_id = id, %error, "analysis not stored");
            }
            drop(place);
        });
        let id = has_begun.await.map_err(|_| Error::new(Code::Internal, "the analysis broke off at its start"))??;
        Ok(AnalysisResponse { result: format!("Analyzing {cat} ..."), analysis_id: id.unsigned_abs() })
    }
}

#[tonic::async_trait]
impl CatAnalysis for AnalysisService {
    async fn analyze_sound(&self, request: Request<AnalysisRequest>) -> Result<Response<AnalysisResponse>, Status> {
        Ok(Response::new(self.begin(request).await?))
    }
}
