//! Says on a terminal how far the analysis is, and at its end what was analysed.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::terminal::escape;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the line is drawn while nothing happens.
const PERIOD: Duration = Duration::from_millis(200);

/// What the line shows. The bytes are those of the files; a long file counts as it is read.
const LINE: &str = "{msg}, {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// The progress of all files.
pub(super) struct Progress {
    files: usize,
    done: usize,
    pub(super) failed: usize,
    pub(super) sound_s: f64,
    began: Instant,
    /// Hidden unless standard error is a terminal.
    bar: ProgressBar,
}

impl Progress {
    /// The progress of this many files, which have this many bytes.
    pub(super) fn new(files: usize, bytes: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(LINE) {
            bar.set_style(style);
        }
        bar.set_message(format!("0 of {files} files"));
        if !bar.is_hidden() {
            bar.enable_steady_tick(PERIOD);
        }
        Self { files, done: 0, failed: 0, sound_s: 0.0, began: Instant::now(), bar }
    }

    /// What readers of files move.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Reports a file that was not analysed, or whose results were not written. The line must be away.
    pub(super) fn fail(&mut self, path: &Path, why: &str) -> io::Result<()> {
        self.failed += 1;
        writeln!(io::stderr(), "{}", escape(&format!("{}: {why}", path.display())))
    }

    /// Counts a file.
    pub(super) fn step(&mut self) {
        self.done += 1;
        self.bar.set_message(format!("{} of {} files", self.done, self.files));
    }

    /// Says how many of how many files were analysed: on a terminal, and wherever some were not.
    pub(super) fn end(&self, stopped: bool) -> io::Result<()> {
        self.bar.finish_and_clear();
        let analysed = self.done - self.failed;
        let many = self.files > 1;
        if stopped || (many && (self.failed > 0 || io::stderr().is_terminal())) {
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
}

/// Bytes of a file; 0 for a pipe and for what cannot be read.
pub(super) fn bytes_of(path: &Path) -> u64 {
    path.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |metadata| metadata.len())
}

/// Counts one file in a bar as it is read, and all of it when this is dropped.
pub(super) struct Share {
    bar: Option<ProgressBar>,
    bytes: u64,
    counted: u64,
}

impl Share {
    pub(super) fn new(bar: Option<ProgressBar>, bytes: u64) -> Self {
        Self { bar, bytes, counted: 0 }
    }

    /// So much of the file is read, 0 to 1.
    pub(super) fn read(&mut self, fraction: f64) {
        let counted = ((self.bytes as f64 * fraction) as u64).clamp(self.counted, self.bytes);
        if let Some(bar) = &self.bar {
            bar.inc(counted - self.counted);
        }
        self.counted = counted;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.read(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_counts_as_it_is_read_and_only_once() {
        let bar = ProgressBar::hidden();
        let mut share = Share::new(Some(bar.clone()), 1_000);
        share.read(0.25);
        assert_eq!(bar.position(), 250);
        share.read(0.1);
        share.read(0.5);
        assert_eq!(bar.position(), 500);
        drop(share);
        assert_eq!(bar.position(), 1_000);
    }
}
