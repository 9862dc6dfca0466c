//! Recordings that are damaged, or in formats that `hub analyze` does not know.

use std::io::Cursor;

use fuzzing::{hold, nearly};
use proptest::prelude::*;
use sound::detector::DetectorConfig;

use super::recording::analyze_file;

/// A WAV file in this format: some samples of each channel.
fn wav(channels: u16, sample_rate: u32, bits_per_sample: u16, sample_format: hound::SampleFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let spec = hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format };
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for n in 0..i32::from(channels) * 200 {
        match sample_format {
            hound::SampleFormat::Int => writer.write_sample(n % 100).unwrap(),
            hound::SampleFormat::Float => writer.write_sample(n as f32 / 800.0).unwrap(),
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}

#[test]
fn recording_is_analysed_or_refused_with_a_reason() {
    use hound::SampleFormat::{Float, Int};
    let formats = [(1, 16_000, 16, Int), (2, 44_100, 24, Int), (1, 8_000, 8, Int), (2, 48_000, 32, Float)];
    let seeds = formats.map(|(channels, rate, bits, format)| wav(channels, rate, bits, format)).to_vec();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.wav");
    hold(400, &nearly(seeds, &["data", "fmt ", "LIST", "RIFF", "fact", "\u{7f}\u{7f}"]), |bytes| {
        std::fs::write(&path, &bytes).unwrap();
        match analyze_file(&path, DetectorConfig::default()) {
            // A second of audio has at least 4,000 samples of one byte.
            Ok((analysis, _)) => {
                prop_assert!(analysis.duration_s <= bytes.len() as f64 / 3_999.0, "{} s", analysis.duration_s);
            }
            Err(error) => prop_assert!(error.to_string().len() > 10, "no reason: {error}"),
        }
        Ok(())
    });
}
