//! An open recording of any kind.

use std::path::Path;

use crate::codecs;
use crate::compressed::Compressed;
use crate::container::{self, Container, OPUS};
use crate::error::RecordingError;
use crate::format::Format;
use crate::input::Input;
use crate::note::Note;
use crate::opus::Opus;
use crate::wave::Wave;

enum Reader {
    Wave(Box<Wave>),
    Compressed(Box<Compressed>),
    Opus(Box<Opus>),
}

/// An open recording.
pub struct Recording {
    reader: Reader,
}

impl Recording {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::read_from(Input::open(path)?)
    }

    /// Reads the header of an open file or pipe.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn read_from(mut input: Input) -> Result<Self, RecordingError> {
        let reader = match container::tell(&mut input)? {
            Container::File(OPUS, _) => Reader::Opus(Box::new(Opus::open(input)?)),
            Container::Stream(name, _) | Container::File(name, _) => {
                Reader::Compressed(Box::new(Compressed::open(input, name, codecs::of_files())?))
            }
            container => Reader::Wave(Box::new(Wave::walk(input, container)?)),
        };
        Ok(Self { reader })
    }

    /// The rate and the channels.
    pub fn format(&self) -> Format {
        match &self.reader {
            Reader::Wave(wave) => wave.format(),
            Reader::Compressed(compressed) => compressed.format(),
            Reader::Opus(opus) => opus.format(),
        }
    }

    /// Frames (samples of each channel) that are still to come, as far as the header and the size of the file tell.
    /// There may be fewer. `None`: only the end will tell.
    pub fn frames(&self) -> Option<u64> {
        match &self.reader {
            Reader::Wave(wave) => wave.frames(),
            Reader::Compressed(compressed) => compressed.frames(),
            Reader::Opus(opus) => opus.frames(),
        }
    }

    /// What the recorder wrote next to the sound.
    pub fn notes(&self) -> &[Note] {
        match &self.reader {
            Reader::Wave(wave) => wave.notes(),
            _ => &[],
        }
    }

    /// What is odd about the file, in words for people. Complete only after the last [`Recording::read`].
    pub fn warnings(&self) -> &[String] {
        match &self.reader {
            Reader::Wave(wave) => wave.warnings(),
            Reader::Compressed(compressed) => compressed.warnings(),
            Reader::Opus(opus) => opus.warnings(),
        }
    }

    /// Why the sound ended although there may be more: it goes on in another format, or the rest cannot be decoded.
    /// `None`: it has not ended, or was read to the end.
    pub fn stopped(&self) -> Option<&str> {
        match &self.reader {
            Reader::Wave(_) => None,
            Reader::Compressed(compressed) => compressed.stopped(),
            Reader::Opus(opus) => opus.stopped(),
        }
    }

    /// Appends the next interleaved samples, normally -1 to 1 and always finite: some thousands, the same number for
    /// each channel. Returns how many. 0: the end.
    ///
    /// # Errors
    /// If the file cannot be read on. The samples before are valid.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, RecordingError> {
        match &mut self.reader {
            Reader::Wave(wave) => wave.read(out),
            Reader::Compressed(compressed) => compressed.read(out),
            Reader::Opus(opus) => opus.read(out),
        }
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Recording").field("format", &self.format()).finish_non_exhaustive()
    }
}
