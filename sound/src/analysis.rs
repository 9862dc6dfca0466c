//! The whole analysis: canonical audio in, vocalisations with score, measurements and context out.
//!
//! An [`Analyzer`] serves a file and a live stream alike. Its [`Detector`] finds the vocalisations; the analyzer
//! measures each and classifies its context. How the audio is cut into pushes changes nothing, and the analyzer keeps a
//! bounded stretch of audio in memory.

use std::collections::VecDeque;

use crate::SAMPLE_RATE_HZ;
use crate::context::{ContextModel, Features, context_of};
use crate::detection::Detection;
use crate::detector::{Detector, DetectorConfig, Kind, Segment};
use crate::level::{Level, LevelMeter, SILENCE_DBFS};
use crate::measure::{Meter, measurements};
use crate::model::Model;
use crate::prosody;
use crate::same_sound::Envelope;

/// The result for a whole recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Length of the recording in seconds, lost audio included.
    pub duration_s: f64,
    /// Probability that there is a cat anywhere in the recording, 0 to 1, from its best second. It says something even
    /// when no vocalisation was detected.
    pub cat_score: f32,
    /// The vocalisations that were not taken before, in order.
    pub detections: Vec<Detection>,
    /// Level of the whole recording, without lost audio.
    pub level: Level,
}

/// A vocalisation with what its context was classified by.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocalisation {
    /// Where it is, its score, its measurements, and its context by the general classifier.
    pub detection: Detection,
    /// What sort of sound it is.
    pub kind: Kind,
    /// Input of the cat's own classifier: see [`crate::household`].
    pub features: Features,
    /// Its envelope, which tells whether another node heard the same sound.
    pub envelope: Envelope,
}

/// Analyses one stream.
pub struct Analyzer {
    config: DetectorConfig,
    model: &'static Model,
    /// Whether the results may come late.
    is_recording: bool,
    detector: Detector,
    /// Index of the detector's first sample: after each gap a new detector takes over.
    detector_start: u64,
    meter: Meter,
    level: LevelMeter,
    background: Background,
    /// Audio from index `recent_start` on: all that an open or future vocalisation may need.
    recent: Vec<i16>,
    recent_start: u64,
    /// Highest score of the detectors before the last gap.
    cat_score: f32,
    heard: Vec<Vocalisation>,
}

/// Samples that are taken at a time, so that a long push does not make `recent` long.
const SLICE_SAMPLES: usize = 1_024;

impl Analyzer {
    /// An analyzer at the start of a stream.
    pub fn new(config: DetectorConfig) -> Self {
        Self::with_model(Model::shipped(), config)
    }

    /// As [`Analyzer::new`], for a recording. The results are the same, cost less, and come up to 1.5 s later.
    pub fn of_recording(config: DetectorConfig) -> Self {
        let mut analyzer = Self::new(config);
        analyzer.is_recording = true;
        analyzer.detector = analyzer.fresh_detector();
        analyzer
    }

    /// As [`Analyzer::new`], with a network other than the shipped one.
    pub fn with_model(model: &'static Model, config: DetectorConfig) -> Self {
        Self {
            config,
            model,
            is_recording: false,
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

    /// Takes the next samples of canonical audio, any number of them.
    pub fn push(&mut self, samples: &[i16]) {
        self.level.push(samples);
        for slice in samples.chunks(SLICE_SAMPLES) {
            self.recent.extend_from_slice(slice);
            self.background.push(slice);
            let mut segments = Vec::new();
            self.detector.push(slice, |segment| segments.push(segment));
            self.judge(&segments);
            self.forget();
        }
    }

    /// Takes note of a gap: the next `sample_count` samples are lost. A vocalisation that is open ends here, and sample
    /// indices go on after the gap.
    pub fn push_gap(&mut self, sample_count: u64) {
        self.end_detector();
        self.detector_start = self.position() + sample_count;
        self.recent_start = self.detector_start;
        self.recent.clear();
        self.background = Background::new(self.config);
    }

    /// Takes the vocalisations that have ended since the last call, in order.
    pub fn take_detections(&mut self) -> Vec<Detection> {
        self.take_vocalisations().into_iter().map(|heard| heard.detection).collect()
    }

    /// As [`Analyzer::take_detections`], with kind and features of each.
    pub fn take_vocalisations(&mut self) -> Vec<Vocalisation> {
        std::mem::take(&mut self.heard)
    }

    /// Index of the sample up to which all is decided: audio still to come changes no vocalisation before it.
    pub fn decided_until(&self) -> u64 {
        self.detector_start + self.detector.decided_until()
    }

    /// Probability that there was a cat anywhere in the stream so far, 0 to 1.
    pub fn cat_score(&self) -> f32 {
        self.cat_score.max(self.detector.cat_score())
    }

    /// Probability of a cat now, 0 to 1, for live displays. Lags the audio by about a second.
    pub fn current_score(&self) -> f32 {
        self.detector.probability()
    }

    /// Ends the stream and gives its result.
    pub fn finish(self) -> Analysis {
        let (analysis, heard) = self.finish_vocalisations();
        Analysis { detections: heard.into_iter().map(|heard| heard.detection).collect(), ..analysis }
    }

    /// As [`Analyzer::finish`], with kind and features of each vocalisation. The list in [`Analysis`] is empty.
    pub fn finish_vocalisations(mut self) -> (Analysis, Vec<Vocalisation>) {
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

    /// Index of the next sample.
    fn position(&self) -> u64 {
        self.recent_start + self.recent.len() as u64
    }

    /// A detector at the start of a stream.
    fn fresh_detector(&self) -> Detector {
        let detector = Detector::new(self.model, self.config);
        if self.is_recording { detector.in_long_blocks() } else { detector }
    }

    /// Ends the detector's stream, measures what it still held, and puts a new detector in its place.
    fn end_detector(&mut self) {
        let fresh = self.fresh_detector();
        let detector = std::mem::replace(&mut self.detector, fresh);
        let mut segments = Vec::new();
        let score = detector.finish(|segment| segments.push(segment));
        self.cat_score = self.cat_score.max(score);
        self.judge(&segments);
    }

    /// Measures vocalisations and classifies their contexts.
    fn judge(&mut self, segments: &[Segment]) {
        for segment in segments {
            let (start_sample, end_sample) =
                (self.detector_start + segment.start_sample, self.detector_start + segment.end_sample);
            let audio =
                &self.recent[(start_sample - self.recent_start) as usize..(end_sample - self.recent_start) as usize];
            let background_dbfs = self.background.before(segment.start_sample);
            let track = self.meter.track(audio);
            let measurements = measurements(audio, &track, background_dbfs);
            let prosody = prosody::of_track(track, background_dbfs);
            let features = Features { prosody, embedding: segment.embedding };
            let context = context_of(&ContextModel::shipped().logits(&features));
            let detection = Detection { start_sample, end_sample, score: segment.score, context, measurements };
            self.heard.push(Vocalisation { detection, kind: segment.kind, features, envelope: Envelope::of(audio) });
        }
    }

    /// Drops the audio that no open or future vocalisation needs.
    fn forget(&mut self) {
        let needed_from = self.decided_until().clamp(self.recent_start, self.position());
        let drop = (needed_from - self.recent_start) as usize;
        // Each drop moves all that is left. Dropping at least half a second at a time keeps that cheap.
        if drop >= SAMPLE_RATE_HZ as usize / 2 {
            self.recent.drain(..drop);
            self.recent_start = needed_from;
        }
    }
}

/// The level of the last seconds, from which the background of a vocalisation is estimated.
struct Background {
    /// RMS level of each stretch of [`Background::STEP`] samples, the newest last.
    levels_dbfs: VecDeque<f32>,
    /// Stretches so far.
    steps: u64,
    /// The stretch that is not complete yet.
    partial: LevelMeter,
    partial_samples: usize,
    /// Most stretches that are kept.
    kept: usize,
}

impl Background {
    /// Samples of a stretch: 20 ms.
    const STEP: usize = 320;
    /// Stretches before a vocalisation that make up its background: 3 s.
    const SPAN: u64 = 150;

    fn new(config: DetectorConfig) -> Self {
        // When a vocalisation is measured, these stretches must still be there: those before it, its own, the silence
        // after which it ended, and those of the detector's delay: up to 2.8 s in long blocks, so 3 s are enough.
        let kept = Self::SPAN as usize + config.max_ms.saturating_add(config.merge_gap_ms) as usize / 20 + 150;
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

    /// Level of the background before a sample: the 20th percentile of the levels in the 3 s before it, which sounds in
    /// them hardly raise. The index counts the samples pushed here. With nothing before it, digital silence.
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
