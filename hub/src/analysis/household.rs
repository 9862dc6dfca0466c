//! What the owner's labels make of the context of one cat's sounds.
//!
//! There is no state but the labels: whoever needs a cat's answer learns it from them anew, which takes milliseconds and
//! always gives the same. So a restart changes nothing, and no copy can be out of date.

use sound::context::{ContextModel, Features, context_of};
use sound::detection::{Context, ContextLabel};
use sound::household::{CatClassifier, Example};

/// Labels of one cat that are learnt from: the latest ones. Older ones are kept and count for their own events alone. Learning
/// from so many takes some milliseconds.
pub const MOST_LABELS: usize = 100;

/// The context answers for one cat: by its own classifier once there are labels, by the general model until then.
#[derive(Debug, Clone, Default)]
pub struct Household {
    own: Option<CatClassifier>,
    labels: u32,
}

impl Household {
    /// Learns from a cat's labelled sounds, at most [`MOST_LABELS`], the latest first. `uncertain` teaches nothing. Computes for
    /// milliseconds: not for an async thread.
    pub fn learn(labelled: Vec<(Features, ContextLabel)>) -> Self {
        let general = ContextModel::shipped();
        let examples: Vec<Example> = labelled
            .into_iter()
            .take(MOST_LABELS)
            .filter_map(|(features, label)| {
                let context = match label {
                    ContextLabel::WaitingForFood => 0,
                    ContextLabel::Isolation => 1,
                    ContextLabel::Brushing => 2,
                    ContextLabel::Uncertain => return None,
                };
                Some(Example { general: general.logits(&features), features, context })
            })
            .collect();
        let own = (!examples.is_empty()).then(|| CatClassifier::train(general, &examples));
        Self { own, labels: examples.len() as u32 }
    }

    /// How many labels the answers rest on. 0: the general model answers.
    pub fn labels(&self) -> u32 {
        self.labels
    }

    /// In which context one of this cat's sounds was made.
    pub fn context(&self, features: &Features) -> Context {
        let general = ContextModel::shipped();
        let logits = general.logits(features);
        context_of(&self.own.as_ref().map_or(logits, |own| own.logits(general, features, &logits)))
    }
}

/// The name of the model that gave an answer resting on so many labels, for the API.
pub fn model_name(labels: u32) -> &'static str {
    if labels == 0 { "general" } else { "household" }
}

#[cfg(test)]
pub(crate) mod tests {
    use sound::model::EMBEDDING;
    use sound::prosody::PROSODY;

    use super::*;

    /// A made-up sound: alike when `voice` is, and otherwise not; `take` changes it a little.
    pub(crate) fn features(voice: u32, take: u32) -> Features {
        let wave = |n: usize| {
            (voice as f32 * 2.3 + n as f32 * (1.0 + voice as f32)).sin() + 0.01 * (take as f32 + n as f32).cos()
        };
        Features { prosody: [0.25; PROSODY], embedding: std::array::from_fn::<f32, EMBEDDING, _>(wave) }
    }

    #[test]
    fn labels_teach_what_the_general_model_cannot_know() {
        let none = Household::learn(vec![]);
        assert_eq!(none.labels(), 0);
        let labels = |of: &Household| [1, 2].map(|voice| of.context(&features(voice, 9)).label);
        let wanted = [ContextLabel::Brushing, ContextLabel::WaitingForFood];
        assert_ne!(labels(&none), wanted, "there is nothing to teach");
        let labelled = (0..6).map(|take| match take % 2 {
            0 => (features(1, take), ContextLabel::Brushing),
            _ => (features(2, take), ContextLabel::WaitingForFood),
        });
        let taught = Household::learn(labelled.collect());
        assert_eq!(taught.labels(), 6);
        assert_eq!(labels(&taught), wanted);
    }

    #[test]
    fn only_the_latest_labels_are_learnt_from() {
        let latest = || (0..MOST_LABELS as u32).map(|take| (features(1, take), ContextLabel::Brushing));
        let older = (0..50).map(|take| (features(1, take), ContextLabel::Isolation));
        let (bounded, alone) =
            (Household::learn(latest().chain(older).collect()), Household::learn(latest().collect()));
        assert_eq!(bounded.labels() as usize, MOST_LABELS);
        assert_eq!(bounded.context(&features(1, 7)), alone.context(&features(1, 7)));
    }
}
