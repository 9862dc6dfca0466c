//! Storing as listening goes on: events, gaps and how far each node was columns, together or not at all.

use hub_base::time::now_ns;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Transaction, named_params, params, params_from_iter};

use super::{COLUMNS, Clip, Event, EventClock, NewEvent, NoClip, from_row, learning};
use crate::notifications::{NotificationPlan, Subject, put_notifications};
use crate::waker::PutIn;
use crate::words::words;
use crate::{Store, StoreError, columns};

/// How far a node has been heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    /// Name of the node.
    pub node: String,
    /// Boot id that the numbers belong to.
    pub boot_id: u64,
    /// Frame at which listening goes on after a restart: somewhat before `settled_sample`, so that the analysis warms up and
    /// clips have their pre-roll.
    pub resume_sequence: u64,
    /// Every event that ends before here is stored; what the analysis finds before it a second time is not news.
    pub settled_sample: u64,
}

/// Why audio was not analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Overwritten on the node's tape before it was asked for.
    TapeOverwritten,
    /// Taken more slowly than it came, until the tape overwrote it.
    SubscriberTooSlow,
    /// The sound device delivered nothing.
    DeviceLost,
    /// The device or the node dropped samples.
    Overrun,
    /// It lay on the tape of an earlier start of the node.
    NodeRestarted,
    /// The node says no reason.
    Unspecified,
    /// The hub could not keep up and skipped it.
    HubOverloaded,
    /// The node skipped numbers without a word.
    Unaccounted,
    /// The node sent it in a form that the hub cannot read.
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

/// Audio that was never analysed, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGap {
    /// Name of the node.
    pub node: String,
    /// Boot id that the numbers belong to.
    pub boot_id: u64,
    /// First lost frame.
    pub first_sequence: u64,
    /// Lost frames of 20 ms. `None`: unknown.
    pub frame_count: Option<u64>,
    /// Why.
    pub reason: GapReason,
    /// One sentence for people. Empty: the reason says it all.
    pub detail: String,
}

/// What listening has to report besides events: gaps, and how far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How far the node has been columns, `gaps` included.
    pub watermark: Watermark,
    /// Gaps since the last report.
    pub gaps: Vec<NewGap>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// It is stored, and the notifications about it are in the outbox.
    Stored(Box<Event>),
    /// It, or what it is another reading of, was stored before.
    KnownAlready,
}

impl Store {
    /// How far a node has been heard. `None`: never.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn watermark(&self, node: &str) -> Result<Option<Watermark>, StoreError> {
        let node = node.to_owned();
        self.read(move |db| {
            let sql = "SELECT boot_id, resume_sequence, settled_sample FROM watermarks WHERE node = ?1";
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

    /// Whether an event is stored that this one is another reading of: analysed again after a restart, an event may begin
    /// or end a little elsewhere. So it is the same when it shares most of the shorter one's time with it. Deleted ones
    /// count.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn knows_event(&self, event: &NewEvent) -> Result<bool, StoreError> {
        let (node, boot_id) = (event.node.clone(), event.boot_id);
        let (start, end) = (event.start_sample, event.end_sample);
        self.read(move |db| is_known(db, &node, boot_id, start, end)).await
    }

    /// Stores an event with its clip, the notifications about it, and its node's watermark, so that all of them survive a
    /// power cut. Wakes those who deliver. The clip's file must be complete and under its final name. The event's context
    /// is judged by what the labels of its cat teach; then `plan` says which owners to notify.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub async fn commit_event(
        &self,
        mut event: NewEvent,
        clip: Result<Clip, NoClip>,
        watermark: Watermark,
        plan: impl FnOnce(&Event) -> Vec<NotificationPlan> + Send + 'static,
    ) -> Result<Committed, StoreError> {
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
            insert(db, &event, labels, &clip)?;
            let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
            let stored = db.query_row(&sql, [db.last_insert_rowid()], from_row)?;
            let put_in = put_notifications(db, &Subject::of_event(&stored), &plan(&stored), now_ns())?;
            Ok((Committed::Stored(Box::new(stored)), put_in))
        });
        let (committed, put_in) = committed.await?;
        self.waker().committed(put_in);
        Ok(committed)
    }

    /// Stores gaps and how far nodes have been columns, all in one transaction. A gap that goes on where the last one of
    /// its reason ended makes that one longer; one that is stored already is not stored again.
    ///
    /// # Errors
    /// See [`StoreError`]. Then nothing is stored.
    pub async fn commit_progress(&self, progress: Vec<Progress>) -> Result<(), StoreError> {
        self.write(move |db| {
            for one in &progress {
                for gap in &one.gaps {
                    put_gap(db, gap)?;
                }
                put_watermark(db, &one.watermark)?;
            }
            Ok(())
        })
        .await
    }

    /// A node has learned the time: events of this boot that were dated by the hub's clock are dated by the node's.
    /// `unix_at_start_ns` is the node's start in nanoseconds since 1970 UTC. Returns how many events moved.
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
        self.write(move |db| {
            let sql = "UPDATE events SET started_at_ns = ?3 + started_monotonic_ns, \
                       ended_at_ns = ?3 + started_monotonic_ns + (ended_at_ns - started_at_ns), clock = ?4 \
                       WHERE node = ?1 AND boot_id = ?2 AND clock = 'hub'";
            let clock = EventClock::Node.as_str();
            Ok(db.execute(sql, params![node, boot_id.cast_signed(), unix_at_start_ns, clock])?)
        })
        .await
    }
}

fn is_known(db: &rusqlite::Connection, node: &str, boot_id: u64, start: u64, end: u64) -> Result<bool, StoreError> {
    // The longest event is a few seconds: the bound on the start keeps the search on the index.
    let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE node = :node AND boot_id = :boot_id \
               AND start_sample < :end AND start_sample > :start - 960000 AND end_sample > :start \
               AND 2 * (min(end_sample, :end) - max(start_sample, :start)) \
                   > min(end_sample - start_sample, :end - :start))";
    let parameters = named_params! {
        ":node": node, ":boot_id": boot_id.cast_signed(), ":start": signed(start), ":end": signed(end),
    };
    Ok(db.query_row(sql, parameters, |row| row.get(0))?)
}

fn insert(
    db: &Transaction<'_>,
    event: &NewEvent,
    context_labels: u32,
    clip: &Result<Clip, NoClip>,
) -> Result<(), StoreError> {
    let kept = clip.as_ref().ok();
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
        kept.map(|clip| clip.file.clone()).into(),
        kept.map(|clip| signed(clip.bytes)).into(),
        kept.map(|clip| signed(clip.start_sample)).into(),
        kept.map(|clip| signed(clip.samples)).into(),
        clip.as_ref().err().map(|reason| reason.as_str().to_owned()).into(),
        event.features.as_ref().map(|features| features.to_bytes()).into(),
        context_labels.into(),
    ];
    let sql = format!(
        "INSERT INTO events (node, cat, boot_id, start_sample, end_sample, started_at_ns, ended_at_ns, \
         started_monotonic_ns, clock, score, kind, {}, clip_file, clip_bytes, clip_start_sample, clip_samples, \
         no_clip_reason, features, context_labels) VALUES (?{})",
        columns::COLUMNS,
        ", ?".repeat(first.len() + columns::COUNT + last.len() - 1)
    );
    let heard = columns::values(&event.context, &event.measurements);
    db.prepare_cached(&sql)?.execute(params_from_iter(first.into_iter().chain(heard).chain(last)))?;
    Ok(())
}

fn put_watermark(db: &Transaction<'_>, watermark: &Watermark) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO watermarks (node, boot_id, resume_sequence, settled_sample, updated_at_ns) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (node) DO UPDATE SET boot_id = ?2, resume_sequence = ?3, settled_sample = ?4, updated_at_ns = ?5",
    )?
    .execute(params![
        watermark.node,
        watermark.boot_id.cast_signed(),
        signed(watermark.resume_sequence),
        signed(watermark.settled_sample),
        now_ns()
    ])?;
    Ok(())
}

fn put_gap(db: &Transaction<'_>, gap: &NewGap) -> Result<(), StoreError> {
    let (boot_id, first) = (gap.boot_id.cast_signed(), signed(gap.first_sequence));
    let frames = gap.frame_count.map(signed);
    // After a restart, listening goes over a little that it had heard before.
    let known: bool = db
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM gaps WHERE node = ?1 AND boot_id = ?2 AND reason = ?4 AND first_sequence <= ?3 \
             AND CASE WHEN ?5 IS NULL THEN first_sequence = ?3 ELSE first_sequence + frame_count >= ?3 + ?5 END)",
        )?
        .query_row(params![gap.node, boot_id, first, gap.reason.as_str(), frames], |row| row.get(0))?;
    if known {
        return Ok(());
    }
    let longer = db
        .prepare_cached(
            "UPDATE gaps SET frame_count = frame_count + ?5, detail = ?6, noticed_at_ns = ?7 \
             WHERE node = ?1 AND boot_id = ?2 AND first_sequence + frame_count = ?3 AND reason = ?4 AND ?5 IS NOT NULL",
        )?
        .execute(params![gap.node, boot_id, first, gap.reason.as_str(), frames, gap.detail, now_ns()])?;
    if longer == 0 {
        db.prepare_cached(
            "INSERT INTO gaps (node, boot_id, first_sequence, reason, frame_count, detail, noticed_at_ns) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![gap.node, boot_id, first, gap.reason.as_str(), frames, gap.detail, now_ns()])?;
    }
    Ok(())
}

/// SQLite's numbers are signed. 2^63 samples are 18 million years.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
