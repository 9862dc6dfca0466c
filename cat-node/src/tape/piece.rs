//! What a reader asks a tape for, and what it gets.

use super::entry::Gap;

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Consecutive frames. Their samples are in the caller's buffer.
    Audio {
        /// Number of the first frame.
        first_sequence: u64,
        /// When its first sample was captured, in nanoseconds of the tape's clock.
        captured_monotonic_ns: u64,
    },
    /// Frames that are lost.
    Gap(Gap),
}

/// How much a reader wants in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Frames of audio in a piece. A piece is shorter only before a gap, at `before`, and where the disk's part of the
    /// tape ends.
    pub frames: usize,
    /// Read only frames with lower numbers than this.
    pub before: u64,
    /// Return a shorter piece rather than wait until it is complete.
    pub partial: bool,
}

impl Want {
    /// Pieces of exactly `frames` frames, unless a gap ends one.
    pub fn whole(frames: usize) -> Self {
        Self { frames, before: u64::MAX, partial: false }
    }
}
