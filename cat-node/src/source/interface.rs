//! What every source has in common: what it delivers, and how it fails.

use std::time::Duration;

/// What a source delivers, before the framer makes canonical audio of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFormat {
    /// Samples a second and channel, in hertz.
    pub sample_rate_hz: u32,
    /// Interleaved channels, at least 1.
    pub channels: u16,
}

/// What one [`Source::read`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Samples were appended, whole sample groups of all channels.
    Samples,
    /// Nothing came within the wait: not an error yet; the supervisor decides how long that may last.
    Nothing,
    /// Samples were appended, but before them the device or the ring dropped some. `lost_samples` counts a channel's
    /// samples at the source's rate; 0: the number is not known, and the clock must tell.
    Overrun {
        /// Samples lost, a channel; 0: unknown.
        lost_samples: u64,
    },
    /// The recording has ended; no sample will ever come.
    Ended,
}

/// Why a source gives nothing any more. The variants name the remedy.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Open it anew after a while: the device is not there, was unplugged, or its server is gone.
    #[error("{0}")]
    Reopen(String),
    /// No retry will help: the path does not exist, the id is malformed.
    #[error("{0}")]
    Fatal(String),
    /// Only a new process can help: too many threads hang in the sound system.
    #[error("{0}")]
    Stuck(String),
}

/// A source of audio. It lives on the capture thread; every method may block, but never longer than it is told.
pub trait Source: Send {
    /// What it delivers. Fixed while the source is open.
    fn format(&self) -> SourceFormat;

    /// Stable id of the device, or the path of the recording; empty when there is none.
    fn device(&self) -> &str;

    /// Appends interleaved samples, -1 to 1, to `samples`, waiting for them at most `max_wait`. Sources that do not hear in
    /// real time by themselves (synthetic, WAV) are paced by their caller's clock, inside this wait.
    ///
    /// # Errors
    /// See [`SourceError`]. After an error the source is dropped.
    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError>;
}
