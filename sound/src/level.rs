//! The level of canonical audio, and signs of a dead or overdriven microphone.

use serde::{Deserialize, Serialize};

/// The lowest level reported, in dB of full scale. It stands for digital silence.
pub const SILENCE_DBFS: f32 = -120.0;

/// Samples whose counts are kept in 16 bits.
const PIECE: usize = 4_096;

/// Level of a stretch of audio.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Root mean square, in dB of full scale, -120 to 0. A full-scale sine has -3 dB.
    pub rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    pub peak_dbfs: f32,
    /// Share of the samples at full scale, 0 to 1.
    pub clipped_fraction: f32,
    /// Share of the samples that are exactly 0, 0 to 1. 1 means a dead or muted microphone.
    pub zero_fraction: f32,
}

/// Measures the level of any number of samples. The sums are exact integers, so how the samples are cut into pushes
/// does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct LevelMeter {
    samples: u64,
    square_sum: u128,
    peak: u16,
    clipped: u64,
    zeros: u64,
}

impl LevelMeter {
    /// Takes the next samples.
    pub fn push(&mut self, samples: &[i16]) {
        self.samples += samples.len() as u64;
        // In numbers that are as small as can be, so that vectors hold many of them.
        for piece in samples.chunks(PIECE) {
            let (mut square_sum, mut peak, mut clipped, mut zeros) = (0_u64, 0_u16, 0_u16, 0_u16);
            for &sample in piece {
                let magnitude = sample.unsigned_abs();
                square_sum += u64::from(u32::from(magnitude) * u32::from(magnitude));
                peak = peak.max(magnitude);
                clipped += u16::from(magnitude >= i16::MAX as u16);
                zeros += u16::from(magnitude == 0);
            }
            self.square_sum += u128::from(square_sum);
            self.peak = self.peak.max(peak);
            self.clipped += u64::from(clipped);
            self.zeros += u64::from(zeros);
        }
    }

    /// Number of samples taken so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The level of all samples taken so far. Without any: [`SILENCE_DBFS`], and both fractions 0.
    pub fn level(&self) -> Level {
        let count = self.samples.max(1) as f64;
        let rms = (self.square_sum as f64 / count).sqrt();
        Level {
            rms_dbfs: dbfs(rms),
            peak_dbfs: dbfs(f64::from(self.peak)),
            clipped_fraction: (self.clipped as f64 / count) as f32,
            zero_fraction: (self.zeros as f64 / count) as f32,
        }
    }
}

/// An amplitude in units of 16-bit samples (full scale is 32,768) in dB of full scale, [`SILENCE_DBFS`] to 0.
pub(crate) fn dbfs(amplitude: f64) -> f32 {
    ((20.0 * (amplitude / 32768.0).log10()) as f32).clamp(SILENCE_DBFS, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_of(samples: &[i16]) -> Level {
        let mut meter = LevelMeter::default();
        meter.push(samples);
        meter.level()
    }

    #[test]
    fn full_scale_square_wave_is_0_dbfs_and_clipped() {
        let level = level_of(&[i16::MIN, i16::MAX].repeat(100));
        assert!(level.rms_dbfs > -0.001 && level.peak_dbfs == 0.0 && level.clipped_fraction == 1.0, "{level:?}");
    }

    #[test]
    fn full_scale_sine_has_minus_3_dbfs() {
        let sine: Vec<i16> = (0..16000).map(|n| ((n as f32 * 0.1).sin() * 32767.0) as i16).collect();
        assert!((level_of(&sine).rms_dbfs + 3.01).abs() < 0.01);
    }

    #[test]
    fn zeros_are_digital_silence() {
        let level = level_of(&[0; 320]);
        assert_eq!((level.rms_dbfs, level.peak_dbfs, level.zero_fraction), (SILENCE_DBFS, SILENCE_DBFS, 1.0));
    }

    #[test]
    fn nothing_is_silence_without_a_zero_fraction() {
        let level = level_of(&[]);
        assert_eq!((level.rms_dbfs, level.zero_fraction), (SILENCE_DBFS, 0.0));
    }
}
