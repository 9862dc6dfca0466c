//! Live listening: every node, all the time.
//!
//! ```text
//! node -> subscriber (task a node) -> queue -> worker (thread a core) -> queue -> recorder (task) -> store, clips, news
//! ```
//!
//! Each arrow waits when the next is full, back to the node, whose tape keeps what is not asked for. What is lost all the
//! same is a gap with a reason, stored like an event. The watermark is stored with the events, so that a hub that is killed
//! at any moment goes on without missing or doubling one.

use std::thread::JoinHandle;

use daemon::shutdown::CancellationToken;
use hub_nodes::Nodes;
use hub_owner::Outbox;
use hub_store::clips::Clips;
use hub_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::info;

pub mod analysis;
pub mod clock;
mod config;
pub mod ear;
pub mod fill;
mod joiner;
pub mod live;
pub mod monitor;
mod recorder;
pub mod rehear;
mod ring;
pub mod sequencer;
mod subscriber;
mod worker;

pub use config::{AudioEncoding, EventsConfig, ListenConfig, Settings};
pub use live::Live;

use joiner::Joiner;
use recorder::{REPORT_QUEUE, Recorder};
use worker::WORK_QUEUE;

/// Listening, under way.
#[derive(Debug)]
pub struct Listening {
    live: Live,
    subscribers: TaskTracker,
    recorder: TaskTracker,
    workers: Vec<JoinHandle<()>>,
}

impl Listening {
    /// Begins to listen to all nodes, each from where it was last heard, until `stop`; later too to those that are added.
    /// Within a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be asked, or a thread cannot be had.
    pub async fn start(
        settings: &Settings,
        nodes: &Nodes,
        store: Store,
        clips: Clips,
        outbox: Option<Outbox>,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        let live = Live::new([]);
        let (reports, reported) = mpsc::channel(REPORT_QUEUE);
        let clips_config = clips.config().clone();
        let recorder = Recorder::new(store.clone(), clips, outbox, settings.events.clone(), live.clone(), stop.clone());
        let recording = TaskTracker::new();
        recording.spawn(recorder.run(reported));
        recording.close();

        let threads = settings.listen.threads();
        let mut queues = Vec::with_capacity(threads);
        let mut workers = Vec::with_capacity(threads);
        for number in 0..threads {
            let (queue, work) = mpsc::channel(WORK_QUEUE);
            let (reports, live) = (reports.clone(), live.clone());
            let worker = std::thread::Builder::new().name(format!("listen-{number}"));
            let worker = worker.spawn(move || worker::run(work, &reports, &live));
            workers.push(worker.map_err(|error| StoreError::Cut(format!("no thread to listen on: {error}")))?);
            queues.push(queue);
        }

        let subscribers = TaskTracker::new();
        let mut joiner = Joiner {
            nodes: nodes.clone(),
            joined: 0,
            settings: settings.clone(),
            clips: clips_config,
            store,
            live: live.clone(),
            queues,
            subscribers: subscribers.clone(),
            stop: stop.clone(),
        };
        for node in nodes.iter() {
            joiner.join(node).await?;
        }
        info!(nodes = live.nodes().len(), threads, "listening starts");
        subscribers.spawn(joiner.follow());
        subscribers.close();
        Ok(Self { live, subscribers, recorder: recording, workers })
    }

    /// What is going on.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Waits, after the stop, until all that was heard is analysed and stored.
    pub async fn finish(self) {
        self.subscribers.wait().await;
        // Without senders the workers end, without workers the recorder.
        self.recorder.wait().await;
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a listening thread crashed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
