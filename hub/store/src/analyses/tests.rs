use sound::detection::{Context, ContextLabel, ContextProbabilities, Measurements};

use super::*;
use crate::testing::open;

fn detection(start_sample: u64) -> Detection {
    Detection {
        start_sample,
        end_sample: start_sample + 8000,
        score: 0.75,
        context: Context {
            label: ContextLabel::Isolation,
            probabilities: ContextProbabilities { waiting_for_food: 0.125, isolation: 0.75, brushing: 0.125 },
        },
        measurements: Measurements {
            peak_dbfs: -3.0,
            rms_dbfs: -12.5,
            snr_db: 20.0,
            pitch_median_hz: 600.0,
            pitch_min_hz: 450.0,
            pitch_max_hz: 720.0,
            voiced_fraction: 0.5,
            spectral_centroid_hz: 1800.0,
            spectral_flatness: 0.25,
        },
    }
}

fn outcome() -> Outcome {
    Outcome {
        status: AnalysisStatus::Complete,
        reason: None,
        verdict: Some(Verdict::Bad),
        cat_score: Some(0.75),
        messages: 30,
        heard_samples: 480_000,
        lost_samples: 320,
        origin: Some(Origin { boot_id: u64::MAX, first_sample: 960 }),
        level: Some(Level { rms_dbfs: -30.0, peak_dbfs: -3.0, clipped_fraction: 0.0, zero_fraction: 0.5 }),
        context_labels: 3,
        detections: vec![detection(16_000), detection(48_000)],
    }
}

#[tokio::test]
async fn analysis_is_read_back_unchanged() {
    let (_dir, store) = open();
    let id = store.begin_analysis("Tom".into(), "http://node:1".into()).await.unwrap();
    let (running, found) = store.analysis(id).await.unwrap().unwrap();
    assert_eq!((running.status, running.ended_at_ns, found.len()), (AnalysisStatus::Running, None, 0));

    store.end_analysis(id, outcome()).await.unwrap();
    let (ended, found) = store.analysis(id).await.unwrap().unwrap();
    assert_eq!((ended.cat.as_str(), ended.node.as_str()), ("Tom", "http://node:1"));
    assert_eq!((ended.status, ended.verdict), (AnalysisStatus::Complete, Some(Verdict::Bad)));
    assert!(ended.ended_at_ns.unwrap() >= ended.started_at_ns);
    assert_eq!((ended.messages, ended.heard_samples, ended.lost_samples), (30, 480_000, 320));
    assert_eq!((ended.origin, ended.level), (outcome().origin, outcome().level));
    assert_eq!(ended.detection_count, 2);
    assert_eq!(found, outcome().detections);
}

#[tokio::test]
async fn unknown_analysis_is_none() {
    let (_dir, store) = open();
    assert!(store.analysis(1).await.unwrap().is_none());
}

#[tokio::test]
async fn ended_analysis_is_not_ended_again() {
    let (_dir, store) = open();
    let id = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
    store.end_analysis(id, Outcome { detections: vec![], ..outcome() }).await.unwrap();
    store.end_analysis(id, Outcome { verdict: None, status: AnalysisStatus::Failed, ..outcome() }).await.unwrap();
    let (ended, found) = store.analysis(id).await.unwrap().unwrap();
    assert_eq!((ended.status, found.len()), (AnalysisStatus::Complete, 0));
}

#[tokio::test]
async fn only_running_analyses_are_marked_as_failed() {
    let (_dir, store) = open();
    let ended = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
    store.end_analysis(ended, outcome()).await.unwrap();
    let running = store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
    assert_eq!(store.fail_running_analyses("the hub was stopped").await.unwrap(), 1);
    assert_eq!(store.analysis(ended).await.unwrap().unwrap().0.status, AnalysisStatus::Complete);
    let (failed, _) = store.analysis(running).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.reason.as_deref()), (AnalysisStatus::Failed, Some("the hub was stopped")));
    assert!(failed.ended_at_ns.is_some());
}

#[tokio::test]
async fn oldest_analyses_are_removed_with_their_detections() {
    let (_dir, store) = open();
    for _ in 0..5 {
        store.begin_analysis("Tom".into(), "n".into()).await.unwrap();
    }
    for id in [1, 3, 5] {
        store.end_analysis(id, outcome()).await.unwrap();
    }
    assert_eq!(store.write(|db| remove_oldest(db, 2)).await.unwrap(), 2);
    let ids: Vec<_> = store.analyses(AnalysisFilter { limit: 10, ..AnalysisFilter::default() }).await.unwrap();
    assert_eq!(ids.iter().map(|analysis| analysis.id).collect::<Vec<_>>(), [5, 4, 2], "2 and 4 are running");
    let found: i64 = store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM analysis_detections", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(found, 2, "the detections of 1 and 3 are still there");
}

#[tokio::test]
async fn filters_narrow_and_pages_join() {
    let (_dir, store) = open();
    for cat in ["Tom", "Ada", "Tom", "Tom"] {
        store.begin_analysis(cat.into(), "n".into()).await.unwrap();
    }
    store.end_analysis(4, outcome()).await.unwrap();
    let ids = async |filter: AnalysisFilter| -> Vec<i64> {
        store.analyses(filter).await.unwrap().iter().map(|analysis| analysis.id).collect()
    };
    let all = AnalysisFilter { limit: 10, ..AnalysisFilter::default() };
    assert_eq!(ids(all.clone()).await, [4, 3, 2, 1]);
    assert_eq!(ids(AnalysisFilter { cat: Some("Tom".into()), ..all.clone() }).await, [4, 3, 1]);
    assert_eq!(ids(AnalysisFilter { status: Some(AnalysisStatus::Running), ..all.clone() }).await, [3, 2, 1]);
    assert_eq!(ids(AnalysisFilter { limit: 2, ..all.clone() }).await, [4, 3]);
    assert_eq!(ids(AnalysisFilter { before_id: Some(3), limit: 2, ..all.clone() }).await, [2, 1]);
    let third = store.analysis(3).await.unwrap().unwrap().0.started_at_ns;
    assert_eq!(ids(AnalysisFilter { from_ns: Some(third), ..all.clone() }).await, [4, 3]);
    assert_eq!(ids(AnalysisFilter { to_ns: Some(third), ..all }).await, [2, 1]);
}
