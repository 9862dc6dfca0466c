//! What is going on right now: news for whoever watches, and the state of each node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hub_store::events::{Event, NewGap};
use sound::spectrogram::Column;
use tokio::sync::broadcast;

use super::fill::Fill;

/// A peak above this is a sound: steps, a door, a cat. A room that is as quiet as a room can be stays below it, and so does a
/// microphone that is muted or dead and gives nothing but its own noise.
pub const SOUND_PEAK_DBFS: f32 = -55.0;

/// News that wait for a watcher. One that is further behind loses the oldest and is told how many.
pub const NEWS_QUEUE: usize = 256;

/// Pieces of spectrogram that wait for a watcher: 6 s of one node. One that is further behind loses the oldest, and sees by the
/// samples which.
const SPECTRA_QUEUE: usize = 64;

/// Something that has just happened.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// An event was stored.
    Event(Box<Event>),
    /// The owner said something about an event.
    Labelled(Box<Event>),
    /// The owner deleted an event.
    Deleted {
        /// Number of the event.
        id: i64,
    },
    /// Audio was lost.
    Gap(NewGap),
    /// How loud a node is, and how much like a cat. A few times a second.
    Level(LiveLevel),
    /// A node came, went, or caught up.
    State {
        /// Name of the node.
        node: String,
        /// How it fares.
        state: NodeState,
    },
}

/// How loud a node is now, and how much like a cat.
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
    /// First sample of the first column, on the node's count.
    pub first_sample: u64,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// How listening to a node fares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodeState {
    /// Not reached yet.
    #[default]
    Connecting,
    /// It sends what it kept.
    CatchingUp,
    /// It sends what it hears.
    Live,
    /// It is connected and sends nothing.
    Quiet,
    /// It cannot be reached.
    Away,
}

impl NodeState {
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

/// What is known of listening to a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReport {
    /// How it fares.
    pub state: NodeState,
    /// Why it is away. Empty: it is not.
    pub error: String,
    /// Boot id of the node. 0: not heard yet.
    pub boot_id: u64,
    /// 20 ms frames analysed since the hub's start.
    pub frames: u64,
    /// Frames that were sent twice.
    pub duplicate_frames: u64,
    /// Lost frames by reason; those of an earlier boot whose number is unknown count as 0.
    pub lost_frames: BTreeMap<&'static str, u64>,
    /// Gaps.
    pub gaps: u64,
    /// Events found since the hub's start, those stored before among them.
    pub events: u64,
    /// The same by context.
    pub events_by_context: BTreeMap<&'static str, u64>,
    /// Connections that ended.
    pub disconnects: u64,
    /// Age of the audio that was analysed last, when it was, in milliseconds.
    pub lag_ms: u64,
    /// Levels and score that were reported last.
    pub level: Option<LiveLevel>,
    /// When a sound was heard last: a level above [`SOUND_PEAK_DBFS`]. `None`: never.
    pub sound_at: Option<Instant>,
    /// When audio was analysed last, by a clock that is never set. `None`: never.
    pub heard_at: Option<Instant>,
    /// When audio was analysed last, by the hub's clock, in nanoseconds since 1970 UTC. 0: never.
    pub heard_at_ns: i64,
}

/// One node, as its tasks and the API share it.
#[derive(Debug)]
pub struct WatchedNode {
    name: String,
    since: Instant,
    report: Mutex<NodeReport>,
}

/// The news, and the nodes. Clones share them.
#[derive(Debug, Clone)]
pub struct Live {
    news: broadcast::Sender<Arc<News>>,
    /// Apart from the news, for they are many, and drawn only while somebody watches.
    spectra: broadcast::Sender<Arc<LiveSpectrum>>,
    /// At most as many as [`Nodes`](hub_nodes::Nodes).
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

    /// When the hub began to listen to it.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What is known of it now.
    pub fn report(&self) -> NodeReport {
        self.lock().clone()
    }

    /// The report, for changing it.
    pub fn lock(&self) -> MutexGuard<'_, NodeReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Nobody watches yet, and nothing was heard.
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

    /// One more node.
    pub fn add(&self, name: String) -> Arc<WatchedNode> {
        let node = Arc::new(WatchedNode { name, since: Instant::now(), report: Mutex::default() });
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&node));
        node
    }

    /// Everything from now on. Bounded by [`NEWS_QUEUE`].
    pub fn watch(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    /// What the nodes sound like from now on. Bounded by [`SPECTRA_QUEUE`].
    pub fn watch_spectra(&self) -> broadcast::Receiver<Arc<LiveSpectrum>> {
        self.spectra.subscribe()
    }

    /// Whether anybody watches what the nodes sound like.
    pub fn spectra_are_watched(&self) -> bool {
        self.spectra.receiver_count() > 0
    }

    /// Shows everybody who watches.
    pub fn show_spectrum(&self, spectrum: LiveSpectrum) {
        // An error means that nobody does any more.
        let _ = self.spectra.send(Arc::new(spectrum));
    }

    /// Who watches, and how much news waits for the slowest of them.
    pub fn watchers(&self) -> (usize, usize) {
        (self.news.receiver_count(), self.news.len())
    }

    /// The nodes as they are now: in the order of the config, then those that were found.
    pub fn nodes(&self) -> Vec<Arc<WatchedNode>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells everybody who watches.
    pub fn tell(&self, news: News) {
        // An error means that nobody does.
        let _ = self.news.send(Arc::new(news));
    }

    /// Notes how a node fares, and tells when it is a change.
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
