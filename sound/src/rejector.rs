//! Recognises sounds like those that the owner labelled "not a cat": a neighbour's baby, a squeaky door, the
//! television.
//!
//! All embeddings are taken as differences from the embedding of the mean meow. Two sounds are alike by the cosine of
//! the angle between their differences. A sound is rejected if it is like two taught false alarms or more, and lies
//! well beyond the middle between the mean meow and the mean of these false alarms. A sound that is at least as much
//! like a cat of the owner's as like any taught false alarm is never rejected.
//!
//! A [`Rejector`] has no state but the labels. Whoever needs one learns it from them, so undoing a label undoes all
//! that it did, and [`Rejector::rejects`] names the labels behind each answer. It changes no score and deletes nothing:
//! the caller decides what becomes of a rejected sound.

use crate::context::{ContextModel, Features};
use crate::dot::{dot, length};
use crate::model::EMBEDDING;

/// How many labels of a kind are learnt from: the latest false alarms, and the latest cats. A rejector of this size
/// takes 0.1 MB and judges a sound with 50,000 multiplications.
pub const MOST_EXAMPLES: usize = 100;

/// A sound is like a false alarm if the cosine of the angle between them is at least this. The simulation in
/// `sound/examples/rejector.rs` chose it together with [`REJECTED_FROM`].
const ALIKE_FROM: f32 = 0.3;

/// A sound needs this many false alarms that are like it, so that one label that was set by mistake hides nothing.
const FEWEST_ALIKE: usize = 2;

/// A sound is rejected from this share of the way from the mean meow to the mean of the false alarms that are like it.
/// From 0.5 on it is nearer to these false alarms than to the mean meow.
const REJECTED_FROM: f32 = 0.6;

/// What the owner's labels say about the sounds that a node hears and that are no cats.
#[derive(Clone)]
pub struct Rejector {
    general: &'static ContextModel,
    false_alarms: Vec<Difference>,
    cats: Vec<Difference>,
}

/// How the embedding of a sound differs from that of the mean meow.
#[derive(Debug, Clone)]
struct Difference {
    numbers: [f32; EMBEDDING],
    length: f32,
}

impl Difference {
    fn of(general: &ContextModel, features: &Features) -> Self {
        let numbers = general.difference(&features.embedding);
        Self { numbers, length: length(&numbers) }
    }

    /// Cosine of the angle between two differences, -1 to 1. 0 if one of them has no direction.
    fn likeness(&self, other: &Self) -> f32 {
        let lengths = self.length * other.length;
        if lengths > 0.0 { dot(&self.numbers, &other.numbers) / lengths } else { 0.0 }
    }
}

impl Rejector {
    /// Learns from sounds of one node that the owner labelled as no cats, and from those that the owner labelled as
    /// cats, each list with the latest label first. Learns from [`MOST_EXAMPLES`] of each at most.
    #[must_use]
    pub fn learn<'a>(
        false_alarms: impl IntoIterator<Item = &'a Features>,
        cats: impl IntoIterator<Item = &'a Features>,
    ) -> Self {
        let general = ContextModel::shipped();
        let differences = |sounds: &mut dyn Iterator<Item = &'a Features>| {
            sounds.take(MOST_EXAMPLES).map(|features| Difference::of(general, features)).collect()
        };
        let false_alarms = differences(&mut false_alarms.into_iter());
        Self { general, false_alarms, cats: differences(&mut cats.into_iter()) }
    }

    /// Why a sound is rejected: the places, in the list that was learnt from, of the false alarms that it is like.
    /// `None`: it is not rejected.
    #[must_use]
    pub fn rejects(&self, features: &Features) -> Option<Vec<usize>> {
        let sound = Difference::of(self.general, features);
        let likeness: Vec<f32> = self.false_alarms.iter().map(|one| sound.likeness(one)).collect();
        let alike: Vec<usize> = (0..likeness.len()).filter(|&place| likeness[place] >= ALIKE_FROM).collect();
        if alike.len() < FEWEST_ALIKE {
            return None;
        }
        let closest = likeness.iter().copied().fold(f32::MIN, f32::max);
        if self.cats.iter().any(|cat| sound.likeness(cat) >= closest) {
            return None;
        }
        let mut middle = [0.0; EMBEDDING];
        for &place in &alike {
            for (sum, number) in middle.iter_mut().zip(&self.false_alarms[place].numbers) {
                *sum += number / alike.len() as f32;
            }
        }
        // Compared without a division, so that a middle at the mean meow rejects nothing.
        let whole_way = dot(&middle, &middle);
        let rejected = whole_way > 0.0 && dot(&sound.numbers, &middle) >= REJECTED_FROM * whole_way;
        rejected.then_some(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prosody::PROSODY;
    use crate::testing::features;

    /// The sound whose embedding differs from that of the mean meow by these numbers.
    fn differing(by: impl Fn(usize) -> f32) -> Features {
        let mean = ContextModel::shipped().difference(&[0.0; EMBEDDING]).map(|number| -number);
        Features { prosody: [0.0; PROSODY], embedding: std::array::from_fn(|n| mean[n] + by(n)) }
    }

    /// A made-up sound: unlike the mean meow, and unlike other voices.
    fn sound_of(voice: u32, take: u32) -> Features {
        let made = features(voice, take).embedding;
        differing(|n| made[n])
    }

    /// Some takes of a made-up sound.
    fn takes(voice: u32, takes: std::ops::Range<u32>) -> Vec<Features> {
        takes.map(|take| sound_of(voice, take)).collect()
    }

    const DOOR: u32 = 1;
    const BABY: u32 = 2;
    const CAT: u32 = 3;

    #[test]
    fn acts_from_the_second_label_on_and_names_the_labels_behind_it() {
        let door = takes(DOOR, 0..3);
        for (labels, reason) in [(0, None), (1, None), (2, Some(vec![0, 1])), (3, Some(vec![0, 1, 2]))] {
            let rejector = Rejector::learn(&door[..labels], &[]);
            assert_eq!(rejector.rejects(&sound_of(DOOR, 50)), reason, "{labels} labels");
        }
    }

    #[test]
    fn what_is_unlike_the_labels_is_never_rejected() {
        let rejector = Rejector::learn(&takes(DOOR, 0..5), &[]);
        for voice in [BABY, CAT, 4, 5, 6] {
            assert_eq!(rejector.rejects(&sound_of(voice, 9)), None, "voice {voice}");
        }
    }

    #[test]
    fn each_kind_that_was_taught_is_rejected_for_its_own_labels() {
        let both = [takes(DOOR, 0..2), takes(BABY, 0..2)].concat();
        let rejector = Rejector::learn(&both, &[]);
        assert_eq!(rejector.rejects(&sound_of(DOOR, 9)), Some(vec![0, 1]));
        assert_eq!(rejector.rejects(&sound_of(BABY, 9)), Some(vec![2, 3]));
    }

    #[test]
    fn a_cat_of_the_owner_that_sounds_like_a_false_alarm_is_kept() {
        // The cat and the door share a voice; the cat's takes differ from the door's by a small, steady amount.
        let like_door = |take: u32| {
            let (door, cat) = (features(DOOR, take).embedding, features(CAT, take).embedding);
            differing(|n| door[n] + 0.3 * cat[n])
        };
        let door = takes(DOOR, 0..5);
        assert!(Rejector::learn(&door, &[]).rejects(&like_door(9)).is_some(), "nothing says that this is a cat");
        let rejector = Rejector::learn(&door, &[like_door(1)]);
        assert_eq!(rejector.rejects(&like_door(9)), None);
        assert!(rejector.rejects(&sound_of(DOOR, 9)).is_some(), "the door is rejected as before");
    }

    #[test]
    fn a_sound_on_the_side_of_the_mean_meow_is_kept() {
        let towards = |share: f32| differing(|n| share * (n as f32 + 1.0).sin());
        let rejector = Rejector::learn(&[towards(1.0), towards(1.0)], &[]);
        assert!(rejector.rejects(&towards(0.65)).is_some());
        assert_eq!(rejector.rejects(&towards(0.55)), None);
        assert_eq!(rejector.rejects(&towards(0.0)), None, "the mean meow");
    }

    #[test]
    fn only_the_latest_labels_are_learnt_from() {
        let latest = takes(BABY, 0..MOST_EXAMPLES as u32);
        let older = takes(DOOR, 0..5);
        let rejector = Rejector::learn(latest.iter().chain(&older), &[]);
        assert_eq!(rejector.rejects(&sound_of(DOOR, 9)), None);
        assert_eq!(rejector.rejects(&sound_of(BABY, 200)).map(|reason| reason.len()), Some(MOST_EXAMPLES));
    }
}
