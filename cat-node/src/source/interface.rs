//! What all sources have in common: what they deliver, and how they fail.

use std::time::Duration;

/// How far the crystal of a sound card may drift from the node's clock, in parts per million. Cards are within 100 ppm,
/// and the drift of a cheap USB card and that of a cheap board can add up.
pub const CARD_DRIFT_PPM: u64 = 500;

/// The format that a source delivers, before the framer turns it into canonical audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFormat {
    /// Samples per second and channel, in hertz.
    pub sample_rate_hz: u32,
    /// Interleaved channels, at least 1.
    pub channels: u16,
}

/// What one [`Source::read`] delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Samples were appended: the same number for each channel.
    Samples,
    /// No sample came within the wait. Not an error yet: the supervisor decides how long that may last.
    Nothing,
    /// Samples were appended, but the device or the ring dropped some before them.
    Overrun {
        /// Samples lost per channel, at the source's rate. 0: unknown, so the clock must tell.
        lost_samples: u64,
    },
    /// The recording has ended. No more samples will come.
    Ended,
}

/// Why a source fails. The variants name the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Reopen it after a while: the device is not there, was unplugged, or its sound server is gone.
    #[error("{0}")]
    Reopen(String),
    /// Reopen it after a longer while: a server refuses, and asking it often would lock the user out. Somebody must
    /// change a setting there.
    #[error("{0}")]
    Refused(String),
    /// A retry cannot help: the path does not exist, or the id is malformed.
    #[error("{0}")]
    Fatal(String),
    /// Only a restart of the process can help: too many threads hang in the sound system.
    #[error("{0}")]
    Stuck(String),
}

/// A source of audio. The capture thread owns it. Its methods may block, but no longer than the caller allows.
pub trait Source: Send {
    /// The format that it delivers. Fixed while the source is open.
    fn format(&self) -> SourceFormat;

    /// Stable id of the device, or the path of the recording; empty when there is none.
    fn device(&self) -> &str;

    /// How far its clock may drift from the node's, in parts per million. Sound that comes later than that was lost.
    fn drift_ppm(&self) -> u64 {
        CARD_DRIFT_PPM
    }

    /// Appends interleaved samples, -1 to 1, to `samples`. Waits for them at most `max_wait`. A source that has no real
    /// time of its own (synthetic, WAV) is paced by the clock, within this wait.
    ///
    /// # Errors
    /// See [`SourceError`]. After an error the source is dropped.
    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError>;
}
