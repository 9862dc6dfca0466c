//! What no longer fits into memory, on disk: optional, and off by default for the sake of SD cards.
//!
//! One thread writes and reads, in the order it is asked, so that neither capture nor a subscriber ever waits for a disk. A
//! run of entries lies in one file, and the oldest file goes when there would be more than the quota. When the disk fails, is
//! full or too slow, all of the spill is given up: the tape is then what is in memory, for [`TRY_AGAIN`] at least. The files
//! are of this start of the node alone, as the numbers of its frames are; they are removed at its end, and those of a node that
//! was killed at the next start.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use proto::{FRAME_SAMPLES, GapReason};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{BLOCK_FRAMES, Block, Entry, GapRecord, Samples};

/// Where the spill is, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillConfig {
    /// Folder of its files; made when it is not there.
    pub dir: PathBuf,
    /// Bytes of all files at most.
    pub bytes: u64,
}

/// Entries, and questions of readers, that wait for the disk: a minute of audio. A disk that is further behind is too slow, and
/// the spill is given up; a question that finds no place is asked again.
const QUEUE: usize = 64;

/// How long after a failure the disk is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// How often failures are logged.
const LOG_PERIOD: Duration = Duration::from_secs(3_600);

/// Files that the quota is divided into: what goes at once when it is full is a part of it.
const FILES: u64 = 32;

/// Largest file, in bytes: about two minutes of a quiet room.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Blocks that are read at once for a reader: five seconds.
const RUN_BLOCKS: usize = 5;

/// How long a reader waits for the disk. Less than [`TRY_AGAIN`], so that a spill which was given up for one reader is still
/// closed for the others that waited with it.
pub(super) const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// How long the end of the thread is waited for, which removes the files.
const END_DEADLINE: Duration = Duration::from_millis(500);

/// The tape's end of the spill.
#[derive(Debug)]
pub(super) struct Spill {
    work: Option<SyncSender<Work>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The thread has its own for what it sees; while the disk hangs it sees nothing.
    hung_log: Mutex<Quiet>,
}

/// What was counted since the start, and what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpillCounts {
    /// Bytes on disk now.
    pub bytes: u64,
    /// Times that the spill was given up.
    pub failures: u64,
    /// Frames of audio that went from memory and not to the disk.
    pub lost_frames: u64,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries are taken. Otherwise it was given up.
    open: bool,
    /// Grows when it is given up: what was handed over before is of no use any more.
    generation: u64,
    /// Number of the oldest frame on disk or on the way there; from there to the memory nothing is missing.
    oldest: Option<u64>,
    counts: SpillCounts,
}

/// A question that the disk has not answered yet.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) reply: oneshot::Receiver<Option<Run>>,
    /// A disk that has not answered by then hangs.
    pub(super) deadline: tokio::time::Instant,
}

enum Work {
    Keep { generation: u64, entry: Entry },
    Fetch { from: u64, reply: oneshot::Sender<Option<Run>> },
}

/// Consecutive frames that were read back, or a gap.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) first_sequence: u64,
    pub(super) audio: RunAudio,
}

#[derive(Debug)]
pub(super) enum RunAudio {
    Frames {
        /// One for each frame.
        captured_ns: Vec<u64>,
        samples: Vec<i16>,
        /// What follows is a gap, or in memory.
        last: bool,
    },
    Gap(GapRecord),
}

impl Run {
    /// Frames from `cursor` on; 0: it is not in here.
    pub(super) fn frames_from(&self, cursor: u64) -> u64 {
        let frames = match &self.audio {
            RunAudio::Frames { captured_ns, .. } => captured_ns.len() as u64,
            RunAudio::Gap(gap) => gap.frame_count,
        };
        if cursor < self.first_sequence { 0 } else { self.first_sequence.saturating_add(frames).saturating_sub(cursor) }
    }
}

impl Spill {
    /// Begins with an empty folder.
    ///
    /// # Errors
    /// When the folder cannot be had, or the thread.
    pub(super) fn start(config: &SpillConfig) -> io::Result<Self> {
        Self::start_with(config, TRY_AGAIN)
    }

    fn start_with(config: &SpillConfig, try_again: Duration) -> io::Result<Self> {
        make_dir(&config.dir)?;
        let removed = remove_files(&config.dir)?;
        info!(dir = %config.dir.display(), bytes = config.bytes, removed, "spilling the tape to disk");
        let shared = Arc::new(Shared::default());
        shared.lock().open = true;
        let (work, waiting) = sync_channel(QUEUE);
        let disk = Disk {
            dir: config.dir.clone(),
            quota: config.bytes,
            shared: Arc::clone(&shared),
            generation: 0,
            files: VecDeque::new(),
            writing: None,
            failed_at: None,
            try_again,
            log: Quiet::new(LOG_PERIOD),
        };
        let thread = std::thread::Builder::new().name("spill".into()).spawn(move || disk.run(&waiting))?;
        Ok(Self { work: Some(work), shared, thread: Some(thread), hung_log: Mutex::new(Quiet::new(LOG_PERIOD)) })
    }

    /// Takes what goes from memory, oldest first. Waits for nothing.
    pub(super) fn keep(&self, entry: Entry) {
        let Some(work) = &self.work else { return };
        let mut state = self.shared.lock();
        let (first_sequence, frames) = (entry.first_sequence(), audio_frames(&entry));
        // While it is closed the thread gets it all the same, for it opens it again.
        let generation = state.generation;
        if work.try_send(Work::Keep { generation, entry }).is_err() {
            state.counts.lost_frames += frames;
            if state.open {
                state.give_up();
            }
        } else if state.open {
            state.oldest.get_or_insert(first_sequence);
        }
    }

    /// Number of the oldest frame that can be had from disk.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.shared.lock().oldest
    }

    /// Asks for what is at `from`. `None`: too much is asked already.
    pub(super) fn fetch(&self, from: u64) -> Option<Fetch> {
        let (answer, reply) = oneshot::channel();
        self.work.as_ref()?.try_send(Work::Fetch { from, reply: answer }).ok()?;
        Some(Fetch { reply, deadline: tokio::time::Instant::now() + FETCH_DEADLINE })
    }

    /// Gives the spill up, for the disk did not answer.
    pub(super) fn hangs(&self) {
        {
            let mut state = self.shared.lock();
            if !state.open {
                return;
            }
            state.give_up();
        }
        if let Some(held_back) = self.hung_log.lock().unwrap_or_else(PoisonError::into_inner).allow() {
            let deadline_s = FETCH_DEADLINE.as_secs();
            warn!(deadline_s, held_back, "the disk does not answer, the tape is as long as memory allows");
        }
    }

    pub(super) fn counts(&self) -> SpillCounts {
        self.shared.lock().counts
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.work = None;
        let began = Instant::now();
        if let Some(thread) = self.thread.take() {
            // A disk that hangs must not keep the node.
            while !thread.is_finished() && began.elapsed() < END_DEADLINE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_up(&mut self) {
        self.open = false;
        self.generation += 1;
        self.oldest = None;
        self.counts.failures += 1;
        self.counts.bytes = 0;
    }
}

/// The thread's end.
struct Disk {
    dir: PathBuf,
    quota: u64,
    shared: Arc<Shared>,
    /// That of the files.
    generation: u64,
    /// Oldest first; the last one may be written to.
    files: VecDeque<Spilled>,
    writing: Option<File>,
    failed_at: Option<Instant>,
    /// [`TRY_AGAIN`].
    try_again: Duration,
    log: Quiet,
}

/// A file of entries.
#[derive(Debug, Clone, Copy)]
struct Spilled {
    first_sequence: u64,
    bytes: u64,
}

impl Disk {
    fn run(mut self, waiting: &Receiver<Work>) {
        while let Ok(work) = waiting.recv() {
            match work {
                Work::Keep { generation, entry } => self.keep(generation, &entry),
                Work::Fetch { from, reply } => {
                    let run = if self.is_current() { self.fetch(from) } else { Ok(None) };
                    let run = run.unwrap_or_else(|error| {
                        self.fail(&error);
                        None
                    });
                    // An error means that the reader has gone.
                    let _ = reply.send(run);
                }
            }
        }
        self.forget_files();
    }

    fn is_current(&self) -> bool {
        let state = self.shared.lock();
        state.open && state.generation == self.generation
    }

    fn keep(&mut self, generation: u64, entry: &Entry) {
        let written = if !self.is_current() {
            self.wait_and_open();
            false
        } else if generation != self.generation {
            // Handed over before it was opened again.
            false
        } else {
            self.write(entry).map_err(|error| self.fail(&error)).is_ok()
        };
        if !written {
            self.shared.lock().counts.lost_frames += audio_frames(entry);
        }
    }

    /// It was given up, here or by the tape. Opens it again after a while.
    fn wait_and_open(&mut self) {
        if self.failed_at.is_none() {
            let error = io::Error::other("the disk is too slow");
            self.note_failure(&error);
        }
        if self.failed_at.is_some_and(|at| at.elapsed() >= self.try_again) {
            if let Err(error) = make_dir(&self.dir) {
                return self.note_failure(&error);
            }
            self.failed_at = None;
            let mut state = self.shared.lock();
            state.open = true;
            // What comes from now on begins it.
            state.generation += 1;
            self.generation = state.generation;
        }
    }

    fn fail(&mut self, error: &io::Error) {
        {
            let mut state = self.shared.lock();
            if state.generation == self.generation {
                state.give_up();
            }
        }
        self.note_failure(error);
    }

    fn note_failure(&mut self, error: &io::Error) {
        self.failed_at = Some(Instant::now());
        self.forget_files();
        if let Some(held_back) = self.log.allow() {
            warn!(%error, held_back, "the tape is not spilled to disk for now, it is as long as memory allows");
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let record = encode(entry);
        let bytes = record.len() as u64;
        let is_full = self.files.back().is_some_and(|file| file.bytes + bytes > self.file_bytes());
        if self.writing.is_none() || is_full {
            let first_sequence = entry.first_sequence();
            self.writing = Some(create(&self.path(first_sequence))?);
            self.files.push_back(Spilled { first_sequence, bytes: 0 });
        }
        while self.bytes() + bytes > self.quota && self.files.len() > 1 {
            if let Some(oldest) = self.files.pop_front() {
                fs::remove_file(self.path(oldest.first_sequence))?;
            }
        }
        let (Some(file), Some(spilled)) = (&mut self.writing, self.files.back_mut()) else { return Ok(()) };
        file.write_all(&record)?;
        spilled.bytes += bytes;
        let (bytes, oldest) = (self.bytes(), self.files.front().map(|file| file.first_sequence));
        let mut state = self.shared.lock();
        if state.generation == self.generation {
            (state.counts.bytes, state.oldest) = (bytes, oldest);
        }
        Ok(())
    }

    /// What is at `from`. `None`: it is not there any more.
    fn fetch(&mut self, from: u64) -> io::Result<Option<Run>> {
        let index = self.files.partition_point(|file| file.first_sequence <= from);
        let mut run = Run {
            first_sequence: from,
            audio: RunAudio::Frames { captured_ns: Vec::new(), samples: Vec::new(), last: true },
        };
        for file in self.files.iter().skip(index.saturating_sub(1)) {
            let mut reader = BufReader::new(File::open(self.path(file.first_sequence))?);
            let mut left = file.bytes;
            while left > 0 {
                let head = Head::read(&mut reader)?;
                left = left.saturating_sub(HEAD_BYTES as u64 + head.bytes);
                let RunAudio::Frames { captured_ns, samples, last } = &mut run.audio else { return Ok(Some(run)) };
                if head.first_sequence.saturating_add(head.frames) <= from {
                    reader.seek_relative(head.bytes as i64)?;
                    continue;
                }
                if head.reason.is_some() && !captured_ns.is_empty() {
                    return Ok(Some(run));
                }
                match head.read_body(&mut reader)? {
                    Entry::Gap(gap) => {
                        run.audio = RunAudio::Gap(gap);
                        run.first_sequence = head.first_sequence;
                        return Ok(Some(run));
                    }
                    Entry::Audio(block) => {
                        if captured_ns.is_empty() {
                            run.first_sequence = head.first_sequence;
                        }
                        captured_ns.extend(block.captured_ns);
                        if let Samples::Packed(packed) = block.samples {
                            super::unpack(&packed, samples).map_err(io::Error::other)?;
                        }
                        if samples.len() != captured_ns.len() * FRAME_SAMPLES {
                            return Err(io::ErrorKind::InvalidData.into());
                        }
                        if captured_ns.len() >= RUN_BLOCKS * BLOCK_FRAMES {
                            *last = false;
                            return Ok(Some(run));
                        }
                    }
                }
            }
        }
        Ok((run.frames_from(from) > 0).then_some(run))
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

    fn forget_files(&mut self) {
        self.writing = None;
        self.files.clear();
        if let Err(error) = remove_files(&self.dir) {
            warn!(%error, dir = %self.dir.display(), "files of the tape are left");
        }
    }
}

const NAME_START: &str = "tape-";
const NAME_END: &str = ".spill";

/// Sound of a home is for nobody else to read.
fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A new file, likewise: the folder may have been there before, and open to all.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Removes what a spill has left in a folder, and nothing else. How many files.
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

fn audio_frames(entry: &Entry) -> u64 {
    match entry {
        Entry::Audio(block) => block.captured_ns.len() as u64,
        Entry::Gap(_) => 0,
    }
}

/// In front of each entry: number of its first frame, frames, bytes that follow, and reason of a gap (-1: audio). All of 8
/// bytes, little-endian. Audio goes on with the time of each frame, 8 bytes each, and FLAC; a gap with its detail.
struct Head {
    first_sequence: u64,
    frames: u64,
    bytes: u64,
    reason: Option<GapReason>,
}

const HEAD_BYTES: usize = 32;

fn encode(entry: &Entry) -> Vec<u8> {
    let (frames, reason, body) = match entry {
        Entry::Audio(block) => {
            let mut body: Vec<u8> = block.captured_ns.iter().flat_map(|ns| ns.to_le_bytes()).collect();
            match &block.samples {
                Samples::Packed(packed) => body.extend_from_slice(packed),
                Samples::Plain(plain) => sound::flac::encode(plain, &mut body),
            }
            (block.captured_ns.len() as u64, -1, body)
        }
        Entry::Gap(gap) => (gap.frame_count, i64::from(gap.reason as i32), gap.detail.clone().into_bytes()),
    };
    let mut record = Vec::with_capacity(HEAD_BYTES + body.len());
    for word in [entry.first_sequence(), frames, body.len() as u64, reason.cast_unsigned()] {
        record.extend_from_slice(&word.to_le_bytes());
    }
    record.extend_from_slice(&body);
    record
}

impl Head {
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut words = [0; 4];
        for word in &mut words {
            let mut bytes = [0; 8];
            reader.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        let [first_sequence, frames, bytes, reason] = words;
        let reason = i32::try_from(reason.cast_signed()).ok().filter(|&reason| reason >= 0);
        let reason = reason.map(|reason| GapReason::try_from(reason).map_err(io::Error::other)).transpose()?;
        // Another program may have written there: nothing larger than what this one writes is read.
        let most = (BLOCK_FRAMES * (FRAME_SAMPLES * 3 + 8)) as u64;
        let too_long = bytes > most || (reason.is_none() && frames > BLOCK_FRAMES as u64);
        if too_long {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(Self { first_sequence, frames, bytes, reason })
        }
    }

    fn read_body(&self, reader: &mut impl Read) -> io::Result<Entry> {
        let mut body = vec![0; self.bytes as usize];
        reader.read_exact(&mut body)?;
        let first_sequence = self.first_sequence;
        if let Some(reason) = self.reason {
            let detail = String::from_utf8(body).map_err(io::Error::other)?;
            return Ok(Entry::Gap(GapRecord { first_sequence, frame_count: self.frames, reason, detail }));
        }
        let (times, packed) =
            body.split_at_checked(self.frames as usize * 8).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        let captured_ns = times.as_chunks::<8>().0.iter().map(|time| u64::from_le_bytes(*time)).collect();
        Ok(Entry::Audio(Block { first_sequence, captured_ns, samples: Samples::Packed(packed.into()) }))
    }
}

#[cfg(test)]
mod tests;
