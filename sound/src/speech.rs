//! Keeps human speech out of clips: cuts it off before and after a vocalisation, and rejects clips that are mostly
//! speech.
//!
//! The rule works in steps of 64 ms. A step counts as *speech* when the network's logit of speech, averaged over the
//! half second around the step, is higher than that of every cat sound and at least [`SPEAKS_FROM`]; from
//! [`MAY_SPEAK_FROM`] on it counts as *possible speech*. Before and after the vocalisation the clip is cut back to the
//! nearest possible speech: cutting too short costs little, keeping a spoken word costs a lot. If more than half of the
//! vocalisation's own steps are speech, the clip is rejected.

use std::ops::Range;

use crate::logmel::{LogMel, WINDOW_SAMPLES};
use crate::model::{Answer, Hearing, Model, STEP_SAMPLES, Sound};

/// Logit of speech from which a step is speech. With this value hardly any clip of a cat is lost (docs/MODEL.md).
const SPEAKS_FROM: f32 = -1.25;

/// Logit of speech from which a step is possible speech. It is lower, because words end softly.
const MAY_SPEAK_FROM: f32 = -2.0;

/// Steps on each side of a step that its logits are averaged over.
const REACH_STEPS: usize = 4;

/// The range of samples of `clip` to keep: all but the rolls (before and after the vocalisation) that may hold speech.
/// `clip` is canonical audio, `event` the range of the vocalisation in it. `None`: the vocalisation is mostly speech,
/// keep nothing. Runs the network over the whole clip, which takes a few milliseconds.
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
        // The clip is shorter than a step, and so too short for a word.
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

/// The averaged logit of speech at each step of `clip`, or minus infinity where a cat sound has a higher one.
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
