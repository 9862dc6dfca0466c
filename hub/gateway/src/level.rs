//! How the API describes the current level of a node. The update stream and `/api/v1/listening` share it.

use hub_listen::live::LiveLevel;
use serde::Serialize;
use utoipa::ToSchema;

/// Current level of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LiveLevelAnswer {
    /// URL of the node.
    node: String,
    /// Root mean square, in dB of full scale, -120 to 0.
    rms_dbfs: f32,
    /// Highest absolute sample, in dB of full scale, -120 to 0.
    peak_dbfs: f32,
    /// How likely the audio contains a cat, 0 to 1.
    score: f32,
    /// Age of the audio when it was analysed, in milliseconds.
    lag_ms: u64,
}

impl From<&LiveLevel> for LiveLevelAnswer {
    fn from(level: &LiveLevel) -> Self {
        Self {
            node: level.node.clone(),
            rms_dbfs: level.rms_dbfs,
            peak_dbfs: level.peak_dbfs,
            score: level.score,
            lag_ms: level.lag_ms,
        }
    }
}
