//! Writes the results of `hub analyze`: text for people, lines of JSON, or CSV.

use std::io::{self, Write};
use std::path::Path;

use daemon::terminal::escape;
use hub_base::table::{CONTEXT_COLUMNS, MEASURED_COLUMNS, context_fields, measured_fields, records};
use serde::Serialize;
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analysis, Vocalisation};
use sound::detection::{Context, Detection};
use sound::verdict::Verdict;

use super::FileError;
use crate::cli::Rows;

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Json,
    Csv(Rows),
}

/// Columns of a detection before the ones that all tables of detections share.
const DETECTION_COLUMNS: [&str; 6] = ["file", "start_s", "end_s", "duration_s", "score", "kind"];

/// Columns of a file.
const FILE_COLUMNS: [&str; 10] = [
    "file",
    "duration_s",
    "cat_score",
    "detections",
    "detected_s",
    "verdict",
    "rms_dbfs",
    "peak_dbfs",
    "clipped_fraction",
    "error",
];

/// Writes what comes before the first file.
pub(super) fn begin(out: &mut impl Write, format: Format) -> io::Result<()> {
    match format {
        Format::Table | Format::Json => Ok(()),
        Format::Csv(Rows::Detections) => out.write_all(&records([detection_columns()])),
        Format::Csv(Rows::Files) => out.write_all(&records([FILE_COLUMNS])),
    }
}

/// Writes the result of one file.
pub(super) fn found(
    out: &mut impl Write,
    format: Format,
    path: &Path,
    analysis: &Analysis,
    heard: &[Vocalisation],
) -> io::Result<()> {
    match format {
        Format::Table => table(out, path, analysis, heard),
        Format::Json => json(out, path, analysis, heard),
        Format::Csv(Rows::Detections) => out.write_all(&records(heard.iter().map(|heard| detection_row(path, heard)))),
        Format::Csv(Rows::Files) => out.write_all(&records([file_row(path, analysis, heard)])),
    }?;
    out.flush()
}

/// Writes a file that could not be analysed, if the format has a row for it.
pub(super) fn failed(out: &mut impl Write, format: Format, path: &Path, why: &FileError) -> io::Result<()> {
    if format == Format::Csv(Rows::Files) {
        let mut row = [const { String::new() }; FILE_COLUMNS.len()];
        (row[0], row[FILE_COLUMNS.len() - 1]) = (path.display().to_string(), why.to_string());
        out.write_all(&records([row]))?;
    }
    out.flush()
}

fn detection_columns() -> impl Iterator<Item = &'static str> {
    DETECTION_COLUMNS.into_iter().chain(CONTEXT_COLUMNS).chain(MEASURED_COLUMNS)
}

fn detection_row(path: &Path, heard: &Vocalisation) -> impl Iterator<Item = String> {
    let found = &heard.detection;
    let fields: [String; DETECTION_COLUMNS.len()] = [
        path.display().to_string(),
        seconds(found.start_sample).to_string(),
        seconds(found.end_sample).to_string(),
        seconds(found.end_sample - found.start_sample).to_string(),
        found.score.to_string(),
        heard.kind.as_str().into(),
    ];
    fields.into_iter().chain(context_fields(&found.context)).chain(measured_fields(&found.measurements))
}

fn file_row(path: &Path, analysis: &Analysis, heard: &[Vocalisation]) -> [String; FILE_COLUMNS.len()] {
    let samples: u64 = heard.iter().map(|heard| heard.detection.end_sample - heard.detection.start_sample).sum();
    [
        path.display().to_string(),
        analysis.duration_s.to_string(),
        analysis.cat_score.to_string(),
        heard.len().to_string(),
        seconds(samples).to_string(),
        verdict(heard).into(),
        analysis.level.rms_dbfs.to_string(),
        analysis.level.peak_dbfs.to_string(),
        analysis.level.clipped_fraction.to_string(),
        String::new(),
    ]
}

fn verdict(heard: &[Vocalisation]) -> &'static str {
    let detections: Vec<Detection> = heard.iter().map(|heard| heard.detection.clone()).collect();
    Verdict::of(&detections).as_str()
}

#[derive(Serialize)]
struct FileLine<'a> {
    file: String,
    duration_s: f64,
    cat_score: f32,
    detections: Vec<DetectionLine<'a>>,
}

#[derive(Serialize)]
struct DetectionLine<'a> {
    start_s: f64,
    end_s: f64,
    score: f32,
    context: &'a Context,
}

fn json(out: &mut impl Write, path: &Path, analysis: &Analysis, heard: &[Vocalisation]) -> io::Result<()> {
    let line = FileLine {
        file: path.display().to_string(),
        duration_s: analysis.duration_s,
        cat_score: analysis.cat_score,
        detections: heard.iter().map(|heard| DetectionLine::from(&heard.detection)).collect(),
    };
    serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

impl<'a> From<&'a Detection> for DetectionLine<'a> {
    fn from(found: &'a Detection) -> Self {
        let (start_s, end_s) = (seconds(found.start_sample), seconds(found.end_sample));
        Self { start_s, end_s, score: found.score, context: &found.context }
    }
}

fn table(out: &mut impl Write, path: &Path, analysis: &Analysis, heard: &[Vocalisation]) -> io::Result<()> {
    let count = heard.len();
    writeln!(
        out,
        "{}: {:.2} s, cat score {:.2}, {} ({})",
        escape(&path.display().to_string()),
        analysis.duration_s,
        analysis.cat_score,
        if count == 1 { "1 vocalisation".to_owned() } else { format!("{count} vocalisations") },
        verdict(heard),
    )?;
    if count > 0 {
        writeln!(out, "     from s      to s  score  context            food  isol. brush  pitch Hz")?;
    }
    for heard in heard {
        let found = &heard.detection;
        let probabilities = &found.context.probabilities;
        writeln!(
            out,
            "  {:9.2} {:9.2}   {:.2}  {:16}   {:.2}  {:.2}  {:.2}   {:7.0}",
            seconds(found.start_sample),
            seconds(found.end_sample),
            found.score,
            found.context.label.as_str(),
            probabilities.waiting_for_food,
            probabilities.isolation,
            probabilities.brushing,
            found.measurements.pitch_median_hz,
        )?;
    }
    Ok(())
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

#[cfg(test)]
mod tests {
    use sound::detector::DetectorConfig;

    use super::super::recording::analyze_file;
    use super::super::tests::{spec, wav};
    use super::*;

    fn written(format: Format, path: &Path) -> String {
        let (analysis, heard) = analyze_file(path, DetectorConfig::default()).unwrap();
        let mut out = Vec::new();
        begin(&mut out, format).unwrap();
        found(&mut out, format, path, &analysis, &heard).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn meow() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sound/tests/clips/meow_alone.wav"))
    }

    #[test]
    fn line_of_json_has_the_documented_keys_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = wav(dir.path(), "tone.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 0.5);
        let line = written(Format::Json, &path);
        let score = serde_json::from_str::<serde_json::Value>(&line).unwrap()["cat_score"].to_string();
        let documented = format!(
            "{{\"file\":{:?},\"duration_s\":0.5,\"cat_score\":{score},\"detections\":[]}}\n",
            path.display().to_string()
        );
        assert_eq!(line, documented);
        let line = written(Format::Json, meow());
        let keys = [
            "start_s",
            "end_s",
            "score",
            "context",
            "label",
            "probabilities",
            "waiting_for_food",
            "isolation",
            "brushing",
        ];
        let places: Vec<_> = keys.iter().map(|key| line.find(&format!("\"{key}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{line}");
    }

    #[test]
    fn csv_has_a_row_for_each_detection_or_for_each_file() {
        let rows = |rows| {
            let text = written(Format::Csv(rows), meow());
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let header = reader.headers().unwrap().clone();
            let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
            (header, rows)
        };
        let (header, detections) = rows(Rows::Detections);
        let expected = "file start_s end_s duration_s score kind context p_waiting_for_food p_isolation p_brushing peak_dbfs \
                        rms_dbfs snr_db pitch_median_hz pitch_min_hz pitch_max_hz voiced_fraction spectral_centroid_hz \
                        spectral_flatness";
        assert_eq!(header, csv::StringRecord::from_iter(expected.split_whitespace()));
        assert_eq!(detections.len(), 1);
        let column = |row: &csv::StringRecord, name: &str| {
            row[header.iter().position(|column| column == name).unwrap()].to_owned()
        };
        assert_eq!(column(&detections[0], "file"), meow().display().to_string());
        assert_eq!(column(&detections[0], "kind"), "meow");
        let [start, end, duration] =
            ["start_s", "end_s", "duration_s"].map(|name| column(&detections[0], name).parse::<f64>().unwrap());
        assert!(start >= 0.0 && (end - start - duration).abs() < 1e-9, "{start} {end} {duration}");

        let (header, files) = rows(Rows::Files);
        assert_eq!(header, csv::StringRecord::from(FILE_COLUMNS.to_vec()));
        assert_eq!((files.len(), &files[0][3], &files[0][9]), (1, "1", ""));
        let mut out = Vec::new();
        failed(&mut out, Format::Csv(Rows::Files), Path::new("a,b.wav"), &FileError::EmptyFolder).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\"a,b.wav\",,,,,,,,,no WAV file in this folder\n");
    }
}
