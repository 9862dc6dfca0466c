//! Finds the vocalisations in a stream: smooths the network's answers over time, applies two thresholds (hysteresis),
//! and scores what lies between them.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::logmel::{LogMel, WINDOW_SAMPLES};
use crate::model::{Answer, EMBEDDING, Hearing, Model, SOUNDS, STEP_SAMPLES, Sound};

/// Values of `on_probability`.
const ON_PROBABILITY: RangeInclusive<f32> = 0.05..=0.99;

/// Values of `off_probability`, which is not above `on_probability` either.
const OFF_PROBABILITY: RangeInclusive<f32> = 0.01..=*ON_PROBABILITY.end();

/// Values of `min_score`.
const MIN_SCORE: RangeInclusive<f32> = 0.0..=1.0;

/// Values of `min_ms`.
const MIN_MS: RangeInclusive<u32> = 64..=2_000;

/// Values of `merge_gap_ms`.
const MERGE_GAP_MS: RangeInclusive<u32> = 0..=2_000;

/// Values of `max_ms`.
const MAX_MS: RangeInclusive<u32> = 2_000..=30_000;

/// What counts as a vocalisation. The detector works in steps of 64 ms and rounds times up to whole steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorConfig {
    /// A vocalisation begins where the smoothed probability of a cat reaches this, 0.05 to 0.99.
    #[schemars(range(min = *ON_PROBABILITY.start(), max = *ON_PROBABILITY.end()))]
    pub on_probability: f32,
    /// A vocalisation goes on while the smoothed probability is at least this, 0.01 to `on_probability`.
    #[schemars(range(min = *OFF_PROBABILITY.start(), max = *OFF_PROBABILITY.end()))]
    pub off_probability: f32,
    /// Shorter vocalisations are dropped, in milliseconds, 64 to 2,000.
    #[schemars(range(min = *MIN_MS.start(), max = *MIN_MS.end()))]
    pub min_ms: u32,
    /// Longest silence within one vocalisation, in milliseconds, 0 to 2,000: sounds with no more silence between them
    /// are merged. (Lost audio, which the rest of the code calls a gap, always ends a vocalisation.)
    #[schemars(range(min = *MERGE_GAP_MS.start(), max = *MERGE_GAP_MS.end()))]
    pub merge_gap_ms: u32,
    /// Longest vocalisation, in milliseconds, 2,000 to 30,000. A longer one is cut here and goes on as the next. An
    /// [`Analyzer`](crate::analysis::Analyzer) keeps this much audio in memory.
    #[schemars(range(min = *MAX_MS.start(), max = *MAX_MS.end()))]
    pub max_ms: u32,
    /// Vocalisations with a lower score are dropped, 0 to 1.
    #[schemars(range(min = *MIN_SCORE.start(), max = *MIN_SCORE.end()))]
    pub min_score: f32,
}

impl DetectorConfig {
    /// Values that suit most rooms and cats.
    pub const DEFAULT: Self = Self {
        on_probability: 0.5,
        off_probability: 0.2,
        min_ms: 128,
        merge_gap_ms: 256,
        max_ms: 10_000,
        min_score: 0.5,
    };
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A value of [`DetectorConfig`] that is outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not within {bounds}")]
pub struct OutOfBounds {
    /// Name of the field.
    pub key: &'static str,
    /// The value.
    pub value: String,
    /// The bounds, both included: "0.05 to 0.99".
    pub bounds: String,
}

impl DetectorConfig {
    /// Checks that all values are within their bounds.
    ///
    /// # Errors
    /// Names the first value that is not.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let shares = [
            ("on_probability", self.on_probability, ON_PROBABILITY),
            ("off_probability", self.off_probability, *OFF_PROBABILITY.start()..=self.on_probability),
            ("min_score", self.min_score, MIN_SCORE),
        ];
        let times = [
            ("min_ms", self.min_ms, MIN_MS),
            ("merge_gap_ms", self.merge_gap_ms, MERGE_GAP_MS),
            ("max_ms", self.max_ms, MAX_MS),
        ];
        let bad = |key, value: String, low: String, high: String| OutOfBounds {
            key,
            value,
            bounds: format!("{low} to {high}"),
        };
        for (key, value, range) in shares {
            if !range.contains(&value) {
                return Err(bad(key, value.to_string(), range.start().to_string(), range.end().to_string()));
            }
        }
        for (key, value, range) in times {
            if !range.contains(&value) {
                return Err(bad(key, value.to_string(), range.start().to_string(), range.end().to_string()));
            }
        }
        Ok(())
    }
}

/// What sort of sound a vocalisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A meow, trill, yowl or caterwaul.
    Meow,
    /// Purring.
    Purr,
    /// A hiss or a growl.
    HissOrGrowl,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Meow, Self::Purr, Self::HissOrGrowl];

    /// The word for it in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meow => "meow",
            Self::Purr => "purr",
            Self::HissOrGrowl => "hiss_or_growl",
        }
    }
}

/// One vocalisation as the detector finds it, before it is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Index of the first sample, from the start of the stream.
    pub start_sample: u64,
    /// Index of the sample after the last one.
    pub end_sample: u64,
    /// Probability that this is a cat, 0 to 1.
    pub score: f32,
    /// What sort of sound it is.
    pub kind: Kind,
    /// Logit of each [`Sound`], speech among them: the mean over the steps, weighted by their probability of a cat.
    pub sound_logits: [f32; SOUNDS],
    /// Embedding, the same weighted mean: what context and household classifiers work on.
    pub embedding: [f32; EMBEDDING],
}

/// Lengths of the sliding windows, in answers, whose best means make a score. The thresholds apply to the mean of the
/// first, 192 ms. `training/network.py` trains with the same lengths.
const SCORE_WINDOWS: [usize; 3] = [3, 7, 15];

/// Logits are clamped to plus and minus this, so that a single wild step does not decide.
const LOGIT_LIMIT: f32 = 8.0;

/// Length of the sliding window, in answers, for the part of the score that comes from the sounds "cat", "meow",
/// "purr" and "crying baby".
const NAMED_WINDOW: usize = SCORE_WINDOWS[0];

/// Turn the two parts of a score into its log-odds: the network's own logit, and [`named_logit`]. That the slopes add
/// up to 1.4 comes from logistic regression on recordings that the weights were not trained on. Their shares, the share
/// of the baby and the offset were chosen by false alarms an hour and recall by kind of sound (`training/kinds.py`).
const OWN_SLOPE: f32 = 0.8;
const NAMED_SLOPE: f32 = 0.6;
const SCORE_OFFSET: f32 = 0.2;

/// The larger network takes many cries of babies for cats, and names the baby as well: [`named_logit`] loses this share
/// of the logit of a crying baby, as far as it is above [`BABY_FROM`].
const BABY_SHARE: f32 = 0.6;
const BABY_FROM: f32 = -5.0;

/// Finds the vocalisations in one stream. Memory use is constant, and how the stream is cut into pushes changes
/// nothing.
pub struct Detector {
    model: &'static Model,
    front: LogMel,
    hearing: Hearing,
    segmenter: Segmenter,
}

impl Detector {
    /// A detector at the start of a stream.
    #[must_use]
    pub fn new(model: &'static Model, config: DetectorConfig) -> Self {
        Self { model, front: LogMel::new(), hearing: Hearing::new(model), segmenter: Segmenter::new(config) }
    }

    /// For audio that is not live: results are the same, cost less, and come up to 1.5 s later. See
    /// [`Hearing::in_long_blocks`].
    #[must_use]
    pub fn in_long_blocks(self) -> Self {
        Self { hearing: self.hearing.in_long_blocks(), ..self }
    }

    /// Takes the next samples of canonical audio and passes each vocalisation that ends within them to `on_segment`, in
    /// order.
    pub fn push(&mut self, samples: &[i16], mut on_segment: impl FnMut(Segment)) {
        let Self { model, front, hearing, segmenter } = self;
        segmenter.samples += samples.len() as u64;
        front.push(samples, |frame| {
            hearing.push(model, frame, &mut |answer| segmenter.take(answer, &mut on_segment));
        });
    }

    /// Ends the stream: passes a vocalisation that is still open to `on_segment` and returns the final
    /// [`Detector::cat_score`].
    pub fn finish(self, mut on_segment: impl FnMut(Segment)) -> f32 {
        let Self { model, mut front, hearing, mut segmenter } = self;
        // Silence completes the last, partial window, so that its samples count too.
        let mut hearing = hearing;
        if segmenter.samples > 0 {
            front.push(&[0; WINDOW_SAMPLES], |frame| {
                hearing.push(model, frame, &mut |answer| segmenter.take(answer, &mut on_segment));
            });
        }
        hearing.finish(model, &mut |answer| segmenter.take(answer, &mut on_segment));
        segmenter.end(&mut on_segment);
        segmenter.best.score()
    }

    /// Probability that there was a cat anywhere in the stream so far, 0 to 1: the score of the best stretch of up to a
    /// second. Lags the audio by about a second.
    #[must_use]
    pub fn cat_score(&self) -> f32 {
        self.segmenter.best.score()
    }

    /// Smoothed probability of a cat at the latest step, 0 to 1, for live displays. Lags the audio by about a second.
    #[must_use]
    pub fn probability(&self) -> f32 {
        self.segmenter.probability
    }

    /// Index of the sample up to which all is decided: audio still to come changes no vocalisation before it.
    #[must_use]
    pub fn decided_until(&self) -> u64 {
        match &self.segmenter.open {
            Some(open) => start_of(open.first_step),
            None => start_of(self.segmenter.steps.saturating_sub(1)),
        }
    }
}

/// Index of the first sample that a step covers.
fn start_of(step: u64) -> u64 {
    // A step is centred on the middle of its first analysis window: sample step * STEP_SAMPLES + WINDOW_SAMPLES / 2.
    (step * STEP_SAMPLES as u64 + WINDOW_SAMPLES as u64 / 2).saturating_sub(STEP_SAMPLES as u64 / 2)
}

/// Makes vocalisations out of the network's answers.
struct Segmenter {
    config: DetectorConfig,
    /// Samples of the stream so far.
    samples: u64,
    /// Steps decided so far: one less than answers, because the smoothing window of a step reaches one step further.
    steps: u64,
    /// Cat logits of the latest answers, newest last, as many as the longest score window needs.
    recent: VecDeque<f32>,
    /// The same of [`named_logit`].
    recent_named: VecDeque<f32>,
    previous: Option<Answer>,
    probability: f32,
    best: Best,
    open: Option<Open>,
}

/// A vocalisation that has begun and not ended.
struct Open {
    first_step: u64,
    /// The last step whose probability reached `off_probability`.
    last_step: u64,
    best: Best,
    /// Sum of the weights of the steps in `embedding` and `sound_logits`.
    weight: f32,
    embedding: [f32; EMBEDDING],
    sound_logits: [f32; SOUNDS],
}

/// The best mean logit for each of [`SCORE_WINDOWS`], and last the best for [`NAMED_WINDOW`].
#[derive(Clone, Copy)]
struct Best(Means);

type Means = [f32; SCORE_WINDOWS.len() + 1];

impl Best {
    const NOTHING: Self = Self([-LOGIT_LIMIT; SCORE_WINDOWS.len() + 1]);

    fn raise(&mut self, means: &Means) {
        for (best, mean) in self.0.iter_mut().zip(means) {
            *best = best.max(*mean);
        }
    }

    fn score(&self) -> f32 {
        let [own @ .., named] = &self.0;
        probability(own.iter().sum::<f32>() / own.len() as f32, *named)
    }
}

/// The part of a score that the network learnt from the larger one: the mean logit of "cat", and of "meow" or "purr",
/// whichever is clearer, less what speaks for a baby.
fn named_logit(answer: &Answer) -> f32 {
    let of = |sound: Sound| answer.sound_logits[sound as usize];
    let baby = (of(Sound::BabyCry) - BABY_FROM).max(0.0);
    (of(Sound::Cat) + of(Sound::Meow).max(of(Sound::Purr))) / 2.0 - BABY_SHARE * baby
}

/// Probability of a cat. `own` is the logit that is learnt from labels, `named` that from the larger network: they make
/// different mistakes.
fn probability(own: f32, named: f32) -> f32 {
    sigmoid(OWN_SLOPE * own + NAMED_SLOPE * named + SCORE_OFFSET)
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn steps_of_ms(ms: u32) -> u64 {
    (u64::from(ms) * 16).div_ceil(STEP_SAMPLES as u64)
}

impl Segmenter {
    fn new(config: DetectorConfig) -> Self {
        Self {
            config,
            samples: 0,
            steps: 0,
            recent: [-LOGIT_LIMIT; SCORE_WINDOWS[SCORE_WINDOWS.len() - 1]].into(),
            recent_named: [-LOGIT_LIMIT; NAMED_WINDOW].into(),
            previous: None,
            probability: 0.0,
            best: Best::NOTHING,
            open: None,
        }
    }

    /// Takes the network's next answer, and decides the step before it.
    fn take(&mut self, answer: &Answer, on_segment: &mut impl FnMut(Segment)) {
        self.recent.pop_front();
        self.recent.push_back(answer.cat_logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT));
        self.recent_named.pop_front();
        self.recent_named.push_back(named_logit(answer).clamp(-LOGIT_LIMIT, LOGIT_LIMIT));
        let means = self.means();
        self.best.raise(&means);
        if let Some(open) = &mut self.open {
            open.best.raise(&means);
        }
        if let Some(decided) = self.previous.replace(answer.clone()) {
            self.decide(&decided, &means, on_segment);
        }
    }

    /// The mean logits of the latest answers, by window.
    fn means(&self) -> Means {
        let mut means: Means = [self.recent_named.iter().sum::<f32>() / NAMED_WINDOW as f32; SCORE_WINDOWS.len() + 1];
        for (mean, window) in means.iter_mut().zip(SCORE_WINDOWS) {
            *mean = self.recent.iter().rev().take(window).sum::<f32>() / window as f32;
        }
        means
    }

    /// Ends the stream: decides the last step and closes a vocalisation that is open.
    fn end(&mut self, on_segment: &mut impl FnMut(Segment)) {
        if let Some(decided) = self.previous.take() {
            self.recent.pop_front();
            self.recent.push_back(-LOGIT_LIMIT);
            self.recent_named.pop_front();
            self.recent_named.push_back(-LOGIT_LIMIT);
            self.decide(&decided, &self.means(), on_segment);
        }
        self.close(on_segment);
    }

    fn decide(&mut self, answer: &Answer, means: &Means, on_segment: &mut impl FnMut(Segment)) {
        let step = self.steps;
        self.steps += 1;
        let [own, .., named] = *means;
        // As the score, so that a sound that scores high is a vocalisation.
        self.probability = probability(own, named);
        if self.probability >= self.config.on_probability && self.open.is_none() {
            let mut best = Best::NOTHING;
            best.raise(means);
            let (embedding, sound_logits) = ([0.0; EMBEDDING], [0.0; SOUNDS]);
            self.open = Some(Open { first_step: step, last_step: step, best, weight: 0.0, embedding, sound_logits });
        }
        let Some(open) = &mut self.open else { return };
        if self.probability >= self.config.off_probability {
            open.last_step = step;
            open.hear(answer, self.probability);
        }
        let silence = step - open.last_step;
        let longest = steps_of_ms(self.config.max_ms);
        if silence > steps_of_ms(self.config.merge_gap_ms) || step - open.first_step >= longest {
            self.close(on_segment);
        }
    }

    fn close(&mut self, on_segment: &mut impl FnMut(Segment)) {
        let Some(open) = self.open.take() else { return };
        let long_enough = open.last_step + 1 - open.first_step >= steps_of_ms(self.config.min_ms);
        let score = open.best.score();
        if long_enough && score >= self.config.min_score {
            let sound_logits = open.sound_logits.map(|sum| sum / open.weight);
            on_segment(Segment {
                start_sample: start_of(open.first_step),
                end_sample: start_of(open.last_step + 1).min(self.samples),
                score,
                kind: kind_of(&sound_logits),
                sound_logits,
                embedding: open.embedding.map(|sum| sum / open.weight),
            });
        }
    }
}

impl Open {
    fn hear(&mut self, answer: &Answer, weight: f32) {
        self.weight += weight;
        for (sum, value) in self.embedding.iter_mut().zip(&answer.embedding) {
            *sum += weight * value;
        }
        for (sum, value) in self.sound_logits.iter_mut().zip(&answer.sound_logits) {
            *sum += weight * value;
        }
    }
}

/// The kind with the highest logit, however small its lead: the larger network that these logits were learnt from
/// seldom names a purr, hiss or growl, so that a slight lead means something.
fn kind_of(logits: &[f32; SOUNDS]) -> Kind {
    let of = |sound: Sound| logits[sound as usize];
    let meow = of(Sound::Meow).max(of(Sound::Caterwaul));
    let (purr, hiss_or_growl) = (of(Sound::Purr), of(Sound::Hiss).max(of(Sound::Growl)));
    if meow >= purr && meow >= hiss_or_growl {
        Kind::Meow
    } else if purr >= hiss_or_growl {
        Kind::Purr
    } else {
        Kind::HissOrGrowl
    }
}
