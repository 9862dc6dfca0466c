//! The catAnalysis service: answers at once, listens in the background, and stores the result.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error};
use hub_base::places::Places;
use hub_nodes::Nodes;
use hub_store::Store;
use hub_store::analyses::AnalysisStatus;
use proto::cat_analysis_server::CatAnalysis;
use proto::{AnalysisRequest, AnalysisResponse};
use sound::detector::DetectorConfig;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::error;

mod hearing;
mod task;

/// How often a failed analysis is logged. All of them are stored.
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
    /// One for each running analysis. If all are taken, the next request is refused with `RESOURCE_EXHAUSTED`.
    places: Places,
    detector: DetectorConfig,
    tasks: TaskTracker,
    stop: CancellationToken,
    failures: Arc<Mutex<Quiet>>,
    counters: AnalysisCounters,
}

/// Results of analyses since the start.
#[derive(Debug, Default)]
pub struct AnalysisCounters {
    /// The whole half minute was heard.
    pub complete: AtomicU64,
    /// Part of it was heard.
    pub partial: AtomicU64,
    /// Nothing was heard.
    pub failed: AtomicU64,
    /// Refused, because too many were running.
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
    /// A service that runs up to `max_analyses` at once. `stop` ends the running ones, which are stored as partial.
    /// Analyses that an earlier run of the hub left running are stored as failed.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn start(
        store: Store,
        nodes: Nodes,
        max_analyses: usize,
        detector: DetectorConfig,
        stop: CancellationToken,
    ) -> Result<Self, hub_store::StoreError> {
        store.fail_running_analyses(task::CUT_OFF).await?;
        let places = Places::new(max_analyses);
        let failures = Arc::new(Mutex::new(Quiet::new(LOG_PERIOD)));
        let tasks = TaskTracker::new();
        let counters = AnalysisCounters::default();
        let inner = Inner { store, nodes, places, detector, tasks, stop, failures, counters };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until the running analyses are stored. Cancel the token first.
    pub async fn finish(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Results of analyses.
    pub fn counters(&self) -> &AnalysisCounters {
        &self.inner.counters
    }

    /// How many may run at the same time.
    pub fn limit(&self) -> usize {
        self.inner.places.total()
    }

    /// How many are running.
    pub fn running(&self) -> usize {
        self.inner.places.taken()
    }

    async fn begin(&self, request: Request<AnalysisRequest>) -> Result<AnalysisResponse, Error> {
        let inner = &self.inner;
        let (metadata, _, AnalysisRequest { cat_name: cat }) = request.into_parts();
        if cat.len() > MAX_NAME_BYTES {
            let message = format!("the name has {} bytes; at most {MAX_NAME_BYTES} are allowed", cat.len());
            return Err(Error::new(Code::NameTooLong, message));
        }
        if inner.stop.is_cancelled() {
            return Err(Error::new(Code::Stopping, "the hub is stopping"));
        }
        let place = inner.places.try_take().ok_or_else(|| {
            inner.counters.refused.fetch_add(1, Ordering::Relaxed);
            let running = inner.places.total();
            Error::new(Code::TooManyAnalyses, format!("{running} analyses are running; try again later"))
        })?;

        // The task also stores the start. So a caller that hangs up now leaves no stored analysis that does not run.
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
            // The caller may have hung up. The analysis runs anyway.
            drop(begun.send(Ok(id)));
            let outcome = task.run(id).await;
            service.inner.counters.count(outcome.status);
            if let Err(error) = store.end_analysis(id, outcome).await {
                error!(analysis_id = id, %error, "cannot store the analysis");
            }
            drop(place);
        });
        let id = has_begun.await.map_err(|_| Error::new(Code::Internal, "the analysis crashed at its start"))??;
        Ok(AnalysisResponse { result: format!("Analyzing {cat} ..."), analysis_id: id.unsigned_abs() })
    }
}

#[tonic::async_trait]
impl CatAnalysis for AnalysisService {
    async fn analyze_sound(&self, request: Request<AnalysisRequest>) -> Result<Response<AnalysisResponse>, Status> {
        Ok(Response::new(self.begin(request).await?))
    }
}
