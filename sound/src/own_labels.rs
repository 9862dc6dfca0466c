//! Suggests labels of the owner's own, such as "let me out" or "hairball", for sounds like those that have them.
//!
//! Sounds are compared by the cosine of the angle between their embeddings, both taken as differences from the
//! embedding of the mean meow. A sound is like a label by how much its second nearest sound with the label is nearer
//! than its nearest sound without it. So one label that was set by mistake suggests nothing, and a sound between two
//! labels gets neither. A logistic curve makes a probability of this margin.
//!
//! A wrong suggestion costs more than a missing one, so only a high probability counts. `sound/examples/own_labels.rs`
//! simulates owners, and docs/MODEL.md has the figures: labels for sounds of another voice or kind are found again,
//! labels for one more context of the same meow hardly ever.
//!
//! A [`Suggester`] has no state but the labels: whoever needs one learns it from them.

use std::collections::BTreeMap;

use crate::context::{ContextModel, Features};
use crate::dot::dot;
use crate::model::EMBEDDING;

/// Labelled sounds that a label needs before it is suggested.
pub const FEWEST_OF_A_LABEL: usize = 5;

/// Sounds with other labels, of the owner's own or of the hub, that there must be before a label is suggested. Without
/// them, every sound is like the label.
pub const FEWEST_OTHERS: usize = 5;

/// How many sounds of each label are learnt from: the latest ones.
pub const MOST_OF_A_LABEL: usize = 20;

/// How many sounds with labels of the hub are learnt from: the latest ones. With 32 labels of the owner's own, these
/// are 740 sounds in all, 0.4 MB, and to judge a sound takes 100,000 multiplications.
pub const MOST_OTHERS: usize = 100;

/// A label is suggested from this probability on. It is the lowest of 0.5, 0.6 and so on at which nine of ten
/// suggestions were right in all rows of the simulation, whichever cat was left out of the choice.
pub const SUGGESTED_FROM: f32 = 0.8;

/// The probability is the logistic function of `SLOPE * margin + OFFSET`. They were fitted to the simulation, for a
/// label that one sound in ten deserves, and rounded.
const SLOPE: f32 = 6.0;
const OFFSET: f32 = -1.8;

/// The cosine between a sound and the second nearest sound with the label must be at least this. Otherwise a sound that
/// is unlike all labelled ones could get the label that it is least unlike.
const ALIKE_FROM: f32 = 0.5;

/// What the owner's own labels say about sounds of one cat.
pub struct Suggester {
    general: &'static ContextModel,
    sounds: Vec<Sound>,
    /// The labels that have enough sounds.
    learnt: Vec<i64>,
}

/// A labelled sound.
struct Sound {
    direction: [f32; EMBEDDING],
    /// Number of the owner's own label. `None`: a label of the hub.
    label: Option<i64>,
}

impl Default for Suggester {
    /// Suggests nothing.
    fn default() -> Self {
        Self { general: ContextModel::shipped(), sounds: Vec::new(), learnt: Vec::new() }
    }
}

impl Suggester {
    /// Learns from the labelled sounds of one cat, the latest label first. With each sound comes the number of the
    /// owner's own label, or `None` for a label of the hub. Of each label it uses [`MOST_OF_A_LABEL`] sounds at most,
    /// of all labels of the hub [`MOST_OTHERS`].
    #[must_use]
    pub fn learn<'a>(labelled: impl IntoIterator<Item = (&'a Features, Option<i64>)>) -> Self {
        let mut taught = Self::default();
        let mut count: BTreeMap<Option<i64>, usize> = BTreeMap::new();
        for (features, label) in labelled {
            let used = count.entry(label).or_default();
            if *used < label.map_or(MOST_OTHERS, |_| MOST_OF_A_LABEL) {
                *used += 1;
                taught.sounds.push(Sound { direction: taught.general.direction(&features.embedding), label });
            }
        }
        let all = taught.sounds.len();
        let is_enough = |used: usize| used >= FEWEST_OF_A_LABEL && all - used >= FEWEST_OTHERS;
        taught.learnt = count.into_iter().filter_map(|(label, used)| label.filter(|_| is_enough(used))).collect();
        taught
    }

    /// Whether no label has enough sounds, so that nothing is suggested.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.learnt.is_empty()
    }

    /// Whether the label with this number has enough sounds.
    #[must_use]
    pub fn knows(&self, label: i64) -> bool {
        self.learnt.contains(&label)
    }

    /// The label that a sound probably deserves, and its probability, 0 to 1. `None`: none is probable enough, or the
    /// one that would be has too few sounds.
    #[must_use]
    pub fn suggests(&self, features: &Features) -> Option<(i64, f32)> {
        self.likeliest(features).filter(|(_, probability)| *probability >= SUGGESTED_FROM)
    }

    /// The likeliest label of the owner's own and its probability, however low. `None`: the sound is most like one that
    /// has another label, or the label has too few sounds.
    #[must_use]
    pub fn likeliest(&self, features: &Features) -> Option<(i64, f32)> {
        if self.is_empty() {
            return None;
        }
        let direction = self.general.direction(&features.embedding);
        let likeness: Vec<f32> = self.sounds.iter().map(|sound| dot(&sound.direction, &direction)).collect();
        let nearest = (0..likeness.len()).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b]))?;
        let label = self.sounds[nearest].label.filter(|label| self.knows(*label))?;
        let (mut second, mut other) = (f32::MIN, f32::MIN);
        for (place, (sound, likeness)) in self.sounds.iter().zip(likeness).enumerate() {
            if sound.label != Some(label) {
                other = other.max(likeness);
            } else if place != nearest {
                second = second.max(likeness);
            }
        }
        let probability = 1.0 / (1.0 + (-(SLOPE * (second - other) + OFFSET)).exp());
        (second >= ALIKE_FROM).then_some((label, probability))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::distinct;

    const OUT: i64 = 7;
    const HAIRBALL: i64 = 9;

    /// Takes of a voice with a label.
    fn taught(voice: u32, label: Option<i64>, takes: usize) -> Vec<(Features, Option<i64>)> {
        (0..takes as u32).map(|take| (distinct(voice, take), label)).collect()
    }

    fn learn(labelled: &[Vec<(Features, Option<i64>)>]) -> Suggester {
        Suggester::learn(labelled.iter().flatten().map(|(features, label)| (features, *label)))
    }

    fn suggested(by: &Suggester, voice: u32) -> Option<i64> {
        by.suggests(&distinct(voice, 90)).map(|(label, _)| label)
    }

    #[test]
    fn label_needs_enough_sounds_and_enough_others() {
        for (own, others, is_enough) in [(0, 20, false), (4, 20, false), (20, 4, false), (20, 0, false), (5, 5, true)] {
            let by = learn(&[taught(1, Some(OUT), own), taught(2, None, others)]);
            assert_eq!((by.is_empty(), by.knows(OUT)), (!is_enough, is_enough), "{own} and {others}");
            assert_eq!(suggested(&by, 1), is_enough.then_some(OUT), "{own} and {others}");
            assert_eq!(suggested(&by, 2), None);
        }
    }

    #[test]
    fn labels_of_ones_own_are_others_to_each_other() {
        let by = learn(&[taught(1, Some(OUT), 5), taught(2, Some(HAIRBALL), 5)]);
        assert_eq!([1, 2].map(|voice| suggested(&by, voice)), [Some(OUT), Some(HAIRBALL)]);
        let few = learn(&[taught(1, Some(OUT), 5), taught(2, Some(HAIRBALL), 4), taught(3, None, 1)]);
        assert_eq!([1, 2].map(|voice| suggested(&few, voice)), [Some(OUT), None]);
    }

    #[test]
    fn what_is_like_no_label_gets_none() {
        let by = learn(&[taught(1, Some(OUT), 9), taught(2, None, 9)]);
        for voice in 3..9 {
            assert_eq!(suggested(&by, voice), None, "voice {voice}");
        }
    }

    #[test]
    fn sounds_alike_with_and_without_the_label_get_none() {
        let by = learn(&[taught(1, Some(OUT), 9), taught(1, None, 9)]);
        assert_eq!(suggested(&by, 1), None);
        // A single sound with the label, among others, may have it by mistake.
        let slip = learn(&[taught(1, Some(OUT), 9), taught(2, Some(OUT), 1), taught(3, None, 9)]);
        assert_eq!([1, 2].map(|voice| suggested(&slip, voice)), [Some(OUT), None]);
    }

    #[test]
    fn only_the_latest_sounds_are_learnt_from() {
        let latest = [taught(1, Some(OUT), MOST_OF_A_LABEL), taught(2, None, MOST_OTHERS)];
        let older = [taught(3, Some(OUT), 5), taught(4, None, 5)];
        let by = learn(&[&latest[..], &older[..]].concat());
        assert_eq!([1, 3].map(|voice| suggested(&by, voice)), [Some(OUT), None]);
        assert_eq!(by.sounds.len(), MOST_OF_A_LABEL + MOST_OTHERS);
    }
}
