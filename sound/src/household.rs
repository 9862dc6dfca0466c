//! A cat's own context classifier, which learns from the owner's labels.
//!
//! It is a multinomial logistic regression that corrects the general classifier ([`crate::context`]), with a penalty on
//! the size of the correction. Without labels it gives the general answer; the more labels there are, the more it
//! follows the cat. Training takes milliseconds and is deterministic, so only the labels need storing.
//! [`Household`] is what the rest of the system asks: it picks the labels to learn from, and gives the answer of the
//! general model while there are none. It has no state but the labels: whoever needs a cat's answer learns it from
//! them, so a restart changes nothing and no copy can be out of date.

use crate::context::{CONTEXTS, ContextLogits, ContextModel, Features, context_of, softmax};
use crate::detection::{Context, ContextLabel};
use crate::dot::dot;
use crate::model::EMBEDDING;
use crate::prosody::PROSODY;

/// Inputs of the regression: a constant (for how often each context occurs), the prosody and the embedding.
const FEATURES: usize = 1 + PROSODY + EMBEDDING;

/// Factor on each group of inputs. A larger factor makes the penalty matter less for that group. Chosen by the
/// simulation of owners in docs/MODEL.md.
const CONSTANT_WEIGHT: f32 = 0.3;
const PROSODY_WEIGHT: f32 = 0.1;
const EMBEDDING_WEIGHT: f32 = 2.0;

/// Strength of the penalty on the squared weights (L2), in units of one label.
const PENALTY: f32 = 0.1;

/// Steps of gradient descent. To stop before it converges also keeps the classifier close to the general one.
const ITERATIONS: usize = 200;

/// A vocalisation with the owner's label.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The features of the vocalisation.
    pub features: Features,
    /// Its logits by the general classifier, from [`ContextModel::logits`].
    pub general: ContextLogits,
    /// The label, as an index into [`ContextLogits`]: 0 waiting for food, 1 isolation, 2 brushing.
    pub context: usize,
}

/// The context classifier of one cat.
#[derive(Debug, Clone, PartialEq)]
pub struct CatClassifier {
    /// Weights of the correction: one row a context.
    weights: [[f32; FEATURES]; CONTEXTS],
}

impl CatClassifier {
    /// Trains on all labels of one cat. Labels whose context is out of range are ignored.
    #[must_use]
    pub fn train(general: &ContextModel, examples: &[Example]) -> Self {
        let mut weights = [[0.0; FEATURES]; CONTEXTS];
        let known: Vec<([f32; FEATURES], &Example)> = examples
            .iter()
            .filter(|example| example.context < CONTEXTS)
            .map(|example| (inputs(general, &example.features), example))
            .collect();
        // Upper bound of the curvature of the loss (D. Böhning, "Multinomial logistic regression algorithm", 1992):
        // half the squared inputs. A step of 1 / bound never overshoots.
        let bound: f32 = PENALTY + known.iter().map(|(x, _)| 0.5 * dot(x, x)).sum::<f32>();
        for _ in 0..ITERATIONS {
            let mut slopes = weights.map(|row| row.map(|weight| PENALTY * weight));
            for (x, example) in &known {
                let probabilities = softmax(&logits(&weights, x, &example.general));
                for (context, (slope, probability)) in slopes.iter_mut().zip(probabilities).enumerate() {
                    let error = probability - if context == example.context { 1.0 } else { 0.0 };
                    for (slope, value) in slope.iter_mut().zip(x) {
                        *slope += error * value;
                    }
                }
            }
            for (weight, slope) in weights.as_flattened_mut().iter_mut().zip(slopes.as_flattened()) {
                *weight -= slope / bound;
            }
        }
        Self { weights }
    }

    /// Logits of the contexts of one vocalisation of this cat. `model` is the general classifier, `general` its
    /// [`ContextModel::logits`] for the vocalisation.
    #[must_use]
    pub fn logits(&self, model: &ContextModel, features: &Features, general: &ContextLogits) -> ContextLogits {
        logits(&self.weights, &inputs(model, features), general)
    }
}

fn logits(weights: &[[f32; FEATURES]; CONTEXTS], x: &[f32; FEATURES], general: &ContextLogits) -> ContextLogits {
    std::array::from_fn(|context| general[context] + dot(&weights[context], x))
}

fn inputs(general: &ContextModel, features: &Features) -> [f32; FEATURES] {
    let mut out = [CONSTANT_WEIGHT; FEATURES];
    let (prosody, embedding) = out[1..].split_at_mut(PROSODY);
    for (out, value) in prosody.iter_mut().zip(general.standardised(features)) {
        *out = PROSODY_WEIGHT * value;
    }
    for (out, value) in embedding.iter_mut().zip(general.direction(&features.embedding)) {
        *out = EMBEDDING_WEIGHT * value;
    }
    out
}

/// How many labels of one cat are learnt from: the latest ones. Older ones are kept and count for their own events
/// only. Learning from this many takes some milliseconds.
pub const MOST_LABELS: usize = 100;

/// Labels of a context from which on it counts for [`Household::knows_contexts_apart`].
pub const FEWEST_OF_A_CONTEXT: u32 = 2;

/// The context answers for one cat: by its own classifier once there are labels, by the general model until then.
#[derive(Debug, Clone, Default)]
pub struct Household {
    own: Option<CatClassifier>,
    labels: u32,
    /// How many of the labels are of each context.
    of_context: [u32; CONTEXTS],
}

impl Household {
    /// Learns from a cat's labelled sounds, at most [`MOST_LABELS`], the latest first. `uncertain` teaches nothing.
    /// Computes for milliseconds: not for an async thread.
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
        let mut of_context = [0; CONTEXTS];
        examples.iter().for_each(|example| of_context[example.context] += 1);
        Self { own, labels: examples.len() as u32, of_context }
    }

    /// Whether there are enough labels to evaluate sounds again that were heard before: two contexts have at least
    /// [`FEWEST_OF_A_CONTEXT`] each. Labels of one context alone, or a single one, draw every answer to them.
    pub fn knows_contexts_apart(&self) -> bool {
        self.of_context.iter().filter(|labels| **labels >= FEWEST_OF_A_CONTEXT).count() >= 2
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
mod tests {
    use super::*;
    use crate::testing::features as sound_of;

    fn features(seed: f32) -> Features {
        Features {
            prosody: std::array::from_fn(|n| (seed + n as f32).sin()),
            embedding: std::array::from_fn(|n| (seed * 3.0 + n as f32 * 0.7).cos()),
        }
    }

    fn example(seed: f32, context: usize) -> Example {
        Example { features: features(seed), general: [0.2, 0.1, 0.0], context }
    }

    #[test]
    fn without_labels_the_answer_is_the_general_one() {
        let model = ContextModel::shipped();
        let classifier = CatClassifier::train(model, &[]);
        assert_eq!(classifier.logits(model, &features(1.0), &[0.3, -0.2, 0.1]), [0.3, -0.2, 0.1]);
    }

    #[test]
    fn labels_draw_the_answer_to_them_the_more_the_more_there_are() {
        let model = ContextModel::shipped();
        let probability = |labels: usize| {
            let examples: Vec<Example> = (0..labels).map(|n| example(n as f32 * 0.01, 2)).collect();
            softmax(&CatClassifier::train(model, &examples).logits(model, &features(0.005), &[0.0; 3]))[2]
        };
        let rising = [0, 1, 3, 10].map(probability);
        assert!(rising.is_sorted() && rising[1] > 0.4 && rising[3] > 0.8, "{rising:?}");
    }

    #[test]
    fn two_kinds_of_meow_are_told_apart() {
        let model = ContextModel::shipped();
        let examples: Vec<Example> = (0..8).map(|n| example((n % 2) as f32 * 2.0 + n as f32 * 0.01, n % 2)).collect();
        let classifier = CatClassifier::train(model, &examples);
        let (first, second) = (
            classifier.logits(model, &features(0.03), &[0.0; 3]),
            classifier.logits(model, &features(2.03), &[0.0; 3]),
        );
        assert!(first[0] > first[1] && second[1] > second[0], "{first:?} {second:?}");
    }

    #[test]
    fn labels_teach_what_the_general_model_cannot_know() {
        let none = Household::learn(vec![]);
        assert_eq!(none.labels(), 0);
        let labels = |of: &Household| [1, 2].map(|voice| of.context(&sound_of(voice, 9)).label);
        let wanted = [ContextLabel::Brushing, ContextLabel::WaitingForFood];
        assert_ne!(labels(&none), wanted, "there is nothing to teach");
        let labelled = (0..6).map(|take| match take % 2 {
            0 => (sound_of(1, take), ContextLabel::Brushing),
            _ => (sound_of(2, take), ContextLabel::WaitingForFood),
        });
        let taught = Household::learn(labelled.collect());
        assert_eq!(taught.labels(), 6);
        assert_eq!(labels(&taught), wanted);
    }

    #[test]
    fn contexts_are_known_apart_from_two_labels_of_each_of_two() {
        use ContextLabel::{Brushing, Isolation, Uncertain, WaitingForFood};
        let knows = |labels: &[ContextLabel]| {
            let labelled = labels.iter().zip(0..).map(|(label, take)| (sound_of(1, take), *label));
            Household::learn(labelled.collect()).knows_contexts_apart()
        };
        assert!(!knows(&[]) && !knows(&[Brushing; 9]) && !knows(&[Brushing, Isolation, WaitingForFood]));
        assert!(!knows(&[Brushing, Brushing, Isolation, Uncertain, Uncertain]));
        assert!(knows(&[Brushing, Isolation, Isolation, Brushing]));
    }

    #[test]
    fn only_the_latest_labels_are_learnt_from() {
        let latest = || (0..MOST_LABELS as u32).map(|take| (sound_of(1, take), ContextLabel::Brushing));
        let older = (0..50).map(|take| (sound_of(1, take), ContextLabel::Isolation));
        let (bounded, alone) =
            (Household::learn(latest().chain(older).collect()), Household::learn(latest().collect()));
        assert_eq!(bounded.labels() as usize, MOST_LABELS);
        assert_eq!(bounded.context(&sound_of(1, 7)), alone.context(&sound_of(1, 7)));
    }
}
