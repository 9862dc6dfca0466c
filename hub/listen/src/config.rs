//! `[listen]` and `[events]` of the config file.

use std::ops::RangeInclusive;

use daemon::config::ConfigError;
use hub_base::time::MOST_DAYS;
use hub_nodes::MAX_NODES;
use sound::detector::DetectorConfig;

/// Lengths of audio per message, in milliseconds, in which a node sends.
const FRAME_MS: [u32; 3] = [20, 40, 100];

/// How far the analysis may be configured to fall behind, in seconds.
const MAX_LAG_S: RangeInclusive<u32> = 1..=3_600;

/// `[listen]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Whether to listen to the nodes all the time. If off, only `/analyze/NAME` listens to them.
    pub enabled: bool,
    /// Length of audio per message, in milliseconds: 20, 40 or 100. Longer messages cost less and arrive later.
    #[schemars(range(min = FRAME_MS[0], max = FRAME_MS[2]))]
    pub frame_ms: u32,
    /// How audio is sent over the network.
    pub encoding: AudioEncoding,
    /// Analysis threads, 1 to 64. 0: one per core.
    #[schemars(range(max = MOST_THREADS))]
    pub threads: usize,
    /// How far the analysis may fall behind before it skips audio, in seconds, 1 to 3600.
    #[schemars(range(min = *MAX_LAG_S.start(), max = *MAX_LAG_S.end()))]
    pub max_lag_s: u32,
    /// Whether a sound that several nodes hear is one event: the loudest recording is shown, and owners are notified
    /// once. If off, each node has an event of its own.
    pub one_event_per_sound: bool,
    /// Whether to notify no owner of sounds like those that the owner labelled "not a cat" at the same node, and not to
    /// count them. They are stored with their clips in any case.
    pub reject_like_false_alarms: bool,
}

/// How audio is sent over the network.
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
        Self {
            enabled: true,
            frame_ms: 100,
            encoding: AudioEncoding::Pcm,
            threads: 0,
            max_lag_s: 60,
            one_event_per_sound: true,
            reject_like_false_alarms: true,
        }
    }
}

impl ListenConfig {
    /// Checks what the ranges of the schema do not say.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !FRAME_MS.contains(&self.frame_ms) {
            return Err(ConfigError::value("listen.frame_ms", format!("{} is not 20, 40 or 100", self.frame_ms)));
        }
        Ok(())
    }

    pub(super) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if self.threads == 0 { cores } else { self.threads };
        wanted.clamp(1, MOST_THREADS)
    }
}

/// Most analysis threads that can be configured: one per node.
pub(super) const MOST_THREADS: usize = MAX_NODES;

/// What the config says about listening.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How to listen.
    pub listen: ListenConfig,
    /// What counts as a cat event.
    pub detector: DetectorConfig,
    /// How long events are kept.
    pub events: EventsConfig,
}

/// The most events that can be configured to be kept: more than any disk holds.
const MOST_EVENTS: u64 = 1_000_000_000_000;

/// How long events are kept. Clips go much sooner, by `[clips]`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Events are deleted after this many days. 0: by count alone.
    #[schemars(range(max = MOST_DAYS))]
    pub keep_days: u32,
    /// Above this many events, the oldest are deleted. The limit applies to gaps too.
    #[schemars(range(max = MOST_EVENTS))]
    pub keep_count: u64,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { keep_days: 3_650, keep_count: 1_000_000 }
    }
}
