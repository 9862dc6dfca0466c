//! Onsets and ends by level: where something stands out from the background.

use std::collections::VecDeque;

use crate::level::{SILENCE_DBFS, dbfs};

/// Samples of a level step: 20 ms.
pub(crate) const STEP: usize = 320;
/// Pre-emphasis takes rumble and hum out of the level: y\[n\] = x\[n\] - 0.97 x\[n-1\].
const PRE_EMPHASIS: f64 = 0.97;
/// A sound begins this far above the background, in dB.
const ONSET_ABOVE_DB: f32 = 9.0;
/// It goes on while it stays this far above, in dB.
const HOLD_ABOVE_DB: f32 = 5.0;
/// Pre-emphasised levels below this are never a sound, in dB of full scale: quantisation noise is at -98.
const ABSOLUTE_MIN_DBFS: f32 = -82.0;
/// Pauses shorter than this many steps (160 ms) do not end a sound.
const HANG_STEPS: u64 = 8;
/// The background is the lowest smoothed level of this many blocks of [`BLOCK_STEPS`] steps: 4 s.
const BLOCKS: usize = 8;
/// Steps in a background block: half a second.
const BLOCK_STEPS: u64 = 25;
/// Levels are averaged over this many steps before the minimum is taken.
const SMOOTH_STEPS: f32 = 4.0;
/// The minimum of a smoothed noise level lies about this far below its mean, in dB.
const MINIMUM_BIAS_DB: f32 = 2.0;

/// A stretch that stood out, in samples since the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Segment {
    pub(crate) start_sample: u64,
    pub(crate) end_sample: u64,
    /// Level of the background before it, plain (not pre-emphasised), in dB of full scale.
    pub(crate) background_dbfs: f32,
}

/// Finds segments in steps of exactly [`STEP`] samples.
pub(crate) struct Segmenter {
    max_steps: u64,
    position_steps: u64,
    previous_sample: f64,
    smoothed_dbfs: Option<f32>,
    block_minimum_dbfs: f32,
    block_minima_dbfs: VecDeque<f32>,
    background_plain_dbfs: f32,
    open: Option<Open>,
}

struct Open {
    start_step: u64,
    last_loud_step: u64,
    background_dbfs: f32,
    background_plain_dbfs: f32,
}

impl Segmenter {
    /// Segments longer than `max_samples` are cut there and go on as a new one.
    pub(crate) fn new(max_samples: u64) -> Self {
        Self {
            max_steps: max_samples / STEP as u64,
            position_steps: 0,
            previous_sample: 0.0,
            smoothed_dbfs: None,
            block_minimum_dbfs: 0.0,
            block_minima_dbfs: VecDeque::with_capacity(BLOCKS),
            background_plain_dbfs: SILENCE_DBFS,
            open: None,
        }
    }

    /// Where an open segment began, in samples.
    pub(crate) fn open_since(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.start_step * STEP as u64)
    }

    /// Takes the next step; returns the segment that it ended.
    pub(crate) fn step(&mut self, samples: &[i16; STEP]) -> Option<Segment> {
        let (mut emphasised, mut plain) = (0.0, 0.0);
        for &sample in samples {
            let sample = f64::from(sample);
            let difference = sample - PRE_EMPHASIS * self.previous_sample;
            self.previous_sample = sample;
            emphasised += difference * difference;
            plain += sample * sample;
        }
        let level = dbfs((emphasised / STEP as f64).sqrt());
        let background = self.background(level);
        let step = self.position_steps;
        self.position_steps += 1;

        let Some(open) = &mut self.open else {
            if level > ABSOLUTE_MIN_DBFS && level > background + ONSET_ABOVE_DB {
                self.open = Some(Open {
                    start_step: step,
                    last_loud_step: step,
                    background_dbfs: background,
                    background_plain_dbfs: self.background_plain_dbfs,
                });
            } else {
                let plain = dbfs((plain / STEP as f64).sqrt());
                self.background_plain_dbfs += (plain - self.background_plain_dbfs) / SMOOTH_STEPS;
            }
            return None;
        };
        if level > ABSOLUTE_MIN_DBFS && level > open.background_dbfs.max(background) + HOLD_ABOVE_DB {
            open.last_loud_step = step;
        }
        let too_long = step + 1 - open.start_step >= self.max_steps;
        if step - open.last_loud_step >= HANG_STEPS || too_long { self.close() } else { None }
    }

    /// The stream ends or is interrupted here: ends an open segment. The background is forgotten when `lost_steps` is not 0.
    pub(crate) fn interrupt(&mut self, lost_steps: u64) -> Option<Segment> {
        let segment = self.close();
        self.position_steps += lost_steps;
        if lost_steps > 0 {
            self.previous_sample = 0.0;
            self.smoothed_dbfs = None;
            self.block_minima_dbfs.clear();
        }
        segment
    }

    fn close(&mut self) -> Option<Segment> {
        self.open.take().map(|open| Segment {
            start_sample: open.start_step * STEP as u64,
            end_sample: (open.last_loud_step + 1) * STEP as u64,
            background_dbfs: open.background_plain_dbfs,
        })
    }

    /// Minimum statistics: the lowest smoothed level of the last seconds, this step included.
    fn background(&mut self, level: f32) -> f32 {
        let smoothed = match self.smoothed_dbfs {
            Some(before) => before + (level - before) / SMOOTH_STEPS,
            None => level,
        };
        self.smoothed_dbfs = Some(smoothed);
        if self.position_steps.is_multiple_of(BLOCK_STEPS) || self.block_minima_dbfs.is_empty() {
            if self.block_minima_dbfs.len() == BLOCKS {
                self.block_minima_dbfs.pop_front();
            }
            self.block_minima_dbfs.push_back(smoothed);
            self.block_minimum_dbfs = smoothed;
        }
        self.block_minimum_dbfs = self.block_minimum_dbfs.min(smoothed);
        if let Some(block) = self.block_minima_dbfs.back_mut() {
            *block = self.block_minimum_dbfs;
        }
        self.block_minima_dbfs.iter().copied().fold(0.0, f32::min) + MINIMUM_BIAS_DB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise at about -60 dBFS, with bursts of a 600 Hz tone at -20 dBFS.
    fn bursts(seconds: f32, bursts_s: &[(f32, f32)]) -> Vec<i16> {
        let mut state = 7u32;
        (0..(seconds * 16000.0) as usize)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f32::from((state >> 16) as i16) / 32768.0 * 56.0;
                let t = n as f32 / 16000.0;
                let on = bursts_s.iter().any(|&(start, end)| (start..end).contains(&t));
                let tone = if on { (t * 600.0 * std::f32::consts::TAU).sin() * 4600.0 } else { 0.0 };
                (noise + tone) as i16
            })
            .collect()
    }

    fn segments(audio: &[i16]) -> Vec<Segment> {
        let mut segmenter = Segmenter::new(5 * 16000);
        let (steps, _) = audio.as_chunks::<STEP>();
        let mut found: Vec<Segment> = steps.iter().filter_map(|step| segmenter.step(step)).collect();
        found.extend(segmenter.interrupt(0));
        found
    }

    #[test]
    fn bursts_are_found_where_they_are() {
        let truth = [(1.0, 1.6), (2.5, 3.0), (4.0, 5.2)];
        let found = segments(&bursts(7.0, &truth));
        assert_eq!(found.len(), 3, "{found:?}");
        for (segment, (start_s, end_s)) in found.iter().zip(truth) {
            assert!((segment.start_sample as f32 / 16000.0 - start_s).abs() <= 0.03, "{found:?}");
            assert!((segment.end_sample as f32 / 16000.0 - end_s).abs() <= 0.03, "{found:?}");
            assert!((segment.background_dbfs + 60.0).abs() < 3.0, "{found:?}");
        }
    }

    #[test]
    fn steady_noise_and_silence_hold_no_segment() {
        assert_eq!(segments(&bursts(20.0, &[])), []);
        assert_eq!(segments(&[0; 16000 * 5]), []);
    }

    #[test]
    fn a_sound_that_goes_on_becomes_background() {
        let found = segments(&bursts(60.0, &[(1.0, 60.0)]));
        let heard: u64 = found.iter().map(|segment| segment.end_sample - segment.start_sample).sum();
        assert!(heard < 10 * 16000, "{found:?}");
    }
}
