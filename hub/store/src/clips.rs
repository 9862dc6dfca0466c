//! Clips: the audio of each event as a file, within a quota.
//!
//! The hub writes no audio but clips, and a clip only around a cat event: at most [`ClipsConfig::max_length_s`] of the
//! event and at most [`MAX_ROLL_MS`] before and after it. It writes no clip that is mostly speech. So what people say
//! while no cat vocalises never reaches the disk.
//!
//! A file is complete, synced and has its final name before the database refers to it. It is removed only after the
//! database has dropped the reference. So a crash leaves at worst a file without an event, which [`Clips::open`]
//! removes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::quiet::Quiet;
use hub_base::time::now_ns;
use tracing::warn;

use self::codec::wav_of;
use self::files::{WriteError, free_bytes, sweep, write};
use crate::database::Store;
use crate::error::StoreError;
use crate::events::event::{Clip, NoClip};

mod codec;
mod config;
mod files;

pub use self::codec::ClipFormat;
pub use self::config::{ClipsConfig, MAX_LENGTH_S, MAX_ROLL_MS};

/// Directory of the clips within the data directory.
pub(crate) const DIRECTORY: &str = "clips";

/// Clips whose references are dropped in one transaction, at most.
const RETIRE_BATCH: usize = 100;

/// Failures of the same kind are logged once in this period.
const FAILURE_LOG_PERIOD: Duration = Duration::from_secs(600);

const DAY_NS: i64 = 86_400 * 1_000_000_000;

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
}

impl Clips {
    /// Opens the clips in `data_dir`: creates the directory, removes files that no event refers to, and marks clips
    /// without a file as missing. Only the process that owns the store calls it.
    ///
    /// # Errors
    /// If the directory or the store cannot be used.
    pub async fn open(data_dir: &Path, config: ClipsConfig, store: Store) -> Result<Self, StoreError> {
        let clips = Self::guest(data_dir, config, store);
        let inner = Arc::clone(&clips.inner);
        let wanted = clips.inner.store.clip_files().await?;
        let (swept, missing) = blocking(move || sweep(&inner.directory, &wanted))
            .await
            .map_err(|source| StoreError::Directory { path: clips.inner.directory.clone(), source })?;
        if swept > 0 || !missing.is_empty() {
            warn!(
                swept,
                missing = missing.len(),
                "removed clip files without events, and marked clips without files as missing, after an unclean stop"
            );
        }
        clips.inner.store.clips_are_missing(missing).await?;
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
            }),
        }
    }

    /// The config.
    pub fn config(&self) -> &ClipsConfig {
        &self.inner.config
    }

    /// The store with the events of these clips.
    pub fn store(&self) -> &Store {
        &self.inner.store
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

    /// Makes room within the quota and writes a clip. If the clip cannot be written, returns the reason; the caller
    /// stores the event either way.
    pub async fn keep(&self, cut: Cut) -> Result<Clip, NoClip> {
        let config = &self.inner.config;
        if !config.enabled {
            return Err(NoClip::Disabled);
        }
        let (format, samples) = (config.format, cut.samples.len() as u64);
        let encoded = match blocking(move || Ok::<_, WriteError>(format.encode(&cut.samples))).await {
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
                let file = format!("{:016x}-{:012}{}", cut.boot_id, cut.start_sample, format.suffix());
                let clip = Clip { file, bytes, start_sample: cut.start_sample, samples };
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
    /// [`ErrorKind::NotFound`] if the file is missing, [`ErrorKind::InvalidData`] if a FLAC file is damaged.
    pub async fn read(&self, clip: &Clip) -> std::io::Result<Vec<u8>> {
        self.read_as(clip, |format, bytes, count| match format {
            ClipFormat::Wav => Some(bytes),
            ClipFormat::Flac => format.decode(&bytes, count).map(|samples| wav_of(&samples)),
        })
        .await
    }

    /// Reads the samples of a clip.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the file is missing, [`ErrorKind::InvalidData`] if it is damaged.
    pub async fn samples(&self, clip: &Clip) -> std::io::Result<Vec<i16>> {
        self.read_as(clip, |format, bytes, count| format.decode(&bytes, count)).await
    }

    async fn read_as<T: Send + 'static>(
        &self,
        clip: &Clip,
        decode: impl FnOnce(ClipFormat, Vec<u8>, usize) -> Option<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let path = self.inner.directory.join(&clip.file);
        let (format, count) = (ClipFormat::of(&clip.file), clip.samples as usize);
        blocking(move || decode(format, std::fs::read(path)?, count).ok_or_else(|| ErrorKind::InvalidData.into())).await
    }

    /// Removes files that the database no longer refers to. A file that cannot be removed now is removed at the next
    /// start.
    pub async fn remove(&self, files: Vec<String>) {
        let inner = Arc::clone(&self.inner);
        let removed = blocking(move || {
            for file in files {
                match std::fs::remove_file(inner.directory.join(file)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await;
        if let Err(error) = removed {
            warn!(%error, "clip could not be removed; the next start tries again");
        }
    }

    /// Removes clips that are too old or exceed the quota. Call it regularly.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let config = &self.inner.config;
        if config.keep_days > 0 {
            let clips_before_ns = now_ns() - i64::from(config.keep_days) * DAY_NS;
            loop {
                let retired = self.inner.store.retire_clips_before(clips_before_ns, RETIRE_BATCH).await?;
                if retired.is_empty() {
                    break;
                }
                self.expire(retired.into_iter().map(|clip| clip.file).collect()).await;
            }
        }
        self.retire_surplus(0, 0).await
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

    /// Removes the oldest clips until `count` more clips of `bytes` in total fit into the quota.
    async fn retire_surplus(&self, count: u64, bytes: u64) -> Result<(), StoreError> {
        let config = &self.inner.config;
        loop {
            let totals = self.inner.store.clip_totals().await?;
            let over_count = (totals.count + count).saturating_sub(config.keep_count);
            let over_bytes = (totals.bytes + bytes).saturating_sub(config.keep_mb.saturating_mul(1_000_000));
            if totals.count == 0 || (over_count == 0 && over_bytes == 0) {
                return Ok(());
            }
            // To free bytes, clips go one at a time, because their sizes are not known in advance.
            let batch = usize::try_from(over_count).unwrap_or(RETIRE_BATCH).clamp(1, RETIRE_BATCH);
            let retired = self.inner.store.retire_oldest_clips(batch).await?;
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
        if let Some(held_back) = allowed {
            warn!(%error, held_back, "events are stored without clips");
        }
    }
}

async fn blocking<T: Send + 'static, E: Send + 'static + From<std::io::Error>>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

#[cfg(test)]
mod tests;
