#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::*;
use crate::backup::{BackupConfig, Source};
use crate::clips::{ClipsConfig, Cut};
use crate::deletions::{BATCH, DeletionScope, MAX_WAITING_DELETIONS, REMEMBERED_DELETIONS};
use crate::events::{Event, EventFilter, NewEvent, NoClip};
use crate::notifications::{ChannelName, NotificationPlan, Subject, SuppressReason};
use crate::testing::{event, put_for, put_with};
use crate::{Access, DATABASE_FILE, Store};

/// A name that stands nowhere by chance.
const CAT: &str = "Zwiebelchen";

const OTHER: &str = "Mohrenkopf";

struct Hub {
    dir: tempfile::TempDir,
    store: Store,
    clips: Clips,
    told: Arc<Mutex<Vec<i64>>>,
}

impl Hub {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(dir: tempfile::TempDir) -> Self {
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let config = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
        let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
        Self { dir, store, clips, told: Arc::default() }
    }

    async fn restarted(self) -> Self {
        let Self { dir, store, clips, .. } = self;
        drop((store, clips));
        Self::open(dir).await
    }

    fn eraser(&self) -> Eraser {
        let source = Source { data_dir: self.dir.path().to_path_buf(), config: vec![], with_secrets: false };
        let told = Arc::clone(&self.told);
        let on_erased = move |ids: &[i64]| told.lock().unwrap().extend(ids);
        Eraser::new(self.clips.clone(), Backups::new(source, BackupConfig::default()), on_erased)
    }

    async fn hear(&self, cat: &str, number: u64) -> Event {
        let found = NewEvent { cat: cat.into(), ..event("kitchen", number * 16_000) };
        let samples = vec![number as i16; 1_000];
        let cut = Cut { boot_id: found.boot_id, start_sample: found.start_sample, samples };
        let clip = self.clips.keep(cut, &found).await.unwrap();
        put_for(&self.store, found, Ok(clip), vec![plan(None)]).await
    }

    async fn analysis(&self, cat: &str) {
        self.store.begin_analysis(cat.into(), "http://kitchen:1".into()).await.unwrap();
        self.store.fail_running_analyses("test").await.unwrap();
    }

    /// A snapshot of the database, as of this moment.
    fn snapshot(&self, number: u32) -> PathBuf {
        let folder = self.dir.path().join("snapshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{number:06}-20200101T000000Z.sqlite"));
        let db = rusqlite::Connection::open(self.store.path()).unwrap();
        db.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
        path
    }

    /// Puts a clip into the quarantine whose event is not stored. It begins a little after event `number`.
    async fn lose_clip(&self, cat: &str, number: u64) -> PathBuf {
        let found = NewEvent { cat: cat.into(), ..event("kitchen", number * 16_000 + 10_000) };
        let cut = Cut { boot_id: found.boot_id, start_sample: found.start_sample, samples: vec![5; 1_000] };
        let clip = self.clips.keep(cut, &found).await.unwrap();
        let folder = self.dir.path().join("quarantine/2026-01-01");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::rename(self.dir.path().join("clips").join(&clip.file), folder.join(&clip.file)).unwrap();
        folder.join(&clip.file)
    }

    async fn erase(&self, cat: Option<&str>, before_ns: Option<i64>) -> Deletion {
        let id = self.request(cat, before_ns).await;
        self.eraser().work().await.unwrap();
        self.deletion(id).await
    }

    async fn request(&self, cat: Option<&str>, before_ns: Option<i64>) -> i64 {
        let scope = DeletionScope { cat: cat.map(str::to_owned), before_ns };
        self.store.request_deletion(scope).await.unwrap().unwrap().id
    }

    async fn deletion(&self, id: i64) -> Deletion {
        self.store.deletions().await.unwrap().into_iter().find(|one| one.id == id).unwrap()
    }

    async fn cats(&self) -> Vec<(i64, String)> {
        let page = self.store.events(&EventFilter::default(), None, 1_000).await.unwrap();
        page.events.into_iter().map(|event| (event.id, event.found.cat)).rev().collect()
    }

    /// The files of the data folder in which a text stands.
    fn files_with(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if holds(&path, text) {
                    found.push(path.strip_prefix(self.dir.path()).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

fn holds(path: &Path, text: &str) -> bool {
    std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}

fn plan(hold: Option<SuppressReason>) -> NotificationPlan {
    let channels = vec![ChannelName { name: "phone".into(), kind: "ntfy".into() }];
    let digest_due_ns = hold.map(|_| 1_000);
    NotificationPlan { owner: "Anna".into(), channels, cooldown_ns: 0, hold, wait_ns: 0, digest_due_ns }
}

#[tokio::test]
async fn everything_about_a_cat_leaves_every_file_and_other_cats_stay() {
    let hub = Hub::new().await;
    for (number, cat) in [CAT, OTHER, CAT].into_iter().enumerate() {
        let event = hub.hear(cat, number as u64).await;
        hub.lose_clip(cat, number as u64).await;
        hub.analysis(cat).await;
        hub.store.label_event(event.id, Some("brushing".parse().unwrap())).await.unwrap();
    }
    // One was deleted alone before. Its row still has its name.
    hub.hear(CAT, 3).await;
    let file = hub.store.delete_event(4).await.unwrap().unwrap();
    hub.clips.remove(file.into_iter().collect()).await;
    // A digest that counts both, and one that counts the cat alone.
    let of = |cat: &str| Subject::Call { animal: cat.into(), animal_type: "cat".into(), called_at_ns: 0 };
    let quiet = || vec![plan(Some(SuppressReason::QuietHours))];
    for (subjects, now_ns) in [(vec![of(CAT), of(OTHER)], 1_000), (vec![of(CAT)], 2_000)] {
        let all = subjects.into_iter().map(|subject| (subject, quiet())).collect();
        hub.store.commit_notifications(all, now_ns).await.unwrap();
        hub.store.make_digests(vec![plan(None)], now_ns).await.unwrap();
    }
    hub.snapshot(1);
    let damaged = hub.dir.path().join("snapshots/000000-20200101T000000Z.sqlite");
    std::fs::write(&damaged, "broken").unwrap();
    std::fs::write(hub.dir.path().join("snapshots/000002-20200101T000000Z.sqlite.part"), CAT).unwrap();

    let scope = DeletionScope { cat: Some(CAT.into()), before_ns: None };
    let preview = hub.store.preview_deletion(scope).await.unwrap();
    assert_eq!((preview.events, preview.clips, preview.labels, preview.analyses), (2, 2, 2, 2));
    assert_eq!(hub.cats().await.len(), 3, "a preview deletes nothing");
    let before = hub.files_with(CAT);
    assert!(before.len() >= 7, "the control: {before:?}");

    let done = hub.erase(Some(CAT), None).await;
    assert_eq!(hub.files_with(CAT), Vec::<String>::new());
    assert!(done.ended_at_ns.is_some() && done.of_cat && done.scope.cat.is_none(), "{done:?}");
    let counts = done.counts;
    assert_eq!((counts.events, counts.clips, counts.labels, counts.analyses), (2, 2, 2, 2));
    assert_eq!(counts.notifications, preview.notifications);
    assert_eq!(counts.copies, 2 + 3, "two clips of the quarantine, and three events of the snapshot");
    assert_eq!(hub.told.lock().unwrap().iter().filter(|id| **id != 4).collect::<Vec<_>>(), [&1, &3]);

    assert_eq!(hub.cats().await, [(2, OTHER.to_owned())]);
    let log = std::fs::read_to_string(hub.dir.path().join("labels.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    let left = hub.store.notifications(None, None, 100).await.unwrap();
    let digests: Vec<_> = left.iter().filter(|one| one.subject.kind() == "digest").collect();
    let counted = BTreeMap::from([(OTHER.to_owned(), BTreeMap::from([("call".to_owned(), 1)]))]);
    let [one] = digests.as_slice() else { panic!("{digests:?}") };
    assert!(matches!(&one.subject, Subject::Digest { counts, .. } if *counts == counted), "{one:?}");
    assert!(left.iter().all(|one| one.subject.animal() != CAT));
    for place in ["quarantine/2026-01-01", "clips"] {
        assert_eq!(std::fs::read_dir(hub.dir.path().join(place)).unwrap().count(), 1, "{place}");
    }
    assert!(holds(&hub.dir.path().join("snapshots/000001-20200101T000000Z.sqlite"), OTHER));

    // Hearing the same sound again does not bring it back.
    assert!(hub.store.knows_event(&event("kitchen", 0)).await.unwrap());
    let hub = hub.restarted().await;
    assert_eq!(hub.cats().await, [(2, OTHER.to_owned())]);
    assert_eq!(hub.files_with(CAT), Vec::<String>::new());
}

/// SQLite moves rows from page to page when a table grows and shrinks, and leaves copies of them behind.
#[tokio::test]
async fn copies_of_rows_that_the_database_moved_are_erased_too() {
    const THIRD: &str = "Quittengelee";
    let hub = Hub::new().await;
    for number in 0..400 {
        let cat = [CAT, OTHER, THIRD][number as usize * 7 % 3];
        let found = NewEvent { cat: cat.into(), ..event("kitchen", number * 16_000) };
        put_with(&hub.store, found, Err(NoClip::Disabled)).await;
    }
    let snapshot = hub.snapshot(1);
    for (cat, left) in [(CAT, 266), (OTHER, 133)] {
        assert!(holds(&snapshot, cat), "the control");
        let done = hub.erase(Some(cat), None).await;
        assert_eq!(hub.cats().await.len(), left);
        assert!(done.ended_at_ns.is_some());
        assert_eq!(hub.files_with(cat), Vec::<String>::new());
    }
    assert_eq!(hub.files_with(THIRD).len(), 2, "database and snapshot");
}

#[tokio::test]
async fn snapshot_that_holds_nothing_of_a_deletion_is_not_written() {
    let hub = Hub::new().await;
    hub.hear(OTHER, 0).await;
    let without = hub.snapshot(1);
    hub.hear(CAT, 1).await;
    let with = hub.snapshot(2);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    let age = |path: &Path| std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    let is_old = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap() == long_ago;
    age(&without);
    age(&with);
    assert_eq!(hub.erase(Some(CAT), None).await.counts.copies, 1);
    assert_eq!((is_old(&without), is_old(&with)), (true, false));
    // This one has the request that is finished, and no deleted events, as the hub makes snapshots.
    let after = hub.snapshot(3);
    let db = rusqlite::Connection::open(&after).unwrap();
    assert_eq!(db.execute("DELETE FROM events WHERE deleted_at_ns IS NOT NULL", []).unwrap(), 1);
    drop(db);
    age(&with);
    age(&after);
    assert_eq!(hub.erase(Some(CAT), None).await.counts.copies, 0);
    assert!([&without, &with, &after].into_iter().all(|path| is_old(path)));
}

#[tokio::test]
async fn everything_before_a_time_ends_exactly_there() {
    let hub = Hub::new().await;
    let mut events = Vec::new();
    for number in 0..4 {
        events.push(hub.hear(CAT, number).await);
        hub.lose_clip(CAT, number).await;
    }
    hub.store.label_event(1, Some("brushing".parse().unwrap())).await.unwrap();
    let snapshot = hub.snapshot(1);
    let at = events[2].found.started_at_ns;
    let rows = |path: &Path| {
        let db = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT group_concat(id) FROM (SELECT id FROM events ORDER BY id)";
        db.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap()
    };
    for (before_ns, left, clips_left) in [(i64::MIN, 4, 4), (at, 2, 2), (at, 2, 2), (at + 1, 1, 2)] {
        let done = hub.erase(None, Some(before_ns)).await;
        assert!(done.ended_at_ns.is_some() && !done.of_cat);
        assert_eq!(hub.cats().await.len(), left, "{before_ns}");
        let clips = std::fs::read_dir(hub.dir.path().join("quarantine/2026-01-01")).unwrap().count();
        assert_eq!(clips, clips_left, "quarantine, {before_ns}");
        assert_eq!(rows(&snapshot).unwrap().split(',').count(), left, "snapshot, {before_ns}");
    }
    assert_eq!(hub.cats().await, [(4, CAT.to_owned())]);
    assert_eq!(std::fs::read_to_string(hub.dir.path().join("labels.jsonl")).unwrap(), "");

    // Both conditions must hold.
    let later = hub.hear(OTHER, 5).await.found.started_at_ns;
    assert_eq!(hub.erase(Some(OTHER), Some(later)).await.counts.events, 0);
    assert_eq!(hub.erase(Some(OTHER), Some(later + 1)).await.counts.events, 1);
    assert_eq!(hub.cats().await, [(4, CAT.to_owned())]);
}

#[tokio::test]
async fn what_comes_after_the_request_stays_and_so_do_snapshots_of_it() {
    let hub = Hub::new().await;
    hub.hear(CAT, 0).await;
    hub.analysis(CAT).await;
    let id = hub.request(Some(CAT), Some(i64::MAX)).await;
    hub.hear(CAT, 1).await;
    hub.analysis(CAT).await;
    let snapshot = hub.snapshot(1);
    let clip = hub.lose_clip(CAT, 1).await;
    hub.eraser().work().await.unwrap();
    let counts = hub.deletion(id).await.counts;
    assert_eq!((counts.events, counts.notifications, counts.analyses, counts.copies), (1, 1, 1, 1));
    assert_eq!(hub.cats().await, [(2, CAT.to_owned())]);
    assert!(clip.exists());
    assert_eq!(hub.store.notifications(None, None, 10).await.unwrap().len(), 1);
    let db = rusqlite::Connection::open(&snapshot).unwrap();
    let left: i64 = db.query_row("SELECT sum(id) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 2);
    // Numbers of another database mean nothing: this one was lost before the request.
    db.execute("UPDATE identity SET database_id = 'other'", []).unwrap();
    drop(db);
    hub.erase(Some(CAT), None).await;
    assert_eq!(hub.files_with(CAT), Vec::<String>::new());
}

#[tokio::test]
async fn deletion_goes_on_after_a_restart_and_counts_everything_once() {
    let hub = Hub::new().await;
    let events = BATCH as u64 * 2 + 7;
    for number in 0..events {
        let found = NewEvent { cat: CAT.into(), ..event("kitchen", number * 16_000) };
        put_with(&hub.store, found, Err(NoClip::Disabled)).await;
    }
    let id = hub.request(Some(CAT), None).await;
    // The hub is killed after the first batch.
    let erased = hub.store.erase_events(&hub.deletion(id).await).await.unwrap();
    assert_eq!(erased.ids.len(), BATCH, "no batch is larger");
    let hub = hub.restarted().await;
    assert_eq!(hub.deletion(id).await.counts.events, BATCH as u64);
    hub.hear(CAT, events).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(hub.eraser().run(stop.clone()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while hub.deletion(id).await.ended_at_ns.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", hub.deletion(id).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hub.deletion(id).await.counts.events, events);
    assert_eq!(hub.cats().await.len(), 1);
    // A further request wakes the eraser.
    let id = hub.request(Some(CAT), None).await;
    while hub.deletion(id).await.ended_at_ns.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", hub.deletion(id).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(hub.cats().await.is_empty());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn requests_are_bounded() {
    let hub = Hub::new().await;
    for _ in 0..MAX_WAITING_DELETIONS {
        hub.request(Some(CAT), None).await;
    }
    let scope = DeletionScope { cat: Some(CAT.into()), before_ns: None };
    assert_eq!(hub.store.request_deletion(scope).await.unwrap(), None);
    hub.eraser().work().await.unwrap();
    for _ in 0..REMEMBERED_DELETIONS {
        hub.erase(Some(CAT), None).await;
    }
    assert_eq!(hub.store.deletions().await.unwrap().len(), REMEMBERED_DELETIONS as usize);
}

#[tokio::test]
async fn snapshot_of_an_older_version_is_erased_too() {
    let hub = Hub::new().await;
    hub.hear(CAT, 0).await;
    // A snapshot from before the tables of notifications, deletions and identities.
    let old = hub.snapshot(1);
    let db = rusqlite::Connection::open(&old).unwrap();
    db.execute_batch("DROP TABLE notices; DROP TABLE deletions; DROP TABLE identity; PRAGMA user_version = 3; VACUUM;")
        .unwrap();
    drop(db);
    assert!(holds(&old, CAT), "the control");
    assert_eq!(hub.erase(Some(CAT), None).await.counts.copies, 1);
    assert!(!holds(&old, CAT));
    assert!(hub.dir.path().join(DATABASE_FILE).is_file());
}

#[tokio::test]
async fn cat_of_an_event_is_the_one_that_its_owner_named() {
    let hub = Hub::new().await;
    let say = async |id: i64, cat: Option<&str>| hub.store.say_cat(id, cat).await.unwrap().unwrap().unwrap();
    for (number, cat) in [CAT, OTHER, CAT, OTHER, OTHER].into_iter().enumerate() {
        hub.hear(cat, number as u64).await;
    }
    let before = hub.snapshot(1);
    say(2, Some(CAT)).await;
    say(3, Some(OTHER)).await;
    say(4, Some(CAT)).await;
    let between = hub.snapshot(2);
    say(4, None).await;
    // A snapshot from before the owner could name cats.
    let old = hub.snapshot(3);
    let db = rusqlite::Connection::open(&old).unwrap();
    db.execute_batch(
        "DROP INDEX events_of_cat; DROP INDEX events_by_said_cat; ALTER TABLE events DROP COLUMN said_cat; \
         ALTER TABLE events DROP COLUMN said_cat_at_ns; PRAGMA user_version = 22; VACUUM;",
    )
    .unwrap();
    drop(db);
    assert!(hub.store.knows_cat(CAT.into()).await.unwrap());

    let scope = DeletionScope { cat: Some(CAT.into()), before_ns: None };
    assert_eq!(hub.store.preview_deletion(scope).await.unwrap().events, 2, "the first, and what the owner gave it");
    let counts = hub.erase(Some(CAT), None).await.counts;
    assert_eq!((counts.events, counts.clips, counts.copies), (2, 2, 3 * 2));
    let left = [(3, CAT.to_owned()), (4, OTHER.to_owned()), (5, OTHER.to_owned())];
    assert_eq!(hub.cats().await, left, "an event of another cat stays, with the name that its node announced");
    let kept = hub.store.event(3).await.unwrap().unwrap();
    assert_eq!((kept.cat(), kept.clip.is_ok()), (OTHER, true));
    assert!(!hub.store.knows_cat(CAT.into()).await.unwrap());
    // What a notification says is about the cat that it names.
    for (snapshot, notified) in [(&before, "4,5"), (&between, "3,5"), (&old, "3,4,5")] {
        let db = rusqlite::Connection::open(snapshot).unwrap();
        let of = |sql: &str| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(of("SELECT group_concat(id) FROM (SELECT id FROM events ORDER BY id)"), "3,4,5", "{snapshot:?}");
        assert_eq!(of("SELECT group_concat(event_id) FROM (SELECT event_id FROM notices ORDER BY id)"), notified);
        if *snapshot != old {
            let words = of("SELECT group_concat(id || coalesce(said_cat, '')) FROM (SELECT * FROM events ORDER BY id)");
            assert_eq!(words, format!("3{OTHER},4,5"), "a word that was taken back");
        }
    }
    let log = std::fs::read_to_string(hub.dir.path().join("labels.jsonl")).unwrap();
    assert!(!log.contains(CAT) && log.contains(OTHER), "{log}");

    assert_eq!(hub.erase(Some(OTHER), None).await.counts.events, 3);
    for snapshot in [&before, &between, &old] {
        let db = rusqlite::Connection::open(snapshot).unwrap();
        let sql = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM notices)";
        assert_eq!(db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0, "{snapshot:?}");
    }
    for name in [CAT, OTHER] {
        let mut files = hub.files_with(name);
        files.retain(|file| !file.starts_with("snapshots/"));
        assert_eq!(files, Vec::<String>::new(), "not even the name that the node announced is left");
    }
}

#[tokio::test]
async fn of_an_event_that_was_stored_twice_the_one_that_is_there_counts() {
    let hub = Hub::new().await;
    let folder = hub.dir.path().join("quarantine/2026-01-01");
    std::fs::create_dir_all(&folder).unwrap();
    let mut clips = Vec::new();
    for (number, cat) in [(0, OTHER), (1, CAT)] {
        let event = hub.hear(cat, number).await;
        let file = event.clip.unwrap().file;
        std::fs::rename(hub.dir.path().join("clips").join(&file), folder.join(&file)).unwrap();
        clips.push(folder.join(file));
        let twin = NewEvent { node: "http://attic:2".into(), ..event.found };
        let twin = put_with(&hub.store, twin, Err(NoClip::Disabled)).await;
        hub.store.delete_event(twin.id).await.unwrap();
    }
    hub.erase(Some(CAT), None).await;
    assert_eq!(clips.iter().map(|clip| clip.exists()).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn clip_in_the_quarantine_is_of_the_cat_that_its_owner_named() {
    let hub = Hub::new().await;
    let folder = hub.dir.path().join("quarantine/2026-01-01");
    std::fs::create_dir_all(&folder).unwrap();
    let mut clips = Vec::new();
    for (number, cat, named) in [(0, CAT, OTHER), (1, OTHER, CAT), (2, CAT, OTHER), (3, OTHER, CAT)] {
        let event = hub.hear(cat, number).await;
        hub.store.say_cat(event.id, Some(named)).await.unwrap().unwrap().unwrap();
        let file = event.clip.unwrap().file;
        std::fs::rename(hub.dir.path().join("clips").join(&file), folder.join(&file)).unwrap();
        clips.push(folder.join(file));
    }
    // The database has lost two of them, and the log of labels still has their cats.
    hub.store.write(|db| Ok(db.execute("DELETE FROM events WHERE id <= 2", [])?)).await.unwrap();
    hub.erase(Some(CAT), None).await;
    let there: Vec<bool> = clips.iter().map(|clip| clip.exists()).collect();
    assert_eq!(there, [true, false, true, false]);
    let log = std::fs::read_to_string(hub.dir.path().join("labels.jsonl")).unwrap();
    assert_eq!((log.lines().count(), log.contains(CAT)), (2, false), "{log}");
}
