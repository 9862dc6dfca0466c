//! Deletions that a person asks for: everything about a cat, everything before a time, or both.
//!
//! A request is a row of the table `deletions`. The process that owns the store works the requests off, one after the
//! other and in small batches, so that others can write in between ([`Eraser`](crate::Eraser)). The row remembers what
//! has been done. Each batch finds what is still there, so after a restart the work goes on.
//!
//! A request is about what was there when it came: events, notifications and analyses with higher numbers stay.

use hub_base::time::now_ns;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};

use crate::database::{Store, overwrite_deleted};
use crate::error::StoreError;
use crate::events::NoClip;
use crate::events::which_cat::OF_CAT;
use crate::notifications::Subject;

/// Requests that may wait at a time.
pub const MAX_WAITING_DELETIONS: usize = 16;

/// Finished requests that are remembered. The oldest are forgotten.
pub const REMEMBERED_DELETIONS: i64 = 50;

/// Rows that one transaction deletes at most, so that no other write waits for long.
pub(crate) const BATCH: usize = 200;

/// What a person wants deleted. At least one of the two is set. If both are set, both must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletionScope {
    /// Name of the cat. `None`: every cat.
    pub cat: Option<String>,
    /// What began before this time, in nanoseconds since 1970 UTC. `None`: whatever the time.
    pub before_ns: Option<i64>,
}

/// How much is deleted, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeletionCounts {
    /// Events.
    pub events: u64,
    /// Clips of these events.
    pub clips: u64,
    /// Labels of these events.
    pub labels: u64,
    /// Notifications.
    pub notifications: u64,
    /// Analyses.
    pub analyses: u64,
    /// Files in the quarantine, and events in the snapshots. A preview does not count them.
    pub copies: u64,
}

impl std::ops::AddAssign for DeletionCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.clips += other.clips;
        self.labels += other.labels;
        self.notifications += other.notifications;
        self.analyses += other.analyses;
        self.copies += other.copies;
    }
}

/// A request, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Number of the request.
    pub id: i64,
    /// When it came, in nanoseconds since 1970 UTC.
    pub requested_at_ns: i64,
    /// What it is about. Once it is finished, the name of the cat is forgotten.
    pub scope: DeletionScope,
    /// Whether it is about one cat.
    pub of_cat: bool,
    /// When it was finished, in nanoseconds since 1970 UTC. `None`: it is not.
    pub ended_at_ns: Option<i64>,
    /// What has been deleted so far.
    pub counts: DeletionCounts,
    newest_event: i64,
    newest_notice: i64,
    newest_analysis: i64,
}

/// Events that one batch deleted.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    /// Numbers of the events.
    pub(crate) ids: Vec<i64>,
    /// Clip files that the database has released. The caller removes them.
    pub(crate) files: Vec<String>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays.
    Kept,
    /// It is deleted, or will be.
    Erased,
    /// The database has no such event.
    Unknown,
}

/// An SQL condition with its parameters, from `?1` on.
pub(crate) struct Condition {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Condition {
    fn new(sql: &str, values: Vec<Value>) -> Self {
        Self { sql: sql.to_owned(), values }
    }

    fn and(&mut self, test: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.values.push(value.into());
            self.sql.push_str(&format!(" AND {}", test.replace("{}", &format!("?{}", self.values.len()))));
        }
    }
}

const COLUMNS: &str = "id, requested_at_ns, cat, before_ns, ended_at_ns, events, clips, labels, notifications, analyses, \
                       copies, newest_event, newest_notice, newest_analysis, of_cat";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Deletion> {
    let count = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)?.cast_unsigned());
    Ok(Deletion {
        id: row.get(0)?,
        requested_at_ns: row.get(1)?,
        scope: DeletionScope { cat: row.get(2)?, before_ns: row.get(3)? },
        ended_at_ns: row.get(4)?,
        counts: DeletionCounts {
            events: count(5)?,
            clips: count(6)?,
            labels: count(7)?,
            notifications: count(8)?,
            analyses: count(9)?,
            copies: count(10)?,
        },
        newest_event: row.get(11)?,
        newest_notice: row.get(12)?,
        newest_analysis: row.get(13)?,
        of_cat: row.get(14)?,
    })
}

impl Deletion {
    /// The request as it would be if it came now.
    fn begin(db: &Connection, scope: DeletionScope) -> Result<Self, StoreError> {
        let newest = |table: &str| -> Result<i64, StoreError> {
            let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
            Ok(db.query_row(&sql, [], |row| row.get(0))?)
        };
        Ok(Self {
            id: 0,
            requested_at_ns: now_ns(),
            of_cat: scope.cat.is_some(),
            scope,
            ended_at_ns: None,
            counts: DeletionCounts::default(),
            newest_event: newest("events")?,
            newest_notice: newest("notices")?,
            newest_analysis: newest("analyses")?,
        })
    }

    /// Whether it is about a sound of this cat that began at this time.
    pub(crate) fn covers(&self, cat: &str, started_at_ns: i64) -> bool {
        let DeletionScope { cat: wanted, before_ns } = &self.scope;
        wanted.as_ref().is_none_or(|wanted| wanted == cat) && before_ns.is_none_or(|before| started_at_ns < before)
    }

    /// Which events of the database it is about. An event that was recovered since has a higher number, but is older.
    fn events(&self) -> Condition {
        let by_number = "(id <= ?1 OR recovered = 1 AND started_at_ns < ?2)";
        let mut events = Condition::new(by_number, vec![self.newest_event.into(), self.requested_at_ns.into()]);
        events.and(&format!("{OF_CAT} = {{}}"), self.scope.cat.clone());
        events.and("started_at_ns < {}", self.scope.before_ns);
        events
    }

    /// Which events of a copy of the database it is about. `same`: the copy may have been made after the request, so
    /// numbers tell what came later. `of_cat`: SQL expression for the cat of an event.
    pub(crate) fn events_of_copy(&self, same: bool, of_cat: &str) -> Condition {
        let mut events = self.up_to(self.newest_event, same);
        events.and(&format!("{of_cat} = {{}}"), self.scope.cat.clone());
        events.and("started_at_ns < {}", self.scope.before_ns);
        events
    }

    /// Which notifications it is about. Those about a node in trouble that are not delivered yet stay. Digests count
    /// several cats; see [`erase_from_digests`].
    pub(crate) fn notifications(&self, same: bool) -> Condition {
        let mut notices = self.up_to(self.newest_notice, same);
        notices.sql.push_str(" AND NOT (kind = 'node' AND state = 'pending')");
        notices.and("animal = {}", self.scope.cat.clone());
        notices.and("created_at_ns < {}", self.scope.before_ns);
        notices
    }

    /// Which digests count the cat. `None`: it is not about a cat, and digests are deleted like other notifications.
    pub(crate) fn digests(&self, same: bool) -> Option<Condition> {
        let cat = self.scope.cat.clone()?;
        let mut digests = self.up_to(self.newest_notice, same);
        digests.sql.push_str(" AND kind = 'digest'");
        let counted =
            "EXISTS (SELECT 1 FROM json_each(iif(json_valid(subject), subject, '[]'), '$.counts') WHERE key = {})";
        digests.and(counted, Some(cat));
        digests.and("created_at_ns < {}", self.scope.before_ns);
        Some(digests)
    }

    /// Which analyses it is about.
    pub(crate) fn analyses(&self, same: bool) -> Condition {
        let mut analyses = self.up_to(self.newest_analysis, same);
        analyses.sql.push_str(" AND status != 'running'");
        analyses.and("cat = {}", self.scope.cat.clone());
        analyses.and("started_at_ns < {}", self.scope.before_ns);
        analyses
    }

    /// Which gaps it is about: `None` if it is about a cat.
    pub(crate) fn gaps(&self) -> Option<Condition> {
        let before_ns = self.scope.before_ns.filter(|_| self.scope.cat.is_none())?;
        Some(Condition::new("noticed_at_ns < ?1", vec![before_ns.min(self.requested_at_ns).into()]))
    }

    fn up_to(&self, newest: i64, bounded: bool) -> Condition {
        Condition::new("id <= ?1", vec![if bounded { newest } else { i64::MAX }.into()])
    }
}

impl Store {
    /// Counts what a request would delete now, and deletes nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn preview_deletion(&self, scope: DeletionScope) -> Result<DeletionCounts, StoreError> {
        self.read(move |db| {
            let wanted = Deletion::begin(db, scope)?;
            let events = wanted.events();
            let sql = format!(
                "SELECT count(*), count(clip_file), count(label) FROM events WHERE deleted_at_ns IS NULL AND {}",
                events.sql
            );
            let [events, clips, labels] = db.query_row(&sql, params_from_iter(events.values), |row| {
                Ok([row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?].map(i64::cast_unsigned))
            })?;
            let count = |table: &str, which: Condition| -> Result<u64, StoreError> {
                let sql = format!("SELECT count(*) FROM {table} WHERE {}", which.sql);
                Ok(db.query_row(&sql, params_from_iter(which.values), |row| row.get::<_, i64>(0))?.cast_unsigned())
            };
            let mut notifications = count("notices", wanted.notifications(true))?;
            if let Some(digests) = wanted.digests(true) {
                notifications += count("notices", digests)?;
            }
            let analyses = count("analyses", wanted.analyses(true))?;
            Ok(DeletionCounts { events, clips, labels, notifications, analyses, copies: 0 })
        })
        .await
    }

    /// Stores a request, so that it survives a power cut. The work begins at once and goes on in the background.
    /// `None`: [`MAX_WAITING_DELETIONS`] wait already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn request_deletion(&self, scope: DeletionScope) -> Result<Option<Deletion>, StoreError> {
        let stored = self.write_durably(move |db| {
            let waiting: i64 =
                db.query_row("SELECT count(*) FROM deletions WHERE ended_at_ns IS NULL", [], |row| row.get(0))?;
            if waiting.cast_unsigned() >= MAX_WAITING_DELETIONS as u64 {
                return Ok(None);
            }
            let new = Deletion::begin(db, scope)?;
            db.execute(
                "INSERT INTO deletions (requested_at_ns, cat, of_cat, before_ns, newest_event, newest_notice, \
                 newest_analysis) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    new.requested_at_ns,
                    new.scope.cat,
                    new.of_cat,
                    new.scope.before_ns,
                    new.newest_event,
                    new.newest_notice,
                    new.newest_analysis
                ],
            )?;
            let id = db.last_insert_rowid();
            db.execute(
                "DELETE FROM deletions WHERE ended_at_ns IS NOT NULL AND id <= ?1",
                [id.saturating_sub(REMEMBERED_DELETIONS)],
            )?;
            Ok(Some(Deletion { id, ..new }))
        });
        let stored = stored.await?;
        if stored.is_some() {
            self.deletion_wish().notify_one();
        }
        Ok(stored)
    }

    /// The requests that are remembered, the latest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn deletions(&self) -> Result<Vec<Deletion>, StoreError> {
        self.deletions_where("true ORDER BY id DESC").await
    }

    /// The oldest request that is not finished.
    pub(crate) async fn next_deletion(&self) -> Result<Option<Deletion>, StoreError> {
        Ok(self.deletions_where("ended_at_ns IS NULL ORDER BY id LIMIT 1").await?.pop())
    }

    async fn deletions_where(&self, condition: &'static str) -> Result<Vec<Deletion>, StoreError> {
        self.read(move |db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM deletions WHERE {condition}"))?;
            let rows = statement.query_map([], from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Deletes at most [`BATCH`] events, with their labels and notifications. What is left of an event is its place in
    /// the sound of its node, so that analysing again does not bring it back.
    pub(crate) async fn erase_events(&self, wanted: &Deletion) -> Result<Erased, StoreError> {
        let wanted = wanted.clone();
        self.erase(move |db| {
            let which = wanted.events();
            let live = format!("deleted_at_ns IS NULL AND {}", which.sql);
            // What a person deleted one by one before has kept its name and measurements until now.
            let deleted = format!("deleted_at_ns IS NOT NULL AND no_clip_reason <> '{ERASED}' AND {}", which.sql);
            let mut erased = Erased::default();
            let mut counts = DeletionCounts::default();
            for condition in [live, deleted] {
                let sql = format!(
                    "SELECT id, clip_file, label IS NOT NULL, deleted_at_ns IS NULL FROM events WHERE {condition} \
                     LIMIT {}",
                    BATCH - erased.ids.len()
                );
                let mut statement = db.prepare(&sql)?;
                let mut rows = statement.query(params_from_iter(which.values.clone()))?;
                while let Some(row) = rows.next()? {
                    let file: Option<String> = row.get(1)?;
                    if row.get(3)? {
                        counts.events += 1;
                        counts.clips += u64::from(file.is_some());
                        counts.labels += u64::from(row.get::<_, bool>(2)?);
                    }
                    erased.ids.push(row.get(0)?);
                    erased.files.extend(file);
                }
            }
            let now_ns = now_ns();
            let mut release = db.prepare_cached(
                "UPDATE events SET clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, clip_samples = NULL, \
                 no_clip_reason = ?2 WHERE id = ?1 AND clip_file IS NOT NULL",
            )?;
            let mut blank = db.prepare_cached(BLANK)?;
            let mut forget = db.prepare_cached("DELETE FROM event_labels WHERE event_id = ?1")?;
            let mut forget_before = db.prepare_cached("DELETE FROM reevaluated_events WHERE event_id = ?1")?;
            for id in &erased.ids {
                // The trigger of the table notes the file as released by this word.
                release.execute(params![id, NoClip::Expired.as_str()])?;
                blank.execute(params![id, now_ns, ERASED])?;
                forget.execute([id])?;
                forget_before.execute([id])?;
            }
            let ids = serde_json::to_string(&erased.ids).map_err(|why| StoreError::Cut(why.to_string()))?;
            let sql = "DELETE FROM notices WHERE kind = 'event' AND event_id IN (SELECT value FROM json_each(?1))";
            counts.notifications = db.execute(sql, [ids])? as u64;
            note(db, wanted.id, counts)?;
            Ok(erased)
        })
        .await
    }

    /// Deletes at most [`BATCH`] notifications, as many analyses and as many gaps, and takes the cat out of as many
    /// digests. Returns whether something is left.
    pub(crate) async fn erase_the_rest(&self, wanted: &Deletion) -> Result<bool, StoreError> {
        let wanted = wanted.clone();
        self.erase(move |db| {
            let delete = |table: &str, which: Condition| -> Result<usize, StoreError> {
                let sql = format!(
                    "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {} LIMIT {BATCH})",
                    which.sql
                );
                Ok(db.execute(&sql, params_from_iter(which.values))?)
            };
            let notifications = delete("notices", wanted.notifications(true))?;
            let analyses = delete("analyses", wanted.analyses(true))?;
            let gaps = wanted.gaps().map_or(Ok(0), |gaps| delete("gaps", gaps))?;
            let digests = erase_from_digests(db, &wanted)?;
            let counts = DeletionCounts {
                notifications: (notifications + digests) as u64,
                analyses: analyses as u64,
                ..DeletionCounts::default()
            };
            note(db, wanted.id, counts)?;
            Ok(notifications + analyses + gaps + digests > 0)
        })
        .await
    }

    /// What becomes of the events that begin at these places: boot id and first sample. A boot id is unique. If an
    /// event was stored twice, and one of the two is gone, the other one counts.
    pub(crate) async fn fates(&self, wanted: &Deletion, places: Vec<(u64, u64)>) -> Result<Vec<Fate>, StoreError> {
        let which = wanted.events();
        self.read(move |db| {
            let at = which.values.len();
            let sql = format!(
                "SELECT deleted_at_ns IS NOT NULL OR {} AS is_erased FROM events WHERE boot_id = ?{} \
                 AND start_sample = ?{} ORDER BY deleted_at_ns IS NOT NULL, is_erased DESC LIMIT 1",
                which.sql,
                at + 1,
                at + 2
            );
            let mut statement = db.prepare(&sql)?;
            let mut fates = Vec::with_capacity(places.len());
            for (boot_id, start_sample) in places {
                let place = [boot_id, start_sample].map(|number| Value::from(number.cast_signed()));
                let values = params_from_iter(which.values.iter().cloned().chain(place));
                fates.push(match statement.query_row(values, |row| row.get(0)).optional()? {
                    Some(true) => Fate::Erased,
                    Some(false) => Fate::Kept,
                    None => Fate::Unknown,
                });
            }
            Ok(fates)
        })
        .await
    }

    /// Adds to the counts of a request.
    pub(crate) async fn note_erased(&self, id: i64, counts: DeletionCounts) -> Result<(), StoreError> {
        self.write(move |db| note(db, id, counts)).await
    }

    /// Notes that a request is finished, and forgets the name of its cat.
    pub(crate) async fn end_deletion(&self, id: i64) -> Result<(), StoreError> {
        let sql = "UPDATE deletions SET ended_at_ns = ?2, cat = NULL WHERE id = ?1";
        self.erase(move |db| Ok(db.execute(sql, params![id, now_ns()]).map(drop)?)).await
    }

    /// Does what [`Store::write_durably`] does, and overwrites what is deleted with zeros.
    async fn erase<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.write_durably(move |db| {
            overwrite_deleted(db, true)?;
            let done = work(db);
            overwrite_deleted(db, false)?;
            done
        })
        .await
    }
}

/// Why an event that a request deleted has no clip. It marks the rows that hold nothing more to erase.
pub(crate) const ERASED: &str = "erased";

const BLANK: &str = "UPDATE events SET deleted_at_ns = coalesce(deleted_at_ns, ?2), cat = '', said_cat = NULL, \
                     said_cat_at_ns = NULL, label = NULL, own_label = NULL, labelled_at_ns = NULL, features = NULL, \
                     kind = NULL, score = 0, context = 'uncertain', p_waiting_for_food = 0, p_isolation = 0, \
                     p_brushing = 0, peak_dbfs = 0, rms_dbfs = 0, snr_db = 0, pitch_median_hz = 0, pitch_min_hz = 0, \
                     pitch_max_hz = 0, voiced_fraction = 0, spectral_centroid_hz = 0, spectral_flatness = 0, \
                     first_context = NULL, first_p_waiting_for_food = NULL, first_p_isolation = NULL, \
                     first_p_brushing = NULL, first_context_labels = NULL, suggested = NULL, p_suggested = NULL, \
                     first_suggested = NULL, first_p_suggested = NULL, no_clip_reason = ?3 WHERE id = ?1";

fn note(db: &Connection, id: i64, counts: DeletionCounts) -> Result<(), StoreError> {
    let DeletionCounts { events, clips, labels, notifications, analyses, copies } = counts;
    let [events, clips, labels, notifications, analyses, copies] =
        [events, clips, labels, notifications, analyses, copies].map(u64::cast_signed);
    db.execute(
        "UPDATE deletions SET events = events + ?2, clips = clips + ?3, labels = labels + ?4, \
         notifications = notifications + ?5, analyses = analyses + ?6, copies = copies + ?7 WHERE id = ?1",
        params![id, events, clips, labels, notifications, analyses, copies],
    )?;
    Ok(())
}

/// Takes the cat out of at most [`BATCH`] digests. A digest that counts nothing else is deleted. Returns how many
/// digests were changed.
fn erase_from_digests(db: &Transaction<'_>, wanted: &Deletion) -> Result<usize, StoreError> {
    let (Some(which), Some(cat)) = (wanted.digests(true), wanted.scope.cat.as_ref()) else { return Ok(0) };
    let sql = format!("SELECT id, subject FROM notices WHERE {} LIMIT {BATCH}", which.sql);
    let mut statement = db.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(which.values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found = rows.collect::<Result<Vec<(i64, String)>, _>>()?;
    for (id, text) in &found {
        let rest = match serde_json::from_str(text) {
            Ok(Subject::Digest { from_ns, to_ns, mut counts, further, while_down }) => {
                counts.remove(cat);
                let holds_more = !counts.is_empty() || further > 0;
                holds_more.then_some(Subject::Digest { from_ns, to_ns, counts, further, while_down })
            }
            _ => None,
        };
        match rest {
            Some(rest) => {
                let text = serde_json::to_string(&rest).map_err(|why| StoreError::Cut(why.to_string()))?;
                db.execute("UPDATE notices SET subject = ?2 WHERE id = ?1", params![id, text])?
            }
            None => db.execute("DELETE FROM notices WHERE id = ?1", [id])?,
        };
    }
    Ok(found.len())
}
