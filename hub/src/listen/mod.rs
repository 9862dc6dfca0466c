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

use daemon::config::ConfigError;
use daemon::shutdown::CancellationToken;
use sound::detector::DetectorConfig;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::info;

use hub_nodes::{MAX_NODES, Nodes};
use hub_owner::Outbox;
use hub_store::clips::Clips;
use hub_store::{Store, StoreError};

pub mod clock;
pub mod ear;
pub mod fill;
mod joiner;
pub mod live;
pub mod monitor;
mod recorder;
mod ring;
pub mod sequencer;
mod subscriber;
mod worker;

pub use live::Live;
pub use recorder::EventsConfig;

use joiner::Joiner;
use recorder::{REPORT_QUEUE, Recorder};
use worker::WORK_QUEUE;

/// `[listen]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Whether to listen to the nodes all the time. Off, only `/analyze/NAME` hears them.
    pub enabled: bool,
    /// Length of audio in a message, in milliseconds: 20, 40 or 100. Longer ones cost less, and come later by as much.
    pub frame_ms: u32,
    /// How audio comes over the network.
    pub encoding: AudioEncoding,
    /// Threads that analyse, 1 to 64. 0: one for each core.
    pub threads: usize,
    /// How far behind the analysis may fall before it skips audio, in seconds, 1 to 3600.
    pub max_lag_s: u32,
}

/// How audio comes over the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioEncoding {
    /// 16-bit samples: 256 kbit/s, and the least work for the node.
    #[default]
    Pcm,
    /// Lossless compression, for thin links; about half as much in a quiet room.
    Flac,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { enabled: true, frame_ms: 100, encoding: AudioEncoding::Pcm, threads: 0, max_lag_s: 60 }
    }
}

impl ListenConfig {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if ![20, 40, 100].contains(&self.frame_ms) {
            return Err(ConfigError::value("listen.frame_ms", format!("{} is none of 20, 40, 100", self.frame_ms)));
        }
        if self.threads > MOST_THREADS {
            let why = format!("{} is more than {MOST_THREADS}", self.threads);
            return Err(ConfigError::value("listen.threads", why));
        }
        if !(1..=3_600).contains(&self.max_lag_s) {
            let why = format!("{} is not within 1 to 3600", self.max_lag_s);
            return Err(ConfigError::value("listen.max_lag_s", why));
        }
        Ok(())
    }

    fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if self.threads == 0 { cores } else { self.threads };
        wanted.clamp(1, MOST_THREADS)
    }
}

/// Threads that may be configured to analyse: one for each node.
const MOST_THREADS: usize = MAX_NODES;

/// What the config says about listening.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How it is listened.
    pub listen: ListenConfig,
    /// What counts as a cat event.
    pub detector: DetectorConfig,
    /// How long events are kept.
    pub events: EventsConfig,
}

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
pub(crate) mod tests;
