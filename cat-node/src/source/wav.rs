//! Recordings as a source: one WAV file, or all of a folder in the order of their names, looped or once, in real time.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sound::SAMPLE_RATE_HZ;
use sound::framer::{FRAME_SAMPLES, Framer};
use tracing::warn;

use super::interface::{Read, Source, SourceError, SourceFormat};
use super::pace::{Due, Pace};
use file::WavFile;

/// Samples, of all channels, that are read of a file in one go.
const READ_SAMPLES: usize = 4096;

/// The files of a path, one after the other.
///
/// When their formats differ, each is made canonical by a framer of its own, and so is what the source delivers; otherwise
/// samples come as they are in the files.
pub(super) struct Wav {
    device: String,
    files: Vec<PathBuf>,
    once: bool,
    format: SourceFormat,
    canonical: bool,
    pace: Pace,
    /// The file that is playing, and its framer when the source is canonical.
    playing: Option<(WavFile, Option<Framer>)>,
    next_file: usize,
    /// Whether any sample came since the first file was last begun: else there is no sense in looping.
    heard: bool,
    /// Interleaved samples that were read and not given yet, from `given` on.
    buffer: Vec<f32>,
    given: usize,
    ended: bool,
}

impl Wav {
    /// Looks at every file.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] when there is nothing to play: it names the file and says why.
    pub(super) fn open(path: &Path, once: bool) -> Result<Self, SourceError> {
        let metadata = std::fs::metadata(path)
            .map_err(|error| SourceError::Fatal(format!("{}: cannot read the recording: {error}", path.display())))?;
        let mut files = Vec::new();
        let mut formats = Vec::new();
        if metadata.is_dir() {
            for file in wav_files_in(path)? {
                match WavFile::open(&file) {
                    Ok(wav) => {
                        formats.push(wav.format());
                        files.push(file);
                    }
                    Err(error) => warn!(%error, "recording is left out"),
                }
            }
            if files.is_empty() {
                return Err(SourceError::Fatal(format!("{}: no usable WAV file in this folder", path.display())));
            }
        } else {
            let wav = WavFile::open(path).map_err(|error| SourceError::Fatal(error.to_string()))?;
            formats.push(wav.format());
            files.push(path.to_owned());
        }
        let canonical = formats.iter().any(|format| *format != formats[0]);
        let format = if canonical { SourceFormat { sample_rate_hz: SAMPLE_RATE_HZ, channels: 1 } } else { formats[0] };
        Ok(Self {
            device: path.display().to_string(),
            files,
            once,
            format,
            canonical,
            pace: Pace::start(format.sample_rate_hz),
            playing: None,
            next_file: 0,
            heard: false,
            buffer: Vec::new(),
            given: 0,
            ended: false,
        })
    }

    /// Passes over so many samples of all channels, or appends them to `out`. Fewer come at the end of what is played once.
    fn take(&mut self, mut count: u64, mut out: Option<&mut Vec<f32>>) -> Result<(), SourceError> {
        while count > 0 {
            if self.given == self.buffer.len() {
                if self.ended {
                    return Ok(());
                }
                self.refill()?;
                continue;
            }
            let step = count.min((self.buffer.len() - self.given) as u64) as usize;
            if let Some(out) = &mut out {
                out.extend_from_slice(&self.buffer[self.given..self.given + step]);
            }
            self.given += step;
            count -= step as u64;
        }
        Ok(())
    }

    /// Reads on; at the end of a file the buffer may stay empty.
    fn refill(&mut self) -> Result<(), SourceError> {
        self.buffer.clear();
        self.given = 0;
        let Some((wav, framer)) = &mut self.playing else { return self.next_file() };
        let read = wav.read(READ_SAMPLES, &mut self.buffer);
        let at_end = !matches!(read, Ok(samples) if samples > 0);
        if let Err(error) = read {
            // What lies before the damage was played.
            warn!(%error, "recording is damaged");
        }
        if let Some(framer) = framer {
            let mut native = std::mem::take(&mut self.buffer);
            if at_end {
                // Silence pushes the last samples through the framer.
                let group = usize::from(wav.format().channels);
                native.resize(group * (wav.format().sample_rate_hz as usize / 50), 0.0);
            }
            framer.push(&native, |frame: &[i16; FRAME_SAMPLES]| {
                self.buffer.extend(frame.iter().map(|&sample| f32::from(sample) / 32768.0));
            });
        }
        self.heard |= !self.buffer.is_empty();
        if at_end {
            self.playing = None;
        }
        Ok(())
    }

    fn next_file(&mut self) -> Result<(), SourceError> {
        if self.next_file == self.files.len() {
            if self.once {
                self.ended = true;
                return Ok(());
            }
            if !std::mem::take(&mut self.heard) {
                return Err(SourceError::Reopen(format!("{}: nothing in it can be played any more", self.device)));
            }
            self.next_file = 0;
        }
        let path = &self.files[self.next_file];
        self.next_file += 1;
        match WavFile::open(path) {
            Ok(wav) if self.canonical => {
                let format = wav.format();
                match Framer::new(format.sample_rate_hz, format.channels) {
                    Ok(framer) => self.playing = Some((wav, Some(framer))),
                    Err(error) => warn!(path = %path.display(), %error, "recording is left out"),
                }
            }
            Ok(wav) if wav.format() == self.format => self.playing = Some((wav, None)),
            Ok(wav) => {
                let format = wav.format();
                warn!(path = %path.display(), ?format, "recording has changed its format and is left out");
            }
            Err(error) => warn!(%error, "recording is left out"),
        }
        Ok(())
    }
}

impl Source for Wav {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        let Due::Samples { count, lost } = self.pace.wait(max_wait) else { return Ok(Read::Nothing) };
        let channels = u64::from(self.format.channels);
        self.take(lost * channels, None)?;
        let before = samples.len();
        self.take(count as u64 * channels, Some(samples))?;
        if samples.len() == before {
            return Ok(Read::Ended);
        }
        Ok(if lost > 0 { Read::Overrun { lost_samples: lost } } else { Read::Samples })
    }
}

/// The `.wav` files of a folder, in the order of their names.
fn wav_files_in(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |error| SourceError::Fatal(format!("{}: cannot read the folder: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
