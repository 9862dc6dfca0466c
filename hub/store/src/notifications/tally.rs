//! Counts notifications for a digest, within bounds.

use std::collections::BTreeMap;

use super::subject::Subject;

/// Most animals that a digest counts one by one: those with the most notifications. The others are counted together.
pub const MOST_ANIMALS: usize = 20;

/// Most animals while counting. Anybody can call `/cat/NAME` with any name. Notifications about further animals are
/// counted together.
const MOST_COUNTED: usize = 1_000;

/// Counts of notifications.
#[derive(Debug, Default)]
pub(super) struct Tally {
    span: Option<(i64, i64)>,
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    further: u64,
}

impl Tally {
    /// Counts a notification: its subject as JSON, and when it was stored.
    pub(super) fn add(&mut self, subject: &str, stored_at_ns: i64) {
        let (from_ns, to_ns) = self.span.unwrap_or((stored_at_ns, stored_at_ns));
        self.span = Some((from_ns.min(stored_at_ns), to_ns.max(stored_at_ns)));
        // A later version may have stored a subject that this one cannot read. It counts as `other`.
        let (animal, what) = match serde_json::from_str(subject) {
            Ok(Subject::Call { animal, .. }) => (animal, "call".to_owned()),
            Ok(Subject::Event { cat, context, .. }) => (cat, context),
            Ok(Subject::Node { cat, condition, .. }) => (cat, format!("node_{condition}")),
            Ok(Subject::Digest { .. }) | Err(_) => (String::new(), "other".to_owned()),
        };
        if self.counts.len() < MOST_COUNTED || self.counts.contains_key(&animal) {
            *self.counts.entry(animal).or_default().entry(what).or_default() += 1;
        } else {
            self.further += 1;
        }
    }

    /// The digest. `None`: nothing was counted.
    pub(super) fn digest(self, while_down: bool) -> Option<Subject> {
        let (from_ns, to_ns) = self.span?;
        let total = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let mut animals: Vec<_> = self.counts.into_iter().collect();
        animals.sort_by_key(|(_, counts)| std::cmp::Reverse(total(counts)));
        let others = animals.split_off(animals.len().min(MOST_ANIMALS));
        let further = self.further + others.iter().map(|(_, counts)| total(counts)).sum::<u64>();
        Some(Subject::Digest { from_ns, to_ns, counts: animals.into_iter().collect(), further, while_down })
    }
}
