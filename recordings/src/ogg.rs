//! The pages and packets of one stream after the other in an Ogg file (RFC 3533).

use std::io;

use crate::input::Input;
use crate::ogg_page::{CHECKSUM, HEADER, checksum_with};

/// What a page begins with.
const MAGIC: &[u8] = b"OggS";

/// Bytes that are searched at a time for the next page where the file is damaged.
const SEARCHED: usize = 32 * 1024;

/// Most places of a file that look like a page and are not one. It bounds the time that a hostile file takes.
const MAX_BAD_PAGES: u32 = 1_000;

/// Most bytes of a page: a header, 255 segments and their content.
pub(crate) const MAX_PAGE_BYTES: usize = HEADER + 255 + 255 * 255;

/// A page whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// Whether the first packet began on the page before.
    pub(crate) continued: bool,
    /// Whether a stream begins here.
    pub(crate) first: bool,
    /// Whether the stream ends here.
    pub(crate) last: bool,
    /// Samples of the stream up to the end of the last packet that ends here. `None`: no packet ends here.
    pub(crate) granule: Option<u64>,
    /// The number of the stream.
    pub(crate) serial: u32,
    /// The number of the page.
    pub(crate) number: u32,
    /// Bytes of each piece of a packet, and whether the packet ends with it.
    pub(crate) pieces: Vec<(usize, bool)>,
    pub(crate) content: Vec<u8>,
}

/// Reads pages, and skips bytes that do not belong to a page.
#[derive(Debug)]
pub(crate) struct Pages {
    input: Input,
    bad: u32,
    /// Places where bytes were skipped.
    pub(crate) skipped: u64,
    /// Whether the file ends within a page.
    pub(crate) cut: bool,
}

impl Pages {
    pub(crate) fn new(input: Input) -> Self {
        Self { input, bad: 0, skipped: 0, cut: false }
    }

    /// The next page. `None`: the file ends, or is too damaged to go on.
    pub(crate) fn next(&mut self) -> io::Result<Option<Page>> {
        let mut lost = false;
        while self.bad < MAX_BAD_PAGES {
            if self.input.peek(MAGIC.len())? == MAGIC {
                match self.page()? {
                    Parsed::Page(page, length) => {
                        self.input.advance(length);
                        return Ok(Some(page));
                    }
                    Parsed::Cut => self.cut = true,
                    Parsed::Bad => {}
                }
                self.bad += 1;
                self.input.advance(1);
            }
            let ahead = self.input.peek(SEARCHED)?;
            let (step, ends) = match ahead.windows(MAGIC.len()).position(|four| four == MAGIC) {
                Some(place) => (place, false),
                None => (ahead.len().saturating_sub(MAGIC.len() - 1).max(1).min(ahead.len()), ahead.len() < SEARCHED),
            };
            self.input.advance(step);
            self.skipped += u64::from(!lost && !self.cut && step > 0);
            lost = true;
            if ends {
                return Ok(None);
            }
            self.cut = false;
        }
        self.skipped += 1;
        Ok(None)
    }

    /// The page that begins here. No more is read than it needs, because a pipe may bring the rest late.
    fn page(&mut self) -> io::Result<Parsed> {
        let segments = usize::from(self.input.peek(HEADER)?.get(HEADER - 1).copied().unwrap_or(0));
        let table = self.input.peek(HEADER + segments)?.get(HEADER..).unwrap_or_default();
        let content: usize = table.iter().map(|size| usize::from(*size)).sum();
        Ok(parsed(self.input.peek(HEADER + segments + content)?))
    }

    /// The samples up to the end of the stream with this number, by the last pages of the file. `None`: a pipe, or the
    /// file ends with another stream. The position stays.
    pub(crate) fn end_of(&mut self, serial: u32) -> io::Result<Option<u64>> {
        let (Some(left), position) = (self.input.left(), self.input.position()) else { return Ok(None) };
        self.input.skip(left.saturating_sub(2 * MAX_PAGE_BYTES as u64))?;
        let tail = self.input.take_up_to(2 * MAX_PAGE_BYTES)?;
        self.input.go_to(position)?;
        // A bounded number of places, from the end.
        for place in (0..tail.len()).rev().filter(|place| tail[*place..].starts_with(MAGIC)).take(16) {
            match parsed(&tail[place..]) {
                Parsed::Page(page, _) if page.serial != serial => return Ok(None),
                Parsed::Page(Page { granule: Some(granule), .. }, _) => return Ok(Some(granule)),
                _ => {}
            }
        }
        Ok(None)
    }
}

enum Parsed {
    /// A page, and its bytes.
    Page(Page, usize),
    /// The file ends within the page.
    Cut,
    Bad,
}

fn parsed(bytes: &[u8]) -> Parsed {
    let Some(header) = bytes.get(..HEADER) else { return Parsed::Cut };
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let Some(table) = bytes.get(HEADER..HEADER + usize::from(header[HEADER - 1])) else { return Parsed::Cut };
    let start = HEADER + table.len();
    let length = start + table.iter().map(|size| usize::from(*size)).sum::<usize>();
    let Some(content) = bytes.get(start..length) else { return Parsed::Cut };
    if header[4] != 0 || checksum(&bytes[..length]) != number(CHECKSUM.start) {
        return Parsed::Bad;
    }
    let mut pieces = Vec::new();
    let mut open = 0;
    for size in table {
        open += usize::from(*size);
        if *size < 255 {
            pieces.push((open, true));
            open = 0;
        }
    }
    if open > 0 {
        pieces.push((open, false));
    }
    let granule = u64::from(number(6)) | u64::from(number(10)) << 32;
    let page = Page {
        continued: header[5] & 1 != 0,
        first: header[5] & 2 != 0,
        last: header[5] & 4 != 0,
        granule: (granule <= i64::MAX as u64).then_some(granule),
        serial: number(14),
        number: number(18),
        pieces,
        content: content.to_vec(),
    };
    Parsed::Page(page, length)
}

/// The checksum of a page.
pub(crate) fn checksum(page: &[u8]) -> u32 {
    page.iter().enumerate().fold(0, |sum, (at, byte)| checksum_with(sum, at, *byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page with one packet.
    fn page(number: u32, granule: u64, content: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0\0".to_vec();
        page.extend(granule.to_le_bytes());
        page.extend(7_u32.to_le_bytes());
        page.extend(number.to_le_bytes());
        page.extend([0, 0, 0, 0, 1, content.len() as u8]);
        page.extend(content);
        let sum = checksum(&page);
        page[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn numbers(file: Vec<u8>) -> (Vec<u32>, u64, bool) {
        let mut pages = Pages::new(Input::memory(file));
        let mut numbers = Vec::new();
        while let Some(page) = pages.next().unwrap() {
            numbers.push(page.number);
        }
        (numbers, pages.skipped, pages.cut)
    }

    #[test]
    fn pages_are_found_again_after_damage_and_a_cut_is_noticed() {
        let whole: Vec<u8> = (0..4).flat_map(|number| page(number, 960, b"some sound")).collect();
        assert_eq!(numbers(whole.clone()), (vec![0, 1, 2, 3], 0, false));
        let length = whole.len() / 4;
        let mut damaged = whole.clone();
        damaged[length + 30] ^= 1;
        assert_eq!(numbers(damaged), (vec![0, 2, 3], 1, false));
        assert_eq!(numbers(whole[..whole.len() - 3].to_vec()), (vec![0, 1, 2], 0, true));
        assert_eq!(Pages::new(Input::memory(whole)).end_of(7).unwrap(), Some(960));
    }

    /// Each of these places looks like the longest page there is.
    #[test]
    fn a_file_of_beginnings_of_pages_ends_soon() {
        let mut file = Vec::new();
        for _ in 0..20_000 {
            file.extend(b"OggS\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff");
            file.extend([255; 37]);
        }
        assert!(numbers(file).0.is_empty());
    }
}
