//! The `cat` service, which hubs and other clients call.

mod analyze;
mod describe;
mod listen;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemon::call::patience_of;
use daemon::opening::PeerKey;
use daemon::quota::{Full, Permit, Quota};
use proto::cat_server::Cat;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, CatResponse, DescribeRequest, DescribeResponse,
    ListenRequest, ListenResponse,
};
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::subscribers::Visit;
use listen::Subscription;
use stream::ResponseStream;

/// Most subscribers at a time. Each holds a reader of the tape, at most a second of decoded samples, and the buffers of
/// its connection, together about 100 KiB. One more is refused with `RESOURCE_EXHAUSTED`.
pub const MAX_SUBSCRIBERS: usize = 128;

/// Most calls of `AnalyzeCatSound` at a time. Each holds as much as a subscriber, for half a minute. One more is
/// refused with `RESOURCE_EXHAUSTED`.
pub const MAX_ANALYSES: usize = 128;

/// Most subscribers, and most analyses, from one address other than loopback, so that one caller leaves places to
/// others. One more is refused with `RESOURCE_EXHAUSTED`.
pub const MAX_PER_ADDRESS: usize = 16;

/// The service. Clones share everything.
#[derive(Debug, Clone)]
pub struct CatService {
    node: Arc<Node>,
    subscribers: Quota,
    analyses: Quota,
}

impl CatService {
    /// The service of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            subscribers: Quota::new(MAX_SUBSCRIBERS, MAX_PER_ADDRESS),
            analyses: Quota::new(MAX_ANALYSES, MAX_PER_ADDRESS),
        }
    }

    /// The caller begins to get sound, if it may.
    fn begin<T>(&self, request: &Request<T>, call: &'static str) -> Result<Visit, Status> {
        self.node.subscribers.begin(request.extensions().get(), request.remote_addr(), call)
    }
}

#[tonic::async_trait]
impl Cat for CatService {
    type AnalyzeCatSoundStream = ResponseStream<AnalyzeCatSoundResponse>;
    type ListenStream = ResponseStream<ListenResponse>;

    async fn call_cat(&self, request: Request<CatRequest>) -> Result<Response<CatResponse>, Status> {
        let patience = patience_of(&request);
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
        let permit = permit(&self.analyses, request.remote_addr(), "analyses")?;
        let with_audio = request.get_ref().with_audio;
        let visit = with_audio.then(|| self.begin(&request, "AnalyzeCatSound")).transpose()?;
        Ok(Response::new(analyze::stream(Arc::clone(&self.node), request.into_inner(), visit, permit)))
    }

    async fn listen(&self, request: Request<ListenRequest>) -> Result<Response<Self::ListenStream>, Status> {
        let peer = request.remote_addr();
        let subscription = Subscription::of(request.get_ref())?;
        let permit = permit(&self.subscribers, peer, "subscribers")?;
        let visit = self.begin(&request, "Listen")?;
        Ok(Response::new(listen::stream(Arc::clone(&self.node), subscription, peer, visit, permit)))
    }

    async fn describe(&self, request: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let address = request.local_addr();
        // Only paired hubs get here with a key.
        if let Some((PeerKey(hub), peer)) = request.extensions().get().zip(request.remote_addr()) {
            self.node.owner.note_hub(hub.fingerprint(), peer.ip());
        }
        describe::description(&self.node, &request.get_ref().challenge, address).map(Response::new)
    }
}

fn permit(quota: &Quota, from: Option<SocketAddr>, of_what: &str) -> Result<Permit, Status> {
    quota.take(from.map(|address| address.ip())).map_err(|full| {
        Status::resource_exhausted(match full {
            Full::All(most) => format!("the node already has {most} {of_what}, its most; try later"),
            Full::Address(most) => format!("the node already has {most} {of_what} from this address; try later"),
        })
    })
}
