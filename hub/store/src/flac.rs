//! Decodes FLAC streams of one channel and 16 bits, such as [`sound::flac`] writes.

/// The samples of a FLAC stream. Decoding stops one sample after `expected`, enough for the caller to see that the
/// stream is too long. `None` if `bytes` is not a valid FLAC stream of one channel and 16 bits.
pub fn decode(bytes: &[u8], expected: usize) -> Option<Vec<i16>> {
    let mut reader = claxon::FlacReader::new(bytes).ok()?;
    let info = reader.streaminfo();
    if info.channels != 1 || info.bits_per_sample != 16 {
        return None;
    }
    reader.samples().take(expected.saturating_add(1)).map(|sample| i16::try_from(sample.ok()?).ok()).collect()
}

/// The comment of this name in a FLAC stream. `None` if there is none, or `bytes` is not a valid FLAC stream.
pub fn comment(bytes: &[u8], name: &str) -> Option<String> {
    claxon::FlacReader::new(bytes).ok()?.get_tag(name).next().map(str::to_owned)
}
