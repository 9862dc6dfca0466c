//! Simulates owners who give sounds a label of their own, and prints how often the label is then suggested for further
//! sounds that deserve it, and for others.
//!
//! Reads from standard input the output of `training/context.py --meows`, followed by that of `training/kinds.py
//! --events`. The label stands for three kinds of sounds in turn: one context of a cat, whose other meows are the other
//! sounds; another cat in the house; a purr. Labelled and tested sounds are never of one recording session, purrs not
//! of one uploader. Sounds that are no cats are tested, too. Intervals are 95 %, over cats.
//!
//! Shares are weighed as if one sound in ten deserved the label, so "never suggested" is right in 0.90.

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use sound::context::Features;
use sound::own_labels::{SUGGESTED_FROM, Suggester};
use sound::prosody::PROSODY;

/// Numbers of labelled sounds: with the label of the owner's own, and with others.
const LABELS: [(usize, usize); 4] = [(5, 5), (5, 10), (10, 5), (10, 10)];

/// Random choices of sessions and labels for each pair of sources.
const ROUNDS: u64 = 10;

/// Probabilities from which a label could be suggested.
const THRESHOLDS: [f32; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];

/// Suggestions of each kind that should be right.
const WANTED_PRECISION: f64 = 0.9;

/// How often a sound deserves the label.
const DESERVED: f64 = 0.1;

/// Cats are drawn this often for an interval.
const DRAWS: usize = 500;

const KINDS: [&str; 3] = ["one context of a cat", "another cat", "purr"];

#[derive(Deserialize)]
struct Line {
    embedding: Vec<f32>,
    // Of a meow.
    cat: Option<String>,
    session: Option<String>,
    context: Option<usize>,
    // Of an event.
    source: Option<String>,
    label: Option<String>,
    is_cat: Option<bool>,
}

struct Sound {
    features: Features,
    source: String,
    /// The recording session, which starts with the context.
    session: String,
    context: usize,
}

/// What was suggested in one simulation of an owner: probabilities for sounds that deserve the label, for others, and
/// for sounds that are no cats.
struct Trial {
    kind: usize,
    /// The cat whose sounds are not those of the label. Trials of one cat are not independent.
    source: String,
    deserved: Vec<f32>,
    others: Vec<f32>,
    no_cats: Vec<f32>,
}

fn main() -> io::Result<()> {
    let (mut meows, mut purrs, mut no_cats) = (Vec::new(), Vec::new(), Vec::new());
    for line in io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let embedding = line.embedding.try_into().map_err(|_| io::Error::other("an embedding has the wrong length"))?;
        let (source, session) = (line.cat.or(line.source).unwrap_or_default(), line.session.unwrap_or_default());
        let features = Features { prosody: [0.0; PROSODY], embedding };
        let sound = Sound { features, source, session, context: line.context.unwrap_or(0) };
        match (line.is_cat, line.label.as_deref()) {
            (None, _) => meows.push(sound),
            (Some(false), _) => no_cats.push(sound),
            (Some(true), Some("Cat purr")) => purrs.push(sound),
            (Some(true), _) => {}
        }
    }
    let rows = LABELS.map(|(own, others)| simulated(&meows, &purrs, &no_cats, own, others));
    for ((own, others), trials) in LABELS.iter().zip(&rows) {
        println!("{own} sounds with the label, {others} with others:");
        for (kind, name) in KINDS.iter().enumerate() {
            let trials: Vec<&Trial> = trials.iter().filter(|trial| trial.kind == kind).collect();
            report(name, &trials);
        }
    }
    println!("lowest probability from which {WANTED_PRECISION} are right in each row: {:?}", chosen(&rows, None));
    let cats: BTreeSet<&str> = rows.iter().flatten().map(|trial| trial.source.as_str()).collect();
    let nested: Vec<_> = cats.iter().map(|cat| chosen(&rows, Some(cat))).collect();
    println!("when each cat in turn has no say in it: {nested:?}; the product has {SUGGESTED_FROM}");
    Ok(())
}

/// Prints what is suggested at the product's threshold.
fn report(name: &str, trials: &[&Trial]) {
    let mut of_source: BTreeMap<&str, Vec<&Trial>> = BTreeMap::new();
    for trial in trials {
        of_source.entry(&trial.source).or_default().push(trial);
    }
    let groups: Vec<Vec<&Trial>> = of_source.into_values().collect();
    if groups.is_empty() {
        println!("  {name}: too few sounds");
        return;
    }
    let all = Shares::of(trials.iter().copied(), SUGGESTED_FROM);
    let mut random = StdRng::seed_from_u64(1);
    let drawn: Vec<Shares> = (0..DRAWS)
        .map(|_| {
            let some = (0..groups.len()).flat_map(|_| groups[random.random_range(0..groups.len())].iter().copied());
            Shares::of(some, SUGGESTED_FROM)
        })
        .collect();
    let within = |of: fn(&Shares) -> f64| {
        let mut values: Vec<f64> = drawn.iter().map(of).filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        format!("{:.3} [{:.3}, {:.3}]", of(&all), at(0.025), at(0.975))
    };
    println!(
        "  {name}, {} cats: found {}, wrongly {}, right {}, accuracy {} (never: {:.2}), no cats {}",
        groups.len(),
        within(|shares| shares.found),
        within(|shares| shares.wrongly),
        within(Shares::precision),
        within(|shares| DESERVED * shares.found + (1.0 - DESERVED) * (1.0 - shares.wrongly)),
        1.0 - DESERVED,
        within(|shares| shares.no_cats),
    );
}

/// The lowest threshold at which suggestions of every kind are right often enough, whatever the number of labels,
/// without the trials of one cat.
fn chosen(rows: &[Vec<Trial>], left_out: Option<&str>) -> Option<f32> {
    THRESHOLDS.into_iter().find(|&threshold| {
        let kinds = rows.iter().flat_map(|trials| (0..KINDS.len()).map(move |kind| (trials, kind)));
        kinds.into_iter().all(|(trials, kind)| {
            let known = trials.iter().filter(|trial| trial.kind == kind && left_out != Some(trial.source.as_str()));
            let precision = Shares::of(known, threshold).precision();
            // Where nothing is suggested, nothing is wrong.
            precision.is_nan() || precision >= WANTED_PRECISION
        })
    })
}

/// Shares of the sounds for which the label is suggested.
struct Shares {
    found: f64,
    wrongly: f64,
    no_cats: f64,
}

impl Shares {
    fn of<'a>(trials: impl Iterator<Item = &'a Trial>, threshold: f32) -> Self {
        let mut counts = [[0_usize; 2]; 3];
        for trial in trials {
            for (count, heard) in counts.iter_mut().zip([&trial.deserved, &trial.others, &trial.no_cats]) {
                count[0] += heard.iter().filter(|probability| **probability >= threshold).count();
                count[1] += heard.len();
            }
        }
        let [found, wrongly, no_cats] = counts.map(|[some, all]| some as f64 / all as f64);
        Self { found, wrongly, no_cats }
    }

    /// Share of the suggestions that are right. NaN: nothing is suggested.
    fn precision(&self) -> f64 {
        let (right, wrong) = (DESERVED * self.found, (1.0 - DESERVED) * self.wrongly);
        right / (right + wrong)
    }
}

fn simulated(meows: &[Sound], purrs: &[Sound], no_cats: &[Sound], own: usize, others: usize) -> Vec<Trial> {
    let mut trials = Vec::new();
    let cats: BTreeSet<&str> = meows.iter().map(|meow| meow.source.as_str()).collect();
    let purring: BTreeSet<&str> = purrs.iter().map(|purr| purr.source.as_str()).collect();
    let mut run =
        |kind, cat: &str, round, [labelled, tested]: [Vec<&Sound>; 2], [rest, rest_tested]: [Vec<&Sound>; 2]| {
            if labelled.len() < own || rest.len() < others || tested.is_empty() || rest_tested.is_empty() {
                return;
            }
            let mut random = StdRng::seed_from_u64(round);
            let (labelled, rest) = (pick(labelled, own, &mut random), pick(rest, others, &mut random));
            let with = |label| move |features| (features, label);
            let by = Suggester::learn(labelled.into_iter().map(with(Some(1))).chain(rest.into_iter().map(with(None))));
            let probability = |sound: &Sound| by.likeliest(&sound.features).map_or(0.0, |(_, probability)| probability);
            trials.push(Trial {
                kind,
                source: cat.to_owned(),
                deserved: tested.into_iter().map(probability).collect(),
                others: rest_tested.into_iter().map(probability).collect(),
                no_cats: no_cats.iter().map(probability).collect(),
            });
        };
    for cat in &cats {
        for round in 0..ROUNDS {
            let of = |which: &dyn Fn(&Sound) -> bool| by_session(meows.iter().filter(|meow| which(meow)), round);
            for context in 0..3 {
                let own = of(&|meow| meow.source == *cat && meow.context == context);
                run(0, cat, round, own, of(&|meow| meow.source == *cat && meow.context != context));
            }
            for other in cats.iter().filter(|other| *other != cat) {
                // The same contexts of both, so that the label does not stand for a context.
                let contexts_of = |cat: &str| -> BTreeSet<usize> {
                    meows.iter().filter(|meow| meow.source == cat).map(|meow| meow.context).collect()
                };
                let shared = &contexts_of(cat) & &contexts_of(other);
                let in_shared = |cat: &str| of(&|meow| meow.source == cat && shared.contains(&meow.context));
                run(1, cat, round, in_shared(other), in_shared(cat));
            }
            for uploader in &purring {
                let (taught, tested) = purrs.iter().partition(|purr| purr.source == *uploader);
                run(2, cat, round, [taught, tested], of(&|meow| meow.source == *cat));
            }
        }
    }
    trials
}

/// Some of the sounds, by chance.
fn pick<'a>(mut sounds: Vec<&'a Sound>, count: usize, random: &mut StdRng) -> Vec<&'a Features> {
    sounds.shuffle(random);
    sounds.truncate(count);
    sounds.into_iter().map(|sound| &sound.features).collect()
}

/// Deals sounds into two halves by their sessions. If there is one session, the second half is empty.
fn by_session<'a>(sounds: impl Iterator<Item = &'a Sound>, round: u64) -> [Vec<&'a Sound>; 2] {
    let sounds: Vec<&Sound> = sounds.collect();
    let sessions: BTreeSet<&str> = sounds.iter().map(|sound| sound.session.as_str()).collect();
    let mut sessions: Vec<&str> = sessions.into_iter().collect();
    sessions.shuffle(&mut StdRng::seed_from_u64(round));
    sessions.truncate(sessions.len().div_ceil(2));
    let (first, second) = sounds.into_iter().partition(|sound| sessions.contains(&sound.session.as_str()));
    [first, second]
}
