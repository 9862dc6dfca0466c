//! Canonical frames from whatever a source delivers: down-mix, resampling, cutting.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler, ResamplerConstructionError, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

use crate::SAMPLE_RATE_HZ;

/// Samples of a frame: 20 ms at 16 kHz.
pub const FRAME_SAMPLES: usize = 320;

/// The rates that a source may have, in hertz.
pub const SOURCE_RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// The resampler works on pieces of 5 ms.
const CHUNKS_PER_S: u32 = 200;

/// Length of the anti-aliasing filter: 8 ms, of which half is its delay. At the usual rates it passes 7 kHz and stops 8.8 kHz
/// by 80 dB.
const FILTERS_PER_S: u32 = 125;

/// A filter for a low rate has no fewer taps than this, and their number is a multiple of 8.
const MIN_TAPS: u32 = 128;

/// With 16 kHz = rate * L / M in lowest terms, a bank of L filters meets every output exactly. A bank that would be larger
/// than this (rates like 44,101 Hz) is replaced by one of [`INTERPOLATED_FILTERS`], interpolated by cubic polynomials.
const MAX_EXACT_FILTERS: u32 = 640;
const INTERPOLATED_FILTERS: usize = 128;

/// How far is looked for an output that falls on an input sample, which time is then counted from.
const MAX_OUTPUTS_TO_DROP: usize = 2000;

/// A format that no frames can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramerError {
    /// The rate is out of bounds.
    #[error("a sample rate of {0} Hz is not between 4 and 384 kHz")]
    Rate(u32),
    /// There are no channels.
    #[error("a source must have at least one channel")]
    NoChannels,
}

/// Makes frames of 20 ms of canonical audio out of interleaved samples of any rate and channel count.
///
/// Channels are mixed by their mean. A source of 16 kHz passes bit-true: a sample of n / 32768 becomes n. Any other rate is
/// resampled with an anti-aliasing filter that keeps the level and the time: the first sample of the first frame is the moment of
/// the first sample pushed. After the start nothing is allocated.
pub struct Framer {
    channels: usize,
    resampling: Option<Resampling>,
    frame: [i16; FRAME_SAMPLES],
    filled: usize,
}

impl Framer {
    /// A framer for a source of this format.
    ///
    /// # Errors
    /// See [`FramerError`].
    pub fn new(sample_rate_hz: u32, channels: u16) -> Result<Self, FramerError> {
        if channels == 0 {
            return Err(FramerError::NoChannels);
        }
        if !SOURCE_RATES_HZ.contains(&sample_rate_hz) {
            return Err(FramerError::Rate(sample_rate_hz));
        }
        let resampling = if sample_rate_hz == SAMPLE_RATE_HZ { None } else { Some(Resampling::new(sample_rate_hz)?) };
        Ok(Self { channels: usize::from(channels), resampling, frame: [0; FRAME_SAMPLES], filled: 0 })
    }

    /// Takes interleaved samples, -1 to 1 (what is beyond is clipped), whole groups of all channels, and hands each frame that
    /// they complete to `emit`.
    pub fn push(&mut self, samples: &[f32], mut emit: impl FnMut(&[i16; FRAME_SAMPLES])) {
        let Self { channels, resampling, frame, filled } = self;
        let scale = 1.0 / *channels as f32;
        let mut cut = |sample: f32| {
            frame[*filled] = to_s16(sample);
            *filled += 1;
            if *filled == FRAME_SAMPLES {
                *filled = 0;
                emit(frame);
            }
        };
        let mono = samples.chunks_exact(*channels).map(|group| group.iter().sum::<f32>() * scale);
        match resampling {
            None => mono.for_each(cut),
            Some(resampling) => mono.for_each(|sample| resampling.push(sample, &mut cut)),
        }
    }

    /// Forgets the unfinished frame and what the resampler holds: what comes next does not go on where the last left off.
    pub fn reset(&mut self) {
        self.filled = 0;
        if let Some(resampling) = &mut self.resampling {
            resampling.reset();
        }
    }
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Framer")
            .field("channels", &self.channels)
            .field("filled", &self.filled)
            .finish_non_exhaustive()
    }
}

struct Resampling {
    resampler: Async<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    start: Start,
    /// Outputs from before the first sample that are still to be dropped.
    to_drop: usize,
}

/// How to make time begin with the first sample: so many zeros before it, and so many outputs that belong to them.
#[derive(Debug, Clone, Copy)]
struct Start {
    zeros: usize,
    outputs_to_drop: usize,
}

impl Resampling {
    fn new(sample_rate_hz: u32) -> Result<Self, FramerError> {
        let (resampler, start) = resampler(sample_rate_hz).map_err(|_| FramerError::Rate(sample_rate_hz))?;
        let input = vec![0.0; resampler.input_frames_max()];
        let output = vec![0.0; resampler.output_frames_max()];
        let mut resampling = Self { resampler, input, filled: 0, output, start, to_drop: 0 };
        resampling.reset();
        Ok(resampling)
    }

    fn push(&mut self, sample: f32, mut emit: impl FnMut(f32)) {
        self.input[self.filled] = sample;
        self.filled += 1;
        if self.filled < self.input.len() {
            return;
        }
        self.filled = 0;
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let input = InterleavedSlice::new(&self.input[..], 1, frames_in).expect("one channel of the slice's length");
        let mut output =
            InterleavedSlice::new_mut(&mut self.output[..], 1, frames_out).expect("one channel of the slice's length");
        let (_, written) = self
            .resampler
            .process_into_buffer(&input, &mut output, None)
            .expect("both buffers have the size that it asked for");
        let dropped = self.to_drop.min(written);
        self.to_drop -= dropped;
        self.output[dropped..written].iter().copied().for_each(&mut emit);
    }

    fn reset(&mut self) {
        self.resampler.reset();
        self.filled = 0;
        self.to_drop = self.start.outputs_to_drop;
        for _ in 0..self.start.zeros {
            // The filter's delay keeps back every output that is not to be dropped.
            self.push(0.0, |_| {});
        }
    }
}

fn resampler(from_hz: u32) -> Result<(Async<f32>, Start), ResamplerConstructionError> {
    let taps = (from_hz / FILTERS_PER_S).max(MIN_TAPS).next_multiple_of(8) as usize;
    let exact_filters = SAMPLE_RATE_HZ / greatest_common_divisor(from_hz, SAMPLE_RATE_HZ);
    let (filters, interpolation) = if exact_filters <= MAX_EXACT_FILTERS {
        (exact_filters as usize, SincInterpolationType::Nearest)
    } else {
        (INTERPOLATED_FILTERS, SincInterpolationType::Cubic)
    };
    let filter = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
        .oversampling_factor(filters)
        .interpolation(interpolation);
    let ratio = f64::from(SAMPLE_RATE_HZ) / f64::from(from_hz);
    let chunk = (from_hz / CHUNKS_PER_S) as usize;
    let resampler = Async::new_sinc(ratio, 1.0, &filter, chunk, 1, FixedAsync::Input)?;
    Ok((resampler, start(taps, filters, 1.0 / ratio)))
}

/// The resampler's output number n belongs to the input time (n + 1) * step - taps / 2 + 1 / filters, in samples: it begins one
/// step after its first filter, and its bank of filters begins one filter after the middle tap. The start is chosen so that
/// one output falls on an input sample as nearly as may be; exactly, with an exact bank.
fn start(taps: usize, filters: usize, step: f64) -> Start {
    let time_of = |output: usize| (output + 1) as f64 * step - taps as f64 / 2.0 + 1.0 / filters as f64;
    // Rounding must not hide that an output falls on a sample.
    let off = |output: usize| ((time_of(output) - time_of(output).round()).abs() * 1e6).round() as u64;
    let first = (0..MAX_OUTPUTS_TO_DROP).find(|&output| time_of(output) > -0.5).unwrap_or(0);
    let outputs_to_drop = (first..first + MAX_OUTPUTS_TO_DROP).min_by_key(|&output| off(output)).unwrap_or(first);
    Start { zeros: time_of(outputs_to_drop).round().max(0.0) as usize, outputs_to_drop }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Rounds to 16 bits; n / 32768 gives n.
fn to_s16(sample: f32) -> i16 {
    // A cast of floats saturates, and makes 0 of NaN.
    (sample * 32768.0).round() as i16
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn frames(framer: &mut Framer, samples: &[f32]) -> Vec<i16> {
        let mut out = Vec::new();
        framer.push(samples, |frame| out.extend_from_slice(frame));
        out
    }

    fn sine(rate_hz: u32, frequency_hz: f64, seconds: f64) -> Vec<f32> {
        let count = (seconds * f64::from(rate_hz)) as usize;
        (0..count).map(|n| (0.5 * (TAU * frequency_hz * n as f64 / f64::from(rate_hz)).sin()) as f32).collect()
    }

    fn rms(samples: &[i16]) -> f64 {
        let sum: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        (sum / samples.len() as f64).sqrt() / 32768.0
    }

    #[test]
    fn every_16_bit_value_passes_at_16_khz() {
        let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let floats: Vec<f32> = all.iter().map(|&sample| f32::from(sample) / 32768.0).collect();
        let mut framer = Framer::new(16_000, 1).unwrap();
        let out = frames(&mut framer, &floats);
        assert_eq!(out, all[..65_536 / 320 * 320]);
    }

    #[test]
    fn what_is_beyond_full_scale_is_clipped() {
        let mut framer = Framer::new(16_000, 1).unwrap();
        let mut samples = [2.0; 320];
        samples[0] = -2.0;
        samples[1] = f32::NAN;
        let out = frames(&mut framer, &samples);
        assert_eq!(out[..3], [i16::MIN, 0, i16::MAX]);
    }

    #[test]
    fn channels_are_mixed_by_their_mean() {
        let mut framer = Framer::new(16_000, 3).unwrap();
        let group = [300.0 / 32768.0, -600.0 / 32768.0, 900.0 / 32768.0];
        assert_eq!(frames(&mut framer, &group.repeat(320)), [200; 320]);
    }

    #[test]
    fn how_samples_are_cut_into_pushes_does_not_matter() {
        for (rate, channels) in [(16_000, 1), (48_000, 2), (44_100, 1), (44_101, 1), (8_000, 1)] {
            let samples = sine(rate, 700.0, 0.5).iter().flat_map(|&s| vec![s; channels]).collect::<Vec<_>>();
            let whole = frames(&mut Framer::new(rate, channels as u16).unwrap(), &samples);
            for piece in [1, 7, 480, 1001] {
                let mut framer = Framer::new(rate, channels as u16).unwrap();
                let pieces: Vec<i16> =
                    samples.chunks(piece * channels).flat_map(|chunk| frames(&mut framer, chunk)).collect();
                assert_eq!(pieces, whole);
            }
        }
    }

    #[test]
    fn a_tone_keeps_level_pitch_and_time_at_any_rate() {
        for rate in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000, 11_027, 44_101] {
            let mut framer = Framer::new(rate, 1).unwrap();
            let out = frames(&mut framer, &sine(rate, 700.0, 3.0));
            assert!(out.len() >= 47_000, "{rate}: {}", out.len());
            // Away from the start the result is the very sine, sampled at 16 kHz from the same moment on.
            let worst = (1000..out.len())
                .map(|n| (f64::from(out[n]) / 32768.0 - 0.5 * (TAU * 700.0 * n as f64 / 16_000.0).sin()).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-3, "{rate}: off by {worst}");
        }
    }

    #[test]
    fn passband_is_flat_to_7_khz_and_nothing_folds_back() {
        for rate in [44_100, 44_101, 48_000] {
            for (frequency_hz, least_db, most_db) in [
                (100.0, -0.05, 0.05),
                (3000.0, -0.05, 0.05),
                (7000.0, -0.1, 0.05),
                (8800.0, f64::NEG_INFINITY, -80.0),
                (12_000.0, f64::NEG_INFINITY, -80.0),
                (15_900.0, f64::NEG_INFINITY, -80.0),
            ] {
                let mut framer = Framer::new(rate, 1).unwrap();
                let out = frames(&mut framer, &sine(rate, frequency_hz, 1.0));
                let level_db = 20.0 * (rms(&out[3200..12_800]) / (0.5 / 2_f64.sqrt())).max(1e-9).log10();
                assert!(
                    (least_db..=most_db).contains(&level_db),
                    "{frequency_hz} Hz at {rate} Hz comes out at {level_db} dB"
                );
            }
        }
    }

    #[test]
    fn reset_starts_anew() {
        for rate in [16_000, 48_000, 44_101] {
            let tone = sine(rate, 700.0, 0.5);
            let fresh = frames(&mut Framer::new(rate, 1).unwrap(), &tone);
            let mut framer = Framer::new(rate, 1).unwrap();
            frames(&mut framer, &sine(rate, 3000.0, 0.333));
            framer.reset();
            assert_eq!(frames(&mut framer, &tone), fresh);
        }
    }

    #[test]
    fn impossible_formats_are_refused() {
        assert_eq!(Framer::new(48_000, 0).unwrap_err(), FramerError::NoChannels);
        assert_eq!(Framer::new(0, 1).unwrap_err(), FramerError::Rate(0));
        assert_eq!(Framer::new(3_999, 1).unwrap_err(), FramerError::Rate(3_999));
        assert!(Framer::new(384_001, 1).unwrap_err().to_string().contains("384001"));
    }
}
