//! The capture supervisor: one thread that opens the source, reads it, numbers its frames, and reopens it when it
//! fails.
//!
//! The thread waits for no other thread, and no other thread waits for it: it writes to the [`Tape`] and the
//! [`Status`], each under a short lock. When a source fails, delivers nothing or delivers errors without end, the
//! thread closes it and reopens it after a jittered, capped wait, as often as it takes. What was missed becomes one
//! exact gap, in whole frames of the monotonic clock. Stepping the wall clock has no effect.
//!
//! The thread beats ([`Status::beat`]) while it works, with or without a microphone. The beat feeds the watchdog, so
//! the process is restarted when the thread is stuck, but not when a microphone was unplugged. The thread stops beating
//! on purpose when a source reports [`SourceError::Stuck`].

mod mix;
mod timeline;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use proto::GapReason;
use recordings::Channel;
use sound::framer::Framer;
use tracing::{error, info, warn};

use crate::clock::NodeClock;
use crate::source::{self, Read, Source, SourceError, SourceFormat, SourceSpec};
use crate::status::{SourceState, Status};
use crate::tape::Tape;
use mix::MixWatch;
use timeline::{LostFrames, Timeline};

/// Longest wait in one read, and so the longest that a stop or a heartbeat can be late.
const READ_WAIT: Duration = Duration::from_millis(100);

/// An open source that delivers no whole frame for this long is treated as failed. Shorter than the 2 s within which
/// the node promises to notice; longer than a busy machine or sound server pauses.
const NO_FRAMES_LIMIT: Duration = Duration::from_millis(1500);

/// First and longest wait before the source is opened again. The longest one bounds how long the node takes to recover
/// once the device is back.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// Wait before a source that refused is opened again. Cameras lock out who tries a wrong password often.
const REFUSED_RETRY: Duration = Duration::from_secs(60);

/// A source that has delivered frames for this long is healthy: its next failure is retried quickly again.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// The same failure is logged at most this often.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Samples at or above this amplitude are clipped. It is the highest positive value of 16 bits.
const CLIPPED: f32 = 32767.0 / 32768.0;

/// Capture settings that the user can change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptureSettings {
    /// Which channel is heard.
    pub channel: Channel,
    /// Gain in dB, applied before the samples are rounded to 16 bits.
    pub gain_db: f32,
    /// When all samples have been exactly zero for this long, the state becomes [`SourceState::Silent`].
    pub silent_after: Duration,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self { channel: Channel::Mix, gain_db: 0.0, silent_after: Duration::from_secs(10) }
    }
}

/// The capture thread.
#[derive(Debug)]
pub struct CaptureHandle {
    thread: thread::JoinHandle<()>,
}

impl CaptureHandle {
    /// Whether the thread has ended, after a stop or by a panic.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread has ended, which takes at most about a second after the stop. Returns false if it
    /// panicked.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Starts the capture thread. It runs until `stop` is cancelled.
///
/// # Errors
/// If the system cannot start a thread.
pub fn spawn(
    spec: SourceSpec,
    tape: Arc<Tape>,
    status: Arc<Status>,
    settings: CaptureSettings,
    stop: CancellationToken,
) -> std::io::Result<CaptureHandle> {
    let thread = thread::Builder::new().name("capture".into()).spawn(move || {
        Supervisor::new(|| source::open(&spec, settings.channel), tape.clock(), &tape, &status, settings, &stop).run();
    })?;
    Ok(CaptureHandle { thread })
}

/// The time as the supervisor sees it. Tests simulate it.
trait Time {
    /// Nanoseconds of the node's clock.
    fn now_ns(&self) -> u64;
    fn sleep(&self, wait: Duration);
}

impl Time for NodeClock {
    fn now_ns(&self) -> u64 {
        NodeClock::now_ns(self)
    }

    fn sleep(&self, wait: Duration) {
        thread::sleep(wait);
    }
}

/// Why a source is no longer read.
enum End {
    Stopped,
    Ended,
    Failed(SourceError),
}

struct Supervisor<'a, O, T> {
    open: O,
    time: T,
    tape: &'a Tape,
    status: &'a Status,
    stop: &'a CancellationToken,
    silent_after_ns: u64,
    /// Factor for the amplitude.
    gain: f32,
    timeline: Timeline,
    backoff: Backoff,
    outage_log: Quiet,
    overrun_log: Quiet,
    silence_log: Quiet,
    mix: MixWatch,
    /// The state that was last written to the status, which is locked only when the state changes.
    state: SourceState,
    /// When the source failed, in nanoseconds of the node's clock. `None`: it works, or was never tried.
    failed_at_ns: Option<u64>,
    /// For how long samples have been exactly zero, in nanoseconds of audio.
    zero_ns: u64,
    /// False while only a restart of the process can help.
    beating: bool,
}

impl<'a, O, T> Supervisor<'a, O, T>
where
    O: FnMut() -> Result<Box<dyn Source>, SourceError>,
    T: Time,
{
    fn new(
        open: O,
        time: T,
        tape: &'a Tape,
        status: &'a Status,
        settings: CaptureSettings,
        stop: &'a CancellationToken,
    ) -> Self {
        Self {
            open,
            tape,
            status,
            stop,
            silent_after_ns: settings.silent_after.as_nanos() as u64,
            gain: 10_f32.powf(settings.gain_db / 20.0),
            timeline: Timeline::new(time.now_ns()),
            time,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            outage_log: Quiet::new(LOG_PERIOD),
            overrun_log: Quiet::new(LOG_PERIOD),
            silence_log: Quiet::new(LOG_PERIOD),
            mix: MixWatch::default(),
            state: SourceState::Starting,
            failed_at_ns: None,
            zero_ns: 0,
            beating: true,
        }
    }

    /// Captures until the stop. Each turn of the loop opens the source once.
    fn run(&mut self) {
        while !self.stop.is_cancelled() {
            self.beat();
            let (end, source) = match (self.open)() {
                Ok(mut source) => (self.capture(source.as_mut()), Some(source)),
                Err(error) => (End::Failed(error), None),
            };
            let refused = matches!(end, End::Failed(SourceError::Refused(_)));
            match end {
                End::Stopped => return,
                End::Ended => {
                    info!("the recording has ended");
                    self.set_state(SourceState::Ended, "the recording has ended");
                    return self.wait_for_stop();
                }
                End::Failed(SourceError::Fatal(why)) => {
                    error!(error = %why, "the source cannot be used");
                    self.set_state(SourceState::NoDevice, &why);
                    return self.wait_for_stop();
                }
                End::Failed(SourceError::Stuck(why)) => {
                    if std::mem::take(&mut self.beating) {
                        error!(error = %why, "only a restart can help, the watchdog is no longer fed");
                    }
                    self.on_failure(&why);
                }
                End::Failed(SourceError::Reopen(why) | SourceError::Refused(why)) => {
                    if let Some(suppressed_lines) = self.outage_log.allow() {
                        warn!(error = %why, suppressed_lines, "no audio; retrying the source");
                    }
                    self.on_failure(&why);
                }
            }
            // Closing may take a while, so it comes after the status and the log.
            drop(source);
            let wait = if refused { REFUSED_RETRY } else { self.backoff.next_wait() };
            self.wait_to_retry(wait);
        }
    }

    /// Reads a source until it ends, fails, or the node stops.
    fn capture(&mut self, source: &mut dyn Source) -> End {
        let format = source.format();
        let mut framer = match Framer::new(format.sample_rate_hz, format.channels) {
            Ok(framer) => framer,
            Err(error) => return End::Failed(SourceError::Fatal(error.to_string())),
        };
        self.beating = true;
        self.status.set_open(source.device(), format);
        if self.failed_at_ns.is_some() {
            self.status.counters.source_restarts.fetch_add(1, Ordering::Relaxed);
        } else {
            let SourceFormat { sample_rate_hz, channels } = format;
            info!(device = source.device(), sample_rate_hz, channels, "source opened");
        }
        self.timeline.opened(format.sample_rate_hz);
        self.timeline.tolerate(source.drift_ppm());
        self.zero_ns = 0;

        let opened_ns = self.time.now_ns();
        let mut last_frame_ns = opened_ns;
        let mut samples = Vec::new();
        loop {
            if self.stop.is_cancelled() {
                return End::Stopped;
            }
            self.beat();
            samples.clear();
            match source.read(&mut samples, READ_WAIT) {
                Ok(Read::Samples | Read::Nothing) => {}
                Ok(Read::Overrun { lost_samples }) => {
                    self.status.counters.overruns.fetch_add(1, Ordering::Relaxed);
                    self.timeline.overrun(lost_samples);
                }
                Ok(Read::Ended) => {
                    warn_of_mix(self.mix.end());
                    return End::Ended;
                }
                Err(error) => return End::Failed(error),
            }
            warn_of_mix(self.mix.take(&samples, format));
            let now_ns = self.time.now_ns();
            if self.put_on_tape(&mut samples, format, now_ns, &mut framer) {
                last_frame_ns = now_ns;
                if now_ns - opened_ns >= HEALTHY_AFTER.as_nanos() as u64 {
                    self.backoff.reset();
                    self.outage_log.reset();
                }
            } else if now_ns - last_frame_ns >= NO_FRAMES_LIMIT.as_nanos() as u64 {
                let why =
                    format!("the device is open but has delivered no audio for {} ms", NO_FRAMES_LIMIT.as_millis());
                return End::Failed(SourceError::Reopen(why));
            }
        }
    }

    /// Puts the samples of one read on the tape. Returns whether they completed a frame.
    fn put_on_tape(&mut self, samples: &mut [f32], format: SourceFormat, now_ns: u64, framer: &mut Framer) -> bool {
        let channels = usize::from(format.channels.max(1));
        let count = samples.len() / channels;
        if count == 0 {
            return false;
        }
        let arrival = self.timeline.arrive(now_ns, count as u64);
        if arrival.reset_framer {
            framer.reset();
        }
        if let Some(lost) = arrival.lost {
            self.append_gap(lost);
        }
        self.status.source_read(count as u64 * 1_000_000_000 / u64::from(format.sample_rate_hz));
        let samples = &mut samples[arrival.skip as usize * channels..];
        let clipped = amplify(samples, self.gain);
        self.status.counters.clipped_samples.fetch_add(clipped, Ordering::Relaxed);
        let span_ns = samples.len() as u64 / channels as u64 * 1_000_000_000 / u64::from(format.sample_rate_hz);
        let silent = samples.iter().all(|&sample| sample == 0.0);
        self.zero_ns = if silent { self.zero_ns + span_ns } else { 0 };

        let mut framed = false;
        let (timeline, tape, status) = (&mut self.timeline, self.tape, self.status);
        framer.push(samples, |frame| {
            tape.append_frame(frame, timeline.next_frame_ns());
            status.frame_captured(frame, now_ns);
            framed = true;
        });
        if framed {
            self.on_frame();
        }
        framed
    }

    /// Updates the state after the source has delivered a frame.
    fn on_frame(&mut self) {
        if let Some(failed_at_ns) = self.failed_at_ns.take() {
            info!(outage_ms = (self.time.now_ns() - failed_at_ns) / 1_000_000, "audio is back");
        }
        if self.zero_ns >= self.silent_after_ns {
            if self.state != SourceState::Silent {
                if let Some(suppressed_lines) = self.silence_log.allow() {
                    warn!(
                        suppressed_lines,
                        seconds = self.zero_ns / 1_000_000_000,
                        "the microphone delivers only zeros"
                    );
                }
                self.set_state(SourceState::Silent, "the microphone delivers only zeros: it is muted or broken");
            }
        } else if self.state != SourceState::Capturing {
            self.set_state(SourceState::Capturing, "");
        }
    }

    /// Updates the state after the source has failed.
    fn on_failure(&mut self, why: &str) {
        self.failed_at_ns.get_or_insert(self.time.now_ns());
        self.timeline.failed();
        self.status.reset_level();
        self.set_state(SourceState::NoDevice, why);
    }

    fn append_gap(&mut self, lost: LostFrames) {
        let LostFrames { frames, reason } = lost;
        if reason == GapReason::Overrun {
            self.status.counters.frames_lost_overrun.fetch_add(frames, Ordering::Relaxed);
            if let Some(suppressed_lines) = self.overrun_log.allow() {
                warn!(frames, suppressed_lines, "samples were lost between the device and the node");
            }
        } else {
            self.status.counters.frames_lost_device.fetch_add(frames, Ordering::Relaxed);
        }
        self.tape.append_gap(frames, reason, "");
    }

    fn set_state(&mut self, state: SourceState, detail: &str) {
        self.state = state;
        self.status.set_state(state, detail);
    }

    fn beat(&self) {
        if self.beating {
            self.status.beat(self.time.now_ns());
        }
    }

    /// Waits before the source is opened again. Meanwhile the thread beats, watches for the stop, and extends the gap
    /// on the tape as the outage lasts.
    fn wait_to_retry(&mut self, wait: Duration) {
        let until_ns = self.time.now_ns() + wait.as_nanos() as u64;
        loop {
            let now_ns = self.time.now_ns();
            if now_ns >= until_ns || self.stop.is_cancelled() {
                return;
            }
            self.beat();
            if let Some(lost) = self.timeline.outage(now_ns) {
                self.append_gap(lost);
            }
            self.time.sleep(READ_WAIT.min(Duration::from_nanos(until_ns - now_ns)));
        }
    }

    fn wait_for_stop(&mut self) {
        while !self.stop.is_cancelled() {
            self.beat();
            self.time.sleep(READ_WAIT);
        }
    }
}

fn warn_of_mix(why: Option<String>) {
    if let Some(why) = why {
        warn!("the mix of the channels hides sound: {why}");
    }
}

/// Applies the gain in place, and returns how many samples are at full scale after it.
fn amplify(samples: &mut [f32], gain: f32) -> u64 {
    let mut clipped = 0;
    for sample in samples {
        *sample *= gain;
        clipped += u64::from(sample.abs() >= CLIPPED);
    }
    clipped
}

#[cfg(test)]
mod tests;
