//! Decodes the samples of WAV files.

use crate::adpcm;

/// How samples are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// 8 bits, 128 is silence.
    Unsigned8,
    /// Little-endian, this many bytes (2 to 4). Valid bits are at the top.
    Signed(usize),
    /// 24 bits in 4 bytes: at the top as the standard has it, or at the bottom as `arecord -f S24_LE` writes them.
    /// `None`: no sample has told yet, and they are read at the top.
    Loose24(Option<End>),
    Float32,
    Float64,
    ALaw,
    MuLaw,
    Ima,
    Microsoft,
}

/// At which end of four bytes 24 bits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Top,
    Bottom,
}

/// Blocks of samples: a block is the least that can be decoded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) coding: Coding,
    pub(crate) channels: u16,
    /// Bytes of a block, at least 1. A block of ADPCM at the end of a file may be shorter.
    pub(crate) bytes: usize,
}

impl Blocks {
    /// Whether the end of a block is worth decoding without the rest.
    pub(crate) fn can_be_cut(&self) -> bool {
        matches!(self.coding, Coding::Ima | Coding::Microsoft)
    }

    /// Frames (samples of each channel) in a block of this many bytes.
    pub(crate) fn frames_in(&self, bytes: usize) -> u64 {
        let channels = usize::from(self.channels);
        let frames = match self.coding {
            Coding::Ima => adpcm::ima_frames(bytes, channels),
            Coding::Microsoft => adpcm::microsoft_frames(bytes, channels),
            _ => bytes / self.bytes,
        };
        frames as u64
    }

    /// Appends the samples of whole blocks, -1 to 1, channels interleaved. Infinite floats and NaN become 0.
    pub(crate) fn decode(&mut self, bytes: &[u8], out: &mut Vec<f32>) {
        let channels = usize::from(self.channels);
        if let Coding::Loose24(end @ None) = &mut self.coding {
            *end = which_end(bytes);
        }
        match self.coding {
            Coding::Unsigned8 => out.extend(bytes.iter().map(|byte| (f32::from(*byte) - 128.0) / 128.0)),
            Coding::Signed(2) => {
                out.extend(bytes.as_chunks().0.iter().map(|two| f32::from(i16::from_le_bytes(*two)) / 32_768.0));
            }
            Coding::Signed(3) => out.extend(bytes.as_chunks().0.iter().map(|&[a, b, c]| top([0, a, b, c]))),
            Coding::Signed(_) | Coding::Loose24(None | Some(End::Top)) => {
                out.extend(bytes.as_chunks().0.iter().map(|four| top(*four)));
            }
            Coding::Loose24(Some(End::Bottom)) => {
                out.extend(bytes.as_chunks().0.iter().map(|&[a, b, c, _]| top([0, a, b, c])));
            }
            Coding::Float32 => {
                out.extend(bytes.as_chunks().0.iter().map(|four| finite(f32::from_le_bytes(*four))));
            }
            Coding::Float64 => {
                out.extend(bytes.as_chunks().0.iter().map(|eight| finite(f64::from_le_bytes(*eight) as f32)));
            }
            Coding::ALaw => out.extend(bytes.iter().map(|byte| a_law(*byte))),
            Coding::MuLaw => out.extend(bytes.iter().map(|byte| mu_law(*byte))),
            Coding::Ima => bytes.chunks(self.bytes).for_each(|block| adpcm::ima(block, channels, out)),
            Coding::Microsoft => bytes.chunks(self.bytes).for_each(|block| adpcm::microsoft(block, channels, out)),
        }
    }
}

/// A sample of 32 bits.
fn top(four: [u8; 4]) -> f32 {
    i32::from_le_bytes(four) as f32 / 2_147_483_648.0
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

/// At which end 24 bits are. At the top, the lowest byte is always 0. At the bottom, the highest byte repeats the sign.
/// `None`: both are so, as in silence, so only later samples can tell.
fn which_end(bytes: &[u8]) -> Option<End> {
    let samples = bytes.as_chunks::<4>().0;
    let repeats_sign = |&[_, _, c, d]: &[u8; 4]| d == if c & 0x80 == 0 { 0 } else { 0xff };
    if !samples.iter().all(repeats_sign) {
        Some(End::Top)
    } else if samples.iter().any(|sample| sample[0] != 0) {
        Some(End::Bottom)
    } else {
        None
    }
}

/// One sample of ITU-T G.711, A-law, -1 to 1.
pub fn a_law(byte: u8) -> f32 {
    let byte = byte ^ 0x55;
    let (exponent, mantissa) = (byte >> 4 & 7, i32::from(byte & 15));
    let size = if exponent == 0 { mantissa * 2 + 1 } else { (mantissa * 2 + 33) << (exponent - 1) };
    let size = (size * 8) as f32 / 32_768.0;
    if byte & 0x80 != 0 { size } else { -size }
}

/// One sample of ITU-T G.711, µ-law, -1 to 1.
pub fn mu_law(byte: u8) -> f32 {
    let byte = !byte;
    let (exponent, mantissa) = (byte >> 4 & 7, i32::from(byte & 15));
    let size = (((mantissa * 2 + 33) << exponent) - 33) * 4;
    let size = size as f32 / 32_768.0;
    if byte & 0x80 != 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::new();
        Blocks { coding, channels: 1, bytes: 1 }.decode(bytes, &mut out);
        out
    }

    /// -1, 0 and 0.5 in each of the encodings.
    #[test]
    fn every_encoding_gives_the_same_numbers() {
        let wanted = [-1.0_f64, 0.0, 0.5];
        let floats: Vec<u8> = wanted.iter().flat_map(|sample| (*sample as f32).to_le_bytes()).collect();
        let doubles: Vec<u8> = wanted.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        for (coding, bytes) in [
            (Coding::Unsigned8, &[0, 128, 192][..]),
            (Coding::Signed(2), &[0, 0x80, 0, 0, 0, 0x40]),
            (Coding::Signed(3), &[0, 0, 0x80, 0, 0, 0, 0, 0, 0x40]),
            (Coding::Signed(4), &[0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x40]),
            (Coding::Float32, &floats),
            (Coding::Float64, &doubles),
        ] {
            assert_eq!(decoded(coding, bytes), [-1.0, 0.0, 0.5], "{coding:?}");
        }
        assert_eq!(decoded(Coding::Float32, &f32::NAN.to_le_bytes()), [0.0]);
        assert_eq!(decoded(Coding::Float64, &f64::MAX.to_le_bytes()), [0.0]);
    }

    /// The values of the tables of G.711.
    #[test]
    fn companded_samples_are_those_of_the_standard() {
        let full = |coding, byte| (decoded(coding, &[byte])[0] * 32_768.0) as i32;
        for (byte, value) in [(0x80, 32_124), (0x00, -32_124), (0xff, 0), (0x7f, 0), (0xf0, 120), (0x8f, 16_764)] {
            assert_eq!(full(Coding::MuLaw, byte), value, "µ-law {byte:#x}");
        }
        for (byte, value) in [(0xaa, 32_256), (0x2a, -32_256), (0xd5, 8), (0x55, -8), (0x80, 5_504), (0x00, -5_504)] {
            assert_eq!(full(Coding::ALaw, byte), value, "A-law {byte:#x}");
        }
    }

    #[test]
    fn loose_24_bits_are_found_at_either_end_even_after_silence() {
        for (end, half) in [(End::Top, [0, 0, 1, 0x40]), (End::Bottom, [1, 0, 0x40, 0])] {
            let mut blocks = Blocks { coding: Coding::Loose24(None), channels: 1, bytes: 4 };
            let mut out = Vec::new();
            blocks.decode(&[0; 8], &mut out);
            assert_eq!(blocks.coding, Coding::Loose24(None));
            blocks.decode(&half, &mut out);
            assert_eq!(blocks.coding, Coding::Loose24(Some(end)));
            assert_eq!(out[..2], [0.0, 0.0]);
            assert!((out[2] - 0.5).abs() < 1e-4, "{end:?}: {}", out[2]);
        }
    }
}
