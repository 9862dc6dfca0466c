//! `hub analyze`: analyses recordings, without starting a server.

use std::collections::HashSet;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use daemon::EXIT_USAGE;
use daemon::cause::cause;
use daemon::terminal::escape;
use sound::analysis::{Analysis, Vocalisation};
use sound::detector::DetectorConfig;

use crate::cli::AnalyzeArgs;

mod output;
mod recording;

pub use recording::{FileError, analyze_file, analyze_wav};

use output::Format;

/// Results of each thread that may wait in memory to be printed. A thread that has more waits.
const AHEAD: usize = 8;

/// How often the progress line is updated.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

/// The result of a file.
type Outcome = Result<(Analysis, Vec<Vocalisation>), FileError>;

/// Analyses files on all cores and prints the results in the order of the files. A file that cannot be analysed is
/// reported on standard error and does not stop the rest; the exit code is then 1. On a terminal, standard error shows
/// the progress.
pub fn analyze(args: &AnalyzeArgs) -> ExitCode {
    let config = match args.detector.config() {
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
    match print_all(files, threads, config, format) {
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

/// Prints the results of all files. Returns how many files could not be analysed.
fn print_all(files: Expanded, threads: usize, config: DetectorConfig, format: Format) -> io::Result<usize> {
    let mut out = io::stdout().lock();
    let mut progress = Progress::new(files.len());
    let mut bad = 0;
    output::begin(&mut out, format)?;
    for (path, outcome) in outcomes(files, threads, config) {
        progress.clear()?;
        match outcome {
            Ok((analysis, heard)) => {
                output::found(&mut out, format, &path, &analysis, &heard)?;
                progress.sound_s += analysis.duration_s;
            }
            Err(why) => {
                bad += 1;
                writeln!(io::stderr(), "{}", escape(&format!("{}: {why}", path.display())))?;
                output::failed(&mut out, format, &path, &why)?;
            }
        }
        progress.step()?;
    }
    progress.end(bad)?;
    Ok(bad)
}

/// The outcomes in the order of the files. Thread `k` of `n` analyses the files `k`, `k + n` and so on, and sends the
/// outcomes through a queue of [`AHEAD`]. Taking from the queues in turn gives the order of the files. The threads end
/// when the iterator is dropped.
fn outcomes(files: Expanded, threads: usize, config: DetectorConfig) -> impl Iterator<Item = (PathBuf, Outcome)> {
    let mut shares: Vec<Expanded> = (0..threads).map(|_| Vec::new()).collect();
    for (number, file) in files.into_iter().enumerate() {
        shares[number % threads].push(file);
    }
    let queues: Vec<Receiver<(PathBuf, Outcome)>> = shares
        .into_iter()
        .map(|share| {
            let (sender, receiver) = sync_channel(AHEAD);
            std::thread::spawn(move || {
                for file in share {
                    let outcome = match file {
                        Ok(path) => {
                            let analysed = std::panic::catch_unwind(|| analyze_file(&path, config));
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
    (0..threads).cycle().map_while(move |number| queues[number].recv().ok())
}

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

/// Replaces a folder by the WAV files in it, in order of their names. A file stays as it is.
fn expand(path: &Path) -> Expanded {
    let fail = |why: FileError| vec![Err((path.to_path_buf(), why))];
    if !path.is_dir() {
        return vec![Ok(path.to_path_buf())];
    }
    let entries = match path.read_dir().and_then(|entries| entries.collect::<io::Result<Vec<_>>>()) {
        Ok(entries) => entries,
        Err(why) => return fail(why.into()),
    };
    let is_wav = |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav"));
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_wav).collect();
    files.sort();
    if files.is_empty() { fail(FileError::EmptyFolder) } else { files.into_iter().map(Ok).collect() }
}

/// The progress line, on standard error if that is a terminal and there is more than one file.
struct Progress {
    files: usize,
    done: usize,
    sound_s: f64,
    began: Instant,
    shown: Instant,
    visible: bool,
}

impl Progress {
    fn new(files: usize) -> Self {
        let now = Instant::now();
        Self { files, done: 0, sound_s: 0.0, began: now, shown: now, visible: files > 1 && io::stderr().is_terminal() }
    }

    /// Clears the line, so that something else can be printed.
    fn clear(&self) -> io::Result<()> {
        if self.visible { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }

    fn step(&mut self) -> io::Result<()> {
        self.done += 1;
        if self.visible && self.shown.elapsed() >= PROGRESS_PERIOD {
            self.shown = Instant::now();
            write!(io::stderr(), "\r{} of {} files, {:.0} files/s", self.done, self.files, self.files_a_second())?;
        }
        Ok(())
    }

    fn end(&self, bad: usize) -> io::Result<()> {
        if !self.visible {
            return Ok(());
        }
        self.clear()?;
        let (minutes, seconds) = (self.sound_s / 60.0, self.began.elapsed().as_secs_f64());
        let speed = self.files_a_second();
        writeln!(
            io::stderr(),
            "{} files, {minutes:.1} min of audio, analysed in {seconds:.1} s ({speed:.0} files/s); {bad} failed",
            self.done
        )
    }

    fn files_a_second(&self) -> f64 {
        self.done as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }
}

#[cfg(test)]
mod fuzz;
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
            let got: Vec<_> = outcomes(wanted, threads, DetectorConfig::default()).collect();
            let paths: Vec<_> = got.iter().map(|(path, _)| path.clone()).collect();
            assert_eq!(paths, files, "{threads} threads");
            assert!(got.iter().all(|(_, outcome)| outcome.is_ok()));
        }
    }
}
