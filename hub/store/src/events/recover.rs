//! Events that come back from their clips after their database was lost.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::commit::insert;
use super::event::{COLUMNS, Clip, Event, NewEvent, NoClip, OwnerLabel, from_row};
use super::min_score;
use super::own_labels::known_or_added;
use crate::database::Store;
use crate::error::StoreError;

/// What the store has of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecoveredEvent {
    /// Nothing.
    Unknown,
    /// The event with this number, whose clip was missing.
    WithoutClip(i64),
    /// The event, with its clip or with a reason why it has none.
    Complete,
    /// Its owner deleted it.
    Deleted,
}

/// What [`Store::commit_recovered`] stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Recovered {
    /// The event.
    Event(Box<Event>),
    /// The clip of an event that was there.
    Clip,
    /// Nothing: the event is complete or deleted.
    Nothing,
}

/// What the owner has said about an event, as the log of labels has it. It identifies its event by node, boot id and
/// place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoggedLabel {
    pub(crate) node: String,
    pub(crate) boot_id: u64,
    pub(crate) start_sample: u64,
    pub(crate) end_sample: u64,
    /// `None`: the owner removed the label.
    pub(crate) label: Option<OwnerLabel>,
    /// Name of the owner's own label. `label` is `uncertain` then.
    pub(crate) own_label: Option<String>,
    /// The cat that the owner named.
    pub(crate) cat: Option<String>,
    /// When the owner named the cat. `None`: at `at_ns`, if a cat is named.
    pub(crate) cat_at_ns: Option<i64>,
    /// When the owner set the label, if that was before `at_ns`.
    pub(crate) labelled_at_ns: Option<i64>,
    /// When the owner last said something about the event.
    pub(crate) at_ns: i64,
}

impl Store {
    /// Deletes events that cannot be read, which a damaged database may have left. Returns their number.
    pub(crate) async fn drop_unreadable_events(&self) -> Result<usize, StoreError> {
        self.write(|db| {
            let sql = format!("SELECT {COLUMNS} FROM events");
            let mut statement = db.prepare(&sql)?;
            let mut rows = statement.query([])?;
            let mut unreadable = Vec::new();
            while let Some(row) = rows.next()? {
                if from_row(row).is_err() {
                    unreadable.push(row.get::<_, i64>(0)?);
                }
            }
            for id in &unreadable {
                db.execute("DELETE FROM events WHERE id = ?1", [id])?;
            }
            Ok(unreadable.len())
        })
        .await
    }

    /// What the store has of an event.
    pub(crate) async fn how_known(&self, event: &NewEvent) -> Result<RecoveredEvent, StoreError> {
        let (node, boot_id, start, end) = (event.node.clone(), event.boot_id, event.start_sample, event.end_sample);
        self.read(move |db| how_known(db, &node, boot_id, start, end)).await
    }

    /// Stores an event that was recovered from its clip, or only the clip if the event misses it. Neither the watermark
    /// of its node nor the outbox changes. The event belongs to the id that its node proved in its boot, else to
    /// `node_id`, which the clip names, else to the only id that was seen at its URL.
    pub(crate) async fn commit_recovered(
        &self,
        event: NewEvent,
        node_id: Option<String>,
        clip: Clip,
    ) -> Result<Recovered, StoreError> {
        let min_score = self.min_score(&event.node);
        self.write_durably(move |db| {
            match how_known(db, &event.node, event.boot_id, event.start_sample, event.end_sample)? {
                RecoveredEvent::Unknown => {
                    insert(db, &event, 0, &Ok(clip))?;
                    let id = db.last_insert_rowid();
                    min_score::mark(db, id, min_score)?;
                    let sql = "UPDATE events SET recovered = 1, node_id = coalesce(node_id, ?2, \
                               (SELECT min(node_id) FROM node_boots WHERE url = ?3 HAVING min(node_id) = max(node_id))) \
                               WHERE id = ?1";
                    db.execute(sql, params![id, node_id, event.node])?;
                    let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
                    Ok(Recovered::Event(Box::new(db.query_row(&sql, [id], from_row)?)))
                }
                RecoveredEvent::WithoutClip(id) => {
                    let sql = "UPDATE events SET clip_file = ?2, clip_bytes = ?3, clip_start_sample = ?4, \
                           clip_samples = ?5, no_clip_reason = NULL WHERE id = ?1";
                    let [bytes, start, samples] = [clip.bytes, clip.start_sample, clip.samples].map(u64::cast_signed);
                    db.execute(sql, params![id, clip.file, bytes, start, samples])?;
                    Ok(Recovered::Clip)
                }
                RecoveredEvent::Complete | RecoveredEvent::Deleted => Ok(Recovered::Nothing),
            }
        })
        .await
    }

    /// Node and cat that a boot id belongs to, as far as stored events, watermarks and logged labels tell.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn node_of_boot(&self, boot_id: u64) -> Result<Option<(String, String)>, StoreError> {
        let stored = self.read(move |db| {
            let sql = "SELECT node, cat FROM events WHERE boot_id = ?1 UNION ALL \
                       SELECT coalesce((SELECT url FROM nodes WHERE node_id = node), node), '' FROM watermarks \
                       WHERE boot_id = ?1 LIMIT 1";
            Ok(db.query_row(sql, [boot_id.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
        });
        match stored.await? {
            Some(found) => Ok(Some(found)),
            None => Ok(self.node_of_boot_by_labels(boot_id).await.map(|node| (node, String::new()))),
        }
    }

    /// What the owner has said about events, for a new log of labels.
    pub(crate) async fn current_labels(&self) -> Result<Vec<LoggedLabel>, StoreError> {
        self.read(|db| {
            let sql = "SELECT node, boot_id, start_sample, end_sample, label, labelled_at_ns, \
                       (SELECT name FROM own_labels WHERE own_labels.id = own_label), said_cat, \
                       max(coalesce(labelled_at_ns, 0), coalesce(said_cat_at_ns, 0)) AS at_ns, \
                       iif(said_cat IS NULL, NULL, said_cat_at_ns) FROM events \
                       WHERE (label IS NOT NULL OR said_cat IS NOT NULL) AND deleted_at_ns IS NULL ORDER BY at_ns";
            let mut statement = db.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(LoggedLabel {
                    node: row.get(0)?,
                    boot_id: row.get::<_, i64>(1)?.cast_unsigned(),
                    start_sample: row.get::<_, i64>(2)?.cast_unsigned(),
                    end_sample: row.get::<_, i64>(3)?.cast_unsigned(),
                    label: crate::words::optional_word(row, 4)?,
                    own_label: row.get(6)?,
                    cat: row.get(7)?,
                    cat_at_ns: row.get(9)?,
                    labelled_at_ns: row.get(5)?,
                    at_ns: row.get(8)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Gives events the labels of the log that are later than their own. Returns the number of changed events.
    pub(crate) async fn restore_labels(&self, labels: Vec<LoggedLabel>) -> Result<usize, StoreError> {
        self.write_durably(move |db| {
            let mut changed = 0;
            for logged in &labels {
                let Some((id, is_label)) = labelled_event(db, logged)? else { continue };
                let sql = "UPDATE events SET said_cat = ?2, said_cat_at_ns = ?3 WHERE id = ?1 AND said_cat IS NOT ?2";
                let cat_at_ns = logged.cat.as_ref().and(logged.cat_at_ns).unwrap_or(logged.at_ns);
                db.execute(sql, params![id, logged.cat, cat_at_ns])?;
                changed += 1;
                if !is_label {
                    continue;
                }
                let label = logged.label.map(OwnerLabel::as_str);
                let own = logged.own_label.as_deref().map(|name| known_or_added(db, name)).transpose()?.flatten();
                let sql = "UPDATE events SET label = ?2, labelled_at_ns = ?3, own_label = ?4 WHERE id = ?1";
                let labelled_at_ns = logged.labelled_at_ns.unwrap_or(logged.at_ns);
                db.execute(sql, params![id, label, label.map(|_| labelled_at_ns), own])?;
                let sql =
                    "INSERT INTO event_labels (event_id, label, labelled_at_ns, own_label) VALUES (?1, ?2, ?3, ?4)";
                db.execute(sql, params![id, label, labelled_at_ns, own])?;
            }
            Ok(changed)
        })
        .await
    }
}

/// The event that a line of the log belongs to, if the log is later than what the event has, and whether the label
/// differs. The node may have had another URL when the label was set; its boot id is unique.
fn labelled_event(db: &Connection, logged: &LoggedLabel) -> Result<Option<(i64, bool)>, StoreError> {
    let other_label = "(coalesce(label, '') <> coalesce(:label, '') OR coalesce(:own, '') <> \
                       coalesce((SELECT name FROM own_labels WHERE own_labels.id = own_label), ''))";
    let sql = format!(
        "SELECT id, {other_label} FROM events WHERE boot_id = :boot_id \
               AND start_sample < :end AND start_sample > :start - 960000 AND end_sample > :start \
               AND deleted_at_ns IS NULL AND ({other_label} OR said_cat IS NOT :cat) \
               AND coalesce((SELECT max(labelled_at_ns) FROM event_labels WHERE event_id = events.id), 0) < :at \
               AND coalesce(said_cat_at_ns, 0) < :at \
               ORDER BY node = :node DESC, min(end_sample, :end) - max(start_sample, :start) DESC LIMIT 1"
    );
    let parameters = named_params! {
        ":node": logged.node, ":boot_id": logged.boot_id.cast_signed(), ":start": logged.start_sample.cast_signed(),
        ":end": logged.end_sample.cast_signed(), ":label": logged.label.map(OwnerLabel::as_str), ":at": logged.at_ns,
        ":own": logged.own_label, ":cat": logged.cat,
    };
    let found = db.prepare_cached(&sql)?.query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?)
}

/// See [`Store::knows_event`] for when two events are the same.
fn how_known(db: &Connection, node: &str, boot_id: u64, start: u64, end: u64) -> Result<RecoveredEvent, StoreError> {
    let sql = "SELECT id, deleted_at_ns IS NOT NULL, coalesce(no_clip_reason, '') FROM events \
               WHERE boot_id = :boot_id AND (node = :node OR node_id = \
               (SELECT node_id FROM node_boots WHERE url = :node AND boot_id = :boot_id)) \
               AND start_sample < :end AND start_sample > :start - 960000 AND end_sample > :start \
               AND 2 * (min(end_sample, :end) - max(start_sample, :start)) \
                   > min(end_sample - start_sample, :end - :start) \
               ORDER BY deleted_at_ns IS NULL LIMIT 1";
    let parameters = named_params! {
        ":node": node, ":boot_id": boot_id.cast_signed(), ":start": start.cast_signed(), ":end": end.cast_signed(),
    };
    let found = db.query_row(sql, parameters, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get::<_, String>(2)?))
    });
    Ok(match found.optional()? {
        None => RecoveredEvent::Unknown,
        Some((_, true, _)) => RecoveredEvent::Deleted,
        Some((id, false, reason)) if reason == NoClip::Missing.as_str() => RecoveredEvent::WithoutClip(id),
        Some(_) => RecoveredEvent::Complete,
    })
}
