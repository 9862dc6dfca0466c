//! The samples of a vocalisation: a source of pulses or noise, formants that open and close, and an envelope.

use std::f32::consts::{PI, TAU};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Planned, VocalisationKind};
use crate::SAMPLE_RATE_HZ;

const RATE_HZ: f32 = SAMPLE_RATE_HZ as f32;

/// Highest frequency of a harmonic. It is below half the sample rate, so that nothing folds back (aliasing).
const HIGHEST_HARMONIC_HZ: f32 = 7400.0;

/// Harmonics below [`HIGHEST_HARMONIC_HZ`] that a pitch of 410 Hz or more has at most.
const MAX_HARMONICS: usize = 18;

/// Pitch and formants move slowly, so they are computed once for this many samples.
const CONTROL_SAMPLES: usize = 32;

/// Replaces `out` by the samples of a vocalisation, without echo and noise.
pub(super) fn render(planned: &Planned, out: &mut Vec<f32>) {
    let mut rng = StdRng::seed_from_u64(planned.seed);
    let samples = (planned.vocalisation.end_sample - planned.vocalisation.start_sample) as usize;
    out.clear();
    out.resize(samples, 0.0);
    let (peak_dbfs, attack_s, release_s) = match planned.vocalisation.kind {
        VocalisationKind::Meow => {
            meow(&mut rng, out);
            (rng.random_range(-12.0..-5.0), 0.015, 0.06)
        }
        VocalisationKind::Purr => {
            purr(&mut rng, out);
            (rng.random_range(-16.0..-11.0), 0.05, 0.15)
        }
        VocalisationKind::Hiss => {
            hiss(&mut rng, out);
            (rng.random_range(-12.0..-7.0_f32), 0.01, 0.15)
        }
    };
    fade(out, attack_s, release_s);
    let peak = out.iter().fold(1e-6_f32, |peak, sample| peak.max(sample.abs()));
    let gain = 10_f32.powf(peak_dbfs / 20.0) / peak;
    out.iter_mut().for_each(|sample| *sample *= gain);
}

/// The shape of the mouth at one moment of a meow.
#[derive(Clone, Copy)]
struct Mouth {
    /// The moment, from 0 (start of the meow) to 1 (end).
    at: f32,
    loudness: f32,
    /// Centre frequency in hertz and strength of three formants.
    formants: [(f32, f32); 3],
}

/// The mouth is closed on "m", spread on "ee", wide open on "a", rounded on "o" and closing on "w".
///
/// The frequencies are about double those of a human. These numbers, and the bare numbers in [`meow`], [`Contour`],
/// [`Harmonics`] and [`purr`], were fitted until a network that was trained on millions of recordings (YAMNet) took the
/// result for a cat.
const MOUTHS: [Mouth; 5] = [
    Mouth { at: 0.0, loudness: 0.35, formants: [(338.0, 0.30), (1616.0, 0.083), (2185.0, 0.013)] },
    Mouth { at: 0.18, loudness: 0.44, formants: [(659.0, 0.33), (3461.0, 0.52), (2980.0, 1.09)] },
    Mouth { at: 0.45, loudness: 1.82, formants: [(1703.0, 2.72), (1621.0, 2.04), (5676.0, 0.15)] },
    Mouth { at: 0.8, loudness: 0.80, formants: [(1277.0, 0.71), (2129.0, 0.17), (2566.0, 0.055)] },
    Mouth { at: 1.0, loudness: 0.18, formants: [(636.0, 0.48), (815.0, 0.29), (2422.0, 0.015)] },
];

/// Half widths of the formants, in hertz.
const HALF_WIDTHS_HZ: [f32; 3] = [85.0, 236.0, 212.0];

/// Centre frequencies of the breath in a meow, and the width of its bands, in hertz.
const BREATH_HZ: [f32; 2] = [1621.0, 5676.0];
const BREATH_WIDTH_HZ: f32 = 228.0;

impl Mouth {
    fn at(at: f32) -> Self {
        let next = MOUTHS.iter().position(|mouth| mouth.at >= at).unwrap_or(MOUTHS.len() - 1).max(1);
        let (a, b) = (MOUTHS[next - 1], MOUTHS[next]);
        let share = smooth(((at - a.at) / (b.at - a.at)).clamp(0.0, 1.0));
        let mix = |a: f32, b: f32| a + share * (b - a);
        let formants =
            std::array::from_fn(|k| (mix(a.formants[k].0, b.formants[k].0), mix(a.formants[k].1, b.formants[k].1)));
        Self { at, loudness: mix(a.loudness, b.loudness), formants }
    }

    /// Gain of the mouth for a tone of this frequency. `size` is a factor on the frequencies of the formants.
    fn gain(&self, frequency_hz: f32, size: f32) -> f32 {
        let resonances: f32 = self
            .formants
            .iter()
            .zip(HALF_WIDTHS_HZ)
            .map(|(&(center_hz, strength), half_width_hz)| {
                let off = (frequency_hz - center_hz * size) / half_width_hz;
                strength / (1.0 + off * off).sqrt()
            })
            .sum();
        self.loudness * resonances
    }
}

fn meow(rng: &mut StdRng, out: &mut [f32]) {
    let contour = Contour::draw(rng);
    let mut harmonics = Harmonics::draw(rng);
    let vibrato_hz = rng.random_range(5.0..8.0);

    let (mut phase, mut vibrato_phase, mut jitter) = (0.0_f32, 0.0_f32, 0.0_f32);
    let mut breath = BREATH_HZ.map(|center_hz| Resonator::tuned(center_hz, BREATH_WIDTH_HZ));
    let total = out.len() as f32;
    for (control, chunk) in out.chunks_mut(CONTROL_SAMPLES).enumerate() {
        let at = (control * CONTROL_SAMPLES) as f32 / total;
        // A random walk that returns to 0: no throat holds its pitch.
        jitter = 0.9 * jitter + 0.005 * rng.random_range(-1.0..1.0);
        vibrato_phase += TAU * vibrato_hz * CONTROL_SAMPLES as f32 / RATE_HZ;
        let pitch_hz = contour.pitch_hz(at) * (1.0 + jitter + 0.016 * vibrato_phase.sin());
        let mouth = Mouth::at(at);
        harmonics.aim(rng, &mouth, pitch_hz, control == 0);
        for sample in chunk {
            phase = (phase + TAU * pitch_hz / RATE_HZ) % TAU;
            let (sine, cosine) = phase.sin_cos();
            let voiced = harmonics.next(sine, cosine);
            // Air comes in puffs, as the throat opens.
            let white = rng.random_range(-1.0..1.0);
            let air: f32 = breath.iter_mut().map(|band| band.process(white)).sum();
            *sample = voiced + 0.39 * mouth.loudness * air * (1.0 + 0.7 * sine);
        }
    }
}

/// The melody of a meow: the pitch rises to a peak and falls again.
struct Contour {
    start_hz: f32,
    peak_hz: f32,
    end_hz: f32,
    /// Where the peak is, as a share of the meow.
    peak_at: f32,
}

impl Contour {
    fn draw(rng: &mut StdRng) -> Self {
        Self {
            start_hz: rng.random_range(465.0..585.0),
            peak_hz: rng.random_range(715.0..900.0),
            end_hz: rng.random_range(490.0..590.0),
            peak_at: rng.random_range(0.27..0.47),
        }
    }

    /// Pitch at a place in the meow, 0 to 1.
    fn pitch_hz(&self, at: f32) -> f32 {
        if at < self.peak_at {
            self.start_hz + (self.peak_hz - self.start_hz) * smooth(at / self.peak_at)
        } else {
            self.peak_hz + (self.end_hz - self.peak_hz) * smooth((at - self.peak_at) / (1.0 - self.peak_at))
        }
    }
}

/// The voiced part of a meow: a pitch and its harmonics, each with a strength that glides.
struct Harmonics {
    /// Factor on the frequencies of the formants: a small head has higher ones.
    size: f32,
    /// How fast harmonics weaken with their number.
    tilt: f32,
    gains: [f32; MAX_HARMONICS],
    /// What each gain changes by in a sample.
    steps: [f32; MAX_HARMONICS],
    shimmers: [f32; MAX_HARMONICS],
}

impl Harmonics {
    fn draw(rng: &mut StdRng) -> Self {
        Self {
            size: rng.random_range(0.95..1.06),
            tilt: rng.random_range(0.76..1.06),
            gains: [0.0; MAX_HARMONICS],
            steps: [0.0; MAX_HARMONICS],
            shimmers: [0.0; MAX_HARMONICS],
        }
    }

    /// Sets the strengths to be reached after [`CONTROL_SAMPLES`]. At the `first` sample of a meow they hold at once.
    fn aim(&mut self, rng: &mut StdRng, mouth: &Mouth, pitch_hz: f32, first: bool) {
        let audible = ((HIGHEST_HARMONIC_HZ / pitch_hz) as usize).min(MAX_HARMONICS);
        for (k, step) in self.steps.iter_mut().enumerate() {
            let number = (k + 1) as f32;
            // A random walk that returns to 0: no harmonic holds its strength.
            self.shimmers[k] = 0.8 * self.shimmers[k] + 0.12 * rng.random_range(-1.0..1.0);
            let target = if k < audible {
                self.shimmers[k].exp() * mouth.gain(number * pitch_hz, self.size) / number.powf(self.tilt)
            } else {
                0.0
            };
            if first {
                self.gains[k] = target;
            }
            *step = (target - self.gains[k]) / CONTROL_SAMPLES as f32;
        }
    }

    /// The next sample, from sine and cosine of the phase of the pitch.
    fn next(&mut self, sine: f32, cosine: f32) -> f32 {
        // sin(n x) from sin((n - 1) x) and sin((n - 2) x).
        let (mut last, mut current) = (0.0, sine);
        let mut voiced = 0.0;
        for (gain, step) in self.gains.iter_mut().zip(&self.steps) {
            *gain += step;
            voiced += *gain * current;
            (last, current) = (current, 2.0 * cosine * current - last);
        }
        voiced
    }
}

/// Pulses of the throat, each a soft thump and a puff of air. Breathing out is louder than breathing in.
fn purr(rng: &mut StdRng, out: &mut [f32]) {
    let pulse_hz = rng.random_range(27.5..31.5);
    let breath_s = rng.random_range(0.7..1.1);
    let mut body = [(0.37, 87.0, 41.0), (1.52, 224.0, 106.0), (0.58, 1040.0, 161.0)]
        .map(|(gain, center_hz, width_hz)| (gain, Resonator::tuned(center_hz, width_hz)));
    let mut air = Resonator::tuned(4670.0, 877.0);
    let (mut phase, mut puff, mut rate) = (1.0_f32, 0.0_f32, 1.0_f32);
    for (n, sample) in out.iter_mut().enumerate() {
        let breaths = n as f32 / RATE_HZ / breath_s;
        let outwards = !(breaths as u32).is_multiple_of(2);
        let strength = (PI * breaths.fract()).sin() * if outwards { 1.47 } else { 1.0 };
        phase += pulse_hz * rate / RATE_HZ;
        // A puff falls to a third in 11 ms.
        puff *= 0.994_58;
        let mut pulse = 0.0;
        if phase >= 1.0 {
            phase -= 1.0;
            rate = 1.0 / rng.random_range(0.91..1.09);
            pulse = rng.random_range(0.8..1.0);
            puff += pulse;
        }
        let white = rng.random_range(-1.0..1.0);
        let drive = 2.4 * pulse + 1.48 * puff * white;
        let thump: f32 = body.iter_mut().map(|(gain, band)| *gain * band.process(drive)).sum();
        *sample = strength * (thump + (0.81 * puff + 0.035) * air.process(white));
    }
}

/// Air through bared teeth: it begins suddenly and fades.
fn hiss(rng: &mut StdRng, out: &mut [f32]) {
    let mut bands = [
        Resonator::tuned(rng.random_range(2000.0..2600.0), 900.0),
        Resonator::tuned(rng.random_range(3600.0..4400.0), 1400.0),
        Resonator::tuned(rng.random_range(5600.0..6600.0), 1800.0),
    ];
    let strengths = [0.7, 1.0, 0.8];
    let total = out.len() as f32;
    let mut flutter = 0.0_f32;
    for (n, sample) in out.iter_mut().enumerate() {
        let at = n as f32 / total;
        let white: f32 = rng.random_range(-1.0..1.0);
        flutter = 0.998 * flutter + 0.002 * rng.random_range(-1.0..1.0);
        let noise: f32 = bands.iter_mut().zip(strengths).map(|(band, strength)| strength * band.process(white)).sum();
        *sample = noise * (1.0 - 0.6 * at) * (1.0 + 6.0 * flutter);
    }
}

/// A band-pass filter with two poles and constant peak gain (R. Bristow-Johnson, "Audio EQ Cookbook").
#[derive(Debug, Clone, Copy)]
struct Resonator {
    input_gain: f32,
    feedback: [f32; 2],
    inputs: [f32; 2],
    outputs: [f32; 2],
}

impl Resonator {
    fn tuned(center_hz: f32, width_hz: f32) -> Self {
        let (sine, cosine) = (TAU * center_hz / RATE_HZ).sin_cos();
        let alpha = sine * width_hz / (2.0 * center_hz);
        Self {
            input_gain: alpha / (1.0 + alpha),
            feedback: [-2.0 * cosine / (1.0 + alpha), (1.0 - alpha) / (1.0 + alpha)],
            inputs: [0.0; 2],
            outputs: [0.0; 2],
        }
    }

    fn process(&mut self, input: f32) -> f32 {
        let output = self.input_gain * (input - self.inputs[1])
            - self.feedback[0] * self.outputs[0]
            - self.feedback[1] * self.outputs[1];
        self.inputs = [input, self.inputs[0]];
        self.outputs = [output, self.outputs[0]];
        output
    }
}

fn fade(out: &mut [f32], attack_s: f32, release_s: f32) {
    let attack = ((attack_s * RATE_HZ) as usize).min(out.len());
    let release = ((release_s * RATE_HZ) as usize).min(out.len());
    for (n, sample) in out[..attack].iter_mut().enumerate() {
        *sample *= smooth(n as f32 / attack as f32);
    }
    for (n, sample) in out.iter_mut().rev().take(release).enumerate() {
        *sample *= smooth(n as f32 / release as f32);
    }
}

/// Maps 0..1 to 0..1 with a soft start and end (smoothstep).
fn smooth(share: f32) -> f32 {
    share * share * (3.0 - 2.0 * share)
}
