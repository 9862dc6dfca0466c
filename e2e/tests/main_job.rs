//! The main job: half a minute after `curl /analyze/NAME`, the stored analysis has what the microphone captured.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::time::Duration;

use e2e::fakes::{FakeOwner, Mood};
use e2e::hub::Hub;
use e2e::node::{Node, NodeOptions};
use serde_json::Value;
use sound::SAMPLE_RATE_HZ;
use sound::synth::{SynthConfig, Vocalisation, VocalisationKind, truth};

/// A generous deadline: the stream takes half a minute, its analysis a moment.
const ANALYSIS: Duration = Duration::from_secs(60);

/// Samples that an analysis covers.
const HEARD: u64 = 30 * SAMPLE_RATE_HZ as u64;

/// Least overlap of a detection and its meow, as the intersection over the union of their times. It is low because the
/// detector is trained on real cats: it detects a synthetic meow that swells slowly up to half a second late.
const MIN_OVERLAP: f64 = 0.45;

/// Most that the ends of a detection and of its meow may differ.
const END_TOLERANCE_S: f64 = 0.3;

/// A meow that is nearer than this to the start or the end of the audio need not be found: part of it may be missing.
const EDGE: u64 = SAMPLE_RATE_HZ as u64 / 2;

/// Starts a node and a hub, requests an analysis of the cat, and returns what is stored at its end.
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
    let told = node.describe().await;
    assert_eq!(analysis["boot_id"], format!("{:016x}", told.boot_id), "{analysis}");
    let first_sample = analysis["first_sample"].as_u64().unwrap();
    let latest = told.tape.unwrap().next_sequence * 320 - HEARD;
    assert!((from..=latest).contains(&first_sample), "{first_sample} is not within {from} to {latest}");
    analysis
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

/// The meows that must be found in the audio that begins at `first_sample`.
fn meows_within(config: SynthConfig, first_sample: u64) -> Vec<Vocalisation> {
    truth(config)
        .skip_while(|one| one.start_sample < first_sample + EDGE)
        .take_while(|one| one.end_sample <= first_sample + HEARD - EDGE)
        .filter(|one| one.kind == VocalisationKind::Meow)
        .collect()
}

#[tokio::test]
async fn stored_detections_are_the_meows_that_the_synthesizer_made() {
    // With this seed all meows are at least half a second long, which the detector finds reliably.
    let config = SynthConfig { seed: 42, vocalisations: true };
    let analysis = analyze("Tom", "synthetic", config.seed).await;
    let first = analysis["first_sample"].as_u64().unwrap();
    let meows = meows_within(config, first);
    assert!(meows.len() >= 3, "the audio must have meows for the test to mean anything: {meows:?}");

    let detections = analysis["detections"].as_array().unwrap();
    assert_eq!(analysis["detection_count"], detections.len());
    let spans: Vec<(f64, f64)> =
        detections.iter().map(|found| (found["start_s"].as_f64().unwrap(), found["end_s"].as_f64().unwrap())).collect();
    for meow in &meows {
        let (start, end) = (seconds(meow.start_sample - first), seconds(meow.end_sample - first));
        let found: Vec<_> = spans.iter().filter(|(from, to)| *from < end && *to > start).collect();
        assert_eq!(found.len(), 1, "meow {start:.3} to {end:.3} in {spans:?}");
        let (from, to) = *found[0];
        let overlap = (to.min(end) - from.max(start)) / (to.max(end) - from.min(start));
        assert!(overlap > MIN_OVERLAP, "meow {start:.3} to {end:.3} was found at {from:.3} to {to:.3}");
        assert!((to - end).abs() < END_TOLERANCE_S, "meow {start:.3} to {end:.3} was found at {from:.3} to {to:.3}");
    }

    // Nothing is found where the cat was silent. A vocalisation at either edge of the half minute may be found in part.
    let deeds: Vec<Vocalisation> = truth(config)
        .skip_while(|one| one.end_sample <= first)
        .take_while(|one| one.start_sample < first + HEARD)
        .collect();
    for (found, (from, to)) in detections.iter().zip(&spans) {
        let deed = deeds.iter().find(|deed| {
            let (start, end) = (deed.start_sample as f64 - first as f64, deed.end_sample as f64 - first as f64);
            *from < end / f64::from(SAMPLE_RATE_HZ) && *to > start / f64::from(SAMPLE_RATE_HZ)
        });
        assert!(deed.is_some_and(|deed| deed.kind == VocalisationKind::Meow), "{found} is not a meow but {deed:?}");
        let pitch = found["measurements"]["pitch_median_hz"].as_f64().unwrap();
        assert!((380.0..950.0).contains(&pitch), "synthetic meows lie at 400 to 900 Hz: {found}");
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
async fn room_without_a_cat_gives_no_detection_and_smelly() {
    let analysis = analyze("Tom", "synthetic:silence", 7).await;
    assert_eq!(analysis["detections"].as_array().map(Vec::len), Some(0), "{analysis}");
    assert_eq!(analysis["verdict"], "Smelly", "{analysis}");
    assert_eq!(analysis["result"], "Tom is Smelly Cat");
    let level = &analysis["level"];
    assert!(level["rms_dbfs"].as_f64().unwrap() < -40.0, "{analysis}");
}
