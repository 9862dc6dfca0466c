//! Counts the streams (links) and the pages of an Ogg file while `symphonia` reads it, which passes over what it does
//! not know without a word. What it passed over is told by the difference.

use std::sync::{Arc, Mutex, PoisonError};

/// What each page begins with: four letters, and the only version there is.
const MAGIC: &[u8; 5] = b"OggS\0";

/// Bytes of the header of a page before its table of segments.
const HEADER: usize = 27;

/// Bytes of the magic and of the flags behind it.
const BEGUN: usize = MAGIC.len() + 1;

/// What was seen of an Ogg file so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Links {
    /// Streams that began, one after the other. Streams next to each other count as one.
    pub(crate) begun: u32,
    /// Those of them, less the one that began last, whose last page did not come whole.
    pub(crate) cut: u32,
    /// Whether the last page of the stream that began last came.
    pub(crate) ended: bool,
    /// Pages whose checksum is wrong, or that are not followed by the next page.
    pub(crate) bad: u64,
    /// Position in the file up to which the bytes were seen.
    seen: u64,
    /// Bytes of `MAGIC` that the bytes before match.
    matched: usize,
    /// Bytes of the page so far.
    at: usize,
    segments: usize,
    content: usize,
    flags: u8,
    /// Whether only first pages came since the stream began.
    among_first: bool,
    /// The checksum by the header, and by the bytes so far.
    wanted: u32,
    sum: u32,
}

impl Links {
    /// Takes the bytes at a position. What was seen before is left out: the reader goes back after it looked for the
    /// end of a stream.
    pub(crate) fn see(&mut self, position: u64, bytes: &[u8]) {
        let Some(old) = self.seen.checked_sub(position).and_then(|old| usize::try_from(old).ok()) else { return };
        for byte in bytes.get(old..).unwrap_or_default() {
            self.seen += 1;
            self.take(*byte);
        }
    }

    fn take(&mut self, byte: u8) {
        self.within_page(byte);
        if self.matched == MAGIC.len() && byte & !7 == 0 {
            self.page_begins(byte);
        }
        self.matched = match MAGIC.get(self.matched) {
            Some(letter) if *letter == byte => self.matched + 1,
            _ => usize::from(byte == MAGIC[0]),
        };
    }

    fn length(&self) -> usize {
        HEADER + self.segments + self.content
    }

    fn within_page(&mut self, byte: u8) {
        let at = self.at;
        self.at = at.saturating_add(1);
        if at >= self.length() {
            return;
        }
        if (22..26).contains(&at) {
            self.wanted |= u32::from(byte) << (8 * (at - 22));
        }
        self.sum = checksum_with(self.sum, if (22..26).contains(&at) { 0 } else { byte });
        if at == HEADER - 1 {
            self.segments = usize::from(byte);
        } else if (HEADER..HEADER + self.segments).contains(&at) {
            self.content += usize::from(byte);
        }
        if self.at == self.length() && self.at >= HEADER && self.begun > 0 {
            if self.sum != self.wanted {
                self.bad += 1;
            } else if self.flags & 4 != 0 {
                self.ended = true;
            }
        }
    }

    /// The flags of a page came.
    fn page_begins(&mut self, flags: u8) {
        // The page before was cut, or something else is between.
        self.bad += u64::from(self.begun > 0 && self.at != self.length() + BEGUN);
        let first = flags & 2 != 0;
        if first && !self.among_first {
            self.cut = self.cut.saturating_add(u32::from(self.begun > 0 && !self.ended));
            self.begun = self.begun.saturating_add(1);
            self.ended = false;
        }
        self.among_first = first;
        (self.segments, self.content, self.wanted, self.flags) = (0, 0, 0, flags);
        self.at = BEGUN;
        self.sum = MAGIC.iter().chain([&flags]).fold(0, |sum, byte| checksum_with(sum, *byte));
    }
}

/// What the input writes and the reader looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedLinks(Arc<Mutex<Links>>);

impl SharedLinks {
    pub(crate) fn see(&self, position: u64, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).see(position, bytes);
    }

    pub(crate) fn now(&self) -> Links {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checksum of an Ogg page with one more byte.
pub(crate) fn checksum_with(sum: u32, byte: u8) -> u32 {
    const TABLE: [u32; 256] = table();
    sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)]
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}
