//! Retention: removes clips by age, count and bytes, and events much later.
//!
//! A quota removes what was stored first, by row number: a date may come from a clock that lied. Ages are for the
//! caller to judge, by [`hub_base::clock`].
//!
//! What bounds each table:
//!
//! | table | bound |
//! | --- | --- |
//! | `events` | `events.keep_count`, `events.keep_days` |
//! | `events` with a label | [`LABELLED_KEEP_EVENTS`] |
//! | `events` that a person deleted | [`DELETED_EVENTS`], a week |
//! | `event_labels` | [`LABEL_CHANGES`], and the last change of each event |
//! | `reevaluations`, `reevaluated_events` | one a cat, 32 in all with 10,000 events each (`reevaluate.rs`) |
//! | `own_labels` | 32 ([`MAX_OWN_LABELS`](super::MAX_OWN_LABELS)) |
//! | `gaps` | `events.keep_count` and `events.keep_days` |
//! | `watermarks` | eight a node, [`WATERMARKS`] in all |
//! | `nodes` | [`NODES`], and those that have events, watermarks or remembered boots |
//! | `admitted_nodes` | 1,024 ([`MAX_ADMITTED`](crate::MAX_ADMITTED)) |
//! | `paired_nodes` | 256 ([`MAX_PAIRED`](crate::MAX_PAIRED)) |
//! | `node_boots` | 4,096 (`MAX_BOOTS` in `nodes.rs`) |
//! | `analyses`, `analysis_detections` | 100,000 analyses (`KEEP_ANALYSES` in `analyses.rs`) |
//! | `notices` | [`MAX_NOTIFICATIONS`] and `notices.keep_days` |
//! | `moved_histories` | 64 that have moved (`REMEMBERED` in `moved_history.rs`), and the known nodes |
//! | `deletions` | [`MAX_WAITING_DELETIONS`] and [`REMEMBERED_DELETIONS`] |
//! | `clip_removals` | a name goes with its file |
//! | `identity` | one row |
//!
//! [`MAX_WAITING_DELETIONS`]: crate::deletions::MAX_WAITING_DELETIONS
//! [`REMEMBERED_DELETIONS`]: crate::deletions::REMEMBERED_DELETIONS
//! [`LABELLED_KEEP_EVENTS`]: crate::clips::LABELLED_KEEP_EVENTS
//! [`MAX_NOTIFICATIONS`]: crate::notifications::MAX_NOTIFICATIONS
//!
//! The database first drops its reference to a clip, durably. Only then is the file removed. A crash in between leaves
//! a file without an event, which the next start removes, and never an event that points to a missing file.

use hub_base::time::now_ns;
use rusqlite::{OptionalExtension, params};

use super::event::NoClip;
use crate::database::Store;
use crate::error::StoreError;
use crate::notifications::{SuppressReason, withdraw};

/// Events that a person deleted and that are remembered, so that they do not come back. The oldest are forgotten.
pub(crate) const DELETED_EVENTS: u64 = 20_000;

/// Changes of labels that are kept. Above it, the oldest are deleted, but not the last change of an event.
pub(crate) const LABEL_CHANGES: u64 = 100_000;

/// Watermarks that are kept, of all nodes together. The ones that moved last stay.
pub(crate) const WATERMARKS: u64 = 4_096;

/// Nodes whose last URL is remembered although nothing is stored of them. The ones seen last stay.
pub(crate) const NODES: u64 = 4_096;

/// How much is kept of what has no setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) deleted_events: u64,
    pub(super) label_changes: u64,
    pub(super) watermarks: u64,
    pub(super) nodes: u64,
}

const BOUNDS: Bounds =
    Bounds { deleted_events: DELETED_EVENTS, label_changes: LABEL_CHANGES, watermarks: WATERMARKS, nodes: NODES };

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
    /// returns the number of removed rows. Likewise what else is above its bound, and gaps, all that are too many.
    ///
    /// An event that still has a clip stays until its clip is removed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_surplus_events(&self, keep_events: u64, limit: usize) -> Result<usize, StoreError> {
        self.forget_surplus(keep_events, BOUNDS, limit).await
    }

    pub(super) async fn forget_surplus(
        &self,
        keep_events: u64,
        bounds: Bounds,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let [limit, keep_events, deleted_events, label_changes, watermarks, nodes] =
            [limit as u64, keep_events, bounds.deleted_events, bounds.label_changes, bounds.watermarks, bounds.nodes]
                .map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        self.write(move |db| {
            let mut removed = db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NULL AND clip_file IS NULL \
                 AND label IS NULL ORDER BY id LIMIT min(?2, max(0, (SELECT count(*) FROM events \
                 WHERE deleted_at_ns IS NULL) - ?1)))",
                [keep_events, limit],
            )?;
            removed += db.execute(
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE deleted_at_ns IS NOT NULL ORDER BY id \
                 LIMIT min(?2, max(0, (SELECT count(*) FROM events WHERE deleted_at_ns IS NOT NULL) - ?1)))",
                [deleted_events, limit],
            )?;
            removed += db.execute(
                "DELETE FROM event_labels WHERE id IN (SELECT id FROM event_labels AS old WHERE EXISTS \
                 (SELECT 1 FROM event_labels AS later WHERE later.event_id = old.event_id AND later.id > old.id) \
                 ORDER BY id LIMIT min(?2, max(0, (SELECT count(*) FROM event_labels) - ?1)))",
                [label_changes, limit],
            )?;
            db.execute("DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?1", [keep_events])?;
            // These have no row numbers.
            db.execute(
                "DELETE FROM watermarks WHERE updated_at_ns < \
                 (SELECT updated_at_ns FROM watermarks ORDER BY updated_at_ns DESC LIMIT 1 OFFSET ?1 - 1)",
                [watermarks],
            )?;
            db.execute(
                "DELETE FROM nodes WHERE seen_at_ns < \
                 (SELECT seen_at_ns FROM nodes ORDER BY seen_at_ns DESC LIMIT 1 OFFSET ?1 - 1) \
                 AND node_id NOT IN (SELECT node_id FROM node_boots) AND node_id NOT IN (SELECT node FROM watermarks) \
                 AND NOT EXISTS (SELECT 1 FROM events WHERE events.node_id = nodes.node_id)",
                [nodes],
            )?;
            Ok(removed)
        })
        .await
    }
}

const RELEASE_CLIP: &str = "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
                            clip_samples = NULL, no_clip_reason = ?2 WHERE id = ?1";
