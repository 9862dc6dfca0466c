//! Simulates owners who label their cat's meows, and prints how the accuracy depends on the number of labels for each
//! cat.
//!
//! Reads the output of `training/context.py --meows` from standard input: meows, each with the logits of a general
//! classifier that was not trained on the cat. The labels of a cat come from some recording sessions and are tested on
//! the others.

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Deserialize;
use sound::context::{CONTEXTS, ContextModel, Features};
use sound::household::{CatClassifier, Example};

/// Numbers of labels for each cat.
const LABELS: [usize; 5] = [0, 1, 2, 5, 10];

/// Random choices of sessions and labels for each cat.
const ROUNDS: usize = 40;

#[derive(Deserialize)]
struct Meow {
    prosody: Vec<f32>,
    embedding: Vec<f32>,
    context: usize,
    cat: String,
    session: String,
    general: [f32; CONTEXTS],
}

/// For each context, the number of right answers and of all answers.
type Tally = [[u32; 2]; CONTEXTS];

fn main() -> io::Result<()> {
    let mut cats: BTreeMap<String, Vec<(String, Example)>> = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        let meow: Meow = serde_json::from_str(&line?)?;
        let fixed = |what: &str| {
            io::Error::other(format!(
                "the {what} of a meow has the wrong length; run training/context.py --meows again"
            ))
        };
        let features = Features {
            prosody: meow.prosody.try_into().map_err(|_| fixed("prosody"))?,
            embedding: meow.embedding.try_into().map_err(|_| fixed("embedding"))?,
        };
        let example = Example { features, general: meow.general, context: meow.context };
        cats.entry(meow.cat).or_default().push((meow.session, example));
    }
    println!("labels a cat: accuracy, unweighted recall (own classifier; in brackets its commonest label alone)");
    for labels in LABELS {
        let (mut own, mut common) = (Tally::default(), Tally::default());
        let mut tested = BTreeSet::new();
        for (cat, meows) in &cats {
            for round in 0..ROUNDS {
                if simulate(meows, labels, round as u64, &mut own, &mut common) {
                    tested.insert(cat);
                }
            }
        }
        let [(accuracy, recall), (common_accuracy, common_recall)] = [own, common].map(|tally| rates(&tally));
        let cats = tested.len();
        println!("{labels:3}: {accuracy:.3}, {recall:.3}  ({common_accuracy:.3}, {common_recall:.3})  {cats} cats");
    }
    Ok(())
}

/// Simulates one owner. Half of the sessions of each context, at least one, give labels; the others are tested. A
/// context with a single session is left out. Returns `false` if there are too few labels or nothing to test.
fn simulate(meows: &[(String, Example)], labels: usize, seed: u64, own: &mut Tally, common: &mut Tally) -> bool {
    let mut random = StdRng::seed_from_u64(seed);
    let mut sessions: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for (session, example) in meows {
        sessions.entry(example.context).or_default().insert(session);
    }
    let mut for_labels = BTreeSet::new();
    let mut for_test = BTreeSet::new();
    for sessions in sessions.values().filter(|sessions| sessions.len() > 1) {
        let mut sessions: Vec<&str> = sessions.iter().copied().collect();
        sessions.shuffle(&mut random);
        let (a, b) = sessions.split_at(sessions.len().div_ceil(2));
        for_labels.extend(a.iter().copied());
        for_test.extend(b.iter().copied());
    }
    let pick = |chosen: &BTreeSet<&str>| -> Vec<Example> {
        meows
            .iter()
            .filter(|(session, _)| chosen.contains(session.as_str()))
            .map(|(_, example)| example.clone())
            .collect()
    };
    let mut known = pick(&for_labels);
    let test = pick(&for_test);
    if known.len() < LABELS[LABELS.len() - 1] || test.is_empty() {
        return false;
    }
    known.shuffle(&mut random);
    known.truncate(labels);

    let model = ContextModel::shipped();
    let classifier = CatClassifier::train(model, &known);
    let mut counts = [0; CONTEXTS];
    known.iter().for_each(|example| counts[example.context] += 1);
    let commonest = (0..CONTEXTS).max_by_key(|&context| counts[context]).unwrap_or(0);
    for example in &test {
        let logits = classifier.logits(model, &example.features, &example.general);
        let answer = (0..CONTEXTS).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
        for (tally, answer) in [(&mut *own, answer), (&mut *common, commonest)] {
            tally[example.context][0] += u32::from(answer == example.context);
            tally[example.context][1] += 1;
        }
    }
    true
}

/// Accuracy and unweighted recall.
fn rates(tally: &Tally) -> (f64, f64) {
    let (right, all) = tally.iter().fold((0, 0), |sum, [right, all]| (sum.0 + right, sum.1 + all));
    let recalls: Vec<f64> =
        tally.iter().filter(|[_, all]| *all > 0).map(|[right, all]| f64::from(*right) / f64::from(*all)).collect();
    (f64::from(right) / f64::from(all.max(1)), recalls.iter().sum::<f64>() / recalls.len().max(1) as f64)
}
