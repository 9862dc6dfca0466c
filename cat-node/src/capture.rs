//! The capture supervisor: one thread that opens the source, reads it, numbers its frames and heals it.
//!
//! Nobody waits for this thread and it waits for nobody: it writes to the [`Tape`] and the [`Status`], both of which take a
//! short lock. A source that fails, falls quiet or floods is closed and opened anew after a jittered, capped wait, for ever;
//! what was missed becomes one exact gap, in whole frames of the monotonic clock. A wall clock that is stepped moves nothing.
//!
//! The thread beats ([`Status::beat`]) while it is at work, with or without a microphone, so a watchdog that is fed by the beat
//! restarts the process when the thread is stuck, and not because a plug was pulled. It stops beating on purpose when a
//! source reports [`SourceError::Stuck`].

mod timeline;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use proto::GapReason;
use sound::framer::Framer;
use tracing::{error, info, warn};

use crate::clock::NodeClock;
use crate::source::{self, Read, Source, SourceError, SourceFormat, SourceSpec};
use crate::status::{SourceState, Status};
use crate::tape::Tape;
use timeline::{Missing, Timeline};

/// Longest wait in one read, and so the longest that a stop or a heartbeat waits for the thread.
const READ_WAIT: Duration = Duration::from_millis(100);

/// An open source that gives no whole frame for so long is taken for lost. Below the 2 s within which it must be noticed; above
/// what a busy machine or sound server may pause.
const NO_FRAMES_LIMIT: Duration = Duration::from_millis(1500);

/// First and longest wait before the source is opened again. The cap is what bounds the healing once the device is back.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(2);

/// After so long a time with frames the source counts as healthy, and the next failure is retried quickly again.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// The same failure is logged at most so often.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// A sample at or above this amplitude counts as clipped: the highest positive value of 16 bits.
const CLIPPED: f32 = 32767.0 / 32768.0;

/// What the user may set about capture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptureSettings {
    /// Amplification in dB, applied before the samples are cut to 16 bits.
    pub gain_db: f32,
    /// After so long a stretch of exactly zero samples the state is [`SourceState::Silent`].
    pub silent_after: Duration,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        Self { gain_db: 0.0, silent_after: Duration::from_secs(10) }
    }
}

/// The capture thread.
#[derive(Debug)]
pub struct CaptureHandle {
    thread: thread::JoinHandle<()>,
}

impl CaptureHandle {
    /// Whether the thread has ended: after a stop, or because it panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until the thread has ended, which takes at most about a second after the stop.
    ///
    /// Returns whether it ended well.
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}

/// Starts the capture thread. It runs until `stop` is cancelled.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    spec: SourceSpec,
    tape: Arc<Tape>,
    status: Arc<Status>,
    settings: CaptureSettings,
    stop: CancellationToken,
) -> std::io::Result<CaptureHandle> {
    let thread = thread::Builder::new().name("capture".into()).spawn(move || {
        Supervisor::new(|| source::open(&spec), tape.clock(), &tape, &status, settings, &stop).run();
    })?;
    Ok(CaptureHandle { thread })
}

/// The time that the supervisor lives in.
trait Time {
    /// Nanoseconds of the node's clock.
    fn now_ns(&self) -> u64;
    /// Lets time pass.
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
    /// Amplitude factor.
    gain: f32,
    timeline: Timeline,
    backoff: Backoff,
    outage_log: Quiet,
    overrun_log: Quiet,
    silence_log: Quiet,
    /// The state that was last said, so that the status is locked only when it changes.
    state: SourceState,
    /// When the source failed, in nanoseconds of the node's clock. `None`: it works, or was never tried.
    lost_at_ns: Option<u64>,
    /// For how long samples have been exactly zero, in nanoseconds of audio.
    zero_ns: u64,
    /// Whether the thread says that it is alive: not while only a new process can help.
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
            state: SourceState::Starting,
            lost_at_ns: None,
            zero_ns: 0,
            beating: true,
        }
    }

    /// Captures until the stop; each turn is one life of the source.
    fn run(&mut self) {
        while !self.stop.is_cancelled() {
            self.beat();
            let (end, source) = match (self.open)() {
                Ok(mut source) => (self.capture(source.as_mut()), Some(source)),
                Err(error) => (End::Failed(error), None),
            };
            match end {
                End::Stopped => return,
                End::Ended => {
                    info!("the recording has ended");
                    self.say(SourceState::Ended, "the recording has ended");
                    return self.wait_for_stop();
                }
                End::Failed(SourceError::Fatal(why)) => {
                    error!(error = %why, "the source cannot be used");
                    self.say(SourceState::NoDevice, &why);
                    return self.wait_for_stop();
                }
                End::Failed(SourceError::Stuck(why)) => {
                    if std::mem::take(&mut self.beating) {
                        error!(error = %why, "only a new process can help, the watchdog is no longer fed");
                    }
                    self.lose(&why);
                }
                End::Failed(SourceError::Reopen(why)) => {
                    if let Some(held_back) = self.outage_log.allow() {
                        warn!(error = %why, held_back, "no audio, opening the source anew until it works");
                    }
                    self.lose(&why);
                }
            }
            // Closing may take its time; the failure has been told by now.
            drop(source);
            let wait = self.backoff.next_wait();
            self.pause(wait);
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
        if self.lost_at_ns.is_some() {
            self.status.counters.source_restarts.fetch_add(1, Ordering::Relaxed);
        } else {
            let SourceFormat { sample_rate_hz, channels } = format;
            info!(device = source.device(), sample_rate_hz, channels, "source opened");
        }
        self.timeline.opened(format.sample_rate_hz);
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
                Ok(Read::Ended) => return End::Ended,
                Err(error) => return End::Failed(error),
            }
            let now_ns = self.time.now_ns();
            if self.take(&mut samples, format, now_ns, &mut framer) {
                last_frame_ns = now_ns;
                if now_ns - opened_ns >= HEALTHY_AFTER.as_nanos() as u64 {
                    self.backoff.reset();
                    self.outage_log.reset();
                }
            } else if now_ns - last_frame_ns >= NO_FRAMES_LIMIT.as_nanos() as u64 {
                let why = format!("the device is open but has given no audio for {} ms", NO_FRAMES_LIMIT.as_millis());
                return End::Failed(SourceError::Reopen(why));
            }
        }
    }

    /// Puts samples that have just come onto the tape. Returns whether they completed a frame.
    fn take(&mut self, samples: &mut [f32], format: SourceFormat, now_ns: u64, framer: &mut Framer) -> bool {
        let channels = usize::from(format.channels.max(1));
        let count = samples.len() / channels;
        if count == 0 {
            return false;
        }
        let arrival = self.timeline.arrive(now_ns, count as u64);
        if arrival.reset_framer {
            framer.reset();
        }
        if let Some(missing) = arrival.missing {
            self.mark(missing);
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
            self.found();
        }
        framed
    }

    /// A frame came.
    fn found(&mut self) {
        if let Some(lost_at_ns) = self.lost_at_ns.take() {
            info!(outage_ms = (self.time.now_ns() - lost_at_ns) / 1_000_000, "audio is back");
        }
        if self.zero_ns >= self.silent_after_ns {
            if self.state != SourceState::Silent {
                if let Some(held_back) = self.silence_log.allow() {
                    warn!(held_back, seconds = self.zero_ns / 1_000_000_000, "samples are exactly zero");
                }
                self.say(SourceState::Silent, "all samples are exactly zero: a muted or dead microphone");
            }
        } else if self.state != SourceState::Capturing {
            self.say(SourceState::Capturing, "");
        }
    }

    /// The source failed.
    fn lose(&mut self, why: &str) {
        self.lost_at_ns.get_or_insert(self.time.now_ns());
        self.timeline.failed();
        self.status.reset_level();
        self.say(SourceState::NoDevice, why);
    }

    /// Puts a gap onto the tape.
    fn mark(&mut self, missing: Missing) {
        let Missing { frames, reason } = missing;
        if reason == GapReason::Overrun {
            self.status.counters.frames_lost_overrun.fetch_add(frames, Ordering::Relaxed);
            if let Some(held_back) = self.overrun_log.allow() {
                warn!(frames, held_back, "samples were lost on their way from the device");
            }
        } else {
            self.status.counters.frames_lost_device.fetch_add(frames, Ordering::Relaxed);
        }
        self.tape.append_gap(frames, reason, "");
    }

    fn say(&mut self, state: SourceState, detail: &str) {
        self.state = state;
        self.status.set_state(state, detail);
    }

    fn beat(&self) {
        if self.beating {
            self.status.beat(self.time.now_ns());
        }
    }

    /// Lets time pass between two tries, alive and ready to stop, and tells the tape how long the outage is by now.
    fn pause(&mut self, wait: Duration) {
        let until_ns = self.time.now_ns() + wait.as_nanos() as u64;
        loop {
            let now_ns = self.time.now_ns();
            if now_ns >= until_ns || self.stop.is_cancelled() {
                return;
            }
            self.beat();
            if let Some(missing) = self.timeline.outage(now_ns) {
                self.mark(missing);
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

/// Applies the gain, in place, and counts the samples that are at full scale after it.
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
