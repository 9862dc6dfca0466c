//! What the tape and the thread of the disk share: the state of the spill, and the requests from one to the other.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use proto::FRAME_SAMPLES;
use tokio::sync::oneshot;

use crate::tape::entry::{Block, Entry, Gap, Samples, unpack};

/// What was counted since the start, and what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpillCounts {
    /// Bytes on disk now.
    pub bytes: u64,
    /// Times that the spill was closed because the disk failed or was too slow.
    pub failures: u64,
    /// Frames of audio that left memory and did not get to the disk.
    pub lost_frames: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether entries are kept. A spill is closed when the disk fails.
    pub(super) open: bool,
    /// Grows when the spill is closed or opened. What was handed over in an earlier generation is not kept.
    pub(super) generation: u64,
    /// Number of the oldest frame on disk or on its way there. From there to memory nothing is missing.
    pub(super) oldest: Option<u64>,
    pub(super) counts: SpillCounts,
}

impl Shared {
    /// The state of a spill that is open and empty.
    pub(super) fn open() -> Self {
        Self { state: Mutex::new(State { open: true, ..State::default() }) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No change to the state can panic half-way, so a poisoned lock still guards a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives up what is on disk.
    pub(super) fn close(&mut self) {
        self.open = false;
        self.generation += 1;
        self.oldest = None;
        self.counts.failures += 1;
        self.counts.bytes = 0;
    }
}

/// What the tape asks of the disk.
pub(super) enum Request {
    Keep { generation: u64, entry: Entry },
    Fetch { from: u64, reply: oneshot::Sender<Option<Fetched>> },
}

/// What was read back from the disk.
#[derive(Debug)]
pub(crate) enum Fetched {
    Audio(FetchedAudio),
    Gap(Gap),
}

/// Consecutive frames.
#[derive(Debug)]
pub(crate) struct FetchedAudio {
    pub(crate) first_sequence: u64,
    /// Capture time of each frame.
    pub(crate) captured_ns: Vec<u64>,
    pub(crate) samples: Vec<i16>,
    /// Whether more audio follows on disk. Otherwise a gap follows, or what is in memory.
    pub(crate) continues: bool,
}

impl Fetched {
    /// Frames from `cursor` on. 0: `cursor` is not among them.
    pub(crate) fn frames_from(&self, cursor: u64) -> u64 {
        let (first_sequence, frames) = match self {
            Self::Audio(audio) => (audio.first_sequence, audio.captured_ns.len() as u64),
            Self::Gap(gap) => (gap.first_sequence, gap.frame_count),
        };
        if cursor < first_sequence { 0 } else { first_sequence.saturating_add(frames).saturating_sub(cursor) }
    }
}

impl FetchedAudio {
    /// No audio yet; the first block that is appended says where it begins.
    pub(super) fn empty() -> Self {
        Self { first_sequence: 0, captured_ns: Vec::new(), samples: Vec::new(), continues: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.captured_ns.is_empty()
    }

    /// Appends a block, and decodes it.
    ///
    /// # Errors
    /// If the block is damaged.
    pub(super) fn append(&mut self, block: Block) -> io::Result<()> {
        if self.is_empty() {
            self.first_sequence = block.first_sequence;
        }
        self.captured_ns.extend(block.captured_ns);
        match block.samples {
            Samples::Packed(packed) => unpack(&packed, &mut self.samples).map_err(io::Error::other)?,
            Samples::Plain(plain) => self.samples.extend(plain),
        }
        if self.samples.len() != self.captured_ns.len() * FRAME_SAMPLES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}
