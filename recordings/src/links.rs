//! Counts the streams (links) and the pages of an Ogg file while `symphonia` reads it. `symphonia` skips what it does
//! not know, and does not report it. The difference between the counts shows what it skipped.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ogg_page::{CHECKSUM, HEADER, checksum_with};

/// What each page begins with: four letters, and the only version there is.
const MAGIC: &[u8; 5] = b"OggS\0";

/// Bytes of the magic and of the flags behind it.
const BEGUN: usize = MAGIC.len() + 1;

/// What was seen of an Ogg file so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Links {
    /// Streams that began, one after the other. Streams next to each other count as one.
    pub(crate) begun: u32,
    /// How many of them lack their last page, or a part of it. The one that began last is not counted.
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
        if CHECKSUM.contains(&at) {
            self.wanted |= u32::from(byte) << (8 * (at - CHECKSUM.start));
        }
        self.sum = checksum_with(self.sum, at, byte);
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
        self.sum = MAGIC.iter().chain([&flags]).enumerate().fold(0, |sum, (at, byte)| checksum_with(sum, at, *byte));
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
