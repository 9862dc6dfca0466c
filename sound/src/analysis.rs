//! Listening: canonical audio in, cat vocalisations out.
//!
//! One [`Analyzer`] serves a file and a live stream alike. It works in fixed steps of its own, so the chunks in which audio
//! comes change nothing, and keeps a bounded stretch of it.

use crate::SAMPLE_RATE_HZ;
use crate::detection::{Context, ContextLabel, ContextProbabilities, Detection};
use crate::level::{Level, LevelMeter};
use crate::measure::Meter;
use crate::rules;
use crate::segment::{STEP, Segment, Segmenter};

/// What counts as a detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnalyzerConfig {
    /// Lowest score of a detection, 0 to 1.
    pub min_score: f32,
    /// Longest detection, in milliseconds; what goes on longer is cut there. Bounds the memory of a stream.
    pub max_ms: u32,
}

impl Default for AnalyzerConfig {
    fn default() -> Self {
        Self { min_score: 0.5, max_ms: 5000 }
    }
}

/// What a whole recording holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Length of the recording, gaps counted, in seconds.
    pub duration_s: f64,
    /// Highest score of any sound in it, below the threshold of a detection too: 0 to 1.
    pub cat_score: f32,
    /// The detections that were not taken before, in order.
    pub detections: Vec<Detection>,
    /// Level of all of it.
    pub level: Level,
}

/// Listens to one stream.
pub struct Analyzer {
    config: AnalyzerConfig,
    segmenter: Segmenter,
    meter: Meter,
    level: LevelMeter,
    /// Audio from `recent_start` on: the step that is filling, and all that an open segment needs.
    recent: Vec<i16>,
    recent_start: u64,
    /// Samples of `recent` that the segmenter has seen.
    stepped: usize,
    cat_score: f32,
    /// End and score of the sound judged last.
    last_judged: Option<(u64, f32)>,
    detections: Vec<Detection>,
}

/// How long the score of a sound that has ended is current: one second.
const CURRENT_SAMPLES: u64 = SAMPLE_RATE_HZ as u64;

impl Analyzer {
    /// An analyzer at the start of a stream.
    pub fn new(config: AnalyzerConfig) -> Self {
        let max_samples = u64::from(config.max_ms) * u64::from(SAMPLE_RATE_HZ) / 1000;
        Self {
            config,
            segmenter: Segmenter::new(max_samples),
            meter: Meter::default(),
            level: LevelMeter::default(),
            recent: Vec::new(),
            recent_start: 0,
            stepped: 0,
            cat_score: 0.0,
            last_judged: None,
            detections: Vec::new(),
        }
    }

    /// Takes the next samples, any number of them.
    pub fn push(&mut self, samples: &[i16]) {
        self.level.push(samples);
        // One step at a time, so that a long chunk does not make `recent` long.
        for chunk in samples.chunks(STEP) {
            self.recent.extend_from_slice(chunk);
            while let Some(step) = self.recent[self.stepped..].first_chunk::<STEP>() {
                let ended = self.segmenter.step(step);
                self.stepped += STEP;
                if let Some(segment) = ended {
                    self.judge(segment);
                }
                self.forget();
            }
        }
    }

    /// The next `sample_count` samples are lost: an open sound ends here, and positions go on after the gap.
    pub fn push_gap(&mut self, sample_count: u64) {
        let partial = (self.recent.len() - self.stepped) as u64;
        // The segmenter counts whole steps; what a step lacks is taken out of the gap's end.
        let lost_steps = (partial + sample_count).div_ceil(STEP as u64);
        if let Some(segment) = self.segmenter.interrupt(lost_steps) {
            self.judge(segment);
        }
        self.recent_start += self.stepped as u64 + lost_steps * STEP as u64;
        self.recent.clear();
        self.stepped = 0;
    }

    /// The finished detections since the last call, in order.
    pub fn take_detections(&mut self) -> Vec<Detection> {
        std::mem::take(&mut self.detections)
    }

    /// Position up to which everything is decided, in samples: later audio changes no detection before it.
    pub fn decided_until(&self) -> u64 {
        self.segmenter.open_since().unwrap_or(self.recent_start + self.stepped as u64)
    }

    /// Highest score so far, 0 to 1.
    pub fn cat_score(&self) -> f32 {
        self.cat_score
    }

    /// How much it sounds like a cat now, 0 to 1: the score of a sound that ended within the last second.
    pub fn current_score(&self) -> f32 {
        let now = self.recent_start + self.stepped as u64;
        self.last_judged.filter(|(end, _)| end + CURRENT_SAMPLES >= now).map_or(0.0, |(_, score)| score)
    }

    /// The stream has ended.
    pub fn finish(mut self) -> Analysis {
        if let Some(segment) = self.segmenter.interrupt(0) {
            self.judge(segment);
        }
        let samples = self.recent_start + self.recent.len() as u64;
        Analysis {
            duration_s: samples as f64 / f64::from(SAMPLE_RATE_HZ),
            cat_score: self.cat_score,
            detections: self.detections,
            level: self.level.level(),
        }
    }

    fn judge(&mut self, segment: Segment) {
        let from = (segment.start_sample - self.recent_start) as usize;
        let to = (segment.end_sample - self.recent_start) as usize;
        let measurements = self.meter.measure(&self.recent[from..to], segment.background_dbfs);
        let duration_s = (to - from) as f32 / SAMPLE_RATE_HZ as f32;
        let score = rules::cat_score(duration_s, &measurements);
        self.cat_score = self.cat_score.max(score);
        self.last_judged = Some((segment.end_sample, score));
        if score >= self.config.min_score {
            self.detections.push(Detection {
                start_sample: segment.start_sample,
                end_sample: segment.end_sample,
                score,
                context: UNKNOWN_CONTEXT,
                measurements,
            });
        }
    }

    /// Drops the audio that no open segment needs.
    fn forget(&mut self) {
        let needed_from = self.decided_until();
        let drop = (needed_from - self.recent_start) as usize;
        // Moving memory for each step would be quadratic in the length of a sound; a whole second at a time is not.
        if drop == self.stepped || drop >= SAMPLE_RATE_HZ as usize {
            self.recent.drain(..drop);
            self.recent_start = needed_from;
            self.stepped -= drop;
        }
    }
}

/// Rules on level and pitch do not tell contexts apart.
const UNKNOWN_CONTEXT: Context = Context {
    label: ContextLabel::Uncertain,
    probabilities: ContextProbabilities { waiting_for_food: 1.0 / 3.0, isolation: 1.0 / 3.0, brushing: 1.0 / 3.0 },
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Meow-like: five harmonics of a pitch that rises from 400 to 700 Hz and falls again.
    fn meows(seconds: f32, starts_s: &[f32]) -> Vec<i16> {
        let mut audio = vec![0i16; (seconds * 16000.0) as usize];
        let mut state = 7u32;
        for sample in &mut audio {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = ((state >> 16) as i16) / 600;
        }
        for start_s in starts_s {
            let mut phase = 0.0f32;
            let start = (start_s * 16000.0) as usize;
            for (n, sample) in audio[start..start + 12800].iter_mut().enumerate() {
                let arch = (n as f32 / 12800.0 * std::f32::consts::PI).sin();
                phase += (400.0 + 300.0 * arch) / 16000.0 * std::f32::consts::TAU;
                let voice: f32 = (1..=5).map(|k| (phase * k as f32).sin() / (k as f32).sqrt()).sum();
                *sample += (voice * arch.sqrt() * 2000.0) as i16;
            }
        }
        audio
    }

    fn analyse(audio: &[i16], chunk: usize) -> Analysis {
        let mut analyzer = Analyzer::new(AnalyzerConfig::default());
        audio.chunks(chunk).for_each(|chunk| analyzer.push(chunk));
        analyzer.finish()
    }

    #[test]
    fn meows_are_found_where_they_are() {
        let found = analyse(&meows(8.0, &[1.0, 3.0, 5.5]), 320);
        let starts: Vec<f64> = found.detections.iter().map(|d| d.start_sample as f64 / 16000.0).collect();
        assert_eq!(starts.len(), 3, "{found:?}");
        for (found, truth) in starts.iter().zip([1.0, 3.0, 5.5]) {
            assert!((found - truth).abs() < 0.1, "{starts:?}");
        }
        assert_eq!(found.duration_s, 8.0);
    }

    #[test]
    fn chunking_changes_nothing() {
        let audio = meows(6.0, &[0.7, 2.0, 4.1]);
        let whole = analyse(&audio, audio.len());
        for chunk in [1, 7, 160, 321, 16000, 50_001] {
            assert_eq!(analyse(&audio, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn silence_dc_and_clipped_noise_hold_no_cat() {
        let mut state = 1u32;
        let noise = (0..48000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 0 { i16::MIN } else { i16::MAX }
        });
        for audio in [vec![0; 48000], vec![12000; 48000], vec![i16::MAX; 48000], noise.collect()] {
            let found = analyse(&audio, 320);
            assert_eq!(found.detections, []);
            assert!(found.cat_score.is_finite() && found.cat_score < 0.5, "{found:?}");
        }
    }

    #[test]
    fn positions_go_on_after_a_gap() {
        let audio = meows(4.0, &[1.0]);
        let mut analyzer = Analyzer::new(AnalyzerConfig::default());
        analyzer.push(&audio);
        analyzer.push_gap(320 * 500);
        analyzer.push(&audio);
        let found = analyzer.finish();
        let starts: Vec<u64> = found.detections.iter().map(|d| d.start_sample).collect();
        assert_eq!(starts.len(), 2, "{found:?}");
        assert_eq!(starts[1] - starts[0], 4 * 16000 + 320 * 500);
        assert_eq!(found.duration_s, 18.0);
    }

    #[test]
    fn a_gap_in_mid_meow_ends_it() {
        let audio = meows(2.0, &[1.0]);
        let mut analyzer = Analyzer::new(AnalyzerConfig::default());
        analyzer.push(&audio[..16000 + 8100]);
        assert!(analyzer.decided_until() < 16000 + 1600);
        analyzer.push_gap(320);
        let found = analyzer.take_detections();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].end_sample <= 16000 + 8100);
        assert_eq!(analyzer.decided_until() % STEP as u64, 0);
    }

    #[test]
    fn memory_is_bounded_however_long_the_sound() {
        let mut analyzer = Analyzer::new(AnalyzerConfig::default());
        let audio = meows(2.0, &[0.5]);
        for _ in 0..200 {
            analyzer.push(&audio);
            analyzer.take_detections();
            assert!(analyzer.recent.capacity() <= 16 * 16000, "{}", analyzer.recent.capacity());
        }
    }
}
