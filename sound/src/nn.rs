//! A small streaming convolutional network in plain Rust: just what [`crate::model`] needs.
//!
//! Convolutions are valid in time and keep the few input rows that later outputs still need, so work and memory do not
//! grow with the stream. Weights are shared; each stream owns only its [`Pending`] rows.

mod conv;
mod kernel;

pub(crate) use conv::{Conv, Pending, Scratch, Shape};
pub(crate) use kernel::{Dense, Machine, Stretches};
