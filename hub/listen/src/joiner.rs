//! Starts listening to nodes: to those that are known at the start, and to those that are discovered later.

use std::time::Duration;

use daemon::shutdown::CancellationToken;
use hub_nodes::{Newcomers, Node, Nodes};
use hub_store::Store;
use hub_store::clips::ClipsConfig;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::config::{AudioEncoding, Settings};
use crate::ear::Ear;
use crate::live::{Live, NodeState};
use crate::sequencer::Sequencer;
use crate::subscriber::Subscriber;
use crate::worker::{AnalysedNode, Work};

/// Gives each node its ear and its subscriber.
pub(super) struct Joiner {
    pub(super) nodes: Nodes,
    pub(super) newcomers: Newcomers,
    /// How many nodes were ever listened to.
    pub(super) count: usize,
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
        loop {
            self.join_newcomers().await;
            tokio::select! {
                () = self.newcomers.changed() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Starts to listen to each node that was added, until the stop or until the node is dismissed.
    pub(super) async fn join_newcomers(&mut self) {
        for node in self.newcomers.take() {
            self.join(node).await;
        }
    }

    async fn join(&mut self, node: Node) {
        let watched = self.live.add(node.url().to_owned());
        let ear = Ear::new(node.url().to_owned(), self.clips.clone(), self.settings.detector, None);
        let number = self.count;
        let work = self.queues[number % self.queues.len()].clone();
        let analysed = AnalysedNode::new(node.clone(), watched.clone(), ear);
        // An error means that the analysis has ended. The subscriber will notice that too.
        let _ = work.send(Work::Node(number, Box::new(analysed))).await;
        let (stop, dismissed, leave) = (self.stop.child_token(), node.clone(), work.clone());
        let subscriber = Subscriber {
            number,
            node,
            nodes: self.nodes.clone(),
            watched: watched.clone(),
            store: self.store.clone(),
            sequencer: Sequencer::default(),
            heard_id: None,
            frame_ms: self.settings.listen.frame_ms,
            encoding: match self.settings.listen.encoding {
                AudioEncoding::Pcm => proto::Encoding::PcmS16le,
                AudioEncoding::Flac => proto::Encoding::Flac,
            },
            max_lag: Duration::from_secs(u64::from(self.settings.listen.max_lag_s)),
            work,
            live: self.live.clone(),
            stop: stop.clone(),
            asked: 0,
        };
        let live = self.live.clone();
        self.subscribers.spawn(async move {
            let mut listening = std::pin::pin!(subscriber.run());
            tokio::select! {
                () = &mut listening => {}
                () = dismissed.dismissed() => {
                    stop.cancel();
                    listening.await;
                    // As above.
                    let _ = leave.send(Work::Leave(number)).await;
                    live.set_state(&watched, NodeState::Away, "the hub does not use this node any more");
                    live.remove(&watched);
                }
            }
        });
        self.count += 1;
    }
}
