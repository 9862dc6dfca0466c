//! A live spectrogram: one column after the other while the audio comes.

use super::{Eye, WINDOW_SAMPLES, decibels_of};

/// Samples that a column covers: 64 ms. A second has 15.6 columns.
pub const COLUMN_SAMPLES: usize = 1_024;

/// Rows of a column.
pub const COLUMN_ROWS: usize = 48;

/// The level, in dB of full scale, that is byte 0. Lower levels are 0 too.
pub const COLUMN_FLOOR_DBFS: f32 = -100.0;

/// The span of the bytes, in dB: byte 255 is 0 dB of full scale.
pub const COLUMN_DB: f32 = -COLUMN_FLOOR_DBFS;

/// One column of levels: byte = (level in dBFS + 100) * 2.55. Rows are evenly spaced in mel, from [`super::LOWEST_HZ`]
/// in row 0 to [`super::HIGHEST_HZ`] in the last.
pub type Column = [u8; COLUMN_ROWS];

/// Makes columns from a stream of canonical audio. How the stream is cut into pushes changes nothing.
pub struct Columns {
    eye: Eye,
    pending: Vec<i16>,
}

impl Default for Columns {
    fn default() -> Self {
        Self { eye: Eye::new(COLUMN_ROWS), pending: Vec::with_capacity(COLUMN_SAMPLES) }
    }
}

impl Columns {
    /// Number of samples taken that are in no column yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes the next samples and passes each column that they complete to `on_column`, in order.
    pub fn push(&mut self, mut samples: &[i16], mut on_column: impl FnMut(Column)) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(COLUMN_SAMPLES - self.pending.len()));
            self.pending.extend_from_slice(now);
            samples = later;
            if self.pending.len() == COLUMN_SAMPLES {
                on_column(self.column());
                self.pending.clear();
            }
        }
    }

    /// The highest level of the overlapping windows that fit into the column, so that a click between two of them
    /// counts.
    fn column(&mut self) -> Column {
        let mut loudest = [0.0_f32; COLUMN_ROWS];
        for look in 0..COLUMN_SAMPLES / WINDOW_SAMPLES * 2 - 1 {
            let middle = WINDOW_SAMPLES / 2 * (look + 1);
            self.eye.look(&self.pending, middle, |y, power| {
                let row = &mut loudest[COLUMN_ROWS - 1 - y];
                *row = row.max(power);
            });
        }
        loudest.map(|power| ((decibels_of(power) - COLUMN_FLOOR_DBFS) / COLUMN_DB * 255.0).round() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SAMPLE_RATE_HZ;
    use crate::spectrogram::height_of_hz;

    fn columns_of(samples: &[i16], chunk: usize) -> Vec<Column> {
        let mut found = Vec::new();
        let mut columns = Columns::default();
        for piece in samples.chunks(chunk) {
            columns.push(piece, |column| found.push(column));
        }
        found
    }

    fn sine(hz: f32, peak: f32, count: usize) -> Vec<i16> {
        let phase = std::f32::consts::TAU * hz / SAMPLE_RATE_HZ as f32;
        (0..count).map(|n| ((n as f32 * phase).sin() * peak * 32_767.0) as i16).collect()
    }

    #[test]
    fn chunking_changes_no_byte() {
        let samples: Vec<i16> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 17) as i16).collect();
        let whole = columns_of(&samples, samples.len());
        assert_eq!(whole.len(), samples.len() / COLUMN_SAMPLES);
        for chunk in [1, 320, 1_023, 1_024, 1_600] {
            assert_eq!(columns_of(&samples, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_sine_is_loudest_in_its_row_and_as_loud_as_it_is() {
        for (hz, peak_dbfs) in [(300.0, -6.0_f32), (1_000.0, -20.0), (5_000.0, -40.0)] {
            let samples = sine(hz, 10_f32.powf(peak_dbfs / 20.0), COLUMN_SAMPLES);
            let column = columns_of(&samples, 1_000)[0];
            let loudest = (0..COLUMN_ROWS).max_by_key(|&row| column[row]).unwrap();
            let expected = height_of_hz(hz) * COLUMN_ROWS as f32 - 0.5;
            assert!((loudest as f32 - expected).abs() <= 1.0, "{hz} Hz: row {loudest}, expected {expected}");
            let dbfs = f32::from(column[loudest]) / 255.0 * COLUMN_DB + COLUMN_FLOOR_DBFS;
            assert!((dbfs - peak_dbfs).abs() < 1.5, "{hz} Hz: {dbfs} dBFS, expected {peak_dbfs}");
        }
    }

    #[test]
    fn silence_is_zero_and_full_scale_does_not_wrap() {
        assert_eq!(columns_of(&[0; COLUMN_SAMPLES], 320), [[0; COLUMN_ROWS]]);
        let square: Vec<i16> = (0..COLUMN_SAMPLES).map(|n| if n / 8 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let column = columns_of(&square, 320)[0];
        assert_eq!(column.iter().max(), Some(&255));
    }
}
