//! The shipped network on recordings: it gives the same numbers as the training framework, however the audio is cut.

use std::path::Path;

use realfft::RealFftPlanner;
use serde::Deserialize;
use sound::detector::{Detector, DetectorConfig, Segment};
use sound::framer::Framer;
use sound::logmel::{LogMel, WINDOW_SAMPLES};
use sound::model::{Answer, Hearing, Model};

/// What the training framework computed for a clip. Its weights have 32 bits, the shipped ones 16.
#[derive(Deserialize)]
struct Golden {
    is_cat: bool,
    cat_logits: Vec<f32>,
    sound_logits: Vec<f32>,
}

fn clips() -> Vec<(String, Vec<i16>, Golden)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips");
    let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json is in the repository");
    let golden: std::collections::BTreeMap<String, Golden> =
        serde_json::from_str(&golden).expect("golden.json has the fields of Golden");
    golden
        .into_iter()
        .map(|(name, golden)| {
            let mut wav = hound::WavReader::open(folder.join(format!("{name}.wav"))).expect("the clip is there");
            let samples = wav.samples::<i16>().map(|sample| sample.expect("the clip is whole")).collect();
            (name, samples, golden)
        })
        .collect()
}

fn answers(samples: &[i16]) -> Vec<Answer> {
    let model = Model::shipped();
    let (mut front, mut hearing, mut heard) = (LogMel::new(), Hearing::new(model), Vec::new());
    for piece in [samples, &[0; WINDOW_SAMPLES]] {
        front.push(piece, |frame| hearing.push(model, frame, &mut |answer| heard.push(answer.clone())));
    }
    hearing.finish(model, &mut |answer| heard.push(answer.clone()));
    heard
}

fn detect(samples: &[i16], chunk: usize) -> (f32, Vec<Segment>) {
    let mut segments = Vec::new();
    let mut detector = Detector::new(Model::shipped(), DetectorConfig::default());
    for chunk in samples.chunks(chunk) {
        detector.push(chunk, |segment| segments.push(segment));
    }
    let score = detector.finish(|segment| segments.push(segment));
    (score, segments)
}

#[test]
fn the_network_computes_what_the_training_framework_did() {
    for (name, samples, golden) in clips() {
        let heard = answers(&samples);
        assert_eq!(heard.len(), golden.cat_logits.len(), "{name}");
        for (step, (answer, expected)) in heard.iter().zip(&golden.cat_logits).enumerate() {
            assert!(
                (answer.cat_logit - expected).abs() < 0.05,
                "{name}, step {step}: {} for {expected}",
                answer.cat_logit
            );
        }
        for (sound, expected) in golden.sound_logits.iter().enumerate() {
            let mean = heard.iter().map(|answer| answer.sound_logits[sound]).sum::<f32>() / heard.len() as f32;
            assert!((mean - expected).abs() < 0.05, "{name}, sound {sound}: {mean} for {expected}");
        }
    }
}

#[test]
fn cats_are_found_and_others_are_not() {
    for (name, samples, golden) in clips() {
        let (score, segments) = detect(&samples, 320);
        assert_eq!(score >= 0.5, golden.is_cat, "{name} scores {score}");
        assert_eq!(!segments.is_empty(), golden.is_cat, "{name}: {} segments", segments.len());
        for segment in segments {
            assert!(segment.start_sample < segment.end_sample && segment.end_sample <= samples.len() as u64, "{name}");
            assert!(segment.score <= score, "{name}: a segment scores above the clip");
        }
    }
}

#[test]
fn chunking_changes_no_bit() {
    for (name, samples, _) in clips() {
        let whole = detect(&samples, samples.len());
        for chunk in [1, 160, 320, 999, 16_000] {
            assert!(detect(&samples, chunk) == whole, "{name} in chunks of {chunk}");
        }
    }
}

#[test]
fn thirty_decibels_softer_is_still_a_cat() {
    for (name, samples, golden) in clips().into_iter().filter(|(_, _, golden)| golden.is_cat) {
        let soft: Vec<i16> = samples.iter().map(|sample| (f32::from(*sample) * 0.0316).round() as i16).collect();
        assert_eq!(detect(&soft, 320).0 >= 0.5, golden.is_cat, "{name}");
    }
}

/// Resamples a sound to another rate by way of its spectrum.
fn at_rate(samples: &[i16], rate_hz: usize) -> Vec<f32> {
    let mut planner = RealFftPlanner::<f32>::new();
    // A whole number of seconds, so that any rate gives a whole number of samples.
    let mut input: Vec<f32> = samples.iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    input.resize(input.len().next_multiple_of(16_000), 0.0);
    let count = input.len();
    let forward = planner.plan_fft_forward(count);
    let mut spectrum = forward.make_output_vec();
    forward.process(&mut input, &mut spectrum).expect("the lengths fit");
    let wanted = count / 16_000 * rate_hz;
    spectrum.resize(wanted / 2 + 1, Default::default());
    spectrum[wanted / 2].im = 0.0;
    let mut output = vec![0.0; wanted];
    planner.plan_fft_inverse(wanted).process(&mut spectrum, &mut output).expect("the lengths fit");
    output.iter().map(|value| value / count as f32).collect()
}

#[test]
fn the_rate_of_the_recording_changes_no_answer() {
    for (name, samples, golden) in clips() {
        let (score, _) = detect(&samples, 320);
        for rate_hz in [8_000, 22_050, 44_100, 48_000] {
            let mut framer = Framer::new(rate_hz, 1).expect("a common rate");
            let mut canonical = Vec::new();
            framer.push(&at_rate(&samples, rate_hz as usize), |frame| canonical.extend_from_slice(frame));
            let (other, _) = detect(&canonical, 320);
            assert_eq!(other >= 0.5, golden.is_cat, "{name} at {rate_hz} Hz: {other}");
            assert!((other - score).abs() < 0.15, "{name} at {rate_hz} Hz: {other} for {score}");
        }
    }
}

#[test]
fn every_number_is_a_number_at_any_level() {
    for (name, samples, _) in clips() {
        for gain in [1e-4, 0.03, 1.0, 40.0] {
            let samples: Vec<i16> = samples.iter().map(|sample| (f32::from(*sample) * gain) as i16).collect();
            for answer in answers(&samples) {
                let mut numbers = answer.sound_logits.iter().chain(&answer.embedding).chain([&answer.cat_logit]);
                assert!(numbers.all(|number| number.is_finite()), "{name} times {gain}");
            }
            let (score, segments) = detect(&samples, 320);
            let mut embedded = segments.iter().flat_map(|segment| segment.embedding.iter().chain([&segment.score]));
            assert!(score.is_finite() && embedded.all(|number| number.is_finite()), "{name} times {gain}");
        }
    }
}

#[test]
fn silence_dc_and_clipping_hold_no_cat() {
    let square =
        |period: usize| (0..32_000).map(|n| if n % period < period / 2 { i16::MIN } else { i16::MAX }).collect();
    let samples: [Vec<i16>; 6] =
        [vec![], vec![0; 32_000], vec![12_000; 32_000], vec![i16::MAX; 32_000], square(40), square(320)];
    for (number, samples) in samples.iter().enumerate() {
        let (score, segments) = detect(samples, 320);
        assert!(
            score.is_finite() && score < 0.5 && segments.is_empty(),
            "{number}: {score}, {} segments",
            segments.len()
        );
    }
}
