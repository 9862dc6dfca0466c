use rusqlite::params;
use rusqlite::types::Value;

use super::*;

fn version(connection: &Connection) -> u32 {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn all_steps_run_once() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection).unwrap();
    assert_eq!(version(&connection) as usize, STEPS.len());
    migrate(&mut connection).unwrap();
    assert_eq!(version(&connection) as usize, STEPS.len());
}

#[test]
fn later_steps_keep_what_earlier_versions_stored() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate_by(&mut connection, &["CREATE TABLE cats (name TEXT)"]).unwrap();
    connection.execute("INSERT INTO cats VALUES ('Tom')", []).unwrap();
    let steps = ["CREATE TABLE cats (name TEXT)", "ALTER TABLE cats ADD COLUMN lives INTEGER NOT NULL DEFAULT 9"];
    migrate_by(&mut connection, &steps).unwrap();
    let row: (String, i64) =
        connection.query_row("SELECT name, lives FROM cats", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(row, ("Tom".into(), 9));
}

#[test]
fn notices_and_their_numbers_survive_step_6() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate_by(&mut connection, &STEPS[..5]).unwrap();
    let put = "INSERT INTO notices (key, owner, channel, channel_kind, kind, animal, subject, state, \
               created_at_ns, queued_at_ns, due_at_ns) \
               VALUES (?1, 'Anna', 'log', 'log', ?2, 'Tom', '{}', 'pending', 1, 1, 1)";
    for key in ["a", "b", "c"] {
        connection.execute(put, [key, "call"]).unwrap();
    }
    connection.execute("DELETE FROM notices WHERE key <> 'a'", []).unwrap();
    connection.execute(put, ["x", "node"]).unwrap_err();
    migrate_by(&mut connection, &STEPS[..6]).unwrap();
    connection.execute(put, ["d", "node"]).unwrap();
    let mut statement = connection.prepare("SELECT id, key FROM notices ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(rows.collect::<Result<Vec<(i64, String)>, _>>().unwrap(), [(1, "a".into()), (4, "d".into())]);
}

/// Stores a notice: its key, channel kind, state, reason and end.
const PUT: &str = "INSERT INTO notices (key, owner, channel, channel_kind, kind, animal, event_id, subject, \
                   state, reason, digest_due_ns, created_at_ns, queued_at_ns, due_at_ns, tries, error, \
                   ended_at_ns) VALUES (?1, 'Anna', 'c', ?2, 'event', 'Tom', 7, '{}', ?3, ?4, 11, 12, 13, 14, \
                   15, 'why', ?5)";

/// A database after this many steps with two notices. A third one was deleted.
fn notices_after_step(steps: usize) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate_by(&mut connection, &STEPS[..steps]).unwrap();
    let none = None::<&str>;
    connection.execute(PUT, params!["a", "ntfy", "pending", none, none]).unwrap();
    connection.execute(PUT, params!["b", none, "suppressed", "cooldown", 16]).unwrap();
    connection.execute(PUT, params!["c", "log", "dead", none, 16]).unwrap();
    connection.execute("DELETE FROM notices WHERE key = 'c'", []).unwrap();
    connection
}

/// All notices, and the indexes of their table.
fn notices_and_indexes(connection: &Connection) -> [Vec<Vec<Value>>; 2] {
    let all = "SELECT * FROM notices ORDER BY id";
    let indexes = "SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'notices' AND type = 'index' ORDER BY name";
    [all, indexes].map(|sql| {
        let mut statement = connection.prepare(sql).unwrap();
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect()).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    })
}

#[test]
fn notices_their_numbers_and_indexes_survive_step_7_and_channels_of_any_kind_are_stored() {
    let (mut connection, none) = (notices_after_step(6), None::<&str>);
    connection.execute(PUT, params!["x", "signal", "pending", none, none]).unwrap_err();
    let before = notices_and_indexes(&connection);
    migrate(&mut connection).unwrap();
    assert_eq!(notices_and_indexes(&connection), before);
    connection.execute(PUT, params!["d", "signal", "pending", none, none]).unwrap();
    assert_eq!(connection.last_insert_rowid(), 4, "numbers are never used twice");
    let without_kind = connection.execute(PUT, params!["y", none, "pending", none, none]);
    without_kind.unwrap_err();
    let again = connection.execute(PUT, params!["d", "log", "pending", none, none]);
    again.unwrap_err();
}

#[test]
fn notices_their_numbers_and_indexes_survive_step_10_and_any_reason_is_stored() {
    let (mut connection, none) = (notices_after_step(9), None::<&str>);
    connection.execute(PUT, params!["x", none, "suppressed", "backlog", 16]).unwrap_err();
    let before = notices_and_indexes(&connection);
    migrate_by(&mut connection, &STEPS[..10]).unwrap();
    assert_eq!(notices_and_indexes(&connection), before);
    connection.execute(PUT, params!["d", none, "suppressed", "backlog", 16]).unwrap();
    assert_eq!(connection.last_insert_rowid(), 4, "numbers are never used twice");
    let without_reason = connection.execute(PUT, params!["y", none, "suppressed", none, 16]);
    without_reason.unwrap_err();
}

#[test]
fn step_12_admits_nodes_that_were_heard_by_id_or_else_by_url() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate_by(&mut connection, &STEPS[..11]).unwrap();
    let watermark = "INSERT INTO watermarks (node, boot_id, resume_sequence, settled_sample, updated_at_ns) \
                     VALUES (?1, ?2, 0, 0, 1)";
    let gap = "INSERT INTO gaps (node, boot_id, first_sequence, reason, detail, noticed_at_ns, node_id) \
               VALUES (?1, 1, 0, 'tape_overwritten', '', 1, ?2)";
    // A node with an id, what was heard at its URL before it proved the id, a node without, and one with a gap alone.
    connection.execute("INSERT INTO nodes VALUES ('id-a', 'http://a.local:1', 1)", []).unwrap();
    connection.execute("INSERT INTO node_boots VALUES ('http://a-before.local:1', 7, 'id-a', 1)", []).unwrap();
    connection.execute(watermark, params!["id-a", 7]).unwrap();
    connection.execute(watermark, params!["http://a-before.local:1", 6]).unwrap();
    connection.execute(watermark, params!["http://b.local:1", 8]).unwrap();
    connection.execute(gap, params!["http://c.local:1", None::<&str>]).unwrap();
    connection.execute(gap, params!["http://d.local:1", "id-d"]).unwrap();
    migrate(&mut connection).unwrap();
    let mut statement = connection.prepare("SELECT key, admitted_by FROM admitted_nodes ORDER BY key").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>().unwrap();
    let expected = ["http://b.local:1", "http://c.local:1", "id-a", "id-d"];
    assert_eq!(rows, expected.map(|key| (key.to_owned(), "update".to_owned())));
}

#[test]
fn step_that_fails_leaves_the_version_before_it() {
    let mut connection = Connection::open_in_memory().unwrap();
    let steps = ["CREATE TABLE cats (name TEXT)", "CREATE TABLE dogs (name TEXT); CREATE TABLE cats (name TEXT)"];
    migrate_by(&mut connection, &steps).unwrap_err();
    assert_eq!(version(&connection), 1);
    let dogs: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'dogs'", [], |row| row.get(0)).unwrap();
    assert_eq!(dogs, 0, "half a step was kept");
}

#[test]
fn database_of_a_later_version_is_refused() {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.pragma_update(None, "user_version", 999).unwrap();
    assert!(matches!(migrate(&mut connection), Err(StoreError::TooNew { version: 999, .. })));
}

#[test]
fn nodes_of_earlier_versions_stay_known_by_their_urls() {
    let mut connection = Connection::open_in_memory().unwrap();
    let step = STEPS.iter().position(|step| step.contains("device_url")).unwrap();
    migrate_by(&mut connection, &STEPS[..step]).unwrap();
    let put = "INSERT INTO nodes (node_id, url, seen_at_ns) VALUES (?1, ?2, ?3)";
    for (id, url, seen_at_ns) in
        [("a", "http://kitchen:1", 1), ("b", "http://kitchen:1", 2), ("c", "http://attic:1", 1)]
    {
        connection.execute(put, params![id, url, seen_at_ns]).unwrap();
    }
    migrate(&mut connection).unwrap();
    let mut statement = connection.prepare("SELECT node_id, device_url FROM nodes ORDER BY node_id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let url = |url: &str| Some(url.to_owned());
    let expected = [("a", None), ("b", url("http://kitchen:1")), ("c", url("http://attic:1"))];
    let expected = expected.map(|(id, url)| (id.to_owned(), url));
    assert_eq!(rows.collect::<Result<Vec<(String, Option<String>)>, _>>().unwrap(), expected);
}
