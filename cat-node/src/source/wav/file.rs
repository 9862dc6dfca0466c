//! One WAV file, read in pieces, as numbers from -1 to 1.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use daemon::cause::without_number;
use hound::{SampleFormat, WavReader};
use sound::framer::SOURCE_RATES_HZ;

use crate::source::interface::SourceFormat;

/// A WAV file that cannot be played.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(super) struct WavError {
    path: PathBuf,
    why: String,
}

/// An open WAV file of 8, 16, 24 or 32 bits, or of 32-bit floats.
pub(super) struct WavFile {
    path: PathBuf,
    reader: WavReader<BufReader<File>>,
    format: SourceFormat,
    sample_format: SampleFormat,
    /// The value of full scale in the file.
    full_scale: f32,
}

impl WavFile {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<Self, WavError> {
        let refuse = |why: String| WavError { path: path.into(), why };
        let reader = WavReader::open(path).map_err(|error| refuse(explain(&error)))?;
        let spec = reader.spec();
        if spec.channels == 0 {
            return Err(refuse("it has no channels".into()));
        }
        if !SOURCE_RATES_HZ.contains(&spec.sample_rate) {
            return Err(refuse(format!("its rate of {} Hz is not between 4 and 384 kHz", spec.sample_rate)));
        }
        if reader.len() == 0 {
            return Err(refuse("it has no samples".into()));
        }
        let full_scale = match (spec.sample_format, spec.bits_per_sample) {
            (SampleFormat::Float, 32) => 1.0,
            (SampleFormat::Int, bits @ (8 | 16 | 24 | 32)) => 2_f32.powi(i32::from(bits) - 1),
            (_, bits) => {
                return Err(refuse(format!("samples of {bits} bits are not supported; convert it to 16 bits")));
            }
        };
        Ok(Self {
            path: path.into(),
            reader,
            format: SourceFormat { sample_rate_hz: spec.sample_rate, channels: spec.channels },
            sample_format: spec.sample_format,
            full_scale,
        })
    }

    pub(super) fn format(&self) -> SourceFormat {
        self.format
    }

    /// Appends up to `samples` samples, the same number for each channel, and returns how many. 0: the end of the file.
    /// At an error, the samples before it are appended.
    pub(super) fn read(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let channels = usize::from(self.format.channels);
        let samples = samples.next_multiple_of(channels);
        let before = out.len();
        let result = match self.sample_format {
            SampleFormat::Float => append(out, self.reader.samples::<f32>().take(samples)),
            SampleFormat::Int => {
                let scale = 1.0 / self.full_scale;
                append(out, self.reader.samples::<i32>().take(samples).map(|read| read.map(|n| n as f32 * scale)))
            }
        };
        out.truncate(before + (out.len() - before) / channels * channels);
        result.map_err(|error| WavError { path: self.path.clone(), why: explain(&error) })?;
        Ok(out.len() - before)
    }
}

fn append(out: &mut Vec<f32>, samples: impl Iterator<Item = hound::Result<f32>>) -> hound::Result<()> {
    for sample in samples {
        let sample = sample?;
        out.push(if sample.is_finite() { sample } else { 0.0 });
    }
    Ok(())
}

fn explain(error: &hound::Error) -> String {
    match error {
        hound::Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it is cut off: the file is shorter than its header says".into()
        }
        hound::Error::IoError(error) => format!("cannot be read: {}", without_number(error)),
        hound::Error::FormatError(why) => format!("it is not a WAV file that can be played: {why}"),
        hound::Error::Unsupported => "its encoding is not supported; convert it to plain samples (PCM or float)".into(),
        other => format!("it is not a WAV file that can be played: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples are -1, 0, 0.5 and nearly 1 in each of the encodings.
    #[test]
    fn every_encoding_gives_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        for (bits, format) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            let spec = hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: bits, sample_format: format };
            let mut writer = hound::WavWriter::create(&path, spec).unwrap();
            if format == SampleFormat::Float {
                [-1.0_f32, 0.0, 0.5, 1.0].into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
            } else {
                let top = 1_i64 << (bits - 1);
                for sample in [-top, 0, top / 2, top - 1] {
                    writer.write_sample(sample as i32).unwrap();
                }
            }
            writer.finalize().unwrap();
            let mut out = Vec::new();
            let mut file = WavFile::open(&path).unwrap();
            assert_eq!(file.read(100, &mut out).unwrap(), 4);
            assert_eq!(out[..3], [-1.0, 0.0, 0.5], "{bits} bits");
            assert!((0.99..=1.0).contains(&out[3]), "{bits} bits: {}", out[3]);
            assert_eq!(file.read(100, &mut out).unwrap(), 0);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_delivers_what_it_has_and_then_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.wav");
        let spec =
            hound::WavSpec { channels: 2, sample_rate: 8000, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        (0..1000_i16).for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1001]).unwrap();
        let mut out = Vec::new();
        let error = WavFile::open(&path).unwrap().read(1000, &mut out).unwrap_err().to_string();
        assert!(error.contains("cut.wav: "), "{error}");
        assert_eq!(out.len(), 498, "as many samples for each channel");
    }

    #[test]
    fn a_rate_out_of_bounds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slow.wav");
        let spec =
            hound::WavSpec { channels: 1, sample_rate: 100, bits_per_sample: 16, sample_format: SampleFormat::Int };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        writer.write_sample(1_i16).unwrap();
        writer.finalize().unwrap();
        let error = WavFile::open(&path).err().unwrap().to_string();
        assert!(error.contains("slow.wav: its rate of 100 Hz"), "{error}");
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly};
    use proptest::prelude::*;

    use super::*;

    /// A WAV file in this format: some samples of each channel.
    fn wav(channels: u16, bits_per_sample: u16, sample_format: SampleFormat) -> Vec<u8> {
        let mut file = std::io::Cursor::new(Vec::new());
        let spec = hound::WavSpec { channels, sample_rate: 44_100, bits_per_sample, sample_format };
        let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
        for n in 0..i32::from(channels) * 50 {
            match sample_format {
                SampleFormat::Int => writer.write_sample(n).unwrap(),
                SampleFormat::Float => writer.write_sample(n as f32).unwrap(),
            }
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    #[test]
    fn damaged_file_is_played_as_far_as_it_goes_or_refused_with_its_name() {
        let formats = [(1, 16, SampleFormat::Int), (2, 24, SampleFormat::Int), (2, 32, SampleFormat::Float)];
        let seeds = formats.map(|(channels, bits, format)| wav(channels, bits, format)).to_vec();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        hold(1_000, &nearly(seeds, &["data", "fmt ", "LIST", "RIFF"]), |bytes| {
            std::fs::write(&path, &bytes).unwrap();
            let mut file = match WavFile::open(&path) {
                Ok(file) => file,
                Err(error) => {
                    prop_assert!(error.to_string().contains("a.wav: "), "{error}");
                    return Ok(());
                }
            };
            let (mut out, channels) = (Vec::new(), usize::from(file.format().channels));
            loop {
                let before = out.len();
                let read = file.read(1_000, &mut out);
                prop_assert!(out.len() % channels == 0 && out.iter().all(|sample| sample.is_finite()));
                prop_assert!(out.len() <= bytes.len(), "more samples than bytes");
                match read {
                    Ok(0) => break,
                    Ok(read) => prop_assert_eq!(read, out.len() - before),
                    Err(error) => {
                        prop_assert!(error.to_string().contains("a.wav: "), "{error}");
                        break;
                    }
                }
            }
            Ok(())
        });
    }
}
