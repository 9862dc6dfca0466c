use std::path::Path;

use hub_store::backup::{RestoreFrom, Source, back_up_to_folder, restore};
use hub_store::clips::{ClipsConfig, Cut};
use hub_store::events::{Event, OwnerLabel, Watermark};
use hub_store::testing::{event, put_with};
use hub_store::{Access, DATABASE_FILE, Store};

use super::*;

/// When the clips of the earlier version were written: 2023.
const WRITTEN_S: u64 = 1_690_000_000;

fn recorded(name: &str) -> Vec<i16> {
    let path = format!("{}/../../sound/tests/clips/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect()
}

async fn open(data_dir: &Path) -> (Store, Clips) {
    let store = Store::open(data_dir, Access::Keeper).unwrap();
    let config = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
    let clips = Clips::open(data_dir, config, store.clone()).await.unwrap();
    (store, clips)
}

async fn lose_database(data_dir: &Path, store: Store, clips: Clips) {
    drop((store, clips));
    for file in [DATABASE_FILE, "hub.sqlite-wal", "hub.sqlite-shm"] {
        let _ = std::fs::remove_file(data_dir.join(file));
    }
}

async fn put(store: &Store, clips: &Clips, start_sample: u64, samples: Vec<i16>) -> Event {
    let found = event("http://kitchen:1", start_sample);
    let clip = clips.keep(Cut { boot_id: found.boot_id, start_sample, samples }, &found).await;
    put_with(store, found, clip).await
}

/// Writes a clip as an earlier version did: named by boot id and first sample, without a description.
fn put_old(data_dir: &Path, boot_id: u64, start_sample: u64, samples: &[i16]) {
    let path = data_dir.join(format!("clips/{boot_id:016x}-{start_sample:012}.wav"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&path, spec).unwrap();
    samples.iter().for_each(|sample| file.write_sample(*sample).unwrap());
    file.finalize().unwrap();
    let written = std::time::UNIX_EPOCH + Duration::from_secs(WRITTEN_S);
    std::fs::File::options().append(true).open(path).unwrap().set_modified(written).unwrap();
}

#[tokio::test]
async fn events_come_back_with_their_labels_and_old_clips_are_heard_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    let meow = recorded("meow_alone");
    let described = put(&store, &clips, 100_000, meow.clone()).await;
    let label = Some(OwnerLabel::Context(ContextLabel::Brushing));
    store.label_event(described.id, label).await.unwrap();
    put_old(dir.path(), described.found.boot_id, 900_000, &meow);
    put_old(dir.path(), 7, 16_000, &[0; 32_000]);
    std::fs::write(dir.path().join("clips/0000000000000007-000000900000.wav"), "cut off").unwrap();
    lose_database(dir.path(), store, clips).await;

    let (store, clips) = open(dir.path()).await;
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { events: 3, labels: 1, left: 1, ..RecoveredCounts::default() }));
    let mut events = store.events_stored_after(0, 10).await.unwrap();
    events.sort_by_key(|event| (event.found.boot_id, event.found.start_sample));
    let [silent, back, heard] = &events[..] else { panic!("{events:?}") };
    assert!(events.iter().all(|event| event.recovered && event.clip.is_ok()));
    assert_eq!((back.label, &back.found), (label, &described.found));
    assert_eq!((silent.found.node.as_str(), silent.found.score, silent.duration_s()), (UNKNOWN_NODE, 0.0, 2.0));

    // The log of labels tells the node of the boot.
    assert_eq!(heard.found.node, "http://kitchen:1");
    assert!(heard.found.score > 0.5 && heard.found.features.is_some(), "{heard:?}");
    assert_eq!(heard.found.kind.as_deref(), Some("meow"));
    let length = meow.len() as u64;
    assert!(heard.found.start_sample > 900_000 && heard.found.end_sample <= 900_000 + length);
    let ended_before_ns = (900_000 + length - heard.found.end_sample) * NS_A_SAMPLE;
    let written_ns = WRITTEN_S * 1_000_000_000;
    assert_eq!(heard.found.ended_at_ns.cast_unsigned() + ended_before_ns, written_ns, "dated by the file");
    assert_eq!(store.pending_notifications().await.unwrap(), [], "nobody is notified");

    assert_eq!(all(&clips, Duration::ZERO).await, None, "once");
}

#[tokio::test]
async fn recovery_that_was_interrupted_goes_on_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    for n in 0..3 {
        put(&store, &clips, n * 100_000, vec![n as i16; 16_000]).await;
    }
    lose_database(dir.path(), store, clips).await;
    let (store, clips) = open(dir.path()).await;
    let first = clips.lost().await.unwrap().remove(0);
    let found = clips.examine(&first).await.unwrap().unwrap();
    one(&clips, found, &mut HashMap::new()).await.unwrap();
    // The second clip is in the folder of the clips when the hub is killed, and its event is not stored.
    let second = clips.lost().await.unwrap().remove(0);
    std::fs::rename(&second, dir.path().join("clips").join(second.file_name().unwrap())).unwrap();
    let watermark = Watermark { node: "http://kitchen:1".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
    store.commit_progress(vec![hub_store::events::Progress { watermark, gaps: vec![] }]).await.unwrap();
    drop((store, clips));

    let (store, clips) = open(dir.path()).await;
    assert_eq!(all(&clips, Duration::ZERO).await.unwrap().events, 2);
    assert_eq!(store.events_stored_after(0, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn clip_that_cannot_be_stored_stays_and_the_rest_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    for n in 0..3 {
        put(&store, &clips, n * 100_000, vec![n as i16; 16_000]).await;
    }
    lose_database(dir.path(), store, clips).await;
    let (store, clips) = open(dir.path()).await;
    // A link to itself: nothing can be moved there.
    let bad = clips.lost().await.unwrap().remove(0);
    let link = dir.path().join("clips").join(bad.file_name().unwrap());
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { events: 2, failed: 1, ..RecoveredCounts::default() }));
    assert!(bad.exists());

    std::fs::remove_file(link).unwrap();
    drop((store, clips));
    let (_store, clips) = open(dir.path()).await;
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { events: 1, ..RecoveredCounts::default() }));
}

#[tokio::test]
async fn recovery_waits_for_a_store_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    for n in 0..3 {
        put(&store, &clips, n * 100_000, vec![n as i16; 16_000]).await;
    }
    lose_database(dir.path(), store, clips).await;
    let (store, clips) = open(dir.path()).await;
    let (database, away) = (dir.path().join(DATABASE_FILE), dir.path().join("away"));
    std::fs::rename(&database, &away).unwrap();
    let stop = CancellationToken::new();
    let recovery = tokio::spawn(recover(clips.clone(), stop.clone()));
    let failed = || format!("{:?}", store.operations()).contains("\"failed\"");
    until(failed).await;
    assert_eq!(clips.lost().await.unwrap().len(), 3, "the clips wait in the quarantine");
    std::fs::rename(&away, &database).unwrap();
    tokio::time::timeout(DEADLINE, recovery).await.unwrap().unwrap();
    assert_eq!(store.events_stored_after(0, 10).await.unwrap().len(), 3);
}

const DEADLINE: Duration = Duration::from_secs(60);

async fn until(condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, met).await.unwrap();
}

#[tokio::test]
async fn numbered_copy_of_a_clip_comes_back_if_the_first_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    let event = put(&store, &clips, 0, vec![7; 16_000]).await;
    lose_database(dir.path(), store, clips).await;
    let (store, clips) = open(dir.path()).await;
    let clip = clips.lost().await.unwrap().remove(0);
    let file = clip.file_name().unwrap().to_str().unwrap();
    std::fs::rename(&clip, clip.with_file_name(format!("2-{file}"))).unwrap();
    std::fs::write(&clip, "cut off").unwrap();
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { events: 1, left: 1, ..RecoveredCounts::default() }));
    let back = store.events_stored_after(0, 10).await.unwrap().remove(0);
    assert_eq!((back.found, back.clip), (event.found, event.clip), "under its own name");
}

#[tokio::test]
async fn restored_snapshot_gets_back_later_events_and_labels_and_no_label_that_was_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, clips) = open(dir.path()).await;
    let brushing = Some(OwnerLabel::Context(ContextLabel::Brushing));
    let first = put(&store, &clips, 0, vec![1; 16_000]).await;
    store.label_event(first.id, brushing).await.unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = || {
        let source = Source { data_dir: dir.path().into(), config: vec![], with_secrets: false };
        let made = back_up_to_folder(&source, copies.path(), 7, &CancellationToken::new()).unwrap();
        made.path.join(DATABASE_FILE)
    };
    let earlier = copy();
    let second = put(&store, &clips, 100_000, vec![2; 16_000]).await;
    let later = copy();
    store.label_event(first.id, None).await.unwrap();
    store.label_event(second.id, brushing).await.unwrap();
    drop((store, clips));

    let restored = restore(RestoreFrom::Path(&earlier), dir.path()).unwrap();
    assert_eq!((restored.counts.events, restored.clips, restored.later_clips), (1, 1, 1));
    let (store, clips) = open(dir.path()).await;
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { events: 1, labels: 2, ..RecoveredCounts::default() }));
    let labels = |events: Vec<Event>| events.iter().map(|event| (event.label, event.clip.is_ok())).collect::<Vec<_>>();
    let events = store.events_stored_after(0, 10).await.unwrap();
    assert_eq!(labels(events), [(None, true), (brushing, true)]);
    drop((store, clips));

    // Killed before the recovery, and then a later copy: its clip is in the quarantine, and no clip is to be recovered.
    restore(RestoreFrom::Path(&earlier), dir.path()).unwrap();
    drop(open(dir.path()).await);
    let restored = restore(RestoreFrom::Path(&later), dir.path()).unwrap();
    assert_eq!((restored.clips, restored.lost_clips.len(), restored.later_clips), (2, 0, 0));
    let (store, clips) = open(dir.path()).await;
    let recovered = all(&clips, Duration::ZERO).await;
    assert_eq!(recovered, Some(RecoveredCounts { labels: 2, ..RecoveredCounts::default() }));
    let events = store.events_stored_after(0, 10).await.unwrap();
    assert!(events.iter().all(|event| !event.recovered));
    assert_eq!(labels(events), [(None, true), (brushing, true)]);
    assert_eq!(all(&clips, Duration::ZERO).await, None, "once");
}
