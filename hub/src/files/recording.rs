//! One recording: from the bytes of a WAV file to what was found in it, in constant memory.

use std::io::{self, Read};
use std::path::Path;

use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analysis, Analyzer, Heard};
use sound::detector::DetectorConfig;
use sound::framer::{Framer, FramerError};

/// Samples (of all channels together) that are read at a time: what a long file takes of memory.
const CHUNK_SAMPLES: usize = 8_192;

/// Channels that a recording may have.
const MOST_CHANNELS: u16 = 64;

/// Silence that is pushed after the end at most, in seconds, until the last sample has come through the resampler. Its
/// filter delays by some hundredths of a second.
const MAX_FLUSH_S: u32 = 2;

/// Why a file cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read, or is no WAV file that we understand.
    #[error("{0}")]
    Wav(#[from] hound::Error),
    /// It cannot be looked at.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its format makes no sense.
    #[error("{0}")]
    Format(#[from] FramerError),
    /// It has too many channels.
    #[error("{0} channels are more than {MOST_CHANNELS}")]
    Channels(u16),
    /// Its samples have a size that we do not know.
    #[error("samples of {0} bits are not understood")]
    Bits(u16),
    /// A folder without anything to analyse.
    #[error("no WAV file in this folder")]
    EmptyFolder,
    /// A fault of ours: it broke the analysis.
    #[error("the analysis broke")]
    Crash,
}

/// Analyses a WAV file, whatever its length. The detections are in the second part of the answer.
///
/// # Errors
/// See [`FileError`].
pub fn analyze_file(path: &Path, config: DetectorConfig) -> Result<(Analysis, Vec<Heard>), FileError> {
    analyze_wav(hound::WavReader::open(path)?, config)
}

/// As [`analyze_file`].
///
/// # Errors
/// See [`FileError`].
pub fn analyze_wav<R: Read>(
    reader: hound::WavReader<R>,
    config: DetectorConfig,
) -> Result<(Analysis, Vec<Heard>), FileError> {
    let spec = reader.spec();
    if spec.channels > MOST_CHANNELS {
        return Err(FileError::Channels(spec.channels));
    }
    let mut framer = Framer::new(spec.sample_rate, spec.channels)?;
    let mut analyzer = Analyzer::new(config);
    let moments = u64::from(reader.duration());
    let mut left = rescaled(moments, spec.sample_rate);
    let mut push = |samples: &[f32]| {
        framer.push(samples, |frame| {
            let whole = usize::try_from(left).unwrap_or(usize::MAX).min(frame.len());
            analyzer.push(&frame[..whole]);
            left -= whole as u64;
        });
        left
    };

    let channels = usize::from(spec.channels);
    let mut chunk = Vec::with_capacity(CHUNK_SAMPLES / channels * channels);
    for sample in samples(reader)? {
        chunk.push(sample?);
        if chunk.len() == chunk.capacity() {
            push(&chunk);
            chunk.clear();
        }
    }
    // Half a moment at the end of a broken file is no sound.
    chunk.truncate(chunk.len() / channels * channels);
    push(&chunk);
    let silence = vec![0.0; channels * (spec.sample_rate as usize / 50).max(1)];
    for _ in 0..MAX_FLUSH_S * 50 {
        if push(&[]) == 0 {
            break;
        }
        push(&silence);
    }
    Ok(analyzer.finish_heard())
}

/// Length at 16 kHz of so many samples at another rate, rounded up.
fn rescaled(samples: u64, sample_rate_hz: u32) -> u64 {
    (samples * u64::from(SAMPLE_RATE_HZ)).div_ceil(u64::from(sample_rate_hz))
}

type Samples<'a> = Box<dyn Iterator<Item = Result<f32, hound::Error>> + 'a>;

/// The samples of a file, -1 to 1, channels interleaved.
fn samples<'a, R: Read + 'a>(reader: hound::WavReader<R>) -> Result<Samples<'a>, FileError> {
    let spec = reader.spec();
    Ok(match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Float, _) => {
            // A float can be anything at all.
            let clean = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
            Box::new(reader.into_samples::<f32>().map(move |sample| sample.map(clean)))
        }
        (hound::SampleFormat::Int, bits @ 1..=32) => {
            let scale = 1.0 / (1_u64 << (bits - 1)) as f32;
            Box::new(reader.into_samples::<i32>().map(move |sample| sample.map(|sample| sample as f32 * scale)))
        }
        (hound::SampleFormat::Int, bits) => return Err(FileError::Bits(bits)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::tests::{spec, wav};
    use super::*;

    fn analyze(path: &Path) -> Result<Analysis, FileError> {
        Ok(analyze_file(path, DetectorConfig::default())?.0)
    }

    #[test]
    fn any_format_gives_the_same_length_and_level() {
        use hound::SampleFormat::{Float, Int};
        let dir = tempfile::tempdir().unwrap();
        for (rate, channels, bits, format) in [
            (16_000, 1, 16, Int),
            (8_000, 1, 8, Int),
            (44_100, 2, 16, Int),
            (48_000, 2, 24, Int),
            (22_050, 1, 32, Int),
            (96_000, 3, 32, Float),
            (44_101, 1, 16, Int),
        ] {
            let path = wav(dir.path(), "tone.wav", spec(rate, channels, bits, format), 1.5);
            let analysis = analyze(&path).unwrap();
            assert!((analysis.duration_s - 1.5).abs() < 1e-3, "{rate} Hz: {} s", analysis.duration_s);
            // A sine of half of full scale.
            let rms_dbfs = analysis.level.rms_dbfs;
            assert!((rms_dbfs - -9.03).abs() < 0.3, "{rate} Hz, {channels} x {bits} bits: {rms_dbfs} dBFS");
        }
    }

    #[test]
    fn empty_recording_has_no_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = wav(dir.path(), "empty.wav", spec(44_100, 2, 16, hound::SampleFormat::Int), 0.0);
        let (analysis, heard) = analyze_file(&path, DetectorConfig::default()).unwrap();
        assert_eq!((analysis.duration_s, heard.len()), (0.0, 0));
    }

    #[test]
    fn what_is_no_recording_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.wav");
        std::fs::write(&text, "meow").unwrap();
        assert!(analyze(&text).is_err());
        assert!(analyze(&dir.path().join("missing.wav")).is_err());
        let cut = wav(dir.path(), "cut.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 1.0);
        let bytes = std::fs::read(&cut).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        assert!(analyze(&cut).is_err(), "half a recording passed for a whole one");
        let wide = wav(dir.path(), "wide.wav", spec(16_000, 65, 16, hound::SampleFormat::Int), 0.1);
        assert!(matches!(analyze(&wide), Err(FileError::Channels(65))));
    }

    /// Breaks a good file in one of many ways: bytes of the header or anywhere, a length, the end.
    fn broken(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..random.random_range(1..6) {
            match random.random_range(0..5) {
                0 => bytes.truncate(random.random_range(0..=bytes.len())),
                1 => bytes.extend((0..random.random_range(1..200)).map(|_| random.random::<u8>())),
                2 if bytes.len() > 60 => {
                    let field = random.random_range(0..56);
                    let value = [0, 1, 2, 0x7fff_ffff, 0xffff_ffff, random.random()][random.random_range(0..6)];
                    bytes[field..field + 4].copy_from_slice(&u32::to_le_bytes(value));
                }
                3 if !bytes.is_empty() => {
                    let from = random.random_range(0..bytes.len());
                    let to = (from + random.random_range(1..100)).min(bytes.len());
                    bytes[from..to].fill_with(|| random.random());
                }
                _ if !bytes.is_empty() => {
                    let place = random.random_range(0..bytes.len().min(64));
                    bytes[place] = random.random();
                }
                _ => {}
            }
        }
        bytes
    }

    #[test]
    fn broken_files_are_errors_or_recordings_and_nothing_else() {
        use hound::SampleFormat::{Float, Int};
        let dir = tempfile::tempdir().unwrap();
        let originals = [(16_000, 1, 16, Int), (8_000, 2, 8, Int), (44_100, 1, 24, Int), (48_000, 2, 32, Float)].map(
            |(rate, channels, bits, format)| {
                std::fs::read(wav(dir.path(), "whole.wav", spec(rate, channels, bits, format), 0.1)).unwrap()
            },
        );
        let mut random = StdRng::seed_from_u64(20_261_125);
        let (mut errors, mut heard) = (0, 0);
        for round in 0..4_000 {
            let bytes = broken(&originals[round % originals.len()], &mut random);
            let analysed = hound::WavReader::new(Cursor::new(&bytes))
                .map_err(FileError::from)
                .and_then(|reader| analyze_wav(reader, DetectorConfig::default()));
            match analysed {
                Ok((analysis, _)) => {
                    heard += 1;
                    assert!(analysis.cat_score.is_finite() && analysis.level.rms_dbfs.is_finite(), "round {round}");
                }
                Err(_) => errors += 1,
            }
        }
        assert!(errors > 100 && heard > 100, "the control: {errors} errors, {heard} recordings");
    }
}
