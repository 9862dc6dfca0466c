//! A mark next to the database that there are users. Unlike admissions and labels, users do not come back when the
//! database is lost, or replaced by an older one. Without users, the hub would be open again. As long as the mark is
//! there, the hub counts as one with users.
//!
//! The mark is set before a user is stored, and removed after the last one was removed on purpose. So a cut between the
//! two leaves the hub closed, never open.

use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

use daemon::private;
use rusqlite::Connection;
use tracing::warn;

use crate::database::Store;
use crate::error::StoreError;

/// File name within the data directory.
pub(crate) const MARK_FILE: &str = "users-exist";

/// What the file says to whoever finds it.
const TEXT: &[u8] = b"This hub has users. Without this file, a hub whose database is lost opens itself to everybody.\n";

/// Whether there are users in the database.
fn has_rows(db: &Connection) -> std::result::Result<bool, StoreError> {
    Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0))?)
}

fn mark_of(database: &Path) -> PathBuf {
    database.with_file_name(MARK_FILE)
}

/// A mark that cannot be looked for counts as there.
fn is_there(mark: &Path) -> bool {
    !matches!(std::fs::symlink_metadata(mark), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Sets the mark, durably, if it is not there.
pub(crate) fn set(database: &Path) -> std::result::Result<(), StoreError> {
    let mark = mark_of(database);
    if is_there(&mark) {
        return Ok(());
    }
    private::replace(&mark, TEXT, true).map_err(|error| StoreError::Directory { path: mark, error })
}

fn remove(mark: &Path) -> Result<()> {
    match std::fs::remove_file(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Store {
    /// Whether there are users, or there were users that nobody removed on purpose.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn has_users(&self) -> std::result::Result<bool, StoreError> {
        let mark = mark_of(self.path());
        self.read(move |db| Ok(has_rows(db)? || is_there(&mark))).await
    }

    /// Whether there are no users although nobody removed the last one on purpose: the database was lost, or replaced
    /// by one from before the first user.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn are_users_lost(&self) -> std::result::Result<bool, StoreError> {
        let mark = mark_of(self.path());
        self.read(move |db| Ok(!has_rows(db)? && is_there(&mark))).await
    }

    /// Sets the mark if there are users, such as those of a backup. Call it at the start.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mark_users(&self) -> std::result::Result<(), StoreError> {
        let database = self.path().to_owned();
        // A write, so that nobody removes the last user meanwhile.
        self.write(move |db| if has_rows(db)? { set(&database) } else { Ok(()) }).await
    }

    /// Removes the mark if there are no users. A failure is logged: the hub then asks for a log-in until a user is
    /// added and removed again.
    pub(crate) async fn unmark_users(&self) {
        let mark = mark_of(self.path());
        let path = mark.clone();
        let failed = move |error| StoreError::Directory { path: path.clone(), error };
        let removed = self.write(move |db| if has_rows(db)? { Ok(()) } else { remove(&mark).map_err(failed) }).await;
        if let Err(error) = removed {
            warn!(%error, "the mark that there are users cannot be removed; the hub still asks for a log-in");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::database::Access;
    use crate::people::PasswordHash;

    async fn add(store: &Store, name: &str) {
        let password = PasswordHash { salt: vec![1], hash: vec![1], memory_kib: 8, passes: 1 };
        store.add_user(name.into(), "admin", password, None).await.unwrap();
    }

    #[tokio::test]
    async fn hub_with_users_stays_one_when_the_database_is_lost_or_older() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Access::Keeper).unwrap();
        let (older, mark) = (dir.path().join("older.sqlite"), dir.path().join(MARK_FILE));
        let store = open();
        store.mark_users().await.unwrap();
        assert!(!store.has_users().await.unwrap() && !mark.exists());
        let database = store.path().to_owned();
        let copy = Connection::open(&database).unwrap();
        copy.execute("VACUUM INTO ?1", [older.display().to_string()]).unwrap();
        drop(copy);
        add(&store, "anna").await;
        assert_eq!(std::fs::metadata(&mark).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store.has_users().await.unwrap() && !store.are_users_lost().await.unwrap());
        drop(store);
        for copy in [None, Some(&older)] {
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
            }
            if let Some(copy) = copy {
                std::fs::copy(copy, &database).unwrap();
            }
            let store = open();
            store.mark_users().await.unwrap();
            assert_eq!(store.users().await.unwrap(), []);
            assert!(store.has_users().await.unwrap() && store.are_users_lost().await.unwrap());
        }
        let store = open();
        add(&store, "anna").await;
        add(&store, "ben").await;
        assert!(!store.are_users_lost().await.unwrap());
        // The users of a backup have no mark yet.
        std::fs::remove_file(&mark).unwrap();
        store.mark_users().await.unwrap();
        assert!(mark.exists());
        store.remove_user("anna".into(), true).await.unwrap();
        assert!(mark.exists());
        store.remove_user("ben".into(), true).await.unwrap();
        assert!(!mark.exists() && !store.has_users().await.unwrap(), "the last one was removed on purpose");
    }

    #[tokio::test]
    async fn user_without_a_mark_is_not_added() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        // The mark cannot be written.
        let unfinished = private::unfinished(&dir.path().join(MARK_FILE));
        std::fs::create_dir(&unfinished).unwrap();
        let password = PasswordHash { salt: vec![1], hash: vec![1], memory_kib: 8, passes: 1 };
        assert!(store.add_user("anna".into(), "admin", password, None).await.is_err());
        assert_eq!(store.users().await.unwrap(), []);
        std::fs::remove_dir(&unfinished).unwrap();
        add(&store, "anna").await;
        assert!(store.has_users().await.unwrap());
    }
}
