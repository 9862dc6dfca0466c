//! Notices that the mix of the channels hides what the microphone or the recording has in them.

use recordings::Balance;

use crate::source::SourceFormat;

/// The channels are compared over this much audio, in seconds. A shorter recording is compared at its end.
const LOOK_S: u64 = 30;

/// Compares the channels of a source until it has found a fault, which is reported once.
#[derive(Debug, Default)]
pub(super) struct MixWatch {
    /// What is measured now, the format, and the frames so far.
    look: Option<(Balance, SourceFormat, u64)>,
    is_reported: bool,
}

impl MixWatch {
    /// Takes the interleaved samples of one read. Returns a warning if one is due.
    pub(super) fn take(&mut self, samples: &[f32], format: SourceFormat) -> Option<String> {
        if self.is_reported || format.channels < 2 {
            return None;
        }
        let (balance, of, frames) = self.look.get_or_insert_with(|| (Balance::new(format.channels), format, 0));
        if *of != format {
            (*balance, *of, *frames) = (Balance::new(format.channels), format, 0);
        }
        balance.push(samples);
        *frames += samples.len() as u64 / u64::from(format.channels);
        if *frames < LOOK_S * u64::from(format.sample_rate_hz) { None } else { self.end() }
    }

    /// Judges what was measured so far. Returns a warning if one is due.
    pub(super) fn end(&mut self) -> Option<String> {
        let (channel, words) = self.look.take()?.0.fault()?;
        self.is_reported = true;
        Some(format!("{words}; with channel = \"{channel}\" the node hears that channel alone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: SourceFormat = SourceFormat { sample_rate_hz: 100, channels: 2 };

    /// This many seconds of a tone in both channels, each with its own amplitude.
    fn tone(seconds: usize, left: f32, right: f32) -> Vec<f32> {
        (0..seconds * 100).flat_map(|n| [left, right].map(|amplitude| (n as f32 * 0.3).sin() * amplitude)).collect()
    }

    #[test]
    fn mix_that_hides_a_channel_is_reported_once() {
        let mut watch = MixWatch::default();
        assert_eq!(watch.take(&tone(29, 0.5, -0.5), STEREO), None);
        let warning = watch.take(&tone(1, 0.5, -0.5), STEREO).unwrap();
        assert!(
            warning.contains("cancel")
                && warning.ends_with("with channel = \"left\" the node hears that channel alone")
        );
        assert_eq!(watch.take(&tone(60, 0.5, -0.5), STEREO), None);
    }

    #[test]
    fn short_recording_is_judged_at_its_end() {
        let mut watch = MixWatch::default();
        assert_eq!(watch.take(&tone(5, 0.9, 0.05), STEREO), None);
        assert!(watch.end().unwrap().contains("channel left is 25 dB louder than channel right and drowns it"));
        assert_eq!(watch.end(), None);
    }

    #[test]
    fn channels_that_fit_are_judged_again_and_again_in_their_own_format() {
        let mut watch = MixWatch::default();
        assert_eq!(watch.take(&tone(30, 0.5, 0.5), STEREO), None);
        assert_eq!(watch.take(&tone(20, 0.5, -0.5), STEREO), None);
        // Another device: what the first one had is not judged with it.
        let other = SourceFormat { sample_rate_hz: 10, ..STEREO };
        assert_eq!(watch.take(&tone(30, 0.5, 0.5), other), None);
        assert_eq!(watch.take(&tone(30, 0.5, 0.5), SourceFormat { channels: 1, ..STEREO }), None);
        assert_eq!(watch.end(), None);
        assert!(watch.take(&tone(30, 0.5, -0.5), STEREO).is_some());
    }
}
