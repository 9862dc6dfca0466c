//! The header of an Ogg page and its checksum (RFC 3533, section 6).

use std::ops::Range;

/// Bytes of the header of a page before its table of segments. The last one is the number of segments.
pub(crate) const HEADER: usize = 27;

/// Where the checksum of a page stands in its header, lowest byte first.
pub(crate) const CHECKSUM: Range<usize> = 22..26;

/// The checksum of a page's bytes before `at`, with the byte at this place: a CRC with the polynomial 0x04c11db7. The
/// bytes of the checksum itself count as zeros. It begins as 0.
pub(crate) fn checksum_with(sum: u32, at: usize, byte: u8) -> u32 {
    const TABLE: [u32; 256] = table();
    let byte = if CHECKSUM.contains(&at) { 0 } else { byte };
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
