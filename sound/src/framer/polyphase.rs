//! Resamples by a fixed ratio: a bank of filters that are used one after the other.
//!
//! If 16 kHz = rate * L / M in lowest terms, output n belongs to the input time n * M / L. The outputs fall on L
//! different places between two inputs, and for each place the bank has a filter.

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use pulp::{Arch, Simd, WithSimd};

use crate::SAMPLE_RATE_HZ;

/// Rates whose banks are computed once.
const USUAL_RATES_HZ: [u32; 9] = [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000];

/// The largest bank. Rates that need more filters, like 44,101 Hz, are resampled by another way.
pub(super) const MAX_FILTERS: u32 = 640;

/// Inputs that are taken at a time.
const PIECE: usize = 4_096;

/// Outputs of one filter that are computed together.
const TOGETHER: usize = 4;

/// Vectors of a filter whose bounds are checked together.
const GROUP: usize = 4;

/// Taps of a filter are a multiple of this, so that they fill the vectors of every machine.
const TAPS_MULTIPLE: usize = 16;

/// From higher rates, a filter is 1 / 340 s = 2.9 ms long, and delays the sound by half of that.
const FILTERS_PER_S: u32 = 340;

/// The frequency that a filter from a higher rate halves, in hertz. It passes 7 kHz and attenuates 8.8 kHz by more than
/// 80 dB.
const CUTOFF_HZ: f64 = 7_900.0;

/// Shape of the Kaiser window of these filters: 85 dB by the formula of J. F. Kaiser.
const KAISER_BETA: f64 = 8.41;

/// Taps of a filter from a lower rate. Its window is that of Blackman and Harris.
const TAPS_FROM_LOWER: usize = 128;

/// The frequency that a filter from a lower rate halves, as a share of half the rate. What is above half the rate is
/// attenuated by more than 80 dB.
const CUTOFF_FROM_LOWER: f64 = 0.9375;

pub(super) struct Polyphase {
    machine: Arch,
    /// The filters in the order in which they are used, `taps` values each.
    bank: Arc<[f32]>,
    /// Filters of the bank, and inputs in which each filter is used once.
    ratio: (usize, usize),
    taps: usize,
    /// The latest inputs, of which the first `filled` are valid.
    inputs: Vec<f32>,
    filled: usize,
    /// Place of the first input of the next output, and the number of its filter.
    next: usize,
    filter: usize,
    outputs: Vec<f32>,
}

impl Polyphase {
    /// A resampler from this rate. `None`: its bank would be larger than [`MAX_FILTERS`].
    pub(super) fn new(from_hz: u32) -> Option<Self> {
        let divisor = greatest_common_divisor(from_hz, SAMPLE_RATE_HZ);
        let (filters, step) = (SAMPLE_RATE_HZ / divisor, (from_hz / divisor) as usize);
        if filters > MAX_FILTERS {
            return None;
        }
        let filters = filters as usize;
        let taps = taps(from_hz);
        let bank = shared_bank(from_hz, filters, taps);
        let outputs = vec![0.0; PIECE * filters / step + 2];
        let mut resampler = Self {
            machine: Arch::new(),
            bank,
            ratio: (filters, step),
            taps,
            inputs: vec![0.0; taps + PIECE],
            filled: 0,
            next: 0,
            filter: 0,
            outputs,
        };
        resampler.reset();
        Some(resampler)
    }

    /// Starts over: the next input is the first. Output 0 belongs to it.
    pub(super) fn reset(&mut self) {
        self.filled = self.taps / 2 - 1;
        self.inputs[..self.filled].fill(0.0);
        (self.next, self.filter) = (0, 0);
    }

    /// Takes the next inputs and passes the outputs that they complete on, in pieces. How the inputs are cut changes no
    /// bit of the outputs.
    pub(super) fn push(&mut self, inputs: &[f32], mut emit: impl FnMut(&[f32])) {
        for piece in inputs.chunks(PIECE) {
            self.inputs[self.filled..][..piece.len()].copy_from_slice(piece);
            self.filled += piece.len();
            let made = self.run();
            emit(&self.outputs[..made]);
        }
    }

    /// Computes the outputs that the inputs allow, and drops the inputs that no later output needs. Returns how many.
    fn run(&mut self) -> usize {
        let work = Work {
            bank: &self.bank,
            ratio: self.ratio,
            taps: self.taps,
            inputs: &self.inputs[..self.filled],
            next: self.next,
            filter: self.filter,
            outputs: &mut self.outputs,
        };
        let (made, next, filter) = self.machine.dispatch(work);
        let dropped = next.min(self.filled);
        self.inputs.copy_within(dropped..self.filled, 0);
        self.filled -= dropped;
        (self.next, self.filter) = (next - dropped, filter);
        made
    }
}

/// One piece of work, for the widest vectors of the machine.
struct Work<'a> {
    bank: &'a [f32],
    ratio: (usize, usize),
    taps: usize,
    inputs: &'a [f32],
    next: usize,
    filter: usize,
    outputs: &'a mut [f32],
}

impl WithSimd for Work<'_> {
    /// Outputs that were made, place and filter of the next one.
    type Output = (usize, usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { bank, ratio: (filters, step), taps, inputs, next, filter, outputs } = self;
        // Output n of the cycle that the next output is in begins this many inputs after that of output 0.
        let at = |n: usize| n * step / filters;
        let Some(free) = inputs.len().checked_sub(next + taps) else { return (0, next, filter) };
        let until = ((free + at(filter) + 1) * filters).div_ceil(step);
        let made = until - filter;
        // One filter after the other, each for all its outputs: a large bank does not fit the fastest cache.
        for output in 0..made.min(filters) {
            let number = filter + output;
            let weights = &bank[number % filters * taps..][..taps];
            let mut row = Row { weights, inputs: &inputs[next + at(number) - at(filter)..], step };
            let mut outs = outputs[output..made].iter_mut().step_by(filters);
            let count = (made - output).div_ceil(filters);
            for _ in 0..count / TOGETHER {
                row.take::<S, TOGETHER>(simd).into_iter().zip(&mut outs).for_each(|(made, out)| *out = made);
            }
            for _ in 0..count % TOGETHER {
                row.take::<S, 1>(simd).into_iter().zip(&mut outs).for_each(|(made, out)| *out = made);
            }
        }
        (made, next + at(until) - at(filter), until % filters)
    }
}

/// Outputs of one filter.
struct Row<'a> {
    weights: &'a [f32],
    /// The inputs from the first of the next output on.
    inputs: &'a [f32],
    /// Inputs from one output to the next.
    step: usize,
}

impl<'a> Row<'a> {
    /// Computes the next `COUNT` outputs, so that a weight is loaded once for all of them. How many are computed
    /// together changes no bit of them.
    #[inline(always)]
    fn take<S: Simd, const COUNT: usize>(&mut self, simd: S) -> [f32; COUNT] {
        let weights = S::as_simd_f32s(self.weights).0;
        let mut rows: [&[S::f32s]; COUNT] = [&[]; COUNT];
        for (number, row) in rows.iter_mut().enumerate() {
            *row = S::as_simd_f32s(&self.inputs[number * self.step..][..self.weights.len()]).0;
        }
        let mut sums = [[simd.splat_f32s(0.0); 2]; COUNT];
        let grouped = weights.len() / GROUP * GROUP;
        add::<S, COUNT, GROUP>(simd, weights, rows, 0..grouped, &mut sums);
        add::<S, COUNT, 1>(simd, weights, rows, grouped..weights.len(), &mut sums);
        self.inputs = self.inputs.get(COUNT * self.step..).unwrap_or_default();
        let mut outputs = [0.0; COUNT];
        for (output, [a, b]) in outputs.iter_mut().zip(sums) {
            *output = simd.reduce_sum_f32s(simd.add_f32s(a, b));
        }
        outputs
    }
}

/// Adds the products of a range of vectors to the two sums of each row: within a group, by turns. The bounds of `GROUP`
/// vectors are checked together. These are loops because a closure that is not inlined is compiled without the
/// instructions of the machine.
#[inline(always)]
fn add<S: Simd, const COUNT: usize, const GROUP: usize>(
    simd: S,
    weights: &[S::f32s],
    mut rows: [&[S::f32s]; COUNT],
    range: Range<usize>,
    sums: &mut [[S::f32s; 2]; COUNT],
) {
    for row in &mut rows {
        *row = &row[range.clone()];
    }
    for (group, weights) in weights[range].as_chunks::<GROUP>().0.iter().enumerate() {
        for (row, sums) in rows.iter().zip(&mut *sums) {
            let inputs = &row.as_chunks::<GROUP>().0[group];
            for (place, (weight, input)) in weights.iter().zip(inputs).enumerate() {
                sums[place % 2] = simd.mul_add_e_f32s(*weight, *input, sums[place % 2]);
            }
        }
    }
}

/// Number of taps of each filter.
fn taps(from_hz: u32) -> usize {
    if from_hz < SAMPLE_RATE_HZ {
        TAPS_FROM_LOWER
    } else {
        (from_hz.div_ceil(FILTERS_PER_S) as usize).next_multiple_of(TAPS_MULTIPLE)
    }
}

/// The bank for a rate. A folder may have thousands of short recordings of one rate.
fn shared_bank(from_hz: u32, filters: usize, taps: usize) -> Arc<[f32]> {
    static SHARED: [OnceLock<Arc<[f32]>>; USUAL_RATES_HZ.len()] = [const { OnceLock::new() }; USUAL_RATES_HZ.len()];
    match USUAL_RATES_HZ.iter().position(|rate| *rate == from_hz) {
        Some(number) => Arc::clone(SHARED[number].get_or_init(|| bank(from_hz, filters, taps))),
        None => bank(from_hz, filters, taps),
    }
}

fn bank(from_hz: u32, filters: usize, taps: usize) -> Arc<[f32]> {
    let step = (u64::from(from_hz) * filters as u64 / u64::from(SAMPLE_RATE_HZ)) as usize;
    let place = |output: usize| (output * step % filters) as f64 / filters as f64;
    (0..filters).flat_map(|output| filter(from_hz, taps, place(output))).collect()
}

/// The filter for outputs that lie so far behind an input, 0 to 1. Its tap `taps / 2 - 1` is for that input.
fn filter(from_hz: u32, taps: usize, place: f64) -> Vec<f32> {
    let half = taps as f64 / 2.0;
    let cutoff = if from_hz < SAMPLE_RATE_HZ { CUTOFF_FROM_LOWER } else { CUTOFF_HZ / (f64::from(from_hz) / 2.0) };
    let tap = |tap: usize| {
        let distance = tap as f64 + 1.0 - half - place;
        let window = if from_hz < SAMPLE_RATE_HZ { blackman_harris(distance / half) } else { kaiser(distance / half) };
        sinc(distance * cutoff) * window
    };
    let weights: Vec<f64> = (0..taps).map(tap).collect();
    // Constant input must give the same constant from each filter.
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The window of Kaiser at -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel_i0(KAISER_BETA * (1.0 - x * x).max(0.0).sqrt()) / bessel_i0(KAISER_BETA)
}

/// The modified Bessel function of the first kind and order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-17 {
        term *= (x / 2.0 / n) * (x / 2.0 / n);
        sum += term;
        n += 1.0;
    }
    sum
}

/// The window of Blackman and Harris with four terms, at -1 to 1.
fn blackman_harris(x: f64) -> f64 {
    let phase = PI * x;
    0.35875 + 0.48829 * phase.cos() + 0.14128 * (2.0 * phase).cos() + 0.01168 * (3.0 * phase).cos()
}

pub(super) fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
