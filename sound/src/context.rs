//! Classifies the context of a vocalisation (waiting for food, isolation, brushing) from its prosody and its embedding.
//!
//! The classifier is a multinomial logistic regression on the length of the vocalisation and its embedding. All
//! contexts weighed alike in its training. The probabilities are calibrated on cats that the classifier was not trained
//! on. If none reaches 0.5, the answer is [`ContextLabel::Uncertain`]. `training/context.py` trains the classifier.

use std::sync::OnceLock;

use crate::detection::{Context, ContextLabel, ContextProbabilities};
use crate::dot::length;
use crate::model::{EMBEDDING, Model};
use crate::prosody::{PROSODY, Prosody};

/// Number of contexts. Their order is the same everywhere: waiting for food, isolation, brushing.
pub const CONTEXTS: usize = 3;

/// Calibrated logits of the contexts: their softmax gives the probabilities.
pub type ContextLogits = [f32; CONTEXTS];

/// A context is named when its probability is at least this.
pub const NAMED_FROM: f32 = 0.5;

/// Features are clamped to this many standard deviations from the mean.
const OUTLIER_DEVIATIONS: f32 = 3.0;

/// First bytes of a weights file.
const MAGIC: &[u8; 8] = b"MEOWCTX5";

/// Inputs of the classifier: the length of the vocalisation, then the embedding.
const INPUTS: usize = 1 + EMBEDDING;

/// What a context is classified by, and what a cat's own classifier learns from. The store keeps it with the
/// vocalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Length, melody, roughness and colour: see [`crate::prosody::prosody`].
    pub prosody: Prosody,
    /// The network's embedding, averaged over the vocalisation.
    pub embedding: [f32; EMBEDDING],
}

impl Features {
    /// The first bytes of [`Features::to_bytes`]. They name the shipped network, so that the embeddings of another
    /// network are recognised.
    #[must_use]
    pub fn mark() -> [u8; 8] {
        Model::shipped().id().to_le_bytes()
    }

    /// Encodes features of the shipped network for a database: [`Features::mark`], then prosody and embedding as 32-bit
    /// little-endian floats.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.prosody.iter().chain(&self.embedding);
        Self::mark().into_iter().chain(numbers.flat_map(|number| number.to_le_bytes())).collect()
    }

    /// Decodes what [`Features::to_bytes`] wrote. `None` if the bytes have another length, or come from another
    /// network: the classifiers of this program cannot use its embeddings.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.strip_prefix(&Self::mark())?.as_chunks::<4>() else { return None };
        if numbers.len() != PROSODY + EMBEDDING {
            return None;
        }
        let mut numbers = numbers.iter().map(|four| f32::from_le_bytes(*four));
        let mut next = |_| numbers.next().unwrap_or(0.0);
        Some(Self { prosody: std::array::from_fn(&mut next), embedding: std::array::from_fn(&mut next) })
    }
}

/// The general classifier, for cats without labels of their own.
pub struct ContextModel {
    network: u64,
    prosody: Scale<PROSODY>,
    embedding: Scale<EMBEDDING>,
    bias: ContextLogits,
    weights: [[f32; INPUTS]; CONTEXTS],
}

/// Mean and standard deviation of some numbers over the meows of the training set.
struct Scale<const N: usize> {
    mean: [f32; N],
    deviation: [f32; N],
}

impl<const N: usize> Scale<N> {
    /// Takes a scale from the front of a weights file. `None` if the file is too short, or a deviation is not positive.
    fn take(numbers: &[f32]) -> Option<(Self, &[f32])> {
        let (mean, rest) = numbers.split_first_chunk()?;
        let (deviation, rest) = rest.split_first_chunk()?;
        let usable = deviation.iter().all(|deviation| *deviation > 0.0);
        usable.then_some((Self { mean: *mean, deviation: *deviation }, rest))
    }

    /// The numbers in standard deviations from the mean, each clamped to [`OUTLIER_DEVIATIONS`].
    fn standardised(&self, numbers: &[f32; N]) -> [f32; N] {
        std::array::from_fn(|n| {
            ((numbers[n] - self.mean[n]) / self.deviation[n]).clamp(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS)
        })
    }
}

impl ContextModel {
    /// The classifier that ships with the program.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<ContextModel> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::from_bytes(include_bytes!("../weights/context.bin")).expect("a test reads the shipped weights")
        })
    }

    /// [`Model::id`] of the network whose embeddings the classifier was trained on.
    #[must_use]
    pub fn network(&self) -> u64 {
        self.network
    }

    /// Reads a weights file as `training/context.py` writes it. `None` if it is not one.
    ///
    /// The format, all little-endian: 8 bytes `MEOWCTX5`, the 64-bit id of the network, then 32-bit floats: mean (21)
    /// and standard deviation (21) of the prosody, mean (128) and standard deviation (128) of the embedding, bias (3),
    /// then for each context the weights (129) of length and embedding.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (network, numbers) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (numbers, []) = numbers.as_chunks::<4>() else { return None };
        let numbers: Vec<f32> = numbers.iter().map(|four| f32::from_le_bytes(*four)).collect();
        if !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        let (prosody, rest) = Scale::take(&numbers)?;
        let (embedding, rest) = Scale::take(rest)?;
        let (bias, rest) = rest.split_first_chunk()?;
        let (weights, []) = rest.as_chunks() else { return None };
        let weights = weights.try_into().ok()?;
        Some(Self { network: u64::from_le_bytes(*network), prosody, embedding, bias: *bias, weights })
    }

    /// Calibrated logits of the contexts of one vocalisation.
    #[must_use]
    pub fn logits(&self, features: &Features) -> ContextLogits {
        let [length, ..] = self.prosody.standardised(&features.prosody);
        let embedding = self.embedding.standardised(&features.embedding);
        std::array::from_fn(|context| {
            let inputs = std::iter::once(&length).chain(&embedding);
            self.bias[context] + inputs.zip(&self.weights[context]).map(|(input, weight)| input * weight).sum::<f32>()
        })
    }

    /// The prosody in standard deviations from the mean meow, each number clamped to -3 to 3.
    #[must_use]
    pub fn standardised(&self, features: &Features) -> Prosody {
        self.prosody.standardised(&features.prosody)
    }

    /// How an embedding differs from that of the mean meow.
    #[must_use]
    pub fn difference(&self, embedding: &[f32; EMBEDDING]) -> [f32; EMBEDDING] {
        std::array::from_fn(|n| embedding[n] - self.embedding.mean[n])
    }

    /// The direction in which an embedding differs from that of the mean meow, as a vector of length 1. The length of
    /// the difference is left out: it depends mostly on how loud and clear the meow was.
    #[must_use]
    pub fn direction(&self, embedding: &[f32; EMBEDDING]) -> [f32; EMBEDDING] {
        let difference = self.difference(embedding);
        let length = length(&difference).max(1e-6);
        difference.map(|value| value / length)
    }
}

/// The context that logits stand for, with its name as by [`named_by`].
#[must_use]
pub fn context_of(logits: &ContextLogits) -> Context {
    let [waiting_for_food, isolation, brushing] = softmax(logits);
    let probabilities = ContextProbabilities { waiting_for_food, isolation, brushing };
    Context { label: named_by(&probabilities), probabilities }
}

/// The name that probabilities give a context: the most probable one if its probability is at least [`NAMED_FROM`],
/// else [`ContextLabel::Uncertain`].
#[must_use]
pub fn named_by(probabilities: &ContextProbabilities) -> ContextLabel {
    let named = [
        (probabilities.waiting_for_food, ContextLabel::WaitingForFood),
        (probabilities.isolation, ContextLabel::Isolation),
        (probabilities.brushing, ContextLabel::Brushing),
    ];
    let probable = named.into_iter().filter(|(probability, _)| *probability >= NAMED_FROM);
    probable.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(ContextLabel::Uncertain, |(_, label)| label)
}

/// Turns logits into probabilities.
pub(crate) fn softmax(logits: &ContextLogits) -> [f32; CONTEXTS] {
    let highest = logits.iter().copied().fold(f32::MIN, f32::max);
    let weights = logits.map(|logit| (logit - highest).exp());
    let total: f32 = weights.iter().sum();
    weights.map(|weight| weight / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_odds_are_uncertain_and_clear_odds_are_named() {
        assert_eq!(context_of(&[0.0; 3]).label, ContextLabel::Uncertain);
        let clear = context_of(&[0.0, 3.0, 0.5]);
        assert_eq!(clear.label, ContextLabel::Isolation);
        let sum = clear.probabilities.waiting_for_food + clear.probabilities.isolation + clear.probabilities.brushing;
        assert!((sum - 1.0).abs() < 1e-6);
    }

    fn features(value: f32) -> Features {
        Features { prosody: [value; PROSODY], embedding: [value; EMBEDDING] }
    }

    /// A weights file: means of 1, these deviations, and a weight of 2 from the length to the first context and from
    /// the last number of the embedding to the last context.
    fn file(deviation: f32) -> Vec<u8> {
        let mut numbers = Vec::new();
        for length in [PROSODY, EMBEDDING] {
            numbers.extend(vec![1.0; length]);
            numbers.extend(vec![deviation; length]);
        }
        numbers.extend([0.1, 0.2, 0.3]);
        let mut weights = [[0.0; INPUTS]; CONTEXTS];
        (weights[0][0], weights[2][INPUTS - 1]) = (2.0, 2.0);
        numbers.extend(weights.as_flattened());
        MAGIC.iter().copied().chain([0; 8]).chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect()
    }

    #[test]
    fn length_and_embedding_decide_and_outliers_are_clamped() {
        let model = ContextModel::from_bytes(&file(0.5)).expect("the file is whole");
        let mut heard = features(1.0);
        assert_eq!(model.logits(&heard), [0.1, 0.2, 0.3], "the mean meow");
        heard.prosody[0] = 1.5;
        heard.embedding[EMBEDDING - 1] = 100.0;
        assert_eq!(model.logits(&heard), [2.1, 0.2, 6.3]);
    }

    #[test]
    fn a_broken_weights_file_is_refused() {
        let whole = file(0.5);
        for broken in [whole[..whole.len() - 4].to_vec(), [&whole[..], &[0; 4]].concat(), file(0.0), file(f32::NAN)] {
            assert!(ContextModel::from_bytes(&broken).is_none());
        }
    }

    #[test]
    fn the_shipped_classifier_was_trained_on_the_shipped_network() {
        assert_eq!(ContextModel::shipped().network(), Model::shipped().id(), "train it again with training/context.py");
    }

    #[test]
    fn the_shipped_classifier_gives_probabilities_for_anything() {
        for value in [0.0, 1e6, -1e6] {
            let probabilities = softmax(&ContextModel::shipped().logits(&features(value)));
            assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{probabilities:?}");
        }
    }

    #[test]
    fn features_survive_the_database() {
        let features = Features {
            prosody: std::array::from_fn(|n| n as f32 * 0.5),
            embedding: std::array::from_fn(|n| -(n as f32)),
        };
        let mut bytes = features.to_bytes();
        assert_eq!(Features::from_bytes(&bytes), Some(features));
        assert_eq!(Features::from_bytes(&bytes[..bytes.len() - 4]), None);
        bytes[0] ^= 1;
        assert_eq!(Features::from_bytes(&bytes), None, "the mark of another network is refused");
    }
}
