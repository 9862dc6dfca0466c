//! Where audio comes from: one trait, and one file for each kind of source.

mod interface;
#[cfg(feature = "microphone")]
pub mod microphone;
#[cfg(feature = "network-sources")]
mod network;
mod pace;
mod pick;
mod spec;
mod stream_url;
mod synthetic;
mod wav;

use recordings::Channel;
use sound::framer::{FramerError, SOURCE_RATES_HZ};
use sound::synth::SynthConfig;

pub use interface::{CARD_DRIFT_PPM, Read, Source, SourceError, SourceFormat};
pub use spec::{DEFAULT_SEED, SourceSpec};
pub use stream_url::StreamUrl;

/// Opens the source that a spec describes, and hears one channel of it or the mean of all.
///
/// # Errors
/// Any [`SourceError`]: each says whether a retry can help.
pub fn open(spec: &SourceSpec, channel: Channel) -> Result<Box<dyn Source>, SourceError> {
    match spec {
        SourceSpec::Microphone { id } => live(open_microphone(id.as_deref())?, channel),
        SourceSpec::Synthetic { seed, vocalisations } => {
            let source = synthetic::Synthetic::open(SynthConfig { seed: *seed, vocalisations: *vocalisations });
            pick::pick(Box::new(source), channel)
        }
        SourceSpec::Stream { url } => live(open_stream(url)?, channel),
        SourceSpec::Wav { path, once } => Ok(Box::new(wav::Wav::open(path, *once, channel)?)),
    }
}

/// A device or a server, which may have another format the next time: what does not fit now is tried again.
fn live(source: Box<dyn Source>, channel: Channel) -> Result<Box<dyn Source>, SourceError> {
    let (rate_hz, device) = (source.format().sample_rate_hz, source.device().to_owned());
    if !SOURCE_RATES_HZ.contains(&rate_hz) {
        return Err(SourceError::Refused(format!("\"{device}\": {}", FramerError::Rate(rate_hz))));
    }
    pick::pick(source, channel).map_err(|error| match error {
        SourceError::Fatal(why) => SourceError::Refused(why),
        error => error,
    })
}

#[cfg(feature = "network-sources")]
fn open_stream(url: &StreamUrl) -> Result<Box<dyn Source>, SourceError> {
    network::open(url)
}

#[cfg(not(feature = "network-sources"))]
fn open_stream(_: &StreamUrl) -> Result<Box<dyn Source>, SourceError> {
    Err(SourceError::Fatal(spec::NO_NETWORK.into()))
}

#[cfg(feature = "microphone")]
fn open_microphone(id: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    microphone::open(id)
}

#[cfg(not(feature = "microphone"))]
fn open_microphone(_: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    Err(SourceError::Fatal(
        "this cat-node was built without microphones (cargo feature \"microphone\"); use another source".into(),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Live(SourceFormat);

    impl Source for Live {
        fn format(&self) -> SourceFormat {
            self.0
        }

        fn device(&self) -> &str {
            "camera"
        }

        fn read(&mut self, _: &mut Vec<f32>, _: Duration) -> Result<Read, SourceError> {
            Ok(Read::Nothing)
        }
    }

    #[test]
    fn device_that_comes_back_with_another_format_is_tried_again() {
        let open = |sample_rate_hz, channels| {
            live(Box::new(Live(SourceFormat { sample_rate_hz, channels })), "right".parse().unwrap())
        };
        assert!(open(48_000, 2).is_ok());
        for (rate_hz, channels, why) in [(48_000, 1, "channel right does not exist"), (5, 2, "5 Hz is not supported")] {
            let error = open(rate_hz, channels).err().unwrap();
            assert!(matches!(&error, SourceError::Refused(said) if said.contains(why)), "{error:?}");
        }
    }
}
