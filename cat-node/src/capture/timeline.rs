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
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A timeline on which a 16 kHz source was opened at once and has given `frames` frames, the last one ending at their sum.
    fn running(frames: u64) -> Timeline {
        let mut timeline = Timeline::new(0);
        timeline.opened(16_000);
        for frame in 1..=frames {
            let arrival = timeline.arrive(frame * FRAME_NS, 320);
            assert_eq!(arrival.missing, None);
            assert_eq!(timeline.next_frame_ns(), (frame - 1) * FRAME_NS);
        }
        timeline
    }

    #[test]
    fn prompt_start_has_no_gap_and_stamps_the_first_sample() {
        let mut timeline = Timeline::new(0);
        timeline.opened(48_000);
        let arrival = timeline.arrive(300 * MS, 960);
        assert_eq!(arrival, Arrival { missing: None, skip: 0, reset_framer: true });
        assert_eq!(timeline.next_frame_ns(), 280 * MS);
    }

    #[test]
    fn late_start_is_a_gap_from_the_nodes_start() {
        let mut timeline = Timeline::new(0);
        timeline.opened(16_000);
        let arrival = timeline.arrive(5_000 * MS, 320);
        assert_eq!(arrival.missing, Some(Missing { frames: 249, reason: GapReason::DeviceLost }));
        assert_eq!(arrival.skip, 0);
        assert_eq!(timeline.next_frame_ns(), 4_980 * MS);
    }

    #[test]
    fn short_start_after_a_failure_is_a_gap() {
        let mut timeline = Timeline::new(0);
        timeline.failed();
        timeline.opened(16_000);
        let missing = timeline.arrive(1_000 * MS, 320).missing;
        assert_eq!(missing, Some(Missing { frames: 49, reason: GapReason::DeviceLost }));
    }

    #[test]
    fn outage_is_rounded_up_to_frames_and_the_next_frame_lies_on_the_grid() {
        let mut timeline = running(50);
        // Half a frame is lying in the framer when the device goes.
        timeline.arrive(1_010 * MS, 160);
        timeline.failed();
        timeline.opened(48_000);
        // First sample captured at 4003 ms: frames 50 to 200 are missing, frame 201 begins 17 ms later.
        let arrival = timeline.arrive(4_103 * MS, 4_800);
        assert_eq!(arrival.missing, Some(Missing { frames: 151, reason: GapReason::DeviceLost }));
        assert_eq!((arrival.skip, arrival.reset_framer), (17 * 48, true));
        assert_eq!(timeline.next_frame_ns(), 201 * FRAME_NS);
    }

    #[test]
    fn skip_goes_on_over_short_arrivals() {
        let mut timeline = running(50);
        timeline.failed();
        timeline.opened(16_000);
        let first = timeline.arrive(2_005 * MS, 64);
        assert_eq!(first.skip, 64);
        let mut skipped = first.skip;
        for at in 1..6 {
            skipped += timeline.arrive(2_005 * MS + at * 4 * MS, 64).skip;
        }
        // 2001 ms to 2020 ms.
        assert_eq!(skipped, 19 * 16);
        assert_eq!(timeline.next_frame_ns(), 2_020 * MS);
    }

    #[test]
    fn outage_reported_piece_by_piece_sums_to_the_same() {
        let mut timeline = running(50);
        timeline.failed();
        let mut pieces = 0;
        for now in (1_100..8_000).step_by(100) {
            pieces += timeline.outage(now * MS).map_or(0, |missing| missing.frames);
        }
        assert_eq!(pieces, 300, "six whole seconds are surely missing at 7.9 s");
        timeline.opened(16_000);
        let last = timeline.arrive(8_020 * MS, 320).missing.unwrap();
        assert_eq!(pieces + last.frames, 350);
        assert_eq!(timeline.next_frame_ns(), 8_000 * MS);
    }

    #[test]
    fn nothing_is_an_outage_while_the_source_is_well() {
        let mut timeline = running(50);
        assert_eq!(timeline.outage(60_000 * MS), None);
        assert_eq!(Timeline::new(0).outage(60_000 * MS), None);
    }

    #[test]
    fn counted_overrun_is_counted_and_needs_no_clock() {
        let mut timeline = running(50);
        timeline.overrun(320 * 3);
        // The clock says nothing sensible here: the batch came late.
        let arrival = timeline.arrive(1_500 * MS, 320);
        assert_eq!(arrival.missing, Some(Missing { frames: 3, reason: GapReason::Overrun }));
        assert_eq!(arrival.skip, 0);
        assert_eq!(timeline.next_frame_ns(), 1_060 * MS);
    }

    #[test]
    fn overruns_before_the_same_samples_add_up() {
        let mut timeline = running(50);
        timeline.overrun(320);
        timeline.overrun(640);
        assert_eq!(timeline.arrive(1_080 * MS, 320).missing.unwrap().frames, 3);
    }

    #[test]
    fn uncounted_overrun_is_measured_by_the_clock() {
        let mut timeline = running(50);
        timeline.overrun(0);
        let arrival = timeline.arrive(1_100 * MS, 320);
        assert_eq!(arrival.missing, Some(Missing { frames: 4, reason: GapReason::Overrun }));
        assert_eq!(timeline.next_frame_ns(), 1_080 * MS);
    }

    #[test]
    fn overrun_shorter_than_a_frame_is_a_gap_of_one() {
        let mut timeline = running(50);
        timeline.overrun(0);
        let arrival = timeline.arrive(1_020 * MS, 320);
        assert_eq!(arrival.missing, Some(Missing { frames: 1, reason: GapReason::Overrun }));
        assert_eq!(arrival.skip, 320);
        timeline.arrive(1_040 * MS, 320);
        assert_eq!(timeline.next_frame_ns(), 1_020 * MS);
    }

    #[test]
    fn samples_that_vanish_without_a_word_are_found_by_the_clock() {
        let mut timeline = running(50);
        // The machine slept for 3 s after frame 49.
        let mut frame = 50;
        let missing = loop {
            frame += 1;
            let arrival = timeline.arrive(3_000 * MS + frame * FRAME_NS, 320);
            if let Some(missing) = arrival.missing {
                break missing;
            }
            timeline.next_frame_ns();
            assert!(frame < 200, "the loss was never noticed");
        };
        assert_eq!(missing.reason, GapReason::Overrun);
        // 150 frames, less what the drift estimate crept in 2 s.
        assert!((148..=150).contains(&missing.frames), "{missing:?}");
    }

    #[test]
    fn late_batches_change_neither_count_nor_time() {
        let mut timeline = running(50);
        // The thread did not run for 200 ms: eleven frames come at once, then on time again.
        assert_eq!(timeline.arrive(1_220 * MS, 11 * 320).missing, None);
        assert_eq!(timeline.next_frame_ns(), 1_000 * MS);
        // This one frame comes 100 ms late, the next on time.
        for _ in 0..10 {
            timeline.next_frame_ns();
        }
        timeline.arrive(1_340 * MS, 320);
        let late_ns = timeline.next_frame_ns();
        assert!(late_ns.abs_diff(1_220 * MS) <= FRAME_NS / 1000, "{late_ns}");
        timeline.arrive(1_360 * MS, 2 * 320);
        assert_eq!(timeline.next_frame_ns().abs_diff(1_240 * MS) / MS, 0);
    }

    #[test]
    fn capture_time_follows_a_drifting_crystal_and_the_count_does_not() {
        for ppm in [-200_i64, 200] {
            let mut timeline = Timeline::new(0);
            timeline.opened(48_000);
            let mut frames = 0_u64;
            let mut captured_ns = 0;
            // An hour: 720 ms of drift.
            for frame in 1..=180_000_i64 {
                let now_ns = frame * FRAME_NS as i64 * (1_000_000 + ppm) / 1_000_000;
                assert_eq!(timeline.arrive(now_ns as u64, 960).missing, None);
                captured_ns = timeline.next_frame_ns();
                frames += 1;
            }
            let true_ns = 179_999 * FRAME_NS as i64 * (1_000_000 + ppm) / 1_000_000;
            assert_eq!(frames, 180_000);
            assert!(captured_ns.abs_diff(true_ns as u64) < MS, "{ppm} ppm: {captured_ns} instead of {true_ns}");
        }
    }

    #[test]
    fn capture_time_never_goes_back() {
        let mut timeline = running(10);
        // The first batches came late, this one early: the estimate is corrected by 50 ms.
        timeline.arrive(150 * MS, 320);
        let corrected = timeline.next_frame_ns();
        assert!(corrected > 9 * FRAME_NS, "{corrected}");
    }

    #[test]
    fn resampler_delay_counts_as_pending() {
        let mut timeline = Timeline::new(0);
        timeline.opened(44_100);
        timeline.arrive(100 * MS, 4_410);
        assert_eq!(timeline.next_frame_ns(), 0);
        // Only one of five frames came out so far; the next still begins at 20 ms.
        timeline.arrive(110 * MS, 441);
        assert_eq!(timeline.next_frame_ns(), 20 * MS);
    }
}
