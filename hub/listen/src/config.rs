//! `[listen]` and `[events]` of the config file.

use daemon::config::ConfigError;
use hub_nodes::MAX_NODES;
use sound::detector::DetectorConfig;

/// `[listen]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

    pub(super) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if self.threads == 0 { cores } else { self.threads };
        wanted.clamp(1, MOST_THREADS)
    }
}

/// Threads that may be configured to analyse: one for each node.
pub(super) const MOST_THREADS: usize = MAX_NODES;

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

/// How long events are kept. Clips go much sooner, by `[clips]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events are forgotten after this many days. 0: by count alone.
    pub keep_days: u32,
    /// The oldest events are forgotten above this many. Gaps likewise.
    pub keep_count: u64,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { keep_days: 3_650, keep_count: 1_000_000 }
    }
}
