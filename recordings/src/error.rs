//! Why a recording cannot be read, and what the user can do.

use std::io;

use sound::framer::FramerError;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file has no byte.
    #[error("the file is empty")]
    Empty,
    /// The content is not sound in a container that is known.
    #[error("not an audio file: {0}")]
    NotAudio(&'static str),
    /// The format is known, and this program cannot decode it.
    #[error("{name} is not supported; convert it: ffmpeg -i in.{ending} out.flac")]
    Unsupported {
        /// The format, for people.
        name: String,
        /// The usual ending of file names of this format.
        ending: &'static str,
    },
    /// The file is no WAV file, and only those are read here.
    #[error("{name} cannot be played, only WAV; convert it: ffmpeg -i in.{ending} out.wav")]
    NotWav {
        /// The format, for people.
        name: String,
        /// The usual ending of file names of this format.
        ending: &'static str,
    },
    /// The file is whole and has no sound, such as a film without one, or only sound of a codec that the reader of the
    /// container does not know.
    #[error(
        "this {0} file has no sound, or only sound of an unknown codec; if it has some, try: ffmpeg -i in.x out.flac"
    )]
    NoSound(&'static str),
    /// The format is known, and is not read as a stream.
    #[error("{name} is not read as a stream, only WAV, FLAC, MP3, Ogg Vorbis and AAC (ADTS)")]
    NotStream {
        /// The format, for people.
        name: String,
    },
    /// The header is damaged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The sample rate or the number of channels is invalid.
    #[error("{0}")]
    Format(#[from] FramerError),
    /// The file has too many channels.
    #[error("the file has {0} channels; at most {max} are supported", max = crate::MAX_CHANNELS)]
    Channels(u16),
    /// The channel that the user chose does not exist.
    #[error("channel {wanted} does not exist: the file has {available}")]
    NoSuchChannel {
        /// The channel that the user chose, from 1.
        wanted: u16,
        /// The channels of the file.
        available: u16,
    },
}
