//! Simulates owners who label false alarms "not a cat", and prints how many of the same kind are rejected afterwards,
//! and how many cats.
//!
//! Reads the output of `training/kinds.py --events` from standard input. The false alarms of one source, such as one
//! baby, are one kind. Some of them are labelled, the others are tested, and so are all cats. For each cat with enough
//! events a second figure tells how many of its own are lost to an owner who labelled five of them as cats.

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;
use sound::context::Features;
use sound::prosody::PROSODY;
use sound::rejector::Rejector;

/// Numbers of labels.
const LABELS: [usize; 5] = [1, 2, 3, 5, 10];

/// Random choices of labels for each source.
const ROUNDS: u64 = 10;

/// Labels of an owner's own cat, and the fewest events that a cat needs for that.
const OWN_LABELS: usize = 5;
const OWN_EVENTS: usize = 12;

/// A source needs this many false alarms more than there are labels.
const FEWEST_TESTED: usize = 1;

#[derive(Deserialize)]
struct Line {
    source: String,
    is_cat: bool,
    embedding: Vec<f32>,
}

/// How many of the sounds were rejected, and of how many.
#[derive(Default)]
struct Tally(usize, usize);

impl Tally {
    fn count<'a>(&mut self, rejector: &Rejector, sounds: impl IntoIterator<Item = &'a Features>) {
        for sound in sounds {
            self.0 += usize::from(rejector.rejects(sound).is_some());
            self.1 += 1;
        }
    }

    fn share(&self) -> f64 {
        self.0 as f64 / self.1.max(1) as f64
    }
}

fn main() -> io::Result<()> {
    let (mut alarms, mut cats): (BTreeMap<_, Vec<Features>>, BTreeMap<_, Vec<Features>>) = Default::default();
    for line in io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let embedding = line.embedding.try_into().map_err(|_| io::Error::other("an embedding has the wrong length"))?;
        let sound = Features { prosody: [0.0; PROSODY], embedding };
        let list = if line.is_cat { &mut cats } else { &mut alarms };
        list.entry(line.source).or_default().push(sound);
    }
    println!("labels: share rejected of the taught source; of all cats; of own cats, when {OWN_LABELS} are labelled");
    for labels in LABELS {
        let (mut fell, mut lost, mut own) = (Tally::default(), Tally::default(), Tally::default());
        let mut sources = 0;
        for heard in alarms.values().filter(|heard| heard.len() >= labels + FEWEST_TESTED) {
            sources += 1;
            for round in 0..ROUNDS {
                let mut random = StdRng::seed_from_u64(round);
                let mut heard: Vec<&Features> = heard.iter().collect();
                heard.shuffle(&mut random);
                let (taught, tested) = heard.split_at(labels);
                let alone = Rejector::learn(taught.iter().copied(), []);
                fell.count(&alone, tested.iter().copied());
                lost.count(&alone, cats.values().flatten());
                for meows in cats.values().filter(|meows| meows.len() >= OWN_EVENTS) {
                    let mut meows: Vec<&Features> = meows.iter().collect();
                    meows.shuffle(&mut random);
                    let (labelled, later) = meows.split_at(OWN_LABELS);
                    let knowing = Rejector::learn(taught.iter().copied(), labelled.iter().copied());
                    own.count(&knowing, later.iter().copied());
                }
            }
        }
        let [fell, lost, own] = [fell, lost, own].map(|tally| tally.share());
        println!("{labels:3}: {fell:.3}; {lost:.4}; {own:.4}  ({sources} sources)");
    }
    Ok(())
}
