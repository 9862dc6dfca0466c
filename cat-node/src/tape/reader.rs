//! Reading a tape, from memory and from disk.

use std::sync::Arc;

use proto::{FRAME_SAMPLES, GapReason};
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::Tape;
use super::entry::{BLOCK_FRAMES, Gap, unpack};
use super::memory::PackedPart;
use super::piece::{Piece, Want};
use super::spill::{Fetched, Fetching};

/// Detail of a gap whose frames went to a disk that then did not answer.
const DISK_HUNG: &str = "the disk of the tape did not answer";

/// A cursor on a tape, which moves forward as it is read.
#[derive(Debug)]
pub struct Reader {
    tape: Arc<Tape>,
    written: watch::Receiver<u64>,
    cursor: u64,
    started: bool,
    /// The packed block that was decoded last, for the reads that follow: number of its first frame, and its samples.
    unpacked: Option<(u64, Vec<i16>)>,
    /// A read of the disk, at the cursor, that is not answered yet.
    fetching: Option<Fetching>,
    /// The answer of the last one.
    fetched: Option<Fetched>,
    /// The disk did not answer. This is the reason of the next gap.
    disk_hung: bool,
}

impl Reader {
    /// A reader whose first frame is number `from`. If the tape has not got that far, it is the next frame to be
    /// written.
    pub fn at(tape: &Arc<Tape>, from: u64) -> Self {
        let written = tape.next_sequence.subscribe();
        let cursor = from.min(*written.borrow());
        let (unpacked, fetching, fetched) = (None, None, None);
        Self { tape: Arc::clone(tape), written, cursor, started: false, unpacked, fetching, fetched, disk_hung: false }
    }

    /// A reader whose first frame is the next one to be written.
    pub fn live(tape: &Arc<Tape>) -> Self {
        Self::at(tape, u64::MAX)
    }

    /// Number of the next frame to be read.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Frames on the tape that were not read yet.
    pub fn behind(&self) -> u64 {
        self.written.borrow().saturating_sub(self.cursor)
    }

    /// The next piece, or `None` if it is not there yet. The samples of audio replace the contents of `samples`.
    pub fn read(&mut self, want: Want, samples: &mut Vec<i16>) -> Option<Piece> {
        samples.clear();
        let mut packed = Vec::new();
        let piece = self.find(want, samples, &mut packed)?;
        self.started = true;
        self.cursor += match &piece {
            Piece::Gap(gap) => gap.frame_count,
            Piece::Audio { .. } => (samples.len() / FRAME_SAMPLES) as u64,
        };
        for part in packed {
            self.unpack(&part, samples);
        }
        Some(piece)
    }

    /// Waits until there may be something to read: until something was written since the last read, or the disk has
    /// answered. A disk that does not answer within [`FETCH_DEADLINE`](super::spill::FETCH_DEADLINE) closes the spill,
    /// and what it held becomes a gap. May return early, but never misses any of these.
    pub async fn wait(&mut self) {
        if let Some(fetching) = &mut self.fetching {
            match timeout_at(fetching.deadline, &mut fetching.reply).await {
                // An error means that the spill has ended; then memory has all there is.
                Ok(fetched) => self.fetched = fetched.ok().flatten(),
                Err(_) => {
                    self.disk_hung = true;
                    if let Some(spill) = &self.tape.spill {
                        spill.close_hung();
                    }
                }
            }
            self.fetching = None;
            return;
        }
        // Cannot fail: the tape, which this reader holds, owns the sender.
        let _ = self.written.changed().await;
    }

    /// Finds the piece at the cursor. The lock is held here and nowhere else: packed parts are decoded after it.
    fn find(&mut self, want: Want, samples: &mut Vec<i16>, packed: &mut Vec<PackedPart>) -> Option<Piece> {
        let tape = Arc::clone(&self.tape);
        let memory = tape.lock();
        let end = memory.next_sequence().min(want.before);
        if self.cursor >= end {
            return None;
        }
        if let Some(piece) = self.find_fetched(want, end, samples) {
            return Some(piece);
        }
        let oldest = tape.oldest_sequence(&memory);
        if self.cursor < oldest {
            return Some(Piece::Gap(self.overwritten_until(oldest.min(end))));
        }
        if let Some(spill) = &tape.spill
            && self.cursor < memory.oldest_sequence()
        {
            if self.fetching.is_none() {
                self.fetching = spill.fetch(self.cursor);
            }
            return None;
        }
        memory.find(self.cursor, end, want, samples, packed)
    }

    /// The piece at the cursor, up to `end`, out of the last answer of the disk. `None`: the answer does not have it,
    /// or not all of it.
    fn find_fetched(&mut self, want: Want, end: u64, samples: &mut Vec<i16>) -> Option<Piece> {
        let fetched = self.fetched.as_ref()?;
        let frames = fetched.frames_from(self.cursor).min(end - self.cursor);
        match fetched {
            _ if frames == 0 => {}
            Fetched::Gap(gap) => return Some(Piece::Gap(gap.between(self.cursor, end))),
            Fetched::Audio(audio) if frames < want.frames as u64 && audio.continues && end > self.cursor + frames => {}
            Fetched::Audio(audio) => {
                let offset = (self.cursor - audio.first_sequence) as usize;
                let until = offset + (frames as usize).min(want.frames);
                samples.extend_from_slice(&audio.samples[offset * FRAME_SAMPLES..until * FRAME_SAMPLES]);
                let captured_monotonic_ns = audio.captured_ns[offset];
                return Some(Piece::Audio { first_sequence: self.cursor, captured_monotonic_ns });
            }
        }
        self.fetched = None;
        None
    }

    /// The gap from the cursor to `end`, whose frames are no longer on the tape.
    fn overwritten_until(&mut self, end: u64) -> Gap {
        let (reason, detail) = match (std::mem::take(&mut self.disk_hung), self.started) {
            (true, _) => (GapReason::TapeOverwritten, DISK_HUNG),
            (false, true) => (GapReason::SubscriberTooSlow, ""),
            (false, false) => (GapReason::TapeOverwritten, ""),
        };
        Gap { first_sequence: self.cursor, frame_count: end - self.cursor, reason, detail: detail.into() }
    }

    /// Copies the samples of a packed part into the piece. Decodes its block, unless that was the last one decoded.
    fn unpack(&mut self, part: &PackedPart, samples: &mut [i16]) {
        let block = match &mut self.unpacked {
            Some((first_sequence, block)) if *first_sequence == part.block_first_sequence => block,
            other => {
                let mut block = Vec::with_capacity(BLOCK_FRAMES * FRAME_SAMPLES);
                unpack(&part.packed, &mut block).expect("the tape coded this block itself");
                &mut other.insert((part.block_first_sequence, block)).1
            }
        };
        samples[part.to.clone()].copy_from_slice(&block[part.from.clone()]);
    }
}
