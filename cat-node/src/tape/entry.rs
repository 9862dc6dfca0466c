//! What a tape consists of: blocks of audio, and gaps between them.

use std::sync::Arc;

use proto::{FRAME_SAMPLES, GapReason};

/// Bytes of a frame of plain samples. The capacity of a tape is counted in these.
pub const FRAME_BYTES: usize = 2 * FRAME_SAMPLES;

/// Frames of a block: a second. Only the last block is written to. A block before a gap may be shorter.
pub(super) const BLOCK_FRAMES: usize = 50;

/// Frames that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Number of the first lost frame.
    pub first_sequence: u64,
    /// Number of lost frames, at least 1.
    pub frame_count: u64,
    /// Why they are lost.
    pub reason: GapReason,
    /// One sentence, or empty.
    pub detail: String,
}

impl Gap {
    /// The frames of this gap from `first_sequence` on, up to `end`.
    pub(super) fn between(&self, first_sequence: u64, end: u64) -> Self {
        let end = end.min(self.first_sequence.saturating_add(self.frame_count));
        Self { first_sequence, frame_count: end - first_sequence, ..self.clone() }
    }
}

/// A part of the tape.
#[derive(Debug)]
pub(super) enum Entry {
    Audio(Block),
    Gap(Gap),
}

impl Entry {
    pub(super) fn first_sequence(&self) -> u64 {
        match self {
            Self::Audio(block) => block.first_sequence,
            Self::Gap(gap) => gap.first_sequence,
        }
    }

    /// Frames of audio in it.
    pub(super) fn audio_frames(&self) -> usize {
        match self {
            Self::Audio(block) => block.captured_ns.len(),
            Self::Gap(_) => 0,
        }
    }
}

/// Consecutive frames of audio.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) first_sequence: u64,
    /// Capture time of each frame.
    pub(super) captured_ns: Vec<u64>,
    pub(super) samples: Samples,
}

/// The samples of a block.
#[derive(Debug)]
pub(super) enum Samples {
    Plain(Vec<i16>),
    /// As FLAC.
    Packed(Arc<[u8]>),
}

impl Samples {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain(samples) => 2 * samples.len(),
            Self::Packed(packed) => packed.len(),
        }
    }
}

/// Codes the samples of a block.
pub(super) fn pack(plain: &[i16]) -> Arc<[u8]> {
    let mut packed = Vec::with_capacity(plain.len());
    sound::flac::encode(plain, &mut packed);
    packed.shrink_to_fit();
    packed.into()
}

/// Decodes the samples of a block and appends them to `samples`. Stops one sample after the longest block: a damaged
/// file of a few kilobytes could have hours of silence.
///
/// # Errors
/// If `packed` is not FLAC.
pub(super) fn unpack(packed: &[u8], samples: &mut Vec<i16>) -> Result<(), claxon::Error> {
    for sample in claxon::FlacReader::new(packed)?.samples().take(BLOCK_FRAMES * FRAME_SAMPLES + 1) {
        samples.push(sample? as i16);
    }
    Ok(())
}
