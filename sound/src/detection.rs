//! The result of an analysis: the types that the analysis, the store and the API share.

use serde::{Deserialize, Serialize};

/// The context in which a cat vocalised: the three classes of the CatMeows study (Ludovico et al. 2020,
/// doi:10.5281/zenodo.4008297), or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextLabel {
    /// Waiting for food.
    WaitingForFood,
    /// Alone in an unfamiliar place.
    Isolation,
    /// Being brushed at home.
    Brushing,
    /// No context is probable enough to be named.
    Uncertain,
}

impl ContextLabel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::WaitingForFood, Self::Isolation, Self::Brushing, Self::Uncertain];

    /// The word for it in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForFood => "waiting_for_food",
            Self::Isolation => "isolation",
            Self::Brushing => "brushing",
            Self::Uncertain => "uncertain",
        }
    }

    /// The context that a word stands for; `Uncertain` for a word that this version does not know.
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|label| label.as_str() == word).unwrap_or(Self::Uncertain)
    }
}

/// Probabilities of the contexts, each 0 to 1. They add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ContextProbabilities {
    /// Waiting for food.
    pub waiting_for_food: f32,
    /// Alone in an unfamiliar place.
    pub isolation: f32,
    /// Being brushed at home.
    pub brushing: f32,
}

/// The context of a vocalisation: a label and the probabilities behind it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The most probable context, or [`ContextLabel::Uncertain`].
    pub label: ContextLabel,
    /// The probabilities that the label was chosen from.
    pub probabilities: ContextProbabilities,
}

/// Measurements on the audio of one vocalisation. [`crate::measure::Meter::measure`] makes them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    pub peak_dbfs: f32,
    /// Root mean square, in dB of full scale, -120 to 0.
    pub rms_dbfs: f32,
    /// RMS level above that of the background before the vocalisation, in dB. Negative: quieter than the background.
    pub snr_db: f32,
    /// Median of the pitch track, in hertz. 0: no pitch was found.
    pub pitch_median_hz: f32,
    /// Lowest pitch of the track, in hertz. 0: no pitch was found.
    pub pitch_min_hz: f32,
    /// Highest pitch of the track, in hertz. 0: no pitch was found.
    pub pitch_max_hz: f32,
    /// Share of the analysis windows that have a pitch, 0 to 1.
    pub voiced_fraction: f32,
    /// Centre of gravity of the power spectrum, averaged over the windows, in hertz, 0 to 8000.
    pub spectral_centroid_hz: f32,
    /// Spectral flatness (geometric over arithmetic mean of the power spectrum), averaged over the windows: 0 for a
    /// tone, 1 for a flat spectrum.
    pub spectral_flatness: f32,
}

impl Measurements {
    /// All of them, in the order of the fields.
    #[must_use]
    pub fn numbers(&self) -> [f32; 9] {
        [
            self.peak_dbfs,
            self.rms_dbfs,
            self.snr_db,
            self.pitch_median_hz,
            self.pitch_min_hz,
            self.pitch_max_hz,
            self.voiced_fraction,
            self.spectral_centroid_hz,
            self.spectral_flatness,
        ]
    }
}

/// One vocalisation: where it is, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Index of the first sample. Index 0 is the first sample of the stream; lost samples count.
    pub start_sample: u64,
    /// Index of the sample after the last one.
    pub end_sample: u64,
    /// Probability that this is a cat, 0 to 1.
    pub score: f32,
    /// The context.
    pub context: Context,
    /// The measurements.
    pub measurements: Measurements,
}
