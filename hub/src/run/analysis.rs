//! Starts the analysis role: analyses on demand.

use daemon::grpc::MAX_REQUEST_BYTES;
use hub_base::peer::{self, Peer};
use hub_base::role::Role;
use hub_listen::analysis::AnalysisService;
use proto::cat_analysis_server::CatAnalysisServer;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;

use super::RunError;
use super::shared::Shared;

/// The analysis role of this process, or of another one.
pub(super) struct Analysis {
    pub(super) peer: Peer,
    /// `None` if another process has the role.
    pub(super) service: Option<AnalysisService>,
}

impl Analysis {
    /// Waits until the running analyses have ended. Cancel the hub's token first.
    pub(super) async fn finish(&self) {
        if let Some(service) = &self.service {
            service.finish().await;
        }
    }
}

/// Starts the analysis role, or connects to the process that has it.
pub(super) async fn start(shared: &Shared, listeners: Vec<TcpListener>) -> Result<Analysis, RunError> {
    let config = &shared.config;
    let Some(store) = shared.store.as_ref().filter(|_| config.has(Role::Analysis)) else {
        let peer = peer::remote(config.analysis_url.expose()).map_err(RunError::url("analysis_url"))?;
        return Ok(Analysis { peer, service: None });
    };
    let (nodes, stop) = (shared.nodes.clone(), shared.stop.clone());
    let service = AnalysisService::start(store.clone(), nodes, config.max_analyses, config.detector, stop).await?;
    let server = CatAnalysisServer::new(service.clone())
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .accept_compressed(CompressionEncoding::Gzip);
    shared.serve(server.clone(), listeners, None);
    Ok(Analysis { peer: peer::local(server), service: Some(service) })
}
