//! The header of Apple's Core Audio Format, for samples that are not compressed.

/// The description of the sound as the `fmt ` chunk of a WAV file has it.
pub(crate) struct Header {
    pub(crate) format: Vec<u8>,
    /// Whether the highest byte of a sample comes first.
    pub(crate) big_endian: bool,
}

/// Reads the content of the `desc` chunk. `None`: the sound is compressed, or coded as no WAV file has it.
pub(crate) fn header(content: &[u8]) -> Option<Header> {
    let field = |at: usize| -> Option<u32> { Some(u32::from_be_bytes(*content.get(at..)?.first_chunk()?)) };
    let rate = f64::from_be_bytes(*content.first_chunk()?);
    let (flags, packet, frames, channels, bits) = (field(12)?, field(16)?, field(20)?, field(24)?, field(28)?);
    let is_float = flags & 1 != 0;
    let tag: u16 = match (content.get(8..12)?, is_float, bits) {
        (b"lpcm", false, 16 | 24 | 32) => 1,
        (b"lpcm", true, 32 | 64) => 3,
        (b"alaw", _, _) => 6,
        (b"ulaw", _, _) => 7,
        _ => return None,
    };
    let bits = if tag > 3 { 8 } else { bits };
    if frames != 1 || rate.fract() != 0.0 || Some(packet) != channels.checked_mul(bits / 8) {
        return None;
    }
    let mut format = Vec::new();
    format.extend_from_slice(&tag.to_le_bytes());
    format.extend_from_slice(&u16::try_from(channels).ok()?.to_le_bytes());
    // A rate out of range becomes one that is refused.
    format.extend_from_slice(&(rate as u32).to_le_bytes());
    format.extend_from_slice(&(rate as u32).saturating_mul(packet).to_le_bytes());
    format.extend_from_slice(&u16::try_from(packet).ok()?.to_le_bytes());
    format.extend_from_slice(&u16::try_from(bits).ok()?.to_le_bytes());
    Some(Header { format, big_endian: flags & 2 == 0 })
}
