//! Sines of many rates through the framer.

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
fn samples_are_rounded_to_the_nearest_value() {
    let near = |value: f32| [value.next_down(), value, value.next_up()];
    let halves = (-140_000..140_000).flat_map(|quarter| near(quarter as f32 / 4.0 / 32_768.0));
    for sample in halves.chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, f32::MIN_POSITIVE]) {
        assert_eq!(to_s16(sample), (sample * 32_768.0).round() as i16, "{sample}");
    }
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
        // Away from the start the result is the same sine, sampled at 16 kHz from the same moment on.
        let worst = (1000..out.len())
            .map(|n| (f64::from(out[n]) / 32768.0 - 0.5 * (TAU * 700.0 * n as f64 / 16_000.0).sin()).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-3, "{rate}: off by {worst}");
    }
}

#[test]
fn passband_is_flat_to_7_khz_and_nothing_folds_back() {
    for rate in [22_050, 24_000, 32_000, 44_100, 44_101, 48_000, 96_000, 192_000] {
        for (frequency_hz, least_db, most_db) in [
            (100.0, -0.05, 0.05),
            (3000.0, -0.05, 0.05),
            (7000.0, -0.1, 0.05),
            (8800.0, f64::NEG_INFINITY, -80.0),
            (12_000.0, f64::NEG_INFINITY, -80.0),
            (15_900.0, f64::NEG_INFINITY, -80.0),
        ] {
            if frequency_hz > f64::from(rate) / 2.0 {
                continue;
            }
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
fn reset_starts_over() {
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
