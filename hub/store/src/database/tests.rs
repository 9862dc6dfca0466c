use rusqlite::{OptionalExtension, TransactionBehavior};

use super::*;
use crate::testing::{clip_of, event, put_with};

async fn table_count(store: &Store) -> i64 {
    store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))?))
        .await
        .unwrap()
}

#[tokio::test]
async fn missing_directory_and_database_are_created() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("a/b"), Access::Keeper).unwrap();
    assert!(table_count(&store).await > 0);
    store.check().await.unwrap();
}

#[test]
fn several_can_open_a_new_database_at_the_same_time() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for access in [Access::Keeper, Access::Guest, Access::Guest, Access::Guest] {
                let path = dir.path();
                scope.spawn(move || Store::open(path, access).unwrap());
            }
        });
    }
}

#[test]
fn opening_waits_for_another_process_that_migrates() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), Access::Keeper).unwrap());
    let mut other = Connection::open(dir.path().join(DATABASE_FILE)).unwrap();
    let migration = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Store::open(dir.path(), Access::Guest).map(drop));
        // Longer than a statement would wait.
        std::thread::sleep(BUSY_TIMEOUT + Duration::from_secs(1));
        migration.commit().unwrap();
        opening.join().unwrap().unwrap();
    });
}

#[tokio::test]
async fn failed_transaction_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let before = table_count(&store).await;
    let failed: Result<(), _> = store
        .write(|db| {
            db.execute_batch("CREATE TABLE half_done (a INTEGER)")?;
            Err(StoreError::Cut("on purpose".into()))
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(table_count(&store).await, before);
}

#[tokio::test]
async fn readers_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let result = store.read(|db| Ok(db.execute_batch("CREATE TABLE sneaked_in (a INTEGER)")?)).await;
    assert!(result.unwrap_err().to_string().contains("readonly"));
}

#[tokio::test]
async fn reader_that_panics_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    for _ in 0..READERS * 2 {
        let result: Result<(), _> = store.read(|_| panic!("on purpose")).await;
        assert!(matches!(result, Err(StoreError::Cut(_))));
    }
    assert!(table_count(&store).await > 0);
}

#[tokio::test]
async fn second_keeper_is_refused_and_a_guest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Store::open(dir.path(), Access::Keeper).unwrap();
    assert!(matches!(Store::open(dir.path(), Access::Keeper), Err(StoreError::InUse { .. })));
    let guest = Store::open(dir.path(), Access::Guest).unwrap();
    guest.check().await.unwrap();
    drop(keeper);
    Store::open(dir.path(), Access::Keeper).unwrap();
}

#[tokio::test]
async fn damaged_database_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(DATABASE_FILE), "this is not a database".repeat(100)).unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert!(table_count(&store).await > 0);
    let kept = std::fs::read_dir(dir.path())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("hub.sqlite.broken-"));
    assert!(kept, "the damaged file is gone");
}

/// Stores events of two nodes and labels some of them. Returns the file of the closed database.
async fn database_with_events(dir: &tempfile::TempDir, count: u64) -> PathBuf {
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    for n in 0..count {
        let found = event(["kitchen", "hall"][(n % 2) as usize], n * 16_000);
        let clip = clip_of(&found);
        let id = put_with(&store, found, Ok(clip)).await.id;
        if n % 10 == 0 {
            store.label_event(id, Some(crate::events::OwnerLabel::NotACat)).await.unwrap();
        }
    }
    close_without_log(dir, store);
    dir.path().join(DATABASE_FILE)
}

/// The log could restore what a test damages.
fn close_without_log(dir: &tempfile::TempDir, store: Store) {
    drop(store);
    let path = dir.path().join(DATABASE_FILE);
    Connection::open(path).unwrap().execute_batch("PRAGMA journal_mode = DELETE").unwrap();
}

/// The numbers of the events, after a start with a damaged database.
async fn events_after_start(dir: &tempfile::TempDir) -> Vec<crate::events::Event> {
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let verdict = store.read(|db| {
        let orphans: Option<String> = db.query_row("PRAGMA foreign_key_check", [], |row| row.get(0)).optional()?;
        assert_eq!(orphans, None);
        Ok(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(verdict.await.unwrap(), "ok");
    let events = store.events_stored_after(0, 10_000).await.unwrap();
    let next = put_with(&store, event("attic", 0), Err(crate::events::NoClip::Disabled)).await;
    assert!(events.iter().all(|event| event.id < next.id));
    close_without_log(dir, store);
    events
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_database_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = database_with_events(&dir, 600).await;
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 60, "{pages}");

    // Single pages in the middle, as a worn SD card loses them.
    // A lost page of the schema hides whole tables.
    let of_schema = {
        let db = Connection::open(&path).unwrap();
        let mut statement = db.prepare("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'").unwrap();
        let pages = statement.query_map([], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned() as usize - 1)).unwrap();
        pages.collect::<Result<Vec<_>, _>>().unwrap()
    };
    let mut bytes = whole.clone();
    for page in (pages / 4..pages).step_by(pages / 8) {
        let page = (page..pages).find(|page| !of_schema.contains(page)).unwrap();
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
    }
    std::fs::write(&path, &bytes).unwrap();
    let events = events_after_start(&dir).await;
    assert!((400..600).contains(&events.len()), "{}", events.len());
    for event in &events {
        let n = event.id.cast_unsigned() - 1;
        assert_eq!(event.found, crate::testing::event(["kitchen", "hall"][(n % 2) as usize], n * 16_000));
        assert_eq!(event.clip, Ok(clip_of(&event.found)));
        assert_eq!(event.label.is_some(), n % 10 == 0);
    }
    let moved = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let moved: Vec<_> = moved.filter(|path| path.display().to_string().contains(".broken-")).collect();
    // The start wrote its journal mode into the first page before it found the damage.
    let is_kept = |path: &PathBuf| std::fs::read(path).unwrap().get(4096..) == Some(&bytes[4096..]);
    assert!(moved.iter().any(is_kept), "the damaged file has changed: {moved:?}");

    // Cut off, as after a full disk or a broken copy.
    std::fs::write(&path, &whole[..whole.len() / 3 * 2]).unwrap();
    let events = events_after_start(&dir).await;
    assert!(events.len() > 120, "{}", events.len());

    // Nothing but the first page.
    let mut bytes = whole;
    bytes[4096..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    events_after_start(&dir).await;
}

#[tokio::test]
async fn start_that_was_killed_after_a_salvage_takes_its_result() {
    let dir = tempfile::tempdir().unwrap();
    let path = database_with_events(&dir, 10).await;
    std::fs::rename(&path, dir.path().join("hub.sqlite.salvaged")).unwrap();
    // A copy that was not finished counts for nothing.
    std::fs::write(dir.path().join("hub.sqlite.salvaging"), b"half").unwrap();
    assert_eq!(events_after_start(&dir).await.len(), 10);
}

#[tokio::test]
async fn damaged_pages_are_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), Access::Keeper).unwrap());
    let path = dir.path().join(DATABASE_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 2 * 4096, "too small to damage: {}", bytes.len());
    bytes[4096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    assert!(table_count(&store).await > 0);
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 2);
}

#[tokio::test]
async fn writers_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    store
        .write(|db| Ok(db.execute_batch("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)")?))
        .await
        .unwrap();
    let writes = (0..50).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            store.write_durably(|db| Ok(db.execute("UPDATE counter SET n = n + 1", [])?)).await.unwrap()
        })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await.unwrap(), 1);
    }
    let n: i64 = store.read(|db| Ok(db.query_row("SELECT n FROM counter", [], |row| row.get(0))?)).await.unwrap();
    assert_eq!(n, 50);
}

/// Lets the database grow no further, as a full disk does.
async fn fill_the_disk(store: &Store) {
    let connection = store.inner.writer.lock().await;
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    let _: i64 = connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0)).unwrap();
}

async fn put_a_megabyte(store: &Store) -> Result<(), StoreError> {
    let work = |db: &Transaction<'_>| {
        Ok(db.execute_batch("CREATE TABLE filling AS SELECT randomblob(1000000) AS filling; DROP TABLE filling;")?)
    };
    store.write(work).await
}

#[tokio::test]
async fn health_says_so_while_nothing_can_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    store.check().await.unwrap();
    fill_the_disk(&store).await;
    assert!(put_a_megabyte(&store).await.unwrap_err().is_disk_full());
    let unhealthy = store.check().await.unwrap_err();
    assert!(unhealthy.is_disk_full(), "{unhealthy}");
    assert!(unhealthy.to_string().contains("full"), "{unhealthy}");
}

#[tokio::test]
async fn probe_writes_a_page_and_keeps_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    let log = dir.path().join("hub.sqlite-wal");
    let version = |db: &Connection| Ok(db.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))?);
    let (before, bytes) = (store.read(version).await.unwrap(), std::fs::metadata(&log).unwrap().len());
    store.check().await.unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() > bytes, "an empty transaction proves nothing");
    assert_eq!(store.read(version).await.unwrap(), before);
}

#[tokio::test]
async fn nothing_is_stored_in_a_folder_that_was_removed_or_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    for replaced in [false, true] {
        let store = Store::open(&folder, Access::Keeper).unwrap();
        std::fs::rename(&folder, parent.path().join(format!("aside-{replaced}"))).unwrap();
        if replaced {
            std::fs::create_dir(&folder).unwrap();
        }
        let work = || store.write(|db| Ok(db.execute_batch("CREATE TABLE lost (a INTEGER)")?));
        assert!(matches!(work().await, Err(StoreError::Replaced { .. })), "{replaced}");
        assert!(matches!(store.check().await, Err(StoreError::Replaced { .. })), "{replaced}");
        drop(store);
        let _ = std::fs::remove_dir_all(&folder);
    }
}

#[tokio::test]
async fn nothing_is_stored_in_a_database_that_was_removed() {
    for file in [DATABASE_FILE, "hub.sqlite-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        std::fs::remove_file(dir.path().join(file)).unwrap();
        assert!(matches!(store.check().await, Err(StoreError::Replaced { .. })), "{file}");
    }
}
