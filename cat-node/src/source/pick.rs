//! One channel of a source, for a microphone of which only one is connected.

use std::time::Duration;

use recordings::Channel;

use super::interface::{Read, Source, SourceError, SourceFormat};

/// The source with only the chosen channel.
///
/// # Errors
/// [`SourceError::Fatal`] if the source has no such channel.
pub(super) fn pick(source: Box<dyn Source>, channel: Channel) -> Result<Box<dyn Source>, SourceError> {
    let SourceFormat { sample_rate_hz, channels } = source.format();
    match channel.left_of(channels) {
        Some(left) if left == channels => Ok(source),
        Some(left) => {
            let format = SourceFormat { sample_rate_hz, channels: left };
            Ok(Box::new(Picked { source, channel, channels: usize::from(channels), format }))
        }
        None => Err(SourceError::Fatal(format!(
            "channel {channel} does not exist: \"{}\" has {channels}; set channel to mix or a number from 1",
            source.device()
        ))),
    }
}

struct Picked {
    source: Box<dyn Source>,
    channel: Channel,
    /// Channels of the source.
    channels: usize,
    format: SourceFormat,
}

impl Source for Picked {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn device(&self) -> &str {
        self.source.device()
    }

    fn drift_ppm(&self) -> u64 {
        self.source.drift_ppm()
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        let before = samples.len();
        let read = self.source.read(samples, max_wait)?;
        self.channel.pick(samples, before, self.channels);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stereo;

    impl Source for Stereo {
        fn format(&self) -> SourceFormat {
            SourceFormat { sample_rate_hz: 48_000, channels: 2 }
        }

        fn device(&self) -> &str {
            "stereo"
        }

        fn read(&mut self, samples: &mut Vec<f32>, _: Duration) -> Result<Read, SourceError> {
            samples.extend([0.1, 0.2, 0.3, 0.4]);
            Ok(Read::Samples)
        }
    }

    #[test]
    fn only_the_chosen_channel_is_heard() {
        let heard = |channel| {
            let mut source = pick(Box::new(Stereo), channel).unwrap();
            let mut samples = Vec::new();
            source.read(&mut samples, Duration::ZERO).unwrap();
            (source.format().channels, samples)
        };
        assert_eq!(heard(Channel::Mix), (2, vec![0.1, 0.2, 0.3, 0.4]));
        assert_eq!(heard(Channel::One(1)), (1, vec![0.1, 0.3]));
        assert_eq!(heard(Channel::One(2)), (1, vec![0.2, 0.4]));
        let error = pick(Box::new(Stereo), Channel::One(3)).err().unwrap().to_string();
        assert!(error.contains("channel 3 does not exist: \"stereo\" has 2"), "{error}");
    }
}
