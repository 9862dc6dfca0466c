use sound::SAMPLE_RATE_HZ;

use super::*;
use crate::events::{Committed, NewEvent, Watermark};
use crate::testing::event;
use crate::{Access, SeenNode};

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
    let clip = clips.keep(cut(&event, count), &event).await;
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
    let on_disk = std::fs::metadata(dir.path().join("clips").join(&clip.file)).unwrap().len();
    assert_eq!((clip.start_sample, clip.samples, clip.bytes), (16_000, 24_000, on_disk));
    let bytes = clips.read(&clip).await.unwrap();
    assert_eq!((bytes.len() as u64, clip.wav_bytes()), (44 + 48_000, 44 + 48_000), "served without the comment");
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
    assert_eq!(ClipFormat::Wav.decode(&wav, 24_000).unwrap().samples, cut(&found, 24_000).samples);
    assert_eq!(clips.samples(&clip).await.unwrap(), cut(&found, 24_000).samples);

    // A FLAC file without an event leaves the folder at the start, and one with an event stays.
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
async fn labelled_events_and_their_clips_outlive_age_and_quota_up_to_their_own() {
    let (dir, store, clips) = open(ClipsConfig { keep_count: 2, keep_days: 90, ..config() }).await;
    for n in 0..3 {
        record(&store, &clips, event("kitchen", n * 16_000), 1_000).await.unwrap();
        store.label_event(n.cast_signed() + 1, Some("brushing".parse().unwrap())).await.unwrap();
    }
    for n in 3..8 {
        record(&store, &clips, event("kitchen", n * 16_000), 1_000).await.unwrap();
    }
    assert_eq!(files(&dir).len(), 5, "three with a label, and two others");
    // The events are of 2023, much older than 90 days.
    clips.tidy(Some(i64::MAX)).await.unwrap();
    assert_eq!(files(&dir).len(), 3);
    let began_before_ns = event("", 1_000_000).started_at_ns;
    while store.forget_old_events(0, began_before_ns, 2).await.unwrap() > 0 {}
    while store.forget_surplus_events(0, 2).await.unwrap() > 0 {}
    let left = |events: Vec<crate::events::Event>| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(left(store.events_stored_after(0, 100).await.unwrap()), [1, 2, 3]);

    clips.retire_labelled(ClipTotals { count: 2, bytes: u64::MAX }, 10).await.unwrap();
    assert_eq!((files(&dir).len(), store.event(1).await.unwrap().unwrap().clip), (2, Err(NoClip::Expired)));
    let one_clip = store.clip_totals().await.unwrap().bytes / 2;
    clips.retire_labelled(ClipTotals { count: 2, bytes: one_clip }, 10).await.unwrap();
    assert_eq!(files(&dir).len(), 1);
    clips.retire_labelled(ClipTotals { count: 2, bytes: one_clip }, 1).await.unwrap();
    assert_eq!(left(store.events_stored_after(0, 100).await.unwrap()), [3]);
    // Without its label, it is an event as any other.
    store.label_event(3, None).await.unwrap();
    clips.tidy(Some(i64::MAX)).await.unwrap();
    assert_eq!(files(&dir), Vec::<String>::new());
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
async fn start_removes_released_files_sets_unknown_ones_aside_and_marks_missing_clips() {
    let (dir, store, clips) = open(config()).await;
    let kept = record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    let lost = record(&store, &clips, event("kitchen", 16_000), 1_000).await.unwrap();
    let deleted = record(&store, &clips, event("kitchen", 48_000), 1_000).await.unwrap();
    // The files that a kill leaves between the renaming and the commit, in the middle of a write, and before a removal.
    let unknown = clips.keep(cut(&event("kitchen", 32_000), 1_000), &event("kitchen", 32_000)).await.unwrap();
    std::fs::write(dir.path().join("clips/half.wav.part"), b"RIFF").unwrap();
    store.delete_event(3).await.unwrap();
    std::fs::write(dir.path().join("clips/notes.txt"), b"not ours").unwrap();
    std::fs::remove_file(dir.path().join("clips").join(&lost.file)).unwrap();
    Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    assert_eq!(files(&dir), [kept.file.clone(), "notes.txt".into()]);
    assert_eq!(quarantined(&dir), [unknown.file], "and not {}", deleted.file);
    assert_eq!(store.event(1).await.unwrap().unwrap().clip, Ok(kept));
    assert_eq!(store.event(2).await.unwrap().unwrap().clip, Err(NoClip::Missing));
    assert!(store.released_clips().await.unwrap().is_empty());
}

/// Files in all folders of the quarantine.
fn quarantined(dir: &tempfile::TempDir) -> Vec<String> {
    let Ok(days) = std::fs::read_dir(dir.path().join("quarantine")) else { return Vec::new() };
    let files = days.flat_map(|day| std::fs::read_dir(day.unwrap().path()).unwrap());
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn waits_for_recovery(dir: &tempfile::TempDir) -> bool {
    Quarantine::new(dir.path()).has_to_recover().unwrap()
}

/// A folder with five events and their clips, and a copy of the database as it was after the first two.
async fn folder_with_five_events() -> (tempfile::TempDir, PathBuf, Vec<String>) {
    let (dir, store, clips) = open(config()).await;
    let older = dir.path().join("older.sqlite");
    for n in 0..5 {
        record(&store, &clips, event("kitchen", n * 16_000), 1_000).await.unwrap();
        clips.stored(n.cast_signed() + 1).await;
        if n == 1 {
            let path = older.display().to_string();
            store.read(move |db| Ok(db.execute("VACUUM INTO ?1", [path])?)).await.unwrap();
        }
    }
    let names = files(&dir);
    assert_eq!(names.len(), 5);
    // The log has all that is needed to restore the database, so it must not stay next to a damaged one.
    let path = dir.path().join(crate::DATABASE_FILE);
    drop((store, clips));
    rusqlite::Connection::open(path).unwrap().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
    (dir, older, names)
}

async fn start_again(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    store
}

#[tokio::test]
async fn no_clip_is_deleted_when_the_database_is_broken_missing_or_older() {
    let database = |dir: &tempfile::TempDir| dir.path().join(crate::DATABASE_FILE);

    let (dir, _, names) = folder_with_five_events().await;
    std::fs::write(database(&dir), "no database".repeat(1_000)).unwrap();
    start_again(&dir).await;
    assert_eq!((quarantined(&dir), files(&dir).len()), (names, 0), "broken");
    assert!(waits_for_recovery(&dir));

    let (dir, _, names) = folder_with_five_events().await;
    std::fs::remove_file(database(&dir)).unwrap();
    start_again(&dir).await;
    assert_eq!((quarantined(&dir), files(&dir).len()), (names, 0), "missing");
    assert!(waits_for_recovery(&dir));

    let (dir, older, names) = folder_with_five_events().await;
    std::fs::rename(older, database(&dir)).unwrap();
    start_again(&dir).await;
    assert_eq!((files(&dir), quarantined(&dir)), (names[..2].to_vec(), names[2..].to_vec()), "older");
    assert!(waits_for_recovery(&dir));

    // The next start with the same database has lost nothing.
    let store = start_again(&dir).await;
    assert_eq!((files(&dir).len(), quarantined(&dir).len()), (2, 3));
    assert_eq!(store.event(1).await.unwrap().unwrap().clip.unwrap().file, names[0]);
}

/// Brings back all clips that wait in the quarantine. Those without a description become events of the whole clip.
async fn recover(clips: &Clips) -> Vec<BroughtBack> {
    let mut done = Vec::new();
    for path in clips.lost().await.unwrap() {
        let lost = clips.examine(&path).await.unwrap().unwrap();
        let found = lost.event.clone().unwrap_or_else(|| NewEvent {
            boot_id: lost.boot_id,
            start_sample: lost.clip.start_sample,
            end_sample: lost.clip.start_sample + lost.clip.samples,
            ..event("recovered", 0)
        });
        done.push(clips.bring_back(lost, found).await.unwrap());
    }
    clips.end_recovery(vec![]).await.unwrap();
    done
}

#[tokio::test]
async fn recovered_event_belongs_to_the_id_of_its_node_at_once() {
    let (dir, store, clips) = open(config()).await;
    let seen = |url: &str, digit: &str, boot_id| SeenNode {
        url: url.into(),
        node_id: Some(digit.repeat(64)),
        claimed_id: None,
        boot_id,
        captured_samples: 0,
    };
    // One clip names the id; the other is of a boot before the node had one.
    let (named, unnamed) = (event("http://kitchen:1", 0), event("http://hall:2", 48_000));
    store.see_node(seen("http://kitchen:1", "a", named.boot_id)).await.unwrap();
    for found in [&named, &unnamed] {
        record(&store, &clips, found.clone(), 8_000).await.unwrap();
    }
    drop((store, clips));
    for file in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(file));
    }
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    store.see_node(seen("http://hall:2", "b", 77)).await.unwrap();
    recover(&clips).await;
    let ids: Vec<_> = store.events_stored_after(0, 10).await.unwrap().into_iter().map(|event| event.node_id).collect();
    assert_eq!(ids, [Some("a".repeat(64)), Some("b".repeat(64))]);
}

#[tokio::test]
async fn events_and_labels_of_a_lost_database_come_back_from_clips_and_log() {
    for format in ClipFormat::ALL {
        let config = ClipsConfig { format, ..config() };
        let (dir, store, clips) = open(config.clone()).await;
        let names = [NewEvent { cat: "Ada".into(), ..event("http://kitchen:1", 0) }, event("http://hall:2", 48_000)];
        for found in &names {
            record(&store, &clips, found.clone(), 8_000).await.unwrap();
        }
        let deleted = record(&store, &clips, event("http://hall:2", 96_000), 8_000).await.unwrap();
        let label = Some("brushing".parse().unwrap());
        let labelled = store.label_event(2, label).await.unwrap().unwrap();
        store.label_event(1, label).await.unwrap();
        store.label_event(1, None).await.unwrap();
        store.say_cat(1, Some("Tom")).await.unwrap().unwrap();
        let clip_of_deleted = std::fs::read(dir.path().join("clips").join(&deleted.file)).unwrap();
        store.delete_event(3).await.unwrap();
        clips.remove(vec![deleted.file.clone()]).await;
        drop((store, clips));
        for file in ["hub.sqlite", "hub.sqlite-wal", "hub.sqlite-shm"] {
            let _ = std::fs::remove_file(dir.path().join(file));
        }

        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let clips = Clips::open(dir.path(), config.clone(), store.clone()).await.unwrap();
        let done = recover(&clips).await;
        assert_eq!(done.iter().filter(|one| matches!(one, BroughtBack::Event(_))).count(), 2, "{done:?}");
        assert_eq!(store.restore_labels_from_log().await.unwrap(), 2);
        assert_eq!(store.restore_labels_from_log().await.unwrap(), 0, "once");
        let events = store.events_stored_after(0, 10).await.unwrap();
        assert_eq!(events.iter().map(|event| &event.found).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        assert!(events.iter().all(|event| event.recovered));
        assert_eq!((events[0].cat(), events[0].found.cat.as_str()), ("Tom", "Ada"));
        assert_eq!(
            (events[0].label, events[1].label, events[1].labelled_at_ns),
            (None, label, labelled.labelled_at_ns)
        );
        assert_eq!(clips.samples(events[0].clip.as_ref().unwrap()).await.unwrap(), cut(&names[0], 8_000).samples);
        assert!(quarantined(&dir).is_empty() && !waits_for_recovery(&dir));
        assert_eq!(store.watermark("http://kitchen:1").await.unwrap(), None, "listening decides on its own");

        // The file of an event that its owner deleted does not come back, nor does a second copy of one that is there.
        store.delete_event(events[1].id).await.unwrap();
        let deleted_again = events[1].clip.clone().unwrap().file;
        let copy = clip_of_deleted;
        let folder = Quarantine::new(dir.path()).open_folder(true).unwrap();
        std::fs::rename(dir.path().join("clips").join(&deleted_again), folder.join(&deleted_again)).unwrap();
        std::fs::write(folder.join("0-broken.wav"), &copy[..copy.len() / 2]).unwrap();
        let first = events[0].clip.clone().unwrap().file;
        std::fs::copy(dir.path().join("clips").join(&first), folder.join(&first)).unwrap();
        std::fs::remove_file(folder.join("0-broken.wav")).unwrap();
        let mut done = recover(&clips).await;
        done.sort_by_key(|one| format!("{one:?}"));
        assert_eq!(done, [BroughtBack::Deleted, BroughtBack::NotNeeded]);
        assert_eq!(quarantined(&dir), [first]);
    }
}

#[tokio::test]
async fn clip_that_was_missing_comes_back_to_its_event() {
    let (dir, store, clips) = open(config()).await;
    let clip = record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    let path = dir.path().join("clips").join(&clip.file);
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    assert_eq!(store.event(1).await.unwrap().unwrap().clip, Err(NoClip::Missing));
    std::fs::rename(dir.path().join("away"), &path).unwrap();
    std::fs::remove_file(dir.path().join("clips.json")).unwrap();
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    assert_eq!(recover(&clips).await, [BroughtBack::Clip]);
    assert_eq!(store.event(1).await.unwrap().unwrap().clip, Ok(clip));
}

#[tokio::test]
async fn damaged_clips_are_noticed() {
    let (dir, store, clips) = open(config()).await;
    let clip = record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    let path = dir.path().join("clips").join(&clip.file);
    let good = std::fs::read(&path).unwrap();
    let (mut zeroed, mut flipped) = (good.clone(), good.clone());
    zeroed[200..700].fill(0);
    flipped[1_000] ^= 1;
    for bad in [zeroed, flipped, good[..1_500].to_vec(), Vec::new()] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(clips.read(&clip).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
    // Without a comment, as an earlier version wrote it, it is still a clip.
    std::fs::write(&path, wav_of(&cut(&event("kitchen", 0), 1_000).samples)).unwrap();
    assert_eq!(clips.samples(&clip).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn restart_with_the_same_database_recovers_nothing() {
    let (dir, _, names) = folder_with_five_events().await;
    start_again(&dir).await;
    assert_eq!((files(&dir), quarantined(&dir).len()), (names, 0));
    assert!(!waits_for_recovery(&dir));
}

#[tokio::test]
async fn hub_starts_although_it_cannot_write_its_notes() {
    let (dir, store, clips) = open(config()).await;
    let clip = record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    for note in ["clips.json", "labels.jsonl"] {
        std::fs::remove_file(dir.path().join(note)).unwrap();
        // Nothing can be written where the unfinished file would be.
        std::fs::create_dir(dir.path().join(format!("{note}.part"))).unwrap();
    }
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    clips.stored(1).await;
    assert!(clips.read(&clip).await.is_ok());
}

#[tokio::test]
async fn clips_of_a_folder_that_is_not_there_stay_with_their_events() {
    let (dir, store, clips) = open(config()).await;
    for n in 0..20 {
        record(&store, &clips, event("kitchen", n * 16_000), 1_000).await.unwrap();
    }
    std::fs::rename(dir.path().join("clips"), dir.path().join("away")).unwrap();
    Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    std::fs::remove_dir(dir.path().join("clips")).unwrap();
    std::fs::rename(dir.path().join("away"), dir.path().join("clips")).unwrap();
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    let clip = store.event(20).await.unwrap().unwrap().clip.unwrap();
    assert!(clips.read(&clip).await.is_ok());
    assert_eq!(files(&dir).len(), 20);
}

#[tokio::test]
async fn nobody_else_can_read_what_the_hub_stores() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    // What an earlier version wrote.
    std::fs::create_dir(dir.path().join("clips")).unwrap();
    std::fs::set_permissions(dir.path().join("clips"), std::fs::Permissions::from_mode(0o777)).unwrap();
    drop(Store::open(dir.path(), Access::Keeper).unwrap());
    let database = dir.path().join(crate::DATABASE_FILE);
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    record(&store, &clips, event("kitchen", 0), 1_000).await.unwrap();
    clips.keep(cut(&event("kitchen", 16_000), 1_000), &event("kitchen", 16_000)).await.unwrap();
    let clips = Clips::open(dir.path(), config(), store.clone()).await.unwrap();
    clips.stored(7).await;
    let mut folders = vec![dir.path().to_path_buf()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o7777, 0o700, "{folder:?}");
        for entry in std::fs::read_dir(folder).unwrap() {
            let (path, mode) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap().permissions());
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode.mode() & 0o7777, 0o600, "{path:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "{seen}");
}
