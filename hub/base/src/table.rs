//! Columns that all CSV tables (RFC 4180) of vocalisations share, from live listening and from files.

use sound::detection::{Context, Measurements};

/// Columns of a context.
pub const CONTEXT_COLUMNS: [&str; 4] = ["context", "p_waiting_for_food", "p_isolation", "p_brushing"];

/// Columns of the measurements of a sound.
pub const MEASURED_COLUMNS: [&str; 9] = [
    "peak_dbfs",
    "rms_dbfs",
    "snr_db",
    "pitch_median_hz",
    "pitch_min_hz",
    "pitch_max_hz",
    "voiced_fraction",
    "spectral_centroid_hz",
    "spectral_flatness",
];

/// The fields for [`CONTEXT_COLUMNS`].
pub fn context_fields(context: &Context) -> [String; CONTEXT_COLUMNS.len()] {
    let probabilities = &context.probabilities;
    [
        context.label.as_str().into(),
        probabilities.waiting_for_food.to_string(),
        probabilities.isolation.to_string(),
        probabilities.brushing.to_string(),
    ]
}

/// The fields for [`MEASURED_COLUMNS`].
pub fn measured_fields(measured: &Measurements) -> [String; MEASURED_COLUMNS.len()] {
    [
        measured.peak_dbfs,
        measured.rms_dbfs,
        measured.snr_db,
        measured.pitch_median_hz,
        measured.pitch_min_hz,
        measured.pitch_max_hz,
        measured.voiced_fraction,
        measured.spectral_centroid_hz,
        measured.spectral_flatness,
    ]
    .map(|value| value.to_string())
}

/// Writes rows as CSV. All rows must have as many fields as the first.
pub fn records(rows: impl IntoIterator<Item = impl IntoIterator<Item = impl AsRef<[u8]>>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("every row has the same fields, and memory takes every byte");
    }
    writer.into_inner().expect("memory takes every byte")
}
