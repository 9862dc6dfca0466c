//! Boots of nodes that are over. When the hub's wall clock turns out to have been wrong, their events are dated again.

use std::collections::VecDeque;

use crate::clock::{Dating, Start};

/// Boots that are remembered: the ones that ended last.
const MOST_BOOTS: usize = 256;

/// Boots that ended in this run of the hub.
#[derive(Debug, Default)]
pub(super) struct PastBoots(VecDeque<PastBoot>);

#[derive(Debug)]
struct PastBoot {
    node: String,
    boot_id: u64,
    start: Start,
}

impl PastBoots {
    /// Remembers a boot of a node, by the node's URL, and forgets the oldest boot if there are [`MOST_BOOTS`].
    pub(super) fn end(&mut self, node: &str, boot_id: u64, start: Start) {
        self.0.retain(|boot| (boot.node.as_str(), boot.boot_id) != (node, boot_id));
        if self.0.len() == MOST_BOOTS {
            self.0.pop_front();
        }
        self.0.push_back(PastBoot { node: node.to_owned(), boot_id, start });
    }

    /// The boots that have to be dated again: URL, boot id and how. `offset_ns`: the hub's wall clock less its steady
    /// clock. Each boot is handed out once for each step of the hub's clock.
    pub(super) fn date_again(&mut self, offset_ns: i64) -> Vec<(String, u64, Dating)> {
        let boots = self.0.iter_mut();
        boots.filter_map(|boot| Some((boot.node.clone(), boot.boot_id, boot.start.date_again(offset_ns)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use hub_store::events::EventClock;

    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;

    #[test]
    fn boots_that_are_over_are_dated_again_after_a_step_of_the_hubs_clock() {
        let mut boots = PastBoots::default();
        // The hub's wall clock is 14 days behind: 86 days instead of 100, less 1,000 s of the steady clock.
        let (wrong, right) = (86 * DAY, 100 * DAY);
        let start =
            |clock, error: i64| Start { unix_ns: 1_000 * SECOND + wrong + error, clock, steady_ns: 1_000 * SECOND };
        boots.end("http://kitchen:1", 7, start(EventClock::Hub, 0));
        boots.end("http://hall:1", 8, start(EventClock::Node, 600 * SECOND));
        // This node knew the time.
        boots.end("http://attic:1", 9, Start { unix_ns: 1_600 * SECOND + right, ..start(EventClock::Node, 0) });
        boots.end("http://attic:1", 9, Start { unix_ns: 1_600 * SECOND + right, ..start(EventClock::Node, 0) });
        assert_eq!(boots.0.len(), 3);
        boots.0.truncate(2);
        assert_eq!(boots.date_again(wrong + SECOND), [], "drift is no step");
        boots.end("http://attic:1", 9, Start { unix_ns: 1_600 * SECOND + right, ..start(EventClock::Node, 0) });
        let again = boots.date_again(right);
        let found: Vec<_> = again.iter().map(|(node, boot_id, _)| (node.as_str(), *boot_id)).collect();
        assert_eq!(found, [("http://kitchen:1", 7), ("http://hall:1", 8)]);
        for ((_, _, dating), error) in again.iter().zip([0, 600 * SECOND]) {
            assert_eq!(dating.start_unix_ns, 1_000 * SECOND + right);
            assert_eq!(
                (dating.instead_of_ns, dating.clock),
                (Some(start(EventClock::Hub, error).unix_ns), EventClock::Hub)
            );
        }
        assert_eq!(boots.date_again(right), [], "once");
        for boot_id in 0..1_000 {
            boots.end("http://kitchen:1", boot_id, start(EventClock::Hub, 0));
        }
        assert_eq!(boots.0.len(), MOST_BOOTS);
    }
}
