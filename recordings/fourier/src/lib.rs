//! The fast Fourier transform of the Opus decoder.
//!
//! `ruopus` has two: one of its own, whose time grows with the square of the length, and that of the crate
//! `spectrograms`, which needs a newer Rust than we do and a dozen crates. This crate stands in for `spectrograms` (see
//! `[patch.crates-io]` in the workspace's Cargo.toml) with the three names that `ruopus` uses, on top of the `rustfft`
//! that the front end uses anyway.

use std::sync::Arc;

use rustfft::algorithm::butterflies::{Butterfly3, Butterfly5, Butterfly12, Butterfly16, Butterfly24, Butterfly32};
use rustfft::algorithm::{Dft, MixedRadix, MixedRadixSmall};
use rustfft::{Fft, FftDirection, FftNum};

pub use rustfft::num_complex::Complex;

/// A plan for complex transforms of one length, in place.
pub trait C2cPlan<T> {
    /// The transform with e^(-2πi jk / n), not scaled.
    ///
    /// # Errors
    /// If the data has another length than the plan.
    fn forward(&mut self, data: &mut [Complex<T>]) -> Result<(), WrongLength>;

    /// The transform with e^(2πi jk / n), not scaled.
    ///
    /// # Errors
    /// If the data has another length than the plan.
    fn inverse(&mut self, data: &mut [Complex<T>]) -> Result<(), WrongLength>;
}

/// The data has another length than the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongLength;

/// The plan that there is.
pub struct RealFftC2cPlan<T> {
    forward: Arc<dyn Fft<T>>,
    inverse: Arc<dyn Fft<T>>,
    scratch: Vec<Complex<T>>,
}

impl<T: FftNum> RealFftC2cPlan<T> {
    /// A plan for transforms of this length.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let (forward, inverse) = (fft(length, FftDirection::Forward), fft(length, FftDirection::Inverse));
        let scratch = forward.get_inplace_scratch_len().max(inverse.get_inplace_scratch_len());
        Self { forward, inverse, scratch: vec![Complex::new(T::zero(), T::zero()); scratch] }
    }
}

impl<T: FftNum> C2cPlan<T> for RealFftC2cPlan<T> {
    fn forward(&mut self, data: &mut [Complex<T>]) -> Result<(), WrongLength> {
        run(self.forward.as_ref(), data, &mut self.scratch)
    }

    fn inverse(&mut self, data: &mut [Complex<T>]) -> Result<(), WrongLength> {
        run(self.inverse.as_ref(), data, &mut self.scratch)
    }
}

/// The transforms of the lengths that CELT uses, from small ones. The planner of `rustfft` knows all lengths, but makes
/// the node's program larger. Other lengths take a time that grows with their square.
fn fft<T: FftNum>(length: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
    let three = || Arc::new(Butterfly3::new(direction));
    let five = || Arc::new(Butterfly5::new(direction));
    let fifteen = || Arc::new(MixedRadixSmall::new(three(), five()));
    match length {
        60 => Arc::new(MixedRadix::new(five(), Arc::new(Butterfly12::new(direction)))),
        120 => Arc::new(MixedRadix::new(five(), Arc::new(Butterfly24::new(direction)))),
        240 => Arc::new(MixedRadix::new(fifteen(), Arc::new(Butterfly16::new(direction)))),
        480 => Arc::new(MixedRadix::new(fifteen(), Arc::new(Butterfly32::new(direction)))),
        _ => Arc::new(Dft::new(length, direction)),
    }
}

fn run<T: FftNum>(fft: &dyn Fft<T>, data: &mut [Complex<T>], scratch: &mut [Complex<T>]) -> Result<(), WrongLength> {
    // rustfft would transform each of several pieces of that length.
    if data.len() != fft.len() {
        return Err(WrongLength);
    }
    fft.process_with_scratch(data, scratch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths that CELT uses, and another one.
    #[test]
    fn both_transforms_are_those_of_the_definition() {
        for length in [60, 120, 240, 480, 50] {
            let input: Vec<Complex<f32>> =
                (0..length).map(|n| Complex::new((n as f32 * 0.37).sin(), (n as f32 * 0.91).cos())).collect();
            let mut plan = RealFftC2cPlan::<f32>::new(length);
            for sign in [-1.0, 1.0] {
                let mut found = input.clone();
                let done = if sign < 0.0 { plan.forward(&mut found) } else { plan.inverse(&mut found) };
                assert_eq!(done, Ok(()));
                for (k, found) in found.iter().enumerate() {
                    let phase = |n: usize| sign * std::f64::consts::TAU * (k * n % length) as f64 / length as f64;
                    let turned = |(n, value): (usize, &Complex<f32>)| {
                        let value = Complex::new(f64::from(value.re), f64::from(value.im));
                        value * Complex::from_polar(1.0, phase(n))
                    };
                    let wanted: Complex<f64> = input.iter().enumerate().map(turned).sum();
                    let error = Complex::new(f64::from(found.re), f64::from(found.im)) - wanted;
                    assert!(error.norm() < 1e-5 * length as f64, "{length}, {sign}, {k}: {error}");
                }
            }
            assert_eq!(plan.forward(&mut vec![Complex::default(); 2 * length]), Err(WrongLength));
        }
    }
}
