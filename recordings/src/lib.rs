//! Reads audio files as recorders and programs write them, in pieces, as numbers from -1 to 1.
//!
//! [`Wave`] reads WAV and its relatives by a walk of this crate, which tolerates what recorders leave behind. With the
//! feature `streams`, `Stream` also reads what comes over a network: FLAC, MP3, Ogg Vorbis and AAC, by `symphonia`.
//! With the feature `files`, `Recording` reads files of every format: also MP4, AIFF and CAF, and Opus, by `ruopus`.
//! All tell the container by the content. They are three types so that each program holds only the code for what it
//! reads, even if it is built together with a program that reads more.

mod adpcm;
mod balance;
mod caf;
mod channel;
#[cfg(feature = "streams")]
mod codecs;
#[cfg(feature = "streams")]
mod compressed;
mod container;
mod error;
mod format;
#[cfg(feature = "streams")]
mod frames;
#[cfg(all(test, feature = "files"))]
mod fuzz;
mod input;
#[cfg(feature = "streams")]
mod links;
mod note;
#[cfg(feature = "files")]
mod ogg;
#[cfg(feature = "streams")]
mod ogg_page;
#[cfg(feature = "files")]
mod opus;
#[cfg(feature = "files")]
mod recording;
mod samples;
#[cfg(feature = "dates")]
pub mod start;
#[cfg(feature = "streams")]
mod stream;
mod wave;

pub use balance::Balance;
pub use channel::Channel;
pub use error::RecordingError;
pub use format::{Format, MAX_CHANNELS};
#[cfg(feature = "streams")]
pub use frames::AacDecoder;
pub use input::Input;
pub use note::Note;
#[cfg(feature = "files")]
pub use recording::Recording;
pub use samples::{a_law, mu_law};
#[cfg(feature = "streams")]
pub use stream::Stream;
pub use wave::Wave;
