//! Whether the mix of the channels hides what is in them.

use crate::channel::Channel;

/// Channels below this mean square have no sound: -80 dB of full scale.
const SILENT: f64 = 1e-8;

/// The channels cancel each other if the mix has less than this share of their power: 30 dB less.
const CANCELLED: f64 = 1e-3;

/// A channel drowns the others if it has more than this many times the power of the loudest of them: 10 dB more.
const DROWNS: f64 = 10.0;

/// Measures the power of each channel and of their mean.
#[derive(Debug)]
pub struct Balance {
    frames: u64,
    /// Sums of squares.
    channels: Vec<f64>,
    mix: f64,
}

impl Balance {
    /// Nothing is measured yet. `channels`: how many channels the samples have.
    pub fn new(channels: u16) -> Self {
        Self { frames: 0, channels: vec![0.0; usize::from(channels)], mix: 0.0 }
    }

    /// Takes interleaved samples, -1 to 1. With fewer than two channels there is nothing to measure.
    pub fn push(&mut self, samples: &[f32]) {
        let count = self.channels.len();
        if count < 2 {
            return;
        }
        let scale = 1.0 / count as f64;
        for frame in samples.chunks_exact(count) {
            let mut sum = 0.0;
            for (power, sample) in self.channels.iter_mut().zip(frame) {
                let sample = f64::from(*sample);
                *power += sample * sample;
                sum += sample;
            }
            self.mix += (sum * scale) * (sum * scale);
            self.frames += 1;
        }
    }

    /// What is wrong with the mix, in words, and the channel to hear instead. `None`: nothing.
    pub fn fault(&self) -> Option<(Channel, String)> {
        if self.channels.len() < 2 || self.frames == 0 {
            return None;
        }
        let powers: Vec<f64> = self.channels.iter().map(|sum| sum / self.frames as f64).collect();
        let mut order: Vec<usize> = (0..powers.len()).collect();
        order.sort_by(|a, b| powers[*b].total_cmp(&powers[*a]));
        let (loudest, second) = (order[0], order[1]);
        let channel = |place: usize| Channel::One(place as u16 + 1);
        if powers[second] <= SILENT {
            return None;
        }
        let mean = powers.iter().sum::<f64>() / powers.len() as f64;
        if self.mix / (self.frames as f64) < mean * CANCELLED {
            let words = "the channels cancel each other in the mix (one is the opposite of the other)";
            return Some((channel(loudest), words.to_owned()));
        }
        let times = powers[loudest] / powers[second];
        (times > DROWNS).then(|| {
            let (loud, quiet, db) = (channel(loudest), channel(second), 10.0 * times.log10());
            (quiet, format!("channel {loud} is {db:.0} dB louder than channel {quiet} and drowns it in the mix"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(frame: impl Fn(f32) -> [f32; 2]) -> Option<(Channel, String)> {
        let mut balance = Balance::new(2);
        let samples: Vec<f32> = (0..1000).flat_map(|n| frame((n as f32 * 0.3).sin())).collect();
        balance.push(&samples);
        balance.fault()
    }

    #[test]
    fn a_mix_that_hides_a_channel_is_noticed() {
        let (channel, words) = fault(|sample| [sample, -sample]).unwrap();
        assert!(channel == Channel::One(1) && words.contains("cancel"), "{words}");
        let (channel, words) = fault(|sample| [sample * 0.1, sample]).unwrap();
        assert_eq!(channel, Channel::One(1));
        assert_eq!(words, "channel right is 20 dB louder than channel left and drowns it in the mix");
        for (left, right) in [(1.0, 1.0), (1.0, 0.5), (1.0, 0.0), (0.0, 0.0), (1e-5, -1e-5)] {
            assert_eq!(fault(|sample| [sample * left, sample * right]), None, "{left} and {right}");
        }
        assert_eq!(Balance::new(1).fault(), None);
    }
}
