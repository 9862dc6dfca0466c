//! Sound that comes over a network.

use crate::codecs;
use crate::compressed::Compressed;
use crate::container::{self, Container};
use crate::error::RecordingError;
use crate::format::Format;
use crate::input::Input;
use crate::wave::Wave;

enum Reader {
    Wave(Box<Wave>),
    Compressed(Box<Compressed>),
}

/// An open stream: WAV and its relatives, FLAC, MP3, Ogg Vorbis or AAC (ADTS).
pub struct Stream {
    reader: Reader,
}

impl Stream {
    /// Reads the header of a stream.
    ///
    /// # Errors
    /// See [`RecordingError`]. [`RecordingError::NotStream`] names a format that is known, and not read as a stream.
    pub fn read_from(mut input: Input) -> Result<Self, RecordingError> {
        let reader = match container::tell(&mut input) {
            Ok(Container::Stream(name, _)) => {
                Reader::Compressed(Box::new(Compressed::open(input, name, codecs::of_streams())?))
            }
            Ok(Container::File(name, _)) => return Err(RecordingError::NotStream { name: name.into() }),
            Err(RecordingError::Unsupported { name, .. }) => return Err(RecordingError::NotStream { name }),
            Ok(container) => Reader::Wave(Box::new(Wave::walk(input, container)?)),
            Err(error) => return Err(error),
        };
        Ok(Self { reader })
    }

    /// The rate and the channels.
    pub fn format(&self) -> Format {
        match &self.reader {
            Reader::Wave(wave) => wave.format(),
            Reader::Compressed(compressed) => compressed.format(),
        }
    }

    /// Why the sound ended although there may be more: it goes on in another format, or the rest cannot be decoded.
    /// `None`: it has not ended, or was read to the end.
    pub fn stopped(&self) -> Option<&str> {
        match &self.reader {
            Reader::Wave(_) => None,
            Reader::Compressed(compressed) => compressed.stopped(),
        }
    }

    /// Appends the next interleaved samples, normally -1 to 1 and always finite: some thousands, the same number for
    /// each channel. Returns how many. 0: the end.
    ///
    /// # Errors
    /// If the stream cannot be read on. The samples before are valid.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, RecordingError> {
        match &mut self.reader {
            Reader::Wave(wave) => wave.read(out),
            Reader::Compressed(compressed) => compressed.read(out),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stream").field("format", &self.format()).finish_non_exhaustive()
    }
}
