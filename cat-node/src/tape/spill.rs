//! The part of the tape that no longer fits into memory, on disk. Optional, and off by default, because it wears SD
//! cards.
//!
//! One thread ([`disk`]) writes and reads, in the order of the requests, so neither capture nor a subscriber ever waits
//! for a disk. Entries are appended to files, and the oldest file is removed when the quota is reached.
//!
//! When the disk fails, is full or too slow, the whole spill is closed: the tape is then what memory holds, for at
//! least [`TRY_AGAIN`]. Frame numbers are valid until the node stops, and so are the files: the node removes them when
//! it stops, and when it starts it removes those of a node that was killed.

mod disk;
mod record;
mod shared;

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daemon::quiet::Quiet;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::entry::Entry;

pub(super) use shared::Fetched;
pub use shared::SpillCounts;

use disk::Disk;
use shared::{Request, Shared};

/// Where the spill is, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillConfig {
    /// Folder of its files. Created if it does not exist.
    pub dir: PathBuf,
    /// Quota of all files together, in bytes.
    pub bytes: u64,
}

/// Requests that may wait for the disk: entries, a minute of audio, and reads. When an entry finds the queue full, the
/// disk is too slow, and the spill is closed. A read that finds it full is tried again.
const QUEUE: usize = 64;

/// How long after a failure the disk is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Failures are logged at most this often.
const LOG_PERIOD: Duration = Duration::from_secs(3_600);

/// How long a reader waits for the disk. Shorter than [`TRY_AGAIN`], so that a spill that one reader closed is still
/// closed for the others that waited with it.
pub(super) const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// How long a node that stops waits for the thread to remove the files.
const END_DEADLINE: Duration = Duration::from_millis(500);

/// The tape's side of the spill.
#[derive(Debug)]
pub(super) struct Spill {
    requests: Option<SyncSender<Request>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// For a disk that hangs. Other failures are logged by the thread, which cannot log that it hangs.
    hung_log: Mutex<Quiet>,
}

/// A read that the disk has not answered yet.
#[derive(Debug)]
pub(super) struct Fetching {
    pub(super) reply: oneshot::Receiver<Option<Fetched>>,
    /// A disk that has not answered by then hangs.
    pub(super) deadline: tokio::time::Instant,
}

impl Spill {
    /// Starts with an empty folder.
    ///
    /// # Errors
    /// If the folder cannot be created or emptied, or the thread cannot be started.
    pub(super) fn start(config: &SpillConfig) -> io::Result<Self> {
        Self::start_with(config, TRY_AGAIN)
    }

    fn start_with(config: &SpillConfig, try_again: Duration) -> io::Result<Self> {
        let removed = disk::prepare(&config.dir)?;
        info!(dir = %config.dir.display(), bytes = config.bytes, removed, "spilling the tape to disk");
        let shared = Arc::new(Shared::open());
        let (requests, queue) = sync_channel(QUEUE);
        let disk = Disk::new(config.dir.clone(), config.bytes, Arc::clone(&shared), try_again);
        let thread = std::thread::Builder::new().name("spill".into()).spawn(move || disk.run(&queue))?;
        let hung_log = Mutex::new(Quiet::new(LOG_PERIOD));
        Ok(Self { requests: Some(requests), shared, thread: Some(thread), hung_log })
    }

    /// Takes an entry that leaves memory, oldest first. Never waits.
    pub(super) fn keep(&self, entry: Entry) {
        let Some(requests) = &self.requests else { return };
        let mut state = self.shared.lock();
        let (first_sequence, frames) = (entry.first_sequence(), entry.audio_frames() as u64);
        // A closed spill gets the entry too: it is how the thread learns that it is time to open it again.
        let generation = state.generation;
        if requests.try_send(Request::Keep { generation, entry }).is_err() {
            state.counts.lost_frames += frames;
            if state.open {
                state.close();
            }
        } else if state.open {
            state.oldest.get_or_insert(first_sequence);
        }
    }

    /// Number of the oldest frame on disk.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.shared.lock().oldest
    }

    /// Asks the disk for what it has from `from` on. `None`: the queue is full.
    pub(super) fn fetch(&self, from: u64) -> Option<Fetching> {
        let (answer, reply) = oneshot::channel();
        self.requests.as_ref()?.try_send(Request::Fetch { from, reply: answer }).ok()?;
        Some(Fetching { reply, deadline: tokio::time::Instant::now() + FETCH_DEADLINE })
    }

    /// Closes the spill because the disk did not answer.
    pub(super) fn close_hung(&self) {
        {
            let mut state = self.shared.lock();
            if !state.open {
                return;
            }
            state.close();
        }
        if let Some(suppressed_lines) = self.hung_log.lock().unwrap_or_else(PoisonError::into_inner).allow() {
            let deadline_s = FETCH_DEADLINE.as_secs();
            warn!(
                deadline_s,
                suppressed_lines, "the disk of the tape does not answer, the tape stays in memory for now"
            );
        }
    }

    pub(super) fn counts(&self) -> SpillCounts {
        self.shared.lock().counts
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.requests = None;
        let began = Instant::now();
        if let Some(thread) = self.thread.take() {
            // A disk that hangs must not keep the node from stopping.
            while !thread.is_finished() && began.elapsed() < END_DEADLINE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
