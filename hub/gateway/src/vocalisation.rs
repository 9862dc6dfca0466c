//! How the API describes a vocalisation: its context and its measurements. Analyses and events share it.

use serde::Serialize;
use sound::detection::{Context, Measurements};
use sound::household::model_name;
use utoipa::ToSchema;

/// The context of a vocalisation, as classified.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContextAnswer {
    /// `waiting_for_food`, `isolation`, `brushing` or `uncertain`.
    label: &'static str,
    /// The probabilities from which the label was chosen.
    probabilities: ProbabilitiesAnswer,
    /// Which model classified it: `general`, the model for any cat, or `household`, the model that the owner's labels
    /// trained for this cat.
    model: &'static str,
    /// Number of labels of this cat that the classification is based on.
    labels: u32,
}

/// Probabilities of the contexts, each 0 to 1. Their sum is 1.
#[derive(Debug, Serialize, ToSchema)]
struct ProbabilitiesAnswer {
    /// Waiting for food.
    waiting_for_food: f32,
    /// Alone in an unfamiliar place.
    isolation: f32,
    /// Being brushed at home.
    brushing: f32,
}

/// Acoustic measurements of a vocalisation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeasurementsAnswer {
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Level above the background before it, in dB.
    snr_db: f32,
    /// Median pitch, in hertz. 0: no pitch was found.
    pitch_median_hz: f32,
    /// Lowest pitch, in hertz.
    pitch_min_hz: f32,
    /// Highest pitch, in hertz.
    pitch_max_hz: f32,
    /// Fraction of the vocalisation that has a pitch, 0 to 1.
    voiced_fraction: f32,
    /// Centre of gravity of the spectrum, in hertz.
    spectral_centroid_hz: f32,
    /// 0 for a pure tone, 1 for white noise.
    spectral_flatness: f32,
}

impl ContextAnswer {
    /// `labels` is the number of labels of the cat that the context is based on.
    pub(super) fn new(context: &Context, labels: u32) -> Self {
        let probabilities = &context.probabilities;
        Self {
            label: context.label.as_str(),
            probabilities: ProbabilitiesAnswer {
                waiting_for_food: probabilities.waiting_for_food,
                isolation: probabilities.isolation,
                brushing: probabilities.brushing,
            },
            model: model_name(labels),
            labels,
        }
    }
}

impl From<&Measurements> for MeasurementsAnswer {
    fn from(measured: &Measurements) -> Self {
        Self {
            peak_dbfs: measured.peak_dbfs,
            rms_dbfs: measured.rms_dbfs,
            snr_db: measured.snr_db,
            pitch_median_hz: measured.pitch_median_hz,
            pitch_min_hz: measured.pitch_min_hz,
            pitch_max_hz: measured.pitch_max_hz,
            voiced_fraction: measured.voiced_fraction,
            spectral_centroid_hz: measured.spectral_centroid_hz,
            spectral_flatness: measured.spectral_flatness,
        }
    }
}
