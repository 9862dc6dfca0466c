//! The names of nodes: a node that is known under several names is looked after under one of them.

use std::collections::HashMap;

use daemon::identity::NodeId;
use hub_nodes::{Node, Nodes};

use crate::condition::{Condition, NodeHealth};

/// Reduces nodes that are known under several names to one name each, for the owners and for the log. If a discovered
/// name is away and the node answers under another name, the node is up. If it answers under none, the first name
/// represents it. The id, or else the last boot id, shows which names belong to the same node. A configured name
/// without an id always represents itself.
pub(crate) fn under_one_name(known: Vec<(Node, NodeHealth)>) -> Vec<(Node, NodeHealth)> {
    let names: Vec<Name> = known.iter().map(|(node, health)| Name::of(node, health.condition)).collect();
    let looked_after =
        known.into_iter().enumerate().filter_map(|(place, (node, health))| match place_of(&names, place) {
            Place::Own => Some((node, health)),
            Place::Moved => Some((node, NodeHealth { condition: Condition::Ok, detail: String::new(), ..health })),
            Place::Spare => None,
        });
    looked_after.collect()
}

/// The names that represent nodes in this round, each with the other names of its node.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<String, Vec<String>>);

impl Names {
    pub(crate) fn of(nodes: &Nodes, known: &[(Node, NodeHealth)]) -> Self {
        let all: Vec<(Node, Name)> = nodes.iter().map(|node| (node.clone(), Name::of(&node, Condition::Ok))).collect();
        let others = |node: &Node| {
            let name = Name::of(node, Condition::Ok);
            let others = all.iter().filter(|(other, theirs)| other.url() != node.url() && theirs.is_of_node_of(&name));
            others.map(|(other, _)| other.url().to_owned()).collect()
        };
        Self(known.iter().map(|(node, _)| (node.url().to_owned(), others(node))).collect())
    }

    /// What was noted of a node under a name that represents it no longer goes on under the name that does. Forgets
    /// what was noted under names that represent nothing. Keeps no more entries than there are nodes.
    pub(crate) fn follow<T>(&self, noted: &mut HashMap<String, T>) {
        for (name, others) in &self.0 {
            let before = others.iter().find(|other| !self.0.contains_key(*other) && noted.contains_key(*other));
            if let Some(before) = before.filter(|_| !noted.contains_key(name))
                && let Some(note) = noted.remove(before)
            {
                noted.insert(name.clone(), note);
            }
        }
        noted.retain(|name, _| self.0.contains_key(name));
    }
}

/// A name of a node, and the condition of the node under that name.
#[derive(Debug, Clone, Copy)]
struct Name {
    /// The last id that was proved under this name. `None`: none was.
    id: Option<NodeId>,
    /// The last boot id under this name. `None`: there never was one.
    boot_id: Option<u64>,
    is_discovered: bool,
    condition: Condition,
}

impl Name {
    fn of(node: &Node, condition: Condition) -> Self {
        // 0: the node has no boot ids.
        let boot_id = node.description().map(|described| described.boot_id).filter(|id| *id != 0);
        Self { id: node.id(), boot_id, is_discovered: node.is_discovered(), condition }
    }

    /// Whether both are names of one node.
    fn is_of_node_of(&self, other: &Self) -> bool {
        match (self.id, other.id) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => self.boot_id.is_some() && self.boot_id == other.boot_id,
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The node in its condition under this name.
    Own,
    /// The node, which is up under another name.
    Moved,
    /// Nothing: another name represents the node.
    Spare,
}

fn place_of(names: &[Name], place: usize) -> Place {
    let name = names[place];
    if name.condition != Condition::Away || !(name.is_discovered || name.id.is_some()) {
        return Place::Own;
    }
    let others = || names.iter().enumerate().filter(|(at, other)| *at != place && name.is_of_node_of(other));
    if others().any(|(_, other)| other.condition == Condition::Ok) {
        return Place::Moved;
    }
    if others().any(|(at, other)| other.condition != Condition::Away || at < place) { Place::Spare } else { Place::Own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_of_a_node_follows_it_to_its_other_name() {
        let names = |known: &[(&str, &[&str])]| {
            let owned = |others: &[&str]| others.iter().map(|other| (*other).to_owned()).collect();
            Names(known.iter().map(|(name, others)| ((*name).to_owned(), owned(others))).collect())
        };
        let mut noted = HashMap::from([("configured".to_owned(), 1), ("gone".to_owned(), 2)]);
        names(&[("configured", &["found"]), ("another", &[])]).follow(&mut noted);
        assert_eq!(noted, HashMap::from([("configured".to_owned(), 1)]));
        // Both names represent the node, each in its own condition.
        names(&[("configured", &["found"]), ("found", &["configured"])]).follow(&mut noted);
        assert_eq!(noted, HashMap::from([("configured".to_owned(), 1)]));
        // It is away under the one name and deaf under the other, and then the other way round.
        names(&[("found", &["configured"])]).follow(&mut noted);
        assert_eq!(noted, HashMap::from([("found".to_owned(), 1)]));
        names(&[("configured", &["found"])]).follow(&mut noted);
        assert_eq!(noted, HashMap::from([("configured".to_owned(), 1)]));
    }

    #[test]
    fn node_with_two_names_is_looked_after_under_one() {
        use Condition::{Away, Ok, Silent};
        use Place::*;
        let places = |names: &[(u64, bool, Condition)]| {
            let known = |(id, is_discovered, condition)| Name {
                id: None,
                boot_id: (id != 0).then_some(id),
                is_discovered,
                condition,
            };
            let names: Vec<Name> = names.iter().copied().map(known).collect();
            (0..names.len()).map(|place| place_of(&names, place)).collect::<Vec<_>>()
        };
        // Away under both names; moved; moved and in trouble there; two nodes; no boot ids.
        assert_eq!(places(&[(7, true, Away), (7, true, Away)]), [Own, Spare]);
        assert_eq!(places(&[(7, true, Away), (7, true, Ok)]), [Moved, Own]);
        assert_eq!(places(&[(7, true, Away), (7, true, Silent)]), [Spare, Own]);
        assert_eq!(places(&[(7, true, Away), (8, true, Ok)]), [Own, Own]);
        assert_eq!(places(&[(0, true, Away), (0, true, Away), (0, true, Ok)]), [Own, Own, Own]);
        // A configured name represents itself, whoever answers under other names.
        assert_eq!(places(&[(7, false, Away), (7, false, Away), (7, true, Ok)]), [Own, Own, Own]);
        assert_eq!(places(&[(7, false, Ok), (7, true, Away)]), [Own, Moved]);
        // With an id, a configured name is one of the node's names too, whatever its boot.
        let named = |key: &[u8], boot_id, condition| Name {
            id: Some(NodeId::of_spki(key)),
            boot_id: Some(boot_id),
            is_discovered: false,
            condition,
        };
        let names = [named(b"a", 7, Away), named(b"a", 8, Ok), named(b"b", 8, Away)];
        assert_eq!((0..3).map(|place| place_of(&names, place)).collect::<Vec<_>>(), [Moved, Own, Own]);
    }
}
