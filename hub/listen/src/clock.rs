//! When a sample was captured, by the capture times of the frames around it.
//!
//! Each boot of a node has one start in wall time, by which its events are dated. Wall clocks step, the node's and the
//! hub's: when NTP answers, or when somebody sets the time. So the start is looked at with every frame. After a step
//! the events of the boot that were dated by the old start are dated by the new one.

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

/// The start of a boot has moved if it changes by more than this from one frame to the next: a wall clock was stepped.
/// Smaller changes are jitter, drift and leap seconds, and are followed without a word.
pub(super) const STEP_NS: u64 = 2_000_000_000;

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

/// A node's start, as the hub sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeStart {
    /// By the hub's steady clock. It moves only if the node's monotonic clock stands still: the node slept.
    pub steady_ns: i64,
    /// By the hub's wall clock as it is now, in nanoseconds since 1970 UTC.
    pub unix_ns: i64,
    /// How often the node was asked for its uptime, in this run of the hub.
    pub asked: u64,
}

/// What is now known about the start of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dating {
    /// The start in nanoseconds since 1970 UTC.
    pub start_unix_ns: i64,
    /// Whose wall clock says so.
    pub clock: EventClock,
    /// The start by which events were dated until now, if a wall clock was stepped. `None`: the node has said the time
    /// for the first time.
    pub instead_of_ns: Option<i64>,
    /// Only what was captured from here on is dated again, in nanoseconds of the node's monotonic clock.
    pub from_monotonic_ns: u64,
}

/// Capture times of one boot of a node.
#[derive(Debug, Default)]
pub struct CaptureClock {
    anchors: VecDeque<Anchor>,
    /// The start that events are dated by.
    start: Option<Start>,
    /// A wall clock seems to be stepped, or the node slept. The next answer of the node tells which.
    doubt: Option<Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// How often the node had been asked.
    asked: u64,
    /// The first frame in doubt.
    monotonic_ns: u64,
}

/// The start of a boot that its events are dated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// In nanoseconds since 1970 UTC.
    pub unix_ns: i64,
    /// Whose wall clock said so.
    pub clock: EventClock,
    /// By the hub's steady clock, in nanoseconds.
    pub steady_ns: i64,
}

impl Start {
    /// Dates a boot that is over by the hub's clocks as they are now. `offset_ns`: the hub's wall clock less its steady
    /// clock. `None`: the boot is dated well.
    pub(super) fn date_again(&mut self, offset_ns: i64) -> Option<Dating> {
        let by_hub_ns = self.steady_ns.saturating_add(offset_ns);
        let near_ns = if self.clock == EventClock::Node { MAX_DISAGREEMENT_NS } else { STEP_NS };
        if by_hub_ns.abs_diff(self.unix_ns) <= near_ns {
            return None;
        }
        let instead_of_ns = Some(self.unix_ns);
        (self.unix_ns, self.clock) = (by_hub_ns, EventClock::Hub);
        Some(Dating { start_unix_ns: by_hub_ns, clock: EventClock::Hub, instead_of_ns, from_monotonic_ns: 0 })
    }
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    sample: u64,
    monotonic_ns: u64,
    unix_ns: i64,
    clock: EventClock,
}

impl CaptureClock {
    /// Takes the capture time of frames. `seen`: the node's start by the hub's clocks, for a node that does not know
    /// the time. Returns how the boot is dated, when the node has said the time for the first time and after a step of
    /// a wall clock.
    pub fn take(&mut self, frames: &Frames, first_sample: u64, seen: NodeStart) -> Option<Dating> {
        let monotonic_ns = i64::try_from(frames.captured_monotonic_ns).unwrap_or(i64::MAX);
        let by_hub_ns = seen.unix_ns.saturating_add(monotonic_ns);
        let (unix_ns, clock) = match frames.captured_unix_ns {
            Some(unix_ns) if unix_ns.abs_diff(by_hub_ns) <= MAX_DISAGREEMENT_NS => (unix_ns, EventClock::Node),
            _ => (by_hub_ns, EventClock::Hub),
        };
        let now = Start { unix_ns: unix_ns.saturating_sub(monotonic_ns), clock, steady_ns: seen.steady_ns };
        let dating = self.follow(now, frames.captured_monotonic_ns, seen.asked);
        if let Some(dating) = dating {
            self.date_anchors_again(dating);
        }
        // In doubt, the old start holds: what is dated by it is dated again if the new one turns out to be right.
        let now = self.start.filter(|_| self.doubt.is_some()).unwrap_or(now);
        let due = self.anchors.back().is_none_or(|last| {
            first_sample >= last.sample.saturating_add(ANCHOR_EVERY_SAMPLES)
                || last.clock != now.clock
                || dating.is_some()
        });
        if due {
            if self.anchors.len() == ANCHORS {
                self.anchors.pop_front();
            }
            let (unix_ns, clock) = (now.unix_ns.saturating_add(monotonic_ns), now.clock);
            let monotonic_ns = frames.captured_monotonic_ns;
            self.anchors.push_back(Anchor { sample: first_sample, monotonic_ns, unix_ns, clock });
        }
        dating
    }

    /// The start that events are dated by. `None`: no frame has come.
    pub fn start(&self) -> Option<Start> {
        self.start
    }

    /// Follows the start of the boot. `asked`: how often the node was asked.
    fn follow(&mut self, now: Start, monotonic_ns: u64, asked: u64) -> Option<Dating> {
        let (start_unix_ns, clock) = (now.unix_ns, now.clock);
        let learned = Dating { start_unix_ns, clock, instead_of_ns: None, from_monotonic_ns: 0 };
        let Some(before) = self.start else {
            self.start = Some(now);
            return (clock == EventClock::Node).then_some(learned);
        };
        if now.unix_ns.abs_diff(before.unix_ns) <= STEP_NS {
            self.start = Some(Start { steady_ns: before.steady_ns, ..now });
            self.doubt = None;
            return (clock == EventClock::Node && before.clock == EventClock::Hub).then_some(learned);
        }
        let doubt = *self.doubt.get_or_insert(Doubt { asked, monotonic_ns });
        if asked <= doubt.asked {
            return None;
        }
        self.doubt = None;
        self.start = Some(now);
        let stepped_ns = now.unix_ns.saturating_sub(before.unix_ns);
        let slept_ns = now.steady_ns.saturating_sub(before.steady_ns);
        // What a node heard before it slept was dated well.
        let slept = slept_ns.unsigned_abs() > STEP_NS && slept_ns.abs_diff(stepped_ns) <= STEP_NS;
        let from_monotonic_ns = if slept { doubt.monotonic_ns } else { 0 };
        Some(Dating { instead_of_ns: Some(before.unix_ns), from_monotonic_ns, ..learned })
    }

    /// Dates what is not handed out yet as the store dates what is: by the new start, if it lies nearer to the old one.
    fn date_anchors_again(&mut self, dating: Dating) {
        let Some(old_ns) = dating.instead_of_ns else { return };
        let step_ns = dating.start_unix_ns.saturating_sub(old_ns);
        for anchor in self.anchors.iter_mut().filter(|anchor| anchor.monotonic_ns >= dating.from_monotonic_ns) {
            let start_ns = anchor.unix_ns.saturating_sub_unsigned(anchor.monotonic_ns);
            if start_ns.abs_diff(old_ns) <= step_ns.unsigned_abs() / 2 {
                anchor.unix_ns = anchor.unix_ns.saturating_add(step_ns);
                anchor.clock = dating.clock;
            }
        }
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
    use proptest::prelude::*;

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

    /// A node's start by the hub's wall clock.
    fn by_hub(unix_ns: i64) -> NodeStart {
        NodeStart { unix_ns, ..NodeStart::default() }
    }

    /// The start by the node's own clock, said for the first time.
    fn learned(start_unix_ns: i64) -> Option<Dating> {
        Some(Dating { start_unix_ns, clock: EventClock::Node, instead_of_ns: None, from_monotonic_ns: 0 })
    }

    #[test]
    fn moment_is_counted_from_the_anchor_before_the_sample() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.moment(0), None);
        assert_eq!(clock.take(&frames(1_000, Some(5_000)), 0, by_hub(0)), learned(4_000));
        // The card took a microsecond longer for this second of audio.
        clock.take(&frames(1_000_002_000, Some(1_000_006_000)), 16_000, by_hub(0));
        let at = |sample| clock.moment(sample).unwrap();
        assert_eq!(at(16), Moment { monotonic_ns: 1_001_000, unix_ns: 1_005_000, clock: EventClock::Node });
        assert_eq!(at(16_016).unix_ns, 1_001_006_000);
    }

    #[test]
    fn node_without_the_time_is_dated_by_the_hub_until_it_learns_it() {
        let mut clock = CaptureClock::default();
        assert_eq!(clock.take(&frames(1_000_000_000, None), 16_000, by_hub(50)), None);
        assert_eq!(clock.moment(16_000).unwrap().unix_ns, 1_000_000_050);
        assert_eq!(clock.moment(16_000).unwrap().clock, EventClock::Hub);
        let node = |second: i64| frames((second * SECOND).cast_unsigned(), Some((second + 8) * SECOND));
        assert_eq!(clock.take(&node(2), 32_000, by_hub(50)), None, "far from the hub's: the node is asked");
        let asked = NodeStart { asked: 1, ..by_hub(50) };
        let (start_unix_ns, instead_of_ns) = (8 * SECOND, Some(50));
        let dating = Dating { start_unix_ns, clock: EventClock::Node, instead_of_ns, from_monotonic_ns: 0 };
        assert_eq!(clock.take(&node(3), 48_000, asked), Some(dating));
        assert_eq!(clock.take(&node(4), 64_000, asked), None, "learned once");
        assert_eq!(clock.moment(16_000).unwrap().unix_ns, 9 * SECOND);
        assert_eq!(clock.moment(64_000).unwrap().clock, EventClock::Node);
        assert_eq!(clock.moment(64_000).unwrap().unix_ns, 12 * SECOND);
    }

    #[test]
    fn node_that_believes_in_1970_is_dated_by_the_hub() {
        let mut clock = CaptureClock::default();
        let hub_start_unix_ns = 1_795_000_000_000_000_000;
        assert_eq!(clock.take(&frames(1_000, Some(1_000)), 0, by_hub(hub_start_unix_ns)), None);
        let moment = clock.moment(0).unwrap();
        assert_eq!((moment.unix_ns, moment.clock), (hub_start_unix_ns + 1_000, EventClock::Hub));
    }

    const SECOND: i64 = 1_000_000_000;
    const FORTNIGHT: i64 = 14 * 86_400 * SECOND;
    /// The true start of the node in the tests below.
    const START: i64 = 1_795_000_000 * SECOND;

    /// Half a second of a node that has run for `second`: the errors of its wall clock and of the hub's, how long the
    /// node has slept, and how often it was asked.
    fn second(
        clock: &mut CaptureClock,
        second: i64,
        node: Option<i64>,
        hub: i64,
        slept: i64,
        asked: u64,
    ) -> Option<Dating> {
        let monotonic_ns = (second * SECOND).cast_unsigned();
        let unix_ns = node.map(|error| START + slept + second * SECOND + error);
        let seen = NodeStart { steady_ns: slept, unix_ns: START + slept + hub, asked };
        clock.take(&frames(monotonic_ns, unix_ns), second.cast_unsigned() * 16_000, seen)
    }

    #[test]
    fn step_of_both_clocks_dates_the_boot_again() {
        let (mut clock, behind) = (CaptureClock::default(), -FORTNIGHT);
        assert_eq!(second(&mut clock, 0, Some(behind), behind, 0, 1), learned(START - FORTNIGHT));
        assert_eq!(second(&mut clock, 1, Some(behind), behind, 0, 1), None);
        assert_eq!(second(&mut clock, 2, Some(0), 0, 0, 1), None, "the node may have slept; it is asked");
        let dating = second(&mut clock, 3, Some(0), 0, 0, 2).unwrap();
        assert_eq!((dating.start_unix_ns, dating.instead_of_ns), (START, Some(START - FORTNIGHT)));
        assert_eq!(second(&mut clock, 4, Some(0), 0, 0, 3), None, "once");
        // A sound that had begun before the step, and is reported after it.
        assert_eq!(clock.moment(16_000 + 16).unwrap().unix_ns, START + SECOND + 1_000_000);
    }

    #[test]
    fn step_of_the_hub_alone_dates_a_node_without_the_time_again() {
        let mut clock = CaptureClock::default();
        second(&mut clock, 0, None, -FORTNIGHT, 0, 1);
        second(&mut clock, 1, None, 0, 0, 1);
        let dating = second(&mut clock, 2, None, 0, 0, 2).unwrap();
        assert_eq!((dating.start_unix_ns, dating.clock), (START, EventClock::Hub));
        assert_eq!((dating.instead_of_ns, dating.from_monotonic_ns), (Some(START - FORTNIGHT), 0));
    }

    #[test]
    fn what_a_node_heard_before_it_slept_stays_where_it_was() {
        let mut clock = CaptureClock::default();
        second(&mut clock, 0, Some(0), 0, 0, 1);
        let slept = 3_600 * SECOND;
        // The hub has asked before the sleep: to it the node seems to run on.
        let seen = NodeStart { steady_ns: 0, unix_ns: START, asked: 1 };
        assert_eq!(clock.take(&frames(SECOND.cast_unsigned(), Some(START + slept + SECOND)), 16_000, seen), None);
        let dating = second(&mut clock, 2, Some(0), 0, slept, 2).unwrap();
        assert_eq!((dating.start_unix_ns, dating.from_monotonic_ns), (START + slept, SECOND.cast_unsigned()));
        assert_eq!(second(&mut clock, 3, Some(0), 0, slept, 3), None);
        assert_eq!(clock.moment(0).unwrap().unix_ns, START);
        assert_eq!(clock.moment(16_000).unwrap().unix_ns, START + slept + SECOND);
        assert_eq!(clock.moment(48_000).unwrap().unix_ns, START + slept + 3 * SECOND);
    }

    #[test]
    fn drift_is_no_step() {
        let mut clock = CaptureClock::default();
        assert!(second(&mut clock, 0, Some(0), 0, 0, 1).is_some());
        // 50 parts per million for a month.
        for hour in 1..=720 {
            let drift = hour * 3_600 * SECOND / 20_000;
            assert_eq!(second(&mut clock, hour * 3_600, Some(drift), drift, 0, hour.cast_unsigned()), None, "{hour}");
        }
    }

    /// Something that happens to the clocks of one boot.
    #[derive(Debug, Clone)]
    enum Happening {
        NodeSteps(i64),
        HubSteps(i64),
        NodeForgets,
        HubAsks,
        Drift(i64),
        Event,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let step = || prop_oneof![-400 * SECOND..400 * SECOND, -400 * 86_400 * SECOND..400 * 86_400 * SECOND];
        prop_oneof![
            step().prop_map(Happening::NodeSteps),
            step().prop_map(Happening::HubSteps),
            Just(Happening::NodeForgets),
            Just(Happening::HubAsks),
            (-100_000_000..100_000_000_i64).prop_map(Happening::Drift),
            Just(Happening::Event),
            Just(Happening::Event),
        ]
    }

    /// The events of one boot as the store keeps them, with the store's rules.
    #[derive(Debug, Default)]
    struct Stored(Vec<(u64, Moment)>);

    impl Stored {
        fn apply(&mut self, dating: Dating) {
            for (_, event) in &mut self.0 {
                let monotonic_ns = event.monotonic_ns.cast_signed();
                if dating.clock == EventClock::Node && event.clock == EventClock::Hub {
                    event.unix_ns = dating.start_unix_ns + monotonic_ns;
                    event.clock = EventClock::Node;
                    continue;
                }
                let Some(old_ns) = dating.instead_of_ns else { continue };
                let step_ns = dating.start_unix_ns - old_ns;
                if (event.unix_ns - monotonic_ns).abs_diff(old_ns) <= step_ns.unsigned_abs() / 2 {
                    event.unix_ns += step_ns;
                    event.clock = dating.clock;
                }
            }
        }
    }

    proptest! {
        /// Whatever was stepped, however often: in the end, when both clocks are right and the node was asked, every
        /// event of the boot has its true time, so events are in order and as far apart as their samples.
        #[test]
        fn in_the_end_every_event_of_a_boot_is_dated_well(
            boots in prop::collection::vec(prop::collection::vec(happening(), 0..40), 1..4)
        ) {
            for happenings in boots {
                let (mut clock, mut stored) = (CaptureClock::default(), Stored::default());
                let (mut node, mut hub, mut asked) = (Some(0), 0, 1);
                let last = [Happening::NodeSteps(0), Happening::HubAsks, Happening::Event, Happening::HubAsks, Happening::Event];
                let count = happenings.len();
                for (at, happening) in happenings.into_iter().chain(last).enumerate() {
                    match happening {
                        Happening::NodeSteps(error) => node = Some(error),
                        Happening::HubSteps(error) => hub = error,
                        Happening::NodeForgets => node = None,
                        Happening::HubAsks => asked += 1,
                        Happening::Drift(more) => node = node.map(|error| error + more),
                        Happening::Event => {}
                    }
                    if at >= count {
                        (node, hub) = (Some(0), 0);
                    }
                    let now = i64::try_from(at).unwrap();
                    if let Some(dating) = second(&mut clock, now, node, hub, 0, asked) {
                        stored.apply(dating);
                    }
                    if matches!(happening, Happening::Event) {
                        let sample = now.cast_unsigned() * 16_000;
                        stored.0.push((sample, clock.moment(sample).unwrap()));
                    }
                }
                let start = clock.start.unwrap().unix_ns;
                prop_assert_eq!(start, START);
                for (sample, event) in stored.0 {
                    let true_ns = START + sample.cast_signed() * NS_A_SAMPLE;
                    prop_assert!(event.unix_ns.abs_diff(true_ns) <= 2 * STEP_NS, "{} {:?}", sample, event);
                }
            }
        }
    }

    #[test]
    fn anchors_are_bounded() {
        let mut clock = CaptureClock::default();
        for second in 0..100_000_u64 {
            clock.take(&frames(second * 1_000_000_000, None), second * 16_000, by_hub(0));
        }
        assert_eq!(clock.anchors.len(), ANCHORS);
    }
}
