//! What is forgotten: clips by age, count and bytes; events long after.
//!
//! The database lets go of a file first, durably, and only then is it removed: a crash in between leaves a file that
//! nobody needs, which the next start sweeps away, and never an event that points to nothing.

use hub_base::time::now_ns;
use rusqlite::{OptionalExtension, params};

use super::event::NoClip;
use super::learning;
use crate::database::Store;
use crate::error::StoreError;

/// How much the clips take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClipTotals {
    /// Clips.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A clip that the database has let go of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredClip {
    /// File name within the clip directory, to be removed.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

impl Store {
    /// How much the clips take.
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

    /// Lets go of the clips of events that began before `before_ns`, at most `limit` of them, the oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_clips_before(&self, before_ns: i64, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.retire(Some(before_ns), limit).await
    }

    /// Lets go of the oldest clips, at most `limit` of them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_oldest_clips(&self, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.retire(None, limit).await
    }

    async fn retire(&self, before_ns: Option<i64>, limit: usize) -> Result<Vec<RetiredClip>, StoreError> {
        self.write_durably(move |db| {
            let sql = "SELECT id, clip_file, clip_bytes FROM events WHERE clip_file IS NOT NULL AND started_at_ns < ?1 \
                       ORDER BY started_at_ns, id LIMIT ?2";
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

    /// Names of all clip files that events point to.
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

    /// These files are gone: their events have no clip any more.
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

    /// Deletes an event for its owner; its label teaches nothing any more. Returns its clip's file name, to be removed; `None` inside when it had none, `None`
    /// outside when there is no such event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_event(&self, id: i64) -> Result<Option<Option<String>>, StoreError> {
        self.write_durably(move |db| {
            let sql = "SELECT clip_file, label IS NOT NULL FROM events WHERE id = ?1 AND deleted_at_ns IS NULL";
            let found =
                db.query_row(sql, [id], |row| Ok((row.get::<_, Option<String>>(0)?, row.get(1)?))).optional()?;
            let Some((file, was_labelled)) = found else { return Ok(None) };
            db.execute("UPDATE events SET deleted_at_ns = ?2 WHERE id = ?1", params![id, now_ns()])?;
            if was_labelled {
                learning::judge_anew(db, id)?;
            }
            if file.is_some() {
                db.execute(RELEASE_CLIP, params![id, NoClip::Expired.as_str()])?;
            }
            Ok(Some(file))
        })
        .await
    }

    /// Forgets, without their clips: events deleted before `deleted_before_ns`; events that began before
    /// `began_before_ns`; the oldest above `keep`; gaps as old or above as many. At most `limit` of each. Returns how many events went.
    ///
    /// An event that has a clip stays: its clip is retired first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_events(
        &self,
        deleted_before_ns: i64,
        began_before_ns: i64,
        keep: u64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |db| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let keep = i64::try_from(keep).unwrap_or(i64::MAX);
            let mut gone = db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns < ?1 LIMIT ?2)",
                params![deleted_before_ns, limit],
            )?;
            gone += db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NULL \
                 AND started_at_ns < ?1 AND clip_file IS NULL ORDER BY started_at_ns LIMIT ?2)",
                params![began_before_ns, limit],
            )?;
            gone += db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NULL AND clip_file IS NULL \
                 ORDER BY started_at_ns, id LIMIT min(?2, max(0, (SELECT count(*) FROM events) - ?1)))",
                params![keep, limit],
            )?;
            db.execute(
                "DELETE FROM gaps WHERE id IN (SELECT id FROM gaps WHERE noticed_at_ns < ?1 LIMIT ?2)",
                params![began_before_ns, limit],
            )?;
            db.execute(
                "DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?1",
                params![keep],
            )?;
            Ok(gone)
        })
        .await
    }
}

const RELEASE_CLIP: &str = "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
                            clip_samples = NULL, no_clip_reason = ?2 WHERE id = ?1";
