//! The room around the cat: a short, soft echo, and noise that never stops.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Lengths of the parallel delay lines (comb filters) of the echo, in samples: 21 to 36 ms. They have no common factor,
/// so that their echoes do not coincide (M. Schroeder, "Natural sounding artificial reverberation", 1962).
const COMB_SAMPLES: [usize; 4] = [337, 419, 499, 577];

/// Lengths of the all-pass filters that blur the echoes, in samples.
const ALLPASS_SAMPLES: [usize; 2] = [79, 29];

/// Share of a sound that remains after each pass through a delay line: the echo falls by 60 dB in about a third of a
/// second.
const COMB_FEEDBACK: f32 = 0.6;

/// Gain of the echo.
const WET: f32 = 0.06;

/// Amplitude of the noise before its low-pass filter, where full scale is 1. The filtered noise has about -64 dBFS.
const NOISE_AMPLITUDE: f32 = 0.0022;

/// Adds echo and noise to what the cat says.
#[derive(Debug)]
pub(super) struct Room {
    combs: [Delay; 4],
    allpasses: [Delay; 2],
    damping: [f32; 4],
    rng: StdRng,
    noise: [f32; 2],
}

impl Room {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            combs: COMB_SAMPLES.map(Delay::new),
            allpasses: ALLPASS_SAMPLES.map(Delay::new),
            damping: [0.0; 4],
            // Not the random numbers of the plan.
            rng: StdRng::seed_from_u64(!seed),
            noise: [0.0; 2],
        }
    }

    /// The next sample, when the cat makes `dry`.
    pub(super) fn process(&mut self, dry: f32) -> f32 {
        let mut echo = 0.0;
        for (comb, damped) in self.combs.iter_mut().zip(&mut self.damping) {
            let delayed = comb.oldest();
            // Walls absorb high frequencies most.
            *damped += 0.7 * (delayed - *damped);
            comb.push(dry + COMB_FEEDBACK * *damped);
            echo += delayed;
        }
        for allpass in &mut self.allpasses {
            let delayed = allpass.oldest();
            let input = echo + 0.5 * delayed;
            allpass.push(input);
            echo = delayed - 0.5 * input;
        }
        dry + WET * echo + self.noise()
    }

    /// Noise that is weaker at high frequencies, like the hum of a house, with a little hiss.
    fn noise(&mut self) -> f32 {
        let white = self.rng.random_range(-1.0_f32..1.0);
        self.noise[0] += 0.25 * (white - self.noise[0]);
        self.noise[1] += 0.02 * (white - self.noise[1]);
        NOISE_AMPLITUDE * (0.8 * self.noise[0] + 3.0 * self.noise[1] + 0.1 * white)
    }
}

#[derive(Debug)]
struct Delay {
    samples: Vec<f32>,
    position: usize,
}

impl Delay {
    fn new(samples: usize) -> Self {
        Self { samples: vec![0.0; samples], position: 0 }
    }

    fn oldest(&self) -> f32 {
        self.samples[self.position]
    }

    fn push(&mut self, sample: f32) {
        // Subnormal numbers would be inaudible and slow.
        self.samples[self.position] = if sample.abs() < 1e-9 { 0.0 } else { sample };
        self.position = (self.position + 1) % self.samples.len();
    }
}
