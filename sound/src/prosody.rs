//! The prosody of a vocalisation: its length, melody, roughness and colour, as numbers that classifiers can learn from.
//!
//! None of them depends on the level, so distance and gain of the microphone have no influence.

use crate::measure::{BANDS, Meter, Shape, TRACK_HOP_S};

/// How many numbers a [`Prosody`] has.
pub const PROSODY: usize = 14 + BANDS;

/// The numbers that [`prosody`] measures; it says what each is.
pub type Prosody = [f32; PROSODY];

/// Windows this far below the loudest one are not part of the vocalisation.
const BELOW_LOUDEST_DB: f32 = 25.0;

/// Windows less than this above the background are not part of the vocalisation either ...
const ABOVE_BACKGROUND_DB: f32 = 8.0;

/// ... but windows within this of the loudest one always are, so that a faint vocalisation keeps its middle.
const AT_LEAST_BELOW_LOUDEST_DB: f32 = 10.0;

/// [`Shape::power`] of a window of noise whose mean square is 1: half of the transform's 2,048 points, because the
/// spectrum is one-sided, times the energy of the Hann window, 3/8 of its 1,024 samples.
const NOISE_POWER: f32 = 1_024.0 * 384.0;

/// Pitch that is reported when there is none, in octaves above 1 Hz: 450 Hz, about the middle of cats' range.
const NEUTRAL_PITCH_OCTAVES: f32 = 8.8;

/// Measures the canonical audio of one vocalisation. `background_dbfs` is the RMS level of the background, in dB of
/// full scale, -120 to 0.
///
/// The numbers come from windows of 64 ms every 20 ms. Times run from -1 (first window) to 1 (last window); pitch is in
/// octaves above 1 Hz (the binary logarithm of hertz). In this order:
///
/// - 0: length, as the binary logarithm of seconds
/// - 1: voiced length, likewise
/// - 2, 3, 4: pitch: median, 90th percentile, 10th percentile
/// - 5: pitch: standard deviation
/// - 6, 7: slope and curvature of a parabola fitted to the pitch, each -3 to 3
/// - 8: time of the highest pitch
/// - 9: share of the windows that have a pitch, 0 to 1
/// - 10: mean periodicity, 0 to 1
/// - 11: standard deviation of the level, in dB
/// - 12: time of the loudest window
/// - 13: mean centre of gravity of the spectrum, in kHz
/// - 14 to 20: level of the seven bands between 200 and 3,700 Hz, in dB relative to the strongest, -60 to 0
#[must_use]
pub fn prosody(meter: &mut Meter, audio: &[i16], background_dbfs: f32) -> Prosody {
    of_track(meter.track(audio), background_dbfs)
}

/// As [`prosody`], of audio whose [`Meter::track`] is known.
pub(crate) fn of_track(mut track: Vec<Shape>, background_dbfs: f32) -> Prosody {
    let loudest = track.iter().map(|shape| shape.power).fold(f32::MIN_POSITIVE, f32::max);
    let background = power_of_dbfs(background_dbfs + ABOVE_BACKGROUND_DB);
    let below = |decibels: f32| loudest * 10_f32.powf(-decibels / 10.0);
    let threshold = background.max(below(BELOW_LOUDEST_DB)).min(below(AT_LEAST_BELOW_LOUDEST_DB));
    track.retain(|shape| shape.power >= threshold);
    if track.is_empty() {
        return [0.0; PROSODY];
    }
    let last = (track.len() - 1).max(1) as f32;
    let time_of = |place: usize| 2.0 * place as f32 / last - 1.0;
    let melody: Vec<(f32, f32)> =
        track.iter().enumerate().filter_map(|(place, shape)| Some((time_of(place), shape.pitch_hz?.log2()))).collect();
    let levels: Vec<f32> = track.iter().map(|shape| decibels(shape.power)).collect();

    let mut pitches: Vec<f32> = melody.iter().map(|(_, pitch)| *pitch).collect();
    pitches.sort_by(f32::total_cmp);
    let percentile = |share: f32| {
        let place = (pitches.len().saturating_sub(1) as f32 * share).round() as usize;
        pitches.get(place).copied().unwrap_or(NEUTRAL_PITCH_OCTAVES)
    };
    let [slope, curvature] = parabola(&melody);
    let highest = melody.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |(time, _)| *time);
    let loudest_at = (0..levels.len()).max_by(|&a, &b| levels[a].total_cmp(&levels[b])).map_or(0.0, time_of);

    let mut out = [0.0; PROSODY];
    let (sung, colour) = out.split_at_mut(PROSODY - BANDS);
    sung.copy_from_slice(&[
        (track.len() as f32 * TRACK_HOP_S).log2(),
        (melody.len().max(1) as f32 * TRACK_HOP_S).log2(),
        percentile(0.5),
        percentile(0.9),
        percentile(0.1),
        deviation(&pitches),
        slope,
        curvature,
        highest,
        melody.len() as f32 / track.len() as f32,
        mean(track.iter().map(|shape| shape.periodicity)),
        deviation(&levels),
        loudest_at,
        mean(track.iter().map(|shape| shape.centroid_hz)) / 1_000.0,
    ]);
    colour.copy_from_slice(&colour_of(&track));
    out
}

/// Band levels over the whole vocalisation, in dB relative to the strongest band, -60 to 0.
fn colour_of(track: &[Shape]) -> [f32; BANDS] {
    let levels: [f32; BANDS] = std::array::from_fn(|band| decibels(track.iter().map(|shape| shape.bands[band]).sum()));
    let strongest = levels.iter().copied().fold(f32::MIN, f32::max);
    levels.map(|level| (level - strongest).max(-60.0))
}

/// [`Shape::power`] of a window of noise of this level.
fn power_of_dbfs(dbfs: f32) -> f32 {
    NOISE_POWER * 10_f32.powf(dbfs / 10.0)
}

fn decibels(power: f32) -> f32 {
    10.0 * power.max(1e-12).log10()
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / count.max(1) as f32
}

fn deviation(values: &[f32]) -> f32 {
    let middle = mean(values.iter().copied());
    mean(values.iter().map(|value| (value - middle).powi(2))).sqrt()
}

/// Slope and curvature of the least-squares parabola through points with x from -1 to 1, each clamped to -3 to 3. Both
/// are 0 for fewer than four points. The fit uses polynomials that are orthogonal over these points, so that each
/// coefficient is a quotient of two means and no linear system needs solving.
fn parabola(points: &[(f32, f32)]) -> [f32; 2] {
    if points.len() < 4 {
        return [0.0; 2];
    }
    let over = |value: &dyn Fn(f32, f32) -> f32| mean(points.iter().map(|(x, y)| value(*x, *y)));
    let middle = over(&|x, _| x);
    let first = |x: f32| x - middle;
    let spread = over(&|x, _| first(x) * first(x));
    if spread < 1e-6 {
        return [0.0; 2];
    }
    let skew = over(&|x, _| first(x) * first(x) * first(x)) / spread;
    let second = |x: f32| first(x) * first(x) - skew * first(x) - spread;
    let size = over(&|x, _| second(x) * second(x));
    let slope = over(&|x, y| first(x) * y) / spread;
    let curvature = if size < 1e-6 { 0.0 } else { over(&|x, y| second(x) * y) / size };
    [slope.clamp(-3.0, 3.0), curvature.clamp(-3.0, 3.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three harmonics of a pitch that moves linearly, 0.6 s.
    fn glide(from_hz: f32, to_hz: f32, peak: f32) -> Vec<i16> {
        let mut phase = 0.0_f32;
        (0..9_600)
            .map(|n| {
                phase += std::f32::consts::TAU * (from_hz + (to_hz - from_hz) * n as f32 / 9_600.0) / 16_000.0;
                let voice = phase.sin() + (2.0 * phase).sin() / 2.0 + (3.0 * phase).sin() / 3.0;
                (voice * peak * 15_000.0) as i16
            })
            .collect()
    }

    #[test]
    fn rising_and_falling_melodies_have_opposite_slopes() {
        let mut meter = Meter::default();
        let (up, down) = (
            prosody(&mut meter, &glide(400.0, 800.0, 0.5), -120.0),
            prosody(&mut meter, &glide(800.0, 400.0, 0.5), -120.0),
        );
        assert!(up[6] > 0.3 && down[6] < -0.3, "{} and {}", up[6], down[6]);
        assert!((up[2] - 600_f32.log2()).abs() < 0.1, "median {}", up[2]);
        assert!(up[8] > 0.9 && down[8] < -0.9);
    }

    #[test]
    fn level_changes_nothing() {
        let mut meter = Meter::default();
        let (loud, soft) = (
            prosody(&mut meter, &glide(500.0, 600.0, 1.0), -120.0),
            prosody(&mut meter, &glide(500.0, 600.0, 0.05), -120.0),
        );
        // Number 12 is the time of the loudest window, which is anywhere in a steady tone.
        for (number, (loud, soft)) in loud.iter().zip(&soft).enumerate().filter(|(number, _)| *number != 12) {
            assert!((loud - soft).abs() < 0.3, "{number}: {loud} and {soft}");
        }
    }

    #[test]
    fn anything_gives_finite_numbers() {
        let mut meter = Meter::default();
        for audio in
            [vec![], vec![0; 8_000], vec![7; 3], vec![i16::MIN; 8_000], glide(500.0, 500.0, 1.0)[..700].to_vec()]
        {
            assert!(
                prosody(&mut meter, &audio, -60.0).iter().all(|number| number.is_finite()),
                "{} samples",
                audio.len()
            );
        }
    }
}
