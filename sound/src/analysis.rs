//! Listening: canonical audio in, cat vocalisations out.
//!
//! One [`Analyzer`] serves a file and a live stream alike. The trained [`Detector`] finds the events; each is then measured
//! and its context told. The chunks in which audio comes change nothing, and only a bounded stretch
//! of it is kept.

use std::collections::VecDeque;

use crate::SAMPLE_RATE_HZ;
use crate::context::{ContextModel, Features, context_of};
use crate::detection::Detection;
use crate::detector::{Detector, Event, Kind};
use crate::level::{Level, LevelMeter, SILENCE_DBFS};
use crate::measure::Meter;
use crate::model::Model;
use crate::prosody::prosody;

pub use crate::detector::DetectorConfig as AnalyzerConfig;

/// What a whole recording holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Length of the recording, gaps counted, in seconds.
    pub duration_s: f64,
    /// How sure it is that there is a cat at all, by its best second: 0 to 1. Also below the threshold of a detection.
    pub cat_score: f32,
    /// The detections that were not taken before, in order.
    pub detections: Vec<Detection>,
    /// Level of all of it.
    pub level: Level,
}

/// A detection and what its context was told from.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The detection, its context by the general classifier.
    pub detection: Detection,
    /// What sort of sound.
    pub kind: Kind,
    /// For a cat's own classifier: [`crate::household`].
    pub features: Features,
}

/// Listens to one stream.
pub struct Analyzer {
    config: AnalyzerConfig,
    model: &'static Model,
    detector: Detector,
    /// Position of the detector's first sample: after a gap a fresh one takes over.
    detector_start: u64,
    meter: Meter,
    level: LevelMeter,
    background: Background,
    /// Audio from `recent_start` on: all that an open or coming event may need.
    recent: Vec<i16>,
    recent_start: u64,
    /// Highest score of the detectors before the gaps.
    cat_score: f32,
    heard: Vec<Heard>,
}

/// Samples taken at a time, so that a long chunk does not make `recent` long.
const SLICE_SAMPLES: usize = 1_024;

impl Analyzer {
    /// An analyzer at the start of a stream.
    pub fn new(config: AnalyzerConfig) -> Self {
        Self::with_model(Model::shipped(), config)
    }

    /// As [`Analyzer::new`], with other weights than the shipped ones.
    pub fn with_model(model: &'static Model, config: AnalyzerConfig) -> Self {
        Self {
            config,
            model,
            detector: Detector::new(model, config),
            detector_start: 0,
            meter: Meter::default(),
            level: LevelMeter::default(),
            background: Background::new(config),
            recent: Vec::new(),
            recent_start: 0,
            cat_score: 0.0,
            heard: Vec::new(),
        }
    }

    /// Takes the next samples, any number of them.
    pub fn push(&mut self, samples: &[i16]) {
        self.level.push(samples);
        for slice in samples.chunks(SLICE_SAMPLES) {
            self.recent.extend_from_slice(slice);
            self.background.push(slice);
            let mut events = Vec::new();
            self.detector.push(slice, |event| events.push(event));
            self.judge(&events);
            self.forget();
        }
    }

    /// The next `sample_count` samples are lost: an open sound ends here, and positions go on after the gap.
    pub fn push_gap(&mut self, sample_count: u64) {
        self.end_detector();
        self.detector_start = self.position() + sample_count;
        self.recent_start = self.detector_start;
        self.recent.clear();
        self.background = Background::new(self.config);
    }

    /// The finished detections since the last call, in order.
    pub fn take_detections(&mut self) -> Vec<Detection> {
        self.take_heard().into_iter().map(|heard| heard.detection).collect()
    }

    /// As [`Analyzer::take_detections`], with all that is known of each.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// Position up to which everything is decided, in samples: later audio changes no detection before it.
    pub fn decided_until(&self) -> u64 {
        self.detector_start + self.detector.decided_until()
    }

    /// Highest score so far, 0 to 1.
    pub fn cat_score(&self) -> f32 {
        self.cat_score.max(self.detector.cat_score())
    }

    /// How much it sounds like a cat now, 0 to 1; trails the audio by about a second.
    pub fn current_score(&self) -> f32 {
        self.detector.probability()
    }

    /// The stream has ended.
    pub fn finish(self) -> Analysis {
        let (analysis, heard) = self.finish_heard();
        Analysis { detections: heard.into_iter().map(|heard| heard.detection).collect(), ..analysis }
    }

    /// As [`Analyzer::finish`], with all that is known of each detection; the analysis itself holds none.
    pub fn finish_heard(mut self) -> (Analysis, Vec<Heard>) {
        let samples = self.position();
        self.end_detector();
        let analysis = Analysis {
            duration_s: samples as f64 / f64::from(SAMPLE_RATE_HZ),
            cat_score: self.cat_score,
            detections: Vec::new(),
            level: self.level.level(),
        };
        (analysis, self.heard)
    }

    /// Position of the next sample.
    fn position(&self) -> u64 {
        self.recent_start + self.recent.len() as u64
    }

    /// Judges what the detector still holds, and puts a fresh one in its place.
    fn end_detector(&mut self) {
        let detector = std::mem::replace(&mut self.detector, Detector::new(self.model, self.config));
        let mut events = Vec::new();
        let score = detector.finish(|event| events.push(event));
        self.cat_score = self.cat_score.max(score);
        self.judge(&events);
    }

    fn judge(&mut self, events: &[Event]) {
        for event in events {
            let (start_sample, end_sample) =
                (self.detector_start + event.start_sample, self.detector_start + event.end_sample);
            let audio =
                &self.recent[(start_sample - self.recent_start) as usize..(end_sample - self.recent_start) as usize];
            let background_dbfs = self.background.before(event.start_sample);
            let measurements = self.meter.measure(audio, background_dbfs);
            let prosody = prosody(&mut self.meter, audio, background_dbfs);
            let features = Features { prosody, embedding: event.embedding };
            let context = context_of(&ContextModel::shipped().logits(&features));
            let detection = Detection { start_sample, end_sample, score: event.score, context, measurements };
            self.heard.push(Heard { detection, kind: event.kind, features });
        }
    }

    /// Drops the audio that no open or coming event needs.
    fn forget(&mut self) {
        let needed_from = self.decided_until().clamp(self.recent_start, self.position());
        let drop = (needed_from - self.recent_start) as usize;
        // Moving memory for each slice would be quadratic in the length of a sound; half a second at a time is not.
        if drop >= SAMPLE_RATE_HZ as usize / 2 {
            self.recent.drain(..drop);
            self.recent_start = needed_from;
        }
    }
}

/// How loud it was lately, for telling how far an event stands out.
struct Background {
    /// Levels of steps of [`Background::STEP`] samples, the last one newest.
    levels_dbfs: VecDeque<f32>,
    /// Steps so far.
    steps: u64,
    /// Of the step that is filling.
    partial: LevelMeter,
    partial_samples: usize,
    kept: usize,
}

impl Background {
    /// 20 ms.
    const STEP: usize = 320;
    /// The background of an event is measured over this many steps before it: 3 s.
    const SPAN: u64 = 150;

    fn new(config: AnalyzerConfig) -> Self {
        // What an event needs when it is judged: the span before it, itself, and the delay of the detector (2 s and more).
        let kept = Self::SPAN as usize + (config.max_ms + config.merge_gap_ms) as usize / 20 + 150;
        let levels_dbfs = VecDeque::with_capacity(kept + 1);
        Self { levels_dbfs, steps: 0, partial: LevelMeter::default(), partial_samples: 0, kept }
    }

    fn push(&mut self, mut samples: &[i16]) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(Self::STEP - self.partial_samples));
            self.partial.push(now);
            self.partial_samples += now.len();
            samples = later;
            if self.partial_samples == Self::STEP {
                self.levels_dbfs.push_back(std::mem::take(&mut self.partial).level().rms_dbfs);
                self.partial_samples = 0;
                self.steps += 1;
                if self.levels_dbfs.len() > self.kept {
                    self.levels_dbfs.pop_front();
                }
            }
        }
    }

    /// Level before a sample, counted as pushed here: the quietest fifth of the 3 s before it. With nothing before it,
    /// silence.
    fn before(&self, sample: u64) -> f32 {
        let first_kept = self.steps - self.levels_dbfs.len() as u64;
        let end = sample / Self::STEP as u64;
        let from = end.saturating_sub(Self::SPAN).max(first_kept);
        let (skip, take) = ((from - first_kept) as usize, end.saturating_sub(from) as usize);
        let mut levels: Vec<f32> = self.levels_dbfs.iter().skip(skip).take(take).copied().collect();
        levels.sort_by(f32::total_cmp);
        levels.get(levels.len() / 5).copied().unwrap_or(SILENCE_DBFS)
    }
}

#[cfg(test)]
mod tests;
