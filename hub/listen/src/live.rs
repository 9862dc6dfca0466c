//! What happens right now: news for watchers, and the state of each node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hub_store::events::{Event, NewGap};
use sound::spectrogram::Column;
use tokio::sync::broadcast;

use crate::fill::Fill;

/// A peak above this level is a sound: steps, a door, a cat. A very quiet room stays below it, and so does a microphone
/// that is muted or broken and gives only its own noise.
pub const SOUND_PEAK_DBFS: f32 = -55.0;

/// News queued for a watcher. A watcher that falls further behind loses the oldest, and learns how many.
pub const NEWS_QUEUE: usize = 256;

/// Pieces of spectrogram queued for a watcher: 6 s of one node. A watcher that falls further behind loses the oldest,
/// and can tell from the sample numbers which.
const SPECTRA_QUEUE: usize = 64;

/// Something that has just happened.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// An event was stored.
    Event(Box<Event>),
    /// The owner labelled an event, or removed the label.
    Labelled(Box<Event>),
    /// An event was linked to one of another node, because both are the same sound, or it has linked events. Either
    /// this event or the one that it is linked to is shown.
    Linked(Box<Event>),
    /// The owner deleted an event.
    Deleted {
        /// Number of the event.
        id: i64,
    },
    /// Events have another context now, because the owner's labels taught the hub, or because a person undid that.
    Reevaluated {
        /// How many.
        events: usize,
    },
    /// Stored events of a node have other times now, because a clock was wrong.
    Redated {
        /// Name of the node.
        node: String,
    },
    /// Audio was lost.
    Gap(NewGap),
    /// How loud a node is, and how much it sounds like a cat. A few times per second.
    Level(LiveLevel),
    /// The state of a node changed.
    State {
        /// Name of the node.
        node: String,
        /// Its new state.
        state: NodeState,
    },
}

/// How loud a node is now, and how much it sounds like a cat.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveLevel {
    /// Name of the node.
    pub node: String,
    /// Root mean square, in dB of full scale, -120 to 0.
    pub rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    pub peak_dbfs: f32,
    /// How much it sounds like a cat, 0 to 1.
    pub score: f32,
    /// Age of the audio when it was analysed, in milliseconds.
    pub lag_ms: u64,
}

/// What a node sounds like now: a piece of its spectrogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSpectrum {
    /// Name of the node.
    pub node: String,
    /// Boot id of the node.
    pub boot_id: u64,
    /// First sample of the first column, in the node's numbering.
    pub first_sample: u64,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// The state of listening to a node. In short: a node is live (here also [`CatchingUp`](Self::CatchingUp)), deaf (it is
/// [`Quiet`](Self::Quiet), or `hub_watch` finds that it gives no sound) or away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeState {
    /// Not reached yet.
    #[default]
    Connecting,
    /// It sends audio from its tape that is older than live.
    CatchingUp,
    /// It sends what it hears now.
    Live,
    /// It is connected and sends no audio.
    Quiet,
    /// It cannot be reached.
    Away,
}

impl NodeState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Connecting, Self::CatchingUp, Self::Live, Self::Quiet, Self::Away];

    /// The word for it in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::CatchingUp => "catching_up",
            Self::Live => "live",
            Self::Quiet => "quiet",
            Self::Away => "away",
        }
    }
}

/// State and counts of listening to a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReport {
    /// Its state.
    pub state: NodeState,
    /// Why it is away. Empty: it is not away.
    pub error: String,
    /// Boot id of the node. 0: not heard yet.
    pub boot_id: u64,
    /// 20 ms frames analysed since the hub's start.
    pub frames: u64,
    /// Frames that were sent twice.
    pub duplicate_frames: u64,
    /// Lost frames by reason. Losses from an earlier boot count as 0, because their number is unknown.
    pub lost_frames: BTreeMap<&'static str, u64>,
    /// Stretches of lost audio.
    pub gaps: u64,
    /// Events found since the hub's start, including those that were stored before.
    pub events: u64,
    /// Events by context.
    pub events_by_context: BTreeMap<&'static str, u64>,
    /// Established connections that ended. Failed attempts to connect do not count.
    pub disconnects: u64,
    /// Age of the latest audio when it was analysed, in milliseconds.
    pub lag_ms: u64,
    /// The latest levels and score.
    pub level: Option<LiveLevel>,
    /// When the last sound was heard: a peak above [`SOUND_PEAK_DBFS`]. `None`: never.
    pub sound_at: Option<Instant>,
    /// When audio was last analysed, by the monotonic clock. `None`: never.
    pub heard_at: Option<Instant>,
    /// When audio was last analysed, by the hub's wall clock, in nanoseconds since 1970 UTC. 0: never.
    pub heard_at_ns: i64,
}

/// A node that is listened to, shared by its tasks and the API.
#[derive(Debug)]
pub struct WatchedNode {
    name: String,
    since: Instant,
    report: Mutex<NodeReport>,
}

/// The news and the nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct Live {
    news: broadcast::Sender<Arc<News>>,
    /// Separate from the news: they are frequent, and drawn only while somebody watches.
    spectra: broadcast::Sender<Arc<LiveSpectrum>>,
    /// At most as many as in [`Nodes`](hub_nodes::Nodes).
    nodes: Arc<Mutex<Vec<Arc<WatchedNode>>>>,
    /// Audio that waits for its analysis.
    pub audio_fill: Fill,
    /// Findings that wait to be stored.
    pub report_fill: Fill,
}

impl WatchedNode {
    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the hub started to listen to it.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Its report as it is now.
    pub fn report(&self) -> NodeReport {
        self.lock().clone()
    }

    /// The report, locked for a change.
    pub fn lock(&self) -> MutexGuard<'_, NodeReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// These nodes, without any news or watchers yet.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let live = Self {
            news: broadcast::channel(NEWS_QUEUE).0,
            spectra: broadcast::channel(SPECTRA_QUEUE).0,
            nodes: Arc::default(),
            audio_fill: Fill::default(),
            report_fill: Fill::default(),
        };
        for name in names {
            live.add(name);
        }
        live
    }

    /// Adds a node.
    pub fn add(&self, name: String) -> Arc<WatchedNode> {
        let node = Arc::new(WatchedNode { name, since: Instant::now(), report: Mutex::default() });
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node
    }

    /// Removes a node that the hub does not use any more.
    pub fn remove(&self, node: &Arc<WatchedNode>) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| !Arc::ptr_eq(known, node));
    }

    /// All news from now on. The queue is bounded by [`NEWS_QUEUE`].
    pub fn watch(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    /// All spectra from now on. The queue is bounded by [`SPECTRA_QUEUE`].
    pub fn watch_spectra(&self) -> broadcast::Receiver<Arc<LiveSpectrum>> {
        self.spectra.subscribe()
    }

    /// Whether anybody watches the spectra.
    pub fn spectra_are_watched(&self) -> bool {
        self.spectra.receiver_count() > 0
    }

    /// Sends a spectrum to all watchers.
    pub fn show_spectrum(&self, spectrum: LiveSpectrum) {
        // Fails only when the last watcher has gone.
        let _ = self.spectra.send(Arc::new(spectrum));
    }

    /// The number of watchers, and how many news wait for the slowest of them.
    pub fn watchers(&self) -> (usize, usize) {
        (self.news.receiver_count(), self.news.len())
    }

    /// The nodes as they are now: the configured ones in their order, then the discovered ones.
    pub fn nodes(&self) -> Vec<Arc<WatchedNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends news to all watchers.
    pub fn tell(&self, news: News) {
        // Fails only when there are no watchers.
        let _ = self.news.send(Arc::new(news));
    }

    /// Sets the state of a node. A change is news.
    pub fn set_state(&self, watched: &WatchedNode, state: NodeState, error: &str) {
        let before = {
            let mut report = watched.lock();
            report.error.clear();
            report.error.push_str(error);
            std::mem::replace(&mut report.state, state)
        };
        if before != state {
            self.tell(News::State { node: watched.name.clone(), state });
        }
    }
}
