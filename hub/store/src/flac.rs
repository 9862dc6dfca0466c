//! Reads what [`sound::flac`] writes, or any FLAC stream of its kind.

/// The samples of a FLAC stream of one channel and 16 bits, no more than one above `expected`. `None`: it is none.
pub fn decode(bytes: &[u8], expected: usize) -> Option<Vec<i16>> {
    let mut reader = claxon::FlacReader::new(bytes).ok()?;
    let info = reader.streaminfo();
    if info.channels != 1 || info.bits_per_sample != 16 {
        return None;
    }
    reader.samples().take(expected.saturating_add(1)).map(|sample| i16::try_from(sample.ok()?).ok()).collect()
}
