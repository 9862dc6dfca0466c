//! The state of the source, and counters: written by the capture thread and the service, read by `Describe`, the
//! metrics, health and the watchdog.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use proto::SourceState;

use crate::source::SourceFormat;

/// Level of digital silence on the wire, in dB of full scale.
pub const SILENCE_DBFS: f32 = -120.0;

/// Frames that one level is measured over: a second.
const LEVEL_FRAMES: u32 = 50;

/// The state of the node. The counters are plain atomics that any thread may add to.
#[derive(Debug)]
pub struct Status {
    source: Mutex<SourceStatus>,
    level: Mutex<LevelMeter>,
    heartbeat_ns: AtomicU64,
    last_frame_ns: AtomicU64,
    waited_ns: AtomicU64,
    /// What was counted since the start.
    pub counters: Counters,
}

/// The state of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// "synthetic", "wav", "microphone", "rtsp" or "http".
    pub kind: &'static str,
    /// Stable id of the device, or path of the recording. Empty: there is none, or it is not open yet.
    pub device: String,
    /// What the source delivers. `None`: not open.
    pub format: Option<SourceFormat>,
    /// Its state.
    pub state: SourceState,
    /// One sentence about the state. May be empty.
    pub detail: String,
}

/// What was counted since the start. Fields as in the message `NodeCounters`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames captured.
    pub frames_captured: AtomicU64,
    /// Frames lost because the device delivered nothing.
    pub frames_lost_device: AtomicU64,
    /// Frames lost to overruns.
    pub frames_lost_overrun: AtomicU64,
    /// Overruns that the device or the ring reported.
    pub overruns: AtomicU64,
    /// Samples at full scale.
    pub clipped_samples: AtomicU64,
    /// Times that the source was opened again after a failure.
    pub source_restarts: AtomicU64,
    /// Subscribers now.
    pub subscribers: AtomicU32,
    /// Frames lost because a subscriber was too slow.
    pub frames_lost_to_subscribers: AtomicU64,
    /// Calls to the owner that failed.
    pub owner_failures: AtomicU64,
    /// Bytes of samples that were sent as FLAC, before coding.
    pub flac_sample_bytes: AtomicU64,
    /// Bytes of the same samples after coding.
    pub flac_coded_bytes: AtomicU64,
}

impl Status {
    /// The status of a node whose source is of this kind and not open yet.
    pub fn new(kind: &'static str) -> Self {
        Self {
            source: Mutex::new(SourceStatus {
                kind,
                device: String::new(),
                format: None,
                state: SourceState::Starting,
                detail: String::new(),
            }),
            level: Mutex::default(),
            heartbeat_ns: AtomicU64::new(0),
            last_frame_ns: AtomicU64::new(0),
            waited_ns: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// The state of the source, with all details.
    pub fn source(&self) -> SourceStatus {
        lock(&self.source).clone()
    }

    /// The state of the source alone.
    pub fn state(&self) -> SourceState {
        lock(&self.source).state
    }

    /// Stores the device and format of a source that was just opened.
    pub fn set_open(&self, device: &str, format: SourceFormat) {
        let mut source = lock(&self.source);
        source.device = device.to_owned();
        source.format = Some(format);
    }

    /// Stores the state of the source, and one sentence about it, which may be empty. A source in the state `NoDevice`
    /// has no format. Returns whether the state changed.
    pub fn set_state(&self, state: SourceState, detail: impl Into<String>) -> bool {
        let mut source = lock(&self.source);
        let changed = source.state != state;
        source.state = state;
        source.detail = detail.into();
        if state == SourceState::NoDevice {
            source.format = None;
        }
        changed
    }

    /// Counts a frame that went onto the tape at `now_ns` of the node's clock, and measures its level.
    pub fn frame_captured(&self, samples: &[i16], now_ns: u64) {
        self.counters.frames_captured.fetch_add(1, Ordering::Relaxed);
        self.last_frame_ns.store(now_ns, Ordering::Relaxed);
        lock(&self.level).add(samples);
    }

    /// When the last frame went onto the tape, in nanoseconds of the node's clock. 0: there was none.
    pub fn last_frame_ns(&self) -> u64 {
        self.last_frame_ns.load(Ordering::Relaxed)
    }

    /// Stores how much audio the last read of the source found, in nanoseconds.
    pub fn source_read(&self, audio_ns: u64) {
        self.waited_ns.store(audio_ns, Ordering::Relaxed);
    }

    /// How much audio the last read of the source found, in nanoseconds.
    pub fn waited_ns(&self) -> u64 {
        self.waited_ns.load(Ordering::Relaxed)
    }

    /// The capture thread works: it captures, or it looks for a device. The watchdog is fed by this.
    pub fn beat(&self, now_ns: u64) {
        self.heartbeat_ns.store(now_ns, Ordering::Relaxed);
    }

    /// When the capture thread last beat, in nanoseconds of the node's clock.
    pub fn last_beat_ns(&self) -> u64 {
        self.heartbeat_ns.load(Ordering::Relaxed)
    }

    /// Root mean square and peak of the last whole second, in dB of full scale. -120: silence.
    pub fn level_dbfs(&self) -> (f32, f32) {
        let level = lock(&self.level);
        (dbfs(level.last_mean_square.sqrt()), dbfs(level.last_peak))
    }

    /// Sets the level to silence, because there is no audio.
    pub fn reset_level(&self) {
        *lock(&self.level) = LevelMeter::default();
    }
}

/// Measures the level of each second. Amplitudes are fractions of full scale, 0 to 1.
#[derive(Debug, Default)]
struct LevelMeter {
    frames: u32,
    samples: u32,
    sum_squares: f64,
    peak: i32,
    last_mean_square: f64,
    last_peak: f64,
}

impl LevelMeter {
    fn add(&mut self, samples: &[i16]) {
        let mut sum_squares = 0_i64;
        let mut peak = self.peak;
        for &sample in samples {
            let sample = i32::from(sample);
            sum_squares += i64::from(sample * sample);
            peak = peak.max(sample.abs());
        }
        self.peak = peak;
        self.sum_squares += sum_squares as f64;
        self.samples += samples.len() as u32;
        self.frames += 1;
        if self.frames == LEVEL_FRAMES {
            let full_scale = 32768.0;
            *self = Self {
                last_mean_square: self.sum_squares / f64::from(self.samples.max(1)) / (full_scale * full_scale),
                last_peak: f64::from(self.peak) / full_scale,
                ..Self::default()
            };
        }
    }
}

fn dbfs(amplitude: f64) -> f32 {
    if amplitude <= 0.0 { SILENCE_DBFS } else { (20.0 * amplitude.log10()).max(f64::from(SILENCE_DBFS)) as f32 }
}

/// Locks a mutex, poisoned or not: a panic cannot leave these plain values half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_of_a_full_scale_square_is_0_dbfs_and_of_nothing_is_silence() {
        let status = Status::new("synthetic");
        assert_eq!(status.level_dbfs(), (SILENCE_DBFS, SILENCE_DBFS));
        for _ in 0..50 {
            status.frame_captured(&[-32768; 320], 1);
        }
        assert_eq!(status.level_dbfs(), (0.0, 0.0));
        for _ in 0..50 {
            status.frame_captured(&[0; 320], 2);
        }
        assert_eq!(status.level_dbfs(), (SILENCE_DBFS, SILENCE_DBFS));
    }

    #[test]
    fn level_of_a_full_scale_sine_is_minus_3_dbfs() {
        let status = Status::new("synthetic");
        let sine: Vec<i16> =
            (0..320).map(|n| (32767.0 * (std::f64::consts::TAU * f64::from(n) / 32.0).sin()).round() as i16).collect();
        for _ in 0..50 {
            status.frame_captured(&sine, 1);
        }
        let (rms, peak) = status.level_dbfs();
        assert!((rms + 3.01).abs() < 0.01 && peak.abs() < 0.01, "{rms} {peak}");
    }

    #[test]
    fn a_lost_device_has_no_format() {
        let status = Status::new("microphone");
        status.set_open("usb-1", SourceFormat { sample_rate_hz: 48_000, channels: 2 });
        assert!(status.set_state(SourceState::Capturing, ""));
        assert!(!status.set_state(SourceState::Capturing, ""));
        assert!(status.source().format.is_some());
        assert!(status.set_state(SourceState::NoDevice, "unplugged"));
        assert_eq!(status.source().format, None);
        assert_eq!(status.source().detail, "unplugged");
    }
}
