//! Clip files that the database has released. Triggers of the schema fill the list in the transaction that drops the
//! reference, so a file is on it only if no event needs it any more.

use crate::database::Store;
use crate::error::StoreError;

impl Store {
    /// The clip files that were released and perhaps not removed yet.
    pub(crate) async fn released_clips(&self) -> Result<std::collections::HashSet<String>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare("SELECT file FROM clip_removals")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Whether an event refers to this clip file.
    pub(crate) async fn refers_to_clip(&self, file: &str) -> Result<bool, StoreError> {
        let file = file.to_owned();
        self.read(move |db| {
            Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM events WHERE clip_file = ?1)", [file], |row| row.get(0))?)
        })
        .await
    }

    /// These released files are removed.
    pub(crate) async fn forget_released(&self, files: Vec<String>) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut delete = db.prepare_cached("DELETE FROM clip_removals WHERE file = ?1")?;
            for file in &files {
                delete.execute([file])?;
            }
            Ok(())
        })
        .await
    }
}
