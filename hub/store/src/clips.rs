//! Clips: the audio of each event as a file, within a quota.
//!
//! The hub writes no audio but clips, and a clip only around a cat event: at most [`ClipsConfig::max_length_s`] of the
//! event and at most [`MAX_ROLL_MS`] before and after it. It writes no clip that is mostly speech. So what people say
//! while no cat vocalises never reaches the disk.
//!
//! A file is complete, synced and has its final name before the database refers to it. It is removed only after the
//! database has released it and remembers so. A file that no event refers to, and that the database did not release, is
//! what a crash leaves, or all that is left of an event whose database was lost. [`Clips::open`] moves it to the
//! quarantine (`quarantine.rs`).

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::cause::cause;
use daemon::private;
use daemon::quiet::Quiet;
use hub_base::time::days_before;
use tracing::{error, info, warn};

use self::codec::{Content, wav_of};
use self::files::{SortedOut, Wanted, WriteError, free_bytes, sort_out, write};
use self::quarantine::Quarantine;
use self::story::{Story, fingerprint};
use self::witness::Witness;
use crate::database::Store;
use crate::error::StoreError;
use crate::events::ClipTotals;
use crate::events::event::{Clip, NewEvent, NoClip};
use crate::identity::Identity;

mod codec;
mod config;
mod files;
mod quarantine;
mod recovery;
mod story;
mod witness;

pub(crate) use self::witness::FILE as WITNESS_FILE;

pub use self::codec::ClipFormat;
pub use self::config::{ClipsConfig, MAX_LENGTH_S, MAX_ROLL_MS};
pub use self::quarantine::{KEEP_BYTES as QUARANTINE_KEEP_BYTES, KEEP_DAYS as QUARANTINE_KEEP_DAYS};
pub use self::recovery::{BroughtBack, LostClip};

/// Directory of the clips within the data directory.
pub(crate) const DIRECTORY: &str = "clips";

/// Clips whose references are dropped in one transaction, at most.
const RETIRE_BATCH: usize = 100;

/// Clips of labelled events that are kept. They are not counted towards `clips.keep_count`, and no age limits them.
pub const LABELLED_KEEP_COUNT: u64 = 5_000;

/// Size of all clips of labelled events, in bytes. They are not counted towards `clips.keep_mb`.
pub const LABELLED_KEEP_BYTES: u64 = 500_000_000;

/// Labelled events that are kept, with a clip or without.
pub const LABELLED_KEEP_EVENTS: u64 = 20_000;

/// If more clips than this are missing, and more than half of all, the folder is not the right one, for example because
/// its disk is not mounted. Then no clip is marked as missing.
const MOST_MISSING: usize = 10;

/// Missing or damaged clips that are counted and logged, at most.
const MOST_NOTICED: usize = 20_000;

/// Clips that are removed for their age in one call of [`Clips::tidy`], at most: 14,400 a day as the hub calls it. So
/// a clock that lied costs little until somebody notices, and honest retention still keeps up.
const AGED_A_ROUND: usize = 100;

/// Failures of the same kind are logged once in this period.
const FAILURE_LOG_PERIOD: Duration = Duration::from_secs(600);

/// Audio that will become a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Boot id of the node.
    pub boot_id: u64,
    /// First sample, on the node's count.
    pub start_sample: u64,
    /// The audio.
    pub samples: Vec<i16>,
}

/// Numbers of clips since the start.
#[derive(Debug, Default)]
pub struct ClipCounters {
    /// Clips that were written.
    pub written: AtomicU64,
    /// Clips that were not written because the disk was too full.
    pub disk_full: AtomicU64,
    /// Clips that were not written because of an I/O error.
    pub write_failed: AtomicU64,
    /// Clips that were not written because they were mostly human speech.
    pub speech: AtomicU64,
    /// Clips that retention removed.
    pub expired: AtomicU64,
    /// Clips that were to be read and whose file is missing, each once.
    pub missing: AtomicU64,
    /// Clips that were to be read and whose file is damaged, each once.
    pub damaged: AtomicU64,
}

/// The clips on disk. Clones share them.
#[derive(Debug, Clone)]
pub struct Clips {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    config: ClipsConfig,
    store: Store,
    counters: ClipCounters,
    failure_log: Mutex<Quiet>,
    quarantine: Quarantine,
    witness: Witness,
    /// Files of missing or damaged clips that were counted and logged.
    unusable: Mutex<HashSet<String>>,
    /// What the witness knows. `None` in a process that does not own the store.
    seen: Mutex<Option<Identity>>,
}

/// Whether a file is named like a clip.
pub(crate) fn is_clip(name: &str) -> bool {
    ClipFormat::is_clip(name)
}

/// Names of the clips in the quarantine of a data folder.
///
/// # Errors
/// If the quarantine cannot be read.
pub(crate) fn quarantined(data_dir: &Path) -> std::io::Result<HashSet<String>> {
    Quarantine::new(data_dir).names()
}

impl Clips {
    /// Opens the clips in `data_dir`: creates the directory, removes files that the database has released, moves other
    /// files that no event refers to into the quarantine, and marks clips without a file as missing. Only the process
    /// that owns the store calls it.
    ///
    /// # Errors
    /// If the directory or the store cannot be used.
    pub async fn open(data_dir: &Path, config: ClipsConfig, store: Store) -> Result<Self, StoreError> {
        let clips = Self::guest(data_dir, config, store);
        let store = &clips.inner.store;
        let identity = store.identity().await?;
        let (inner, now) = (Arc::clone(&clips.inner), identity.clone());
        if blocking(move || Ok::<_, std::io::Error>(inner.witness.misses_events(&now))).await.unwrap_or(true) {
            let dropped = store.drop_unreadable_events().await?;
            if dropped > 0 {
                warn!(dropped, "dropped events that cannot be read; their clips describe them");
            }
        }
        let wanted = Wanted { referred: store.clip_files().await?, released: store.released_clips().await? };
        let released = wanted.released.iter().cloned().collect();
        let (inner, now, referred) = (Arc::clone(&clips.inner), identity.clone(), wanted.referred.len());
        let has_log = store.has_label_log();
        let sorted = blocking(move || {
            private::create_folder(&inner.directory)?;
            // A recovery that was interrupted goes on.
            let lost = inner.witness.misses_events(&now) || inner.quarantine.has_to_recover()?;
            // A full disk or a quarantine that cannot be used must not keep the hub from starting. The next start sorts
            // the files out.
            let done = match sort_out(&inner.directory, &wanted, &inner.quarantine, lost) {
                Ok(done) => done,
                Err(error) => {
                    warn!(error = cause(&error), "cannot sort out clips without events; retrying at the next start");
                    return Ok((None, lost));
                }
            };
            // Without a clip to recover, the labels that the database lacks come back.
            if lost && has_log && !inner.quarantine.has_to_recover()? {
                inner.quarantine.open_folder(true)?;
            }
            if let Err(error) = inner.witness.remember(&now, true) {
                warn!(%error, "cannot note which database the clips belong to; retrying at the next start");
            }
            Ok((Some(done), lost))
        });
        let (done, lost) =
            sorted.await.map_err(|error| StoreError::Directory { path: clips.inner.directory.clone(), error })?;
        *clips.seen() = Some(identity);
        if done.is_some()
            && let Err(error) = store.forget_released(released).await
        {
            warn!(%error, "cannot forget the names of removed clips; retrying at the next start");
        }
        let SortedOut { removed, quarantined, returned, missing } = done.unwrap_or_default();
        if returned > 0 {
            info!(clips = returned, "took clips that events refer to out of the quarantine");
        }
        if removed > 0 || quarantined > 0 {
            info!(
                removed,
                quarantined, "removed clip files that nobody needs; clips without events are in the quarantine"
            );
        }
        if quarantined > 0 && lost {
            warn!(clips = quarantined, "the database does not know these clips; recovering their events");
        }
        if missing.len() > MOST_MISSING && missing.len() > referred / 2 {
            error!(
                missing = missing.len(),
                folder = %clips.inner.directory.display(),
                "most clips are missing; check that their disk is mounted and that this is the right folder"
            );
        } else if !missing.is_empty() {
            warn!(missing = missing.len(), "the files of these clips are missing");
            store.clips_are_missing(missing).await?;
        }
        if let Err(error) = store.begin_label_log().await {
            warn!(%error, "cannot begin the log of labels; retrying at the next start");
        }
        Ok(clips)
    }

    /// Opens the clips in `data_dir` unchecked, for a process that only reads and deletes them.
    pub fn guest(data_dir: &Path, config: ClipsConfig, store: Store) -> Self {
        Self {
            inner: Arc::new(Inner {
                directory: data_dir.join(DIRECTORY),
                config,
                store,
                counters: ClipCounters::default(),
                failure_log: Mutex::new(Quiet::new(FAILURE_LOG_PERIOD)),
                quarantine: Quarantine::new(data_dir),
                witness: Witness::new(data_dir),
                unusable: Mutex::new(HashSet::new()),
                seen: Mutex::new(None),
            }),
        }
    }

    /// The config.
    pub fn config(&self) -> &ClipsConfig {
        &self.inner.config
    }

    /// Counters since the start.
    pub fn counters(&self) -> &ClipCounters {
        &self.inner.counters
    }

    /// Free bytes on the disk. `None` if they cannot be determined.
    pub async fn disk_free_bytes(&self) -> Option<u64> {
        let directory = self.inner.directory.clone();
        blocking(move || free_bytes(&directory)).await.ok()
    }

    /// Makes room within the quota and writes the clip of an event. If the clip cannot be written, returns the reason;
    /// the caller stores the event either way.
    pub async fn keep(&self, cut: Cut, event: &NewEvent) -> Result<Clip, NoClip> {
        let config = &self.inner.config;
        if !config.enabled {
            return Err(NoClip::Disabled);
        }
        let (format, samples) = (config.format, cut.samples.len() as u64);
        let (boot_id, start_sample) = (cut.boot_id, cut.start_sample);
        // Without the id, a recovered event finds it by its URL.
        let node_id = self.inner.store.id_of_boot(event.node.clone(), boot_id).await.unwrap_or(None);
        let comment = story::write(event, node_id, start_sample, &cut.samples);
        let encoded = match blocking(move || Ok::<_, WriteError>(format.encode(&cut.samples, &comment))).await {
            Ok(encoded) => encoded,
            Err(error) => return Err(self.failed(&error)),
        };
        let bytes = encoded.len() as u64;
        let reserve = config.reserve_mb.saturating_mul(1_000_000);
        let kept = match self.make_room(bytes).await {
            Err(reason) => Err(reason),
            Ok(()) => {
                // The task holds the store, and with it the lock of the data directory, so no other hub cleans up the
                // folder while the file is written.
                let inner = Arc::clone(&self.inner);
                let file = format!("{boot_id:016x}-{start_sample:012}{}", format.suffix());
                let clip = Clip { file, bytes, start_sample, samples };
                blocking(move || write(&inner.directory, &clip.file, &encoded, reserve).map(|()| clip)).await
            }
            .map_err(|error| self.failed(&error)),
        };
        match &kept {
            Ok(_) => &self.inner.counters.written,
            Err(NoClip::DiskFull) => &self.inner.counters.disk_full,
            Err(_) => &self.inner.counters.write_failed,
        }
        .fetch_add(1, Ordering::Relaxed);
        kept
    }

    /// Reads a clip as a WAV file, whatever its format on disk.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the file is missing, [`ErrorKind::InvalidData`] if it is damaged.
    pub async fn read(&self, clip: &Clip) -> std::io::Result<Vec<u8>> {
        self.read_as(clip, |samples| wav_of(&samples)).await
    }

    /// As [`Clips::read`], with the fingerprint of the audio.
    ///
    /// # Errors
    /// As [`Clips::read`].
    pub async fn read_with_fingerprint(&self, clip: &Clip) -> std::io::Result<(Vec<u8>, String)> {
        self.read_as(clip, |samples| (wav_of(&samples), fingerprint(&samples))).await
    }

    /// As [`Clips::samples`], with the fingerprint of the audio: 16 hexadecimal digits, the same for equal samples.
    ///
    /// # Errors
    /// As [`Clips::samples`].
    pub async fn samples_with_fingerprint(&self, clip: &Clip) -> std::io::Result<(Vec<i16>, String)> {
        self.read_as(clip, |samples| {
            let fingerprint = fingerprint(&samples);
            (samples, fingerprint)
        })
        .await
    }

    /// Reads the samples of a clip.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the file is missing, [`ErrorKind::InvalidData`] if it is damaged.
    pub async fn samples(&self, clip: &Clip) -> std::io::Result<Vec<i16>> {
        self.read_as(clip, |samples| samples).await
    }

    async fn read_as<T: Send + 'static>(
        &self,
        clip: &Clip,
        give: impl FnOnce(Vec<i16>) -> T + Send + 'static,
    ) -> std::io::Result<T> {
        let path = self.inner.directory.join(&clip.file);
        let (format, count) = (ClipFormat::of(&clip.file), clip.samples as usize);
        let read = blocking(move || {
            let Content { samples, comment } =
                format.decode(&std::fs::read(path)?, count).ok_or(ErrorKind::InvalidData)?;
            let intact = Story::read(&comment).is_none_or(|story| story.is_about(&samples));
            if samples.len() == count && intact { Ok(give(samples)) } else { Err(ErrorKind::InvalidData.into()) }
        });
        let read = read.await;
        if let Err(error) = &read {
            self.notice_unusable(clip, error).await;
        }
        read
    }

    /// Counts and logs a missing or damaged clip, each file once.
    async fn notice_unusable(&self, clip: &Clip, error: &std::io::Error) {
        let counter = match error.kind() {
            ErrorKind::NotFound => &self.inner.counters.missing,
            ErrorKind::InvalidData => &self.inner.counters.damaged,
            _ => return,
        };
        // Retention may have removed the clip after its event was read.
        if error.kind() == ErrorKind::NotFound && !self.inner.store.refers_to_clip(&clip.file).await.unwrap_or(true) {
            return;
        }
        let is_new = {
            let mut noticed = self.inner.unusable.lock().unwrap_or_else(PoisonError::into_inner);
            noticed.len() < MOST_NOTICED && noticed.insert(clip.file.clone())
        };
        if is_new {
            counter.fetch_add(1, Ordering::Relaxed);
            warn!(file = clip.file, folder = %self.inner.directory.display(), %error, "a clip cannot be used");
        }
    }

    /// Removes files that the database no longer refers to. A file that cannot be removed now is removed at the next
    /// start.
    pub async fn remove(&self, files: Vec<String>) {
        if files.is_empty() {
            return;
        }
        let (inner, names) = (Arc::clone(&self.inner), files.clone());
        let removed = blocking(move || {
            for file in names {
                match std::fs::remove_file(inner.directory.join(&file)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => inner.quarantine.forget(&file)?,
                }
            }
            Ok(())
        });
        let removed =
            removed.await.map_err(|error| StoreError::Directory { path: self.inner.directory.clone(), error });
        let forgotten = match removed {
            Ok(()) => self.inner.store.forget_released(files).await,
            failed => failed,
        };
        if let Err(error) = forgotten {
            warn!(%error, "clip could not be removed; the next start tries again");
        }
    }

    /// Removes a clip whose event is not stored, unless another event has the file: one that came back from a lost
    /// database meanwhile.
    pub async fn give_up(&self, file: String) {
        if !self.inner.store.refers_to_clip(&file).await.unwrap_or(true) {
            self.remove(vec![file]).await;
        }
    }

    /// The database that the clips belong to.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// An event with this number was stored. The clips remember it, so that an older copy of the database is noticed.
    pub async fn stored(&self, event_id: i64) {
        let now = {
            let mut seen = self.seen();
            let Some(seen) = seen.as_mut().filter(|seen| seen.newest_event < event_id) else { return };
            seen.newest_event = event_id;
            seen.clone()
        };
        let inner = Arc::clone(&self.inner);
        // Not durable: after a power cut, the disk may hold an older number, which only makes the check weaker.
        if let Err(error) = blocking(move || inner.witness.remember(&now, false)).await {
            self.log_failure(&error);
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Option<Identity>> {
        self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes clips that exceed the quota, and some of those that are too old. `now_ns`: the time. `None`: the clock
    /// is in doubt, and no clip is too old. Call it every ten minutes.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tidy(&self, now_ns: Option<i64>) -> Result<(), StoreError> {
        let config = &self.inner.config;
        if let Some(now_ns) = now_ns.filter(|_| config.keep_days > 0) {
            let clips_before_ns = days_before(now_ns, config.keep_days);
            let retired = self.inner.store.retire_clips_before(clips_before_ns, AGED_A_ROUND).await?;
            self.expire(retired.into_iter().map(|clip| clip.file).collect()).await;
        }
        self.retire_surplus(0, 0).await?;
        let keep = ClipTotals { count: LABELLED_KEEP_COUNT, bytes: LABELLED_KEEP_BYTES };
        self.retire_labelled(keep, LABELLED_KEEP_EVENTS).await?;
        let inner = Arc::clone(&self.inner);
        let deleted = blocking(move || inner.quarantine.tidy(now_ns, QUARANTINE_KEEP_BYTES)).await;
        let deleted = deleted.map_err(|error| StoreError::Directory { path: self.inner.directory.clone(), error })?;
        if deleted > 0 {
            info!(deleted, "deleted old clips of the quarantine");
        }
        Ok(())
    }

    /// Makes room for a clip of `bytes`.
    async fn make_room(&self, bytes: u64) -> Result<(), NoClip> {
        let config = &self.inner.config;
        if bytes > config.keep_mb.saturating_mul(1_000_000) || config.keep_count == 0 {
            return Err(NoClip::OverQuota);
        }
        self.retire_surplus(1, bytes).await.map_err(|error| {
            self.log_failure(&error);
            NoClip::WriteFailed
        })
    }

    /// Removes the clips of the events that were labelled first, and then such events, until the rest fits into the
    /// quota of labelled events.
    async fn retire_labelled(&self, keep: ClipTotals, keep_events: u64) -> Result<(), StoreError> {
        let store = &self.inner.store;
        loop {
            let totals = store.labelled_clip_totals().await?;
            if totals.count <= keep.count && totals.bytes <= keep.bytes {
                break;
            }
            // To free bytes, clips go one at a time, because their sizes are not known in advance.
            let over_count = totals.count.saturating_sub(keep.count);
            let batch = usize::try_from(over_count).unwrap_or(RETIRE_BATCH).clamp(1, RETIRE_BATCH);
            let retired = store.retire_labelled_clips(batch).await?;
            if retired.is_empty() {
                break;
            }
            self.expire(retired.into_iter().map(|clip| clip.file).collect()).await;
        }
        while store.forget_labelled_events(keep_events, RETIRE_BATCH).await? > 0 {}
        Ok(())
    }

    /// Removes the oldest clips of events without a label until `count` more clips of `bytes` in total fit into the
    /// quota.
    async fn retire_surplus(&self, count: u64, bytes: u64) -> Result<(), StoreError> {
        let config = &self.inner.config;
        loop {
            let all = self.inner.store.clip_totals().await?;
            let labelled = self.inner.store.labelled_clip_totals().await?;
            let totals = ClipTotals {
                count: all.count.saturating_sub(labelled.count),
                bytes: all.bytes.saturating_sub(labelled.bytes),
            };
            let over_count = (totals.count + count).saturating_sub(config.keep_count);
            let over_bytes = (totals.bytes + bytes).saturating_sub(config.keep_mb.saturating_mul(1_000_000));
            if totals.count == 0 || (over_count == 0 && over_bytes == 0) {
                return Ok(());
            }
            // To free bytes, clips go one at a time, because their sizes are not known in advance.
            let batch = usize::try_from(over_count).unwrap_or(RETIRE_BATCH).clamp(1, RETIRE_BATCH);
            let retired = self.inner.store.retire_oldest_clips(batch).await?;
            if retired.is_empty() {
                return Ok(());
            }
            self.expire(retired.into_iter().map(|clip| clip.file).collect()).await;
        }
    }

    async fn expire(&self, files: Vec<String>) {
        self.inner.counters.expired.fetch_add(files.len() as u64, Ordering::Relaxed);
        self.remove(files).await;
    }

    fn failed(&self, error: &WriteError) -> NoClip {
        self.log_failure(error);
        match error {
            WriteError::Reserve { .. } => NoClip::DiskFull,
            WriteError::Io(error) if error.kind() == ErrorKind::StorageFull => NoClip::DiskFull,
            WriteError::Io(_) => NoClip::WriteFailed,
        }
    }

    fn log_failure(&self, error: &dyn std::error::Error) {
        let allowed = self.inner.failure_log.lock().unwrap_or_else(PoisonError::into_inner).allow();
        if let Some(suppressed_lines) = allowed {
            warn!(%error, suppressed_lines, "events are stored without clips");
        }
    }
}

async fn blocking<T: Send + 'static, E: Send + 'static + From<std::io::Error>>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
