//! A picture of sound: time from left to right, frequency from bottom to top, level as colour.
//!
//! The frequency axis is linear in mel, which gives the harmonics of a meow (300 Hz to 3 kHz) most of the height and
//! still shows a hiss up to 8 kHz.

use std::sync::{Arc, OnceLock};

use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};

use crate::SAMPLE_RATE_HZ;

mod columns;

pub use columns::{COLUMN_DB, COLUMN_FLOOR_DBFS, COLUMN_ROWS, COLUMN_SAMPLES, Column, Columns};

/// Samples of an analysis window: 32 ms, short enough to show an onset, long enough to separate harmonics.
const WINDOW_SAMPLES: usize = 512;

/// Windows are zero-padded to this many samples, so that the rows at low frequencies find smooth values between bins.
const FFT_SAMPLES: usize = 2_048;

/// Lowest frequency shown, in hertz.
pub const LOWEST_HZ: f32 = 60.0;

/// Highest frequency shown, in hertz: half the sample rate of canonical audio.
pub const HIGHEST_HZ: f32 = SAMPLE_RATE_HZ as f32 / 2.0;

/// Most decibels that the colours span, downwards from the loudest cell. They span less where the noise of the room is
/// louder.
const RANGE_DB: f32 = 70.0;

/// Fewest decibels that the colours span, so that mere noise does not fill the picture.
const LEAST_RANGE_DB: f32 = 30.0;

/// The brightest colour stands for at least this level, in dB of full scale, so that silence stays dark.
const QUIETEST_TOP_DBFS: f32 = -70.0;

/// Cells below this level are dark in every picture, in dB of full scale: about what rounding to 16 bits leaves in a
/// cell.
const DARK_DBFS: f32 = -100.0;

/// Largest width and height of a picture, in pixels. It bounds the memory that a request can take.
pub const MAX_SIDE_PX: usize = 2_048;

/// Levels of a sound over time and frequency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spectrogram {
    width_px: usize,
    height_px: usize,
    levels: Vec<u8>,
}

impl Spectrogram {
    /// Computes the spectrogram of canonical audio. Width and height are clamped to 1..=[`MAX_SIDE_PX`]. Time is
    /// linear: the left edge of the picture is the first sample, the right edge the last. No samples give a dark
    /// picture.
    #[must_use]
    pub fn of(samples: &[i16], width_px: usize, height_px: usize) -> Self {
        let (width_px, height_px) = (width_px.clamp(1, MAX_SIDE_PX), height_px.clamp(1, MAX_SIDE_PX));
        let db = decibels(samples, width_px, height_px);
        Self { width_px, height_px, levels: to_levels(&db) }
    }

    /// Number of columns.
    #[must_use]
    pub fn width_px(&self) -> usize {
        self.width_px
    }

    /// Number of rows.
    #[must_use]
    pub fn height_px(&self) -> usize {
        self.height_px
    }

    /// The levels of one row from left to right, 0 (quiet) to 255 (loudest in the picture). Row 0 is at the top and has
    /// the highest frequency.
    ///
    /// # Panics
    /// If `y` is not less than the number of rows.
    #[must_use]
    pub fn row(&self, y: usize) -> &[u8] {
        &self.levels[y * self.width_px..(y + 1) * self.width_px]
    }
}

/// The place of a frequency, in hertz, on the axis: 0 at the bottom ([`LOWEST_HZ`]), 1 at the top ([`HIGHEST_HZ`]).
#[must_use]
pub fn height_of_hz(hz: f32) -> f32 {
    (mel_of_hz(hz) - mel_of_hz(LOWEST_HZ)) / (mel_of_hz(HIGHEST_HZ) - mel_of_hz(LOWEST_HZ))
}

/// The frequency, in hertz, at a place on the axis: the inverse of [`height_of_hz`].
#[must_use]
pub fn hz_of_height(height: f32) -> f32 {
    let lowest = mel_of_hz(LOWEST_HZ);
    700.0 * (10_f32.powf((lowest + height * (mel_of_hz(HIGHEST_HZ) - lowest)) / 2_595.0) - 1.0)
}

/// The colour of a level in sRGB, from dark violet (0) over red to pale yellow (255). The brightness rises evenly to
/// the eye, also for the colour-blind and in shades of grey.
#[must_use]
pub fn colour(level: u8) -> [u8; 3] {
    static TABLE: OnceLock<[[u8; 3]; 256]> = OnceLock::new();
    TABLE.get_or_init(|| std::array::from_fn(|level| between_stops(level as f32 / 255.0)))[usize::from(level)]
}

/// Ten colours of the "magma" map of matplotlib (S. van der Walt and N. Smith, 2015, CC0), evenly spaced.
const STOPS: [[u8; 3]; 10] = [
    [0, 0, 4],
    [24, 15, 62],
    [69, 16, 119],
    [114, 31, 129],
    [159, 47, 127],
    [205, 64, 113],
    [241, 96, 93],
    [253, 149, 103],
    [254, 201, 141],
    [252, 253, 191],
];

fn between_stops(place: f32) -> [u8; 3] {
    let scaled = place * (STOPS.len() - 1) as f32;
    let lower = (scaled as usize).min(STOPS.len() - 2);
    let share = scaled - lower as f32;
    std::array::from_fn(|channel| {
        let (from, to) = (f32::from(STOPS[lower][channel]), f32::from(STOPS[lower + 1][channel]));
        (from + (to - from) * share).round() as u8
    })
}

/// The same mel scale as in the front end of the network: [`crate::logmel`].
fn mel_of_hz(hz: f32) -> f32 {
    2_595.0 * (1.0 + hz / 700.0).log10()
}

/// Level of each cell in dB of full scale, row by row from the top. It is the highest level within the cell, so that a
/// short or narrow sound does not fade in a small picture.
fn decibels(samples: &[i16], width_px: usize, height_px: usize) -> Vec<f32> {
    let mut eye = Eye::new(height_px);
    let mut cells = vec![0.0_f32; width_px * height_px];
    for x in 0..width_px {
        let (first, last) = (samples.len() * x / width_px, samples.len() * (x + 1) / width_px);
        // One window for each half window of samples, centred on it, and at least one a column.
        let looks = ((last - first) / (WINDOW_SAMPLES / 2)).max(1);
        for look in 0..looks {
            let middle = first + (last - first) * (2 * look + 1) / (2 * looks);
            eye.look(samples, middle, |y, power| {
                let cell = &mut cells[y * width_px + x];
                *cell = cell.max(power);
            });
        }
    }
    cells.into_iter().map(decibels_of).collect()
}

fn decibels_of(power: f32) -> f32 {
    // The least is -140 dBFS (1e-14), below what 16 bits can express.
    10.0 * (power + 1e-14).log10()
}

/// Computes the rows of a spectrum.
struct Eye {
    fft: Arc<dyn RealToComplex<f32>>,
    input: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    window: Vec<f32>,
    power: Vec<f32>,
    rows: Vec<RowBins>,
}

impl Eye {
    fn new(height_px: usize) -> Self {
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(FFT_SAMPLES);
        let phase = std::f32::consts::TAU / WINDOW_SAMPLES as f32;
        Self {
            input: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            window: (0..WINDOW_SAMPLES).map(|n| 0.5 - 0.5 * (n as f32 * phase).cos()).collect(),
            power: vec![0.0; FFT_SAMPLES / 2 + 1],
            rows: row_bins(height_px),
            fft,
        }
    }

    /// Computes the spectrum of the window centred on sample `middle`, and passes the power of each row, from the top,
    /// to `on_row`. A full-scale sine has the power 1. Beyond the samples there is silence.
    fn look(&mut self, samples: &[i16], middle: usize, mut on_row: impl FnMut(usize, f32)) {
        // With a Hann window, a full-scale sine at the centre of a bin has the magnitude WINDOW_SAMPLES / 4.
        let full_scale = (WINDOW_SAMPLES as f32 / 4.0).powi(2).recip();
        self.input.fill(0.0);
        for (n, (slot, weight)) in self.input.iter_mut().zip(&self.window).enumerate() {
            let place = (middle + n).checked_sub(WINDOW_SAMPLES / 2);
            let sample = place.and_then(|place| samples.get(place)).copied().unwrap_or(0);
            *slot = f32::from(sample) / 32_768.0 * weight;
        }
        self.fft
            .process_with_scratch(&mut self.input, &mut self.spectrum, &mut self.scratch)
            .expect("the buffers were made by the plan");
        for (power, bin) in self.power.iter_mut().zip(&self.spectrum) {
            *power = bin.norm_sqr() * full_scale;
        }
        for (y, row) in self.rows.iter().enumerate() {
            on_row(y, row.power(&self.power));
        }
    }
}

/// The range of frequencies that a row of the picture shows, in FFT bins and fractions of them.
struct RowBins {
    lower: f32,
    upper: f32,
}

impl RowBins {
    /// The highest power within the row, interpolated linearly between bins.
    fn power(&self, power: &[f32]) -> f32 {
        let at = |place: f32| {
            let bin = (place as usize).min(power.len() - 2);
            let share = (place - bin as f32).clamp(0.0, 1.0);
            power[bin] + (power[bin + 1] - power[bin]) * share
        };
        let whole = (self.lower.ceil() as usize)..=(self.upper.floor() as usize).min(power.len() - 1);
        whole.map(|bin| power[bin]).fold(at(self.lower).max(at(self.upper)), f32::max)
    }
}

fn row_bins(height_px: usize) -> Vec<RowBins> {
    let bin_of = |height: f32| hz_of_height(height) * FFT_SAMPLES as f32 / SAMPLE_RATE_HZ as f32;
    (0..height_px)
        .map(|y| {
            let (top, bottom) = (height_px - y, height_px - y - 1);
            RowBins { lower: bin_of(bottom as f32 / height_px as f32), upper: bin_of(top as f32 / height_px as f32) }
        })
        .collect()
}

/// Scales levels in dB so that 0 is about the noise of the room and 255 the loudest cell.
fn to_levels(db: &[f32]) -> Vec<u8> {
    let mut sorted = db.to_vec();
    let loudest = sorted.iter().copied().fold(QUIETEST_TOP_DBFS, f32::max);
    // At least a quarter of the picture of a clip is the noise of the room, which shall be dark.
    let quarter = sorted.len() / 4;
    let noise = *sorted.select_nth_unstable_by(quarter, f32::total_cmp).1;
    let floor = noise.clamp((loudest - RANGE_DB).max(DARK_DBFS), loudest - LEAST_RANGE_DB);
    db.iter().map(|db| ((db - floor) / (loudest - floor) * 255.0).clamp(0.0, 255.0).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f32, peak: f32, count: usize) -> Vec<i16> {
        let phase = std::f32::consts::TAU * hz / SAMPLE_RATE_HZ as f32;
        (0..count).map(|n| ((n as f32 * phase).sin() * peak * 32_767.0) as i16).collect()
    }

    #[test]
    fn a_sine_is_a_line_at_its_frequency() {
        for hz in [150.0, 500.0, 1_000.0, 3_000.0, 7_000.0] {
            let picture = Spectrogram::of(&sine(hz, 0.5, 16_000), 100, 200);
            let loudest = (0..200).max_by_key(|&y| picture.row(y)[50]).unwrap();
            // Row centres count from the top.
            let expected = (1.0 - height_of_hz(hz)) * 200.0 - 0.5;
            assert!((loudest as f32 - expected).abs() <= 3.0, "{hz} Hz: row {loudest}, expected {expected}");
        }
    }

    #[test]
    fn a_click_is_a_column_at_its_time() {
        let mut samples = vec![0_i16; 16_000];
        samples[12_000] = 20_000;
        let picture = Spectrogram::of(&samples, 160, 64);
        let loudest = (0..160).max_by_key(|&x| picture.row(30)[x]).unwrap();
        assert!((119..=121).contains(&loudest), "column {loudest}, expected 120");
    }

    #[test]
    fn level_does_not_change_the_picture_but_silence_is_dark() {
        let loud = Spectrogram::of(&sine(700.0, 0.8, 8_000), 40, 40);
        let soft = Spectrogram::of(&sine(700.0, 0.08, 8_000), 40, 40);
        let differs = (0..40).flat_map(|y| loud.row(y).iter().zip(soft.row(y))).filter(|(a, b)| a.abs_diff(**b) > 40);
        assert!(differs.count() < 40, "a tenth of the level must look about the same");
        for silent in [vec![], vec![0; 8_000], [1, -1, 0, 0].repeat(2_000)] {
            let picture = Spectrogram::of(&silent, 40, 40);
            assert!((0..40).all(|y| picture.row(y).iter().all(|&level| level < 128)), "silence is not dark");
        }
    }

    #[test]
    fn sides_are_clamped_and_every_size_works() {
        let samples = sine(440.0, 0.3, 3_000);
        for (width, height) in [(0, 0), (1, 1), (1, 300), (900, 1), (9_999, 9_999)] {
            let picture = Spectrogram::of(&samples, width, height);
            assert_eq!(picture.width_px(), width.clamp(1, MAX_SIDE_PX));
            assert_eq!(picture.height_px(), height.clamp(1, MAX_SIDE_PX));
            assert_eq!(picture.row(picture.height_px() - 1).len(), picture.width_px());
        }
    }

    #[test]
    fn axis_goes_there_and_back() {
        for hz in [LOWEST_HZ, 250.0, 1_000.0, 4_000.0, HIGHEST_HZ] {
            assert!((hz_of_height(height_of_hz(hz)) - hz).abs() < hz * 1e-3);
        }
        assert!(height_of_hz(LOWEST_HZ).abs() < 1e-6 && (height_of_hz(HIGHEST_HZ) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn colours_grow_evenly_brighter() {
        // CIE 1976 lightness of an sRGB colour, 0 to 100.
        let lightness = |[r, g, b]: [u8; 3]| {
            let linear = |channel: u8| (f32::from(channel) / 255.0).powf(2.2);
            let y = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
            if y > 0.008856 { 116.0 * y.cbrt() - 16.0 } else { 903.3 * y }
        };
        let steps: Vec<f32> = (0..=15_u8).map(|step| lightness(colour(step * 17))).collect();
        for pair in steps.windows(2) {
            let rise = pair[1] - pair[0];
            assert!((1.0..=11.0).contains(&rise), "lightness rises by {rise} in a step: {steps:?}");
        }
    }
}
