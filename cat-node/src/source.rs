//! Where audio comes from: one trait, and one file for each kind of source.

mod interface;
#[cfg(feature = "microphone")]
pub mod microphone;
mod pace;
mod spec;
mod synthetic;
mod wav;

use sound::synth::SynthConfig;

pub use interface::{Read, Source, SourceError, SourceFormat};
pub use spec::{DEFAULT_SEED, SourceSpec};

/// Opens the source that a spec describes.
///
/// # Errors
/// Any [`SourceError`]: each says whether a retry can help.
pub fn open(spec: &SourceSpec) -> Result<Box<dyn Source>, SourceError> {
    match spec {
        SourceSpec::Microphone { id } => open_microphone(id.as_deref()),
        SourceSpec::Synthetic { seed, vocalisations } => {
            Ok(Box::new(synthetic::Synthetic::open(SynthConfig { seed: *seed, vocalisations: *vocalisations })))
        }
        SourceSpec::Wav { path, once } => Ok(Box::new(wav::Wav::open(path, *once)?)),
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
