//! Each cat's own context classifier, learnt from the stored labels.
//!
//! New events use the labels. What becomes of events that are stored already is in [`super::reevaluate`].
//!
//! A cat is identified by its name; events without a cat's name belong to their node. The classifier does not learn
//! from labels of events that another network heard, before an update, until the hub has analysed their clips again
//! (`hub-listen`'s `rehear`).

use rusqlite::{Connection, Params, Row, named_params, params};
use sound::context::Features;
use sound::household::{Household, MOST_LABELS};

use super::event::{COLUMNS, Event, OwnerLabel, from_row};
use crate::database::Store;
use crate::error::StoreError;
use crate::words::word;

/// SQL condition: the classifier learns from this label.
const TEACHES: &str = "label IN ('waiting_for_food', 'isolation', 'brushing')";

/// SQL condition: the event is of the same cat as one with `:cat` and `:node`.
pub(super) const SAME_CAT: &str = "cat = :cat AND (cat <> '' OR (node_id IS NULL AND node = :node) \
                        OR node_id IN (SELECT node_id FROM nodes WHERE url = :node))";

/// SQL condition: this network, whose mark is `:mark`, heard the event, and found a vocalisation in it.
pub(super) const HAS_FEATURES: &str = "substr(features, 1, 8) = :mark AND length(features) > 8";

/// SQL condition: this network, whose mark is `:mark`, has not analysed the clip of the event yet.
const IS_TO_BE_HEARD_AGAIN: &str = "clip_file IS NOT NULL AND (features IS NULL OR substr(features, 1, 8) <> :mark)";

impl Store {
    /// The classifier that the labels of a cat teach.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn household(&self, cat: &str) -> Result<Household, StoreError> {
        let cat = cat.to_owned();
        self.read(move |db| learn(db, &cat, "")).await
    }

    /// Events with a clip and a label from which the hub could learn if this network had heard them. The latest
    /// labels come first. Returns `limit` events at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn labelled_of_another_network(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.read(move |db| {
            // The index of labelled events is small.
            let sql = format!(
                "SELECT {COLUMNS} FROM events INDEXED BY events_labelled WHERE label IS NOT NULL \
                 AND deleted_at_ns IS NULL AND {IS_TO_BE_HEARD_AGAIN} \
                 ORDER BY labelled_at_ns DESC, id DESC LIMIT :limit"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows = statement.query_map(named_params! { ":mark": Features::mark(), ":limit": limit }, from_row)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Stores the features that this network found in events' clips, or `None` where it found no vocalisation. Events
    /// that were deleted in the meantime are skipped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_reheard(&self, heard: Vec<(i64, Option<Features>)>) -> Result<(), StoreError> {
        self.write(move |db| {
            let mut update =
                db.prepare_cached("UPDATE events SET features = ?2 WHERE id = ?1 AND deleted_at_ns IS NULL")?;
            for (id, features) in heard {
                // The mark alone means that the clip was analysed, and no vocalisation was found.
                let features = features.map_or_else(|| Features::mark().to_vec(), |features| features.to_bytes());
                update.execute(params![id, features])?;
            }
            Ok(())
        })
        .await
    }
}

/// Whether labels of the cat are left from which the hub could learn if this network had heard their events.
pub(super) fn is_to_hear_again(db: &Connection, cat: &str, node: &str) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM events INDEXED BY events_labelled WHERE {SAME_CAT} AND label IS NOT NULL \
         AND deleted_at_ns IS NULL AND {IS_TO_BE_HEARD_AGAIN})"
    );
    let parameters = named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() };
    Ok(db.prepare_cached(&sql)?.query_row(parameters, |row| row.get(0))?)
}

/// Does what [`Store::household`] does; for events without a cat's name, `node` identifies the cat.
pub(super) fn learn(db: &Connection, cat: &str, node: &str) -> Result<Household, StoreError> {
    let sql = format!(
        "SELECT features, label FROM events WHERE {SAME_CAT} AND deleted_at_ns IS NULL AND {HAS_FEATURES} \
         AND {TEACHES} ORDER BY labelled_at_ns DESC, id DESC LIMIT {MOST_LABELS}"
    );
    let parameters = named_params! { ":cat": cat, ":node": node, ":mark": Features::mark() };
    let labelled = sounds(db, &sql, parameters, |row| word(row, 1))?;
    let of_contexts = labelled.into_iter().filter_map(|(features, label)| match label {
        OwnerLabel::Context(context) => Some((features, context)),
        OwnerLabel::NotACat => None,
    });
    Ok(Household::learn(of_contexts.collect()))
}

/// The sounds that a query finds, in its order. Its first column has the features, and `about` reads the others. Sounds
/// that another network heard are left out.
pub(super) fn sounds<T>(
    db: &Connection,
    sql: &str,
    parameters: impl Params,
    about: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<(Features, T)>, StoreError> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut sounds = Vec::new();
    while let Some(row) = rows.next()? {
        let features = Features::from_bytes(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
        let about = about(row)?;
        sounds.extend(features.map(|features| (features, about)));
    }
    Ok(sounds)
}
