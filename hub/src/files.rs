//! `hub analyze`: analyses recordings, without starting a server.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use daemon::cause::cause;
use daemon::terminal::escape;
use daemon::{EXIT_USAGE, shutdown};
use tokio_util::sync::CancellationToken;

use crate::cli::AnalyzeArgs;

mod folder;
mod output;
mod recording;

pub use recording::{FileError, Options, Report, analyze_file};

use output::{Format, Output};

/// Results of each thread that may wait in memory to be printed. A thread that has more waits.
const AHEAD: usize = 8;

/// How often the progress line is updated.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

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
    let detector = match args.detector.config() {
        Ok(config) => config,
        Err(error) => {
            // A closed standard error is no reason to fail.
            let _ = writeln!(io::stderr(), "{}", escape(&error.to_string()));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let format = match (args.json, args.csv) {
        (true, _) => Format::Json,
        (false, Some(rows)) => Format::Csv(rows),
        (false, None) => Format::Table,
    };
    let files = expand_all(&args.files);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from).min(files.len());
    let options = Options { detector, channels: args.channel, stop: interrupted() };
    let output = Output { format, zone: args.tz.clone() };
    match print_all(files, threads, &options, &output) {
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
fn print_all(files: Expanded, threads: usize, options: &Options, output: &Output) -> io::Result<usize> {
    let mut out = io::stdout().lock();
    let mut progress = Progress::new(files.len());
    output.begin(&mut out)?;
    for (path, outcome) in outcomes(files, threads, options) {
        progress.clear()?;
        match outcome {
            Ok(reports) => {
                for report in &reports {
                    output.found(&mut out, &path, report)?;
                    for warning in &report.warnings {
                        writeln!(io::stderr(), "{}", escape(&format!("{}: warning: {warning}", path.display())))?;
                    }
                }
                progress.sound_s += reports.first().map_or(0.0, |report| report.analysis.duration_s);
            }
            Err(FileError::Stopped) => break,
            Err(why) => {
                progress.failed += 1;
                writeln!(io::stderr(), "{}", escape(&format!("{}: {why}", path.display())))?;
                output.failed(&mut out, &path, &why)?;
            }
        }
        progress.step()?;
    }
    progress.end(options.stop.is_cancelled())?;
    Ok(progress.failed)
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

/// The progress line, on standard error if that is a terminal and there is more than one file.
struct Progress {
    files: usize,
    done: usize,
    failed: usize,
    sound_s: f64,
    began: Instant,
    shown: Instant,
    visible: bool,
}

impl Progress {
    fn new(files: usize) -> Self {
        let now = Instant::now();
        Self {
            files,
            done: 0,
            failed: 0,
            sound_s: 0.0,
            began: now,
            shown: now,
            visible: files > 1 && io::stderr().is_terminal(),
        }
    }

    /// Clears the line, so that something else can be printed.
    fn clear(&self) -> io::Result<()> {
        if self.visible { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }

    fn step(&mut self) -> io::Result<()> {
        self.done += 1;
        if self.visible && self.shown.elapsed() >= PROGRESS_PERIOD {
            self.shown = Instant::now();
            let speed = self.files_a_second();
            let left_s = (self.files - self.done) as f64 / speed.max(1e-3);
            let left = format!("{:.0}:{:02.0} left", (left_s / 60.0).floor(), (left_s % 60.0).floor());
            write!(io::stderr(), "\r{} of {} files, {speed:.1} files/s, {left}", self.done, self.files)?;
        }
        Ok(())
    }

    /// Says how many of how many files were analysed: on a terminal, and wherever some were not.
    fn end(&self, stopped: bool) -> io::Result<()> {
        self.clear()?;
        let analysed = self.done - self.failed;
        if self.visible || stopped || (self.files > 1 && self.failed > 0) {
            let (minutes, seconds) = (self.sound_s / 60.0, self.began.elapsed().as_secs_f64());
            let interrupted = if stopped { "interrupted: " } else { "" };
            writeln!(
                io::stderr(),
                "{interrupted}{analysed} of {} files analysed, {} failed; {minutes:.1} min of audio in {seconds:.1} s",
                self.files,
                self.failed
            )?;
        }
        Ok(())
    }

    fn files_a_second(&self) -> f64 {
        self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }
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
