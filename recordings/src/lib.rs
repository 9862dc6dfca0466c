//! Reads audio files as recorders and programs write them, in pieces, as numbers from -1 to 1.
//!
//! [`Wave`] reads WAV and its relatives by a walk of this crate, which tolerates what recorders leave behind. With the
//! feature `compressed`, `Recording` also reads FLAC, MP3, Ogg Vorbis, AAC, AIFF and other CAF, by `symphonia`, and
//! with the feature `opus` Opus, by `ruopus`. Both tell the container by the content of the file. They are two types so
//! that a program that uses only the first stays small even if it is built together with one that uses the second.

mod adpcm;
mod balance;
mod caf;
mod channel;
#[cfg(feature = "compressed")]
mod compressed;
mod container;
mod error;
mod format;
#[cfg(feature = "compressed")]
mod frames;
#[cfg(all(test, feature = "opus"))]
mod fuzz;
mod input;
#[cfg(feature = "compressed")]
mod links;
mod note;
#[cfg(feature = "opus")]
mod ogg;
#[cfg(feature = "compressed")]
mod ogg_page;
#[cfg(feature = "opus")]
mod opus;
#[cfg(feature = "compressed")]
mod recording;
mod samples;
#[cfg(feature = "dates")]
pub mod start;
mod wave;

pub use balance::Balance;
pub use channel::Channel;
pub use error::RecordingError;
pub use format::{Format, MAX_CHANNELS};
#[cfg(feature = "compressed")]
pub use frames::AacDecoder;
pub use input::Input;
pub use note::Note;
#[cfg(feature = "compressed")]
pub use recording::Recording;
pub use samples::{a_law, mu_law};
pub use wave::Wave;
