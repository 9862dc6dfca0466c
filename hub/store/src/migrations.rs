//! The schema, step by step. `user_version` counts the steps that a database has taken.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::StoreError;

/// The steps in order. Append only: a released step is never edited, for databases have taken it already.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_analyses.sql"),
    include_str!("migrations/0002_events.sql"),
    include_str!("migrations/0003_event_features.sql"),
    include_str!("migrations/0004_notices.sql"),
    include_str!("migrations/0005_household.sql"),
    include_str!("migrations/0006_node_notices.sql"),
];

/// Takes the steps that the database has not taken yet, each in a transaction of its own. Safe when two processes do it
/// at once.
///
/// # Errors
/// [`StoreError::TooNew`] when the database was made by a later version of the program.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_by(connection, STEPS)
}

fn migrate_by(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if taken as usize > steps.len() {
            return Err(StoreError::TooNew { version: taken, known: steps.len() });
        }
        let Some(step) = steps.get(taken as usize) else { return Ok(()) };
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", taken + 1)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
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
    fn notices_and_their_numbers_outlive_the_new_table() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_by(&mut connection, &STEPS[..5]).unwrap();
        let put = "INSERT INTO notices (key, owner, channel, channel_kind, kind, animal, subject, state, created_at_ns, queued_at_ns, \
                   due_at_ns) VALUES (?1, 'Anna', 'log', 'log', ?2, 'Tom', '{}', 'pending', 1, 1, 1)";
        for key in ["a", "b", "c"] {
            connection.execute(put, [key, "call"]).unwrap();
        }
        connection.execute("DELETE FROM notices WHERE key <> 'a'", []).unwrap();
        connection.execute(put, ["x", "node"]).unwrap_err();
        migrate(&mut connection).unwrap();
        connection.execute(put, ["d", "node"]).unwrap();
        let mut statement = connection.prepare("SELECT id, key FROM notices ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(rows.collect::<Result<Vec<(i64, String)>, _>>().unwrap(), [(1, "a".into()), (4, "d".into())]);
    }

    #[test]
    fn step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let steps = ["CREATE TABLE cats (name TEXT)", "CREATE TABLE dogs (name TEXT); CREATE TABLE cats (name TEXT)"];
        migrate_by(&mut connection, &steps).unwrap_err();
        assert_eq!(version(&connection), 1);
        let dogs: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'dogs'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(dogs, 0, "half a step was kept");
    }

    #[test]
    fn database_of_a_later_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(migrate(&mut connection), Err(StoreError::TooNew { version: 999, .. })));
    }
}
