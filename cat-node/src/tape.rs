//! The bounded tape of numbered frames that every subscriber reads.
//!
//! One writer, the capture thread, appends frames and gaps. Any number of readers follow, each with a cursor of its
//! own. The writer never waits for a reader: the lock is held for the copy of a few frames at most, and a full tape
//! drops its oldest frame. A reader that starts late or falls behind gets a gap that covers exactly the frames it
//! missed, and the other readers do not notice.
//!
//! Every sequence number is either audio or covered by a gap, so `first_sample = 320 * sequence` always holds.
//!
//! The tape lies in [`memory`], and continues on disk where there is a [`spill`].

mod entry;
mod memory;
mod piece;
pub mod reader;
mod spill;

use std::sync::{Mutex, MutexGuard, PoisonError};

use daemon::cause::cause;
use proto::{FRAME_SAMPLES, GapReason};
use tokio::sync::watch;
use tracing::warn;

use crate::clock::NodeClock;

pub use entry::{FRAME_BYTES, Gap};
pub use piece::{Piece, Want};
pub use spill::{SpillConfig, SpillCounts};

use memory::Memory;
use spill::Spill;

/// The tape. Share it by [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct Tape {
    boot_id: u64,
    clock: NodeClock,
    capacity_frames: usize,
    spill: Option<Spill>,
    memory: Mutex<Memory>,
    /// Number of the frame that will be written next. Readers wait for it to change.
    next_sequence: watch::Sender<u64>,
}

/// What a tape holds. Fields as in the message `TapeInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of the oldest frame (or gap) still on the tape.
    pub oldest_sequence: u64,
    /// Number of the frame that will be written next.
    pub next_sequence: u64,
    /// Frames that fit into memory.
    pub capacity_frames: u64,
    /// Bytes of memory that the audio takes now, packed or not.
    pub bytes: u64,
}

impl Tape {
    /// An empty tape for `capacity_bytes` of plain samples, at least one frame. Memory grows as the tape fills. The
    /// clock stamps the frames. The boot id, never 0, is drawn at random.
    pub fn new(clock: NodeClock, capacity_bytes: usize) -> Self {
        Self {
            boot_id: rand::random::<u64>().max(1),
            clock,
            capacity_frames: (capacity_bytes / FRAME_BYTES).max(1),
            spill: None,
            memory: Mutex::default(),
            next_sequence: watch::Sender::new(0),
        }
    }

    /// Makes the tape continue on disk when memory is full. If the disk cannot be used, this is logged, and the tape
    /// stays in memory alone.
    pub fn spill_to(mut self, config: &SpillConfig) -> Self {
        match Spill::start(config) {
            Ok(spill) => self.spill = Some(spill),
            Err(error) => {
                let error = cause(&error);
                warn!(error, dir = %config.dir.display(), "the tape is not spilled to disk, it stays in memory");
            }
        }
        self
    }

    /// Counters of the spill. `None`: there is no spill.
    pub fn spill_counts(&self) -> Option<SpillCounts> {
        self.spill.as_ref().map(Spill::counts)
    }

    /// Identifies this tape and its sequence numbers for ever. Never 0.
    pub fn boot_id(&self) -> u64 {
        self.boot_id
    }

    /// The clock that stamps its frames.
    pub fn clock(&self) -> NodeClock {
        self.clock
    }

    /// Number of the frame that will be written next.
    pub fn next_sequence(&self) -> u64 {
        *self.next_sequence.borrow()
    }

    /// What it holds now.
    pub fn extent(&self) -> Extent {
        let memory = self.lock();
        Extent {
            oldest_sequence: self.oldest_sequence(&memory),
            next_sequence: memory.next_sequence(),
            capacity_frames: self.capacity_frames as u64,
            bytes: memory.bytes() as u64,
        }
    }

    /// Appends the next frame and returns its number. `captured_monotonic_ns` is when its first sample was captured, on
    /// the tape's clock. Only the capture thread writes.
    pub fn append_frame(&self, samples: &[i16; FRAME_SAMPLES], captured_monotonic_ns: u64) -> u64 {
        let (sequence, began_block) = {
            let mut memory = self.lock();
            let sequence = memory.next_sequence();
            let began_block = memory.push_frame(samples, captured_monotonic_ns);
            self.trim(&mut memory);
            (sequence, began_block)
        };
        self.next_sequence.send_replace(sequence + 1);
        if began_block {
            self.pack_old_blocks();
        }
        sequence
    }

    /// Appends a gap of `frame_count` frames; 0 does nothing. A gap that directly follows another one of the same
    /// reason extends it, so an outage can be reported piece by piece while it lasts. Only the capture thread writes.
    pub fn append_gap(&self, frame_count: u64, reason: GapReason, detail: &str) {
        if frame_count == 0 {
            return;
        }
        let next = {
            let mut memory = self.lock();
            memory.push_gap(frame_count, reason, detail);
            self.trim(&mut memory);
            memory.next_sequence()
        };
        self.next_sequence.send_replace(next);
    }

    /// Drops what no longer fits, or hands it to the spill. The caller holds the lock of the memory until the spill has
    /// taken it, so that every reader finds it in one of the two places.
    fn trim(&self, memory: &mut Memory) {
        match &self.spill {
            None => memory.trim(self.capacity_frames),
            Some(spill) => {
                while let Some(entry) = memory.take_surplus(self.capacity_frames) {
                    spill.keep(entry);
                }
            }
        }
    }

    /// Number of the oldest frame (or gap) still on the tape, on disk or in memory.
    fn oldest_sequence(&self, memory: &Memory) -> u64 {
        let in_memory = memory.oldest_sequence();
        self.spill.as_ref().and_then(Spill::oldest).map_or(in_memory, |on_disk| on_disk.min(in_memory))
    }

    /// Packs the blocks that are no longer among the newest. The lock is not held while a block is coded, so readers go
    /// on.
    fn pack_old_blocks(&self) {
        loop {
            // A statement of its own, so that the lock is released before the coding.
            let oldest_plain = self.lock().oldest_plain();
            let Some((first_sequence, plain)) = oldest_plain else { return };
            let packed = entry::pack(&plain);
            self.lock().replace(first_sequence, packed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // No change to the memory can panic half-way, so a poisoned lock still guards a whole one.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
