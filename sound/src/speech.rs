//! Whether a clip holds mostly human speech, and how to cut it so that it holds less.
//!
//! The rule. A step (64 ms) *speaks* when the network's log-odds of speech, averaged over the half second around it, are higher than
//! those of every cat sound and at least [`SPEAKS_FROM`]; from [`MAY_SPEAK_FROM`] it *may speak*. What lies before and after the
//! event is cut back to where nobody may speak: a roll that is shorter than it could be costs little, a word much. If more than half
//! of the event's own steps speak, nothing is to be kept.

use std::ops::Range;

use crate::logmel::{LogMel, WINDOW_SAMPLES};
use crate::model::{Answer, Hearing, Model, STEP_SAMPLES, Sound};

/// Log-odds of speech from which a step speaks: with it, next to no clip of a cat is lost (docs/MODEL.md).
const SPEAKS_FROM: f32 = -1.25;

/// Log-odds of speech from which a step may speak: words end softly.
const MAY_SPEAK_FROM: f32 = -2.0;

/// Steps to each side of one that its log-odds are averaged over.
const REACH_STEPS: usize = 4;

/// The stretch of `clip` to keep: all of it but rolls in which somebody may speak. `event` is where the cat is, in samples of the
/// clip. `None`: it is mostly speech. Takes as long as analysing the clip, a few milliseconds.
#[must_use]
pub fn without_speech(model: &Model, clip: &[i16], event: Range<usize>) -> Option<Range<usize>> {
    let speech = speech_log_odds(model, clip);
    // Step j stands for the samples from start(j) to start(j + 1).
    let start =
        |step: usize| (step * STEP_SAMPLES).saturating_sub(STEP_SAMPLES / 2 - WINDOW_SAMPLES / 2).min(clip.len());
    let step_of = |sample: usize| ((sample + STEP_SAMPLES / 2 - WINDOW_SAMPLES / 2) / STEP_SAMPLES).min(speech.len());
    let first = step_of(event.start.min(clip.len()));
    let last = step_of(event.end.min(clip.len()).saturating_sub(1)).max(first);
    if last >= speech.len() {
        // Not one step long: too short for a word.
        return Some(0..clip.len());
    }
    let may_speak = |odds: &f32| *odds >= MAY_SPEAK_FROM;
    let from = speech[..first].iter().rposition(may_speak).map_or(0, |step| step + 1);
    let to = speech[last + 1..].iter().position(may_speak).map_or(speech.len(), |step| last + 1 + step);
    let event_steps = &speech[first..=last];
    if 2 * event_steps.iter().filter(|odds| **odds >= SPEAKS_FROM).count() > event_steps.len() {
        return None;
    }
    let end = if to == speech.len() { clip.len() } else { start(to) };
    Some(start(from).min(event.start)..end.max(event.end.min(clip.len())))
}

/// The log-odds of speech around each step of `clip`, minus infinity where some cat sound has higher ones.
fn speech_log_odds(model: &Model, clip: &[i16]) -> Vec<f32> {
    let mut odds: Vec<[f32; 2]> = Vec::with_capacity(clip.len() / STEP_SAMPLES + 2);
    let mut note = |answer: &Answer| {
        let of = |sound: Sound| answer.sound_logits[sound as usize];
        let cat = [Sound::Cat, Sound::Purr, Sound::Meow, Sound::Hiss, Sound::Caterwaul].map(of);
        odds.push([of(Sound::Speech), cat.into_iter().fold(f32::MIN, f32::max)]);
    };
    let (mut front, mut hearing) = (LogMel::new(), Hearing::new(model));
    for piece in [clip, &[0; WINDOW_SAMPLES]] {
        front.push(piece, |frame| hearing.push(model, frame, &mut note));
    }
    hearing.finish(model, &mut note);
    odds.truncate(clip.len().div_ceil(STEP_SAMPLES));
    (0..odds.len())
        .map(|step| {
            let around = &odds[step.saturating_sub(REACH_STEPS)..(step + REACH_STEPS + 1).min(odds.len())];
            let [speech, cat] = [0, 1].map(|n| around.iter().map(|odds| odds[n]).sum::<f32>() / around.len() as f32);
            if speech > cat { speech } else { f32::NEG_INFINITY }
        })
        .collect()
}
