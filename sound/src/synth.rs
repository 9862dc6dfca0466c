//! A synthetic room with a cat in it: endless canonical audio from a seed, and the truth about what is in it.
//!
//! The same seed gives the same samples, however they are read. A plan says when the cat vocalises and how; the samples
//! of a vocalisation are made when it begins; a small room adds its echo, and soft noise lies under everything.

mod room;
mod voice;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::SAMPLE_RATE_HZ;

/// What to synthesize.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthConfig {
    /// Seed of the random numbers, which determines every sample.
    pub seed: u64,
    /// Whether there is a cat. Without one there is only the noise of the room.
    pub vocalisations: bool,
}

/// The kinds of vocalisation that are synthesized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VocalisationKind {
    /// A voiced sound of 0.4 to 1.2 s whose pitch rises and falls between about 400 and 900 Hz.
    Meow,
    /// Pulses, about 29 a second, for 1.5 to 3.5 s.
    Purr,
    /// A burst of shaped noise of 0.4 to 0.9 s.
    Hiss,
}

/// One synthesized vocalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocalisation {
    /// What kind it is.
    pub kind: VocalisationKind,
    /// Index of the first sample. Index 0 is the first sample that a [`Synth`] reads.
    pub start_sample: u64,
    /// Index of the sample after the last one. The echo of the room goes on for a moment after it.
    pub end_sample: u64,
}

/// All vocalisations, in order and without end; none when there is no cat. For those within the samples a to b, skip
/// while `end_sample <= a` and take while `start_sample < b`.
pub fn truth(config: SynthConfig) -> impl Iterator<Item = Vocalisation> {
    Plan::new(config).map(|planned| planned.vocalisation)
}

/// Synthesizes the audio of a [`SynthConfig`].
#[derive(Debug)]
pub struct Synth {
    plan: Plan,
    next: Option<Planned>,
    position: u64,
    /// Samples of the latest vocalisation, and how many of them were read.
    voice: Vec<f32>,
    voice_read: usize,
    room: room::Room,
}

impl Synth {
    /// A synthesizer at the first sample.
    pub fn new(config: SynthConfig) -> Self {
        let mut plan = Plan::new(config);
        Self {
            next: plan.next(),
            plan,
            position: 0,
            voice: Vec::new(),
            voice_read: 0,
            room: room::Room::new(config.seed),
        }
    }

    /// Fills `out` with the next samples of canonical audio.
    pub fn read(&mut self, out: &mut [i16]) {
        for sample in out {
            if let Some(planned) = self.next.take_if(|planned| planned.vocalisation.start_sample == self.position) {
                voice::render(&planned, &mut self.voice);
                self.voice_read = 0;
                self.next = self.plan.next();
            }
            let dry = self.voice.get(self.voice_read).copied().unwrap_or(0.0);
            self.voice_read += 1;
            self.position += 1;
            *sample = (self.room.process(dry) * 32768.0).round() as i16;
        }
    }
}

/// A vocalisation, and the seed that determines how it sounds.
#[derive(Debug, Clone, Copy)]
struct Planned {
    vocalisation: Vocalisation,
    seed: u64,
}

/// Draws when the cat vocalises and how. It is cheap enough for a test to walk through hours of it.
#[derive(Debug)]
struct Plan {
    rng: StdRng,
    position: u64,
    vocalisations: bool,
}

impl Plan {
    fn new(config: SynthConfig) -> Self {
        Self { rng: StdRng::seed_from_u64(config.seed), position: 0, vocalisations: config.vocalisations }
    }
}

impl Iterator for Plan {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if !self.vocalisations {
            return None;
        }
        let pause_s = self.rng.random_range(1.5..4.0);
        let (kind, duration_s) = match self.rng.random_range(0..10) {
            0..7 => (VocalisationKind::Meow, self.rng.random_range(0.4..1.2)),
            7..9 => (VocalisationKind::Purr, self.rng.random_range(1.5..3.5)),
            _ => (VocalisationKind::Hiss, self.rng.random_range(0.4..0.9)),
        };
        let start_sample = self.position + samples(pause_s);
        let end_sample = start_sample + samples(duration_s);
        self.position = end_sample;
        Some(Planned { vocalisation: Vocalisation { kind, start_sample, end_sample }, seed: self.rng.random() })
    }
}

fn samples(seconds: f64) -> u64 {
    (seconds * f64::from(SAMPLE_RATE_HZ)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAT: SynthConfig = SynthConfig { seed: 1, vocalisations: true };
    const SECONDS: usize = 60;

    fn read(config: SynthConfig, chunk: usize) -> Vec<i16> {
        let mut synth = Synth::new(config);
        let mut out = vec![0; SECONDS * 16_000];
        out.chunks_mut(chunk).for_each(|chunk| synth.read(chunk));
        out
    }

    fn rms_dbfs(samples: &[i16]) -> f64 {
        let sum: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        10.0 * (sum / samples.len() as f64 / 32768_f64.powi(2)).max(1e-12).log10()
    }

    #[test]
    fn same_seed_gives_same_samples_however_they_are_read() {
        let whole = read(CAT, usize::MAX);
        for chunk in [1, 320, 777] {
            assert!(read(CAT, chunk) == whole, "read in chunks of {chunk}");
        }
        assert!(read(SynthConfig { seed: 2, ..CAT }, usize::MAX) != whole);
    }

    #[test]
    fn the_cat_vocalises_every_two_to_eight_seconds_in_each_kind() {
        let heard: Vec<Vocalisation> = truth(CAT).take(300).collect();
        for kind in [VocalisationKind::Meow, VocalisationKind::Purr, VocalisationKind::Hiss] {
            assert!(heard.iter().filter(|vocalisation| vocalisation.kind == kind).count() > 15, "{kind:?}");
        }
        for pair in heard.windows(2) {
            let pause_s = (pair[1].start_sample - pair[0].end_sample) as f64 / 16_000.0;
            let period_s = (pair[1].start_sample - pair[0].start_sample) as f64 / 16_000.0;
            assert!(pause_s > 1.4 && (1.9..8.0).contains(&period_s), "{pair:?}");
        }
    }

    #[test]
    fn it_is_loud_where_the_truth_says_and_quiet_elsewhere() {
        for seed in 1..6 {
            let config = SynthConfig { seed, ..CAT };
            let samples = read(config, 320);
            let mut quiet_from = 0;
            for Vocalisation { kind, start_sample, end_sample } in
                truth(config).take_while(|vocalisation| vocalisation.end_sample < samples.len() as u64)
            {
                let (start, end) = (start_sample as usize, end_sample as usize);
                let loud = rms_dbfs(&samples[start..end]);
                let quiet = rms_dbfs(&samples[quiet_from..start]);
                let least = if kind == VocalisationKind::Purr { -42.0 } else { -30.0 };
                assert!(loud > least && loud < -9.0, "{kind:?} at {start} has {loud} dB");
                assert!(quiet < -55.0, "before {start}: {quiet} dB");
                // The first tenth is part of it, not late silence.
                assert!(rms_dbfs(&samples[start..start + (end - start) / 10]) > quiet + 6.0, "{kind:?} at {start}");
                // The echo has died away after 600 ms.
                quiet_from = end + 9600;
            }
        }
    }

    #[test]
    fn without_a_cat_there_is_room_noise_but_never_digital_silence() {
        let config = SynthConfig { vocalisations: false, ..CAT };
        assert_eq!(truth(config).count(), 0);
        let samples = read(config, 320);
        let level = rms_dbfs(&samples);
        assert!((-75.0..-55.0).contains(&level), "{level}");
        assert!(samples.chunks(320).all(|frame| frame.iter().any(|&sample| sample != 0)));
    }

    #[test]
    fn nothing_clips() {
        for seed in 0..10 {
            let peak = read(SynthConfig { seed, ..CAT }, 320).iter().map(|sample| sample.unsigned_abs()).max();
            assert!(peak.is_some_and(|peak| peak < 32_000), "{peak:?}");
        }
    }
}
