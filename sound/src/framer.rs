//! Turns the samples of any source into frames of canonical audio: mixes channels down, resamples, cuts.
//!
//! The usual rates are resampled by [`polyphase`]. What its banks cannot do is left to `rubato`, which interpolates
//! between filters and takes several times as long.

mod polyphase;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler, ResamplerConstructionError, SincInterpolationParameters, SincInterpolationType,
    WindowFunction,
};

use crate::SAMPLE_RATE_HZ;
use polyphase::Polyphase;

/// Samples of a frame: 20 ms at 16 kHz.
pub const FRAME_SAMPLES: usize = 320;

/// The sample rates that a source may have, in hertz.
pub const SOURCE_RATES_HZ: std::ops::RangeInclusive<u32> = 4_000..=384_000;

/// The interpolating resampler works on pieces of 1 / 200 s = 5 ms.
const CHUNKS_PER_S: u32 = 200;

/// Its filter is 1 / 125 s = 8 ms long, and delays the sound by half of that. It passes 7 kHz and attenuates 8.8 kHz by
/// 80 dB.
const FILTERS_PER_S: u32 = 125;

/// Fewest taps of this filter, for low rates. The number of taps is a multiple of 8.
const MIN_TAPS: u32 = 128;

/// Filters of its bank, between which cubic polynomials interpolate.
const INTERPOLATED_FILTERS: usize = 128;

/// Outputs that are searched for one that falls on an input sample, from which time is then counted.
const MAX_OUTPUTS_TO_DROP: usize = 2000;

/// Why a source's format cannot be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramerError {
    /// The sample rate, in hertz, is not within [`SOURCE_RATES_HZ`].
    #[error("a sample rate of {0} Hz is not supported; it must be between 4 and 384 kHz")]
    Rate(u32),
    /// The source has no channel.
    #[error("a source must have at least one channel")]
    NoChannels,
}

/// Makes frames of 20 ms of canonical audio from interleaved samples of any rate and number of channels.
///
/// The channels are averaged. A source of 16 kHz passes bit for bit: a sample of n / 32768 becomes n. Any other rate is
/// resampled with an anti-aliasing filter that keeps level and time: the first sample of the first frame belongs to the
/// moment of the first sample pushed. Only [`Framer::new`] allocates memory.
pub struct Framer {
    channels: usize,
    resampling: Way,
    frame: Partial,
}

/// How the rate of the source becomes 16 kHz.
enum Way {
    /// It is 16 kHz.
    Direct,
    Polyphase(Polyphase),
    Interpolated(Resampling),
}

impl Framer {
    /// A framer for a source of this rate and number of channels.
    ///
    /// # Errors
    /// If the rate is not within [`SOURCE_RATES_HZ`], or there is no channel.
    pub fn new(sample_rate_hz: u32, channels: u16) -> Result<Self, FramerError> {
        if channels == 0 {
            return Err(FramerError::NoChannels);
        }
        if !SOURCE_RATES_HZ.contains(&sample_rate_hz) {
            return Err(FramerError::Rate(sample_rate_hz));
        }
        let resampling = if sample_rate_hz == SAMPLE_RATE_HZ {
            Way::Direct
        } else if let Some(polyphase) = Polyphase::new(sample_rate_hz) {
            Way::Polyphase(polyphase)
        } else {
            Way::Interpolated(Resampling::new(sample_rate_hz)?)
        };
        let frame = Partial { samples: [0; FRAME_SAMPLES], filled: 0 };
        Ok(Self { channels: usize::from(channels), resampling, frame })
    }

    /// Takes the next interleaved samples and passes each frame that they complete to `emit`. Samples are -1 to 1;
    /// values beyond are clipped and NaN becomes 0. Their number must be a multiple of the number of channels.
    pub fn push(&mut self, samples: &[f32], mut emit: impl FnMut(&[i16; FRAME_SAMPLES])) {
        let Self { channels, resampling, frame } = self;
        let mut take = |mono: &[f32]| match resampling {
            Way::Direct => frame.push(mono, &mut emit),
            Way::Polyphase(polyphase) => polyphase.push(mono, |outputs| frame.push(outputs, &mut emit)),
            Way::Interpolated(resampling) => {
                mono.iter().for_each(|sample| resampling.push(*sample, |output| frame.push(&[output], &mut emit)));
            }
        };
        if *channels == 1 {
            return take(samples);
        }
        let mut mixed = [0.0; MIXED];
        for piece in samples.chunks(*channels * MIXED) {
            let groups = piece.len() / *channels;
            mix(piece, *channels, &mut mixed[..groups]);
            take(&mixed[..groups]);
        }
    }

    /// Drops the unfinished frame and the state of the resampler, for samples that do not continue the earlier ones.
    pub fn reset(&mut self) {
        self.frame.filled = 0;
        match &mut self.resampling {
            Way::Direct => {}
            Way::Polyphase(polyphase) => polyphase.reset(),
            Way::Interpolated(resampling) => resampling.reset(),
        }
    }
}

/// Samples of the mix that are made at a time.
const MIXED: usize = 2_048;

/// Averages the channels of interleaved samples.
fn mix(samples: &[f32], channels: usize, mixed: &mut [f32]) {
    let scale = 1.0 / channels as f32;
    if channels == 2 {
        for (out, [left, right]) in mixed.iter_mut().zip(samples.as_chunks().0) {
            *out = (left + right) * scale;
        }
    } else {
        for (out, group) in mixed.iter_mut().zip(samples.chunks_exact(channels)) {
            *out = group.iter().sum::<f32>() * scale;
        }
    }
}

/// A frame that is being filled.
struct Partial {
    samples: [i16; FRAME_SAMPLES],
    filled: usize,
}

impl Partial {
    fn push(&mut self, mut samples: &[f32], emit: &mut impl FnMut(&[i16; FRAME_SAMPLES])) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(FRAME_SAMPLES - self.filled));
            for (out, sample) in self.samples[self.filled..].iter_mut().zip(now) {
                *out = to_s16(*sample);
            }
            self.filled += now.len();
            samples = later;
            if self.filled == FRAME_SAMPLES {
                self.filled = 0;
                emit(&self.samples);
            }
        }
    }
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Framer")
            .field("channels", &self.channels)
            .field("filled", &self.frame.filled)
            .finish_non_exhaustive()
    }
}

struct Resampling {
    resampler: Async<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    start: Start,
    /// Outputs still to be dropped, because they belong to the time before the first sample.
    to_drop: usize,
}

/// How the first output is made to belong to the first sample.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// Zeros to push before the first sample.
    zeros: usize,
    /// Outputs to drop, which belong to these zeros.
    outputs_to_drop: usize,
}

impl Resampling {
    fn new(sample_rate_hz: u32) -> Result<Self, FramerError> {
        let (resampler, start) = resampler(sample_rate_hz).map_err(|_| FramerError::Rate(sample_rate_hz))?;
        let input = vec![0.0; resampler.input_frames_max()];
        let output = vec![0.0; resampler.output_frames_max()];
        let mut resampling = Self { resampler, input, filled: 0, output, start, to_drop: 0 };
        resampling.reset();
        Ok(resampling)
    }

    fn push(&mut self, sample: f32, mut emit: impl FnMut(f32)) {
        self.input[self.filled] = sample;
        self.filled += 1;
        if self.filled < self.input.len() {
            return;
        }
        self.filled = 0;
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let input = InterleavedSlice::new(&self.input[..], 1, frames_in).expect("one channel of the slice's length");
        let mut output =
            InterleavedSlice::new_mut(&mut self.output[..], 1, frames_out).expect("one channel of the slice's length");
        let (_, written) = self
            .resampler
            .process_into_buffer(&input, &mut output, None)
            .expect("both buffers have the size that it asked for");
        let dropped = self.to_drop.min(written);
        self.to_drop -= dropped;
        self.output[dropped..written].iter().copied().for_each(&mut emit);
    }

    fn reset(&mut self) {
        self.resampler.reset();
        self.filled = 0;
        self.to_drop = self.start.outputs_to_drop;
        for _ in 0..self.start.zeros {
            // Nothing is lost here: the filter's delay holds back every output that is not to be dropped.
            self.push(0.0, |_| {});
        }
    }
}

fn resampler(from_hz: u32) -> Result<(Async<f32>, Start), ResamplerConstructionError> {
    let taps = (from_hz / FILTERS_PER_S).max(MIN_TAPS).next_multiple_of(8) as usize;
    let filter = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris)
        .oversampling_factor(INTERPOLATED_FILTERS)
        .interpolation(SincInterpolationType::Cubic);
    let ratio = f64::from(SAMPLE_RATE_HZ) / f64::from(from_hz);
    let chunk = (from_hz / CHUNKS_PER_S) as usize;
    let resampler = Async::new_sinc(ratio, 1.0, &filter, chunk, 1, FixedAsync::Input)?;
    Ok((resampler, start(taps, INTERPOLATED_FILTERS, 1.0 / ratio)))
}

/// Chooses a start at which an output falls on an input sample as nearly as possible.
///
/// Output number n of the resampler belongs to the input time (n + 1) * step - taps / 2 + 1 / filters, in samples,
/// because rubato begins one step after its first filter, and its bank of filters begins one filter after the middle
/// tap.
fn start(taps: usize, filters: usize, step: f64) -> Start {
    let time_of = |output: usize| (output + 1) as f64 * step - taps as f64 / 2.0 + 1.0 / filters as f64;
    // In millionths of a sample, so that rounding errors do not hide that an output falls on a sample.
    let off = |output: usize| ((time_of(output) - time_of(output).round()).abs() * 1e6).round() as u64;
    let first = (0..MAX_OUTPUTS_TO_DROP).find(|&output| time_of(output) > -0.5).unwrap_or(0);
    let outputs_to_drop = (first..first + MAX_OUTPUTS_TO_DROP).min_by_key(|&output| off(output)).unwrap_or(first);
    Start { zeros: time_of(outputs_to_drop).round().max(0.0) as usize, outputs_to_drop }
}

/// Rounds to 16 bits: n / 32768 becomes n.
fn to_s16(sample: f32) -> i16 {
    let scaled = sample * 32768.0;
    // The cast drops the fraction, clips values out of range and turns NaN into 0. With the number below one half,
    // values that are just below one half are not rounded up. `round` is slow where it is no instruction.
    (scaled + 0.5_f32.next_down().copysign(scaled)) as i16
}

#[cfg(test)]
mod tests;
