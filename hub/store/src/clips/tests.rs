use sound::SAMPLE_RATE_HZ;

use super::*;
use crate::Access;
use crate::events::{Committed, NewEvent, Watermark};
use crate::testing::event;

async fn open(config: ClipsConfig) -> (tempfile::TempDir, Store, Clips) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
    (dir, store, clips)
}

/// Without a reserve, so that the tests do not depend on the free space of the machine.
fn config() -> ClipsConfig {
    ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() }
}

fn cut(event: &NewEvent, count: usize) -> Cut {
    let samples = (0..count).map(|n| (n % 1_000) as i16).collect();
    Cut { boot_id: event.boot_id, start_sample: event.start_sample, samples }
}

/// Keeps a clip and stores its event, as the recorder does.
async fn record(store: &Store, clips: &Clips, event: NewEvent, count: usize) -> Result<Clip, NoClip> {
    let clip = clips.keep(cut(&event, count)).await;
    let watermark =
        Watermark { node: event.node.clone(), boot_id: event.boot_id, resume_sequence: 0, settled_sample: 0 };
    let committed = store.commit_event(event, clip.clone(), watermark, |_| vec![]).await.unwrap();
    assert!(matches!(committed, Committed::Stored(..)));
    clip
}

fn files(dir: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path().join("clips")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn clip_holds_the_samples_bit_for_bit() {
    let (dir, store, clips) = open(config()).await;
    let found = event("kitchen", 16_000);
    let clip = record(&store, &clips, found.clone(), 24_000).await.unwrap();
    assert_eq!((clip.start_sample, clip.samples, clip.bytes), (16_000, 24_000, 44 + 48_000));
    let bytes = clips.read(&clip).await.unwrap();
    assert_eq!(bytes.len() as u64, clip.bytes);
    let mut reader = hound::WavReader::new(&bytes[..]).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (SAMPLE_RATE_HZ, 1));
    let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    assert_eq!(samples, cut(&found, 24_000).samples);
    assert_eq!(files(&dir), [clip.file]);
}

#[tokio::test]
async fn flac_is_smaller_on_disk_and_lossless() {
    let (dir, store, clips) = open(ClipsConfig { format: ClipFormat::Flac, ..config() }).await;
    let found = event("kitchen", 16_000);
    let clip = record(&store, &clips, found.clone(), 24_000).await.unwrap();
    assert!(clip.file.ends_with(".flac") && clip.bytes < 24_000, "{clip:?}");
    let path = dir.path().join("clips").join(&clip.file);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), clip.bytes);
    let wav = clips.read(&clip).await.unwrap();
    assert_eq!(wav.len() as u64, clip.wav_bytes());
    assert_eq!(ClipFormat::Wav.decode(&wav, 24_000), Some(cut(&found, 24_000).samples));
    assert_eq!(clips.samples(&clip).await.unwrap(), cut(&found, 24_000).samples);

    // A FLAC file without an event is removed at the start, and one with an event stays.
    std::fs::copy(&path, path.with_file_name("stray.flac")).unwrap();
    let clips = Clips::open(dir.path(), config(), store).await.unwrap();
    assert_eq!(files(&dir), std::slice::from_ref(&clip.file));
    std::fs::write(&path, &std::fs::read(&path).unwrap()[..200]).unwrap();
    assert_eq!(clips.read(&clip).await.unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(clips.samples(&clip).await.unwrap_err().kind(), ErrorKind::InvalidData);
}

#[tokio::test]
async fn oldest_clips_are_removed_before_the_quota_is_exceeded() {
    // Two clips of 0.4 MB fit into one megabyte, three do not.
    let (dir, store, clips) = open(ClipsConfig { keep_mb: 1, ..config() }).await;
    for n in 0..5 {
        record(&store, &clips, event("kitchen", n * 400_000), 200_000).await.unwrap();
        let totals = store.clip_totals().await.unwrap();
        assert!(totals.bytes <= 1_000_000 && totals.count <= 2, "{totals:?}");
        assert_eq!(files(&dir).len() as u64, totals.count);
    }
    let mut kept: Vec<String> = store.clip_files().await.unwrap().into_iter().collect();
    kept.sort();
    assert_eq!(files(&dir), kept);
    assert!(kept[0].ends_with("-000001200000.wav"), "the latest stay: {kept:?}");
    assert_eq!(clips.counters().expired.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn clips_above_the_count_or_the_age_are_removed() {
    let (dir, store, clips) = open(ClipsConfig { keep_count: 3, keep_days: 0, ..config() }).await;
    for n in 0..5 {
        record(&store, &clips, event("kitchen", n * 16_000), 1_000).await.unwrap();
    }
    assert_eq!(files(&dir).len(), 3);
    // The events are of 2023, much older than 90 days.
    let aging = Clips::guest(dir.path(), config(), store.clone());
    aging.tidy(None).await.unwrap();
    assert_eq!(files(&dir).len(), 3, "the clock is in doubt");
    aging.tidy(Some(i64::MAX)).await.unwrap();
    assert_eq!(files(&dir), Vec::<String>::new());
    let page = store.events(&Default::default(), None, 10).await.unwrap();
    assert!(page.events.iter().all(|event| event.clip == Err(NoClip::Expired)) && page.events.len() == 5);
}

#[tokio::test]
async fn one_round_by_a_clock_that_lies_removes_few_clips() {
    let (dir, store, clips) = open(config()).await;
    for n in 0..AGED_A_ROUND as u64 + 3 {
        record(&store, &clips, event("kitchen", n * 16_000), 10).await.unwrap();
    }
    clips.tidy(Some(i64::MAX)).await.unwrap();
    assert_eq!(files(&dir).len(), 3);
}

#[tokio::test]
async fn clip_that_is_not_written_has_a_reason() {
    let cases = [
        (ClipsConfig { enabled: false, ..config() }, NoClip::Disabled),
        (ClipsConfig { reserve_mb: u64::MAX, ..config() }, NoClip::DiskFull),
        (ClipsConfig { keep_mb: 0, ..config() }, NoClip::OverQuota),
        (ClipsConfig { keep_count: 0, ..config() }, NoClip::OverQuota),
    ];
    for (config, reason) in cases {
        let (dir, store, clips) = open(config).await;
        assert_eq!(record(&store, &clips, event("kitchen", 0), 1_000).await, Err(reason));
        assert_eq!(files(&dir), Vec::<String>::new());
        let stored = store.event(1).await.unwrap().unwrap();
        assert_eq!(stored.clip, Err(reason));
        assert_eq!(clips.counters().disk_full.load(Ordering::Relaxed), u64::from(reason == NoClip::DiskFull));
    }
}

#[tokio::test]
async fn event_is_stored_without_its_clip_if_the_directory_is_missing() {
    let (dir, store, clips) = open(config()).await;
    std::fs::remove_dir(dir.path().join("clips")).unwrap();
    assert_eq!(record(&store, &clips, event("kitchen", 0), 1_000).await, Err(NoClip::WriteFailed));
    assert_eq!(clips.counters().write_failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn start_removes_files_without_events_and_marks_missing_clips() {
    let (dir, store, clips) = open(config()).await;
    let kept = record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    let lost = record(&store, &clips, event("kitchen", 16_000), 1_000).await.unwrap();
    // The files that a kill leaves between the renaming and the commit, and in the middle of a write.
    clips.keep(cut(&event("kitchen", 32_000), 1_000)).await.unwrap();
    std::fs::write(dir.path().join("clips/half.wav.part"), b"RIFF").unwrap();
    std::fs::write(dir.path().join("clips/notes.txt"), b"not ours").unwrap();
    std::fs::remove_file(dir.path().join("clips").join(&lost.file)).unwrap();
    Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    assert_eq!(files(&dir), [kept.file.clone(), "notes.txt".into()]);
    assert_eq!(store.event(1).await.unwrap().unwrap().clip, Ok(kept));
    assert_eq!(store.event(2).await.unwrap().unwrap().clip, Err(NoClip::Missing));
}

#[test]
fn rolls_and_lengths_beyond_the_limits_are_refused() {
    assert!(ClipsConfig::default().check().is_ok());
    for (bad, key) in [
        (ClipsConfig { pre_roll_ms: 2_001, ..config() }, "clips.pre_roll_ms: "),
        (ClipsConfig { post_roll_ms: 60_000, ..config() }, "clips.post_roll_ms: "),
        (ClipsConfig { max_length_s: 0, ..config() }, "clips.max_length_s: "),
        (ClipsConfig { max_length_s: 61, ..config() }, "clips.max_length_s: "),
    ] {
        let error = bad.check().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}
