//! A small FLAC encoder (RFC 9639) for canonical audio, with fixed predictors and partitioned Rice codes.
//!
//! Linear prediction would make the result about a tenth smaller. Without it the encoder is cheap enough for a node to
//! encode all that it captures: one pass chooses the predictor, one writes, and only the output is allocated. Any FLAC
//! decoder reads the result.

use crate::SAMPLE_RATE_HZ;

/// Samples of a FLAC frame: 250 ms. Shorter inputs are one frame. The number is a multiple of 2^5, so that a frame
/// divides into Rice partitions of 125 samples.
const BLOCK_SAMPLES: usize = 4000;

/// The parameter of a shorter Rice partition would cost more than it gains.
const MIN_PARTITION_SAMPLES: usize = 64;

/// Highest order of FLAC's fixed predictors.
const MAX_ORDER: usize = 4;

/// Largest parameter of a Rice code with 4-bit parameters; 15 is the escape code.
const MAX_RICE: u32 = 14;

/// Appends a whole FLAC stream (marker, STREAMINFO, frames) of the canonical audio in `samples` to `out`. The MD5 field
/// of STREAMINFO is 0, which means unknown; each frame has a CRC of its own.
///
/// Encodes any number of samples; none give a stream without frames. The stream is at most 64 bytes, plus 16 bytes for
/// each block of 4000 samples begun, longer than the samples themselves.
pub fn encode(samples: &[i16], out: &mut Vec<u8>) {
    let block_samples = samples.len().clamp(16, BLOCK_SAMPLES);
    stream_info(samples.len(), block_samples, out);
    for (number, block) in samples.chunks(block_samples).enumerate() {
        frame(number, block, out);
    }
}

fn stream_info(total_samples: usize, block_samples: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"fLaC");
    // Header of the last metadata block: STREAMINFO, 34 bytes.
    out.extend_from_slice(&[0x80, 0, 0, 34]);
    let mut bits = BitWriter::new(out);
    bits.put(16, block_samples as u64);
    bits.put(16, block_samples as u64);
    // Smallest and largest frame in bytes: 0 means unknown.
    bits.put(24, 0);
    bits.put(24, 0);
    bits.put(20, u64::from(SAMPLE_RATE_HZ));
    // One channel and 16 bits a sample, each stored less 1.
    bits.put(3, 0);
    bits.put(5, 15);
    bits.put(36, total_samples as u64);
    // MD5 of the samples: 0 means unknown.
    for _ in 0..4 {
        bits.put(32, 0);
    }
    bits.finish();
}

fn frame(number: usize, block: &[i16], out: &mut Vec<u8>) {
    let start = out.len();
    // Sync code and fixed block size; block size in 16 bits at the end of the header, 16 kHz; one channel, 16 bits.
    out.extend_from_slice(&[0xff, 0xf8, 0x75, 0x08]);
    put_utf8_number(number as u32, out);
    out.extend_from_slice(&((block.len() - 1) as u16).to_be_bytes());
    out.push(crc8(&out[start..]));

    let order = best_order(block);
    if block.iter().all(|&sample| sample == block[0]) {
        // Header of a constant subframe.
        out.push(0);
        out.extend_from_slice(&block[0].to_be_bytes());
    } else {
        let subframe = out.len();
        fixed_subframe(block, order, out);
        if out.len() - subframe > 1 + 2 * block.len() {
            out.truncate(subframe);
            verbatim_subframe(block, out);
        }
    }
    let crc = crc16(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

fn verbatim_subframe(block: &[i16], out: &mut Vec<u8>) {
    out.push(0b0000_0010);
    for sample in block {
        out.extend_from_slice(&sample.to_be_bytes());
    }
}

fn fixed_subframe(block: &[i16], order: usize, out: &mut Vec<u8>) {
    let mut bits = BitWriter::new(out);
    bits.put(8, (0b001_000 | order as u64) << 1);
    for &sample in &block[..order] {
        bits.put(16, u64::from(sample as u16));
    }
    let partition_order = partition_order(block.len(), order);
    // 4-bit Rice parameters.
    bits.put(2, 0);
    bits.put(4, u64::from(partition_order));
    let partition_samples = block.len() >> partition_order;
    let mut residuals = [0_u32; BLOCK_SAMPLES];
    let residuals = &mut residuals[..block.len()];
    for (n, folded) in residuals.iter_mut().enumerate().skip(order) {
        *folded = fold(residual(block, n, order));
    }
    for (partition, folded) in residuals.chunks(partition_samples).enumerate() {
        // The first samples were written as they are, so the first partition is shorter.
        let folded = if partition == 0 { &folded[order..] } else { folded };
        let rice = rice_parameter(folded);
        bits.put(4, u64::from(rice));
        for &value in folded {
            bits.put_zeros(value >> rice);
            bits.put(rice + 1, u64::from((value & ((1 << rice) - 1)) | (1 << rice)));
        }
    }
    bits.finish();
}

/// The order of the fixed predictor with the smallest sum of absolute residuals.
fn best_order(block: &[i16]) -> usize {
    if block.len() <= MAX_ORDER {
        return 0;
    }
    let mut sums = [0_u64; MAX_ORDER + 1];
    let at = |n: usize| i32::from(block[n]);
    // The residual of order n + 1 is the difference of two neighbouring residuals of order n.
    let mut last = [0_i32; MAX_ORDER];
    last[0] = at(3);
    last[1] = at(3) - at(2);
    last[2] = last[1] - (at(2) - at(1));
    last[3] = last[2] - ((at(2) - at(1)) - (at(1) - at(0)));
    for &sample in &block[MAX_ORDER..] {
        let mut difference = i32::from(sample);
        for (order, sum) in sums.iter_mut().enumerate() {
            *sum += u64::from(difference.unsigned_abs());
            if order < MAX_ORDER {
                let next = difference - last[order];
                last[order] = difference;
                difference = next;
            }
        }
    }
    (0..=MAX_ORDER).min_by_key(|&order| sums[order]).unwrap_or(0)
}

fn residual(block: &[i16], n: usize, order: usize) -> i32 {
    let at = |back: usize| i32::from(block[n - back]);
    match order {
        0 => at(0),
        1 => at(0) - at(1),
        2 => at(0) - 2 * at(1) + at(2),
        3 => at(0) - 3 * at(1) + 3 * at(2) - at(3),
        _ => at(0) - 4 * at(1) + 6 * at(2) - 4 * at(3) + at(4),
    }
}

/// Maps 0, -1, 1, -2, 2, ... to 0, 1, 2, 3, 4, ...
fn fold(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

/// Binary logarithm of the number of Rice partitions: the most that the block divides into.
fn partition_order(samples: usize, order: usize) -> u32 {
    (0..=8)
        .rev()
        .find(|&p| samples.is_multiple_of(1 << p) && samples >> p >= MIN_PARTITION_SAMPLES.max(order + 1))
        .unwrap_or(0)
}

/// The Rice parameter that gives the shortest codes: one near the logarithm of the mean.
fn rice_parameter(folded: &[u32]) -> u32 {
    if folded.is_empty() {
        return 0;
    }
    let sum: u64 = folded.iter().map(|&value| u64::from(value)).sum();
    let mean = sum / folded.len() as u64;
    let guess = (u64::BITS - (mean + 1).leading_zeros()).saturating_sub(1);
    // Count the bits of the guess and of its neighbours exactly.
    (guess.saturating_sub(1)..=guess + 1)
        .map(|rice| rice.min(MAX_RICE))
        .min_by_key(|&rice| folded.iter().map(|&value| u64::from((value >> rice) + 1 + rice)).sum::<u64>())
        .unwrap_or(0)
}

/// Writes a frame number in the coding that UTF-8 uses for characters.
fn put_utf8_number(number: u32, out: &mut Vec<u8>) {
    match number {
        0..0x80 => out.push(number as u8),
        0x80..0x800 => out.extend_from_slice(&[0xc0 | (number >> 6) as u8, 0x80 | (number & 0x3f) as u8]),
        _ => {
            let continuation = |shift: u32| 0x80 | ((number >> shift) & 0x3f) as u8;
            if number < 0x1_0000 {
                out.extend_from_slice(&[0xe0 | (number >> 12) as u8, continuation(6), continuation(0)]);
            } else {
                // Higher numbers do not occur: 2^21 frames of 4000 samples are six days.
                out.extend_from_slice(&[
                    0xf0 | ((number >> 18) & 7) as u8,
                    continuation(12),
                    continuation(6),
                    continuation(0),
                ]);
            }
        }
    }
}

/// Appends bits, most significant first.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    pending_bits: u32,
}

impl<'a> BitWriter<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, pending: 0, pending_bits: 0 }
    }

    /// Appends the lowest `count` bits of `value`, at most 56. The bits above them must be 0.
    fn put(&mut self, count: u32, value: u64) {
        self.pending = (self.pending << count) | value;
        self.pending_bits += count;
        while self.pending_bits >= 8 {
            self.pending_bits -= 8;
            self.out.push((self.pending >> self.pending_bits) as u8);
        }
    }

    fn put_zeros(&mut self, mut count: u32) {
        while count > 32 {
            self.put(32, 0);
            count -= 32;
        }
        self.put(count, 0);
    }

    /// Fills the last byte up with zeros.
    fn finish(mut self) {
        if self.pending_bits > 0 {
            self.put(8 - self.pending_bits, 0);
        }
    }
}

/// CRC-8 with polynomial 0x07, which ends the header of a FLAC frame.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { (crc << 1) ^ 0x07 } else { crc << 1 })
    })
}

/// CRC-16 with polynomial 0x8005, which ends a FLAC frame.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| (crc << 8) ^ CRC16_TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0_u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x8005 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8]) -> Vec<i16> {
        let mut reader = claxon::FlacReader::new(stream).unwrap();
        let info = reader.streaminfo();
        assert_eq!((info.sample_rate, info.channels, info.bits_per_sample), (16_000, 1, 16));
        reader.samples().map(|sample| sample.unwrap() as i16).collect()
    }

    fn round_trip(samples: &[i16]) -> usize {
        let mut stream = Vec::new();
        encode(samples, &mut stream);
        assert_eq!(decode(&stream), samples);
        stream.len()
    }

    /// Noise from a linear congruential generator, which is random enough for these tests.
    fn noise(count: usize, amplitude: i32) -> Vec<i16> {
        let mut state = 1_u32;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (((state >> 16) as i32 * 2 - 65_535) * amplitude / 65_535) as i16
            })
            .collect()
    }

    #[test]
    fn everything_comes_back_as_it_was() {
        for count in [1, 2, 3, 4, 5, 15, 16, 17, 319, 320, 640, 1600, 3999, 4000, 4001, 16_000, 123_457] {
            for amplitude in [0, 1, 30, 3000, 32_767] {
                round_trip(&noise(count, amplitude));
            }
        }
    }

    #[test]
    fn extreme_samples_come_back_as_they_were() {
        let alternating: Vec<i16> = (0..4000).map(|n| if n % 2 == 0 { i16::MIN } else { i16::MAX }).collect();
        round_trip(&alternating);
        round_trip(&[i16::MIN; 1600]);
        let mut spike = [0_i16; 320];
        spike[319] = i16::MIN;
        round_trip(&spike);
    }

    #[test]
    fn an_empty_input_is_a_stream_without_frames() {
        assert_eq!(round_trip(&[]), 42);
    }

    #[test]
    fn full_scale_noise_grows_by_the_headers_alone() {
        let samples = noise(16_000, 32_767);
        assert!(round_trip(&samples) <= 2 * samples.len() + 64 + 16 * 4);
    }

    #[test]
    fn a_quiet_room_shrinks_to_less_than_half() {
        assert!(round_trip(&noise(16_000, 30)) < 16_000);
    }

    #[test]
    fn a_tone_shrinks_by_prediction() {
        let tone: Vec<i16> = (0..16_000)
            .map(|n| (16_000.0 * (std::f64::consts::TAU * 440.0 * f64::from(n) / 16_000.0).sin()) as i16)
            .collect();
        assert!(round_trip(&tone) < 16_000, "a pure tone of 440 Hz is worth less than 8 bits a sample");
    }
}
