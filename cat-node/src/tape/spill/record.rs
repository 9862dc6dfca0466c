//! How an entry is written to a file.
//!
//! Each begins with a head of four numbers of 8 bytes, little-endian: the number of its first frame, its frames, the
//! bytes that follow, and the reason of a gap (-1: audio). Audio goes on with the capture time of each frame, 8 bytes
//! each, and its samples as FLAC; a gap with its detail.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use proto::{FRAME_SAMPLES, GapReason};

use crate::tape::entry::{BLOCK_FRAMES, Block, Entry, Gap, Samples};

const HEAD_BYTES: usize = 32;

/// Largest body that [`encode`] writes. The file may be changed by another program, so nothing larger is read.
const MAX_BODY_BYTES: u64 = (BLOCK_FRAMES * (FRAME_SAMPLES * 3 + 8)) as u64;

/// The bytes of an entry in a file.
pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let (frames, reason, body) = match entry {
        Entry::Audio(block) => {
            let mut body: Vec<u8> = block.captured_ns.iter().flat_map(|ns| ns.to_le_bytes()).collect();
            match &block.samples {
                Samples::Packed(packed) => body.extend_from_slice(packed),
                Samples::Plain(plain) => sound::flac::encode(plain, &mut body),
            }
            (block.captured_ns.len() as u64, -1, body)
        }
        Entry::Gap(gap) => (gap.frame_count, i64::from(gap.reason as i32), gap.detail.clone().into_bytes()),
    };
    let mut record = Vec::with_capacity(HEAD_BYTES + body.len());
    for word in [entry.first_sequence(), frames, body.len() as u64, reason.cast_unsigned()] {
        record.extend_from_slice(&word.to_le_bytes());
    }
    record.extend_from_slice(&body);
    record
}

/// The entries of a file.
pub(super) struct Records {
    file: BufReader<File>,
    /// Bytes not read yet.
    left: u64,
}

impl Records {
    /// Opens a file. Its first `bytes` are entries; an entry that is being written may follow them.
    pub(super) fn open(path: &Path, bytes: u64) -> io::Result<Self> {
        Ok(Self { file: BufReader::new(File::open(path)?), left: bytes })
    }

    /// Skips the entries that end before frame `from`, and reads the head of the next one. `None`: there is none. The
    /// caller reads the body.
    pub(super) fn next_from(&mut self, from: u64) -> io::Result<Option<Head>> {
        while self.left > 0 {
            let head = Head::read(&mut self.file)?;
            self.left = self.left.saturating_sub(HEAD_BYTES as u64 + head.bytes);
            if head.first_sequence.saturating_add(head.frames) > from {
                return Ok(Some(head));
            }
            self.file.seek_relative(head.bytes as i64)?;
        }
        Ok(None)
    }

    /// Reads the body that belongs to the head.
    pub(super) fn body(&mut self, head: &Head) -> io::Result<Entry> {
        let mut body = vec![0; head.bytes as usize];
        self.file.read_exact(&mut body)?;
        let (first_sequence, frames) = (head.first_sequence, head.frames);
        if let Some(reason) = head.reason {
            let detail = String::from_utf8(body).map_err(io::Error::other)?;
            return Ok(Entry::Gap(Gap { first_sequence, frame_count: frames, reason, detail }));
        }
        let (times, packed) = body.split_at_checked(frames as usize * 8).ok_or(io::ErrorKind::InvalidData)?;
        let captured_ns = times.as_chunks::<8>().0.iter().map(|time| u64::from_le_bytes(*time)).collect();
        Ok(Entry::Audio(Block { first_sequence, captured_ns, samples: Samples::Packed(packed.into()) }))
    }
}

/// The head of an entry.
pub(super) struct Head {
    first_sequence: u64,
    frames: u64,
    bytes: u64,
    reason: Option<GapReason>,
}

impl Head {
    pub(super) fn is_gap(&self) -> bool {
        self.reason.is_some()
    }

    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut words = [0; 4];
        for word in &mut words {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        let [first_sequence, frames, bytes, reason] = words;
        let reason = i32::try_from(reason.cast_signed()).ok().filter(|&reason| reason >= 0);
        let reason = reason.map(|reason| GapReason::try_from(reason).map_err(io::Error::other)).transpose()?;
        if bytes > MAX_BODY_BYTES || (reason.is_none() && frames > BLOCK_FRAMES as u64) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { first_sequence, frames, bytes, reason })
    }
}
