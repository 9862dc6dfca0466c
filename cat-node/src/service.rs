//! The `cat` service, which hubs and other clients call.

mod analyze;
mod describe;
mod listen;
mod stream;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::call::patience_of;
use proto::cat_server::Cat;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, CatResponse, DescribeRequest, DescribeResponse,
    ListenRequest, ListenResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use crate::node::Node;
use listen::Subscription;
use stream::ResponseStream;

/// Most subscribers at a time. Each holds a reader of the tape, at most a second of decoded samples, and the buffers of
/// its connection, together about 100 KiB. One more is refused with `RESOURCE_EXHAUSTED`.
pub const MAX_SUBSCRIBERS: usize = 128;

/// Most calls of `AnalyzeCatSound` at a time. Each holds as much as a subscriber, for half a minute. One more is
/// refused with `RESOURCE_EXHAUSTED`.
pub const MAX_ANALYSES: usize = 128;

/// The service. Clones share everything.
#[derive(Debug, Clone)]
pub struct CatService {
    node: Arc<Node>,
    subscribers: Arc<Semaphore>,
    analyses: Arc<Semaphore>,
}

impl CatService {
    /// The service of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
            analyses: Arc::new(Semaphore::new(MAX_ANALYSES)),
        }
    }
}

#[tonic::async_trait]
impl Cat for CatService {
    type AnalyzeCatSoundStream = ResponseStream<AnalyzeCatSoundResponse>;
    type ListenStream = ResponseStream<ListenResponse>;

    async fn call_cat(&self, request: Request<CatRequest>) -> Result<Response<CatResponse>, Status> {
        let patience = patience_of(request.metadata());
        let CatRequest { cat_name, caller_tells_owner } = request.into_inner();
        if !caller_tells_owner && let Err(status) = self.node.owner.notify(&cat_name, patience).await {
            self.node.status.counters.owner_failures.fetch_add(1, Ordering::Relaxed);
            return Err(status);
        }
        Ok(Response::new(CatResponse { cat_meaw: format!("{cat_name}: MEEEWWWWW"), caller_tells_owner }))
    }

    async fn analyze_cat_sound(
        &self,
        request: Request<AnalyzeCatSoundRequest>,
    ) -> Result<Response<Self::AnalyzeCatSoundStream>, Status> {
        let permit = permit(&self.analyses, MAX_ANALYSES, "analyses")?;
        Ok(Response::new(analyze::stream(Arc::clone(&self.node), request.into_inner(), permit)))
    }

    async fn listen(&self, request: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        let peer = request.remote_addr();
        let subscription = Subscription::of(request.get_ref())?;
        let permit = permit(&self.subscribers, MAX_SUBSCRIBERS, "subscribers")?;
        Ok(Response::new(listen::stream(Arc::clone(&self.node), subscription, peer, permit)))
    }

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let address = request.local_addr();
        describe::description(&self.node, &request.get_ref().challenge, address).map(Response::new)
    }
}

fn permit(semaphore: &Arc<Semaphore>, limit: usize, of_what: &str) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(semaphore)
        .try_acquire_owned()
        .map_err(|_| Status::resource_exhausted(format!("the node already has {limit} {of_what}, its most; try later")))
}
