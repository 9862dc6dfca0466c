//! Recordings as a source: one WAV file, or all files of a folder by name, looped or once, in real time.

mod file;

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::cause::cause;
use recordings::Channel;
use sound::SAMPLE_RATE_HZ;
use sound::framer::{FRAME_SAMPLES, Framer};
use tracing::warn;

use super::interface::{Read, Source, SourceError, SourceFormat};
use super::pace::{Due, Pace};
use file::{WavError, WavFile};

/// Plays the files of a path one after the other.
///
/// If the files have different formats, a framer turns each into canonical audio, and the source delivers that.
/// Otherwise it delivers the samples as they are in the files.
pub(super) struct Wav {
    device: String,
    files: Vec<PathBuf>,
    once: bool,
    channel: Channel,
    format: SourceFormat,
    canonical: bool,
    pace: Pace,
    /// The file that is playing, and its framer if the source is canonical.
    playing: Option<(WavFile, Option<Framer>)>,
    next_file: usize,
    /// Whether there was any sample since the first file was last started. Without one, looping would never end.
    played: bool,
    /// Interleaved samples from the file. Those before `delivered` were delivered.
    buffer: Vec<f32>,
    delivered: usize,
    ended: bool,
}

/// Checks that a path has at least one recording of which this channel can be played.
///
/// # Errors
/// As [`Wav::open`].
pub(super) fn check(path: &Path, channel: Channel) -> Result<(), SourceError> {
    if !is_folder(path)? {
        return WavFile::open(path, channel).map(drop).map_err(|error| SourceError::Fatal(error.to_string()));
    }
    let mut first_error = None;
    for file in wav_files_in(path)? {
        match WavFile::open(&file, channel) {
            Ok(_) => return Ok(()),
            Err(error) => _ = first_error.get_or_insert(error),
        }
    }
    Err(nothing_to_play(path, first_error.as_ref()))
}

fn is_folder(path: &Path) -> Result<bool, SourceError> {
    let metadata = std::fs::metadata(path).map_err(|error| {
        SourceError::Fatal(format!("{}: cannot read the recording: {}", path.display(), cause(&error)))
    })?;
    Ok(metadata.is_dir())
}

/// A folder without a recording that can be played. `first_error`: why its first file cannot; `None` if it has none.
fn nothing_to_play(folder: &Path, first_error: Option<&WavError>) -> SourceError {
    SourceError::Fatal(match first_error {
        Some(error) => format!("{}: this folder has no usable WAV file; {error}", folder.display()),
        None => format!("{}: this folder has no WAV file; record some with \"cat-node record\"", folder.display()),
    })
}

impl Wav {
    /// Opens the files of a path, and reads the header of each.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] if there is nothing to play. It names the file and the reason.
    pub(super) fn open(path: &Path, once: bool, channel: Channel) -> Result<Self, SourceError> {
        let mut files = Vec::new();
        let mut formats = Vec::new();
        if is_folder(path)? {
            let mut first_error = None;
            for file in wav_files_in(path)? {
                match WavFile::open(&file, channel) {
                    Ok(wav) => {
                        warn_of(&file, &wav);
                        formats.push(wav.format());
                        files.push(file);
                    }
                    Err(error) => {
                        warn!(%error, "skipping a recording");
                        first_error.get_or_insert(error);
                    }
                }
            }
            if files.is_empty() {
                return Err(nothing_to_play(path, first_error.as_ref()));
            }
        } else {
            let wav = WavFile::open(path, channel).map_err(|error| SourceError::Fatal(error.to_string()))?;
            warn_of(path, &wav);
            formats.push(wav.format());
            files.push(path.to_owned());
        }
        let canonical = formats.iter().any(|format| *format != formats[0]);
        let format = if canonical { SourceFormat { sample_rate_hz: SAMPLE_RATE_HZ, channels: 1 } } else { formats[0] };
        Ok(Self {
            device: path.display().to_string(),
            files,
            once,
            channel,
            format,
            canonical,
            pace: Pace::start(format.sample_rate_hz),
            playing: None,
            next_file: 0,
            played: false,
            buffer: Vec::new(),
            delivered: 0,
            ended: false,
        })
    }

    /// Appends `count` samples of all channels to `out`, or skips them if there is no `out`. At the end of a recording
    /// that is played once there are fewer.
    fn take(&mut self, mut count: u64, mut out: Option<&mut Vec<f32>>) -> Result<(), SourceError> {
        while count > 0 {
            if self.delivered == self.buffer.len() {
                if self.ended {
                    return Ok(());
                }
                self.refill()?;
                continue;
            }
            let step = count.min((self.buffer.len() - self.delivered) as u64) as usize;
            if let Some(out) = &mut out {
                out.extend_from_slice(&self.buffer[self.delivered..self.delivered + step]);
            }
            self.delivered += step;
            count -= step as u64;
        }
        Ok(())
    }

    /// Reads on. At the end of a file the buffer may stay empty.
    fn refill(&mut self) -> Result<(), SourceError> {
        self.buffer.clear();
        self.delivered = 0;
        let Some((wav, framer)) = &mut self.playing else { return self.next_file() };
        let read = wav.read(&mut self.buffer);
        let at_end = !matches!(read, Ok(samples) if samples > 0);
        if let Err(error) = read {
            // The samples before the damage are played.
            warn!(%error, "a recording is damaged, the rest of it is skipped");
        }
        if let Some(framer) = framer {
            let mut native = std::mem::take(&mut self.buffer);
            if at_end {
                // A frame of silence pushes the last samples out of the framer.
                let group = usize::from(wav.format().channels);
                native.resize(group * (wav.format().sample_rate_hz as usize / 50), 0.0);
            }
            framer.push(&native, |frame: &[i16; FRAME_SAMPLES]| {
                self.buffer.extend(frame.iter().map(|&sample| f32::from(sample) / 32768.0));
            });
        }
        self.played |= !self.buffer.is_empty();
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
            if !std::mem::take(&mut self.played) {
                return Err(SourceError::Reopen(format!("{}: it has no samples any more", self.device)));
            }
            self.next_file = 0;
        }
        let path = &self.files[self.next_file];
        self.next_file += 1;
        match WavFile::open(path, self.channel) {
            Ok(wav) if self.canonical => {
                let format = wav.format();
                match Framer::new(format.sample_rate_hz, format.channels) {
                    Ok(framer) => self.playing = Some((wav, Some(framer))),
                    Err(error) => warn!(path = %path.display(), %error, "skipping a recording"),
                }
            }
            Ok(wav) if wav.format() == self.format => self.playing = Some((wav, None)),
            Ok(wav) => {
                let format = wav.format();
                warn!(path = %path.display(), ?format, "skipping a recording whose format has changed");
            }
            Err(error) => warn!(%error, "skipping a recording"),
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

/// Logs what is odd about a recording that is played all the same. Done once, not at each turn of the loop.
fn warn_of(path: &Path, wav: &WavFile) {
    for warning in wav.warnings() {
        warn!(path = %path.display(), "a recording is odd: {warning}");
    }
}

/// The `.wav` files of a folder, sorted by name, without the companion files (`._NAME`) that macOS leaves on cards.
fn wav_files_in(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let failed = |error: std::io::Error| {
        SourceError::Fatal(format!("{}: cannot read the folder: {}", folder.display(), cause(&error)))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_wav = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav"));
        if is_wav && !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
