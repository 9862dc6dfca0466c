//! One WAV file, read in pieces, as numbers from -1 to 1.

use std::path::{Path, PathBuf};

use daemon::cause::without_number;
use recordings::{Channel, Format, RecordingError, Wave};

use crate::source::interface::SourceFormat;

/// A WAV file that cannot be played.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub(super) struct WavError {
    path: PathBuf,
    why: String,
}

/// An open WAV file, and the channel of it that is played.
pub(super) struct WavFile {
    path: PathBuf,
    wave: Wave,
    channel: Channel,
    format: SourceFormat,
}

impl WavFile {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path, channel: Channel) -> Result<Self, WavError> {
        let refuse = |why: String| WavError { path: path.into(), why };
        let wave = Wave::open(path).map_err(|error| refuse(explain(&error)))?;
        let Format { sample_rate_hz, channels } = wave.format();
        let Some(channels) = channel.left_of(channels) else {
            return Err(refuse(format!("channel {channel} does not exist: the file has {channels}")));
        };
        if wave.frames() == Some(0) {
            return Err(refuse("it has no samples".into()));
        }
        Ok(Self { path: path.into(), wave, channel, format: SourceFormat { sample_rate_hz, channels } })
    }

    pub(super) fn format(&self) -> SourceFormat {
        self.format
    }

    /// What is odd about the file. It is played all the same.
    pub(super) fn warnings(&self) -> &[String] {
        self.wave.warnings()
    }

    /// Appends the next samples, some thousands, the same number for each channel, and returns how many. 0: the end of
    /// the file.
    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let before = out.len();
        self.wave.read(out).map_err(|error| WavError { path: self.path.clone(), why: explain(&error) })?;
        self.channel.pick(out, before, usize::from(self.wave.format().channels));
        Ok(out.len() - before)
    }
}

fn explain(error: &RecordingError) -> String {
    match error {
        RecordingError::Io(error) => format!("cannot be read: {}", without_number(error)),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(sample_rate: u32, channels: u16) -> hound::WavSpec {
        hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int }
    }

    fn stereo(path: &Path) {
        let mut writer = hound::WavWriter::create(path, spec(8000, 2)).unwrap();
        (0..1000_i16).for_each(|sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
    }

    #[test]
    fn a_file_that_is_cut_off_delivers_what_it_has_and_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.wav");
        stereo(&path);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1001]).unwrap();
        let mut out = Vec::new();
        let mut file = WavFile::open(&path, Channel::Mix).unwrap();
        while file.read(&mut out).unwrap() > 0 {}
        assert!(file.warnings()[0].contains("cut off"), "{:?}", file.warnings());
        assert_eq!(out.len(), 498, "as many samples for each channel");
    }

    #[test]
    fn one_channel_can_be_played() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stereo.wav");
        stereo(&path);
        let mut out = Vec::new();
        let mut file = WavFile::open(&path, Channel::One(2)).unwrap();
        assert_eq!(file.format(), SourceFormat { sample_rate_hz: 8000, channels: 1 });
        while file.read(&mut out).unwrap() > 0 {}
        assert_eq!((out.len(), out[1]), (500, 3.0 / 32_768.0));
        let error = WavFile::open(&path, Channel::One(3)).err().unwrap().to_string();
        assert!(error.contains("channel 3 does not exist: the file has 2"), "{error}");
    }

    #[test]
    fn a_rate_out_of_bounds_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slow.wav");
        let mut writer = hound::WavWriter::create(&path, spec(100, 1)).unwrap();
        writer.write_sample(1_i16).unwrap();
        writer.finalize().unwrap();
        let error = WavFile::open(&path, Channel::Mix).err().unwrap().to_string();
        assert!(error.contains("slow.wav: a sample rate of 100 Hz"), "{error}");
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly};
    use hound::SampleFormat;
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
            let mut file = match WavFile::open(&path, Channel::Mix) {
                Ok(file) => file,
                Err(error) => {
                    prop_assert!(error.to_string().contains("a.wav: "), "{error}");
                    return Ok(());
                }
            };
            let (mut out, channels) = (Vec::new(), usize::from(file.format().channels));
            loop {
                let before = out.len();
                let read = file.read(&mut out);
                prop_assert!(out.len() % channels == 0 && out.iter().all(|sample| sample.is_finite()));
                // A sample of ADPCM has four bits, and a block begins with whole samples.
                prop_assert!(out.len() <= 2 * bytes.len(), "more samples than bytes allow");
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
