//! The whole analysis on noise with recorded meows in it.

use super::*;

/// A recorded meow from its onset on, 1.15 s.
fn meow() -> Vec<i16> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clips/meow_alone.wav");
    let mut wav = hound::WavReader::open(path).expect("the clip is in the repository");
    wav.samples::<i16>().skip(8000).take(18_400).map(|sample| sample.expect("the clip is whole")).collect()
}

/// Soft noise with meows in it.
fn meows(seconds: f32, starts_s: &[f32]) -> Vec<i16> {
    let mut audio = vec![0i16; (seconds * 16000.0) as usize];
    let mut state = 7u32;
    for sample in &mut audio {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = ((state >> 16) as i16) / 600;
    }
    let meow = meow();
    for start_s in starts_s {
        let start = (start_s * 16000.0) as usize;
        for (sample, voice) in audio[start..].iter_mut().zip(&meow) {
            *sample += voice;
        }
    }
    audio
}

fn analyse(audio: &[i16], chunk: usize) -> Analysis {
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    audio.chunks(chunk).for_each(|chunk| analyzer.push(chunk));
    analyzer.finish()
}

#[test]
fn meows_are_found_where_they_are() {
    let found = analyse(&meows(9.0, &[1.0, 3.5, 6.5]), 320);
    let starts: Vec<f64> = found.detections.iter().map(|d| d.start_sample as f64 / 16000.0).collect();
    assert_eq!(starts.len(), 3, "{found:?}");
    for (found, truth) in starts.iter().zip([1.0, 3.5, 6.5]) {
        assert!((found - truth).abs() < 0.2, "{starts:?}");
    }
    assert_eq!(found.duration_s, 9.0);
}

#[test]
fn chunking_changes_nothing() {
    let audio = meows(6.0, &[0.7, 2.2, 4.1]);
    let whole = analyse(&audio, audio.len());
    for chunk in [1, 7, 160, 321, 16000, 50_001] {
        assert_eq!(analyse(&audio, chunk), whole, "chunks of {chunk}");
    }
}

/// The calls follow each other so closely that the longest vocalisation is cut.
#[test]
fn a_recording_gives_what_a_live_stream_gives() {
    let starts: Vec<f32> = (0..12).map(|n| 1.0 + 1.1 * n as f32).chain([20.0]).collect();
    let audio = meows(23.0, &starts);
    let run = |mut analyzer: Analyzer| {
        audio.chunks(5_000).for_each(|piece| analyzer.push(piece));
        analyzer.push_gap(320);
        analyzer.push(&audio[..50_000]);
        analyzer.finish_vocalisations()
    };
    let live = run(Analyzer::new(DetectorConfig::default()));
    assert!(live.1.len() >= 4, "{live:?}");
    assert_eq!(run(Analyzer::of_recording(DetectorConfig::default())), live);
}

#[test]
fn silence_dc_and_clipped_noise_hold_no_cat() {
    let mut state = 1u32;
    let noise = (0..48000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { i16::MIN } else { i16::MAX }
    });
    for audio in [vec![0; 48000], vec![12000; 48000], vec![i16::MAX; 48000], noise.collect()] {
        let found = analyse(&audio, 320);
        assert_eq!(found.detections, []);
        assert!(found.cat_score.is_finite() && found.cat_score < 0.5, "{found:?}");
    }
}

#[test]
fn positions_go_on_after_a_gap() {
    let audio = meows(4.0, &[1.0]);
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    analyzer.push(&audio);
    analyzer.push_gap(320 * 500);
    analyzer.push(&audio);
    let found = analyzer.finish();
    let starts: Vec<u64> = found.detections.iter().map(|d| d.start_sample).collect();
    assert_eq!(starts.len(), 2, "{found:?}");
    assert_eq!(starts[1] - starts[0], 4 * 16000 + 320 * 500);
    assert_eq!(found.duration_s, 18.0);
}

#[test]
fn a_gap_in_mid_meow_ends_it() {
    let audio = meows(2.0, &[1.0]);
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    analyzer.push(&audio[..16000 + 8100]);
    assert!(analyzer.decided_until() < 16000 + 1600);
    analyzer.push_gap(320);
    let found = analyzer.take_detections();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].end_sample <= 16000 + 8100);
    assert_eq!(analyzer.decided_until(), 16000 + 8100 + 320);
}

#[test]
fn memory_is_bounded_however_long_the_sound() {
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    let audio = meows(2.0, &[0.5]);
    for _ in 0..200 {
        analyzer.push(&audio);
        analyzer.take_detections();
        assert!(analyzer.recent.capacity() <= 16 * 16000, "{}", analyzer.recent.capacity());
    }
}
