//! `[clips]` of the config file.

use std::ops::RangeInclusive;

use hub_base::time::MOST_DAYS;
use sound::SAMPLE_RATE_HZ;

use super::codec::ClipFormat;

/// Longest pre-roll and post-roll: long enough for the beginning of a meow, too short for a sentence.
pub const MAX_ROLL_MS: u32 = 2_000;

/// Longest clip that can be configured, in seconds. It bounds the memory for a node's recent audio.
pub const MAX_LENGTH_S: u32 = 60;

/// Longest clip that can be configured, in seconds, and the shortest.
const LENGTH_S: RangeInclusive<u32> = 1..=MAX_LENGTH_S;

/// The most clips, and the most megabytes, that can be configured: more than any disk holds.
const MOST: u64 = 1_000_000_000_000;

/// `[clips]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipsConfig {
    /// Whether the hub writes clips. It stores events in any case.
    pub enabled: bool,
    /// Audio before the event, in milliseconds, at most [`MAX_ROLL_MS`].
    #[schemars(range(max = MAX_ROLL_MS))]
    pub pre_roll_ms: u32,
    /// Audio after the event, in milliseconds, at most [`MAX_ROLL_MS`].
    #[schemars(range(max = MAX_ROLL_MS))]
    pub post_roll_ms: u32,
    /// Format of the clips on disk. The gateway serves them as WAV in any case.
    pub format: ClipFormat,
    /// Whether to keep speech out of clips: pre-roll and post-roll with speech are cut off, and a clip that is mostly
    /// speech is not written (see [`sound::speech`] for the rule).
    pub speech_gate: bool,
    /// Longest clip without pre-roll and post-roll, in seconds, 1 to [`MAX_LENGTH_S`]. Of a longer event, the clip has
    /// the end.
    #[schemars(range(min = *LENGTH_S.start(), max = *LENGTH_S.end()))]
    pub max_length_s: u32,
    /// Clips are removed after this many days. 0: only `keep_count` and `keep_mb` limit them.
    #[schemars(range(max = MOST_DAYS))]
    pub keep_days: u32,
    /// The oldest clips are removed if there are more than this many.
    #[schemars(range(max = MOST))]
    pub keep_count: u64,
    /// The oldest clips are removed before all clips together exceed this size, in megabytes (10^6 bytes).
    #[schemars(range(max = MOST))]
    pub keep_mb: u64,
    /// No clip is written that would leave less than this many megabytes free on the disk, because the database needs
    /// room.
    #[schemars(range(max = MOST))]
    pub reserve_mb: u64,
}

impl Default for ClipsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            pre_roll_ms: 500,
            post_roll_ms: 500,
            format: ClipFormat::Wav,
            speech_gate: true,
            max_length_s: 10,
            keep_days: 90,
            keep_count: 20_000,
            keep_mb: 2_000,
            reserve_mb: 500,
        }
    }
}

impl ClipsConfig {
    /// Samples before an event.
    pub fn pre_roll_samples(&self) -> u64 {
        samples_of_ms(self.pre_roll_ms)
    }

    /// Samples after an event.
    pub fn post_roll_samples(&self) -> u64 {
        samples_of_ms(self.post_roll_ms)
    }

    /// Samples of the longest clip, without pre-roll and post-roll.
    pub fn max_length_samples(&self) -> u64 {
        samples_of_ms(self.max_length_s.saturating_mul(1_000))
    }
}

fn samples_of_ms(ms: u32) -> u64 {
    u64::from(ms) * u64::from(SAMPLE_RATE_HZ) / 1_000
}
