//! Starts everything that live listening needs, and finishes it after the stop.

use std::thread::JoinHandle;

use daemon::cause::cause;
use daemon::shutdown::CancellationToken;
use hub_nodes::Nodes;
use hub_owner::Outbox;
use hub_store::clips::Clips;
use hub_store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::Settings;
use crate::joiner::Joiner;
use crate::live::Live;
use crate::recorder::{REPORT_QUEUE, Recorder};
use crate::worker::{self, WORK_QUEUE};

/// Live listening while it runs.
#[derive(Debug)]
pub struct Listening {
    live: Live,
    subscribers: TaskTracker,
    recorder: TaskTracker,
    workers: Vec<JoinHandle<()>>,
}

impl Listening {
    /// Starts to listen to all nodes, and later to nodes that are added, until `stop`. Each node resumes at its
    /// watermark. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a thread cannot be started.
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
        let recorder = Recorder::new(store.clone(), clips, outbox, settings, live.clone(), stop.clone());
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
            workers.push(
                worker
                    .map_err(|error| StoreError::Cut(format!("cannot start a listening thread: {}", cause(&error))))?,
            );
            queues.push(queue);
        }

        let subscribers = TaskTracker::new();
        let mut joiner = Joiner {
            nodes: nodes.clone(),
            newcomers: nodes.newcomers(),
            count: 0,
            settings: settings.clone(),
            clips: clips_config,
            store,
            live: live.clone(),
            queues,
            subscribers: subscribers.clone(),
            stop: stop.clone(),
        };
        joiner.join_newcomers().await;
        info!(nodes = live.nodes().len(), threads, "listening started");
        subscribers.spawn(joiner.follow());
        subscribers.close();
        Ok(Self { live, subscribers, recorder: recording, workers })
    }

    /// The news and the state of each node.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Waits, after the stop, until all audio that has come is analysed and its events are stored.
    pub async fn finish(self) {
        self.subscribers.wait().await;
        // When the senders are gone the workers end, and then the recorder.
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
