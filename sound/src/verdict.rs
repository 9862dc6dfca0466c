//! How a cat is: from what was found in its sound to one of the four words of the original.
//!
//! The rule. A detection is *confident* when its context is not `uncertain`. Each confident detection votes for its
//! context with its score, times its duration, times the probability of that context: what is surely a cat, lasts long
//! and is clear counts most. The context with the most votes wins:
//!
//! | context            | word     |
//! | ------------------ | -------- |
//! | `waiting_for_food` | `Hungry` |
//! | `brushing`         | `Good`   |
//! | `isolation`        | `Bad`    |
//!
//! Without a confident detection (no cat was heard, or nothing it said was clear) the word is `Smelly`.
//!
//! [`Finding`] says the same and tells silence from a cat whose context is unclear. It is what people read.

use crate::SAMPLE_RATE_HZ;
use crate::detection::{ContextLabel, Detection};

/// How a cat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No cat was heard, or none clearly.
    Smelly,
    /// Content.
    Good,
    /// In distress.
    Bad,
    /// Waiting for food.
    Hungry,
}

impl Verdict {
    /// The verdict on what was found, by the rule of this module.
    pub fn of(detections: &[Detection]) -> Self {
        let votes = |label: ContextLabel| -> f64 {
            let confident = detections.iter().filter(|detection| detection.context.label == label);
            confident.map(|detection| vote(detection, label)).sum()
        };
        let candidates = [
            (votes(ContextLabel::WaitingForFood), Self::Hungry),
            (votes(ContextLabel::Brushing), Self::Good),
            (votes(ContextLabel::Isolation), Self::Bad),
        ];
        let (votes, verdict) = candidates
            .into_iter()
            .fold((0.0, Self::Smelly), |best, candidate| if candidate.0 > best.0 { candidate } else { best });
        debug_assert!(votes.is_finite());
        verdict
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smelly => "Smelly",
            Self::Good => "Good",
            Self::Bad => "Bad",
            Self::Hungry => "Hungry",
        }
    }

    /// The verdict that a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Smelly, Self::Good, Self::Bad, Self::Hungry].into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// The sentence of the original: `Tom is Hungry Cat`.
    pub fn sentence(self, cat: &str) -> String {
        format!("{cat} is {} Cat", self.as_str())
    }
}

/// What was found in a piece of audio, for people and for programs that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// No cat was heard.
    NoCat,
    /// A cat was heard, and no context stood out.
    Uncertain,
    /// The context that won the vote. Never [`ContextLabel::Uncertain`].
    Context(ContextLabel),
}

impl Finding {
    /// The finding behind a verdict on this many detections.
    pub fn new(verdict: Verdict, detections: usize) -> Self {
        match verdict {
            _ if detections == 0 => Self::NoCat,
            Verdict::Smelly => Self::Uncertain,
            Verdict::Good => Self::Context(ContextLabel::Brushing),
            Verdict::Bad => Self::Context(ContextLabel::Isolation),
            Verdict::Hungry => Self::Context(ContextLabel::WaitingForFood),
        }
    }

    /// The finding on these detections, by the rule of this module.
    pub fn of(detections: &[Detection]) -> Self {
        Self::new(Verdict::of(detections), detections.len())
    }

    /// The word for programs: `no_cat`, or a context as [`ContextLabel::as_str`] has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCat => "no_cat",
            Self::Uncertain => ContextLabel::Uncertain.as_str(),
            Self::Context(label) => label.as_str(),
        }
    }

    /// The words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoCat => "no cat",
            Self::Context(ContextLabel::WaitingForFood) => "cat, hungry",
            Self::Context(ContextLabel::Brushing) => "cat, content",
            Self::Context(ContextLabel::Isolation) => "cat, distressed",
            Self::Uncertain | Self::Context(ContextLabel::Uncertain) => "cat, context unsure",
        }
    }

    /// A sentence about a cat, for people.
    pub fn sentence(self, cat: &str) -> String {
        match self {
            Self::NoCat => format!("{cat} was not heard"),
            Self::Context(ContextLabel::WaitingForFood) => format!("{cat} sounds hungry"),
            Self::Context(ContextLabel::Brushing) => format!("{cat} sounds content"),
            Self::Context(ContextLabel::Isolation) => format!("{cat} sounds distressed"),
            Self::Uncertain | Self::Context(ContextLabel::Uncertain) => format!("it is unclear what {cat} wants"),
        }
    }
}

fn vote(detection: &Detection, label: ContextLabel) -> f64 {
    let probabilities = &detection.context.probabilities;
    let probability = match label {
        ContextLabel::WaitingForFood => probabilities.waiting_for_food,
        ContextLabel::Brushing => probabilities.brushing,
        ContextLabel::Isolation => probabilities.isolation,
        ContextLabel::Uncertain => 0.0,
    };
    let duration_s = detection.end_sample.saturating_sub(detection.start_sample) as f64 / f64::from(SAMPLE_RATE_HZ);
    f64::from(detection.score) * duration_s * f64::from(probability)
}

#[cfg(test)]
mod tests {
    use crate::detection::{Context, ContextProbabilities, Measurements};

    use super::*;

    fn detection(label: ContextLabel, score: f32, duration_ms: u64, probability: f32) -> Detection {
        let rest = (1.0 - probability) / 2.0;
        let share = |of: ContextLabel| if of == label { probability } else { rest };
        Detection {
            start_sample: 100,
            end_sample: 100 + duration_ms * 16,
            score,
            context: Context {
                label,
                probabilities: ContextProbabilities {
                    waiting_for_food: share(ContextLabel::WaitingForFood),
                    isolation: share(ContextLabel::Isolation),
                    brushing: share(ContextLabel::Brushing),
                },
            },
            measurements: Measurements {
                peak_dbfs: -1.0,
                rms_dbfs: -10.0,
                snr_db: 20.0,
                pitch_median_hz: 500.0,
                pitch_min_hz: 400.0,
                pitch_max_hz: 600.0,
                voiced_fraction: 1.0,
                spectral_centroid_hz: 1500.0,
                spectral_flatness: 0.1,
            },
        }
    }

    #[test]
    fn nothing_heard_is_smelly() {
        assert_eq!(Verdict::of(&[]), Verdict::Smelly);
    }

    #[test]
    fn nothing_clear_is_smelly() {
        assert_eq!(Verdict::of(&[detection(ContextLabel::Uncertain, 1.0, 2000, 0.4)]), Verdict::Smelly);
    }

    #[test]
    fn each_context_has_its_word() {
        for (label, verdict) in [
            (ContextLabel::WaitingForFood, Verdict::Hungry),
            (ContextLabel::Brushing, Verdict::Good),
            (ContextLabel::Isolation, Verdict::Bad),
        ] {
            assert_eq!(Verdict::of(&[detection(label, 0.9, 500, 0.8)]), verdict);
        }
    }

    #[test]
    fn votes_add_up() {
        let food = || detection(ContextLabel::WaitingForFood, 0.8, 500, 0.6);
        let brushing = detection(ContextLabel::Brushing, 0.9, 600, 0.7);
        assert_eq!(Verdict::of(&[food(), brushing.clone()]), Verdict::Good);
        assert_eq!(Verdict::of(&[food(), brushing, food()]), Verdict::Hungry);
    }

    #[test]
    fn longer_surer_and_clearer_counts_more() {
        let base = detection(ContextLabel::Isolation, 0.8, 500, 0.6);
        for stronger in [
            detection(ContextLabel::Brushing, 0.9, 500, 0.6),
            detection(ContextLabel::Brushing, 0.8, 600, 0.6),
            detection(ContextLabel::Brushing, 0.8, 500, 0.7),
        ] {
            assert_eq!(Verdict::of(&[base.clone(), stronger.clone()]), Verdict::Good);
            assert_eq!(Verdict::of(&[stronger, base.clone()]), Verdict::Good);
        }
    }

    #[test]
    fn finding_tells_silence_from_an_unclear_cat() {
        let found = |detections: &[Detection]| {
            let finding = Finding::of(detections);
            (finding.as_str(), finding.words(), finding.sentence("Tom"))
        };
        assert_eq!(found(&[]), ("no_cat", "no cat", "Tom was not heard".into()));
        let unclear = detection(ContextLabel::Uncertain, 1.0, 2000, 0.4);
        assert_eq!(
            found(std::slice::from_ref(&unclear)),
            ("uncertain", "cat, context unsure", "it is unclear what Tom wants".into())
        );
        for (label, words) in [
            (ContextLabel::WaitingForFood, "cat, hungry"),
            (ContextLabel::Brushing, "cat, content"),
            (ContextLabel::Isolation, "cat, distressed"),
        ] {
            let clear = detection(label, 0.9, 500, 0.8);
            let (word, for_people, _) = found(&[clear, unclear.clone()]);
            assert_eq!((word, for_people), (label.as_str(), words));
        }
    }

    #[test]
    fn sentence_is_the_contracts() {
        assert_eq!(Verdict::Hungry.sentence("Tom"), "Tom is Hungry Cat");
    }
}
