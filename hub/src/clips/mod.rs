//! Clips: the sound of each event as a file, within a quota.
//!
//! Clips are all the audio that the hub ever writes, and there is one only around a cat event: at most
//! [`ClipsConfig::max_length_s`] with at most [`MAX_ROLL_MS`] before and after it, and none that is mostly speech. What people
//! say when no cat calls is never on disk.
//!
//! A file is complete, synced and under its final name before the database points to it, and removed only after the
//! database has let go of it. So a crash leaves at worst a file that nobody needs, which [`Clips::open`] sweeps away.

use std::io::{Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::config::ConfigError;
use daemon::quiet::Quiet;
use sound::SAMPLE_RATE_HZ;
use tracing::{info, warn};

use crate::flac;
use crate::store::events::{Clip, NoClip};
use crate::store::{Store, StoreError, now_ns};

pub mod picture;
pub mod ring;

/// Directory of the clips within the data directory.
const DIRECTORY: &str = "clips";

/// Suffix of files that are being written.
const UNFINISHED: &str = ".part";

/// Longest pre-roll and post-roll: enough to hear how a meow begins, too little for a sentence.
pub const MAX_ROLL_MS: u32 = 2_000;

/// Longest clip that can be configured, in seconds: bounds the memory for a node's recent audio.
pub const MAX_LENGTH_S: u32 = 60;

/// Clips that are let go of in one transaction.
const RETIRE_BATCH: usize = 100;

/// One line of the log in this time for failures of the same kind.
const FAILURE_LOG_PERIOD: Duration = Duration::from_secs(600);

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// `[clips]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipsConfig {
    /// Whether clips are kept at all. Events are, either way.
    pub enabled: bool,
    /// Audio before the event, in milliseconds, at most [`MAX_ROLL_MS`].
    pub pre_roll_ms: u32,
    /// Audio after the event, in milliseconds, at most [`MAX_ROLL_MS`].
    pub post_roll_ms: u32,
    /// How clips are on disk. They are served as WAV either way.
    pub format: ClipFormat,
    /// Whether what people say is kept out: rolls in which somebody speaks are cut off, and a clip that is mostly speech is not
    /// written (see [`sound::speech`] for the rule).
    pub speech_gate: bool,
    /// Longest clip without its rolls, in seconds, 1 to [`MAX_LENGTH_S`]. Of a longer event the last part is kept.
    pub max_length_s: u32,
    /// Clips are removed after this many days. 0: by count and size alone.
    pub keep_days: u32,
    /// The oldest clips are removed above this many.
    pub keep_count: u64,
    /// The oldest clips are removed before all together take more megabytes (10^6 bytes) than this.
    pub keep_mb: u64,
    /// No clip is written when it would leave less than this many megabytes free on the disk: the database needs room.
    pub reserve_mb: u64,
}

/// How a clip is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipFormat {
    /// WAV: 32 kB a second.
    Wav,
    /// FLAC: the same samples in less, about half in a quiet room.
    Flac,
}

impl ClipFormat {
    const ALL: [Self; 2] = [Self::Wav, Self::Flac];

    fn suffix(self) -> &'static str {
        match self {
            Self::Wav => ".wav",
            Self::Flac => ".flac",
        }
    }

    fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Wav => wav_of(samples),
            Self::Flac => {
                let mut stream = Vec::new();
                sound::flac::encode(samples, &mut stream);
                stream
            }
        }
    }
}

impl Default for ClipsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            pre_roll_ms: 500,
            post_roll_ms: 500,
            format: ClipFormat::Wav,
            speech_gate: true,
            max_length_s: 10,
            keep_days: 90,
            keep_count: 20_000,
            keep_mb: 2_000,
            reserve_mb: 500,
        }
    }
}

impl ClipsConfig {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, roll_ms) in [("clips.pre_roll_ms", self.pre_roll_ms), ("clips.post_roll_ms", self.post_roll_ms)] {
            if roll_ms > MAX_ROLL_MS {
                let why = format!("{roll_ms} is more than {MAX_ROLL_MS}: a clip holds a cat, not a conversation");
                return Err(ConfigError::value(key, why));
            }
        }
        if !(1..=MAX_LENGTH_S).contains(&self.max_length_s) {
            let why = format!("{} is not between 1 and {MAX_LENGTH_S}", self.max_length_s);
            return Err(ConfigError::value("clips.max_length_s", why));
        }
        Ok(())
    }

    /// Samples before an event.
    pub fn pre_roll_samples(&self) -> u64 {
        samples_of_ms(self.pre_roll_ms)
    }

    /// Samples after an event.
    pub fn post_roll_samples(&self) -> u64 {
        samples_of_ms(self.post_roll_ms)
    }

    /// Samples of the longest clip, without its rolls.
    pub fn max_length_samples(&self) -> u64 {
        samples_of_ms(self.max_length_s * 1_000)
    }
}

fn samples_of_ms(ms: u32) -> u64 {
    u64::from(ms) * u64::from(SAMPLE_RATE_HZ) / 1_000
}

/// Audio that is to become a clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Boot id of the node.
    pub boot_id: u64,
    /// First sample, on the node's count.
    pub start_sample: u64,
    /// The audio.
    pub samples: Vec<i16>,
}

/// What happened to clips since the start.
#[derive(Debug, Default)]
pub struct ClipCounters {
    /// Written.
    pub written: AtomicU64,
    /// Not written because the disk was too full.
    pub disk_full: AtomicU64,
    /// Not written because of an I/O error.
    pub write_failed: AtomicU64,
    /// Not written because they were mostly human speech.
    pub speech: AtomicU64,
    /// Removed by retention.
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
    /// Opens the clips in `data_dir`: makes the directory, removes files that no event points to, and tells the store of
    /// files that are gone. For the process that keeps the store.
    ///
    /// # Errors
    /// When the directory cannot be used or the store cannot be asked.
    pub async fn open(data_dir: &Path, config: ClipsConfig, store: Store) -> Result<Self, StoreError> {
        let clips = Self::guest(data_dir, config, store);
        let directory = clips.inner.directory.clone();
        let wanted = clips.inner.store.clip_files().await?;
        let (swept, missing) = blocking(move || sweep(&directory, &wanted))
            .await
            .map_err(|source| StoreError::Directory { path: clips.inner.directory.clone(), source })?;
        if swept > 0 || !missing.is_empty() {
            warn!(swept, missing = missing.len(), "clips tidied after an unclean stop");
        }
        clips.inner.store.clips_are_missing(missing).await?;
        Ok(clips)
    }

    /// The clips in `data_dir` as they are, for a process that only reads and deletes them.
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

    /// What happened since the start.
    pub fn counters(&self) -> &ClipCounters {
        &self.inner.counters
    }

    /// Free bytes on the disk. `None`: it cannot be asked.
    pub async fn disk_free_bytes(&self) -> Option<u64> {
        let directory = self.inner.directory.clone();
        blocking(move || free_bytes(&directory)).await.ok()
    }

    /// Writes a clip, after making room for it within the quota. When it cannot be kept, says why; the event is to be
    /// stored all the same.
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
                let directory = self.inner.directory.clone();
                let file = format!("{:016x}-{:012}{}", cut.boot_id, cut.start_sample, format.suffix());
                let clip = Clip { file, bytes, start_sample: cut.start_sample, samples };
                blocking(move || write(&directory, &clip.file, &encoded, reserve).map(|()| clip)).await
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

    /// A clip as a WAV file, however it is on disk.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when retention has just removed it, [`ErrorKind::InvalidData`] when the file is damaged.
    pub async fn read(&self, clip: &Clip) -> std::io::Result<Vec<u8>> {
        let path = self.inner.directory.join(&clip.file);
        let (is_flac, count) = (clip.file.ends_with(ClipFormat::Flac.suffix()), clip.samples as usize);
        blocking(move || {
            let bytes = std::fs::read(path)?;
            if !is_flac {
                return Ok(bytes);
            }
            let samples = flac::decode(&bytes, count).filter(|samples| samples.len() == count);
            samples.map(|samples| wav_of(&samples)).ok_or_else(|| ErrorKind::InvalidData.into())
        })
        .await
    }

    /// Removes files that the database has let go of. One that cannot be removed is swept away at the next start.
    pub async fn remove(&self, files: Vec<String>) {
        let directory = self.inner.directory.clone();
        let removed = blocking(move || {
            for file in files {
                match std::fs::remove_file(directory.join(file)) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await;
        if let Err(error) = removed {
            warn!(%error, "clip not removed");
        }
    }

    /// Removes what is too old or too much. Call it now and then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let config = &self.inner.config;
        if config.keep_days > 0 {
            let before_ns = now_ns() - i64::from(config.keep_days) * DAY_NS;
            loop {
                let retired = self.inner.store.retire_clips_before(before_ns, RETIRE_BATCH).await?;
                if retired.is_empty() {
                    break;
                }
                self.expire(retired.into_iter().map(|clip| clip.file).collect()).await;
            }
        }
        self.retire_surplus(0, 0).await
    }

    /// Makes room for a clip of that size.
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

    /// Retires the oldest clips until `count` more with `bytes` in all are within the quota.
    async fn retire_surplus(&self, count: u64, bytes: u64) -> Result<(), StoreError> {
        let config = &self.inner.config;
        loop {
            let totals = self.inner.store.clip_totals().await?;
            let over_count = (totals.count + count).saturating_sub(config.keep_count);
            let over_bytes = (totals.bytes + bytes).saturating_sub(config.keep_mb.saturating_mul(1_000_000));
            if totals.count == 0 || (over_count == 0 && over_bytes == 0) {
                return Ok(());
            }
            // By bytes one at a time: how many it takes is not known before.
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

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{free_mb} MB free on the disk, and {reserve_mb} MB of it are reserved for the database")]
    Reserve { free_mb: u64, reserve_mb: u64 },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The audio of a clip as [`Clips::read`] gives it.
///
/// # Errors
/// When it is none.
pub fn samples_of(wav: &[u8]) -> Result<Vec<i16>, hound::Error> {
    hound::WavReader::new(wav)?.into_samples().collect()
}

/// 16 kHz, one channel, signed 16 bits.
fn wav_of(samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::with_capacity(44 + samples.len() * 2));
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("the format is one that WAV has");
    let mut block = writer.get_i16_writer(samples.len() as u32);
    for &sample in samples {
        block.write_sample(sample);
    }
    block.flush().expect("memory takes every byte");
    writer.finalize().expect("memory takes every byte");
    file.into_inner()
}

/// Writes a file so that it is complete or not there, whatever happens, and never touches the reserve.
fn write(directory: &Path, file: &str, bytes: &[u8], reserve: u64) -> Result<(), WriteError> {
    let free = free_bytes(directory)?;
    if free < reserve.saturating_add(bytes.len() as u64) {
        return Err(WriteError::Reserve { free_mb: free / 1_000_000, reserve_mb: reserve / 1_000_000 });
    }
    let unfinished = directory.join(format!("{file}{UNFINISHED}"));
    let written = std::fs::File::create(&unfinished).and_then(|mut part| {
        part.write_all(bytes)?;
        part.sync_all()?;
        std::fs::rename(&unfinished, directory.join(file))?;
        std::fs::File::open(directory)?.sync_all()
    });
    if written.is_err() {
        // What is left of it is swept away at the next start if this fails too.
        let _ = std::fs::remove_file(&unfinished);
    }
    Ok(written?)
}

fn free_bytes(directory: &Path) -> std::io::Result<u64> {
    let room = rustix::fs::statvfs(directory)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

fn is_clip(name: &str) -> bool {
    ClipFormat::ALL.iter().any(|format| name.ends_with(format.suffix()))
}

/// Removes files that nobody wants; returns how many, and which wanted ones are not there.
fn sweep(directory: &Path, wanted: &std::collections::HashSet<String>) -> std::io::Result<(usize, Vec<String>)> {
    std::fs::create_dir_all(directory)?;
    let mut missing = wanted.clone();
    let mut swept = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !missing.remove(name) && (is_clip(name) || name.ends_with(UNFINISHED)) {
            std::fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    if swept > 0 {
        info!(swept, "clips that no event points to are removed");
    }
    Ok((swept, missing.into_iter().collect()))
}

async fn blocking<T: Send + 'static, E: Send + 'static + From<std::io::Error>>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

#[cfg(test)]
mod tests;
