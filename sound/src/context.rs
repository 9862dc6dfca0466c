//! In which context a cat vocalised, from how it was said.
//!
//! A kernel classifier: each known meow votes for its context, the more the more alike it is ([`crate::prosody`]). Its
//! probabilities are calibrated on cats that it did not know; where they single nothing out the answer is `uncertain`.

use std::sync::OnceLock;

use crate::detection::{Context, ContextLabel, ContextProbabilities};
use crate::model::EMBEDDING;
use crate::prosody::{PROSODY, Prosody};

/// Contexts told apart. Order everywhere: waiting for food, isolation, brushing.
pub const CONTEXTS: usize = 3;

/// Log-odds of the contexts up to a common constant, calibrated.
pub type ContextLogits = [f32; CONTEXTS];

/// A context with at least this probability is named.
const NAMED_FROM: f32 = 0.5;

/// Measurements further from the mean than this many standard deviations count as this far.
const OUTLIER_DEVIATIONS: f32 = 3.0;

/// First bytes of a weights file.
const MAGIC: &[u8; 8] = b"MEOWCTX2";

/// The general classifier: for cats of which nothing is known yet.
pub struct ContextModel {
    mean: Prosody,
    deviation: Prosody,
    /// How fast likeness falls with distance.
    gamma: f32,
    bias: ContextLogits,
    mean_embedding: [f32; EMBEDDING],
    known: Vec<Known>,
}

/// A meow from training: where it lies, and its vote.
struct Known {
    place: Prosody,
    vote: ContextLogits,
}

impl ContextModel {
    /// The classifier that the program carries.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<ContextModel> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::from_bytes(include_bytes!("../weights/context.bin")).expect("a test reads the shipped weights")
        })
    }

    /// Reads what `training/context.py` writes, all 32-bit little-endian floats after the magic: mean and deviation of the
    /// measurements, gamma, bias, mean embedding, then place and vote of each known meow. `None`: not such a file.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.strip_prefix(MAGIC)?.as_chunks::<4>() else { return None };
        let numbers: Vec<f32> = numbers.iter().map(|four| f32::from_le_bytes(*four)).collect();
        if !numbers.iter().all(|number| number.is_finite()) {
            return None;
        }
        let (mean, rest) = numbers.split_first_chunk::<PROSODY>()?;
        let (deviation, rest) = rest.split_first_chunk::<PROSODY>()?;
        let (gamma, rest) = rest.split_first()?;
        let (bias, rest) = rest.split_first_chunk::<CONTEXTS>()?;
        let (mean_embedding, rest) = rest.split_first_chunk::<EMBEDDING>()?;
        let (known, []) = rest.as_chunks::<{ PROSODY + CONTEXTS }>() else { return None };
        let known = known
            .iter()
            .map(|numbers| Known {
                place: std::array::from_fn(|n| numbers[n]),
                vote: std::array::from_fn(|n| numbers[PROSODY + n]),
            })
            .collect();
        Some(Self {
            mean: *mean,
            deviation: *deviation,
            gamma: *gamma,
            bias: *bias,
            mean_embedding: *mean_embedding,
            known,
        })
    }

    /// Calibrated log-odds for one vocalisation.
    #[must_use]
    pub fn logits(&self, prosody: &Prosody) -> ContextLogits {
        let place = self.standardised(prosody);
        let mut logits = self.bias;
        for known in &self.known {
            let distance = known.place.iter().zip(&place).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / PROSODY as f32;
            let likeness = (-self.gamma * distance).exp();
            for (logit, vote) in logits.iter_mut().zip(&known.vote) {
                *logit += likeness * vote;
            }
        }
        logits
    }

    /// The measurements in standard deviations from the mean meow, outliers drawn in.
    #[must_use]
    pub fn standardised(&self, prosody: &Prosody) -> Prosody {
        std::array::from_fn(|n| {
            ((prosody[n] - self.mean[n]) / self.deviation[n]).clamp(-OUTLIER_DEVIATIONS, OUTLIER_DEVIATIONS)
        })
    }

    /// In which direction an embedding differs from the mean meow's, as a vector of length 1; how far it does is rather a
    /// matter of how loud and clear the meow was.
    #[must_use]
    pub fn direction(&self, embedding: &[f32; EMBEDDING]) -> [f32; EMBEDDING] {
        let difference: [f32; EMBEDDING] = std::array::from_fn(|n| embedding[n] - self.mean_embedding[n]);
        let length = difference.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
        difference.map(|value| value / length)
    }
}

/// The answer that log-odds stand for.
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

/// Probabilities from log-odds.
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

    #[test]
    fn the_nearest_known_meow_decides() {
        let mut numbers = vec![0.0_f32; PROSODY];
        numbers.extend([1.0; PROSODY]);
        numbers.extend([1.0, 0.0, 0.0, 0.0]);
        numbers.extend([0.0; EMBEDDING]);
        for (place, vote) in [(-2.0, [1.0, 0.0, 0.0]), (2.0, [0.0, 0.0, 1.0])] {
            numbers.extend([place; PROSODY]);
            numbers.extend(vote);
        }
        let bytes: Vec<u8> =
            MAGIC.iter().copied().chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect();
        let model = ContextModel::from_bytes(&bytes).expect("the file is whole");
        let (low, high) = (model.logits(&[-1.5; PROSODY]), model.logits(&[1.5; PROSODY]));
        assert!(low[0] > low[2] && high[2] > high[0]);
        assert!(ContextModel::from_bytes(&bytes[..bytes.len() - 4]).is_none());
    }

    #[test]
    fn the_shipped_classifier_gives_probabilities_for_anything() {
        for prosody in [[0.0; PROSODY], [1e6; PROSODY], [-1e6; PROSODY]] {
            let probabilities = softmax(&ContextModel::shipped().logits(&prosody));
            assert!(probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{probabilities:?}");
        }
    }
}
