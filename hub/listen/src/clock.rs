//! When a sample was captured, by the capture times of the frames around it.

use std::collections::VecDeque;

use hub_store::events::EventClock;
use sound::SAMPLE_RATE_HZ;

use crate::sequencer::Frames;

/// One anchor per second is enough: between two, a sound card's clock drifts by microseconds.
const ANCHOR_EVERY_SAMPLES: u64 = SAMPLE_RATE_HZ as u64;

/// Anchors that are kept, more than any event with its post-roll spans. The oldest are dropped.
const ANCHORS: usize = 128;

/// If a node's clock is more than one hour off the hub's, the hub assumes that the node does not know the time.
/// Otherwise the events of a node that starts in 1970 would be deleted as too old.
const MAX_DISAGREEMENT_NS: u64 = 3_600 * 1_000_000_000;

/// Nanoseconds per sample.
pub(super) const NS_A_SAMPLE: i64 = 1_000_000_000 / SAMPLE_RATE_HZ as i64;

/// When a sample was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// In nanoseconds of the node's monotonic clock since its start.
    pub monotonic_ns: u64,
    /// In nanoseconds since 1970 UTC.
    pub unix_ns: i64,
    /// Whose wall clock said so.
    pub clock: EventClock,
}

/// Capture times of one boot of a node.
#[derive(Debug, Default)]
pub struct CaptureClock {
    anchors: VecDeque<Anchor>,
    /// The node's start by its own wall clock, from the first frame with the time.
    learned_start_unix_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    sample: u64,
    monotonic_ns: u64,
    unix_ns: i64,
    clock: EventClock,
}

impl CaptureClock {
    /// Takes the capture time of frames. `hub_start_unix_ns`: the node's start by the hub's wall clock, for a node that
    /// does not know the time. Returns the node's start by its own clock on the first frame of the boot that has the
    /// time.
    pub fn take(&mut self, frames: &Frames, first_sample: u64, hub_start_unix_ns: i64) -> Option<i64> {
        let monotonic_ns = i64::try_from(frames.captured_monotonic_ns).unwrap_or(i64::MAX);
        let by_hub_ns = hub_start_unix_ns.saturating_add(monotonic_ns);
        let (unix_ns, clock) = match frames.captured_unix_ns {
            Some(unix_ns) if unix_ns.abs_diff(by_hub_ns) <= MAX_DISAGREEMENT_NS => (unix_ns, EventClock::Node),
            _ => (by_hub_ns, EventClock::Hub),
        };
        let due = self
            .anchors
            .back()
            .is_none_or(|last| first_sample >= last.sample.saturating_add(ANCHOR_EVERY_SAMPLES) || last.clock != clock);
        if due {
            if self.anchors.len() == ANCHORS {
                self.anchors.pop_front();
            }
            let monotonic_ns = frames.captured_monotonic_ns;
            self.anchors.push_back(Anchor { sample: first_sample, monotonic_ns, unix_ns, clock });
        }
        if clock == EventClock::Node && self.learned_start_unix_ns.is_none() {
            self.learned_start_unix_ns = Some(unix_ns.saturating_sub(monotonic_ns));
            return self.learned_start_unix_ns;
        }
        None
    }

    /// When a sample was captured, computed from the last anchor before it, or from the first anchor. `None`: no frame
    /// has come.
    pub fn moment(&self, sample: u64) -> Option<Moment> {
        let after = self.anchors.partition_point(|anchor| anchor.sample <= sample);
        let anchor = self.anchors.get(after.saturating_sub(1))?;
        let since = sample.cast_signed().saturating_sub(anchor.sample.cast_signed()).saturating_mul(NS_A_SAMPLE);
        Some(Moment {
            monotonic_ns: anchor.monotonic_ns.saturating_add_signed(since),
            unix_ns: anchor.unix_ns.saturating_add(since),
            clock: anchor.clock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(monotonic_ns: u64, unix_ns: Option<i64>) -> Frames {
        Frames {
            boot_id: 1,
            sequence: 0,
            samples: vec![0; 320],
            captured_monotonic_ns: monotonic_ns,
            captured_unix_ns: unix_ns,
        }
    }

    #[test]
    fn moment_is_counted_from_the_anchor_before_the_sample() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.moment(0), None);
        assert_eq!(clock.take(&frames(1_000, Some(5_000)), 0, 0), Some(4_000));
        // The card took a microsecond longer for this second of audio.
        clock.take(&frames(1_000_002_000, Some(1_000_006_000)), 16_000, 0);
        let at = |sample| clock.moment(sample).unwrap();
        assert_eq!(at(16), Moment { monotonic_ns: 1_001_000, unix_ns: 1_005_000, clock: EventClock::Node });
        assert_eq!(at(16_016).unix_ns, 1_001_006_000);
    }

    #[test]
    fn node_without_the_time_is_dated_by_the_hub_until_it_learns_it() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.take(&frames(1_000_000_000, None), 16_000, 50), None);
        assert_eq!(clock.moment(16_000).unwrap().unix_ns, 1_000_000_050);
        assert_eq!(clock.moment(16_000).unwrap().clock, EventClock::Hub);
        assert_eq!(clock.take(&frames(1_020_000_000, Some(9_020_000_000)), 16_320, 50), Some(8_000_000_000));
        assert_eq!(clock.take(&frames(1_040_000_000, Some(9_040_000_000)), 16_640, 50), None, "learned once");
        assert_eq!(clock.moment(16_320).unwrap().clock, EventClock::Node);
        assert_eq!(clock.moment(16_320).unwrap().unix_ns, 9_020_000_000);
    }

    #[test]
    fn node_that_believes_in_1970_is_dated_by_the_hub() {
        let mut clock = CaptureClock::default();
        let hub_start_unix_ns = 1_795_000_000_000_000_000;
        assert_eq!(clock.take(&frames(1_000, Some(1_000)), 0, hub_start_unix_ns), None);
        let moment = clock.moment(0).unwrap();
        assert_eq!((moment.unix_ns, moment.clock), (hub_start_unix_ns + 1_000, EventClock::Hub));
    }

    #[test]
    fn anchors_are_bounded() {
        let mut clock = CaptureClock::default();
        for second in 0..100_000_u64 {
            clock.take(&frames(second * 1_000_000_000, None), second * 16_000, 0);
        }
        assert_eq!(clock.anchors.len(), ANCHORS);
    }
}
