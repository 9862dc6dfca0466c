//! Retention: removes clips by age, count and bytes, and events much later.
//!
//! A quota removes what was stored first, by row number: a date may come from a clock that lied. Ages are for the
//! caller to judge, by [`hub_base::clock`].
//!
//! The database first drops its reference to a clip, durably. Only then is the file removed. A crash in between leaves
//! a file without an event, which the next start removes, and never an event that points to a missing file.

use hub_base::time::now_ns;
use rusqlite::{OptionalExtension, params};

use super::event::NoClip;
use crate::database::Store;
use crate::error::StoreError;
use crate::notifications::{SuppressReason, withdraw};

/// Number and size of all clips.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClipTotals {
    /// Number of clips.
    pub count: u64,
    /// Bytes of all clips together.
    pub bytes: u64,
}

/// A clip that no event refers to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredClip {
    /// File name within the clip directory. The caller removes the file.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
}

impl Store {
    /// Number and size of all clips.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn clip_totals(&self) -> Result<ClipTotals, StoreError> {
        self.read(|db| {
            let sql = "SELECT count(*), coalesce(sum(clip_bytes), 0) FROM events WHERE clip_file IS NOT NULL";
            Ok(db.query_row(sql, [], |row| {
                Ok(ClipTotals {
                    count: row.get::<_, i64>(0)?.cast_unsigned(),
                    bytes: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })?)
        })
        .await
    }

    /// Drops the references to clips of events that began before `before_ns`, the oldest first, at most `limit`. The
    /// caller removes the files.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_clips_before(&self, before_ns: i64, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.retire(Some(before_ns), limit).await
    }

    /// Drops the references to the clips that were stored first, at most `limit`. The caller removes the files.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_oldest_clips(&self, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.retire(None, limit).await
    }

    async fn retire(&self, before_ns: Option<i64>, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.write_durably(move |db| {
            // The index keeps the search among the events that have clips.
            let sql = if before_ns.is_some() {
                "SELECT id, clip_file, clip_bytes FROM events WHERE clip_file IS NOT NULL AND started_at_ns < ?1 \
                 AND label IS NULL AND recovered = 0 ORDER BY started_at_ns, id LIMIT ?2"
            } else {
                "SELECT id, clip_file, clip_bytes FROM events INDEXED BY events_by_stored_clip \
                 WHERE clip_file IS NOT NULL AND label IS NULL AND ?1 IS NOT NULL ORDER BY id LIMIT ?2"
            };
            let mut statement = db.prepare_cached(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(params![before_ns.unwrap_or(i64::MAX), limit], |row| {
                let bytes = row.get::<_, i64>(2)?.cast_unsigned();
                Ok((row.get::<_, i64>(0)?, RetiredClip { file: row.get(1)?, bytes }))
            })?;
            let retired = rows.collect::<Result<Vec<_>, _>>()?;
            let mut release = db.prepare_cached(RELEASE_CLIP)?;
            for (id, _) in &retired {
                release.execute(params![id, NoClip::Expired.as_str()])?;
            }
            Ok(retired.into_iter().map(|(_, clip)| clip).collect())
        })
        .await
    }

    /// Names of all clip files that events refer to.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn clip_files(&self) -> Result<std::collections::HashSet<String>, StoreError> {
        self.read(|db| {
            let mut statement = db.prepare("SELECT clip_file FROM events WHERE clip_file IS NOT NULL")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Marks the clips of these files as missing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn clips_are_missing(&self, files: Vec<String>) -> Result<(), StoreError> {
        self.write(move |db| {
            let sql = "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
                       clip_samples = NULL, no_clip_reason = ?2 WHERE clip_file = ?1";
            for file in &files {
                db.execute(sql, params![file, NoClip::Missing.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes an event for its owner. The classifier of the cat no longer learns from its label, and notifications
    /// about the event that were not delivered yet are not sent any more. Returns the name of the clip file, which the
    /// caller removes: `Some(None)` if the event had no clip, and `None` if there is no such event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_event(&self, id: i64) -> Result<Option<Option<String>>, StoreError> {
        let deleted = self.write_durably(move |db| {
            let sql = "SELECT clip_file FROM events WHERE id = ?1 AND deleted_at_ns IS NULL";
            let found = db.query_row(sql, [id], |row| row.get::<_, Option<String>>(0)).optional()?;
            let Some(file) = found else { return Ok(None) };
            let now_ns = now_ns();
            db.execute("UPDATE events SET deleted_at_ns = ?2 WHERE id = ?1", params![id, now_ns])?;
            if file.is_some() {
                db.execute(RELEASE_CLIP, params![id, NoClip::Expired.as_str()])?;
            }
            Ok(Some((file, withdraw(db, id, SuppressReason::EventDeleted, now_ns)?)))
        });
        let Some((file, withdrawn)) = deleted.await? else { return Ok(None) };
        self.waker().committed(withdrawn);
        Ok(Some(file))
    }

    /// Removes events and gaps by their age, at most `limit` by each rule, and returns the number of removed events. It
    /// removes events that the owner deleted before `deleted_before_ns`, events that began before `began_before_ns`,
    /// and gaps that were noticed before `began_before_ns`.
    ///
    /// An event that still has a clip stays until its clip is removed. An event with a label stays; see
    /// [`Store::forget_labelled_events`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_old_events(
        &self,
        deleted_before_ns: i64,
        began_before_ns: i64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |db| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut removed = db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns < ?1 LIMIT ?2)",
                params![deleted_before_ns, limit],
            )?;
            removed += db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NULL \
                 AND started_at_ns < ?1 AND clip_file IS NULL AND label IS NULL AND recovered = 0 \
                 ORDER BY started_at_ns LIMIT ?2)",
                params![began_before_ns, limit],
            )?;
            db.execute(
                "DELETE FROM gaps WHERE id IN (SELECT id FROM gaps WHERE noticed_at_ns < ?1 LIMIT ?2)",
                params![began_before_ns, limit],
            )?;
            Ok(removed)
        })
        .await
    }

    /// Removes the events that were stored first, at most `limit`, as far as there are more than `keep_events`, and
    /// returns their number. Likewise gaps, all that are too many.
    ///
    /// An event that still has a clip stays until its clip is removed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_surplus_events(&self, keep_events: u64, limit: usize) -> Result<usize, StoreError> {
        self.write(move |db| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let keep_events = i64::try_from(keep_events).unwrap_or(i64::MAX);
            let removed = db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NULL AND clip_file IS NULL \
                 AND label IS NULL ORDER BY id LIMIT min(?2, max(0, (SELECT count(*) FROM events) - ?1)))",
                params![keep_events, limit],
            )?;
            db.execute(
                "DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?1",
                params![keep_events],
            )?;
            Ok(removed)
        })
        .await
    }
}

const RELEASE_CLIP: &str = "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
                            clip_samples = NULL, no_clip_reason = ?2 WHERE id = ?1";
