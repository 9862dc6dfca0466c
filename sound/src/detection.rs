//! What listening finds: the types that analysis, store and API share.

use serde::{Deserialize, Serialize};

/// In which context a cat vocalised. The three classes of the CatMeows study (Ludovico et al. 2020, Zenodo 4008297).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextLabel {
    /// Waiting for food.
    WaitingForFood,
    /// Alone in an unfamiliar place.
    Isolation,
    /// Being brushed at home.
    Brushing,
    /// The probabilities do not single one out.
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

/// Probabilities of the contexts, each 0 to 1, together 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ContextProbabilities {
    /// Waiting for food.
    pub waiting_for_food: f32,
    /// Alone in an unfamiliar place.
    pub isolation: f32,
    /// Being brushed at home.
    pub brushing: f32,
}

/// The answer to "in which context": a label and what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The most probable context, or `uncertain`.
    pub label: ContextLabel,
    /// The probabilities it was chosen from.
    pub probabilities: ContextProbabilities,
}

/// What was measured on the audio of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measurements {
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    pub peak_dbfs: f32,
    /// Root mean square, in dB of full scale, -120 to 0.
    pub rms_dbfs: f32,
    /// Level above the background before it, in dB. Negative: quieter.
    pub snr_db: f32,
    /// Median of the pitch track, in hertz. 0: no pitch was found.
    pub pitch_median_hz: f32,
    /// Lowest pitch of the track, in hertz. 0: no pitch was found.
    pub pitch_min_hz: f32,
    /// Highest pitch of the track, in hertz. 0: no pitch was found.
    pub pitch_max_hz: f32,
    /// Share of the frames that have a pitch, 0 to 1.
    pub voiced_fraction: f32,
    /// Mean centre of gravity of the power spectrum, in hertz, 0 to 8000.
    pub spectral_centroid_hz: f32,
    /// Mean spectral flatness: 0 for a tone, 1 for white noise.
    pub spectral_flatness: f32,
}

/// One cat vocalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// First sample, counted from the first one pushed (gaps counted).
    pub start_sample: u64,
    /// The sample after the last.
    pub end_sample: u64,
    /// How sure it is a cat: 0 to 1.
    pub score: f32,
    /// In which context.
    pub context: Context,
    /// What was measured.
    pub measurements: Measurements,
}
