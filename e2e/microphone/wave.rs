//! Signals: makes them, and compares what was recorded with what was played.

use std::f64::consts::TAU;
use std::path::Path;

/// Samples of a WAV file of one channel and 16 bits, and its rate in hertz.
pub(crate) fn read(path: &Path) -> (Vec<i16>, u32) {
    let mut reader = hound::WavReader::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.bits_per_sample), (1, 16), "{}", path.display());
    (reader.samples::<i16>().map(|sample| sample.unwrap()).collect(), spec.sample_rate)
}

/// Writes a WAV file of one channel and 16 bits.
pub(crate) fn write(path: &Path, rate_hz: u32, samples: &[i16]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for &sample in samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
}

/// Writes a sine of half of full scale, at 48 kHz.
pub(crate) fn write_sine(path: &Path, frequency_hz: f64, seconds: u32) {
    let sample = |n| 16_384.0 * (TAU * frequency_hz * f64::from(n) / 48_000.0).sin();
    let samples: Vec<i16> = (0..48_000 * seconds).map(|n| sample(n).round() as i16).collect();
    write(path, 48_000, &samples);
}

/// A sine fitted to samples.
#[derive(Debug)]
pub(crate) struct Sine {
    /// Frequency, in hertz.
    pub(crate) frequency_hz: f64,
    /// Amplitude, full scale 1.
    pub(crate) amplitude: f64,
    /// Samples that do not follow from the two before them, as the samples of a sine do.
    pub(crate) breaks: Vec<usize>,
}

/// Fits a sine to 16 kHz samples. For any sine of angular step w, x[n+1] + x[n-1] = 2 cos(w) x[n]. The least squares of
/// this give w, and a sample that was dropped or repeated violates it.
pub(crate) fn fit_sine(samples: &[i16]) -> Sine {
    let x: Vec<f64> = samples.iter().map(|&sample| f64::from(sample) / 32_768.0).collect();
    let (mut with, mut square) = (0.0, 0.0);
    for triple in x.windows(3) {
        with += (triple[0] + triple[2]) * triple[1];
        square += triple[1] * triple[1];
    }
    let two_cos = with / square;
    let frequency_hz = (two_cos / 2.0).acos() / TAU * 16_000.0;
    let amplitude = (2.0 * square / x.len() as f64).sqrt();
    // Rounding to 16 bits changes the residue by at most 2 units, a phase jump by a part of the amplitude.
    let tolerance = 4.0 / 32_768.0;
    let breaks = x
        .windows(3)
        .enumerate()
        .filter(|(_, triple)| (triple[0] + triple[2] - two_cos * triple[1]).abs() > tolerance)
        .map(|(at, _)| at + 1)
        .collect();
    Sine { frequency_hz, amplitude, breaks }
}

/// Where `pattern` fits best into `samples`, and how well: the normalized cross-correlation, 1 for the same shape. The
/// two may have been sampled at different moments, so the pattern is also tried at fractions of a sample.
pub(crate) fn find(pattern: &[i16], samples: &[i16]) -> (usize, f64) {
    assert!(pattern.len() <= samples.len());
    let score = |pattern: &[i16], offset: usize| correlation(pattern, &samples[offset..offset + pattern.len()]);
    let envelope = |samples: &[i16]| -> Vec<i16> {
        samples
            .chunks(HOP)
            .map(|hop| (hop.iter().map(|&s| i64::from(s).abs()).sum::<i64>() / HOP as i64) as i16)
            .collect()
    };
    let best = |tried: &mut dyn Iterator<Item = (usize, f64)>| -> (usize, f64) {
        tried.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there is a place to try")
    };
    // First by the loudness, then to the sample, then to a fraction of a sample.
    let (loud_pattern, loud) = (envelope(pattern), envelope(samples));
    let (coarse, _) = best(
        &mut (0..=loud.len() - loud_pattern.len())
            .map(|offset| (offset, correlation(&loud_pattern, &loud[offset..offset + loud_pattern.len()]))),
    );
    let last = samples.len() - pattern.len();
    let near = (coarse * HOP).saturating_sub(4 * HOP)..=(coarse * HOP + 4 * HOP).min(last);
    let (fine, _) = best(&mut near.map(|offset| (offset, score(pattern, offset))));
    best(&mut (-STEPS..=STEPS).map(|step| {
        let delayed = delay(pattern, f64::from(step) / f64::from(2 * STEPS));
        (fine, score(&delayed, fine))
    }))
}

/// Steps per half sample.
const STEPS: i32 = 6;

/// Delays samples by less than one sample, with a windowed sinc.
fn delay(samples: &[i16], delay: f64) -> Vec<i16> {
    const HALF: i64 = 24;
    let taps: Vec<f64> = (-HALF..=HALF)
        .map(|tap| {
            let x = tap as f64 - delay;
            let sinc = if x.abs() < 1e-9 { 1.0 } else { (TAU / 2.0 * x).sin() / (TAU / 2.0 * x) };
            sinc * (0.5 + 0.5 * (TAU / 2.0 * x / (HALF + 1) as f64).cos())
        })
        .collect();
    let at =
        |index: i64| usize::try_from(index).ok().and_then(|index| samples.get(index)).map_or(0.0, |&s| f64::from(s));
    (0..samples.len() as i64)
        .map(|n| taps.iter().zip(-HALF..=HALF).map(|(weight, tap)| weight * at(n - tap)).sum::<f64>().round() as i16)
        .collect()
}

/// 10 ms.
const HOP: usize = 160;

fn correlation(a: &[i16], b: &[i16]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0_i64, 0_i64, 0_i64);
    for (&a, &b) in a.iter().zip(b) {
        let (a, b) = (i64::from(a), i64::from(b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab as f64 / ((aa as f64) * (bb as f64)).sqrt().max(1.0)
}
