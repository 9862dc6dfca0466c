//! Tables that sound editors open next to a recording: selection tables of Raven and label tracks of Audacity.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use hub_base::raven::{self, Selection};
use recordings::Channel;
use sound::SAMPLE_RATE_HZ;

use super::Report;

/// The program that a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Editor {
    Raven,
    Audacity,
}

impl Editor {
    /// The name of the table of a recording with this name.
    fn name_for(self, recording: &OsStr) -> OsString {
        let (mut name, ending) = match self {
            Self::Raven => (Path::new(recording).file_stem().unwrap_or_default().to_owned(), raven::ENDING),
            Self::Audacity => (recording.to_owned(), ".labels.txt"),
        };
        name.push(ending);
        name
    }

    /// The table of a recording. Times are in seconds from the beginning of the file.
    pub(super) fn table(self, reports: &[Report]) -> String {
        match self {
            Self::Raven => raven::table(reports.iter().flat_map(selections)),
            Self::Audacity => audacity(reports),
        }
    }
}

/// Why a table was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("{} exists and has other content; --force overwrites it", .0.display())]
    Exists(PathBuf),
    #[error("two recordings would be written to {}; analyse one of them with another --out", .0.display())]
    Twice(PathBuf),
    #[error("{} cannot be written: {}", .0.display(), cause(.1))]
    Io(PathBuf, io::Error),
}

/// Writes one table a recording.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) editor: Editor,
    /// Where the tables go. `None`: next to each recording.
    out: Option<PathBuf>,
    /// Whether files with other content are overwritten.
    force: bool,
    /// What the user named. A recording in a folder keeps its place in it below `out`.
    named: Vec<PathBuf>,
    /// The tables of this run.
    written: HashSet<PathBuf>,
}

impl Tables {
    pub(super) fn new(editor: Editor, out: Option<PathBuf>, force: bool, named: Vec<PathBuf>) -> Self {
        Self { editor, out, force, named, written: HashSet::new() }
    }

    /// Writes the table of a recording. Returns its path.
    pub(super) fn write(&mut self, recording: &Path, reports: &[Report]) -> Result<PathBuf, TableError> {
        let path = self.path_for(recording);
        if !self.written.insert(path.clone()) {
            return Err(TableError::Twice(path));
        }
        let text = self.editor.table(reports);
        match self.put(&path, text.as_bytes()) {
            Ok(true) => Ok(path),
            Ok(false) => Err(TableError::Exists(path)),
            Err(error) => Err(TableError::Io(path, error)),
        }
    }

    fn path_for(&self, recording: &Path) -> PathBuf {
        let name = self.editor.name_for(recording.file_name().unwrap_or_default());
        let Some(out) = &self.out else { return recording.with_file_name(name) };
        let in_folder = |folder: &PathBuf| recording.strip_prefix(folder).ok().filter(|rest| rest.parent().is_some());
        let folder = self.named.iter().find_map(in_folder).and_then(Path::parent).unwrap_or(Path::new(""));
        out.join(folder).join(name)
    }

    /// Writes a file as a whole or not at all. Returns false if another one is there.
    fn put(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) if !self.force => return Ok(fs::read(path).is_ok_and(|there| there == content)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            // The error of the write counts.
            let _ = fs::remove_file(&partial);
        }
        written.map(|()| true)
    }
}

/// What was found in a recording, or in one of its channels.
fn selections(report: &Report) -> impl Iterator<Item = Selection> {
    let channel = match report.channel {
        Some(Channel::One(channel)) => channel,
        Some(Channel::Mix) | None => 1,
    };
    report.heard.iter().map(move |heard| {
        let found = &heard.detection;
        let context = found.context.label.as_str();
        Selection {
            channel,
            begin_s: found.start_sample as f64 / f64::from(SAMPLE_RATE_HZ),
            end_s: found.end_sample as f64 / f64::from(SAMPLE_RATE_HZ),
            sample_rate_hz: report.sample_rate_hz,
            annotation: context.into(),
            kind: heard.kind.as_str().into(),
            score: found.score,
            context: context.into(),
            pitch_hz: found.measurements.pitch_median_hz,
        }
    })
}

fn audacity(reports: &[Report]) -> String {
    let mut labels = String::new();
    for report in reports {
        let channel = report.channel.map_or_else(String::new, |channel| format!("{channel}: "));
        for heard in &report.heard {
            let found = &heard.detection;
            // Writing to a text cannot fail.
            let _ = writeln!(
                labels,
                "{}\t{}\t{channel}{} {:.2} {}",
                seconds(found.start_sample),
                seconds(found.end_sample),
                heard.kind.as_str(),
                found.score,
                found.context.label.as_str(),
            );
        }
    }
    labels
}

/// Seconds with six decimals, which Audacity writes too.
fn seconds(samples: u64) -> String {
    format!("{:.6}", samples as f64 / f64::from(SAMPLE_RATE_HZ))
}

#[cfg(test)]
mod tests {
    use super::super::recording::{Options, analyze_file};
    use super::*;
    use crate::cli::Channels;

    fn meow() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sound/tests/clips/meow_alone.wav"))
    }

    fn tables(editor: Editor, out: Option<PathBuf>, named: &[&Path]) -> Tables {
        Tables::new(editor, out, false, named.iter().map(|path| path.to_path_buf()).collect())
    }

    #[test]
    fn tables_have_the_times_of_the_recording() {
        let reports = analyze_file(meow(), &Options::default()).unwrap();
        let found = &reports[0].heard[0].detection;
        let (start, end) = (seconds(found.start_sample), seconds(found.end_sample));
        let raven = Editor::Raven.table(&reports);
        let lines: Vec<Vec<&str>> = raven.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!((lines.len(), lines[0].len()), (2, lines[1].len()));
        let (context, score) = (found.context.label.as_str(), format!("{:.4}", found.score));
        let pitch = format!("{:.0}", found.measurements.pitch_median_hz);
        let row = ["1", "Spectrogram 1", "1", &start, &end, "0.0", "8000.0", context, "meow", &score, context, &pitch];
        assert_eq!(lines[1], row);
        let labels = Editor::Audacity.table(&reports);
        assert!(labels.starts_with(&format!("{start}\t{end}\tmeow ")), "{labels}");
        let each = Options { channels: Some(Channels::Each), ..Options::default() };
        let mut reports = analyze_file(meow(), &each).unwrap();
        reports[0].channel = Some(Channel::One(2));
        assert!(Editor::Raven.table(&reports).contains("\tSpectrogram 1\t2\t"));
        assert!(Editor::Audacity.table(&reports).contains("\tright: meow "));
    }

    #[test]
    fn table_lies_next_to_its_recording_or_at_the_same_place_in_another_folder() {
        let beside = tables(Editor::Raven, None, &[Path::new("in")]);
        assert_eq!(beside.path_for(Path::new("in/a/1.wav")), Path::new("in/a/1.Table.1.selections.txt"));
        assert_eq!(beside.path_for(Path::new("2026.11.28.flac")), Path::new("2026.11.28.Table.1.selections.txt"));
        let named = [Path::new("in"), Path::new("x/2.wav")];
        let elsewhere = tables(Editor::Audacity, Some("out".into()), &named);
        assert_eq!(elsewhere.path_for(Path::new("in/a/1.wav")), Path::new("out/a/1.wav.labels.txt"));
        assert_eq!(elsewhere.path_for(Path::new("x/2.wav")), Path::new("out/2.wav.labels.txt"));
    }

    #[test]
    fn what_another_program_wrote_is_overwritten_only_by_force() {
        let dir = tempfile::tempdir().unwrap();
        let reports = analyze_file(meow(), &Options::default()).unwrap();
        let out = Some(dir.path().join("new"));
        let again = || tables(Editor::Audacity, out.clone(), &[]);
        let path = again().write(meow(), &reports).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        assert_eq!(again().write(meow(), &reports).unwrap(), path, "the same content is no reason to stop");
        fs::write(&path, "1\t2\tedited by hand\n").unwrap();
        let error = again().write(meow(), &reports).unwrap_err().to_string();
        assert!(error.contains("--force") && error.contains("meow_alone.wav.labels.txt"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\t2\tedited by hand\n");
        let mut forced = Tables { force: true, ..again() };
        forced.write(meow(), &reports).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        // Another recording of this name, in the same run.
        assert!(matches!(forced.write(meow(), &reports), Err(TableError::Twice(_))));
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 1);
    }
}
