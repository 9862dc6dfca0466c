//! Where audio comes from: one trait, and one file for each kind of source.

mod interface;
#[cfg(feature = "microphone")]
pub mod microphone;
mod pace;
mod pick;
mod spec;
mod synthetic;
mod wav;

use recordings::Channel;
use sound::synth::SynthConfig;

pub use interface::{Read, Source, SourceError, SourceFormat};
pub use spec::{DEFAULT_SEED, SourceSpec};

/// Opens the source that a spec describes, and hears one channel of it or the mean of all.
///
/// # Errors
/// Any [`SourceError`]: each says whether a retry can help.
pub fn open(spec: &SourceSpec, channel: Channel) -> Result<Box<dyn Source>, SourceError> {
    match spec {
        SourceSpec::Microphone { id } => pick::pick(open_microphone(id.as_deref())?, channel),
        SourceSpec::Synthetic { seed, vocalisations } => {
            let source = synthetic::Synthetic::open(SynthConfig { seed: *seed, vocalisations: *vocalisations });
            pick::pick(Box::new(source), channel)
        }
        SourceSpec::Wav { path, once } => Ok(Box::new(wav::Wav::open(path, *once, channel)?)),
    }
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
