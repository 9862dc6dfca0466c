//! When the hub skips audio because its analysis cannot keep up with a node.

use std::time::{Duration, Instant};

use crate::sequencer::{Gap, Piece};

/// Length of a frame, in nanoseconds.
pub(super) const FRAME_NS: u64 = proto::FRAME_MS as u64 * 1_000_000;

/// Decides when to skip audio: when the queue to the analysis is full and the audio is older than allowed. While a node
/// sends what it kept during an outage, the allowed age is the age at the start less half of the time since, so
/// catching up must run at one and a half times real time at least. One continuous stretch is skipped, until the audio
/// is nearly live, so that the sound before and after it stays whole.
///
/// The age is the smaller of two: by the node's clock, and by frame numbers. So neither a clock that jumps nor a device
/// that delivers nothing for an hour counts as an overload.
#[derive(Debug)]
pub(super) struct Patience {
    max_lag: Duration,
    started: Instant,
    behind_at_start: Duration,
    looked: Instant,
    behind: Duration,
    /// Audio and gaps since `looked`.
    received: Duration,
    skipped: Option<Gap>,
}

/// Skipping goes on until the lag is this part of what is allowed.
const SKIP_DOWN_TO: u32 = 4;

impl Patience {
    /// For a new session with a node that has kept this much audio.
    pub(super) fn new(max_lag: Duration, behind: Duration, now: Instant) -> Self {
        Self {
            max_lag,
            started: now,
            behind_at_start: behind,
            looked: now,
            behind,
            received: Duration::ZERO,
            skipped: None,
        }
    }

    /// The node has said again how much it has kept.
    pub(super) fn look_again(&mut self, behind: Duration, now: Instant) {
        (self.looked, self.behind, self.received) = (now, behind, Duration::ZERO);
    }

    /// Counts a piece, whose age by the node's clock is `lag_by_clock`. Returns the age to go by.
    pub(super) fn receive(&mut self, piece: &Piece, lag_by_clock: Duration, now: Instant) -> Duration {
        self.received =
            self.received.saturating_add(Duration::from_nanos(piece.frame_count().saturating_mul(FRAME_NS)));
        let lag_by_number = (self.behind + now.duration_since(self.looked)).saturating_sub(self.received);
        lag_by_clock.min(lag_by_number)
    }

    /// Whether audio of this age is older than allowed.
    pub(super) fn is_over(&self, lag: Duration, now: Instant) -> bool {
        let catching_up = (self.behind_at_start + self.max_lag).saturating_sub(now.duration_since(self.started) / 2);
        lag > self.max_lag.max(catching_up)
    }

    /// Starts to skip at this piece. `false`: it is not audio and must be passed on.
    pub(super) fn skip_from(&mut self, piece: &Piece) -> bool {
        let Piece::Frames(frames) = piece else { return false };
        self.skipped = Some(Gap::skipped(frames.boot_id, frames.sequence, piece.frame_count()));
        true
    }

    /// Whether this piece is skipped too.
    pub(super) fn skips(&mut self, piece: &Piece, lag: Duration) -> bool {
        let (Some(skipped), Piece::Frames(frames)) = (&mut self.skipped, piece) else { return false };
        if lag <= self.max_lag / SKIP_DOWN_TO || frames.boot_id != skipped.boot_id {
            return false;
        }
        skipped.frame_count = skipped.frame_count.map(|count| count + piece.frame_count());
        true
    }

    /// The skipped stretch, once it has ended.
    pub(super) fn take_skipped(&mut self) -> Option<Gap> {
        self.skipped.take()
    }

    /// Audio of this age was taken without a wait. If it is live, the outage is over.
    pub(super) fn passed(&mut self, lag: Duration) {
        if lag <= self.max_lag {
            self.behind_at_start = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use hub_store::events::GapReason;

    use super::*;
    use crate::sequencer::Frames;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(sequence: u64) -> Piece {
        Piece::Frames(Frames {
            boot_id: 9,
            sequence,
            samples: vec![0; 1_600],
            captured_monotonic_ns: 0,
            captured_unix_ns: None,
        })
    }

    #[test]
    fn one_stretch_is_skipped_until_audio_is_nearly_live() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, Duration::ZERO, now);
        assert!(!patience.is_over(19 * SECOND, now));
        assert!(patience.is_over(21 * SECOND, now));
        assert!(patience.skip_from(&frames(100)));
        assert!(patience.skips(&frames(105), 15 * SECOND));
        assert!(patience.skips(&frames(110), 6 * SECOND));
        assert!(!patience.skips(&frames(115), 4 * SECOND));
        let skipped = patience.take_skipped().unwrap();
        assert_eq!((skipped.first_sequence, skipped.frame_count), (100, Some(15)));
        assert_eq!(skipped.reason, GapReason::HubOverloaded);
        assert_eq!(patience.take_skipped(), None);
    }

    #[test]
    fn gaps_are_never_skipped_and_end_the_stretch() {
        let mut patience = Patience::new(SECOND, Duration::ZERO, Instant::now());
        let gap = Piece::Gap(Gap::skipped(9, 5, 5));
        assert!(!patience.skip_from(&gap));
        assert!(patience.skip_from(&frames(0)));
        assert!(!patience.skips(&gap, 100 * SECOND));
        assert!(patience.take_skipped().is_some());
    }

    #[test]
    fn catching_up_after_an_outage_is_no_overload_unless_it_crawls() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, 600 * SECOND, now);
        assert!(!patience.is_over(600 * SECOND, now));
        assert!(patience.is_over(630 * SECOND, now));
        assert!(!patience.is_over(580 * SECOND, now + 60 * SECOND));
        assert!(patience.is_over(595 * SECOND, now + 60 * SECOND));
        // Once live, the outage no longer counts.
        patience.passed(SECOND);
        assert!(patience.is_over(21 * SECOND, now + 61 * SECOND));
    }

    #[test]
    fn lag_is_by_numbers_when_the_clock_is_wrong_and_by_the_clock_when_numbers_stood_still() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, 10 * SECOND, now);
        // Ten seconds were kept and one came since; 0.1 s of that was received.
        let lag = patience.receive(&frames(0), 9_999 * SECOND, now + SECOND);
        assert_eq!(lag, Duration::from_millis(10_900));
        // The device was away for an hour, and the node does not count it.
        assert_eq!(patience.receive(&frames(5), SECOND, now + 3_600 * SECOND), SECOND);
        patience.look_again(Duration::ZERO, now + 3_600 * SECOND);
        assert_eq!(patience.receive(&frames(10), 9_999 * SECOND, now + 3_600 * SECOND), Duration::ZERO);
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::hold;
    use proptest::prelude::*;

    use super::*;
    use crate::sequencer::Frames;

    /// A piece: its boot, its frames, whether it is audio, its age by the node's clock, and how much time has passed.
    type Come = (u64, u64, bool, Duration, Duration);

    #[test]
    fn what_is_skipped_is_one_stretch_of_audio_and_all_of_it_is_counted() {
        let ages = || {
            prop_oneof![
                (0..100_000_u64).prop_map(Duration::from_millis),
                Just(Duration::MAX),
                Just(Duration::from_nanos(u64::MAX)),
            ]
        };
        let passed = (0..20_000_u64).prop_map(Duration::from_millis);
        let come = (7..9_u64, 1..6_u64, any::<bool>(), ages(), passed);
        // A node may claim any number of frames.
        let behind = prop_oneof![Just(Duration::ZERO), Just(Duration::from_nanos(u64::MAX))];
        let max_lag = (1..60_u64).prop_map(Duration::from_secs);
        hold(
            500,
            &(max_lag, behind, prop::collection::vec(come, 0..60)),
            |(max_lag, behind, all): (_, _, Vec<Come>)| {
                let mut now = Instant::now();
                let mut patience = Patience::new(max_lag, behind, now);
                let (mut sequence, mut open) = (0, None::<(u64, u64, u64)>);
                for (boot_id, count, is_audio, age, passed) in all {
                    now += passed;
                    let samples = vec![0; count as usize * proto::FRAME_SAMPLES];
                    let frames =
                        Frames { boot_id, sequence, samples, captured_monotonic_ns: 0, captured_unix_ns: None };
                    let gap = Gap::skipped(boot_id, sequence, count);
                    let piece = if is_audio { Piece::Frames(frames) } else { Piece::Gap(gap) };
                    let lag = patience.receive(&piece, age, now);
                    prop_assert!(lag <= age, "older than its clock says");
                    match &mut open {
                        Some((boot, _, skipped)) if patience.skips(&piece, lag) => {
                            prop_assert!(is_audio && *boot == boot_id && lag > max_lag / SKIP_DOWN_TO);
                            *skipped += count;
                        }
                        Some((boot, first, skipped)) => {
                            let taken = patience.take_skipped();
                            prop_assert_eq!(taken, Some(Gap::skipped(*boot, *first, *skipped)));
                            open = None;
                        }
                        None => {
                            prop_assert!(!patience.skips(&piece, lag) && patience.take_skipped().is_none());
                            if patience.is_over(lag, now) {
                                prop_assert!(lag > max_lag);
                                prop_assert_eq!(patience.skip_from(&piece), is_audio);
                                open = is_audio.then_some((boot_id, sequence, count));
                            } else {
                                patience.passed(lag);
                            }
                        }
                    }
                    sequence += count;
                }
                Ok(())
            },
        );
    }
}
