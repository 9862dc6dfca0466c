//! A streaming convolutional network in plain Rust, with just the layers that [`crate::model`] needs.
//!
//! The convolutions are not padded in time ("valid") and keep the few input rows that later outputs still need, so
//! neither work nor memory grows with the stream. Streams share the weights; each has its own [`Pending`] rows.

mod conv;
mod kernel;

pub(crate) use conv::{Conv, Pending, Scratch, Shape};
pub(crate) use kernel::{Dense, Machine, Stretches};
