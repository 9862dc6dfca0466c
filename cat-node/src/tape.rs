//! The bounded tape of numbered frames that feeds every subscriber.
//!
//! One writer, the capture thread, appends frames and gaps; any number of readers follow with cursors of their own. The
//! writer waits for nobody: a lock is held for the copy of a few frames at most, and when the tape is full the oldest frame
//! goes. A reader that comes late, or falls behind, is told exactly which frames it missed, and harms nobody.
//!
//! Every sequence number is either audio or covered by a gap, so `first_sample = 320 * sequence` always holds.
//!
//! Audio lies in blocks of one second. The newest few are plain samples, for those who listen live; older ones are coded
//! as FLAC, which is lossless and costs the writer well under a millisecond a second: ten minutes are 19.2 MB of samples, but
//! a quiet room packs to a third of that, and the whole node shall fit into 12 MB. The capacity is counted in frames of plain
//! samples all the same, so that it does not depend on how loud the room is. Where there is a spill ([`spill`]), blocks that
//! leave the memory go there, whole, and readers of them wait for the disk.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::{FRAME_SAMPLES, GapReason};
use tokio::sync::watch;
use tokio::time::timeout_at;
use tracing::warn;

use crate::clock::NodeClock;

mod spill;

pub use spill::{SpillConfig, SpillCounts};

use spill::{Fetch, Run, RunAudio, Spill};

/// Bytes of a frame of plain samples, by which the capacity of a tape is counted.
pub const FRAME_BYTES: usize = 2 * FRAME_SAMPLES;

/// Frames of a block: a second. Only the last block is written to, and one that a gap ends is shorter.
const BLOCK_FRAMES: usize = 50;

/// Newest blocks that are kept as plain samples: readers of the last seconds need not decode.
const PLAIN_BLOCKS: usize = 3;

/// Longest sentence that a gap keeps, in bytes.
const MAX_DETAIL_BYTES: usize = 200;

/// Detail of a gap of frames that went to a disk which does not give them back.
const DISK_HUNG: &str = "the disk of the tape did not answer";

/// The tape. Share it by [`Arc`].
#[derive(Debug)]
pub struct Tape {
    boot_id: u64,
    clock: NodeClock,
    capacity_frames: usize,
    spill: Option<Spill>,
    ring: Mutex<Ring>,
    /// The number of the next frame to be written; readers wait for its change.
    next_sequence: watch::Sender<u64>,
}

/// What a tape holds. Fields as in the message `TapeInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Number of the oldest frame (or gap) that can be had.
    pub oldest_sequence: u64,
    /// Number of the frame that will be written next.
    pub next_sequence: u64,
    /// Frames that the tape holds in memory at most.
    pub capacity_frames: u64,
    /// Bytes of memory that the audio takes now, packed or not.
    pub bytes: u64,
}

/// Frames that will never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRecord {
    /// Number of the first lost frame.
    pub first_sequence: u64,
    /// Number of lost frames, at least 1.
    pub frame_count: u64,
    /// Why they are lost.
    pub reason: GapReason,
    /// One sentence, or empty.
    pub detail: String,
}

impl Tape {
    /// An empty tape for `capacity_bytes` of plain samples, at least one frame. Memory grows as it fills. Frames are stamped
    /// with the clock's time, and the boot id, never 0, is drawn at random.
    pub fn new(clock: NodeClock, capacity_bytes: usize) -> Self {
        Self {
            boot_id: rand::random::<u64>().max(1),
            clock,
            capacity_frames: (capacity_bytes / FRAME_BYTES).max(1),
            spill: None,
            ring: Mutex::default(),
            next_sequence: watch::Sender::new(0),
        }
    }

    /// The same tape, which lets go of nothing before the disk is full too. A disk that cannot be had is logged, and the tape
    /// is in memory alone.
    pub fn spill_to(mut self, config: &SpillConfig) -> Self {
        match Spill::start(config) {
            Ok(spill) => self.spill = Some(spill),
            Err(error) => warn!(%error, dir = %config.dir.display(), "the tape is not spilled to disk"),
        }
        self
    }

    /// What became of the spill. `None`: there is none.
    pub fn spill_counts(&self) -> Option<SpillCounts> {
        self.spill.as_ref().map(Spill::counts)
    }

    /// Names this tape for ever, never 0.
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
        let ring = self.lock();
        Extent {
            oldest_sequence: self.oldest_sequence(&ring),
            next_sequence: ring.next_sequence,
            capacity_frames: self.capacity_frames as u64,
            bytes: ring.bytes as u64,
        }
    }

    /// Appends the next frame and gives its number. `captured_monotonic_ns` is when its first sample was captured, on the
    /// tape's clock. Only the capture thread writes.
    pub fn append_frame(&self, samples: &[i16; FRAME_SAMPLES], captured_monotonic_ns: u64) -> u64 {
        let (sequence, began_block) = {
            let mut ring = self.lock();
            let sequence = ring.next_sequence;
            let began_block = ring.push_frame(samples, captured_monotonic_ns);
            self.trim(&mut ring);
            (sequence, began_block)
        };
        self.next_sequence.send_replace(sequence + 1);
        if began_block {
            self.pack_old_blocks();
        }
        sequence
    }

    /// Appends a gap of `frame_count` frames; 0 does nothing. A gap that goes on where one of the same reason ended makes
    /// that one longer, so an outage may be reported piece by piece as it lasts. Only the capture thread writes.
    pub fn append_gap(&self, frame_count: u64, reason: GapReason, detail: &str) {
        if frame_count == 0 {
            return;
        }
        let next = {
            let mut ring = self.lock();
            ring.push_gap(frame_count, reason, detail);
            self.trim(&mut ring);
            ring.next_sequence
        };
        self.next_sequence.send_replace(next);
    }

    /// A reader whose first frame is number `from`. A number that was not reached yet means the next frame to be written.
    pub fn reader_at(self: &Arc<Self>, from: u64) -> Reader {
        let written = self.next_sequence.subscribe();
        let cursor = from.min(*written.borrow());
        let (unpacked, fetching, run) = (None, None, None);
        Reader { tape: Arc::clone(self), written, cursor, started: false, unpacked, fetching, run, disk_hung: false }
    }

    /// A reader whose first frame is the next one to be written.
    pub fn reader_live(self: &Arc<Self>) -> Reader {
        self.reader_at(u64::MAX)
    }

    /// Lets go of what is too much. The lock is held until it is handed on, so that no reader finds it in neither place.
    fn trim(&self, ring: &mut Ring) {
        match &self.spill {
            None => ring.trim(self.capacity_frames),
            Some(spill) => {
                while let Some(entry) = ring.take_surplus(self.capacity_frames) {
                    spill.keep(entry);
                }
            }
        }
    }

    /// Number of the oldest frame (or gap) that can be had, from disk or memory.
    fn oldest_sequence(&self, ring: &Ring) -> u64 {
        let in_memory = ring.oldest_sequence();
        self.spill.as_ref().and_then(Spill::oldest).map_or(in_memory, |on_disk| on_disk.min(in_memory))
    }

    /// Packs the blocks that have become old. Readers go on meanwhile: the lock is not held while a block is coded.
    fn pack_old_blocks(&self) {
        loop {
            // A statement of its own, so that the lock is let go before the coding.
            let oldest_plain = self.lock().oldest_plain();
            let Some((first_sequence, plain)) = oldest_plain else { return };
            let mut packed = Vec::with_capacity(plain.len());
            sound::flac::encode(&plain, &mut packed);
            packed.shrink_to_fit();
            self.lock().replace(first_sequence, packed.into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Nothing in here panics half-way through a change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a reader got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Consecutive frames, whose samples are where the caller wanted them.
    Audio {
        /// Number of the first frame.
        first_sequence: u64,
        /// When its first sample was captured, in nanoseconds of the tape's clock.
        captured_monotonic_ns: u64,
    },
    /// Frames that will never come.
    Gap(GapRecord),
}

/// How much a reader wants in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Frames of audio in a piece: at most so many, and no fewer unless a gap, `before`, or the end of what is on disk ends the
    /// piece.
    pub frames: usize,
    /// Nothing from this number on.
    pub before: u64,
    /// Fewer frames will do: take what is there.
    pub partial: bool,
}

impl Want {
    /// Pieces of exactly so many frames, unless a gap ends one.
    pub fn whole(frames: usize) -> Self {
        Self { frames, before: u64::MAX, partial: false }
    }
}

/// A place on a tape that moves forward as it is read.
#[derive(Debug)]
pub struct Reader {
    tape: Arc<Tape>,
    written: watch::Receiver<u64>,
    cursor: u64,
    started: bool,
    /// The last packed block that was decoded, for the reads that follow: number of its first frame and its samples.
    unpacked: Option<(u64, Vec<i16>)>,
    /// What the disk was asked for, at the cursor.
    fetching: Option<Fetch>,
    /// What it gave.
    run: Option<Run>,
    /// It gave no answer: what is missing next is missing for that.
    disk_hung: bool,
}

impl Reader {
    /// Number of the next frame to be read.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Frames on the tape that were not read yet.
    pub fn behind(&self) -> u64 {
        self.written.borrow().saturating_sub(self.cursor)
    }

    /// The next piece, or `None` when what is wanted is not on the tape yet. Samples replace what was in `samples`.
    pub fn read(&mut self, want: Want, samples: &mut Vec<i16>) -> Option<Piece> {
        samples.clear();
        let mut packed = Vec::new();
        let tape = Arc::clone(&self.tape);
        let ring = tape.lock();
        let end = ring.next_sequence.min(want.before);
        if self.cursor >= end {
            return None;
        }
        let oldest = tape.oldest_sequence(&ring);
        let piece = if let Some(piece) = self.piece_of_run(want, end, samples) {
            piece
        } else if let Some(spill) = &tape.spill
            && self.cursor >= oldest
            && self.cursor < ring.oldest_sequence()
        {
            if self.fetching.is_none() {
                self.fetching = spill.fetch(self.cursor);
            }
            return None;
        } else if self.cursor < oldest {
            let (reason, detail) = match (std::mem::take(&mut self.disk_hung), self.started) {
                (true, _) => (GapReason::TapeOverwritten, DISK_HUNG),
                (false, true) => (GapReason::SubscriberTooSlow, ""),
                (false, false) => (GapReason::TapeOverwritten, ""),
            };
            let frame_count = oldest.min(end) - self.cursor;
            Piece::Gap(GapRecord { first_sequence: self.cursor, frame_count, reason, detail: detail.into() })
        } else {
            ring.find(self.cursor, end, want, samples, &mut packed)?
        };
        drop(ring);
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

    /// Waits until there may be something to read: something was written after what this reader knows of, or the disk has
    /// answered, or has had [`FETCH_DEADLINE`](spill::FETCH_DEADLINE) to do so: then the spill is given up, and what it held is a
    /// gap. Never misses any of these, and may return early.
    pub async fn written(&mut self) {
        if let Some(fetching) = &mut self.fetching {
            match timeout_at(fetching.deadline, &mut fetching.reply).await {
                // An error means that the spill has ended; then the memory has all there is.
                Ok(run) => self.run = run.ok().flatten(),
                Err(_) => {
                    self.disk_hung = true;
                    if let Some(spill) = &self.tape.spill {
                        spill.hangs();
                    }
                }
            }
            self.fetching = None;
            return;
        }
        // The sender lives in the tape, which this reader holds.
        let _ = self.written.changed().await;
    }

    /// Decodes the block of a part, unless it was the last one decoded, and puts the part's samples in their place.
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

    /// The piece at the cursor, up to `end`, from what was read from disk. `None`: it is not there, or not all of it.
    fn piece_of_run(&mut self, want: Want, end: u64, samples: &mut Vec<i16>) -> Option<Piece> {
        let run = self.run.as_ref()?;
        let frames = run.frames_from(self.cursor).min(end - self.cursor);
        match &run.audio {
            _ if frames == 0 => {}
            RunAudio::Gap(gap) => {
                return Some(Piece::Gap(GapRecord { first_sequence: self.cursor, frame_count: frames, ..gap.clone() }));
            }
            RunAudio::Frames { last, .. } if frames < want.frames as u64 && !last && end > self.cursor + frames => {}
            RunAudio::Frames { captured_ns, samples: read, .. } => {
                let offset = (self.cursor - run.first_sequence) as usize;
                let until = offset + (frames as usize).min(want.frames);
                samples.extend_from_slice(&read[offset * FRAME_SAMPLES..until * FRAME_SAMPLES]);
                let captured_monotonic_ns = captured_ns[offset];
                return Some(Piece::Audio { first_sequence: self.cursor, captured_monotonic_ns });
            }
        }
        self.run = None;
        None
    }
}

/// Decodes a packed block to the end of `samples`.
fn unpack(packed: &[u8], samples: &mut Vec<i16>) -> Result<(), claxon::Error> {
    for sample in claxon::FlacReader::new(packed)?.samples() {
        samples.push(sample? as i16);
    }
    Ok(())
}

/// Samples of a packed block that a piece needs.
struct PackedPart {
    block_first_sequence: u64,
    packed: Arc<[u8]>,
    /// Samples of the block.
    from: Range<usize>,
    /// Where they belong in the piece.
    to: Range<usize>,
}

/// What lies on the tape, oldest first, without a hole in the numbering.
#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    next_sequence: u64,
    /// Frames of the first entry, when it is audio, that count as overwritten already.
    skipped: usize,
    /// Frames of audio, without the skipped ones.
    audio_frames: usize,
    gaps: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    Audio(Block),
    Gap(GapRecord),
}

#[derive(Debug)]
struct Block {
    first_sequence: u64,
    /// One for each frame.
    captured_ns: Vec<u64>,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Plain(Vec<i16>),
    Packed(Arc<[u8]>),
}

impl Samples {
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(samples) => 2 * samples.len(),
            Self::Packed(packed) => packed.len(),
        }
    }
}

impl Entry {
    fn first_sequence(&self) -> u64 {
        match self {
            Self::Audio(block) => block.first_sequence,
            Self::Gap(gap) => gap.first_sequence,
        }
    }
}

impl Ring {
    fn oldest_sequence(&self) -> u64 {
        self.entries.front().map_or(self.next_sequence, |entry| entry.first_sequence() + self.skipped as u64)
    }

    /// Appends a frame. Whether it began a block.
    fn push_frame(&mut self, samples: &[i16; FRAME_SAMPLES], captured_ns: u64) -> bool {
        self.audio_frames += 1;
        self.bytes += FRAME_BYTES;
        let first_sequence = self.next_sequence;
        self.next_sequence += 1;
        if let Some(Entry::Audio(block)) = self.entries.back_mut()
            && let Samples::Plain(plain) = &mut block.samples
            && block.captured_ns.len() < BLOCK_FRAMES
        {
            block.captured_ns.push(captured_ns);
            plain.extend_from_slice(samples);
            return false;
        }
        let mut times = Vec::with_capacity(BLOCK_FRAMES);
        times.push(captured_ns);
        let mut plain = Vec::with_capacity(BLOCK_FRAMES * FRAME_SAMPLES);
        plain.extend_from_slice(samples);
        self.entries.push_back(Entry::Audio(Block {
            first_sequence,
            captured_ns: times,
            samples: Samples::Plain(plain),
        }));
        true
    }

    /// The number and a copy of the oldest block that is not packed although it should be.
    fn oldest_plain(&self) -> Option<(u64, Vec<i16>)> {
        let old_entries = self.entries.len().saturating_sub(PLAIN_BLOCKS);
        let mut oldest = None;
        for entry in self.entries.range(..old_entries).rev() {
            match entry {
                Entry::Audio(Block { first_sequence, samples: Samples::Plain(plain), .. }) => {
                    oldest = Some((*first_sequence, plain));
                }
                // All before a packed one are packed.
                Entry::Audio(_) => break,
                Entry::Gap(_) => {}
            }
        }
        oldest.map(|(first_sequence, plain)| (first_sequence, plain.clone()))
    }

    fn push_gap(&mut self, frame_count: u64, reason: GapReason, detail: &str) {
        let first_sequence = self.next_sequence;
        self.next_sequence += frame_count;
        match self.entries.back_mut() {
            Some(Entry::Gap(gap)) if gap.reason == reason => gap.frame_count += frame_count,
            _ => {
                let longest = detail.len().min(MAX_DETAIL_BYTES);
                let end = (0..=longest).rev().find(|&end| detail.is_char_boundary(end)).unwrap_or(0);
                let detail = detail[..end].to_owned();
                self.gaps += 1;
                self.entries.push_back(Entry::Gap(GapRecord { first_sequence, frame_count, reason, detail }));
            }
        }
    }

    /// Drops the oldest until no more than `capacity` frames are left. A gap counts as one frame however long it is: an outage
    /// of hours must not push the audio before it off the tape.
    fn trim(&mut self, capacity: usize) {
        while self.audio_frames + self.gaps > capacity && self.entries.len() > 1 {
            match self.entries.front() {
                Some(Entry::Audio(block)) => {
                    self.skipped += 1;
                    self.audio_frames -= 1;
                    if self.skipped == block.captured_ns.len() {
                        self.drop_front();
                    }
                }
                _ => {
                    self.drop_front();
                }
            }
        }
        // A tape of less than one block: its only block loses frames from the front.
        while self.audio_frames + self.gaps > capacity
            && let Some(Entry::Audio(block)) = self.entries.front()
            && self.skipped + 1 < block.captured_ns.len()
        {
            self.skipped += 1;
            self.audio_frames -= 1;
        }
    }

    /// Takes the oldest entry, if at least `capacity` frames are left without it.
    fn take_surplus(&mut self, capacity: usize) -> Option<Entry> {
        let frames = match self.entries.front()? {
            Entry::Audio(block) => block.captured_ns.len(),
            Entry::Gap(_) => 1,
        };
        if self.audio_frames + self.gaps < capacity + frames || self.entries.len() == 1 {
            return None;
        }
        let entry = self.drop_front();
        if let Some(Entry::Audio(_)) = &entry {
            self.audio_frames -= frames;
        }
        entry
    }

    fn drop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        match &entry {
            Some(Entry::Audio(block)) => self.bytes -= block.samples.bytes(),
            Some(Entry::Gap(_)) => self.gaps -= 1,
            None => {}
        }
        self.skipped = 0;
        entry
    }

    /// Puts the packed form in the place of a block's samples, if the block is still there.
    fn replace(&mut self, first_sequence: u64, packed: Arc<[u8]>) {
        let Ok(index) = self.entries.binary_search_by_key(&first_sequence, Entry::first_sequence) else { return };
        if let Some(Entry::Audio(block)) = self.entries.get_mut(index) {
            self.bytes = self.bytes - block.samples.bytes() + packed.len();
            block.captured_ns.shrink_to_fit();
            block.samples = Samples::Packed(packed);
        }
    }

    /// The piece at `cursor`, which is on the tape, up to `end`. `samples` gets the length of the piece and what is plain;
    /// `packed` gets what is to be decoded into it.
    fn find(
        &self,
        cursor: u64,
        end: u64,
        want: Want,
        samples: &mut Vec<i16>,
        packed: &mut Vec<PackedPart>,
    ) -> Option<Piece> {
        let index = self.entries.partition_point(|entry| entry.first_sequence() <= cursor).checked_sub(1)?;
        let mut captured_monotonic_ns = None;
        let mut position = cursor;
        // Whether more audio of this piece may still come.
        let mut open = end < want.before;
        let piece_end = end.min(cursor + want.frames as u64);
        for entry in self.entries.range(index..) {
            let block = match entry {
                Entry::Audio(block) => block,
                Entry::Gap(gap) if position == cursor => {
                    let gap_end = (gap.first_sequence + gap.frame_count).min(end);
                    let gap = GapRecord { first_sequence: cursor, frame_count: gap_end - cursor, ..gap.clone() };
                    return Some(Piece::Gap(gap));
                }
                Entry::Gap(_) => {
                    open = false;
                    break;
                }
            };
            let offset = (position - block.first_sequence) as usize;
            let frames = (block.captured_ns.len() - offset).min((piece_end - position) as usize);
            captured_monotonic_ns = captured_monotonic_ns.or(block.captured_ns.get(offset).copied());
            let from = offset * FRAME_SAMPLES..(offset + frames) * FRAME_SAMPLES;
            let to = samples.len()..samples.len() + from.len();
            match &block.samples {
                Samples::Plain(plain) => samples.extend_from_slice(&plain[from]),
                Samples::Packed(bytes) => {
                    samples.resize(to.end, 0);
                    packed.push(PackedPart {
                        block_first_sequence: block.first_sequence,
                        packed: Arc::clone(bytes),
                        from,
                        to,
                    });
                }
            }
            position += frames as u64;
            if position == piece_end {
                break;
            }
        }
        let short = position - cursor < want.frames as u64;
        if short && open && !want.partial {
            samples.clear();
            return None;
        }
        Some(Piece::Audio { first_sequence: cursor, captured_monotonic_ns: captured_monotonic_ns? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tape(capacity_frames: usize) -> Arc<Tape> {
        Arc::new(Tape::new(NodeClock::start(), capacity_frames * FRAME_BYTES))
    }

    /// Frame `n` has the samples n, n+1, ... and the time 20 ms * n.
    fn frame(n: u64) -> [i16; FRAME_SAMPLES] {
        std::array::from_fn(|i| (n as usize + i) as i16)
    }

    fn write(tape: &Tape, frames: u64) {
        for _ in 0..frames {
            let n = tape.next_sequence();
            assert_eq!(tape.append_frame(&frame(n), n * 20_000_000), n);
        }
    }

    /// Reads all there is, checks every sample and time, and gives the pieces as (first, count, reason).
    fn read_all(reader: &mut Reader, frames: usize) -> Vec<(u64, u64, Option<GapReason>)> {
        let mut samples = Vec::new();
        let mut pieces = Vec::new();
        while let Some(piece) = reader.read(Want::whole(frames), &mut samples) {
            match piece {
                Piece::Audio { first_sequence, captured_monotonic_ns } => {
                    assert_eq!(captured_monotonic_ns, first_sequence * 20_000_000);
                    for (k, got) in samples.chunks(FRAME_SAMPLES).enumerate() {
                        assert_eq!(got, frame(first_sequence + k as u64));
                    }
                    pieces.push((first_sequence, (samples.len() / FRAME_SAMPLES) as u64, None));
                }
                Piece::Gap(gap) => pieces.push((gap.first_sequence, gap.frame_count, Some(gap.reason))),
            }
        }
        pieces
    }

    /// Every number from `from` to `to` is covered once, in order.
    fn assert_seamless(pieces: &[(u64, u64, Option<GapReason>)], from: u64, to: u64) {
        let mut next = from;
        for (first, count, _) in pieces {
            assert_eq!(*first, next);
            next += count;
        }
        assert_eq!(next, to);
    }

    #[test]
    fn boot_id_is_never_0_and_differs() {
        assert_ne!(tape(1).boot_id(), 0);
        assert_ne!(tape(1).boot_id(), tape(1).boot_id());
    }

    #[test]
    fn what_is_written_is_read_whatever_the_piece() {
        let tape = tape(1000);
        write(&tape, 777);
        for frames in [1, 2, 3, 5, 7, 50, 51, 333] {
            let pieces = read_all(&mut tape.reader_at(0), frames);
            let whole = 777 / frames as u64 * frames as u64;
            assert_seamless(&pieces, 0, whole);
            assert!(pieces.iter().all(|piece| piece.1 == frames as u64 && piece.2.is_none()));
        }
    }

    #[test]
    fn old_blocks_are_packed_and_recent_ones_are_not() {
        let tape = tape(1000);
        write(&tape, 200);
        // Four blocks: the oldest one has made room for the three plain ones.
        let bytes = tape.extent().bytes;
        assert!(bytes > 150 * 640 && bytes < 160 * 640, "{bytes}");
        write(&tape, 800);
        assert!(tape.extent().bytes < 300 * 640, "{:?}", tape.extent());
        assert_seamless(&read_all(&mut tape.reader_at(13), 5), 13, 998);
    }

    #[test]
    fn full_tape_drops_the_oldest_frame_and_no_more() {
        for capacity in [1, 2, 49, 50, 51, 120] {
            let tape = tape(capacity);
            for _ in 0..300 {
                write(&tape, 1);
                let extent = tape.extent();
                assert_eq!(extent.oldest_sequence, extent.next_sequence.saturating_sub(capacity as u64));
                assert_eq!(extent.capacity_frames, capacity as u64);
            }
            let oldest = 300 - capacity as u64;
            let pieces = read_all(&mut tape.reader_at(oldest), 1);
            assert_seamless(&pieces, oldest, 300);
            assert!(pieces.iter().all(|piece| piece.2.is_none()));
        }
    }

    #[test]
    fn late_reader_is_told_what_was_overwritten() {
        let tape = tape(100);
        write(&tape, 250);
        let pieces = read_all(&mut tape.reader_at(30), 1);
        assert_eq!(pieces[0], (30, 120, Some(GapReason::TapeOverwritten)));
        assert_seamless(&pieces, 30, 250);
        assert!(pieces[1..].iter().all(|piece| piece.2.is_none()));
    }

    #[test]
    fn slow_reader_is_told_what_it_was_too_slow_for() {
        let tape = tape(100);
        write(&tape, 10);
        let mut reader = tape.reader_at(0);
        assert_eq!(reader.read(Want::whole(1), &mut Vec::new()).map(|_| reader.cursor()), Some(1));
        write(&tape, 290);
        assert_eq!(reader.behind(), 299);
        let pieces = read_all(&mut reader, 1);
        assert_eq!(pieces[0], (1, 199, Some(GapReason::SubscriberTooSlow)));
        assert_seamless(&pieces, 1, 300);
    }

    #[test]
    fn gaps_take_sequence_numbers_and_end_a_piece() {
        let tape = tape(1000);
        write(&tape, 7);
        tape.append_gap(100, GapReason::DeviceLost, "unplugged");
        tape.append_gap(0, GapReason::Overrun, "");
        tape.append_gap(20, GapReason::DeviceLost, "unplugged");
        tape.append_gap(3, GapReason::Overrun, "");
        write(&tape, 6);
        assert_eq!(
            read_all(&mut tape.reader_at(0), 5),
            [
                (0, 5, None),
                (5, 2, None),
                (7, 120, Some(GapReason::DeviceLost)),
                (127, 3, Some(GapReason::Overrun)),
                (130, 5, None),
            ]
        );
        assert_eq!(read_all(&mut tape.reader_at(50), 5)[0], (50, 77, Some(GapReason::DeviceLost)));
    }

    #[test]
    fn long_outage_does_not_push_audio_off() {
        let tape = tape(100);
        write(&tape, 60);
        tape.append_gap(1_000_000, GapReason::DeviceLost, "");
        write(&tape, 10);
        let pieces = read_all(&mut tape.reader_at(0), 1);
        assert_eq!(pieces[0], (0, 1, None));
        assert_seamless(&pieces, 0, 1_000_070);
    }

    #[test]
    fn a_gap_that_grows_under_a_reader_is_told_in_pieces() {
        let tape = tape(100);
        let mut reader = tape.reader_live();
        tape.append_gap(5, GapReason::DeviceLost, "");
        assert_eq!(read_all(&mut reader, 1), [(0, 5, Some(GapReason::DeviceLost))]);
        tape.append_gap(5, GapReason::DeviceLost, "");
        assert_eq!(read_all(&mut reader, 1), [(5, 5, Some(GapReason::DeviceLost))]);
    }

    #[test]
    fn before_and_partial_limit_a_piece() {
        let tape = tape(100);
        write(&tape, 8);
        let mut samples = Vec::new();
        let mut reader = tape.reader_at(0);
        assert!(reader.read(Want { frames: 10, before: 20, partial: false }, &mut samples).is_none());
        assert!(reader.read(Want { frames: 10, before: 6, partial: false }, &mut samples).is_some());
        assert_eq!((reader.cursor(), samples.len()), (6, 6 * FRAME_SAMPLES));
        assert!(reader.read(Want { frames: 10, before: 6, partial: true }, &mut samples).is_none());
        assert!(reader.read(Want { frames: 10, before: 20, partial: true }, &mut samples).is_some());
        assert_eq!(reader.cursor(), 8);
    }

    #[test]
    fn number_beyond_the_tape_means_live() {
        let tape = tape(100);
        write(&tape, 3);
        let mut reader = tape.reader_at(500);
        assert_eq!(reader.cursor(), 3);
        write(&tape, 1);
        assert_eq!(read_all(&mut reader, 1), [(3, 1, None)]);
    }

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let tape = tape(100);
        tape.append_gap(1, GapReason::Overrun, &"ü".repeat(500));
        let mut reader = tape.reader_at(0);
        let Some(Piece::Gap(gap)) = reader.read(Want::whole(1), &mut Vec::new()) else { panic!("a gap") };
        assert_eq!(gap.detail, "ü".repeat(100));
    }

    #[tokio::test]
    async fn readers_are_woken() {
        let tape = tape(100);
        let mut reader = tape.reader_live();
        let writer = Arc::clone(&tape);
        let thread = std::thread::spawn(move || write(&writer, 100));
        let mut next = 0;
        while next < 100 {
            for (first, count, _) in read_all(&mut reader, 1) {
                assert_eq!(first, next);
                next += count;
            }
            if next < 100 {
                reader.written().await;
            }
        }
        thread.join().unwrap();
    }
}
