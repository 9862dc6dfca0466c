//! The columns that stored events and the detections of analyses have in common: the context and the measurements.

use rusqlite::Row;
use rusqlite::types::Value;
use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};

/// The column names in both tables, in the order of [`values`] and [`read`]. A literal, so that `concat!` can use it.
macro_rules! columns {
    () => {
        "context, p_waiting_for_food, p_isolation, p_brushing, peak_dbfs, rms_dbfs, snr_db, pitch_median_hz, pitch_min_hz, \
         pitch_max_hz, voiced_fraction, spectral_centroid_hz, spectral_flatness"
    };
}
pub(super) use columns;

/// The column names as a constant.
pub(super) const COLUMNS: &str = columns!();

/// Number of columns.
pub(super) const COUNT: usize = 13;

/// The values to store, one for each column.
pub(super) fn values(context: &Context, measured: &Measurements) -> [Value; COUNT] {
    let probabilities = &context.probabilities;
    [
        context.label.as_str().to_owned().into(),
        probabilities.waiting_for_food.into(),
        probabilities.isolation.into(),
        probabilities.brushing.into(),
        measured.peak_dbfs.into(),
        measured.rms_dbfs.into(),
        measured.snr_db.into(),
        measured.pitch_median_hz.into(),
        measured.pitch_min_hz.into(),
        measured.pitch_max_hz.into(),
        measured.voiced_fraction.into(),
        measured.spectral_centroid_hz.into(),
        measured.spectral_flatness.into(),
    ]
}

/// Reads the columns of a row; the first of them has the index `first`.
pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<(Context, Measurements)> {
    let number = |column: usize| row.get::<_, f32>(first + column);
    let context = Context {
        label: ContextLabel::from_word(row.get_ref(first)?.as_str()?),
        probabilities: ContextProbabilities {
            waiting_for_food: number(1)?,
            isolation: number(2)?,
            brushing: number(3)?,
        },
    };
    let measurements = Measurements {
        peak_dbfs: number(4)?,
        rms_dbfs: number(5)?,
        snr_db: number(6)?,
        pitch_median_hz: number(7)?,
        pitch_min_hz: number(8)?,
        pitch_max_hz: number(9)?,
        voiced_fraction: number(10)?,
        spectral_centroid_hz: number(11)?,
        spectral_flatness: number(12)?,
    };
    Ok((context, measurements))
}
