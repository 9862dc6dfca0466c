//! How a cat's vocalisations sound: a pulse or noise source, formants that open and close, an envelope.

use std::f32::consts::TAU;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Planned, VocalisationKind};
use crate::SAMPLE_RATE_HZ;

const RATE_HZ: f32 = SAMPLE_RATE_HZ as f32;

/// Harmonics are made up to here: below half the sampling rate, so that nothing folds back.
const HIGHEST_HARMONIC_HZ: f32 = 7400.0;

/// Most harmonics that a pitch of 250 Hz or more can have below that.
const MAX_HARMONICS: usize = 29;

/// Samples between two looks at the slowly moving parts: pitch and formants.
const CONTROL_SAMPLES: usize = 32;

/// Renders a vocalisation: as many samples as it lasts.
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
            (rng.random_range(-16.0..-12.0), 0.05, 0.15)
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

/// The shape of the mouth at a moment of a meow.
#[derive(Clone, Copy)]
struct Mouth {
    /// 0 to 1 of the meow.
    at: f32,
    loudness: f32,
    /// Frequency in hertz and strength of three formants.
    formants: [(f32, f32); 3],
}

/// Closed on "m", spread on "ee", wide open on "a", rounded on "o", closing on "w". The formants lie as a vocal tract of
/// about 9 cm has them, half of a human's.
const MOUTHS: [Mouth; 5] = [
    Mouth { at: 0.0, loudness: 0.35, formants: [(450.0, 0.8), (1500.0, 0.10), (3100.0, 0.03)] },
    Mouth { at: 0.18, loudness: 0.8, formants: [(750.0, 0.9), (2700.0, 0.80), (3900.0, 0.40)] },
    Mouth { at: 0.45, loudness: 1.0, formants: [(1200.0, 1.0), (2300.0, 0.75), (4000.0, 0.40)] },
    Mouth { at: 0.8, loudness: 0.7, formants: [(900.0, 1.0), (1500.0, 0.45), (3600.0, 0.15)] },
    Mouth { at: 1.0, loudness: 0.25, formants: [(550.0, 0.8), (1000.0, 0.20), (3200.0, 0.04)] },
];

/// Half widths of the formants, in hertz.
const HALF_WIDTHS_HZ: [f32; 3] = [140.0, 220.0, 350.0];

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

    /// How much of a tone of this frequency gets out.
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
    let start_hz = rng.random_range(420.0..560.0);
    let peak_hz = rng.random_range(600.0..860.0);
    let end_hz = rng.random_range(400.0..520.0);
    let peak_at = rng.random_range(0.25..0.5);
    let size = rng.random_range(0.93..1.08);
    let vibrato_hz = rng.random_range(5.0..8.0);
    let vibrato_depth = rng.random_range(0.004..0.015);
    let breath = rng.random_range(0.01..0.03);
    let tilt = rng.random_range(0.7..1.1);

    let (mut phase, mut vibrato_phase, mut jitter) = (0.0_f32, 0.0_f32, 0.0_f32);
    let mut gains = [0.0_f32; MAX_HARMONICS];
    let mut steps = [0.0_f32; MAX_HARMONICS];
    let mut breath_filters = [Resonator::default(); 2];
    let total = out.len() as f32;
    for (control, chunk) in out.chunks_mut(CONTROL_SAMPLES).enumerate() {
        let at = (control * CONTROL_SAMPLES) as f32 / total;
        let contour_hz = if at < peak_at {
            start_hz + (peak_hz - start_hz) * smooth(at / peak_at)
        } else {
            peak_hz + (end_hz - peak_hz) * smooth((at - peak_at) / (1.0 - peak_at))
        };
        // A slow random walk of under a percent: no throat holds its pitch.
        jitter = 0.97 * jitter + 0.0015 * rng.random_range(-1.0..1.0);
        vibrato_phase += TAU * vibrato_hz * CONTROL_SAMPLES as f32 / RATE_HZ;
        let pitch_hz = contour_hz * (1.0 + jitter + vibrato_depth * vibrato_phase.sin());

        let mouth = Mouth::at(at);
        let harmonics = ((HIGHEST_HARMONIC_HZ / pitch_hz) as usize).min(MAX_HARMONICS);
        for (k, (gain, step)) in gains.iter().zip(&mut steps).enumerate() {
            let number = (k + 1) as f32;
            let target = if k < harmonics { mouth.gain(number * pitch_hz, size) / number.powf(tilt) } else { 0.0 };
            *step = (target - gain) / CONTROL_SAMPLES as f32;
        }
        for (filter, &(center_hz, _)) in breath_filters.iter_mut().zip(&mouth.formants[1..]) {
            filter.tune(center_hz * size, 500.0);
        }
        for sample in chunk {
            phase = (phase + TAU * pitch_hz / RATE_HZ) % TAU;
            // sin(n x) from sin((n - 1) x) and sin((n - 2) x).
            let (sine, cosine) = phase.sin_cos();
            let (mut last, mut current) = (0.0, sine);
            let mut voiced = 0.0;
            for (gain, step) in gains.iter_mut().zip(&steps) {
                *gain += step;
                voiced += *gain * current;
                (last, current) = (current, 2.0 * cosine * current - last);
            }
            let white = rng.random_range(-1.0..1.0);
            let breathy: f32 = breath_filters.iter_mut().map(|filter| filter.process(white)).sum();
            *sample = voiced + breath * mouth.loudness * breathy;
        }
    }
}

/// Pulses of the throat, each a soft thump and a puff of air; in and out the breath sounds differently.
fn purr(rng: &mut StdRng, out: &mut [f32]) {
    let pulse_hz: f32 = rng.random_range(23.0..29.0);
    let breath_s = rng.random_range(0.7..1.1);
    let mut body = [Resonator::default(), Resonator::default(), Resonator::default()];
    let mut air = Resonator::default();
    let (mut phase, mut puff, mut rate) = (1.0_f32, 0.0_f32, 1.0_f32);
    for (n, sample) in out.iter_mut().enumerate() {
        let breath = (n as f32 / RATE_HZ / breath_s).fract();
        let inwards = ((n as f32 / RATE_HZ / breath_s) as u32).is_multiple_of(2);
        if n % CONTROL_SAMPLES == 0 {
            let shift = if inwards { 1.0 } else { 0.8 };
            body[0].tune(130.0 * shift, 60.0);
            body[1].tune(260.0 * shift, 90.0);
            body[2].tune(620.0 * shift, 200.0);
            air.tune(if inwards { 2400.0 } else { 1800.0 }, 1500.0);
        }
        phase += pulse_hz * rate / RATE_HZ;
        let mut pulse = 0.0;
        if phase >= 1.0 {
            phase -= 1.0;
            rate = rng.random_range(0.94..1.06);
            pulse = rng.random_range(0.8..1.0);
            puff = 1.0;
        }
        puff *= 0.994;
        let strength = 0.35 + 0.65 * (std::f32::consts::PI * breath).sin();
        let white: f32 = rng.random_range(-1.0..1.0);
        let thump: f32 = body.iter_mut().map(|filter| filter.process(40.0 * pulse + 0.6 * puff * white)).sum();
        *sample = strength * (thump + 0.25 * puff * air.process(white));
    }
}

/// Air through bared teeth: sudden, then fading.
fn hiss(rng: &mut StdRng, out: &mut [f32]) {
    let mut bands = [Resonator::default(), Resonator::default(), Resonator::default()];
    bands[0].tune(rng.random_range(2000.0..2600.0), 900.0);
    bands[1].tune(rng.random_range(3600.0..4400.0), 1400.0);
    bands[2].tune(rng.random_range(5600.0..6600.0), 1800.0);
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

/// A band-pass of two poles (the cookbook of R. Bristow-Johnson, constant peak gain).
#[derive(Debug, Clone, Copy, Default)]
struct Resonator {
    input_gain: f32,
    feedback: [f32; 2],
    inputs: [f32; 2],
    outputs: [f32; 2],
}

impl Resonator {
    fn tune(&mut self, center_hz: f32, width_hz: f32) {
        let (sine, cosine) = (TAU * center_hz / RATE_HZ).sin_cos();
        let alpha = sine * width_hz / (2.0 * center_hz);
        self.input_gain = alpha / (1.0 + alpha);
        self.feedback = [-2.0 * cosine / (1.0 + alpha), (1.0 - alpha) / (1.0 + alpha)];
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

/// 0 to 1 with a soft start and end.
fn smooth(share: f32) -> f32 {
    share * share * (3.0 - 2.0 * share)
}
