//! Starts listening to nodes: to those that are known at the start, and to those that are discovered later.

use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_nodes::{Node, Nodes};
use hub_store::clips::ClipsConfig;
use hub_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::config::{AudioEncoding, Settings};
use crate::ear::Ear;
use crate::live::Live;
use crate::sequencer::Sequencer;
use crate::subscriber::Subscriber;
use crate::worker::{AnalysedNode, Work};

/// First and longest wait before the store is asked again for the watermark of a node. Without the watermark, audio
/// would be analysed twice, so the node has to wait.
const STORE_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How often a failure of the store is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Gives each node its ear and its subscriber.
pub(super) struct Joiner {
    pub(super) nodes: Nodes,
    /// The first this many nodes are listened to.
    pub(super) joined: usize,
    pub(super) settings: Settings,
    pub(super) clips: ClipsConfig,
    pub(super) store: Store,
    pub(super) live: Live,
    /// The queues to the analysis threads, one or more.
    pub(super) queues: Vec<mpsc::Sender<Work>>,
    pub(super) subscribers: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Joiner {
    /// Listens to nodes as they are added, until the stop.
    pub(super) async fn follow(mut self) {
        let mut nodes = self.nodes.watch();
        let mut quiet = Quiet::new(LOG_PERIOD);
        let mut again = Backoff::new(STORE_AGAIN.0, STORE_AGAIN.1);
        loop {
            let next = nodes.borrow_and_update().get(self.joined).cloned();
            let wait = match next {
                Some(node) => match self.join(node).await {
                    Ok(()) => {
                        again.reset();
                        continue;
                    }
                    Err(error) => {
                        if let Some(held_back) = quiet.allow() {
                            error!(%error, held_back, "cannot read the watermark of a node; trying again");
                        }
                        again.next_wait()
                    }
                },
                None => Duration::MAX,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = nodes.changed() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Starts to listen to the next node, from its watermark.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) async fn join(&mut self, node: Node) -> Result<(), StoreError> {
        let watermark = self.store.watermark(node.url()).await?;
        let watched = self.live.add(node.url().to_owned());
        let sequencer = watermark
            .as_ref()
            .map_or_else(Sequencer::default, |mark| Sequencer::resume(mark.boot_id, mark.resume_sequence));
        let ear = Ear::new(node.url().to_owned(), self.clips.clone(), self.settings.detector, watermark);
        let number = self.joined;
        let work = self.queues[number % self.queues.len()].clone();
        let analysed = AnalysedNode::new(node.clone(), watched.clone(), ear);
        // An error means that the analysis has ended. The subscriber will notice that too.
        let _ = work.send(Work::Node(number, Box::new(analysed))).await;
        let subscriber = Subscriber {
            number,
            node,
            nodes: self.nodes.clone(),
            watched,
            sequencer,
            frame_ms: self.settings.listen.frame_ms,
            encoding: match self.settings.listen.encoding {
                AudioEncoding::Pcm => proto::Encoding::PcmS16le,
                AudioEncoding::Flac => proto::Encoding::Flac,
            },
            max_lag: Duration::from_secs(u64::from(self.settings.listen.max_lag_s)),
            work,
            live: self.live.clone(),
            stop: self.stop.clone(),
            asked: 0,
        };
        self.subscribers.spawn(subscriber.run());
        self.joined += 1;
        Ok(())
    }
}
