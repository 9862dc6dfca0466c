//! Which number and which capture time a frame has. Pure arithmetic: the caller says what came and when.
//!
//! Between two breaks the sample count is the timeline: frames follow each other without a hole, however much the sound
//! card's crystal drifts from the node's clock. At a break (device lost, overrun) the monotonic clock says how much is
//! missing; that is rounded up to whole frames, and the first samples after it are skipped so that the next frame begins
//! where the grid of 20 ms frames wants it.

use proto::{FRAME_SAMPLES, GapReason};
use sound::SAMPLE_RATE_HZ;

/// Length of a frame, in nanoseconds.
pub(super) const FRAME_NS: u64 = 20_000_000;

/// How far the crystal of a sound card may be from the node's clock, in parts per million. The estimate of the capture time
/// follows late arrivals no faster than this. Cards are within 100 ppm; a cheap USB one and a cheap board add up.
const MAX_DRIFT_PPM: u64 = 500;

/// Samples that stay later than the sample count says by more than this for [`LATE_FOR_NS`] will not catch up: the device has
/// dropped some without a word (a suspended machine or sound server).
const LATE_LIMIT_NS: u64 = 250_000_000;
/// See [`LATE_LIMIT_NS`].
const LATE_FOR_NS: u64 = 2_000_000_000;

/// What an outage is reported short by, so that samples that come in the next moment still find their frames free: longer than
/// any device holds samples back.
const OUTAGE_MARGIN_NS: u64 = 500_000_000;

/// An outage is reported in pieces no shorter than this, in frames: a second.
const OUTAGE_PIECE_FRAMES: u64 = 50;

/// A first sample that comes no later than this after the start begins the numbering, without a gap before it.
const PROMPT_START_NS: u64 = 2_000_000_000;

/// Frames that are missing before the samples that have just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) frames: u64,
    pub(super) reason: GapReason,
}

/// What to do with the samples that have just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// A gap to be marked before them.
    pub(super) missing: Option<Missing>,
    /// Samples a channel to drop from their beginning, so that the next frame lies on the grid.
    pub(super) skip: u64,
    /// The framer must forget the samples of the unfinished frame: they are part of the gap.
    pub(super) reset_framer: bool,
}

/// Numbers of samples lost at a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    /// By the clock.
    ByClock(GapReason),
    /// This many samples a channel.
    Samples(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Samples a second and channel, of the source that is open.
    rate_hz: u64,
    /// Estimated capture time of the end of the newest sample.
    head_ns: u64,
    /// Samples a channel since the last break, without skipped ones.
    fed: u64,
    /// Frames made of them.
    framed: u64,
    /// Samples a channel still to skip.
    skip: u64,
    /// The break that the next samples come after.
    broken: Option<Break>,
    /// Whether any sample has ever come.
    started: bool,
    /// Whether the source failed before any sample came: then even a short wait is a gap.
    failed_before_start: bool,
    /// For how long samples have been too late.
    late_for_ns: u64,
    /// Capture time of the newest frame: time never goes back.
    last_frame_ns: Option<u64>,
}

impl Timeline {
    /// A timeline on which frame 0 belongs to `start_ns`, when the node began to listen.
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            rate_hz: u64::from(SAMPLE_RATE_HZ),
            head_ns: start_ns,
            fed: 0,
            framed: 0,
            skip: 0,
            broken: Some(Break::ByClock(GapReason::DeviceLost)),
            started: false,
            failed_before_start: false,
            late_for_ns: 0,
            last_frame_ns: None,
        }
    }

    /// A source was opened: the samples to come have this rate, and what lies between is missing.
    pub(super) fn opened(&mut self, rate_hz: u32) {
        self.break_by_clock(GapReason::DeviceLost);
        // The unfinished frame is gone, and was counted at the old rate.
        self.head_ns = self.unframed_ns();
        (self.fed, self.framed, self.skip) = (0, 0, 0);
        self.rate_hz = u64::from(rate_hz.max(1));
    }

    /// The source failed: what comes next comes after a break.
    pub(super) fn failed(&mut self) {
        self.failed_before_start |= !self.started;
        self.break_by_clock(GapReason::DeviceLost);
    }

    /// An outage lasts at `now_ns`: the frames that are surely missing by now and were not given before. Listeners learn of an
    /// outage while it lasts; the tape joins the pieces.
    pub(super) fn outage(&mut self, now_ns: u64) -> Option<Missing> {
        let Some(Break::ByClock(reason)) = self.broken else { return None };
        if !self.started && !self.failed_before_start {
            return None;
        }
        let end_ns = self.unframed_ns();
        let frames = now_ns.saturating_sub(OUTAGE_MARGIN_NS).saturating_sub(end_ns) / FRAME_NS;
        if frames < OUTAGE_PIECE_FRAMES {
            return None;
        }
        self.head_ns = end_ns + frames * FRAME_NS;
        (self.fed, self.framed, self.skip) = (0, 0, 0);
        Some(Missing { frames, reason })
    }

    /// Samples were dropped before those that come next; 0: nobody knows how many.
    pub(super) fn overrun(&mut self, lost_samples: u64) {
        match self.broken {
            // A break by the clock covers everything up to the next sample.
            Some(Break::ByClock(_)) => {}
            Some(Break::Samples(before)) if lost_samples > 0 => {
                self.broken = Some(Break::Samples(before + lost_samples));
            }
            None if lost_samples > 0 => self.broken = Some(Break::Samples(lost_samples)),
            _ => self.break_by_clock(GapReason::Overrun),
        }
    }

    /// `samples` a channel have come at `now_ns`.
    pub(super) fn arrive(&mut self, now_ns: u64, samples: u64) -> Arrival {
        let span_ns = self.span_ns(samples);
        if self.broken.is_none() {
            self.follow(now_ns, span_ns);
        }
        let broken = self.broken.take();
        let (missing, reset_framer) = match broken {
            None => (None, false),
            Some(broken) => (self.resume(broken, now_ns, span_ns), true),
        };
        let skip = self.skip.min(samples);
        self.skip -= skip;
        self.fed += samples - skip;
        Arrival { missing, skip, reset_framer }
    }

    /// Capture time of the first sample of the next frame that the framer gives; the one after it is then next.
    pub(super) fn next_frame_ns(&mut self) -> u64 {
        let mut captured_ns = self.unframed_ns();
        self.framed += 1;
        if let Some(last_ns) = self.last_frame_ns {
            captured_ns = captured_ns.max(last_ns + 1);
        }
        self.last_frame_ns = Some(captured_ns);
        captured_ns
    }

    /// Capture time of the first sample that is in no frame yet.
    fn unframed_ns(&self) -> u64 {
        let framed_samples = u128::from(self.framed * FRAME_SAMPLES as u64) * u128::from(self.rate_hz);
        let fed_canonical = u128::from(self.fed) * u128::from(SAMPLE_RATE_HZ);
        let pending_ns = fed_canonical.saturating_sub(framed_samples) * 1_000_000_000
            / (u128::from(self.rate_hz) * u128::from(SAMPLE_RATE_HZ));
        let skip_ns = self.span_ns(self.skip);
        // What pends is less than a frame and the resampler's delay; and nothing is fed while samples are skipped.
        (self.head_ns + skip_ns).saturating_sub(pending_ns as u64)
    }

    fn break_by_clock(&mut self, reason: GapReason) {
        self.broken = Some(match self.broken {
            // The first reason is what began the outage.
            Some(Break::ByClock(first)) => Break::ByClock(first),
            _ => Break::ByClock(reason),
        });
    }

    /// Moves the estimate on by samples that follow without a break. A sample can come late, never early: an arrival before
    /// the estimate corrects it at once, one after it no faster than crystals drift.
    fn follow(&mut self, now_ns: u64, span_ns: u64) {
        let expected_ns = self.head_ns + span_ns;
        let late_ns = now_ns.saturating_sub(expected_ns);
        self.late_for_ns = if late_ns > LATE_LIMIT_NS { self.late_for_ns + span_ns } else { 0 };
        if self.late_for_ns >= LATE_FOR_NS {
            self.break_by_clock(GapReason::Overrun);
            return;
        }
        let creep_ns = span_ns * MAX_DRIFT_PPM / 1_000_000;
        self.head_ns = (expected_ns + creep_ns).min(now_ns);
    }

    /// Ends a break: the clock or the count says where the samples that have just come begin.
    fn resume(&mut self, broken: Break, now_ns: u64, span_ns: u64) -> Option<Missing> {
        let end_ns = self.unframed_ns();
        let (begin_ns, reason) = match broken {
            Break::ByClock(reason) => (now_ns.saturating_sub(span_ns), reason),
            Break::Samples(lost) => (self.head_ns + self.span_ns(lost), GapReason::Overrun),
        };
        let prompt = !self.started && !self.failed_before_start && begin_ns.saturating_sub(end_ns) <= PROMPT_START_NS;
        self.started = true;
        self.head_ns = begin_ns + span_ns;
        (self.fed, self.framed, self.skip, self.late_for_ns) = (0, 0, 0, 0);
        if prompt {
            return None;
        }
        // A break is never without a gap, however short it was: the samples of the unfinished frame are gone in any case.
        let frames = begin_ns.saturating_sub(end_ns).div_ceil(FRAME_NS).max(1);
        let resume_ns = end_ns + frames * FRAME_NS;
        // To the nearest sample; at most two frames, so nothing overflows.
        self.skip = (resume_ns.saturating_sub(begin_ns) * self.rate_hz + 500_000_000) / 1_000_000_000;
        Some(Missing { frames, reason })
    }

    fn span_ns(&self, samples: u64) -> u64 {
        (u128::from(samples) * 1_000_000_000 / u128::from(self.rate_hz)) as u64
    }
}

#[cfg(test)]
mod tests;
