//! What live listening stores: events, gaps and each node's watermark, all in one transaction or not at all.

use std::sync::atomic::Ordering;

use hub_base::time::now_ns;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Transaction, named_params, params, params_from_iter};

use super::event::{COLUMNS, Clip, Event, EventClock, NewEvent, NoClip, from_row};
use super::{false_alarms, learning, min_score, same_sound, suggest, which_cat};
use crate::columns;
use crate::database::Store;
use crate::error::StoreError;
use crate::node_columns::ID_OF_BOOT;
use crate::notifications::{NotificationPlan, SuppressReason, put_notifications};
use crate::waker::PutIn;
use crate::words::words;

/// Up to where a node was heard and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Name of the node.
    pub node: String,
    /// Boot id that the sample and sequence numbers belong to.
    pub boot_id: u64,
    /// The frame at which listening resumes after a restart. It lies a little before `settled_sample`, so that the
    /// detector warms up and clips have their pre-roll.
    pub resume_sequence: u64,
    /// All events that end before this sample are stored. Events that the detector finds before it again are
    /// duplicates.
    pub settled_sample: u64,
}

/// Why audio was not analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The node's tape overwrote it before the hub asked for it.
    TapeOverwritten,
    /// The hub read it too slowly, until the tape overwrote it.
    SubscriberTooSlow,
    /// The sound device delivered nothing.
    DeviceLost,
    /// The device or the node dropped samples.
    Overrun,
    /// It was on the tape of an earlier start of the node.
    NodeRestarted,
    /// The node gives no reason.
    Unspecified,
    /// The hub could not keep up and skipped it.
    HubOverloaded,
    /// The node skipped sequence numbers without reporting a gap.
    Unaccounted,
    /// The hub could not decode what the node sent.
    Undecodable,
}

impl GapReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::TapeOverwritten,
        Self::SubscriberTooSlow,
        Self::DeviceLost,
        Self::Overrun,
        Self::NodeRestarted,
        Self::Unspecified,
        Self::HubOverloaded,
        Self::Unaccounted,
        Self::Undecodable,
    ];
}

words!(GapReason {
    GapReason::TapeOverwritten => "tape_overwritten" => GapReason::TapeOverwritten,
    GapReason::SubscriberTooSlow => "subscriber_too_slow" => GapReason::SubscriberTooSlow,
    GapReason::DeviceLost => "device_lost" => GapReason::DeviceLost,
    GapReason::Overrun => "overrun" => GapReason::Overrun,
    GapReason::NodeRestarted => "node_restarted" => GapReason::NodeRestarted,
    GapReason::Unspecified => "unspecified" => GapReason::Unspecified,
    GapReason::HubOverloaded => "hub_overloaded" => GapReason::HubOverloaded,
    GapReason::Unaccounted => "unaccounted" => GapReason::Unaccounted,
    GapReason::Undecodable => "undecodable" => GapReason::Undecodable,
});

/// A gap, before it is stored: audio that was never analysed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGap {
    /// Name of the node.
    pub node: String,
    /// Boot id that the sample and sequence numbers belong to.
    pub boot_id: u64,
    /// First lost frame.
    pub first_sequence: u64,
    /// Lost frames of 20 ms. `None`: unknown.
    pub frame_count: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// One sentence for people. Empty if the reason is enough.
    pub detail: String,
}

/// Boots of a node whose watermarks are kept: the latest ones. One is in use, more if a copied key gave one id to
/// several nodes.
const MAX_WATERMARKS: usize = 8;

/// What live listening stores apart from events: gaps and the watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Up to where the node was heard, `gaps` included.
    pub watermark: Watermark,
    /// Gaps since the last report.
    pub gaps: Vec<NewGap>,
}

/// The result of storing an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// The event is stored, and notifications about it are in the outbox.
    Stored(Box<Event>),
    /// This event was stored before.
    KnownAlready,
}

impl Store {
    /// The latest watermark of the node with this id or this URL. `None`: it was never heard.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn watermark(&self, node: &str) -> Result<Option<Watermark>, StoreError> {
        let node = node.to_owned();
        self.read(move |db| {
            let sql = "SELECT boot_id, resume_sequence, settled_sample FROM watermarks \
                       WHERE node = ?1 OR node IN (SELECT node_id FROM nodes WHERE url = ?1) \
                       ORDER BY updated_at_ns DESC LIMIT 1";
            let name = node.clone();
            let found = db.query_row(sql, [name], |row| {
                Ok(Watermark {
                    boot_id: row.get::<_, i64>(0)?.cast_unsigned(),
                    resume_sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                    settled_sample: row.get::<_, i64>(2)?.cast_unsigned(),
                    node,
                })
            });
            Ok(found.optional()?)
        })
        .await
    }

    /// Whether this event is stored already. After a restart, a part of the audio is analysed a second time, and an
    /// event may then begin or end at a slightly different sample. So two events are the same if they overlap by more
    /// than half of the shorter one. Deleted events count as stored.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn knows_event(&self, event: &NewEvent) -> Result<bool, StoreError> {
        let (node, boot_id) = (event.node.clone(), event.boot_id);
        let (start, end) = (event.start_sample, event.end_sample);
        self.read(move |db| is_known(db, &node, boot_id, start, end)).await
    }

    /// Stores an event with its clip, the notifications about it and its node's watermark, so that all of it survives a
    /// power cut. The clip's file must be complete and have its final name. The store evaluates the context with the
    /// classifier of this cat, suggests a label of the owner's own where that is probable enough, and then calls `plan`
    /// for the notifications. Those about an event that sounds like false alarms of its node, or that scores below the
    /// node's `min_score`, are suppressed. If another node heard the same sound, the event is linked to that node's,
    /// and owners who were notified of that one are not notified again.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing is stored in that case.
    pub async fn commit_event(
        &self,
        mut event: NewEvent,
        clip: Result<Clip, NoClip>,
        watermark: Watermark,
        plan: impl FnOnce(&Event) -> Vec<NotificationPlan> + Send + 'static,
    ) -> Result<Committed, StoreError> {
        let sets_aside = self.sets_aside().load(Ordering::Relaxed);
        let min_score = self.min_score(&event.node);
        let committed = self.write_durably(move |db| {
            put_watermark(db, &watermark)?;
            if is_known(db, &event.node, event.boot_id, event.start_sample, event.end_sample)? {
                return Ok((Committed::KnownAlready, PutIn::default()));
            }
            let household = learning::learn(db, &event.cat, &event.node)?;
            let taught = event.features.as_ref().filter(|_| household.labels() > 0);
            let labels = taught.map_or(0, |_| household.labels());
            if let Some(features) = taught {
                event.context = household.context(features);
            }
            let suggested = match &event.features {
                Some(features) => suggest::learn(db, &event.cat, &event.node)?.suggests(features),
                None => None,
            };
            if suggested.is_some() {
                event.context = suggest::context_with(suggested, event.context.probabilities);
            }
            let like = match &event.features {
                Some(features) if sets_aside => false_alarms::learn(db, &event.node)?.like(features),
                _ => Vec::new(),
            };
            insert(db, &event, labels, &clip)?;
            let id = db.last_insert_rowid();
            min_score::mark(db, id, min_score)?;
            suggest::mark(db, id, suggested)?;
            let shown_before = same_sound::link(db, id, &event)?;
            if let Some(shown_before) = shown_before {
                which_cat::follow_sound(db, id, shown_before)?;
            }
            if !like.is_empty() {
                let like = serde_json::to_string(&like).map_err(|why| StoreError::Cut(why.to_string()))?;
                db.execute("UPDATE events SET like_false_alarms = ?2 WHERE id = ?1", params![id, like])?;
            }
            let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
            let stored = db.query_row(&sql, [id], from_row)?;
            let mut plans = plan(&stored);
            if stored.is_set_aside() {
                let is_like = !stored.like_false_alarms.is_empty();
                let reason = if is_like { SuppressReason::LikeNotACat } else { SuppressReason::BelowMinScore };
                for plan in &mut plans {
                    (plan.hold, plan.digest_due_ns) = (Some(reason), None);
                }
            }
            if let Some(shown_before) = shown_before {
                plans = same_sound::plans_for_linked(db, shown_before, &stored, plans)?;
            }
            let put_in = put_notifications(db, &stored.subject(), &plans, now_ns())?;
            Ok((Committed::Stored(Box::new(stored)), put_in))
        });
        let (committed, put_in) = committed.await?;
        self.waker().committed(put_in);
        if let Committed::Stored(stored) = &committed
            && stored.said_cat.is_some()
        {
            self.log_label(stored.id, now_ns()).await;
        }
        Ok(committed)
    }

    /// Stores gaps and watermarks, all in one transaction. A gap that continues a stored gap of the same reason extends
    /// that gap; a gap that is stored already is not stored again.
    ///
    /// # Errors
    /// See [`StoreError`]. Nothing is stored in that case.
    pub async fn commit_progress(&self, progress: Vec<Progress>) -> Result<(), StoreError> {
        self.write(move |db| {
            for progress in &progress {
                for gap in &progress.gaps {
                    put_gap(db, gap)?;
                }
                put_watermark(db, &progress.watermark)?;
            }
            Ok(())
        })
        .await
    }

    /// Corrects the times of events once a node knows the time: events of this boot that have times of the hub's clock
    /// get times of the node's clock. `unix_at_start_ns` is the node's start in nanoseconds since 1970 UTC. Returns the
    /// number of corrected events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn date_by_node_clock(
        &self,
        node: &str,
        boot_id: u64,
        unix_at_start_ns: i64,
    ) -> Result<usize, StoreError> {
        let node = node.to_owned();
        self.write(move |db| by_node_clock(db, &node, boot_id.cast_signed(), unix_at_start_ns)).await
    }
}

impl Store {
    /// Corrects the times of events after a wall clock was stepped: events of this boot that were dated by the old
    /// start of the boot move with it to the new start, all in one transaction. An event counts as dated by the old
    /// start if it lies nearer to that than to the new one, and was captured at or after `from_monotonic_ns`; its clock
    /// becomes `clock`. If the node knows the time, events with times of the hub's clock get times of the node's. The
    /// time of the node's watermark becomes now. Returns the number of corrected events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn date_again(
        &self,
        node: &str,
        boot_id: u64,
        old_start_ns: i64,
        new_start_ns: i64,
        clock: EventClock,
        from_monotonic_ns: u64,
    ) -> Result<usize, StoreError> {
        let node = node.to_owned();
        self.write(move |db| {
            let step_ns = new_start_ns.saturating_sub(old_start_ns);
            let near_ns = i64::try_from(step_ns.unsigned_abs() / 2).unwrap_or(i64::MAX);
            let sql = format!(
                "UPDATE events SET started_at_ns = started_at_ns + ?4, ended_at_ns = ended_at_ns + ?4, clock = ?6 \
                 WHERE boot_id = ?2 AND (node = ?1 OR node_id = {ID_OF_BOOT}) \
                 AND started_at_ns - started_monotonic_ns BETWEEN ?3 - ?5 AND ?3 + ?5 \
                 AND started_monotonic_ns >= ?7"
            );
            let boot_id = boot_id.cast_signed();
            let (clock, from) = (clock.as_str(), signed(from_monotonic_ns));
            let mut moved =
                if clock == EventClock::Node.as_str() { by_node_clock(db, &node, boot_id, new_start_ns)? } else { 0 };
            moved += db.execute(&sql, params![node, boot_id, old_start_ns, step_ns, near_ns, clock, from])?;
            let sql = format!(
                "UPDATE watermarks SET updated_at_ns = ?3 WHERE node = coalesce({ID_OF_BOOT}, ?1) AND boot_id = ?2"
            );
            db.execute(&sql, params![node, boot_id, now_ns()])?;
            Ok(moved)
        })
        .await
    }
}

fn by_node_clock(db: &Transaction<'_>, node: &str, boot_id: i64, start_ns: i64) -> Result<usize, StoreError> {
    let sql = format!(
        "UPDATE events SET started_at_ns = ?3 + started_monotonic_ns, \
         ended_at_ns = ?3 + started_monotonic_ns + (ended_at_ns - started_at_ns), clock = 'node' \
         WHERE boot_id = ?2 AND (node = ?1 OR node_id = {ID_OF_BOOT}) AND clock = 'hub'"
    );
    Ok(db.execute(&sql, params![node, boot_id, start_ns])?)
}

fn is_known(db: &rusqlite::Connection, node: &str, boot_id: u64, start: u64, end: u64) -> Result<bool, StoreError> {
    // No event is longer than a minute (960,000 samples). This bound on the start keeps the search on the index.
    let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE boot_id = :boot_id AND (node = :node OR node_id = \
               (SELECT node_id FROM node_boots WHERE url = :node AND boot_id = :boot_id)) AND start_sample < :end AND start_sample > :start - 960000 AND end_sample > :start \
               AND 2 * (min(end_sample, :end) - max(start_sample, :start)) \
                   > min(end_sample - start_sample, :end - :start))";
    let parameters = named_params! {
        ":node": node, ":boot_id": boot_id.cast_signed(), ":start": signed(start), ":end": signed(end),
    };
    Ok(db.query_row(sql, parameters, |row| row.get(0))?)
}

pub(super) fn insert(
    db: &Transaction<'_>,
    event: &NewEvent,
    context_labels: u32,
    clip: &Result<Clip, NoClip>,
) -> Result<(), StoreError> {
    let stored_clip = clip.as_ref().ok();
    let first: [Value; 11] = [
        event.node.clone().into(),
        event.cat.clone().into(),
        event.boot_id.cast_signed().into(),
        signed(event.start_sample).into(),
        signed(event.end_sample).into(),
        event.started_at_ns.into(),
        event.ended_at_ns.into(),
        signed(event.started_monotonic_ns).into(),
        event.clock.as_str().to_owned().into(),
        event.score.into(),
        event.kind.clone().into(),
    ];
    let last: [Value; 7] = [
        stored_clip.map(|clip| clip.file.clone()).into(),
        stored_clip.map(|clip| signed(clip.bytes)).into(),
        stored_clip.map(|clip| signed(clip.start_sample)).into(),
        stored_clip.map(|clip| signed(clip.samples)).into(),
        clip.as_ref().err().map(|reason| reason.as_str().to_owned()).into(),
        event.features.as_ref().map(|features| features.to_bytes()).into(),
        context_labels.into(),
    ];
    let sql = format!(
        "INSERT INTO events (node, cat, boot_id, start_sample, end_sample, started_at_ns, ended_at_ns, \
         started_monotonic_ns, clock, score, kind, {}, clip_file, clip_bytes, clip_start_sample, clip_samples, \
         no_clip_reason, features, context_labels, node_id) VALUES (?1{}, {})",
        columns::COLUMNS,
        ", ?".repeat(first.len() + columns::COUNT + last.len() - 1),
        ID_OF_BOOT.replace("?2", "?3")
    );
    let measured = columns::values(&event.context, &event.measurements);
    db.prepare_cached(&sql)?.execute(params_from_iter(first.into_iter().chain(measured).chain(last)))?;
    Ok(())
}

/// Within a boot, a watermark only moves on: what a dismissed node still had under way may come after what its
/// successor at the same URL has heard.
fn put_watermark(db: &Transaction<'_>, watermark: &Watermark) -> Result<(), StoreError> {
    let (boot_id, now_ns) = (watermark.boot_id.cast_signed(), now_ns());
    db.prepare_cached(&format!(
        "INSERT INTO watermarks (node, boot_id, resume_sequence, settled_sample, updated_at_ns) \
         VALUES (coalesce({ID_OF_BOOT}, ?1), ?2, ?3, ?4, ?5) \
         ON CONFLICT (node, boot_id) DO UPDATE SET resume_sequence = max(resume_sequence, ?3), \
         settled_sample = max(settled_sample, ?4), updated_at_ns = ?5"
    ))?
    .execute(params![
        watermark.node,
        boot_id,
        signed(watermark.resume_sequence),
        signed(watermark.settled_sample),
        now_ns
    ])?;
    db.prepare_cached(&format!(
        "DELETE FROM watermarks WHERE node = coalesce({ID_OF_BOOT}, ?1) AND updated_at_ns < \
         (SELECT updated_at_ns FROM watermarks WHERE node = coalesce({ID_OF_BOOT}, ?1) \
          ORDER BY updated_at_ns DESC LIMIT 1 OFFSET {})",
        MAX_WATERMARKS - 1
    ))?
    .execute(params![watermark.node, boot_id])?;
    Ok(())
}

fn put_gap(db: &Transaction<'_>, gap: &NewGap) -> Result<(), StoreError> {
    let (boot_id, first) = (gap.boot_id.cast_signed(), signed(gap.first_sequence));
    let frames = gap.frame_count.map(signed);
    // After a restart, listening repeats a short stretch that it had heard before.
    let known: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM gaps WHERE node = ?1 AND boot_id = ?2 AND reason = ?4 AND first_sequence <= ?3 \
             AND CASE WHEN ?5 IS NULL THEN first_sequence = ?3 ELSE first_sequence + frame_count >= ?3 + ?5 END)",
        )?
        .query_row(params![gap.node, boot_id, first, gap.reason.as_str(), frames], |row| row.get(0))?;
    if known {
        return Ok(());
    }
    let extended = db
        .prepare_cached(
            "UPDATE gaps SET frame_count = frame_count + ?5, detail = ?6, noticed_at_ns = ?7 \
             WHERE node = ?1 AND boot_id = ?2 AND first_sequence + frame_count = ?3 AND reason = ?4 AND ?5 IS NOT NULL",
        )?
        .execute(params![gap.node, boot_id, first, gap.reason.as_str(), frames, gap.detail, now_ns()])?;
    if extended == 0 {
        db.prepare_cached(&format!(
            "INSERT INTO gaps (node, boot_id, first_sequence, reason, frame_count, detail, noticed_at_ns, node_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, {ID_OF_BOOT})"
        ))?
        .execute(params![gap.node, boot_id, first, gap.reason.as_str(), frames, gap.detail, now_ns()])?;
    }
    Ok(())
}

/// SQLite has only signed integers. 2^63 samples are 18 million years.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
