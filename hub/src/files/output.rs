//! Writes the results of `hub analyze`: text for people, lines of JSON, or CSV.

use std::io::{self, Write};
use std::path::Path;

use daemon::terminal::escape;
use hub_base::table::{CONTEXT_COLUMNS, MEASURED_COLUMNS, context_fields, measured_fields, records};
use jiff::tz::TimeZone;
use recordings::Channel;
use recordings::start::Start;
use serde::Serialize;
use sound::SAMPLE_RATE_HZ;
use sound::analysis::Vocalisation;
use sound::detection::{Context, Detection};
use sound::verdict::{Finding, Verdict};

use super::{FileError, Report};
use crate::cli::Rows;

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    /// The first line of each table.
    Summary,
    Json,
    Csv(Rows),
}

/// Samples of canonical audio in a second.
const SAMPLES_PER_S: u64 = SAMPLE_RATE_HZ as u64;

/// Columns of a detection before the ones that all tables of detections share.
const DETECTION_COLUMNS: [&str; 6] = ["file", "start_s", "end_s", "duration_s", "score", "kind"];

/// Columns of a detection after the ones that all tables of detections share.
const LAST_DETECTION_COLUMNS: [&str; 3] = ["at", "channel", "at_local"];

/// Columns of a file.
const FILE_COLUMNS: [&str; 15] = [
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
    "warning",
    "recorded_at",
    "channel",
    "finding",
    "recorded_at_local",
];

/// The place of the error in [`FILE_COLUMNS`].
const ERROR_COLUMN: usize = 9;

/// How the results are written.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) format: Format,
    /// The time zone of the dates.
    pub(super) zone: Option<TimeZone>,
}

impl Output {
    /// Writes what comes before the first file.
    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Summary | Format::Json => Ok(()),
            Format::Csv(Rows::Detections) => out.write_all(&records([detection_columns()])),
            Format::Csv(Rows::Files) => out.write_all(&records([FILE_COLUMNS])),
        }
    }

    /// Writes the result of one file, or of one of its channels.
    pub(super) fn found(&self, out: &mut impl Write, path: &Path, report: &Report) -> io::Result<()> {
        match self.format {
            Format::Table => self.table(out, path, report),
            Format::Summary => self.summary(out, path, report),
            Format::Json => self.json(out, path, report),
            Format::Csv(Rows::Detections) => {
                out.write_all(&records(report.heard.iter().map(|heard| self.detection_row(path, report, heard))))
            }
            Format::Csv(Rows::Files) => out.write_all(&records([self.file_row(path, report)])),
        }
    }

    /// Writes a file that could not be analysed, if the format has a row or a line for it.
    pub(super) fn failed(&self, out: &mut impl Write, path: &Path, why: &FileError) -> io::Result<()> {
        if self.format == Format::Csv(Rows::Files) {
            let mut row = [const { String::new() }; FILE_COLUMNS.len()];
            (row[0], row[ERROR_COLUMN]) = (path.display().to_string(), why.to_string());
            out.write_all(&records([row]))?;
        }
        if self.format == Format::Json {
            let line = FailedLine { file: path.display().to_string(), error: why.to_string() };
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// The moment of a sample, in the zone of the user or else of the recorder. Without either it is what the
    /// recorder's clock showed, without an offset.
    fn moment(&self, start: Option<&Start>, sample: u64) -> Option<String> {
        let start = start?;
        let since = jiff::Span::new().try_milliseconds(i64::try_from(sample / (SAMPLES_PER_S / 1000)).ok()?).ok()?;
        match start.in_zone(self.zone.as_ref()) {
            Some(moment) => Some(moment.checked_add(since).ok()?.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()),
            None => Some(start.clock.checked_add(since).ok()?.strftime("%Y-%m-%dT%H:%M:%S%.3f").to_string()),
        }
    }

    /// The same moment in whole seconds and without an offset, as spreadsheets read it.
    fn local_moment(&self, start: Option<&Start>, sample: u64) -> Option<String> {
        let moment = self.moment(start, sample)?;
        Some(moment.get(.."2026-07-25T23:30:00".len())?.replace('T', " "))
    }

    fn detection_row(&self, path: &Path, report: &Report, heard: &Vocalisation) -> impl Iterator<Item = String> {
        let found = &heard.detection;
        let fields: [String; DETECTION_COLUMNS.len()] = [
            path.display().to_string(),
            seconds(found.start_sample).to_string(),
            seconds(found.end_sample).to_string(),
            seconds(found.end_sample - found.start_sample).to_string(),
            found.score.to_string(),
            heard.kind.as_str().into(),
        ];
        let last: [String; LAST_DETECTION_COLUMNS.len()] = [
            self.moment(report.start.as_ref(), found.start_sample).unwrap_or_default(),
            channel_text(report.channel),
            self.local_moment(report.start.as_ref(), found.start_sample).unwrap_or_default(),
        ];
        let shared = context_fields(&found.context).into_iter().chain(measured_fields(&found.measurements));
        fields.into_iter().chain(shared).chain(last)
    }

    fn file_row(&self, path: &Path, report: &Report) -> [String; FILE_COLUMNS.len()] {
        let Report { analysis, heard, .. } = report;
        let samples: u64 = heard.iter().map(|heard| heard.detection.end_sample - heard.detection.start_sample).sum();
        [
            path.display().to_string(),
            analysis.duration_s.to_string(),
            analysis.cat_score.to_string(),
            heard.len().to_string(),
            seconds(samples).to_string(),
            Verdict::of(&detections(heard)).as_str().into(),
            analysis.level.rms_dbfs.to_string(),
            analysis.level.peak_dbfs.to_string(),
            analysis.level.clipped_fraction.to_string(),
            String::new(),
            report.warnings.join("; "),
            self.moment(report.start.as_ref(), 0).unwrap_or_default(),
            channel_text(report.channel),
            Finding::of(&detections(heard)).as_str().into(),
            self.local_moment(report.start.as_ref(), 0).unwrap_or_default(),
        ]
    }

    fn json(&self, out: &mut impl Write, path: &Path, report: &Report) -> io::Result<()> {
        let start = report.start.as_ref();
        let line = FileLine {
            file: path.display().to_string(),
            duration_s: report.analysis.duration_s,
            cat_score: report.analysis.cat_score,
            detections: report
                .heard
                .iter()
                .map(|heard| DetectionLine {
                    start_s: seconds(heard.detection.start_sample),
                    end_s: seconds(heard.detection.end_sample),
                    score: heard.detection.score,
                    context: &heard.detection.context,
                    at: self.moment(start, heard.detection.start_sample),
                })
                .collect(),
            finding: Finding::of(&detections(&report.heard)).as_str(),
            channel: report.channel.map(|channel| channel.to_string()),
            recorded_at: self.moment(start, 0),
            recorded_at_from: start.map(|start| start.from),
            warnings: &report.warnings,
        };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")
    }

    fn summary(&self, out: &mut impl Write, path: &Path, report: &Report) -> io::Result<()> {
        let Report { analysis, heard, .. } = report;
        let count = heard.len();
        let channel = report.channel.map_or_else(String::new, |channel| format!(" (channel {channel})"));
        let start = self.moment(report.start.as_ref(), 0).map_or_else(String::new, |at| format!(", from {at}"));
        writeln!(
            out,
            "{}{channel}: {:.2} s{start}, cat score {:.2}, {} ({})",
            escape(&path.display().to_string()),
            analysis.duration_s,
            analysis.cat_score,
            if count == 1 { "1 vocalisation".to_owned() } else { format!("{count} vocalisations") },
            Finding::of(&detections(heard)).words(),
        )
    }

    fn table(&self, out: &mut impl Write, path: &Path, report: &Report) -> io::Result<()> {
        self.summary(out, path, report)?;
        let heard = &report.heard;
        if !heard.is_empty() {
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
}

fn channel_text(channel: Option<Channel>) -> String {
    channel.map_or_else(String::new, |channel| channel.to_string())
}

fn detection_columns() -> impl Iterator<Item = &'static str> {
    DETECTION_COLUMNS.into_iter().chain(CONTEXT_COLUMNS).chain(MEASURED_COLUMNS).chain(LAST_DETECTION_COLUMNS)
}

fn detections(heard: &[Vocalisation]) -> Vec<Detection> {
    heard.iter().map(|heard| heard.detection.clone()).collect()
}

#[derive(Serialize)]
struct FileLine<'a> {
    file: String,
    duration_s: f64,
    cat_score: f32,
    detections: Vec<DetectionLine<'a>>,
    finding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at_from: Option<&'static str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct FailedLine {
    file: String,
    error: String,
}

#[derive(Serialize)]
struct DetectionLine<'a> {
    start_s: f64,
    end_s: f64,
    score: f32,
    context: &'a Context,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

#[cfg(test)]
mod tests {
    use super::super::recording::{Options, analyze_file};
    use super::super::tests::{spec, wav};
    use super::*;

    fn written(format: Format, path: &Path) -> String {
        written_in(&Output { format, zone: None }, path)
    }

    fn written_in(output: &Output, path: &Path) -> String {
        let reports = analyze_file(path, &Options::default()).unwrap();
        let mut out = Vec::new();
        output.begin(&mut out).unwrap();
        output.found(&mut out, path, &reports[0]).unwrap();
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
            "{{\"file\":{:?},\"duration_s\":0.5,\"cat_score\":{score},\"detections\":[],\
             \"finding\":\"no_cat\"}}\n",
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
    fn file_that_cannot_be_analysed_has_a_line_of_json() {
        let mut out = Vec::new();
        let output = Output { format: Format::Json, zone: None };
        output.failed(&mut out, Path::new("a.wav"), &FileError::EmptyFolder).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"file\":\"a.wav\",\"error\":\"no recording in this folder\"}\n");
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
                        spectral_flatness at channel at_local";
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
        let output = Output { format: Format::Csv(Rows::Files), zone: None };
        output.failed(&mut out, Path::new("a,b.wav"), &FileError::EmptyFolder).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\"a,b.wav\",,,,,,,,,no recording in this folder,,,,,\n");
    }

    #[test]
    fn detections_have_a_date_where_the_recording_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("20260725_233000.wav");
        std::fs::copy(meow(), &path).unwrap();
        let line = |zone: Option<&str>| -> serde_json::Value {
            let zone = zone.map(|zone| TimeZone::get(zone).unwrap());
            serde_json::from_str(&written_in(&Output { format: Format::Json, zone }, &path)).unwrap()
        };
        let local = line(None);
        assert_eq!(local["recorded_at"], "2026-07-25T23:30:00.000");
        assert_eq!(local["recorded_at_from"], "file name");
        let rome = line(Some("Europe/Rome"));
        assert_eq!(rome["recorded_at"], "2026-07-25T23:30:00.000+02:00");
        let at: jiff::Timestamp = rome["detections"][0]["at"].as_str().unwrap().parse().unwrap();
        let since = at - "2026-07-25T21:30:00Z".parse::<jiff::Timestamp>().unwrap();
        let start_s = rome["detections"][0]["start_s"].as_f64().unwrap();
        assert!((since.total(jiff::Unit::Second).unwrap() - start_s).abs() < 0.002, "{since} and {start_s}");
        // What LibreOffice reads as a time, in any language.
        let zone = Some(TimeZone::get("America/New_York").unwrap());
        let csv = written_in(&Output { format: Format::Csv(Rows::Files), zone }, &path);
        assert!(csv.trim_end().ends_with(",2026-07-25 23:30:00"), "{csv}");
        let csv = written_in(&Output { format: Format::Csv(Rows::Detections), zone: None }, &path);
        assert!(csv.trim_end().rsplit(',').next().unwrap().starts_with("2026-07-25 23:30:0"), "{csv}");
    }
}
