//! The rate and the channels of a recording.

/// Most channels of a recording.
pub const MAX_CHANNELS: u16 = 64;

/// The rate and the channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Samples per second and channel, in hertz, within [`sound::framer::SOURCE_RATES_HZ`].
    pub sample_rate_hz: u32,
    /// Interleaved channels, 1 to [`MAX_CHANNELS`].
    pub channels: u16,
}
