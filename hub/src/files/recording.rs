//! Analyses one WAV file, in constant memory.

use std::io::{self, Read};
use std::path::Path;

use daemon::cause::cause;
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analysis, Analyzer, Vocalisation};
use sound::detector::DetectorConfig;
use sound::framer::{Framer, FramerError};

/// Samples (of all channels together) that are read at a time. They bound the memory for a long file.
const CHUNK_SAMPLES: usize = 8_192;

/// Most channels of a recording.
const MOST_CHANNELS: u16 = 64;

/// Most seconds of silence that are pushed after the end, to get the last sample out of the resampler. Its filter
/// delays by some hundredths of a second.
const MAX_FLUSH_S: u32 = 2;

/// Why a file cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read, or is not a supported WAV file.
    #[error("{}", wav_cause(.0))]
    Wav(#[from] hound::Error),
    /// The file or folder cannot be read.
    #[error("cannot be read: {}", cause(.0))]
    Io(#[from] io::Error),
    /// The sample rate or the number of channels is invalid.
    #[error("{0}")]
    Format(#[from] FramerError),
    /// The file has too many channels.
    #[error("the file has {0} channels; at most {MOST_CHANNELS} are supported")]
    Channels(u16),
    /// The samples have an unsupported size.
    #[error("samples of {0} bits are not supported")]
    Bits(u16),
    /// The folder has no WAV file.
    #[error("no WAV file in this folder")]
    EmptyFolder,
    /// The analysis panicked: a bug of this program.
    #[error("the analysis crashed, which is a bug; please report it with this file")]
    Crash,
}

/// What is wrong with a WAV file, in words for people.
fn wav_cause(error: &hound::Error) -> String {
    match error {
        hound::Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "cut off: the file is shorter than its header says".to_owned()
        }
        hound::Error::IoError(error) => format!("cannot be read: {}", cause(error)),
        hound::Error::Unsupported => "the encoding is not supported; convert it to PCM or float samples".to_owned(),
        hound::Error::FormatError(why) => format!("not a WAV file: {why}"),
        other => format!("not a WAV file: {other}"),
    }
}

/// Analyses a WAV file of any length. The second part of the result has the detections.
///
/// # Errors
/// See [`FileError`].
pub fn analyze_file(path: &Path, config: DetectorConfig) -> Result<(Analysis, Vec<Vocalisation>), FileError> {
    analyze_wav(hound::WavReader::open(path)?, config)
}

/// Does what [`analyze_file`] does, with an open WAV file.
///
/// # Errors
/// See [`FileError`].
pub fn analyze_wav<R: Read>(
    reader: hound::WavReader<R>,
    config: DetectorConfig,
) -> Result<(Analysis, Vec<Vocalisation>), FileError> {
    let spec = reader.spec();
    if spec.channels > MOST_CHANNELS {
        return Err(FileError::Channels(spec.channels));
    }
    let mut framer = Framer::new(spec.sample_rate, spec.channels)?;
    let mut analyzer = Analyzer::new(config);
    let frames = u64::from(reader.duration());
    let mut left = rescaled(frames, spec.sample_rate);
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
    // A damaged file may end with samples of only some channels. They are dropped.
    chunk.truncate(chunk.len() / channels * channels);
    push(&chunk);
    let silence = vec![0.0; channels * (spec.sample_rate as usize / 50).max(1)];
    for _ in 0..MAX_FLUSH_S * 50 {
        if push(&[]) == 0 {
            break;
        }
        push(&silence);
    }
    Ok(analyzer.finish_vocalisations())
}

/// Number of samples at 16 kHz that are as long as `samples` at another rate, rounded up.
fn rescaled(samples: u64, sample_rate_hz: u32) -> u64 {
    (samples * u64::from(SAMPLE_RATE_HZ)).div_ceil(u64::from(sample_rate_hz))
}

type Samples<'a> = Box<dyn Iterator<Item = Result<f32, hound::Error>> + 'a>;

/// The samples of a file, -1 to 1, channels interleaved.
fn samples<'a, R: Read + 'a>(reader: hound::WavReader<R>) -> Result<Samples<'a>, FileError> {
    let spec = reader.spec();
    Ok(match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Float, _) => {
            // A float may be infinite or not a number.
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
mod tests;
