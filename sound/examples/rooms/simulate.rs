//! Simulated rooms: what two nodes hear of cats, by clocks that disagree.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analyzer, Vocalisation};
use sound::detector::DetectorConfig;
use sound::framer::Framer;
use sound::same_sound::{Heard, similarity};

/// A vocalisation without a room: full scale is 1.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    /// Whose it is.
    pub(crate) cat: String,
    /// The samples.
    pub(crate) samples: Vec<f32>,
}

/// Nodes in the rooms.
const NODES: usize = 2;

/// Scenes in one recording: a vocalisation that both nodes hear, and then two cats that answer each other.
const SCENES: usize = 30;

/// From the start of a scene to the start of the next one, in seconds.
const SCENE_S: f64 = 8.0;

/// The nodes' clocks are apart by up to this, in seconds.
const CLOCK_S: f64 = 0.2;

/// The clock of the second node gains this much.
const DRIFT: f64 = 50e-6;

/// Sound needs up to this to reach a node, in seconds.
const DELAY_S: f64 = 0.05;

/// The second cat begins this much after the first one, in seconds. Negative: before it.
const ANSWER_S: std::ops::Range<f64> = -2.0..2.0;

/// An event is of the cat that gives this share of its energy. Events that have more of the other cat are left out,
/// because the detector has put two cats into one event before any comparison.
const MOST_OF: f32 = 0.95;

/// Taps of an echo.
const TAPS: usize = 250;

/// For each scene and cat: where each node hears it, and what it hears of it.
type Truth = Vec<Vec<[(usize, Vec<f32>); NODES]>>;

/// An event, and whose vocalisation it is.
struct Event {
    /// The scene.
    scene: usize,
    /// The cat of the scene that this node hears best during the event.
    cat: usize,
    /// What the node heard.
    heard: Heard,
}

/// What came of the recordings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Vocalisations that both nodes have heard.
    pub(crate) heard_twice: u32,
    /// Of these, those that would be two events.
    pub(crate) duplicates: u32,
    /// Scenes in which each node has an event of another cat.
    pub(crate) two_cats: u32,
    /// Of these, those that would be one event.
    pub(crate) wrongly_merged: u32,
}

impl Outcome {
    /// Share of vocalisations that are two events.
    pub(crate) fn duplicate_rate(&self) -> f64 {
        f64::from(self.duplicates) / f64::from(self.heard_twice.max(1))
    }

    /// Share of scenes with two cats that are one event.
    pub(crate) fn wrong_merge_rate(&self) -> f64 {
        f64::from(self.wrongly_merged) / f64::from(self.two_cats.max(1))
    }
}

/// Similarities of the pairs of events: of one vocalisation, and of two cats. `None`: the times exclude it.
#[derive(Debug, Default)]
pub(crate) struct Similarities {
    /// For each vocalisation that both nodes heard: the highest of any two of its events.
    pub(crate) same: Vec<Option<f32>>,
    /// For each scene with two cats that both nodes heard: the highest of any two events of different cats.
    pub(crate) different: Vec<Option<f32>>,
}

impl Similarities {
    /// What comes of it if pairs are linked from this similarity on.
    pub(crate) fn outcome(&self, threshold: f32) -> Outcome {
        let linked =
            |pairs: &[Option<f32>]| pairs.iter().filter(|pair| pair.is_some_and(|pair| pair >= threshold)).count();
        Outcome {
            heard_twice: self.same.len() as u32,
            duplicates: (self.same.len() - linked(&self.same)) as u32,
            two_cats: self.different.len() as u32,
            wrongly_merged: linked(&self.different) as u32,
        }
    }

    /// Adds those of another recording.
    pub(crate) fn extend(&mut self, other: Self) {
        self.same.extend(other.same);
        self.different.extend(other.different);
    }
}

/// The samples as floats: full scale is 1.
pub(crate) fn floats(samples: &[i16]) -> Vec<f32> {
    samples.iter().map(|&sample| f32::from(sample) / 32_768.0).collect()
}

/// The vocalisation in a file. `None`: it is silent.
pub(crate) fn read(file: &Path) -> Result<Option<Voice>, Box<dyn std::error::Error>> {
    let mut reader = hound::WavReader::open(file)?;
    let spec = reader.spec();
    let full_scale = (1_i64 << (spec.bits_per_sample - 1)) as f32;
    let read: Vec<f32> = reader
        .samples::<i32>()
        .map(|sample| sample.map(|sample| sample as f32 / full_scale))
        .collect::<Result<_, _>>()?;
    let mut framer = Framer::new(spec.sample_rate, spec.channels)?;
    let mut samples = Vec::new();
    framer.push(&read, |frame| samples.extend_from_slice(frame));
    let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let cat = name.split('_').nth(1).unwrap_or(name).to_owned();
    Ok(trimmed(&floats(&samples)).map(|samples| Voice { cat, samples }))
}

/// The part that is not more than 30 dB below the loudest 20 ms.
fn trimmed(samples: &[f32]) -> Option<Vec<f32>> {
    let step = SAMPLE_RATE_HZ as usize / 50;
    let powers: Vec<f32> = samples.chunks(step).map(|piece| piece.iter().map(|s| s * s).sum()).collect();
    let loudest = powers.iter().copied().fold(0.0, f32::max);
    let loud = |power: &f32| *power > 0.0 && *power >= loudest * 1e-3;
    let (first, last) = (powers.iter().position(loud)?, powers.iter().rposition(loud)?);
    Some(samples[first * step..((last + 1) * step).min(samples.len())].to_vec())
}

/// Simulates a recording of [`SCENES`] scenes with these voices. In every other scene a single cat vocalises, in the
/// others two different cats do, each near another node.
pub(crate) fn simulate(voices: &[Voice], seed: u64) -> Similarities {
    let mut random = StdRng::seed_from_u64(seed);
    let second = f64::from(SAMPLE_RATE_HZ);
    let length = ((SCENES as f64 + 1.0) * SCENE_S * second) as usize;
    let clock_s = [0.0, random.random_range(-CLOCK_S..CLOCK_S)];
    let colours: [f32; NODES] = std::array::from_fn(|_| random.random_range(-0.5..0.5));
    let mut audio: [Vec<f32>; NODES] = std::array::from_fn(|_| {
        let level = 10_f32.powf(random.random_range(-68.0..-50.0) / 20.0);
        noise(length, level, &mut random)
    });
    let mut truth: Truth = Vec::new();
    for scene in 0..SCENES {
        let first = random.random_range(0..voices.len());
        let mut cats = vec![(first, 0.0)];
        if scene % 2 == 1 {
            let others: Vec<usize> = (0..voices.len()).filter(|&n| voices[n].cat != voices[first].cat).collect();
            cats.push((others[random.random_range(0..others.len())], random.random_range(ANSWER_S)));
        }
        let near_first = random.random_range(0..NODES);
        let alone = cats.len() == 1;
        let mut places = Vec::new();
        for (number, &(voice, later_s)) in cats.iter().enumerate() {
            let near = (near_first + number) % NODES;
            let level_db = random.random_range(-30.0..-14.0);
            // A cat alone is between the nodes or in the next room; of two, each is in the room of its node.
            let loss_db = if alone { random.random_range(0.0..14.0) } else { random.random_range(12.0..30.0) };
            places.push(std::array::from_fn(|node| {
                let is_near = node == near;
                let db: f32 = if is_near { level_db } else { level_db - loss_db };
                let direct_db = if is_near { random.random_range(0.0..12.0) } else { random.random_range(-6.0..6.0) };
                let room = echo(&voices[voice].samples, direct_db, &mut random);
                let delay_s = random.random_range(0.0..DELAY_S);
                let true_s = (scene as f64 + 0.5) * SCENE_S + later_s;
                let own_s = if node == 0 { true_s } else { true_s * (1.0 + DRIFT) };
                let start = ((own_s + delay_s) * second) as usize;
                let room = tilt(&room, colours[node]);
                let gain = 10_f32.powf(db / 20.0) / rms(&room[..voices[voice].samples.len()]).max(1e-9);
                let room: Vec<f32> = room.iter().map(|sample| sample * gain).collect();
                for (out, sample) in audio[node][start..].iter_mut().zip(&room) {
                    *out += sample;
                }
                (start, room)
            }));
        }
        truth.push(places);
    }
    let events: Vec<Vec<Event>> = audio
        .iter()
        .enumerate()
        .map(|(node, audio)| {
            let canonical: Vec<i16> =
                audio.iter().map(|sample| (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16).collect();
            let mut analyzer = Analyzer::new(DetectorConfig::default());
            analyzer.push(&canonical);
            let found = analyzer.finish_vocalisations().1;
            found.into_iter().filter_map(|found| place(found, node, clock_s[node], &truth)).collect()
        })
        .collect();
    compare(&events)
}

/// The event, with the scene and the cat that it is of. `None`: it has both cats, or none.
fn place(found: Vocalisation, node: usize, clock_s: f64, truth: &Truth) -> Option<Event> {
    let (start, end) = (found.detection.start_sample as usize, found.detection.end_sample as usize);
    let mut best: Option<(f32, usize, usize)> = None;
    let mut all = 0.0;
    for (scene, cats) in truth.iter().enumerate() {
        for (cat, places) in cats.iter().enumerate() {
            let (from, heard) = &places[node];
            let place = |sample: usize| sample.saturating_sub(*from).min(heard.len());
            let energy: f32 = heard[place(start)..place(end)].iter().map(|sample| sample * sample).sum();
            all += energy;
            if energy > 0.0 && best.is_none_or(|best| energy > best.0) {
                best = Some((energy, scene, cat));
            }
        }
    }
    let (_, scene, cat) = best.filter(|best| best.0 >= MOST_OF * all)?;
    let ns = |sample: u64| ((sample as f64 / f64::from(SAMPLE_RATE_HZ) + clock_s) * 1e9) as i64;
    let heard = Heard {
        started_at_ns: ns(found.detection.start_sample),
        ended_at_ns: ns(found.detection.end_sample),
        envelope: found.envelope,
    };
    Some(Event { scene, cat, heard })
}

fn compare(events: &[Vec<Event>]) -> Similarities {
    let mut similarities = Similarities::default();
    for scene in 0..SCENES {
        let of = |node: usize, cat: usize| {
            events[node].iter().filter(move |event| event.scene == scene && event.cat == cat).map(|event| &event.heard)
        };
        let best = |one: usize, other: usize| {
            let pairs = of(0, one).flat_map(|first| of(1, other).map(move |second| similarity(first, second)));
            pairs.reduce(|one, other| if one > other { one } else { other })
        };
        let cats = 1 + scene % 2;
        if cats == 1 {
            similarities.same.extend(best(0, 0));
        } else {
            // Each node is near another cat, so one of these has the events.
            let pairs = [best(0, 1), best(1, 0)].into_iter().flatten();
            similarities.different.extend(pairs.reduce(|one, other| if one > other { one } else { other }));
        }
    }
    similarities
}

fn noise(length: usize, level: f32, random: &mut StdRng) -> Vec<f32> {
    let mut low = 0.0;
    let mut make = || {
        let white: f32 = random.random_range(-1.0..1.0);
        low += 0.05 * (white - low);
        level * (white + 4.0 * low)
    };
    (0..length).map(|_| make()).collect()
}

/// The sound and its echo from the walls, as much louder or softer as `direct_db` says.
fn echo(dry: &[f32], direct_db: f32, random: &mut StdRng) -> Vec<f32> {
    let decay_s: f32 = random.random_range(0.15..0.5);
    let taps: Vec<(usize, f32)> = (0..TAPS)
        .map(|_| {
            let s: f32 = random.random_range(0.002..decay_s);
            let sign = if random.random::<bool>() { 1.0 } else { -1.0 };
            ((s * SAMPLE_RATE_HZ as f32) as usize, sign * 10_f32.powf(-3.0 * s / decay_s))
        })
        .collect();
    let energy: f32 = taps.iter().map(|(_, gain)| gain * gain).sum();
    let wet = 10_f32.powf(-direct_db / 20.0) / energy.sqrt();
    let longest = taps.iter().map(|tap| tap.0).max().unwrap_or(0);
    let mut out = vec![0.0; dry.len() + longest];
    out[..dry.len()].copy_from_slice(dry);
    for (delay, gain) in taps {
        for (out, sample) in out[delay..].iter_mut().zip(dry) {
            *out += sample * gain * wet;
        }
    }
    out
}

/// The colour of a microphone: more or less of what is high.
fn tilt(samples: &[f32], colour: f32) -> Vec<f32> {
    let mut before = 0.0;
    samples
        .iter()
        .map(|&sample| {
            let out = sample - colour * before;
            before = sample;
            out
        })
        .collect()
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}
