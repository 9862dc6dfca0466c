//! The speech gate: speech is kept out of clips, cats are not.

use std::path::Path;

use sound::model::Model;
use sound::speech::without_speech;

const SECOND: usize = 16_000;

fn clip(name: &str) -> Vec<i16> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips").join(name);
    let mut wav = hound::WavReader::open(path).expect("the clip is there");
    wav.samples::<i16>().map(|sample| sample.expect("the clip is whole")).collect()
}

fn silence(seconds: f32) -> Vec<i16> {
    vec![0; (seconds * SECOND as f32) as usize]
}

fn kept(clip: &[i16], event: std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    without_speech(Model::shipped(), clip, event)
}

#[test]
fn cats_are_kept_whole() {
    for name in ["meow_food.wav", "meow_alone.wav", "meow_garden.wav", "meow_room.wav"] {
        let clip = clip(name);
        assert_eq!(kept(&clip, SECOND / 2..clip.len() - SECOND / 2), Some(0..clip.len()), "{name}");
    }
}

#[test]
fn speech_is_not_kept() {
    let speech = clip("speech.wav");
    assert_eq!(kept(&speech, SECOND / 2..speech.len() - SECOND / 2), None);
    // Nor is a short vocalisation within speech.
    assert_eq!(kept(&speech, SECOND..SECOND + 3_000), None);
}

#[test]
fn speech_before_or_after_a_cat_is_cut_off() {
    let (speech, meow) = (clip("speech.wav"), clip("meow_alone.wav"));
    let before = [&speech[..], &silence(0.4), &meow].concat();
    let start = speech.len() + silence(0.4).len() + SECOND / 2;
    let event = start..start + SECOND;
    let range = kept(&before, event.clone()).expect("there is a cat");
    assert!(range.start > speech.len() - SECOND / 4, "{range:?} has words in it, they end at {}", speech.len());
    assert!(range.start <= event.start && range.end == before.len(), "{range:?} for {event:?}");

    let after = [&meow[..], &silence(0.4), &speech].concat();
    let event = SECOND / 2..SECOND * 3 / 2;
    let range = kept(&after, event.clone()).expect("there is a cat");
    assert!(range.start == 0 && range.end >= event.end, "{range:?} for {event:?}");
    assert!(range.end < meow.len() + silence(0.4).len() + SECOND / 4, "{range:?} has words in it");
}

#[test]
fn any_clip_and_any_event_have_an_answer() {
    for clip in [vec![], vec![0; 1], vec![0; 600], vec![i16::MAX; 40_000], vec![0; 40_000]] {
        for event in [0..0, 0..clip.len(), clip.len()..clip.len() + 5, 10..20] {
            if let Some(range) = kept(&clip, event.clone()) {
                assert!(range.start <= range.end && range.end <= clip.len(), "{range:?} of {}", clip.len());
            }
        }
    }
}
