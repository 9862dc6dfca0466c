//! Numbers and capture times for made-up arrivals.

use super::*;

const MS: u64 = 1_000_000;

/// A timeline with a 16 kHz source that was opened at once and has delivered `frames` frames without a break.
fn running(frames: u64) -> Timeline {
    let mut timeline = Timeline::new(0);
    timeline.opened(16_000);
    for frame in 1..=frames {
        let arrival = timeline.arrive(frame * FRAME_NS, 320);
        assert_eq!(arrival.lost, None);
        assert_eq!(timeline.next_frame_ns(), (frame - 1) * FRAME_NS);
    }
    timeline
}

#[test]
fn prompt_start_has_no_gap_and_stamps_the_first_sample() {
    let mut timeline = Timeline::new(0);
    timeline.opened(48_000);
    let arrival = timeline.arrive(300 * MS, 960);
    assert_eq!(arrival, Arrival { lost: None, skip: 0, reset_framer: true });
    assert_eq!(timeline.next_frame_ns(), 280 * MS);
}

#[test]
fn late_start_is_a_gap_from_the_nodes_start() {
    let mut timeline = Timeline::new(0);
    timeline.opened(16_000);
    let arrival = timeline.arrive(5_000 * MS, 320);
    assert_eq!(arrival.lost, Some(LostFrames { frames: 249, reason: GapReason::DeviceLost }));
    assert_eq!(arrival.skip, 0);
    assert_eq!(timeline.next_frame_ns(), 4_980 * MS);
}

#[test]
fn short_start_after_a_failure_is_a_gap() {
    let mut timeline = Timeline::new(0);
    timeline.failed();
    timeline.opened(16_000);
    let lost = timeline.arrive(1_000 * MS, 320).lost;
    assert_eq!(lost, Some(LostFrames { frames: 49, reason: GapReason::DeviceLost }));
}

#[test]
fn outage_is_rounded_up_to_frames_and_the_next_frame_lies_on_the_grid() {
    let mut timeline = running(50);
    // The framer holds half a frame when the device is lost.
    timeline.arrive(1_010 * MS, 160);
    timeline.failed();
    timeline.opened(48_000);
    // The first sample was captured at 4003 ms: frames 50 to 200 are lost, and frame 201 begins 17 ms later.
    let arrival = timeline.arrive(4_103 * MS, 4_800);
    assert_eq!(arrival.lost, Some(LostFrames { frames: 151, reason: GapReason::DeviceLost }));
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
        pieces += timeline.outage(now * MS).map_or(0, |lost| lost.frames);
    }
    assert_eq!(pieces, 300, "six whole seconds are certainly lost at 7.9 s");
    timeline.opened(16_000);
    let last = timeline.arrive(8_020 * MS, 320).lost.unwrap();
    assert_eq!(pieces + last.frames, 350);
    assert_eq!(timeline.next_frame_ns(), 8_000 * MS);
}

#[test]
fn there_is_no_outage_while_the_source_works() {
    let mut timeline = running(50);
    assert_eq!(timeline.outage(60_000 * MS), None);
    assert_eq!(Timeline::new(0).outage(60_000 * MS), None);
}

#[test]
fn counted_overrun_is_counted_and_needs_no_clock() {
    let mut timeline = running(50);
    timeline.overrun(320 * 3);
    // The clock is no help here: the batch came late.
    let arrival = timeline.arrive(1_500 * MS, 320);
    assert_eq!(arrival.lost, Some(LostFrames { frames: 3, reason: GapReason::Overrun }));
    assert_eq!(arrival.skip, 0);
    assert_eq!(timeline.next_frame_ns(), 1_060 * MS);
}

#[test]
fn overruns_before_the_same_samples_add_up() {
    let mut timeline = running(50);
    timeline.overrun(320);
    timeline.overrun(640);
    assert_eq!(timeline.arrive(1_080 * MS, 320).lost.unwrap().frames, 3);
}

#[test]
fn uncounted_overrun_is_measured_by_the_clock() {
    let mut timeline = running(50);
    timeline.overrun(0);
    let arrival = timeline.arrive(1_100 * MS, 320);
    assert_eq!(arrival.lost, Some(LostFrames { frames: 4, reason: GapReason::Overrun }));
    assert_eq!(timeline.next_frame_ns(), 1_080 * MS);
}

#[test]
fn overrun_shorter_than_a_frame_is_a_gap_of_one() {
    let mut timeline = running(50);
    timeline.overrun(0);
    let arrival = timeline.arrive(1_020 * MS, 320);
    assert_eq!(arrival.lost, Some(LostFrames { frames: 1, reason: GapReason::Overrun }));
    assert_eq!(arrival.skip, 320);
    timeline.arrive(1_040 * MS, 320);
    assert_eq!(timeline.next_frame_ns(), 1_020 * MS);
}

#[test]
fn unreported_loss_is_found_by_the_clock() {
    let mut timeline = running(50);
    // The machine slept for 3 s after frame 49.
    let mut frame = 50;
    let lost = loop {
        frame += 1;
        let arrival = timeline.arrive(3_000 * MS + frame * FRAME_NS, 320);
        if let Some(lost) = arrival.lost {
            break lost;
        }
        timeline.next_frame_ns();
        assert!(frame < 200, "the loss was never noticed");
    };
    assert_eq!(lost.reason, GapReason::Overrun);
    // 150 frames, less what the drift estimate moved in 2 s.
    assert!((148..=150).contains(&lost.frames), "{lost:?}");
}

#[test]
fn late_batches_change_neither_count_nor_time() {
    let mut timeline = running(50);
    // The thread did not run for 200 ms: eleven frames come at once, then on time again.
    assert_eq!(timeline.arrive(1_220 * MS, 11 * 320).lost, None);
    assert_eq!(timeline.next_frame_ns(), 1_000 * MS);
    // This frame comes 100 ms late, the next one on time.
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
    // A sound card, and an ESP32.
    for (ppm, drift_ppm) in [(-200_i64, CARD_DRIFT_PPM), (200, CARD_DRIFT_PPM), (-10_000, 20_000), (10_000, 20_000)] {
        let mut timeline = Timeline::new(0);
        timeline.opened(48_000);
        timeline.tolerate(drift_ppm);
        let mut frames = 0_u64;
        let mut captured_ns = 0;
        // An hour: 720 ms of drift.
        for frame in 1..=180_000_i64 {
            let now_ns = frame * FRAME_NS as i64 * (1_000_000 + ppm) / 1_000_000;
            assert_eq!(timeline.arrive(now_ns as u64, 960).lost, None);
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
    // Only one of five frames is out so far, so the next one still begins at 20 ms.
    timeline.arrive(110 * MS, 441);
    assert_eq!(timeline.next_frame_ns(), 20 * MS);
}
