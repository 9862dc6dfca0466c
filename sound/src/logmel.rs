//! The front end of the network: turns a stream of canonical audio into log-mel frames.
//!
//! Training uses the same code (`examples/logmel.rs`), so that the network gets the same input in the product as in
//! training. Every [`HOP_SAMPLES`] samples give one frame of [`BANDS`] values, which covers [`WINDOW_SAMPLES`] samples.
//! The bands end at 3.7 kHz, so audio that was once recorded at 8 kHz looks the same as any other.

use std::sync::{Arc, OnceLock};

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use crate::SAMPLE_RATE_HZ;
use crate::dot::dot;

/// Samples from one frame to the next: 16 ms.
pub const HOP_SAMPLES: usize = 256;

/// Samples that a frame covers: 32 ms.
pub const WINDOW_SAMPLES: usize = 512;

/// Mel bands of a frame.
pub const BANDS: usize = 40;

/// Lower edge of the lowest band, in hertz. Mains hum and handling noise lie below it.
pub const LOWEST_HZ: f32 = 80.0;

/// Upper edge of the highest band, in hertz. Resamplers to 8 kHz pass everything up to here.
pub const HIGHEST_HZ: f32 = 3_700.0;

/// Power that is added to each band before the logarithm, where a full-scale sine has 1. It is a little more than the
/// rounding to 16 bits leaves in a band, so that digital silence and a quiet room look alike.
const POWER_FLOOR: f32 = 1e-11;

/// `(ln(power) + LOG_SHIFT) * LOG_SCALE` is near 0 for quiet rooms and near 3 for loud sounds.
const LOG_SHIFT: f32 = 16.0;
const LOG_SCALE: f32 = 0.25;

const BINS: usize = WINDOW_SAMPLES / 2 + 1;

/// One frame: the scaled logarithm of the power in each band, lowest band first. About -2.3 (digital silence) to 4
/// (full scale).
pub type Frame = [f32; BANDS];

/// The frame of digital silence.
#[must_use]
pub fn silent_frame() -> Frame {
    [level(0.0); BANDS]
}

/// Turns a stream of canonical audio into log-mel frames. Frame `k` covers the samples
/// `k * HOP_SAMPLES .. k * HOP_SAMPLES + WINDOW_SAMPLES`. Memory use is constant, and how the stream is cut into pushes
/// changes no bit of the result.
pub struct LogMel {
    tables: Arc<Tables>,
    /// The latest samples, scaled to -1..1, of which the first `filled` are valid.
    pending: [f32; WINDOW_SAMPLES],
    filled: usize,
    windowed: Vec<f32>,
    spectrum: Vec<Complex32>,
    fft_scratch: Vec<Complex32>,
    power: Vec<f32>,
}

/// What all streams share.
struct Tables {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    bands: Vec<Band>,
}

/// One triangular band: weights of consecutive FFT bins. They add up to 1.
struct Band {
    first_bin: usize,
    weights: Vec<f32>,
}

impl Tables {
    /// Computed at the first call.
    fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Tables>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Arc::new(Self::compute())))
    }

    fn compute() -> Self {
        // A periodic Hann window.
        let phase = std::f32::consts::TAU / WINDOW_SAMPLES as f32;
        let window = (0..WINDOW_SAMPLES).map(|n| 0.5 - 0.5 * (n as f32 * phase).cos()).collect();
        Self { fft: RealFftPlanner::new().plan_fft_forward(WINDOW_SAMPLES), window, bands: mel_bands() }
    }
}

impl Default for LogMel {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMel {
    /// A front end at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        let tables = Tables::shared();
        Self {
            pending: [0.0; WINDOW_SAMPLES],
            filled: 0,
            windowed: tables.fft.make_input_vec(),
            spectrum: tables.fft.make_output_vec(),
            fft_scratch: tables.fft.make_scratch_vec(),
            power: vec![0.0; BINS],
            tables,
        }
    }

    /// Takes the next samples and passes each frame that they complete to `on_frame`, in order.
    pub fn push(&mut self, mut samples: &[i16], mut on_frame: impl FnMut(&Frame)) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(WINDOW_SAMPLES - self.filled));
            for (slot, &sample) in self.pending[self.filled..].iter_mut().zip(now) {
                *slot = f32::from(sample) / 32_768.0;
            }
            self.filled += now.len();
            samples = later;
            if self.filled == WINDOW_SAMPLES {
                on_frame(&self.frame());
                self.pending.copy_within(HOP_SAMPLES.., 0);
                self.filled = WINDOW_SAMPLES - HOP_SAMPLES;
            }
        }
    }

    fn frame(&mut self) -> Frame {
        for ((out, sample), weight) in self.windowed.iter_mut().zip(&self.pending).zip(&self.tables.window) {
            *out = sample * weight;
        }
        self.tables
            .fft
            .process_with_scratch(&mut self.windowed, &mut self.spectrum, &mut self.fft_scratch)
            .expect("the buffers were made by the plan");
        // With a Hann window, a full-scale sine at the centre of a bin has the magnitude WINDOW_SAMPLES / 4.
        let full_scale = (WINDOW_SAMPLES as f32 / 4.0).powi(2).recip();
        for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
            *power = bin.norm_sqr() * full_scale;
        }
        let mut frame = [0.0; BANDS];
        for (out, band) in frame.iter_mut().zip(&self.tables.bands) {
            let bins = &self.power[band.first_bin..band.first_bin + band.weights.len()];
            *out = level(dot(bins, &band.weights));
        }
        frame
    }
}

fn level(power: f32) -> f32 {
    ((power + POWER_FLOOR).ln() + LOG_SHIFT) * LOG_SCALE
}

/// The mel scale of D. O'Shaughnessy, "Speech communication: human and machine" (1987): 2595 log10(1 + f / 700).
fn mel_of_hz(hz: f32) -> f32 {
    2_595.0 * (1.0 + hz / 700.0).log10()
}

fn hz_of_mel(mel: f32) -> f32 {
    700.0 * (10_f32.powf(mel / 2_595.0) - 1.0)
}

/// Triangular bands whose peaks are evenly spaced in mel. Each reaches from the peak of its lower neighbour to that of
/// its upper neighbour.
fn mel_bands() -> Vec<Band> {
    let (lowest, highest) = (mel_of_hz(LOWEST_HZ), mel_of_hz(HIGHEST_HZ));
    let bin_hz = SAMPLE_RATE_HZ as f32 / WINDOW_SAMPLES as f32;
    let edge_hz = |n: usize| hz_of_mel(lowest + (highest - lowest) * n as f32 / (BANDS + 1) as f32);
    (0..BANDS)
        .map(|band| {
            let (left, middle, right) = (edge_hz(band), edge_hz(band + 1), edge_hz(band + 2));
            // The lowest bands are about as wide as an FFT bin. Narrower ones could fall between two bins and stay
            // empty.
            let rise = (middle - left).max(bin_hz);
            let fall = (right - middle).max(bin_hz);
            let weight = |bin: usize| {
                let hz = bin as f32 * bin_hz;
                if hz <= middle { 1.0 - (middle - hz) / rise } else { 1.0 - (hz - middle) / fall }
            };
            let first_bin = (0..BINS).find(|&bin| weight(bin) > 0.0).expect("a band is at least two bins wide");
            let raw: Vec<f32> = (first_bin..BINS).map(weight).take_while(|&weight| weight > 0.0).collect();
            let total: f32 = raw.iter().sum();
            Band { first_bin, weights: raw.iter().map(|weight| weight / total).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(samples: &[i16], chunk: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut front = LogMel::new();
        for piece in samples.chunks(chunk) {
            front.push(piece, |frame| frames.push(*frame));
        }
        frames
    }

    fn sine(hz: f32, peak: f32, count: usize) -> Vec<i16> {
        let phase = std::f32::consts::TAU * hz / SAMPLE_RATE_HZ as f32;
        (0..count).map(|n| ((n as f32 * phase).sin() * peak * 32_767.0) as i16).collect()
    }

    #[test]
    fn chunking_changes_no_bit() {
        let samples: Vec<i16> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 17) as i16).collect();
        let whole = frames_of(&samples, samples.len());
        assert_eq!(whole.len(), (samples.len() - WINDOW_SAMPLES) / HOP_SAMPLES + 1);
        for chunk in [1, 7, 255, 256, 320, 511, 4_096] {
            assert_eq!(frames_of(&samples, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_sine_lights_its_own_band() {
        for (hz, loudest) in [(500.0_f32, 9_usize), (1_000.0, 17), (3_000.0, 35)] {
            let frame = frames_of(&sine(hz, 0.5, 4_096), 4_096)[3];
            let best = (0..BANDS).max_by(|&a, &b| frame[a].total_cmp(&frame[b])).expect("there are bands");
            assert!(best.abs_diff(loudest) <= 1, "{hz} Hz was loudest in band {best}");
        }
    }

    #[test]
    fn what_an_8_khz_recording_lacks_is_not_seen() {
        let frame = frames_of(&sine(6_000.0, 0.5, 4_096), 4_096)[3];
        let quiet = silent_frame();
        for (band, (heard, silence)) in frame.iter().zip(&quiet).enumerate() {
            assert!((heard - silence).abs() < 1.0, "band {band} heard 6 kHz: {heard} against {silence}");
        }
    }

    #[test]
    fn silence_dc_and_clipping_stay_finite() {
        assert_eq!(frames_of(&[0; 1_024], 1_024)[0], silent_frame());
        let square: Vec<i16> = (0..2_048).map(|n| if n % 40 < 20 { i16::MIN } else { i16::MAX }).collect();
        for samples in [vec![i16::MAX; 2_048], square] {
            assert!(frames_of(&samples, 2_048).iter().flatten().all(|value| value.is_finite() && value.abs() < 5.0));
        }
    }

    #[test]
    fn halving_the_level_moves_every_band_alike() {
        let (loud, soft) =
            (frames_of(&sine(700.0, 0.8, 2_048), 2_048)[2], frames_of(&sine(700.0, 0.4, 2_048), 2_048)[2]);
        let expected = LOG_SCALE * 2.0 * std::f32::consts::LN_2;
        assert!((loud[12] - soft[12] - expected).abs() < 0.01);
    }
}
