//! The signal code of Meowlink: samples in, results out, without I/O, clocks, threads or async.
//!
//! [`framer`] turns what a sound device delivers into *canonical audio*: 16 kHz, one channel, signed 16 bits.
//! The other modules take it as `&[i16]`, or make it. The way from samples to detected vocalisations is [`logmel`]
//! (features), [`model`] (the network), [`detector`] (where a cat is) and [`analysis`], which adds measurements
//! ([`measure`], [`prosody`]) and the context ([`context`], [`household`]). [`rejector`] learns from false alarms,
//! [`own_labels`] from labels of the owner's own, and [`same_sound`] tells whether two nodes heard the same
//! vocalisation.
//!
//! All of it gives bit-identical results however a stream is cut into pushes.

pub mod analysis;
pub mod context;
pub mod detection;
pub mod detector;
mod dot;
pub mod flac;
pub mod framer;
pub mod household;
pub mod level;
pub mod logmel;
pub mod measure;
pub mod model;
mod nn;
pub mod own_labels;
pub mod prosody;
pub mod rejector;
pub mod same_sound;
pub mod spectrogram;
pub mod speech;
pub mod synth;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verdict;

/// Sampling rate of canonical audio, in hertz.
pub const SAMPLE_RATE_HZ: u32 = 16_000;
