//! Cat events from the network's answers: smoothing, hysteresis, and what is known of each event.

use std::collections::VecDeque;

use serde::Deserialize;
use thiserror::Error;

use crate::logmel::{LogMel, WINDOW_SAMPLES};
use crate::model::{Answer, EMBEDDING, Hearing, Model, SOUNDS, STEP_SAMPLES, Sound};

/// What counts as an event. Times are multiples of a step (64 ms); others are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DetectorConfig {
    /// An event begins where the smoothed probability reaches this, 0.05 to 0.99.
    pub on_probability: f32,
    /// It goes on while the smoothed probability is at least this, 0.01 to `on_probability`.
    pub off_probability: f32,
    /// Events shorter than this are dropped, in milliseconds, 64 to 2,000.
    pub min_ms: u32,
    /// Events closer than this are one, in milliseconds, 0 to 2,000.
    pub merge_gap_ms: u32,
    /// Longest event, in milliseconds, 2,000 to 30,000: it is cut there and goes on as another. So much audio is remembered.
    pub max_ms: u32,
    /// Events with a lower score are dropped, 0 to 1.
    pub min_score: f32,
}

impl DetectorConfig {
    /// What is good for most.
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

/// A value of [`DetectorConfig`] that is out of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not within {bounds}")]
pub struct OutOfBounds {
    /// The field.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it may be.
    pub bounds: String,
}

impl DetectorConfig {
    /// Whether all values are within their bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let shares = [
            ("on_probability", self.on_probability, 0.05, 0.99),
            ("off_probability", self.off_probability, 0.01, self.on_probability),
            ("min_score", self.min_score, 0.0, 1.0),
        ];
        let times = [
            ("min_ms", self.min_ms, 64, 2_000),
            ("merge_gap_ms", self.merge_gap_ms, 0, 2_000),
            ("max_ms", self.max_ms, 2_000, 30_000),
        ];
        let bad = |key, value: String, low: String, high: String| OutOfBounds {
            key,
            value,
            bounds: format!("{low} to {high}"),
        };
        for (key, value, low, high) in shares {
            if !(low..=high).contains(&value) {
                return Err(bad(key, value.to_string(), low.to_string(), high.to_string()));
            }
        }
        for (key, value, low, high) in times {
            if !(low..=high).contains(&value) {
                return Err(bad(key, value.to_string(), low.to_string(), high.to_string()));
            }
        }
        Ok(())
    }
}

/// What sort of cat sound an event is.
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

/// One cat vocalisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// First sample, counted from the start of the stream.
    pub start_sample: u64,
    /// The sample after the last.
    pub end_sample: u64,
    /// How sure it is a cat, 0 to 1.
    pub score: f32,
    /// What sort of sound.
    pub kind: Kind,
    /// Mean logits of all [`Sound`]s, speech among them.
    pub sound_logits: [f32; SOUNDS],
    /// Mean embedding, each step weighted by its probability of a cat: for context and household classifiers.
    pub embedding: [f32; EMBEDDING],
}

/// Answers over which logits are averaged before hysteresis: 192 ms.
const SMOOTH_STEPS: usize = 3;

/// Windows, in answers, whose best mean logits make a score; `training/network.py` trains with the same.
const SCORE_WINDOWS: [usize; 3] = [3, 7, 15];

/// Logits beyond this count as this, so that one wild step does not decide.
const LOGIT_LIMIT: f32 = 8.0;

/// Window, in answers, over which what the larger network would say of "cat" and "meow" is averaged for the score.
const NAMED_WINDOW: usize = 3;

/// From the best windows' logits to the log-odds of the score. On recordings that the weights do not know, logistic regression gives a slope
/// of 0.5 with all cats of docs/MODEL.md and of 1.2 with those of ESC-50 alone, cats and others weighing alike.
const SCORE_SLOPE: f32 = 0.7;
const SCORE_OFFSET: f32 = 0.0;

/// Finds cat events in one stream. Memory is constant, and how the stream is cut into pushes changes nothing.
pub struct Detector {
    model: &'static Model,
    front: LogMel,
    hearing: Hearing,
    events: Events,
}

impl Detector {
    /// A detector at the start of a stream.
    #[must_use]
    pub fn new(model: &'static Model, config: DetectorConfig) -> Self {
        Self { model, front: LogMel::new(), hearing: Hearing::new(model), events: Events::new(config) }
    }

    /// Takes the next samples of canonical audio and hands out the events that they finish, in order.
    pub fn push(&mut self, samples: &[i16], mut on_event: impl FnMut(Event)) {
        let Self { model, front, hearing, events } = self;
        events.samples += samples.len() as u64;
        front.push(samples, |frame| {
            hearing.push(model, frame, &mut |answer| events.take(answer, &mut on_event));
        });
    }

    /// The stream has ended: hands out what was still open, and returns the final [`Detector::cat_score`].
    pub fn finish(self, mut on_event: impl FnMut(Event)) -> f32 {
        let Self { model, mut front, hearing, mut events } = self;
        // What a last, partial window holds is heard too.
        let mut hearing = hearing;
        if events.samples > 0 {
            front.push(&[0; WINDOW_SAMPLES], |frame| {
                hearing.push(model, frame, &mut |answer| events.take(answer, &mut on_event));
            });
        }
        hearing.finish(model, &mut |answer| events.take(answer, &mut on_event));
        events.end(&mut on_event);
        events.best.score()
    }

    /// How sure it is that there was a cat so far: the best stretch of up to a second, 0 to 1. Trails the audio by about a
    /// second.
    #[must_use]
    pub fn cat_score(&self) -> f32 {
        self.events.best.score()
    }

    /// Smoothed probability of a cat at the last step heard, 0 to 1: for live displays.
    #[must_use]
    pub fn probability(&self) -> f32 {
        self.events.probability
    }

    /// Later audio changes no event before this sample.
    #[must_use]
    pub fn decided_until(&self) -> u64 {
        match &self.events.open {
            Some(open) => start_of(open.first_step),
            None => start_of(self.events.steps.saturating_sub(1)),
        }
    }
}

/// First sample of the stretch that a step stands for.
fn start_of(step: u64) -> u64 {
    // Answer j speaks of the time around sample j * STEP_SAMPLES + WINDOW_SAMPLES / 2.
    (step * STEP_SAMPLES as u64 + WINDOW_SAMPLES as u64 / 2).saturating_sub(STEP_SAMPLES as u64 / 2)
}

/// Answers in, events out.
struct Events {
    config: DetectorConfig,
    samples: u64,
    /// Steps decided: the smoothing window reaches one step further.
    steps: u64,
    /// The last answers, newest last; as many as the longest score window.
    recent: VecDeque<f32>,
    /// As `recent`, of the mean logit of "cat" and "meow".
    recent_named: VecDeque<f32>,
    previous: Option<Answer>,
    probability: f32,
    best: Best,
    open: Option<Open>,
}

/// An event that has begun.
struct Open {
    first_step: u64,
    /// The last step that was loud enough to go on.
    last_step: u64,
    best: Best,
    weight: f32,
    embedding: [f32; EMBEDDING],
    sound_logits: [f32; SOUNDS],
}

/// Best mean logit of each score window, and last the best of the window of names.
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
        // What was learnt from labels, and what was learnt from the larger network: each errs where the other does not.
        let logit = own.iter().sum::<f32>() / own.len() as f32 + named;
        sigmoid(SCORE_SLOPE * logit + SCORE_OFFSET)
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

fn steps_of_ms(ms: u32) -> u64 {
    (u64::from(ms) * 16).div_ceil(STEP_SAMPLES as u64)
}

impl Events {
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

    /// Takes the network's next answer. A step is decided when the answer after it is known.
    fn take(&mut self, answer: &Answer, on_event: &mut impl FnMut(Event)) {
        self.recent.pop_front();
        self.recent.push_back(answer.cat_logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT));
        let named = (answer.sound_logits[Sound::Cat as usize] + answer.sound_logits[Sound::Meow as usize]) / 2.0;
        self.recent_named.pop_front();
        self.recent_named.push_back(named.clamp(-LOGIT_LIMIT, LOGIT_LIMIT));
        let mut means: Means = [self.recent_named.iter().sum::<f32>() / NAMED_WINDOW as f32; SCORE_WINDOWS.len() + 1];
        for (mean, window) in means.iter_mut().zip(SCORE_WINDOWS) {
            *mean = self.recent.iter().rev().take(window).sum::<f32>() / window as f32;
        }
        self.best.raise(&means);
        if let Some(open) = &mut self.open {
            open.best.raise(&means);
        }
        if let Some(decided) = self.previous.replace(answer.clone()) {
            self.decide(&decided, &means, on_event);
        }
    }

    /// The stream has ended: decides the last step and closes what is open.
    fn end(&mut self, on_event: &mut impl FnMut(Event)) {
        if let Some(decided) = self.previous.take() {
            self.recent.pop_front();
            self.recent.push_back(-LOGIT_LIMIT);
            self.decide(&decided, &Best::NOTHING.0, on_event);
        }
        self.close(on_event);
    }

    fn decide(&mut self, answer: &Answer, means: &Means, on_event: &mut impl FnMut(Event)) {
        let step = self.steps;
        self.steps += 1;
        self.probability = sigmoid(self.recent.iter().rev().take(SMOOTH_STEPS).sum::<f32>() / SMOOTH_STEPS as f32);
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
        let pause = step - open.last_step;
        if pause > steps_of_ms(self.config.merge_gap_ms) || step - open.first_step >= steps_of_ms(self.config.max_ms) {
            self.close(on_event);
        }
    }

    fn close(&mut self, on_event: &mut impl FnMut(Event)) {
        let Some(open) = self.open.take() else { return };
        let long_enough = open.last_step + 1 - open.first_step >= steps_of_ms(self.config.min_ms);
        let score = open.best.score();
        if long_enough && score >= self.config.min_score {
            let sound_logits = open.sound_logits.map(|sum| sum / open.weight);
            on_event(Event {
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

/// The likeliest kind. The larger network that these logits were learnt from seldom names a purr, hiss or growl, so where
/// it leans to one at all, that is the answer.
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
