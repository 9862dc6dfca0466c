#![allow(clippy::unwrap_used)]

use std::path::Path;

use daemon::shutdown::CancellationToken;

use super::snapshots::{Forgotten, Taken};
use super::*;
use crate::clips::{Clips, ClipsConfig, Cut};
use crate::events::{Clip, NewEvent, NoClip};
use crate::people::{NewSession, PasswordHash};
use crate::testing::{event, put_with, watermark};
use crate::{Access, DATABASE_FILE, Store};

/// A data folder with events and their clips.
struct Hub {
    dir: tempfile::TempDir,
    store: Store,
    clips: Clips,
}

impl Hub {
    async fn with_events(count: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let config = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
        let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
        let hub = Self { dir, store, clips };
        for number in 0..count {
            hub.hear(number).await;
        }
        hub
    }

    async fn hear(&self, number: u64) -> Clip {
        let found = event("kitchen", number * 16_000);
        let samples = vec![number as i16; 1_000];
        let cut = Cut { boot_id: found.boot_id, start_sample: found.start_sample, samples };
        let clip = self.clips.keep(cut, &found).await.unwrap();
        put_with(&self.store, found, Ok(clip.clone())).await;
        clip
    }

    fn source(&self) -> Source {
        let config = vec![ConfigFile { name: "hub.toml".into(), content: b"discover = false\n".to_vec() }];
        Source { data_dir: self.dir.path().to_path_buf(), config, with_secrets: false }
    }

    fn back_up(&self, to: &Path, keep: u32) -> Result<BackedUp, BackupError> {
        back_up_to_folder(&self.source(), to, keep, &CancellationToken::new())
    }
}

/// Ids and clips of the events in a data folder, after a start of the hub. Every clip must be readable.
async fn stored(data_dir: &Path) -> Vec<(i64, String)> {
    let store = Store::open(data_dir, Access::Keeper).unwrap();
    let clips = Clips::open(data_dir, ClipsConfig::default(), store.clone()).await.unwrap();
    let page = store.events(&Default::default(), None, 100).await.unwrap();
    let mut all = Vec::new();
    for event in page.events {
        if let Ok(clip) = &event.clip {
            clips.samples(clip).await.unwrap();
        }
        all.push((event.id, event.clip.map_or_else(|reason| reason.as_str().to_owned(), |clip| clip.file)));
    }
    all
}

fn names(folder: &Path) -> Vec<String> {
    files::names(folder).unwrap()
}

fn restore_path(from: &Path, data_dir: &Path) -> Result<Restored, BackupError> {
    restore(RestoreFrom::Path(from), data_dir)
}

#[tokio::test]
async fn folder_brings_back_events_and_clips_and_a_second_backup_copies_only_new_clips() {
    let hub = Hub::with_events(3).await;
    let to = tempfile::tempdir().unwrap();
    let first = hub.back_up(to.path(), 7).unwrap();
    assert_eq!((first.copied, first.known, first.manifest.counts.events), (3, 0, 3));
    hub.hear(3).await;
    let second = hub.back_up(to.path(), 7).unwrap();
    assert_eq!((second.copied, second.known), (1, 3));

    let target = tempfile::tempdir().unwrap();
    let restored = restore_path(to.path(), target.path()).unwrap();
    assert_eq!((restored.counts.events, restored.clips, restored.lost_clips.len()), (4, 4, 0));
    assert_eq!(std::fs::read(restored.config.unwrap().join("hub.toml")).unwrap(), b"discover = false\n");
    assert_eq!(stored(target.path()).await.len(), 4);
    let earlier = tempfile::tempdir().unwrap();
    restore_path(&first.path, earlier.path()).unwrap();
    assert_eq!(stored(earlier.path()).await.len(), 3);

    use std::os::unix::fs::PermissionsExt;
    for (path, mode) in [("hub.sqlite", 0o600), ("clips", 0o700), ("restored-config/hub.toml", 0o600)] {
        let found = std::fs::metadata(target.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
}

#[tokio::test]
async fn archive_brings_back_events_and_clips_and_a_part_of_it_does_not() {
    let hub = Hub::with_events(2).await;
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("cats.tar");
    back_up_to_tar(&hub.source(), &tar, &CancellationToken::new()).unwrap();
    assert_eq!(names(folder.path()), ["cats.tar"]);
    let target = tempfile::tempdir().unwrap();
    restore_path(&tar, target.path()).unwrap();
    assert_eq!(stored(target.path()).await.len(), 2);

    let mut piped = Vec::new();
    back_up_to_writer(&hub.source(), &mut piped, &CancellationToken::new()).unwrap();
    assert!(!names(hub.dir.path()).iter().any(|name| name.ends_with(".part")));
    let whole = tempfile::tempdir().unwrap();
    restore(RestoreFrom::Archive(&mut &piped[..]), whole.path()).unwrap();
    assert_eq!(stored(whole.path()).await.len(), 2);
    for length in [0, piped.len() / 2, piped.len() - 3_000] {
        let target = tempfile::tempdir().unwrap();
        restore(RestoreFrom::Archive(&mut &piped[..length]), target.path()).unwrap_err();
        assert_eq!(names(target.path()), ["hub.lock"], "{length}");
    }
}

#[tokio::test]
async fn interrupted_backup_leaves_nothing_and_the_earlier_one_stays() {
    let hub = Hub::with_events(2).await;
    let to = tempfile::tempdir().unwrap();
    let first = hub.back_up(to.path(), 1).unwrap();
    let before = names(to.path());
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = back_up_to_folder(&hub.source(), to.path(), 1, &stop);
    assert!(matches!(stopped, Err(BackupError::Interrupted)));
    assert_eq!(names(to.path()), before);

    // What a power cut leaves: an unfinished backup, and a clip in the pool that nothing can be said about.
    let clip = hub.hear(2).await;
    std::fs::create_dir(to.path().join("000002-20261128T030000Z.part")).unwrap();
    std::fs::write(to.path().join("clips").join(&clip.file), vec![0; clip.bytes as usize]).unwrap();
    let latest = restore_path(to.path(), tempfile::tempdir().unwrap().path()).unwrap();
    assert_eq!(latest.from, first.path);
    let second = hub.back_up(to.path(), 1).unwrap();
    assert_eq!((second.copied, second.known), (1, 2));
    assert!(!first.path.exists(), "the oldest goes when the new one stands");
    let target = tempfile::tempdir().unwrap();
    assert_eq!(restore_path(to.path(), target.path()).unwrap().lost_clips, Vec::<String>::new());
}

#[tokio::test]
async fn clips_go_with_the_last_backup_that_has_them() {
    let hub = Hub::with_events(2).await;
    let to = tempfile::tempdir().unwrap();
    hub.back_up(to.path(), 2).unwrap();
    let file = hub.store.delete_event(1).await.unwrap().unwrap();
    hub.clips.remove(file.into_iter().collect()).await;
    let second = hub.back_up(to.path(), 2).unwrap();
    assert_eq!((second.manifest.counts.events, second.manifest.counts.clips), (1, 1));
    assert_eq!(names(&to.path().join("clips")).len(), 2);
    hub.back_up(to.path(), 2).unwrap();
    assert_eq!(names(&to.path().join("clips")).len(), 1);
    let database = rusqlite::Connection::open(second.path.join(DATABASE_FILE)).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "what a person deleted is in no copy");
}

#[tokio::test]
async fn folder_with_other_files_is_not_used() {
    let hub = Hub::with_events(1).await;
    let to = tempfile::tempdir().unwrap();
    std::fs::write(to.path().join("thesis.odt"), "").unwrap();
    assert!(matches!(hub.back_up(to.path(), 7), Err(BackupError::NotForBackups { .. })));
    assert_eq!(names(to.path()), ["thesis.odt"]);
    let nothing = tempfile::tempdir().unwrap();
    let source = Source { data_dir: nothing.path().into(), ..hub.source() };
    let to = tempfile::tempdir().unwrap();
    let refused = back_up_to_folder(&source, to.path(), 7, &CancellationToken::new());
    assert!(matches!(refused, Err(BackupError::NoDatabase { .. })));
    assert_eq!(names(nothing.path()), Vec::<String>::new());
}

#[tokio::test]
async fn restore_is_refused_while_a_hub_runs_and_moves_aside_what_is_there() {
    let hub = Hub::with_events(1).await;
    let to = tempfile::tempdir().unwrap();
    hub.back_up(to.path(), 7).unwrap();
    hub.hear(1).await;
    let data_dir = hub.dir.path().to_path_buf();
    let refused = restore_path(to.path(), &data_dir).unwrap_err();
    assert!(refused.to_string().contains("another hub uses this data directory"), "{refused}");

    let Hub { dir, store, clips } = hub;
    drop((store, clips));
    let restored = restore_path(to.path(), dir.path()).unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(names(&aside.join("clips")).len(), 2);
    assert_eq!(stored(dir.path()).await.len(), 1);
    assert_eq!(names(&aside.join("clips")).len(), 2, "the start deletes nothing there");
    assert_eq!(stored(&aside).await.len(), 2);
}

#[tokio::test]
async fn damaged_clip_is_named_and_a_damaged_database_is_refused() {
    let hub = Hub::with_events(2).await;
    let to = tempfile::tempdir().unwrap();
    let made = hub.back_up(to.path(), 7).unwrap();
    let clip = names(&to.path().join("clips")).remove(0);
    let path = to.path().join("clips").join(&clip);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let target = tempfile::tempdir().unwrap();
    let restored = restore_path(to.path(), target.path()).unwrap();
    assert_eq!((restored.clips, restored.lost_clips), (1, vec![clip]));
    assert_eq!(stored(target.path()).await.iter().filter(|(_, clip)| clip == "missing").count(), 1);

    let database = made.path.join(DATABASE_FILE);
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&database, bytes).unwrap();
    let untouched = tempfile::tempdir().unwrap();
    assert!(matches!(restore_path(to.path(), untouched.path()), Err(BackupError::Damaged { .. })));
    assert_eq!(names(untouched.path()), ["hub.lock"]);
}

#[tokio::test]
async fn backup_of_a_newer_version_is_refused_by_name() {
    let hub = Hub::with_events(1).await;
    let to = tempfile::tempdir().unwrap();
    let made = hub.back_up(to.path(), 7).unwrap();
    for (key, value) in [("schema_version", 99), ("format", 2)] {
        let path = made.path.join("manifest.json");
        let text = std::fs::read(&path).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        json[key] = value.into();
        json["program"] = "9.8.7".into();
        std::fs::write(&path, json.to_string()).unwrap();
        let refused = restore_path(to.path(), tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
        assert!(refused.starts_with("hub 9.8.7 made this backup"), "{refused}");
        std::fs::write(&path, text).unwrap();
    }
    restore_path(to.path(), tempfile::tempdir().unwrap().path()).unwrap();
}

#[tokio::test]
async fn database_alone_comes_back_and_clips_that_it_does_not_know_stay_for_the_next_start() {
    let hub = Hub::with_events(1).await;
    let to = tempfile::tempdir().unwrap();
    let made = hub.back_up(to.path(), 7).unwrap();
    hub.hear(1).await;
    let Hub { dir, store, clips } = hub;
    drop((store, clips));
    let restored = restore_path(&made.path.join(DATABASE_FILE), dir.path()).unwrap();
    assert_eq!((restored.clips, restored.lost_clips.len(), restored.later_clips), (1, 0, 1));
    let aside = restored.aside.unwrap();
    assert!(aside.join(DATABASE_FILE).is_file() && !aside.join("hub.lock").exists());
    assert_eq!(names(&dir.path().join("clips")).len(), 2);
    assert_eq!(stored(dir.path()).await.len(), 1);
    assert_eq!(crate::clips::quarantined(dir.path()).unwrap().len(), 1, "its event is recovered from it");
}

#[tokio::test]
async fn another_clip_of_the_same_name_does_not_replace_that_of_an_earlier_backup() {
    let hub = Hub::with_events(1).await;
    let to = tempfile::tempdir().unwrap();
    let first = hub.back_up(to.path(), 7).unwrap();
    let name = names(&to.path().join("clips")).remove(0);
    let path = hub.dir.path().join("clips").join(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    files::set_modified(&file, 1_700_000_000_000_000_000).unwrap();
    let second = hub.back_up(to.path(), 7).unwrap();
    for (backup, is_new) in [(first, false), (second, true)] {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(restore_path(&backup.path, target.path()).unwrap().lost_clips.len(), 0);
        assert_eq!(std::fs::read(target.path().join("clips").join(&name)).unwrap() == bytes, is_new);
    }
}

#[tokio::test]
async fn snapshot_is_made_once_a_day_if_something_changed_and_loses_what_a_person_deletes() {
    let hub = Hub::with_events(2).await;
    let (data_dir, stop) = (hub.dir.path(), CancellationToken::new());
    let Taken::Made(first) = snapshots::take(data_dir, &stop).unwrap() else { panic!("no snapshot") };
    assert_eq!(snapshots::take(data_dir, &stop).unwrap(), Taken::NotDue);
    let of_yesterday = first.with_file_name("000001-20200101T000000Z.sqlite");
    std::fs::rename(&first, &of_yesterday).unwrap();
    assert_eq!(snapshots::take(data_dir, &stop).unwrap(), Taken::Unchanged);
    // Watermarks alone are no change.
    let progress = crate::events::Progress { watermark: watermark("kitchen", 99_200), gaps: vec![] };
    hub.store.commit_progress(vec![progress]).await.unwrap();
    assert_eq!(snapshots::take(data_dir, &stop).unwrap(), Taken::Unchanged);

    let secret = hub.store.event(1).await.unwrap().unwrap();
    assert_eq!(secret.found.cat, "Tom");
    let clips = |path: &Path| {
        let file = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        file.matches("fffffffffffffffc-000000000000.wav").count()
    };
    assert_eq!(clips(&of_yesterday), 1, "the control");
    hub.store.delete_event(1).await.unwrap();
    assert_eq!(snapshots::forget_deleted(data_dir).unwrap(), Forgotten { events: 1, labels: 0 });
    assert_eq!(clips(&of_yesterday), 0, "it is overwritten, not only unlinked");
    assert_eq!(snapshots::forget_deleted(data_dir).unwrap(), Forgotten::default());
    hub.hear(7).await;
    let Taken::Made(second) = snapshots::take(data_dir, &stop).unwrap() else { panic!("no snapshot") };
    assert!(second.file_name().unwrap().to_str().unwrap().starts_with("000002-"), "{second:?}");
}

#[tokio::test]
async fn new_snapshot_holds_nothing_of_what_was_deleted_before() {
    const CAT: &str = "Zwiebelchen";
    let hub = Hub::with_events(0).await;
    let mut deleted = Vec::new();
    for number in 0..400 {
        let cat = if number % 3 == 0 { CAT } else { "Tom" };
        let found = NewEvent { cat: cat.into(), ..event("kitchen", number * 16_000) };
        let id = put_with(&hub.store, found, Err(NoClip::Disabled)).await.id;
        deleted.extend((cat == CAT).then_some(id));
    }
    for id in deleted {
        hub.store.delete_event(id).await.unwrap();
    }
    let Taken::Made(path) = snapshots::take(hub.dir.path(), &CancellationToken::new()).unwrap() else { panic!("none") };
    let holds = |text: &str| std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("Tom") && !holds(CAT));
}

#[tokio::test]
async fn snapshot_that_could_not_be_rewritten_is_tried_again() {
    let hub = Hub::with_events(2).await;
    let Taken::Made(path) = snapshots::take(hub.dir.path(), &CancellationToken::new()).unwrap() else { panic!("none") };
    let snapshot = rusqlite::Connection::open(&path).unwrap();
    let pages = || snapshot.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).unwrap();
    // As after a deletion and a VACUUM that found no room.
    let sql = "CREATE TABLE bulk AS SELECT randomblob(100000); DROP TABLE bulk; PRAGMA application_id = 1;";
    snapshot.execute_batch(sql).unwrap();
    assert!(pages() > 0, "the control");
    for _ in 0..2 {
        assert_eq!(snapshots::forget_deleted(hub.dir.path()).unwrap(), Forgotten::default());
        assert_eq!(pages(), 0);
    }
}

#[tokio::test]
async fn labels_that_were_taken_back_and_deleted_events_leave_all_copies() {
    let hub = Hub::with_events(3).await;
    let (data_dir, stop) = (hub.dir.path(), CancellationToken::new());
    let label = Some("not_a_cat".parse().unwrap());
    for id in 1..=3 {
        hub.store.label_event(id, label).await.unwrap();
    }
    let words = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).matches("not_a_cat").count();
    let Taken::Made(snapshot) = snapshots::take(data_dir, &stop).unwrap() else { panic!("no snapshot") };
    // A snapshot that cannot be read does not keep the others from it.
    std::fs::write(snapshot.with_file_name("000000-20200101T000000Z.sqlite"), "broken").unwrap();
    let of_yesterday = snapshot.with_file_name("000001-20200101T000000Z.sqlite");
    std::fs::rename(&snapshot, &of_yesterday).unwrap();
    let control = words(&of_yesterday);
    hub.store.label_event(1, None).await.unwrap();
    hub.store.delete_event(2).await.unwrap();
    assert_eq!(snapshots::forget_deleted(data_dir).unwrap(), Forgotten { events: 1, labels: 1 });
    // The third event has its label, and that is in its history.
    assert_eq!((words(&of_yesterday), control), (2, 6));
    let db = rusqlite::Connection::open(&of_yesterday).unwrap();
    let left = "SELECT group_concat(id || ifnull(label, '')) FROM events";
    assert_eq!(db.query_row(left, [], |row| row.get::<_, String>(0)).unwrap(), "1,3not_a_cat");
    drop(db);
    assert_eq!(snapshots::take(data_dir, &stop).unwrap(), Taken::Unchanged);

    hub.hear(7).await;
    let Taken::Made(later) = snapshots::take(data_dir, &stop).unwrap() else { panic!("no snapshot") };
    assert_eq!(words(&later), 2, "nor do they get into later copies");
}

#[tokio::test]
async fn admission_alone_is_worth_a_snapshot() {
    let (hub, stop) = (Hub::with_events(0).await, CancellationToken::new());
    assert_eq!(snapshots::take(hub.dir.path(), &stop).unwrap(), Taken::Unchanged, "nothing is worth a snapshot");
    assert!(hub.store.admit("http://kitchen.local:50056".into(), "page").await.unwrap());
    assert!(matches!(snapshots::take(hub.dir.path(), &stop).unwrap(), Taken::Made(_)));
}

#[tokio::test]
async fn change_of_users_or_tokens_alone_is_worth_a_snapshot() {
    let (hub, stop) = (Hub::with_events(0).await, CancellationToken::new());
    let (data_dir, store) = (hub.dir.path(), &hub.store);
    let mut number = 0;
    let mut is_taken = || {
        let Taken::Made(path) = snapshots::take(data_dir, &stop).unwrap() else { return false };
        number += 1;
        std::fs::rename(&path, path.with_file_name(format!("{number:06}-20010101T000000Z.sqlite"))).unwrap();
        true
    };
    let password = |byte| PasswordHash { salt: vec![byte], hash: vec![byte], memory_kib: 8, passes: 1 };
    assert!(!is_taken());
    store.add_user("anna".into(), "admin", password(1), None).await.unwrap();
    assert!(is_taken() && !is_taken());
    store.change_user("anna".into(), None, Some(password(2))).await.unwrap();
    assert!(is_taken() && !is_taken());
    store.add_token("grafana".into(), "viewer", vec![1], None).await.unwrap();
    assert!(is_taken() && !is_taken());
    store.use_token("grafana".into()).await.unwrap();
    assert!(!is_taken(), "a use is no change");
    store.remove_token("grafana".into()).await.unwrap();
    assert!(is_taken() && !is_taken());
}

#[tokio::test]
async fn restore_ends_all_sessions_and_does_not_open_a_hub_that_had_users() {
    let hub = Hub::with_events(1).await;
    let (without, with) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    hub.back_up(without.path(), 7).unwrap();
    let password = PasswordHash { salt: vec![1], hash: vec![1], memory_kib: 8, passes: 1 };
    hub.store.add_user("anna".into(), "admin", password, None).await.unwrap();
    let [user, address, agent] = ["anna", "192.0.2.1", "Browser"].map(str::to_owned);
    let (password, token_hash) = (vec![1], vec![7]);
    let session = NewSession { user, password, token_hash, address, agent, expires_at_ns: i64::MAX };
    assert!(hub.store.add_session(session).await.unwrap());
    let made = hub.back_up(with.path(), 7).unwrap();
    let Hub { dir, store, clips } = hub;
    assert_eq!(store.sessions().await.unwrap().len(), 1);
    drop((store, clips));
    for from in [with.path(), &made.path.join(DATABASE_FILE)] {
        let restored = restore_path(from, dir.path()).unwrap();
        std::fs::remove_dir_all(restored.aside.unwrap()).unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert_eq!((store.users().await.unwrap().len(), store.sessions().await.unwrap().len()), (1, 0));
    }
    restore_path(without.path(), dir.path()).unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert_eq!(store.users().await.unwrap(), []);
    assert!(store.has_users().await.unwrap());
}

#[tokio::test]
async fn seven_daily_snapshots_are_kept_whatever_the_clock_says() {
    let hub = Hub::with_events(0).await;
    let (data_dir, stop) = (hub.dir.path(), CancellationToken::new());
    assert_eq!(snapshots::take(data_dir, &stop).unwrap(), Taken::Unchanged, "nothing is worth a snapshot");
    for day in 1..10 {
        hub.hear(day).await;
        let Taken::Made(path) = snapshots::take(data_dir, &stop).unwrap() else { panic!("no snapshot on day {day}") };
        // The clock lies in both directions.
        let year = if day % 2 == 0 { 2099 } else { 2001 };
        std::fs::rename(&path, path.with_file_name(format!("{day:06}-{year}0101T000000Z.sqlite"))).unwrap();
    }
    let numbers: Vec<u64> = snapshots::list(data_dir).unwrap().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn database_is_kept_before_its_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let old = rusqlite::Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    old.execute_batch(include_str!("../migrations/0001_analyses.sql")).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    keep_before_upgrade(dir.path());
    keep_before_upgrade(dir.path());
    // Killed after some of the steps.
    let half = rusqlite::Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    half.execute_batch(include_str!("../migrations/0002_events.sql")).unwrap();
    half.pragma_update(None, "user_version", 2).unwrap();
    drop(half);
    keep_before_upgrade(dir.path());
    drop(Store::open(dir.path(), Access::Keeper).unwrap());
    let kept = snapshots::list(dir.path()).unwrap();
    assert!(kept.len() == 1 && kept[0].before_migration, "{kept:?}");
    let kept = rusqlite::Connection::open(&kept[0].path).unwrap();
    let version: u32 = kept.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
    keep_before_upgrade(dir.path());
    assert_eq!(snapshots::list(dir.path()).unwrap().len(), 1, "nothing to upgrade, nothing to keep");
}

#[tokio::test]
async fn daily_check_finds_a_damaged_page() {
    let hub = Hub::with_events(200).await;
    let (stop, path) = (CancellationToken::new(), hub.dir.path().join(DATABASE_FILE));
    assert!(snapshots::check(hub.dir.path(), &stop).is_ok());
    let Hub { dir, store, clips } = hub;
    drop((store, clips));
    // Everything goes into the file itself.
    let db = rusqlite::Connection::open(&path).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(snapshots::check(dir.path(), &stop), Err(BackupError::Damaged { .. })));
}

#[tokio::test]
async fn mount_point_without_its_disk_is_not_filled() {
    let hub = Hub::with_events(1).await;
    // The system disk: a folder there stands for a mount point without its disk.
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let is_system_disk = state::device(root.path()).unwrap() == state::device(Path::new("/")).unwrap();
    let config = BackupConfig { to: Some(root.path().to_path_buf()), ..BackupConfig::default() };
    let backups = Backups::new(hub.source(), config);
    let stop = CancellationToken::new();
    let running = tokio::spawn(backups.clone().run(stop.clone()));
    if is_system_disk {
        assert!(backups.request());
        let state = ended(&backups).await;
        assert!(state.failure.unwrap().message.contains("probably not mounted") && state.last.is_none());
        assert_eq!(names(root.path()), Vec::<String>::new());
    }
    // A person says that it is right.
    hub.back_up(root.path(), 7).unwrap();
    assert!(backups.request());
    let state = ended(&backups).await;
    assert_eq!((state.failure, state.last.unwrap().events), (None, 1));

    // The disk with the marker is away.
    for name in names(root.path()) {
        std::fs::rename(root.path().join(&name), hub.dir.path().join(format!("away-{name}"))).unwrap();
    }
    assert!(backups.request());
    let state = ended(&backups).await;
    assert!(state.failure.unwrap().message.contains("are gone"));
    assert_eq!(names(root.path()), Vec::<String>::new());
    stop.cancel();
    running.await.unwrap();
}

/// The state after the backup under way.
async fn ended(backups: &Backups) -> BackupState {
    let ending = async {
        loop {
            let state = backups.state().await;
            if !state.running {
                return state;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ending).await.expect("the backup ends")
}

#[tokio::test]
async fn what_root_makes_belongs_to_the_owner_of_the_folder() {
    use std::os::unix::fs::{MetadataExt, chown};
    const SOMEBODY: u32 = 65_432;
    let (to, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    if chown(to.path(), Some(SOMEBODY), None).is_err() {
        // Not root, and so nothing to give away.
        return;
    }
    chown(target.path(), Some(SOMEBODY), None).unwrap();
    let hub = Hub::with_events(1).await;
    let made = hub.back_up(to.path(), 7).unwrap();
    restore_path(to.path(), target.path()).unwrap();
    let clip = names(&to.path().join("clips")).remove(0);
    for path in [
        to.path().join("meowlink-backups.txt"),
        to.path().join("clips").join(&clip),
        made.path.join(DATABASE_FILE),
        target.path().join(DATABASE_FILE),
        target.path().join("hub.lock"),
        target.path().join("clips").join(&clip),
    ] {
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), SOMEBODY, "{}", path.display());
    }
}
