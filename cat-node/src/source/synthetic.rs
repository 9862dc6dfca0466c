//! The synthetic source: a synthesized cat in a synthesized room, in real time.

use std::time::Duration;

use sound::SAMPLE_RATE_HZ;
use sound::synth::{Synth, SynthConfig};

use super::interface::{Read, Source, SourceError, SourceFormat};
use super::pace::{Due, Pace};

/// A [`Synth`] that is paced by the monotonic clock.
#[derive(Debug)]
pub(super) struct Synthetic {
    synth: Synth,
    pace: Pace,
    piece: Vec<i16>,
}

impl Synthetic {
    pub(super) fn open(config: SynthConfig) -> Self {
        Self { synth: Synth::new(config), pace: Pace::start(SAMPLE_RATE_HZ), piece: Vec::new() }
    }

    fn synthesize(&mut self, samples: usize) {
        self.piece.resize(samples, 0);
        self.synth.read(&mut self.piece);
    }
}

impl Source for Synthetic {
    fn format(&self) -> SourceFormat {
        SourceFormat { sample_rate_hz: SAMPLE_RATE_HZ, channels: 1 }
    }

    fn device(&self) -> &str {
        ""
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        let Due::Samples { count, lost } = self.pace.wait(max_wait) else { return Ok(Read::Nothing) };
        // Lost samples are synthesized too, so that each sample depends on its index alone.
        let mut to_skip = lost;
        while to_skip > 0 {
            let step = to_skip.min(u64::from(SAMPLE_RATE_HZ));
            self.synthesize(step as usize);
            to_skip -= step;
        }
        self.synthesize(count);
        samples.extend(self.piece.iter().map(|&sample| f32::from(sample) / 32768.0));
        Ok(if lost > 0 { Read::Overrun { lost_samples: lost } } else { Read::Samples })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_delivers_the_samples_of_its_seed() {
        let config = SynthConfig { seed: 5, vocalisations: true };
        let mut source = Synthetic::open(config);
        let mut got = Vec::new();
        while got.len() < 3200 {
            match source.read(&mut got, Duration::from_secs(1)).unwrap() {
                Read::Samples | Read::Nothing => {}
                // The machine stalled for a second, and samples were lost: they cannot be compared below.
                other => panic!("{other:?}"),
            }
        }
        let mut wanted = vec![0; got.len()];
        Synth::new(config).read(&mut wanted);
        let got: Vec<i16> = got.iter().map(|&sample| (sample * 32768.0) as i16).collect();
        assert_eq!(got, wanted);
    }
}
