//! One meow, one event: what two simulated nodes hear of the cats in `tests/clips`.

use std::path::Path;

use sound::same_sound::MIN_SIMILARITY;

#[path = "../examples/rooms/simulate.rs"]
mod simulate;

/// Few enough scenes for a test. `examples/rooms` has more of them, with more cats.
const ROUNDS: u64 = 4;

/// A file is a cat: its name has one between underscores.
const CLIPS: [&str; 4] = ["meow_alone.wav", "meow_food.wav", "meow_garden.wav", "meow_room.wav"];

#[test]
fn two_nodes_hear_one_meow_as_one_event_and_two_cats_as_two() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips");
    let voices: Vec<_> = CLIPS.iter().map(|clip| simulate::read(&folder.join(clip)).unwrap().unwrap()).collect();
    let mut heard = simulate::Similarities::default();
    for seed in 0..ROUNDS {
        heard.extend(simulate::simulate(&voices, seed));
    }
    let outcome = heard.outcome(MIN_SIMILARITY);
    assert!(outcome.heard_twice >= 30 && outcome.two_cats >= 30, "too little was heard: {outcome:?}");
    // There are too few scenes to tell 1 % from 5 %.
    assert!(outcome.duplicate_rate() <= 0.05, "too many duplicates: {outcome:?}");
    assert!(outcome.wrong_merge_rate() <= 0.05, "too many are wrongly merged: {outcome:?}");
}
