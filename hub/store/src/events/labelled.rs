//! Labelled events and their clips, which retention by age and by the quota of other clips spares. They have a quota
//! of their own.

use rusqlite::params;

use super::event::NoClip;
use super::retention::{ClipTotals, RetiredClip};
use crate::database::Store;
use crate::error::StoreError;

/// SQL condition: the event has a label.
const LABELLED: &str = "label IS NOT NULL AND deleted_at_ns IS NULL";

impl Store {
    /// Number and size of the clips of labelled events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn labelled_clip_totals(&self) -> Result<ClipTotals, StoreError> {
        self.read(|db| {
            // The index of labelled events is small.
            let sql = format!(
                "SELECT count(*), coalesce(sum(clip_bytes), 0) FROM events INDEXED BY events_labelled \
                 WHERE {LABELLED} AND clip_file IS NOT NULL"
            );
            Ok(db.query_row(&sql, [], |row| {
                let [count, bytes] = [row.get::<_, i64>(0)?, row.get::<_, i64>(1)?].map(i64::cast_unsigned);
                Ok(ClipTotals { count, bytes })
            })?)
        })
        .await
    }

    /// Drops the references to the clips of the events that were labelled first, at most `limit`. The caller removes
    /// the files. The events and their labels stay.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_labelled_clips(&self, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.write_durably(move |db| {
            let sql = format!(
                "SELECT id, clip_file, clip_bytes FROM events WHERE {LABELLED} AND clip_file IS NOT NULL \
                 ORDER BY labelled_at_ns, id LIMIT ?1"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                let bytes = row.get::<_, i64>(2)?.cast_unsigned();
                Ok((row.get::<_, i64>(0)?, RetiredClip { file: row.get(1)?, bytes }))
            })?;
            let retired = rows.collect::<Result<Vec<_>, _>>()?;
            let mut release = db.prepare_cached(
                "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
                 clip_samples = NULL, no_clip_reason = ?2 WHERE id = ?1",
            )?;
            for (id, _) in &retired {
                release.execute(params![id, NoClip::Expired.as_str()])?;
            }
            Ok(retired.into_iter().map(|(_, clip)| clip).collect())
        })
        .await
    }

    /// Deletes the events that were labelled first, above `keep_events`, at most `limit`. An event that still has a
    /// clip stays. Returns the number of deleted events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_labelled_events(&self, keep_events: u64, limit: usize) -> Result<usize, StoreError> {
        self.write(move |db| {
            let sql = format!(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE {LABELLED} AND clip_file IS NULL \
                 ORDER BY labelled_at_ns, id \
                 LIMIT min(?2, max(0, (SELECT count(*) FROM events WHERE {LABELLED}) - ?1)))"
            );
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Ok(db.execute(&sql, params![i64::try_from(keep_events).unwrap_or(i64::MAX), limit])?)
        })
        .await
    }
}
