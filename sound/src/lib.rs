//! The pure signal code of Meowlink: no I/O, no clock, no async.
//!
//! Everything here works on *canonical audio*: 16 kHz, one channel, signed 16 bits.

pub mod analysis;
pub mod context;
pub mod detection;
pub mod detector;
pub mod flac;
pub mod framer;
pub mod household;
pub mod level;
pub mod logmel;
pub mod measure;
pub mod model;
mod nn;
pub mod prosody;
pub mod spectrogram;
pub mod speech;
pub mod synth;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verdict;

/// Sampling rate of canonical audio, in hertz. Tape, wire and analysis all use it.
pub const SAMPLE_RATE_HZ: u32 = 16_000;
