//! When the samples after a break were captured, if the clock must tell.

/// How long the first samples after a break are held, in nanoseconds. A sound server that wakes up hands over in one
/// burst what it held back; the burst is over by then.
const SETTLE_NS: u64 = 100_000_000;

/// Estimates when the first sample after a break was captured. The first arrival alone would not do: samples can arrive
/// late but never early, so the arrival that puts the first sample earliest is the right one.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// When the first samples arrived, and when the first of them was captured by the arrivals so far.
    first: Option<(u64, u64)>,
}

impl Hold {
    /// Samples arrived at `now_ns`. All since the break last `held_ns`.
    pub(super) fn take(&mut self, now_ns: u64, held_ns: u64) {
        let begin_ns = now_ns.saturating_sub(held_ns);
        let (arrived_ns, before_ns) = self.first.unwrap_or((now_ns, begin_ns));
        self.first = Some((arrived_ns, before_ns.min(begin_ns)));
    }

    /// Whether the samples must still be held.
    pub(super) fn lasts(&self, now_ns: u64) -> bool {
        self.first.is_some_and(|(arrived_ns, _)| now_ns.saturating_sub(arrived_ns) < SETTLE_NS)
    }

    /// When the newest sample was captured, if all since the break last `held_ns`.
    pub(super) fn end_ns(&self, held_ns: u64) -> u64 {
        self.first.map_or(0, |(_, begin_ns)| begin_ns + held_ns)
    }
}
