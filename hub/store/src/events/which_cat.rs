//! Which of several cats an event was: the cat that its owner named, otherwise the cat of its node.
//!
//! The row has the cat that the node announced in `cat`, and the cat that the owner named in `said_cat`. The owner
//! names the cat of a sound: all events of the same sound get the name. The classifier learns from the node's cat as
//! before (see [`super::learning`]), because that is all that is known of an event when it is stored.

use hub_base::text::clean;
use hub_base::time::now_ns;
use rusqlite::{OptionalExtension, Transaction, params};

use super::event::{COLUMNS, Event, from_row};
use crate::database::{Store, overwrite_deleted};
use crate::error::StoreError;
use crate::node_columns::is_of_node;
use crate::notifications::follow_cat;

/// SQL expression: the cat of an event, as [`Event::cat`]. Filters, counts and deletions use it.
pub(crate) const OF_CAT: &str = "coalesce(said_cat, cat)";

/// Longest name of a cat in a request, in bytes. What nodes announce is shorter.
pub const MAX_CAT_BYTES: usize = 1_024;

/// Most names that [`Store::named_cats`] returns.
pub const MAX_NAMED_CATS: usize = 100;

/// The name is not one that a cat can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name has 1 to {MAX_CAT_BYTES} bytes in one line")]
pub struct CatNameError;

/// A cat that owners named for events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCat {
    /// Its name.
    pub name: String,
    /// For how many events owners named it. Events of one sound count once.
    pub events: u64,
}

/// What [`Store::say_cat`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidCat {
    /// The event that it was asked about, as it is now.
    pub event: Event,
    /// All events that changed, as they are now. The event is among them, unless its owner had said the same before.
    pub changed: Vec<Event>,
}

/// The name of a cat as it is stored: without spaces before and after.
///
/// # Errors
/// If it is empty, longer than [`MAX_CAT_BYTES`], or has control characters.
pub fn checked_cat(name: &str) -> Result<String, CatNameError> {
    let name = name.trim();
    let is_valid = !name.is_empty() && clean(name, MAX_CAT_BYTES) == name;
    if is_valid { Ok(name.to_owned()) } else { Err(CatNameError) }
}

impl Store {
    /// Names the cat of an event and of all events of the same sound, or takes the name back (`None`): then each is of
    /// its node's cat again. Notifications about them that are made later, or wait for their delivery, name the cat.
    /// The inner error: the name is invalid. `None`: there is no such event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn say_cat(
        &self,
        id: i64,
        cat: Option<&str>,
    ) -> Result<Result<Option<SaidCat>, CatNameError>, StoreError> {
        let cat = match cat.map(checked_cat).transpose() {
            Ok(cat) => cat,
            Err(error) => return Ok(Err(error)),
        };
        let now_ns = now_ns();
        let said = self.write_durably(move |db| {
            // A name that is taken back is overwritten in the file.
            overwrite_deleted(db, true)?;
            let done = put_word(db, id, cat.as_deref(), now_ns);
            overwrite_deleted(db, false)?;
            done
        });
        let said = said.await?;
        for event in said.iter().flat_map(|said| &said.changed) {
            self.log_label(event.id, now_ns).await;
        }
        Ok(Ok(said))
    }

    /// The cats that owners named for events of this node, or of all nodes: those of the most events first, at most
    /// [`MAX_NAMED_CATS`]. `node`: as in [`EventFilter`](super::EventFilter).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn named_cats(&self, node: Option<&str>) -> Result<Vec<NamedCat>, StoreError> {
        let node = node.map(str::to_owned);
        self.read(move |db| {
            let sql = format!(
                "SELECT said_cat, count(DISTINCT coalesce(same_sound_as, id)) AS number FROM events \
                 WHERE said_cat IS NOT NULL AND deleted_at_ns IS NULL AND (?1 IS NULL OR {}) \
                 GROUP BY said_cat ORDER BY number DESC, said_cat LIMIT {MAX_NAMED_CATS}",
                is_of_node("?1")
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([node], |row| {
                Ok(NamedCat { name: row.get(0)?, events: row.get::<_, i64>(1)?.cast_unsigned() })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }
}

/// Stores the name that the owner gave at this time. `None`: there is no such event.
pub(crate) fn put_word(
    db: &Transaction<'_>,
    id: i64,
    cat: Option<&str>,
    at_ns: i64,
) -> Result<Option<SaidCat>, StoreError> {
    let sql = "SELECT coalesce(same_sound_as, id) FROM events WHERE id = ?1 AND deleted_at_ns IS NULL";
    let Some(shown) = db.query_row(sql, [id], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(None);
    };
    let sql = "UPDATE events SET said_cat = ?2, said_cat_at_ns = ?3 WHERE (id = ?1 OR same_sound_as = ?1) \
               AND deleted_at_ns IS NULL AND said_cat IS NOT ?2 RETURNING id";
    let mut update = db.prepare(sql)?;
    let ids = update.query_map(params![shown, cat, at_ns], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let one = |id: i64| db.query_row(&format!("SELECT {COLUMNS} FROM events WHERE id = ?1"), [id], from_row);
    let changed = ids.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    for event in &changed {
        follow_cat(db, &event.subject())?;
    }
    Ok(Some(SaidCat { event: one(id)?, changed }))
}

/// Gives a new event the cat that the owner named for its sound. `shown_before`: the event that was shown for the sound
/// so far.
pub(super) fn follow_sound(db: &Transaction<'_>, id: i64, shown_before: i64) -> Result<(), StoreError> {
    let sql = "UPDATE events SET said_cat = shown.said_cat, said_cat_at_ns = shown.said_cat_at_ns \
               FROM events AS shown WHERE events.id = ?1 AND shown.id = ?2 AND shown.said_cat IS NOT NULL";
    db.prepare_cached(sql)?.execute([id, shown_before])?;
    Ok(())
}

#[cfg(test)]
mod tests;
