//! The main job: a curl request starts an analysis, and half a minute later its detections are stored.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::time::Duration;

use e2e::fakes::{FakeOwner, Mood};
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use serde_json::Value;
use sound::SAMPLE_RATE_HZ;
use sound::synth::{SynthConfig, Vocalisation, VocalisationKind, truth};

/// The stream takes half a minute, its analysis a moment.
const ANALYSIS: Duration = Duration::from_secs(60);

/// Samples in an analysis.
const HEARD: u64 = 30 * SAMPLE_RATE_HZ as u64;

/// Least overlap of a detection and its meow (intersection over union), and largest distance between their ends. The
/// detector was trained on real cats: it detects the slow onset of a synthetic meow half a second late.
const MIN_OVERLAP: f64 = 0.25;
const END_TOLERANCE_S: f64 = 0.4;

/// A meow nearer than this to an edge of the audio need not be detected, because a part of it may be missing.
const EDGE: u64 = SAMPLE_RATE_HZ as u64 / 2;

/// Starts a node and a hub, analyses a cat, and returns the stored analysis.
async fn analyze(cat: &str, source: &str, seed: u64) -> Value {
    let owner = FakeOwner::start(Mood::Answers).await;
    let options = NodeOptions { cat: cat.into(), source: source.into(), seed, ..NodeOptions::new(owner.url()) };
    let node = Node::start(options).await;
    let hub = Hub::start(&[(cat, &node.url())]).await;
    let from = node.describe().await.tape.unwrap().next_sequence * 320;
    let path = hub.analyze(cat).await;
    let analysis = hub.ended(&path, ANALYSIS).await;
    assert_eq!(analysis["cat"], cat);
    assert_eq!((&analysis["status"], &analysis["reason"]), (&"complete".into(), &Value::Null), "{analysis}");
    assert_eq!(analysis["messages"], 30, "{analysis}");
    assert_eq!((analysis["heard_s"].as_f64(), analysis["lost_s"].as_f64()), (Some(30.0), Some(0.0)), "{analysis}");
    let described = node.describe().await;
    assert_eq!(analysis["boot_id"], format!("{:016x}", described.boot_id), "{analysis}");
    let first_sample = analysis["first_sample"].as_u64().unwrap();
    let latest = described.tape.unwrap().next_sequence * 320 - HEARD;
    assert!((from..=latest).contains(&first_sample), "{first_sample} is not within {from} to {latest}");
    analysis
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

/// The meows that must be detected in the audio that begins at `first_sample`.
fn meows_within(config: SynthConfig, first_sample: u64) -> Vec<Vocalisation> {
    truth(config)
        .skip_while(|one| one.start_sample < first_sample + EDGE)
        .take_while(|one| one.end_sample <= first_sample + HEARD - EDGE)
        .filter(|one| one.kind == VocalisationKind::Meow)
        .collect()
}

#[tokio::test]
async fn stored_detections_match_the_synthesized_meows() {
    // With this seed no meow is shorter than half a second. The detector may miss shorter ones.
    let config = SynthConfig { seed: 3, vocalisations: true };
    let analysis = analyze("Tom", "synthetic", config.seed).await;
    let first = analysis["first_sample"].as_u64().unwrap();
    let meows = meows_within(config, first);
    assert!(meows.len() >= 3, "this test needs meows: {meows:?}");

    let detections = analysis["detections"].as_array().unwrap();
    assert_eq!(analysis["detection_count"], detections.len());
    let spans: Vec<(f64, f64)> =
        detections.iter().map(|found| (found["start_s"].as_f64().unwrap(), found["end_s"].as_f64().unwrap())).collect();
    for meow in &meows {
        let (start, end) = (seconds(meow.start_sample - first), seconds(meow.end_sample - first));
        // A made-up meow that turns soft in its middle may be found as two.
        let found: Vec<_> = spans.iter().filter(|(from, to)| *from < end && *to > start).collect();
        let (Some((from, _)), Some((_, to))) = (found.first(), found.last()) else {
            panic!("meow {start:.3} to {end:.3} in {spans:?}");
        };
        assert!(found.len() <= 2, "meow {start:.3} to {end:.3} in {spans:?}");
        let overlap = (to.min(end) - from.max(start)) / (to.max(end) - from.min(start));
        assert!(overlap > MIN_OVERLAP, "meow {start:.3} to {end:.3} was found at {from:.3} to {to:.3}");
        assert!((to - end).abs() < END_TOLERANCE_S, "meow {start:.3} to {end:.3} was found at {from:.3} to {to:.3}");
    }

    // There is no detection without a vocalisation. Vocalisations at the edges may be detected in part.
    let vocalisations: Vec<Vocalisation> = truth(config)
        .skip_while(|one| one.end_sample <= first)
        .take_while(|one| one.start_sample < first + HEARD)
        .collect();
    for (found, (from, to)) in detections.iter().zip(&spans) {
        let vocalisation = vocalisations.iter().find(|one| {
            let (start, end) = (one.start_sample as f64 - first as f64, one.end_sample as f64 - first as f64);
            *from < end / f64::from(SAMPLE_RATE_HZ) && *to > start / f64::from(SAMPLE_RATE_HZ)
        });
        let kind = vocalisation.map(|one| one.kind);
        assert!(
            matches!(kind, Some(VocalisationKind::Meow | VocalisationKind::Purr)),
            "{found} is neither a meow nor a purr but {vocalisation:?}"
        );
        if kind == Some(VocalisationKind::Meow) {
            let pitch = found["measurements"]["pitch_median_hz"].as_f64().unwrap();
            assert!((380.0..950.0).contains(&pitch), "synthetic meows lie at 400 to 900 Hz: {found}");
        }
        assert!(
            found["measurements"]["peak_dbfs"].as_f64().unwrap() <= analysis["level"]["peak_dbfs"].as_f64().unwrap()
        );
        let score = found["score"].as_f64().unwrap();
        assert!(score > 0.0 && score <= analysis["cat_score"].as_f64().unwrap(), "{found}");
    }
    let verdict = analysis["verdict"].as_str().unwrap();
    assert!(["Hungry", "Good", "Bad", "Smelly"].contains(&verdict));
    assert_eq!(analysis["result"], format!("Tom is {verdict} Cat"));
}

#[tokio::test]
async fn silence_gives_no_detection_and_smelly() {
    let analysis = analyze("Tom", "synthetic:silence", 7).await;
    assert_eq!(analysis["detections"].as_array().map(Vec::len), Some(0), "{analysis}");
    assert_eq!(analysis["verdict"], "Smelly", "{analysis}");
    assert_eq!(analysis["finding"], "no_cat", "{analysis}");
    assert_eq!(analysis["result"], "Tom is Smelly Cat");
    let level = &analysis["level"];
    assert!(level["rms_dbfs"].as_f64().unwrap() < -40.0, "{analysis}");
}
