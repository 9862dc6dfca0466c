//! Columns that all CSV tables (RFC 4180) of vocalisations share, from live listening and from files.

use std::borrow::Cow;

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
    measured.numbers().map(|value| value.to_string())
}

/// Characters with which a formula begins in a spreadsheet, some only after an import from the clipboard or in an East
/// Asian locale.
const BEGINS_FORMULA: [char; 11] =
    ['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// What a spreadsheet takes as the mark of a text.
const TEXT_MARK: char = '\'';

/// Writes rows as CSV. All rows must have as many fields as the first. A text that a spreadsheet would run as a formula
/// gets a `'` before it: names of cats and files come from strangers. Numbers stay as they are.
pub fn records(rows: impl IntoIterator<Item = impl IntoIterator<Item = impl AsRef<str>>>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        let cells = row.into_iter().map(|cell| harmless(cell.as_ref()).into_owned());
        writer.write_record(cells).expect("every row has the same fields, and memory takes every byte");
    }
    writer.into_inner().expect("memory takes every byte")
}

fn harmless(cell: &str) -> Cow<'_, str> {
    let is_number = || cell.parse::<f64>().is_ok_and(f64::is_finite);
    if cell.starts_with(BEGINS_FORMULA) && !is_number() {
        Cow::Owned(format!("{TEXT_MARK}{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_formula_and_numbers_stay_numbers() {
        for formula in [
            "=1+1",
            "+1+1",
            "-1+1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "-",
            "+",
            "=",
            "-inf",
            "+nan",
            "-0x1",
            "\u{ff1d}1",
        ] {
            assert_eq!(harmless(formula), format!("'{formula}"), "{formula:?}");
        }
        for harmless_cell in ["", "Tom", "-43.78", "+1", "-1e-7", "3", "a=b", "'=1", " =1", "2026-11-28T16:00:00Z"] {
            assert_eq!(harmless(harmless_cell), harmless_cell);
        }
        let written = records([["=HYPERLINK(\"x\",\"y\")", "-1.5"]]);
        assert_eq!(String::from_utf8(written).unwrap(), "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\",-1.5\n");
    }
}
