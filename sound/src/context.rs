//! Classifies the context of a vocalisation (waiting for food, isolation, brushing) from its prosody and its embedding.
//!
//! The classifier is a kernel logistic regression with a Gaussian kernel: each meow of the training set votes for its
//! context, and its vote weighs more the more similar it is to the meow in question. Similarity falls with the distance
//! of their feature vectors; prosody and embedding count for half of the distance each. The probabilities are
//! calibrated on cats that the classifier was not trained on. If none reaches 0.5, the answer is
//! [`ContextLabel::Uncertain`]. `training/context.py` trains the classifier.

use std::sync::OnceLock;

use crate::detection::{Context, ContextLabel, ContextProbabilities};
use crate::model::{EMBEDDING, Model};
use crate::prosody::{PROSODY, Prosody};

/// Number of contexts. Their order is the same everywhere: waiting for food, isolation, brushing.
pub const CONTEXTS: usize = 3;

/// Calibrated logits of the contexts: their softmax gives the probabilities.
pub type ContextLogits = [f32; CONTEXTS];

/// A context is named when its probability is at least this.
const NAMED_FROM: f32 = 0.5;

/// Features are clamped to this many standard deviations from the mean.
const OUTLIER_DEVIATIONS: f32 = 3.0;

/// First bytes of a weights file.
const MAGIC: &[u8; 8] = b"MEOWCTX4";

/// Length of a [`Place`].
const PLACE: usize = PROSODY + EMBEDDING;

/// A vocalisation as a point among those of the training set: prosody, then the direction of the embedding, each number
/// in standard deviations from the mean meow and clamped to [`OUTLIER_DEVIATIONS`].
type Place = [f32; PLACE];

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
        if numbers.len() != PLACE {
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
    mean_embedding: [f32; EMBEDDING],
    mean: Place,
    deviation: Place,
    /// How fast similarity falls with distance: similarity = exp(-gamma * distance).
    gamma: f32,
    bias: ContextLogits,
    known: Vec<Known>,
}

/// A meow of the training set, and its vote.
struct Known {
    place: Place,
    vote: ContextLogits,
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
    /// The format, all little-endian: 8 bytes `MEOWCTX4`, the 64-bit id of the network, then 32-bit floats: mean
    /// embedding (128), mean (149) and standard deviation (149) of the features, gamma (1), bias (3), then for each
    /// meow of the training set its standardised features (149) and its vote (3).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (network, numbers) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (numbers, []) = numbers.as_chunks::<4>() else { return None };
        let numbers: Vec<f32> = numbers.iter().map(|four| f32::from_le_bytes(*four)).collect();
        if !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        let (mean_embedding, rest) = numbers.split_first_chunk::<EMBEDDING>()?;
        let (mean, rest) = rest.split_first_chunk::<PLACE>()?;
        let (deviation, rest) = rest.split_first_chunk::<PLACE>()?;
        let (gamma, rest) = rest.split_first()?;
        let (bias, rest) = rest.split_first_chunk::<CONTEXTS>()?;
        let (known, []) = rest.as_chunks::<{ PLACE + CONTEXTS }>() else { return None };
        let known = known
            .iter()
            .map(|numbers| Known {
                place: std::array::from_fn(|n| numbers[n]),
                vote: std::array::from_fn(|n| numbers[PLACE + n]),
            })
            .collect();
        Some(Self {
            network: u64::from_le_bytes(*network),
            mean_embedding: *mean_embedding,
            mean: *mean,
            deviation: *deviation,
            gamma: *gamma,
            bias: *bias,
            known,
        })
    }

    /// Calibrated logits of the contexts of one vocalisation.
    #[must_use]
    pub fn logits(&self, features: &Features) -> ContextLogits {
        let place = self.place(features);
        let mut logits = self.bias;
        for known in &self.known {
            let similarity = (-self.gamma * distance(&known.place, &place)).exp();
            for (logit, vote) in logits.iter_mut().zip(&known.vote) {
                *logit += similarity * vote;
            }
        }
        logits
    }

    fn place(&self, features: &Features) -> Place {
        let mut place = [0.0; PLACE];
        place[..PROSODY].copy_from_slice(&features.prosody);
        place[PROSODY..].copy_from_slice(&self.direction(&features.embedding));
        for (value, (mean, deviation)) in place.iter_mut().zip(self.mean.iter().zip(&self.deviation)) {
            *value = ((*value - mean) / deviation).clamp(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS);
        }
        place
    }

    /// The prosody in standard deviations from the mean meow, each number clamped to -3 to 3.
    #[must_use]
    pub fn standardised(&self, features: &Features) -> Prosody {
        let place = self.place(features);
        std::array::from_fn(|n| place[n])
    }

    /// The direction in which an embedding differs from that of the mean meow, as a vector of length 1. The length of
    /// the difference is left out: it depends mostly on how loud and clear the meow was.
    #[must_use]
    pub fn direction(&self, embedding: &[f32; EMBEDDING]) -> [f32; EMBEDDING] {
        let difference: [f32; EMBEDDING] = std::array::from_fn(|n| embedding[n] - self.mean_embedding[n]);
        let length = difference.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
        difference.map(|value| value / length)
    }
}

/// The mean of two mean square differences: over the prosody and over the embedding.
fn distance(a: &Place, b: &Place) -> f32 {
    let mean_square = |range: std::ops::Range<usize>| {
        let count = range.len() as f32;
        a[range.clone()].iter().zip(&b[range]).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / count
    };
    0.5 * mean_square(0..PROSODY) + 0.5 * mean_square(PROSODY..PLACE)
}

/// The context that logits stand for: the most probable one if its probability is at least 0.5, else
/// [`ContextLabel::Uncertain`].
#[must_use]
pub fn context_of(logits: &ContextLogits) -> Context {
    let [waiting_for_food, isolation, brushing] = softmax(logits);
    let named = [
        (waiting_for_food, ContextLabel::WaitingForFood),
        (isolation, ContextLabel::Isolation),
        (brushing, ContextLabel::Brushing),
    ];
    let (_, label) = named
        .into_iter()
        .filter(|(probability, _)| *probability >= NAMED_FROM)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .unwrap_or((0.0, ContextLabel::Uncertain));
    Context { label, probabilities: ContextProbabilities { waiting_for_food, isolation, brushing } }
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

    #[test]
    fn the_nearest_known_meow_decides() {
        let mut numbers = vec![0.0_f32; EMBEDDING + PLACE];
        numbers.extend([1.0; PLACE]);
        numbers.extend([1.0, 0.0, 0.0, 0.0]);
        for (place, vote) in [(-2.0, [1.0, 0.0, 0.0]), (2.0, [0.0, 0.0, 1.0])] {
            numbers.extend([place; PLACE]);
            numbers.extend(vote);
        }
        let bytes: Vec<u8> =
            MAGIC.iter().copied().chain([0; 8]).chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect();
        let model = ContextModel::from_bytes(&bytes).expect("the file is whole");
        let (low, high) = (model.logits(&features(-1.5)), model.logits(&features(1.5)));
        assert!(low[0] > low[2] && high[2] > high[0]);
        assert!(ContextModel::from_bytes(&bytes[..bytes.len() - 4]).is_none());
    }

    #[test]
    fn prosody_and_embedding_count_alike() {
        let mut place = [0.0; PLACE];
        place[..PROSODY].fill(1.0);
        assert!((distance(&place, &[0.0; PLACE]) - 0.5).abs() < 1e-6);
        assert!((distance(&place, &[1.0; PLACE]) - 0.5).abs() < 1e-6);
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
