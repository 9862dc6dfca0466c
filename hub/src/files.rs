//! `hub analyze`: analyses recordings, without starting a server.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use daemon::cause::cause;
use daemon::terminal::escape;
use daemon::{EXIT_FAILURE, EXIT_USAGE, shutdown};
use tokio_util::sync::CancellationToken;

use crate::cli::{AnalyzeArgs, Channels, ResultFormat, Rows};

mod folder;
mod output;
mod progress;
mod recording;
mod resume;
mod tables;

pub use recording::{FileError, Options, Report, analyze_file};

use output::{Format, Output};
use progress::{Progress, bytes_of};
use recording::STDIN;
use resume::{Results, ResumeError, full_name};
use tables::{Editor, Tables};

/// Results of each thread that may wait in memory to be printed. A thread that has more waits.
const AHEAD: usize = 8;

/// Exit code after Ctrl-C, as shells have it: 128 + SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// How often it is looked whether the user interrupted the analysis, while a thread analyses a long file or a pipe has
/// no data.
const STOP_PERIOD: Duration = Duration::from_millis(100);

/// How long the start waits until Ctrl-C is handled.
const INSTALLED_WITHIN: Duration = Duration::from_secs(1);

/// The result of a file.
type Outcome = Result<Vec<Report>, FileError>;

/// Analyses files on all cores and prints the results in the order of the files. A file that cannot be analysed is
/// reported on standard error and does not stop the rest; the exit code is then 1. On a terminal, standard error shows
/// the progress. Ctrl-C ends with a summary of what was analysed.
pub fn analyze(args: &AnalyzeArgs) -> ExitCode {
    let planned = args.detector.config().map_err(|error| error.to_string());
    let (detector, format) = match planned.and_then(|detector| Ok((detector, args.result_format()?))) {
        Ok(planned) => planned,
        Err(why) => {
            // A closed standard error is no reason to fail.
            let _ = writeln!(io::stderr(), "{}", escape(&why));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let results = match args.resume.as_deref().map(|path| Results::open(path, args.channel == Some(Channels::Each))) {
        None => None,
        Some(Ok(results)) => Some(results),
        Some(Err(why)) => {
            // As above.
            let _ = writeln!(io::stderr(), "{}", escape(&why.to_string()));
            return ExitCode::from(if matches!(why, ResumeError::Foreign { .. } | ResumeError::Relative { .. }) {
                EXIT_USAGE
            } else {
                EXIT_FAILURE
            });
        }
    };
    let mut files = expand_all(&args.files);
    if let Some(results) = &results {
        let all = files.len();
        files.retain(|file| !file.as_ref().is_ok_and(|path| results.has(path)));
        if files.len() < all {
            // As above.
            let _ = writeln!(io::stderr(), "{} of {all} files were analysed before", all - files.len());
        }
    }
    let tables = |editor| Tables::new(editor, args.out.clone(), args.force, args.files.clone());
    let (format, tables) = match format {
        None => (Format::Table, None),
        Some(ResultFormat::Jsonl) => (Format::Json, None),
        Some(ResultFormat::Csv) => (Format::Csv(args.csv.unwrap_or(Rows::Detections)), None),
        Some(ResultFormat::Raven) => (Format::Summary, Some(tables(Editor::Raven))),
        Some(ResultFormat::Audacity) => (Format::Summary, Some(tables(Editor::Audacity))),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from).min(files.len());
    let progress = Progress::new(files.len(), files.iter().flatten().map(|path| bytes_of(path)).sum());
    let bar = Some(progress.bar().clone());
    let options = Options { detector, channels: args.channel, stop: interrupted(), progress: bar };
    let output = Output { format, zone: args.tz.clone() };
    let full_names = results.is_some();
    let out: Box<dyn Write> = match results {
        Some(results) => Box::new(BufWriter::new(results.file)),
        None => Box::new(io::stdout().lock()),
    };
    match print_all(Printer { out, output, full_names, tables, progress }, files, threads, &options) {
        _ if options.stop.is_cancelled() => ExitCode::from(EXIT_INTERRUPTED),
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        // The reader has closed the pipe, as in `hub analyze ... | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // As above.
            let _ = writeln!(io::stderr(), "the results cannot be printed: {}", cause(&error));
            ExitCode::FAILURE
        }
    }
}

/// A token that the first Ctrl-C cancels; the second ends the process. Without a thread for it, Ctrl-C ends the process
/// as usual.
fn interrupted() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    let (installed, ready) = sync_channel(1);
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
        std::thread::spawn(move || {
            runtime.block_on(async {
                let signal = shutdown::on_signal();
                // The receiver may have stopped waiting.
                let _ = installed.send(());
                let Ok(signal) = signal else { return };
                signal.cancelled().await;
                cancelled.cancel();
                // The task that waits for the second signal runs as long as this one.
                std::future::pending::<()>().await;
            });
        });
        // Ctrl-C must not come between the first result and the handler.
        let _ = ready.recv_timeout(INSTALLED_WITHIN);
    }
    stop
}

/// Prints the results of all files. Returns how many files could not be analysed.
fn print_all(mut printer: Printer, files: Expanded, threads: usize, options: &Options) -> io::Result<usize> {
    printer.output.begin(&mut printer.out)?;
    for (path, outcome) in outcomes(files, threads, options) {
        if matches!(outcome, Err(FileError::Stopped)) {
            break;
        }
        let bar = printer.progress.bar().clone();
        bar.suspend(|| printer.print(&path, outcome))?;
        printer.progress.step();
    }
    printer.progress.end(options.stop.is_cancelled())?;
    Ok(printer.progress.failed)
}

/// Prints results, and writes tables.
struct Printer {
    out: Box<dyn Write>,
    output: Output,
    /// Whether the results have the full names of the recordings, not the ones that the user typed.
    full_names: bool,
    tables: Option<Tables>,
    progress: Progress,
}

impl Printer {
    /// Prints the outcome of a file, all of it at once.
    fn print(&mut self, path: &Path, outcome: Outcome) -> io::Result<()> {
        let Self { out, output, full_names, tables, progress } = self;
        let name = if *full_names { full_name(path) } else { path.to_path_buf() };
        match outcome {
            Ok(reports) => {
                progress.sound_s += reports.first().map_or(0.0, |report| report.analysis.duration_s);
                for warning in reports.iter().flat_map(|report| &report.warnings) {
                    writeln!(io::stderr(), "{}", escape(&format!("{}: warning: {warning}", path.display())))?;
                }
                match tables {
                    Some(tables) if path == Path::new(STDIN) => {
                        out.write_all(tables.editor.table(&reports).as_bytes())?;
                    }
                    Some(tables) => match tables.write(path, &reports) {
                        Ok(table) => {
                            reports.iter().try_for_each(|report| output.found(out, path, report))?;
                            writeln!(out, "  written to {}", escape(&table.display().to_string()))?;
                        }
                        Err(why) => progress.fail(path, &why.to_string())?,
                    },
                    None => reports.iter().try_for_each(|report| output.found(out, &name, report))?,
                }
            }
            Err(why) => {
                progress.fail(path, &why.to_string())?;
                output.failed(out, &name, &why)?;
            }
        }
        out.flush()
    }
}

/// The outcomes in the order of the files. Thread `k` of `n` analyses the files `k`, `k + n` and so on, and sends the
/// outcomes through a queue of [`AHEAD`]. Taking from the queues in turn gives the order of the files. The threads end
/// when the iterator is dropped.
fn outcomes(files: Expanded, threads: usize, options: &Options) -> impl Iterator<Item = (PathBuf, Outcome)> {
    let mut shares: Vec<Expanded> = (0..threads).map(|_| Vec::new()).collect();
    for (number, file) in files.into_iter().enumerate() {
        shares[number % threads].push(file);
    }
    let queues: Vec<Receiver<(PathBuf, Outcome)>> = shares
        .into_iter()
        .map(|share| {
            let (sender, receiver) = sync_channel(AHEAD);
            let options = options.clone();
            std::thread::spawn(move || {
                for file in share {
                    let outcome = match file {
                        Ok(path) => {
                            let analysed = catch_unwind(AssertUnwindSafe(|| analyze_file(&path, &options)));
                            (path, analysed.unwrap_or(Err(FileError::Crash)))
                        }
                        Err((path, why)) => (path, Err(why)),
                    };
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            });
            receiver
        })
        .collect();
    let stop = options.stop.clone();
    (0..threads).cycle().map_while(move |number| {
        loop {
            match queues[number].recv_timeout(STOP_PERIOD) {
                Ok(outcome) => return Some(outcome),
                Err(RecvTimeoutError::Timeout) if !stop.is_cancelled() => {}
                Err(_) => return None,
            }
        }
    })
}

/// Files to analyse, and paths that cannot be.
type Expanded = Vec<Result<PathBuf, (PathBuf, FileError)>>;

/// The files of all paths, each file once: a file may be named and be in a folder that is named.
fn expand_all(paths: &[PathBuf]) -> Expanded {
    let mut seen = HashSet::new();
    let mut is_new = |path: &Path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    paths
        .iter()
        .flat_map(|path| expand(path))
        .filter(|file| match file {
            Ok(path) | Err((path, _)) => is_new(path),
        })
        .collect()
}

/// Replaces a folder by the recordings in it. A file stays as it is.
fn expand(path: &Path) -> Expanded {
    let fail = |why: FileError| vec![Err((path.to_path_buf(), why))];
    if !path.is_dir() {
        return vec![Ok(path.to_path_buf())];
    }
    let files = folder::recordings_in(path);
    if files.is_empty() {
        return fail(FileError::EmptyFolder);
    }
    files.into_iter().map(|file| file.map_err(|(path, why)| (path, why.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording of a tone.
    pub(super) fn wav(dir: &Path, name: &str, spec: hound::WavSpec, seconds: f64) -> PathBuf {
        let path = dir.join(name);
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for frame in 0..(f64::from(spec.sample_rate) * seconds) as u32 {
            let sample = (f64::from(frame) / f64::from(spec.sample_rate) * 440.0 * std::f64::consts::TAU).sin() * 0.5;
            for _ in 0..spec.channels {
                match spec.sample_format {
                    hound::SampleFormat::Float => writer.write_sample(sample as f32).unwrap(),
                    hound::SampleFormat::Int => {
                        let full_scale = f64::from(1_u32 << (spec.bits_per_sample - 1));
                        writer.write_sample((sample * full_scale) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        path
    }

    pub(super) fn spec(
        sample_rate: u32,
        channels: u16,
        bits_per_sample: u16,
        sample_format: hound::SampleFormat,
    ) -> hound::WavSpec {
        hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    #[test]
    fn folder_stands_for_its_recordings_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mono = spec(16_000, 1, 16, hound::SampleFormat::Int);
        for name in ["b.wav", "a.WAV", "c.txt"] {
            wav(dir.path(), name, mono, 0.1);
        }
        let names: Vec<_> =
            expand(dir.path()).into_iter().map(|file| file.unwrap().file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.WAV", "b.wav"]);
        let named_twice = [dir.path().to_path_buf(), dir.path().join("./b.wav"), dir.path().join("c.txt")];
        let names: Vec<_> = expand_all(&named_twice).into_iter().map(|file| file.unwrap()).collect();
        assert_eq!(names, ["a.WAV", "b.wav", "c.txt"].map(|name| dir.path().join(name)));
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(expand(empty.path())[..], [Err((_, FileError::EmptyFolder))]));
    }

    #[test]
    fn outcomes_come_in_the_order_of_the_files_from_any_number_of_threads() {
        let dir = tempfile::tempdir().unwrap();
        let mono = spec(16_000, 1, 16, hound::SampleFormat::Int);
        // More files than may wait; the first ones are the longest.
        let files: Vec<PathBuf> =
            (0..40).map(|n| wav(dir.path(), &format!("{n:02}.wav"), mono, f64::from(41 - n) * 0.02)).collect();
        for threads in [1, 3, 8] {
            let wanted: Expanded = files.iter().cloned().map(Ok).collect();
            let got: Vec<_> = outcomes(wanted, threads, &Options::default()).collect();
            let paths: Vec<_> = got.iter().map(|(path, _)| path.clone()).collect();
            assert_eq!(paths, files, "{threads} threads");
            assert!(got.iter().all(|(_, outcome)| outcome.is_ok()));
        }
    }
}
