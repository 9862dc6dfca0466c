//! The thread that writes and reads the files of a spill.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use daemon::cause::without_number;
use daemon::quiet::Quiet;
use tracing::warn;

use super::record::{Records, encode};
use super::shared::{Fetched, FetchedAudio, Request, Shared};
use crate::tape::entry::{BLOCK_FRAMES, Entry};

/// Files that the quota is divided into. A full spill drops one of them at a time.
const FILES: u64 = 32;

/// Largest file, in bytes: about two minutes of a quiet room.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Blocks that are read for a reader at once: five seconds.
const FETCH_BLOCKS: usize = 5;

/// Failures are logged at most this often.
const LOG_PERIOD: Duration = Duration::from_secs(3_600);

const NAME_START: &str = "tape-";
const NAME_END: &str = ".spill";

/// Creates the folder of a spill, and removes what an earlier one has left there. Returns how many files that were.
pub(super) fn prepare(dir: &Path) -> io::Result<usize> {
    make_dir(dir)?;
    remove_files(dir)
}

/// The thread's side of the spill.
pub(super) struct Disk {
    dir: PathBuf,
    quota: u64,
    shared: Arc<Shared>,
    /// Generation of the files.
    generation: u64,
    /// Oldest first. The last one may be written to.
    files: VecDeque<SpillFile>,
    writing: Option<File>,
    failed_at: Option<Instant>,
    /// How long after a failure the disk is tried again.
    try_again: Duration,
    log: Quiet,
}

/// A file of entries.
#[derive(Debug, Clone, Copy)]
struct SpillFile {
    first_sequence: u64,
    bytes: u64,
}

impl Disk {
    pub(super) fn new(dir: PathBuf, quota: u64, shared: Arc<Shared>, try_again: Duration) -> Self {
        Self {
            dir,
            quota,
            shared,
            generation: 0,
            files: VecDeque::new(),
            writing: None,
            failed_at: None,
            try_again,
            log: Quiet::new(LOG_PERIOD),
        }
    }

    /// Answers requests until the tape is gone, then removes the files.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        while let Ok(request) = queue.recv() {
            match request {
                Request::Keep { generation, entry } => self.keep(generation, &entry),
                Request::Fetch { from, reply } => {
                    let fetched = if self.is_current() { self.fetch(from) } else { Ok(None) };
                    let fetched = fetched.unwrap_or_else(|error| {
                        self.fail(&error);
                        None
                    });
                    // An error means that the reader is gone.
                    let _ = reply.send(fetched);
                }
            }
        }
        self.remove_files();
    }

    /// Whether the spill is open and its files are these.
    fn is_current(&self) -> bool {
        let state = self.shared.lock();
        state.open && state.generation == self.generation
    }

    fn keep(&mut self, generation: u64, entry: &Entry) {
        let written = if !self.is_current() {
            self.reopen_after_a_while();
            false
        } else if generation != self.generation {
            // Handed over before the spill was opened again.
            false
        } else {
            self.write(entry).map_err(|error| self.fail(&error)).is_ok()
        };
        if !written {
            self.shared.lock().counts.lost_frames += entry.audio_frames() as u64;
        }
    }

    /// The spill is closed. Opens it again if the failure is long enough ago.
    fn reopen_after_a_while(&mut self) {
        if self.failed_at.is_none() {
            // The tape closed it.
            self.note_failure(&io::Error::other("it is too slow"));
        }
        if self.failed_at.is_some_and(|at| at.elapsed() >= self.try_again) {
            if let Err(error) = make_dir(&self.dir) {
                return self.note_failure(&error);
            }
            self.failed_at = None;
            let mut state = self.shared.lock();
            state.open = true;
            // Entries that were queued before this are not kept.
            state.generation += 1;
            self.generation = state.generation;
        }
    }

    fn fail(&mut self, error: &io::Error) {
        {
            let mut state = self.shared.lock();
            if state.generation == self.generation {
                state.close();
            }
        }
        self.note_failure(error);
    }

    fn note_failure(&mut self, error: &io::Error) {
        self.failed_at = Some(Instant::now());
        self.remove_files();
        if let Some(suppressed_lines) = self.log.allow() {
            let (error, dir) = (without_number(error), self.dir.display());
            warn!(error, %dir, suppressed_lines, "the disk of the tape failed, the tape stays in memory for now");
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let record = encode(entry);
        let bytes = record.len() as u64;
        let is_full = self.files.back().is_some_and(|file| file.bytes + bytes > self.file_bytes());
        if self.writing.is_none() || is_full {
            let first_sequence = entry.first_sequence();
            self.writing = Some(create(&self.path(first_sequence))?);
            self.files.push_back(SpillFile { first_sequence, bytes: 0 });
        }
        while self.bytes() + bytes > self.quota && self.files.len() > 1 {
            if let Some(oldest) = self.files.pop_front() {
                fs::remove_file(self.path(oldest.first_sequence))?;
            }
        }
        let (Some(writing), Some(file)) = (&mut self.writing, self.files.back_mut()) else { return Ok(()) };
        writing.write_all(&record)?;
        file.bytes += bytes;
        let (bytes, oldest) = (self.bytes(), self.files.front().map(|file| file.first_sequence));
        let mut state = self.shared.lock();
        if state.generation == self.generation {
            (state.counts.bytes, state.oldest) = (bytes, oldest);
        }
        Ok(())
    }

    /// What the files have from frame `from` on: audio up to the next gap, or a gap. `None`: it is no longer there.
    fn fetch(&self, from: u64) -> io::Result<Option<Fetched>> {
        let index = self.files.partition_point(|file| file.first_sequence <= from);
        let mut audio = FetchedAudio::empty();
        for file in self.files.iter().skip(index.saturating_sub(1)) {
            let mut records = Records::open(&self.path(file.first_sequence), file.bytes)?;
            while let Some(head) = records.next_from(from)? {
                if head.is_gap() && !audio.is_empty() {
                    return Ok(Some(Fetched::Audio(audio)));
                }
                match records.body(&head)? {
                    Entry::Gap(gap) => return Ok(Some(Fetched::Gap(gap))),
                    Entry::Audio(block) => audio.append(block)?,
                }
                if audio.captured_ns.len() >= FETCH_BLOCKS * BLOCK_FRAMES {
                    audio.continues = true;
                    return Ok(Some(Fetched::Audio(audio)));
                }
            }
        }
        Ok((!audio.is_empty()).then_some(Fetched::Audio(audio)))
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    fn file_bytes(&self) -> u64 {
        (self.quota / FILES).min(MAX_FILE_BYTES)
    }

    fn path(&self, first_sequence: u64) -> PathBuf {
        self.dir.join(format!("{NAME_START}{first_sequence:020}{NAME_END}"))
    }

    fn remove_files(&mut self) {
        self.writing = None;
        self.files.clear();
        if let Err(error) = remove_files(&self.dir) {
            let error = without_number(error);
            warn!(error, dir = %self.dir.display(), "cannot remove the files of the tape");
        }
    }
}

/// Creates the folder. Nobody else may read the sound of a home.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Creates a file. Nobody else may read it either: the folder may have existed, readable by all.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Removes the files of a spill from a folder, and nothing else. Returns how many.
fn remove_files(dir: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(NAME_START) && name.ends_with(NAME_END)) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
