//! Which number and which capture time a frame has. Pure arithmetic: the caller says how many samples came, and when.
//!
//! Between two breaks, samples are counted: frames follow each other without a gap, however much the sound card's
//! crystal drifts from the node's clock. At a break (device lost, overrun) the monotonic clock says how much is lost.
//! The loss is rounded up to whole frames, and the first samples after it are skipped, so that the next frame begins on
//! the grid of 20 ms frames.

use proto::{FRAME_SAMPLES, GapReason};
use sound::SAMPLE_RATE_HZ;

use crate::source::CARD_DRIFT_PPM;

/// Length of a frame, in nanoseconds.
pub(super) const FRAME_NS: u64 = 20_000_000;

/// Samples that arrive later than this, by the sample count, for [`LATE_FOR_NS`] without a break will not catch up: the
/// device has dropped some and did not report it (a suspended machine or sound server).
const LATE_LIMIT_NS: u64 = 250_000_000;
/// See [`LATE_LIMIT_NS`].
const LATE_FOR_NS: u64 = 2_000_000_000;

/// An outage is reported shorter than it is by this much, because samples that arrive now were captured earlier, and
/// need their frame numbers. Longer than any device holds samples back.
const OUTAGE_MARGIN_NS: u64 = 500_000_000;

/// Shortest piece in which an outage is reported, in frames: a second.
const OUTAGE_PIECE_FRAMES: u64 = 50;

/// If the first sample comes no later than this after the start, the numbering begins with it, without a gap.
const PROMPT_START_NS: u64 = 2_000_000_000;

/// Frames that become a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LostFrames {
    pub(super) frames: u64,
    pub(super) reason: GapReason,
}

/// What the caller must do with samples that have just arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Frames to append as a gap before the samples.
    pub(super) lost: Option<LostFrames>,
    /// Samples per channel to drop from their beginning, so that the next frame lies on the grid.
    pub(super) skip: u64,
    /// The framer must drop the samples of its unfinished frame: they are part of the gap.
    pub(super) reset_framer: bool,
}

/// How many samples were lost at a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Break {
    /// As many as the clock says.
    ByClock(GapReason),
    /// This many per channel.
    Samples(u64),
}

/// Numbers and stamps the frames. See the module.
#[derive(Debug)]
pub(super) struct Timeline {
    /// Samples per second and channel of the source that is open.
    rate_hz: u64,
    /// How far the clock of the source may drift from the node's, in parts per million. The estimate of the capture
    /// time follows late arrivals no faster than this.
    drift_ppm: u64,
    /// Estimated capture time of the end of the newest sample.
    head_ns: u64,
    /// Samples per channel since the last break, without skipped ones.
    fed: u64,
    /// Frames made from them.
    framed: u64,
    /// Samples per channel still to skip.
    skip: u64,
    /// The break before the next samples.
    broken: Option<Break>,
    /// Whether any sample has ever arrived.
    started: bool,
    /// Whether the source failed before the first sample. If so, even a short wait for it is a gap.
    failed_before_start: bool,
    /// For how long samples have been too late.
    late_for_ns: u64,
    /// Capture time of the newest frame. The next one is always later.
    last_frame_ns: Option<u64>,
}

impl Timeline {
    /// A timeline whose frame 0 begins at `start_ns`, when the node started.
    pub(super) fn new(start_ns: u64) -> Self {
        Self {
            rate_hz: u64::from(SAMPLE_RATE_HZ),
            drift_ppm: CARD_DRIFT_PPM,
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

    /// A source was opened. Its samples have this rate, and what was captured before it opened is lost.
    pub(super) fn opened(&mut self, rate_hz: u32) {
        self.break_by_clock(GapReason::DeviceLost);
        // The unfinished frame is lost, and its samples were counted at the old rate.
        self.head_ns = self.unframed_ns();
        (self.fed, self.framed, self.skip) = (0, 0, 0);
        self.rate_hz = u64::from(rate_hz.max(1));
    }

    /// The clock of the source may drift this much, in parts per million.
    pub(super) fn tolerate(&mut self, drift_ppm: u64) {
        self.drift_ppm = drift_ppm;
    }

    /// The source failed: there is a break before the next samples.
    pub(super) fn failed(&mut self) {
        self.failed_before_start |= !self.started;
        self.break_by_clock(GapReason::DeviceLost);
    }

    /// The outage still lasts at `now_ns`. Returns the frames that are certainly lost by now and were not returned
    /// before, so that subscribers learn of an outage while it lasts. The tape joins the pieces.
    pub(super) fn outage(&mut self, now_ns: u64) -> Option<LostFrames> {
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
        Some(LostFrames { frames, reason })
    }

    /// `lost_samples` per channel were dropped before the next samples; 0: their number is unknown.
    pub(super) fn overrun(&mut self, lost_samples: u64) {
        match self.broken {
            // The clock already covers everything up to the next sample.
            Some(Break::ByClock(_)) => {}
            Some(Break::Samples(before)) if lost_samples > 0 => {
                self.broken = Some(Break::Samples(before + lost_samples));
            }
            None if lost_samples > 0 => self.broken = Some(Break::Samples(lost_samples)),
            _ => self.break_by_clock(GapReason::Overrun),
        }
    }

    /// `samples` per channel arrived at `now_ns`.
    pub(super) fn arrive(&mut self, now_ns: u64, samples: u64) -> Arrival {
        let span_ns = self.span_ns(samples);
        if self.broken.is_none() {
            self.follow(now_ns, span_ns);
        }
        let broken = self.broken.take();
        let (lost, reset_framer) = match broken {
            None => (None, false),
            Some(broken) => (self.resume(broken, now_ns, span_ns), true),
        };
        let skip = self.skip.min(samples);
        self.skip -= skip;
        self.fed += samples - skip;
        Arrival { lost, skip, reset_framer }
    }

    /// Capture time of the first sample of the next frame. Call it once for each frame that the framer returns.
    pub(super) fn next_frame_ns(&mut self) -> u64 {
        let mut captured_ns = self.unframed_ns();
        self.framed += 1;
        if let Some(last_ns) = self.last_frame_ns {
            captured_ns = captured_ns.max(last_ns + 1);
        }
        self.last_frame_ns = Some(captured_ns);
        captured_ns
    }

    /// Capture time of the first sample that is not in a frame yet.
    fn unframed_ns(&self) -> u64 {
        let framed_samples = u128::from(self.framed * FRAME_SAMPLES as u64) * u128::from(self.rate_hz);
        let fed_canonical = u128::from(self.fed) * u128::from(SAMPLE_RATE_HZ);
        let pending_ns = fed_canonical.saturating_sub(framed_samples) * 1_000_000_000
            / (u128::from(self.rate_hz) * u128::from(SAMPLE_RATE_HZ));
        let skip_ns = self.span_ns(self.skip);
        // At most a frame and the resampler's delay are pending, so this fits; and while samples are skipped, none are
        // fed.
        (self.head_ns + skip_ns).saturating_sub(pending_ns as u64)
    }

    fn break_by_clock(&mut self, reason: GapReason) {
        self.broken = Some(match self.broken {
            // The outage keeps the reason that began it.
            Some(Break::ByClock(first)) => Break::ByClock(first),
            _ => Break::ByClock(reason),
        });
    }

    /// Advances the estimate by samples that follow without a break. Samples can arrive late but never early. An
    /// arrival before the estimate therefore corrects it at once, and a later one no faster than crystals drift.
    fn follow(&mut self, now_ns: u64, span_ns: u64) {
        let expected_ns = self.head_ns + span_ns;
        let late_ns = now_ns.saturating_sub(expected_ns);
        self.late_for_ns = if late_ns > LATE_LIMIT_NS { self.late_for_ns + span_ns } else { 0 };
        if self.late_for_ns >= LATE_FOR_NS {
            self.break_by_clock(GapReason::Overrun);
            return;
        }
        let creep_ns = span_ns * self.drift_ppm / 1_000_000;
        self.head_ns = (expected_ns + creep_ns).min(now_ns);
    }

    /// Ends a break. The clock, or the number of lost samples, says when the samples that have just arrived begin.
    fn resume(&mut self, broken: Break, now_ns: u64, span_ns: u64) -> Option<LostFrames> {
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
        // At least one frame: even at a short break the samples of the unfinished frame are lost.
        let frames = begin_ns.saturating_sub(end_ns).div_ceil(FRAME_NS).max(1);
        let resume_ns = end_ns + frames * FRAME_NS;
        // Rounded to the nearest sample. At most two frames, so nothing overflows.
        self.skip = (resume_ns.saturating_sub(begin_ns) * self.rate_hz + 500_000_000) / 1_000_000_000;
        Some(LostFrames { frames, reason })
    }

    fn span_ns(&self, samples: u64) -> u64 {
        (u128::from(samples) * 1_000_000_000 / u128::from(self.rate_hz)) as u64
    }
}

#[cfg(test)]
mod tests;
