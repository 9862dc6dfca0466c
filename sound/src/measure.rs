//! Measurements on the audio of one vocalisation: level, pitch track, shape of the spectrum.
//!
//! The pitch comes from the autocorrelation of the windowed signal, divided by that of the window, as in P. Boersma,
//! "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"
//! (1993).

use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::SAMPLE_RATE_HZ;
use crate::detection::Measurements;
use crate::level::LevelMeter;

/// Samples of an analysis window: 64 ms, several periods of the lowest pitch.
const WINDOW: usize = 1024;
/// Windows are zero-padded to this many samples, so that the autocorrelation is linear, not circular.
const FFT: usize = 2 * WINDOW;
/// Samples from one window to the next: 20 ms.
const HOP: usize = 320;
/// The range in which a pitch is searched. Meows of adult cats lie between 200 and 1000 Hz and those of kittens reach
/// about 1500 Hz; growls begin at about 100 Hz.
const PITCH_MIN_HZ: f32 = 100.0;
const PITCH_MAX_HZ: f32 = 1600.0;
/// A window is voiced when the highest peak of its normalised autocorrelation reaches this.
const VOICED: f32 = 0.5;
/// The pitch is the shortest period whose peak reaches this share of the highest one. Without it, a multiple of the
/// period could win, an octave or more too low.
const OCTAVE_GUARD: f32 = 0.9;
/// Windows this far below the loudest one are background and do not count for pitch and shape.
const BELOW_LOUDEST_DB: f32 = 25.0;

/// Measures vocalisations, one after another. Holds the FFT plans and scratch space.
pub struct Meter {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
    window_autocorrelation: Vec<f32>,
    time: Vec<f32>,
    spectrum: Vec<Complex32>,
    forward_scratch: Vec<Complex32>,
    inverse_scratch: Vec<Complex32>,
}

/// Measurements on one window of 64 ms.
pub(crate) struct Shape {
    /// Sum of the one-sided power spectrum without its constant component, full scale 1.
    pub(crate) power: f32,
    /// The part of the power between each two neighbours in [`BAND_EDGES_HZ`].
    pub(crate) bands: [f32; BANDS],
    /// Centre of gravity of the power spectrum, in hertz.
    pub(crate) centroid_hz: f32,
    /// Geometric over arithmetic mean of the power spectrum, 0 to 1.
    pub(crate) flatness: f32,
    /// Highest peak of the normalised autocorrelation within the range of pitch, 0 to 1.
    pub(crate) periodicity: f32,
    /// `None`: unvoiced.
    pub(crate) pitch_hz: Option<f32>,
}

/// Number of bands in a [`Shape`].
pub(crate) const BANDS: usize = 7;

/// Edges of the bands, in hertz. They end where recordings made at 8 kHz still have everything.
const BAND_EDGES_HZ: [f32; BANDS + 1] = [200.0, 500.0, 800.0, 1_200.0, 1_700.0, 2_300.0, 3_000.0, 3_700.0];

/// Seconds from one shape of a track to the next.
pub(crate) const TRACK_HOP_S: f32 = HOP as f32 / SAMPLE_RATE_HZ as f32;

impl Default for Meter {
    fn default() -> Self {
        let mut planner = RealFftPlanner::<f32>::new();
        let forward = planner.plan_fft_forward(FFT);
        let inverse = planner.plan_fft_inverse(FFT);
        let window: Vec<f32> =
            (0..WINDOW).map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / WINDOW as f32).cos()).collect();
        let mut meter = Self {
            window_autocorrelation: Vec::new(),
            time: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            forward_scratch: forward.make_scratch_vec(),
            inverse_scratch: inverse.make_scratch_vec(),
            forward,
            inverse,
            window,
        };
        meter.time.fill(0.0);
        meter.time[..WINDOW].copy_from_slice(&meter.window);
        meter.transform();
        meter.power_to_autocorrelation();
        meter.window_autocorrelation = meter.time[..WINDOW].iter().map(|r| r / meter.time[0]).collect();
        meter
    }
}

impl Meter {
    /// Measures the canonical audio of one vocalisation, of any length. `background_dbfs` is the RMS level of the
    /// background, in dB of full scale, -120 to 0.
    pub fn measure(&mut self, audio: &[i16], background_dbfs: f32) -> Measurements {
        measurements(audio, &self.track(audio), background_dbfs)
    }

    /// The shapes of all windows that fit into the audio, 20 ms apart. Audio that is shorter than a window gives one
    /// shape.
    pub(crate) fn track(&mut self, audio: &[i16]) -> Vec<Shape> {
        let last_start = audio.len().saturating_sub(WINDOW);
        (0..=last_start).step_by(HOP).map(|start| self.shape(&audio[start..audio.len().min(start + WINDOW)])).collect()
    }

    fn shape(&mut self, audio: &[i16]) -> Shape {
        let mean = audio.iter().map(|&s| f32::from(s)).sum::<f32>() / audio.len().max(1) as f32;
        self.time.fill(0.0);
        for ((slot, &sample), weight) in self.time.iter_mut().zip(audio).zip(&self.window) {
            *slot = (f32::from(sample) - mean) * weight / 32768.0;
        }
        self.transform();

        let bin_hz = SAMPLE_RATE_HZ as f32 / FFT as f32;
        let (mut power, mut moment, mut log_sum) = (0.0f32, 0.0f32, 0.0f32);
        // A bin that is empty but for rounding errors would pull the geometric mean to 0.
        const FLOOR: f32 = 1e-12;
        for (bin, value) in self.spectrum.iter().enumerate().skip(1) {
            let bin_power = value.norm_sqr() + FLOOR;
            power += bin_power;
            moment += bin_power * bin as f32 * bin_hz;
            log_sum += bin_power.ln();
        }
        let mut bands = [0.0; BANDS];
        for (band, edges) in bands.iter_mut().zip(BAND_EDGES_HZ.windows(2)) {
            let bins = (edges[0] / bin_hz) as usize..(edges[1] / bin_hz) as usize;
            *band = self.spectrum[bins].iter().map(|value| value.norm_sqr()).sum();
        }
        let bins = (self.spectrum.len() - 1) as f32;
        let flatness = (log_sum / bins).exp() / (power / bins);
        let (periodicity, pitch_hz) = if power > 2.0 * bins * FLOOR { self.pitch() } else { (0.0, None) };
        Shape { power, bands, centroid_hz: moment / power, flatness, periodicity, pitch_hz }
    }

    /// Periodicity and pitch of the window whose spectrum is in `spectrum`. Overwrites `spectrum` and `time`.
    fn pitch(&mut self) -> (f32, Option<f32>) {
        self.power_to_autocorrelation();
        let energy = self.time[0];
        let shortest = (SAMPLE_RATE_HZ as f32 / PITCH_MAX_HZ) as usize;
        let longest = (SAMPLE_RATE_HZ as f32 / PITCH_MIN_HZ) as usize;
        let correlation = |lag: usize| self.time[lag] / energy / self.window_autocorrelation[lag];
        let is_peak = |lag: usize| correlation(lag) >= correlation(lag - 1) && correlation(lag) > correlation(lag + 1);

        let best = (shortest..=longest).filter(|&lag| is_peak(lag)).map(correlation).fold(0.0, f32::max);
        if best < VOICED {
            return (best, None);
        }
        let Some(lag) = (shortest..=longest).find(|&lag| is_peak(lag) && correlation(lag) >= OCTAVE_GUARD * best)
        else {
            return (best, None);
        };
        let (left, peak, right) = (correlation(lag - 1), correlation(lag), correlation(lag + 1));
        // The top of the parabola through the peak and its neighbours: pitch finer than whole samples.
        let curvature = left - 2.0 * peak + right;
        let offset = if curvature < 0.0 { 0.5 * (left - right) / curvature } else { 0.0 };
        (best, Some(SAMPLE_RATE_HZ as f32 / (lag as f32 + offset)))
    }

    fn transform(&mut self) {
        self.forward
            .process_with_scratch(&mut self.time, &mut self.spectrum, &mut self.forward_scratch)
            .expect("the buffers were made by this plan");
    }

    fn power_to_autocorrelation(&mut self) {
        for value in &mut self.spectrum {
            *value = Complex32::new(value.norm_sqr(), 0.0);
        }
        self.inverse
            .process_with_scratch(&mut self.spectrum, &mut self.time, &mut self.inverse_scratch)
            .expect("the buffers were made by this plan, and a power spectrum is real at both ends");
    }
}

/// As [`Meter::measure`], of audio whose [`Meter::track`] is known.
pub(crate) fn measurements(audio: &[i16], track: &[Shape], background_dbfs: f32) -> Measurements {
    let mut level = LevelMeter::default();
    level.push(audio);
    let level = level.level();

    let threshold = track.iter().map(|shape| shape.power).fold(0.0, f32::max) * 10f32.powf(-BELOW_LOUDEST_DB / 10.0);
    let shapes = || track.iter().filter(|shape| shape.power > 0.0 && shape.power >= threshold);

    let count = shapes().count().max(1) as f32;
    let mut pitches: Vec<f32> = shapes().filter_map(|shape| shape.pitch_hz).collect();
    pitches.sort_by(f32::total_cmp);
    Measurements {
        peak_dbfs: level.peak_dbfs,
        rms_dbfs: level.rms_dbfs,
        snr_db: level.rms_dbfs - background_dbfs,
        pitch_median_hz: pitches.get(pitches.len() / 2).copied().unwrap_or(0.0),
        pitch_min_hz: pitches.first().copied().unwrap_or(0.0),
        pitch_max_hz: pitches.last().copied().unwrap_or(0.0),
        voiced_fraction: pitches.len() as f32 / count,
        spectral_centroid_hz: shapes().map(|shape| shape.centroid_hz).sum::<f32>() / count,
        spectral_flatness: shapes().map(|shape| shape.flatness).sum::<f32>() / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmonics(f0_hz: f32, seconds: f32, amplitude: f32) -> Vec<i16> {
        (0..(seconds * 16000.0) as usize)
            .map(|n| {
                let phase = std::f32::consts::TAU * f0_hz * n as f32 / 16000.0;
                let sum: f32 = (1..=5).map(|k| (phase * k as f32).sin() / k as f32).sum();
                (sum * amplitude * 32768.0 / 2.0) as i16
            })
            .collect()
    }

    #[test]
    fn pitch_of_a_harmonic_tone_is_found_within_1_percent() {
        let mut meter = Meter::default();
        for f0_hz in [150.0, 333.0, 440.0, 610.0, 987.0, 1400.0] {
            let found = meter.measure(&harmonics(f0_hz, 0.5, 0.5), -80.0);
            assert!((found.pitch_median_hz / f0_hz - 1.0).abs() < 0.01, "{f0_hz}: {found:?}");
            assert!(found.voiced_fraction > 0.95, "{f0_hz}: {found:?}");
        }
    }

    #[test]
    fn pitch_does_not_depend_on_level() {
        let mut meter = Meter::default();
        let loud = meter.measure(&harmonics(500.0, 0.5, 0.8), -80.0);
        let soft = meter.measure(&harmonics(500.0, 0.5, 0.008), -80.0);
        assert!((loud.pitch_median_hz - soft.pitch_median_hz).abs() < 2.0);
        assert!((loud.rms_dbfs - soft.rms_dbfs - 40.0).abs() < 0.2);
    }

    #[test]
    fn noise_has_no_pitch_and_is_flat() {
        let mut state = 1u32;
        let noise: Vec<i16> = (0..16000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) as i16) / 8
            })
            .collect();
        let found = Meter::default().measure(&noise, -60.0);
        assert!(found.voiced_fraction < 0.05 && found.spectral_flatness > 0.4, "{found:?}");
        assert!((found.spectral_centroid_hz - 4000.0).abs() < 200.0, "{found:?}");
    }

    #[test]
    fn silence_short_and_empty_audio_give_finite_numbers() {
        for audio in [vec![0i16; 4000], vec![1000; 10], vec![], vec![i16::MAX; 4000]] {
            let found = Meter::default().measure(&audio, -120.0);
            assert_eq!(found.pitch_median_hz, 0.0);
            let numbers = [found.spectral_centroid_hz, found.spectral_flatness, found.snr_db, found.voiced_fraction];
            assert!(numbers.iter().all(|number| number.is_finite()), "{found:?}");
        }
    }
}
