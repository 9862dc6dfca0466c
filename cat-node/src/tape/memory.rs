//! The part of the tape that lies in memory.
//!
//! Audio is kept in blocks of one second. The newest blocks are plain samples, for live readers. Older blocks are coded
//! as FLAC, which is lossless and costs the writer well under a millisecond per second of audio. Ten minutes are 19.2
//! MB of plain samples; the FLAC of a quiet room takes a third of that, and the whole node must fit into 12 MB. The
//! capacity is counted in frames of plain samples all the same, so that it does not depend on how loud the room is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use proto::{FRAME_SAMPLES, GapReason};

use super::entry::{BLOCK_FRAMES, Block, Entry, FRAME_BYTES, Gap, Samples};
use super::piece::{Piece, Want};

/// Newest blocks that stay plain samples, so that readers of the last seconds need not decode.
const PLAIN_BLOCKS: usize = 3;

/// Longest detail that a gap keeps, in bytes.
const MAX_DETAIL_BYTES: usize = 200;

/// The newest entries of the tape, oldest first. Their numbers follow each other without a break.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: VecDeque<Entry>,
    next_sequence: u64,
    /// Frames of the first entry, if it is audio, that count as dropped already.
    skipped: usize,
    /// Frames of audio, without the skipped ones.
    audio_frames: usize,
    gaps: usize,
    bytes: usize,
}

/// Samples of a packed block that a piece needs.
pub(super) struct PackedPart {
    pub(super) block_first_sequence: u64,
    pub(super) packed: Arc<[u8]>,
    /// Samples of the block.
    pub(super) from: Range<usize>,
    /// Where they belong in the piece.
    pub(super) to: Range<usize>,
}

impl Memory {
    pub(super) fn oldest_sequence(&self) -> u64 {
        self.entries.front().map_or(self.next_sequence, |entry| entry.first_sequence() + self.skipped as u64)
    }

    /// Number of the frame that will be written next.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes that the audio takes, packed or not.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a frame. Returns whether it began a block.
    pub(super) fn push_frame(&mut self, samples: &[i16; FRAME_SAMPLES], captured_ns: u64) -> bool {
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

    /// Appends a gap, or extends the last one if it has the same reason.
    pub(super) fn push_gap(&mut self, frame_count: u64, reason: GapReason, detail: &str) {
        let first_sequence = self.next_sequence;
        self.next_sequence += frame_count;
        match self.entries.back_mut() {
            Some(Entry::Gap(gap)) if gap.reason == reason => gap.frame_count += frame_count,
            _ => {
                self.gaps += 1;
                let detail = truncate(detail, MAX_DETAIL_BYTES).to_owned();
                self.entries.push_back(Entry::Gap(Gap { first_sequence, frame_count, reason, detail }));
            }
        }
    }

    /// Number and copy of the oldest block that is still plain but no longer among the newest.
    pub(super) fn oldest_plain(&self) -> Option<(u64, Vec<i16>)> {
        let old_entries = self.entries.len().saturating_sub(PLAIN_BLOCKS);
        let mut oldest = None;
        for entry in self.entries.range(..old_entries).rev() {
            match entry {
                Entry::Audio(Block { first_sequence, samples: Samples::Plain(plain), .. }) => {
                    oldest = Some((*first_sequence, plain));
                }
                // All blocks before a packed one are packed.
                Entry::Audio(_) => break,
                Entry::Gap(_) => {}
            }
        }
        oldest.map(|(first_sequence, plain)| (first_sequence, plain.clone()))
    }

    /// Replaces the samples of a block by their packed form, if the block is still there.
    pub(super) fn replace(&mut self, first_sequence: u64, packed: Arc<[u8]>) {
        let Ok(index) = self.entries.binary_search_by_key(&first_sequence, Entry::first_sequence) else { return };
        if let Some(Entry::Audio(block)) = self.entries.get_mut(index) {
            self.bytes = self.bytes - block.samples.bytes() + packed.len();
            block.captured_ns.shrink_to_fit();
            block.samples = Samples::Packed(packed);
        }
    }

    /// Drops the oldest frames until no more than `capacity` are left. A gap counts as one frame however long it is: an
    /// outage of hours must not push the audio before it off the tape.
    pub(super) fn trim(&mut self, capacity: usize) {
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

    /// Takes the oldest entry out, if at least `capacity` frames are left without it.
    pub(super) fn take_surplus(&mut self, capacity: usize) -> Option<Entry> {
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

    /// Finds the piece at `cursor`, which must be in memory, up to `end`. `samples` gets the length of the piece, and
    /// the samples of plain blocks; `packed` gets the parts that are still to be decoded into it.
    pub(super) fn find(
        &self,
        cursor: u64,
        end: u64,
        want: Want,
        samples: &mut Vec<i16>,
        packed: &mut Vec<PackedPart>,
    ) -> Option<Piece> {
        let index = self.entries.partition_point(|entry| entry.first_sequence() <= cursor).checked_sub(1)?;
        if let Entry::Gap(gap) = &self.entries[index] {
            return Some(Piece::Gap(gap.between(cursor, end)));
        }
        let mut captured_monotonic_ns = None;
        let mut position = cursor;
        // Whether more audio of this piece may still come.
        let mut open = end < want.before;
        let piece_end = end.min(cursor + want.frames as u64);
        for entry in self.entries.range(index..) {
            let Entry::Audio(block) = entry else {
                open = false;
                break;
            };
            let offset = (position - block.first_sequence) as usize;
            let frames = (block.captured_ns.len() - offset).min((piece_end - position) as usize);
            captured_monotonic_ns = captured_monotonic_ns.or(block.captured_ns.get(offset).copied());
            let from = offset * FRAME_SAMPLES..(offset + frames) * FRAME_SAMPLES;
            match &block.samples {
                Samples::Plain(plain) => samples.extend_from_slice(&plain[from]),
                Samples::Packed(bytes) => {
                    let to = samples.len()..samples.len() + from.len();
                    samples.resize(to.end, 0);
                    let (block_first_sequence, bytes) = (block.first_sequence, Arc::clone(bytes));
                    packed.push(PackedPart { block_first_sequence, packed: bytes, from, to });
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

/// The beginning of a text, at most `max_bytes` of it, cut on a character boundary.
fn truncate(text: &str, max_bytes: usize) -> &str {
    let longest = text.len().min(max_bytes);
    let end = (0..=longest).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}
