//! Simulates two nodes in a home, and prints how many vocalisations would be two events, and how often two cats would
//! be one event.
//!
//! Takes WAV files: `rooms FILE...`. The name of the cat is what stands between the first two underscores of a file's
//! name, as in CatMeows. Half of the cats choose the threshold, the other half show what it is worth. Without files, it
//! uses synthesized cats.

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::Path;

use sound::same_sound::MIN_SIMILARITY;
use sound::synth::{Synth, SynthConfig, VocalisationKind, truth};

use simulate::{Similarities, Voice, floats, read};

mod simulate;

/// Recordings that are simulated with each half of the cats.
const ROUNDS: u64 = 20;

/// Cats that are synthesized, and vocalisations of each.
const SYNTHETIC: (u64, usize) = (16, 8);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let voices = if files.is_empty() {
        synthetic()
    } else {
        files.iter().map(|file| read(Path::new(file))).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
    };
    let cats: BTreeSet<String> = voices.iter().map(|voice| voice.cat.clone()).collect();
    let first: BTreeSet<&String> = cats.iter().step_by(2).collect();
    let (choosing, showing): (Vec<Voice>, Vec<Voice>) =
        voices.into_iter().partition(|voice| first.contains(&voice.cat));
    for (name, voices, seed) in [("choosing", &choosing, 1_000), ("showing", &showing, 2_000)] {
        let mut all = Similarities::default();
        for round in 0..ROUNDS {
            all.extend(simulate::simulate(voices, seed + round));
        }
        println!("{name}: {} vocalisations", voices.len());
        println!("threshold  duplicates           two cats in one event");
        for threshold in (10..=18).map(|n| n as f32 * 0.05).chain([MIN_SIMILARITY]) {
            let outcome = all.outcome(threshold);
            println!(
                "{threshold:9.2}  {:4} of {:4} = {:5.2} %  {:4} of {:4} = {:5.2} %",
                outcome.duplicates,
                outcome.heard_twice,
                100.0 * outcome.duplicate_rate(),
                outcome.wrongly_merged,
                outcome.two_cats,
                100.0 * outcome.wrong_merge_rate(),
            );
        }
    }
    Ok(())
}

/// The meows of synthesized cats.
fn synthetic() -> Vec<Voice> {
    let (cats, meows) = SYNTHETIC;
    (0..cats)
        .flat_map(|seed| {
            let config = SynthConfig { seed, vocalisations: true };
            let heard: Vec<_> =
                truth(config).filter(|heard| heard.kind == VocalisationKind::Meow).take(meows).collect();
            let mut samples = vec![0; heard.last().map_or(0, |last| last.end_sample as usize)];
            Synth::new(config).read(&mut samples);
            heard.into_iter().map(move |heard| Voice {
                cat: format!("synthetic {seed}"),
                samples: floats(&samples[heard.start_sample as usize..heard.end_sample as usize]),
            })
        })
        .collect()
}
