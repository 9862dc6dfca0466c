//! Queries for events and gaps, and setting an event's label.

use std::str::FromStr;

use hub_base::time::now_ns;
use rusqlite::{OptionalExtension, ToSql, params};

use super::commit::{GapReason, NewGap};
use super::event::{COLUMNS, Event, IS_SET_ASIDE, OwnerLabel, from_row};
use super::which_cat::OF_CAT;
use crate::database::Store;
use crate::error::StoreError;
use crate::node_columns::{is_of_node, url_of};
use crate::notifications::{PutIn, SuppressReason, withdraw};
use crate::words::word;

/// Which events to return: those that meet all given conditions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    /// Name of the cat: see [`Event::cat`].
    pub cat: Option<String>,
    /// The node: its URL, its id, or the first 16 digits of its id.
    pub node: Option<String>,
    /// Began at or after this time, in nanoseconds since 1970 UTC.
    pub from_ns: Option<i64>,
    /// Began before this time.
    pub to_ns: Option<i64>,
    /// What the event counts as: see [`Event::counts_as`].
    pub counts_as: Option<OwnerLabel>,
    /// Name of the owner's own label.
    pub own_label: Option<String>,
    /// Lowest score, 0 to 1.
    pub min_score: Option<f32>,
    /// Whether to return every node's event of a sound that several nodes heard, and not only the one that is shown.
    pub linked: bool,
    /// `false`: only events that are set aside; see [`Event::is_set_aside`]. `true`: only others.
    pub announced: Option<bool>,
}

/// Position at which a page of events ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCursor {
    started_at_ns: i64,
    id: i64,
}

impl std::fmt::Display for PageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.started_at_ns, self.id)
    }
}

impl FromStr for PageCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (started_at_ns, id) = text.rsplit_once('-').ok_or(())?;
        Ok(Self { started_at_ns: started_at_ns.parse().map_err(|_| ())?, id: id.parse().map_err(|_| ())? })
    }
}

/// A page of events, the latest first.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Position from which the next page starts. `None`: this is the last page.
    pub next: Option<PageCursor>,
}

/// The part of an event that the counts need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// When it began, in nanoseconds since 1970 UTC.
    pub started_at_ns: i64,
    /// What the event counts as.
    pub counts_as: OwnerLabel,
}

impl EventFilter {
    /// The filter as an SQL condition, with its parameters from `?1` on.
    fn to_sql(&self) -> (String, Vec<Box<dyn ToSql + Send>>) {
        let mut sql = String::from("deleted_at_ns IS NULL");
        let mut values: Vec<Box<dyn ToSql + Send>> = Vec::new();
        let mut and = |condition: &str, value: Option<Box<dyn ToSql + Send>>| {
            if let Some(value) = value {
                values.push(value);
                sql.push_str(&format!(" AND {condition} ?{}", values.len()));
            }
        };
        and(&format!("{OF_CAT} ="), self.cat.clone().map(|cat| Box::new(cat) as _));
        and("started_at_ns >=", self.from_ns.map(|from| Box::new(from) as _));
        and("started_at_ns <", self.to_ns.map(|to| Box::new(to) as _));
        and("coalesce(label, context) =", self.counts_as.map(|label| Box::new(label.as_str()) as _));
        and("score >=", self.min_score.map(|score| Box::new(score) as _));
        if let Some(name) = self.own_label.clone() {
            values.push(Box::new(name));
            let number = "SELECT own_labels.id FROM own_labels WHERE name =";
            sql.push_str(&format!(" AND own_label = ({number} ?{})", values.len()));
        }
        if let Some(node) = self.node.clone() {
            values.push(Box::new(node));
            let is_of_node = is_of_node(&format!("?{}", values.len()));
            if self.linked {
                sql.push_str(&format!(" AND {is_of_node}"));
            } else {
                sql.push_str(&format!(
                    " AND ({is_of_node} OR id IN (SELECT same_sound_as FROM events WHERE same_sound_as IS NOT NULL \
                     AND deleted_at_ns IS NULL AND {is_of_node}))"
                ));
            }
        }
        if !self.linked {
            sql.push_str(" AND same_sound_as IS NULL");
        }
        if let Some(announced) = self.announced {
            sql.push_str(&format!(" AND {}{IS_SET_ASIDE}", if announced { "NOT " } else { "" }));
        }
        (sql, values)
    }
}

impl Store {
    /// The events that match a filter and come after `after`, the latest first, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: Option<PageCursor>,
        limit: usize,
    ) -> Result<EventPage, StoreError> {
        let (mut conditions, mut values) = filter.to_sql();
        if let Some(after) = after {
            values.push(Box::new(after.started_at_ns));
            values.push(Box::new(after.id));
            conditions.push_str(&format!(" AND (started_at_ns, id) < (?{}, ?{})", values.len() - 1, values.len()));
        }
        self.read(move |db| {
            // One more than `limit` shows whether there is a next page.
            let sql = format!(
                "SELECT {COLUMNS} FROM events WHERE {conditions} ORDER BY started_at_ns DESC, id DESC LIMIT {}",
                limit + 1
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), from_row)?;
            let mut events = rows.collect::<Result<Vec<Event>, _>>()?;
            let more = events.len() > limit;
            events.truncate(limit);
            let next = events.last().filter(|_| more);
            let next = next.map(|last| PageCursor { started_at_ns: last.found.started_at_ns, id: last.id });
            Ok(EventPage { events, next })
        })
        .await
    }

    /// How many events match a filter. It counts no further than `at_most`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn count_events(&self, filter: &EventFilter, at_most: usize) -> Result<usize, StoreError> {
        let (conditions, values) = filter.to_sql();
        self.read(move |db| {
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM events WHERE {conditions} LIMIT {at_most})");
            let mut statement = db.prepare_cached(&sql)?;
            let count: i64 = statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
            Ok(usize::try_from(count).unwrap_or(0))
        })
        .await
    }

    /// The event with this number. `None` if it does not exist or was deleted.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn event(&self, id: i64) -> Result<Option<Event>, StoreError> {
        self.read(move |db| {
            let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1 AND deleted_at_ns IS NULL");
            Ok(db.prepare_cached(&sql)?.query_row([id], from_row).optional()?)
        })
        .await
    }

    /// Events that were stored after event `id`, in the order of storing, at most `limit`. Of a sound that several
    /// nodes heard, the event that is shown.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events_stored_after(&self, id: i64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM events WHERE id > ?1 AND deleted_at_ns IS NULL AND same_sound_as IS NULL \
                 ORDER BY id LIMIT {limit}"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([id], from_row)?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    /// What the counts need of the events that match a filter, in order of time. Events that the owner labelled "not a
    /// cat" are left out, and those that are set aside.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tallies(&self, filter: &EventFilter) -> Result<Vec<Tally>, StoreError> {
        let (conditions, values) = filter.to_sql();
        self.read(move |db| {
            let sql = format!(
                "SELECT started_at_ns, coalesce(label, context) FROM events \
                 WHERE {conditions} AND coalesce(label, '') <> 'not_a_cat' \
                 AND NOT {IS_SET_ASIDE} ORDER BY started_at_ns, id"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), |row| {
                Ok(Tally { started_at_ns: row.get(0)?, counts_as: word(row, 1)? })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    /// Sets the owner's label of an event, or removes it (`None`). Other events stay as they are; later ones of the cat
    /// use the label. If the label says that it was no cat, notifications about it that were not delivered yet are not
    /// sent any more. Returns the event, or `None` if there is no such event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn label_event(&self, id: i64, label: Option<OwnerLabel>) -> Result<Option<Event>, StoreError> {
        self.set_label(id, label, None).await
    }

    /// Does what [`Store::label_event`] does; `own_label` is the number of the owner's own label, which goes with the
    /// label `uncertain`. If there is no label with this number, nothing changes, and the result is `None`.
    pub(super) async fn set_label(
        &self,
        id: i64,
        label: Option<OwnerLabel>,
        own_label: Option<i64>,
    ) -> Result<Option<Event>, StoreError> {
        let now_ns = now_ns();
        let labelled = self.write_durably(move |db| {
            let is_no_cat = label == Some(OwnerLabel::NotACat);
            let label = label.map(OwnerLabel::as_str);
            let sql = "UPDATE events SET label = ?2, labelled_at_ns = ?3, own_label = ?4 WHERE id = ?1 \
                       AND deleted_at_ns IS NULL AND (?4 IS NULL OR ?4 IN (SELECT own_labels.id FROM own_labels))";
            if db.execute(sql, params![id, label, label.map(|_| now_ns), own_label])? == 0 {
                return Ok(None);
            }
            let sql = "INSERT INTO event_labels (event_id, label, labelled_at_ns, own_label) VALUES (?1, ?2, ?3, ?4)";
            db.execute(sql, params![id, label, now_ns, own_label])?;
            let withdrawn =
                if is_no_cat { withdraw(db, id, SuppressReason::NotACat, now_ns)? } else { PutIn::default() };
            let sql = format!("SELECT {COLUMNS} FROM events WHERE id = ?1");
            Ok(Some((db.query_row(&sql, [id], from_row)?, withdrawn)))
        });
        let Some((event, withdrawn)) = labelled.await? else { return Ok(None) };
        self.waker().committed(withdrawn);
        self.log_label(event.id, now_ns).await;
        Ok(Some(event))
    }

    /// The latest gaps of a node, or of all nodes, the latest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn gaps(&self, node: Option<&str>, limit: usize) -> Result<Vec<NewGap>, StoreError> {
        let node = node.map(str::to_owned);
        self.read(move |db| {
            let sql = format!(
                "SELECT {}, boot_id, first_sequence, frame_count, reason, detail FROM gaps \
                 WHERE ?1 IS NULL OR {} ORDER BY id DESC LIMIT ?2",
                url_of!("gaps"),
                is_of_node("?1")
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map(params![node, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                Ok(NewGap {
                    node: row.get(0)?,
                    boot_id: row.get::<_, i64>(1)?.cast_unsigned(),
                    first_sequence: row.get::<_, i64>(2)?.cast_unsigned(),
                    frame_count: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
                    reason: word::<GapReason>(row, 4)?,
                    detail: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }
}
