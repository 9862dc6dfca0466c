//! Moves long histories from a node whose key is lost to the node that replaces it, in batches, so that no other write
//! waits for long.
//!
//! A history that does not fit into one batch has a row in the table `moved_histories`. The process that owns the store
//! works it off ([`Store::move_histories`]), also after a restart: each batch finds what is still there. Until the last
//! batch, an event belongs to the one node or to the other.

use std::time::Duration;

use daemon::shutdown::CancellationToken;
use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tracing::{info, warn};

use crate::database::Store;
use crate::error::StoreError;

/// Events and gaps that one transaction moves at most, so that no other write waits for long.
pub(crate) const BATCH: usize = 200;

/// Pause after each batch, so that live listening and other processes have the database.
const PAUSE: Duration = Duration::from_millis(20);

/// Wait after a failure.
const AGAIN: Duration = Duration::from_secs(30);

/// Histories that have moved and are remembered. The oldest are forgotten.
const REMEMBERED: i64 = 64;

/// How far a long history has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryMove {
    /// The URL of the node that gets it.
    pub url: String,
    /// Events that have moved so far, without deleted ones.
    pub events: u64,
    /// Clips of these events.
    pub clips: u64,
    /// Labels of these events.
    pub labels: u64,
    /// Events that are still to move.
    pub events_left: u64,
    /// Whether all has moved.
    pub is_done: bool,
}

/// What one batch has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Events, without deleted ones.
    pub(crate) events: u64,
    /// Clips of these events.
    pub(crate) clips: u64,
    /// Labels of these events.
    pub(crate) labels: u64,
    /// Nothing is left to move.
    pub(crate) is_last: bool,
}

impl Store {
    /// Works until `stop` is cancelled. A history that had not moved completely before the last stop goes on moving.
    /// Only the process that owns the store calls it.
    pub async fn move_histories(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                moved = self.move_waiting_histories() => match moved {
                    Ok(()) => {}
                    Err(error) => {
                        warn!(%error, retry_s = AGAIN.as_secs(), "the history of a replaced node waits");
                        tokio::select! {
                            () = tokio::time::sleep(AGAIN) => continue,
                            () = stop.cancelled() => return,
                        }
                    }
                },
                // What is under way is one transaction, and ends by itself.
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = self.move_wish().notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// How far the history of a node with this id has moved to the node that replaces it. `None`: it never moved in
    /// several batches, or that is forgotten.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history_move(&self, old: String) -> Result<Option<HistoryMove>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT coalesce((SELECT url FROM nodes WHERE node_id = new), new), events, clips, labels, \
                       ended_at_ns IS NOT NULL, \
                       iif(ended_at_ns IS NULL, (SELECT count(*) FROM events WHERE node_id = old), 0) \
                       FROM moved_histories WHERE old = ?1";
            let read = |row: &rusqlite::Row<'_>| {
                let count = |column| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(column)?.cast_unsigned());
                Ok(HistoryMove {
                    url: row.get(0)?,
                    events: count(1)?,
                    clips: count(2)?,
                    labels: count(3)?,
                    is_done: row.get(4)?,
                    events_left: count(5)?,
                })
            };
            Ok(db.query_row(sql, [old], read).optional()?)
        })
        .await
    }

    /// Moves all that waits.
    async fn move_waiting_histories(&self) -> Result<(), StoreError> {
        while let Some((old, is_last)) = self.move_some_history().await? {
            if is_last && let Some(HistoryMove { url, events, .. }) = self.history_move(old.clone()).await? {
                info!(old, node = url, events, "the history of a replaced node has moved");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Moves one batch. Returns from which node, and whether nothing is left of its history. `None`: nothing waits.
    async fn move_some_history(&self) -> Result<Option<(String, bool)>, StoreError> {
        self.write(|db| {
            let sql = "SELECT old, new FROM moved_histories WHERE ended_at_ns IS NULL ORDER BY begun_at_ns LIMIT 1";
            let waiting = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((old, new)): Option<(String, String)> = waiting else { return Ok(None) };
            let Batch { events, clips, labels, is_last } = move_batch(db, &old, &new)?;
            let [events, clips, labels] = [events, clips, labels].map(u64::cast_signed);
            db.execute(
                "UPDATE moved_histories SET events = events + ?2, clips = clips + ?3, labels = labels + ?4, \
                 ended_at_ns = iif(?5, ?6, NULL) WHERE old = ?1",
                params![old, events, clips, labels, is_last, now_ns()],
            )?;
            if is_last {
                forget_node(db, &old)?;
            }
            Ok(Some((old, is_last)))
        })
        .await
    }
}

/// Notes that the rest of a history is to move, and forgets the oldest that have moved.
pub(crate) fn begin(db: &Transaction<'_>, old: &str, new: &str, first: Batch) -> Result<(), StoreError> {
    let [events, clips, labels] = [first.events, first.clips, first.labels].map(u64::cast_signed);
    db.execute(
        "INSERT OR REPLACE INTO moved_histories (old, new, events, clips, labels, begun_at_ns) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![old, new, events, clips, labels, now_ns()],
    )?;
    db.execute(
        "DELETE FROM moved_histories WHERE ended_at_ns < (SELECT ended_at_ns FROM moved_histories \
         WHERE ended_at_ns IS NOT NULL ORDER BY ended_at_ns DESC LIMIT 1 OFFSET ?1)",
        [REMEMBERED - 1],
    )?;
    Ok(())
}

/// The ids of the nodes whose history is moving now: from the first of a pair to the second. Only pairs with one of
/// these two.
pub(crate) fn moving(db: &Connection, one: &str, other: &str) -> Result<Option<(String, String)>, StoreError> {
    let sql = "SELECT old, new FROM moved_histories \
               WHERE ended_at_ns IS NULL AND (old IN (?1, ?2) OR new IN (?1, ?2)) LIMIT 1";
    Ok(db.query_row(sql, [one, other], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Moves at most [`BATCH`] events and gaps.
pub(crate) fn move_batch(db: &Transaction<'_>, old: &str, new: &str) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
    let mut find = db.prepare_cached(
        "SELECT id, deleted_at_ns IS NULL, clip_file IS NOT NULL, label IS NOT NULL FROM events WHERE node_id = ?1 \
         LIMIT ?2",
    )?;
    let found = find.query_map(params![old, limit], |row| {
        Ok((row.get::<_, i64>(0)?, [row.get::<_, bool>(1)?, row.get(2)?, row.get(3)?]))
    })?;
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let mut give = db.prepare_cached("UPDATE events SET node_id = ?2 WHERE id = ?1")?;
    for (id, [is_kept, has_clip, has_label]) in &found {
        give.execute(params![id, new])?;
        if *is_kept {
            batch.events += 1;
            batch.clips += u64::from(*has_clip);
            batch.labels += u64::from(*has_label);
        }
    }
    let room = BATCH.saturating_sub(found.len());
    let gaps = db.execute(
        "UPDATE gaps SET node_id = ?2 WHERE id IN (SELECT id FROM gaps WHERE node_id = ?1 LIMIT ?3)",
        params![old, new, i64::try_from(room).unwrap_or(i64::MAX)],
    )?;
    batch.is_last = gaps < room;
    Ok(batch)
}

/// Forgets where a node was whose history has moved.
pub(crate) fn forget_node(db: &Transaction<'_>, old: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM nodes WHERE node_id = ?1", [old])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::events::{EventFilter, NoClip};
    use crate::testing::{KITCHEN, SHED, event, long_id as id, put_with, replacement, with_long_history};
    use crate::{Access, Replaced, Replacement};

    /// More than three batches.
    const EVENTS: u64 = 3 * BATCH as u64 + 50;

    /// How many events the API shows for a node, and how many rows of gaps it has.
    async fn shown(store: &Store, node: &str) -> (usize, i64) {
        let filter = EventFilter { node: Some(node.into()), ..EventFilter::default() };
        let events = store.events(&filter, None, 10_000).await.unwrap().events.len();
        let node = node.to_owned();
        let gaps = "SELECT count(*) FROM gaps WHERE node_id = ?1";
        (events, store.read(move |db| Ok(db.query_row(gaps, [node], |row| row.get(0))?)).await.unwrap())
    }

    #[tokio::test]
    async fn long_history_moves_in_batches_also_after_a_stop_in_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        let store = with_long_history(dir.path(), EVENTS).await;
        store.admit(id("a"), "page").await.unwrap();
        let begun = store.replace_node(replacement("a", "b")).await.unwrap();
        assert!(matches!(begun, Replaced::Begun { admitted: true }), "{begun:?}");
        // What concerns trust is done at once.
        let admitted = store.admitted().await.unwrap();
        assert_eq!(admitted.keys.into_iter().collect::<Vec<_>>(), [id("b")]);
        assert_eq!(admitted.ids.into_iter().collect::<Vec<_>>(), [(SHED.to_owned(), id("b"))]);
        // Another replacement of one of the two waits. This one goes on.
        let other = store.replace_node(replacement("b", "c")).await.unwrap();
        assert_eq!(other, Replaced::Moving { old: id("a"), new: id("b") });
        assert!(matches!(store.replace_node(replacement("a", "b")).await.unwrap(), Replaced::Begun { .. }));

        let all = usize::try_from(EVENTS).unwrap();
        for moved in [1, 2] {
            let (old, new) = (shown(&store, &id("a")).await, shown(&store, &id("b")).await);
            assert_eq!((old.0 + new.0, new.0), (all, moved * BATCH), "each event is under one node");
            assert_eq!((shown(&store, KITCHEN).await.0, shown(&store, SHED).await.0), (old.0, new.0));
            let said = store.history_move(id("a")).await.unwrap().unwrap();
            assert_eq!((said.events, said.events_left), (new.0 as u64, old.0 as u64));
            assert!(!said.is_done && said.url == SHED && said.clips == 1 && said.labels == 1, "{said:?}");
            store.move_some_history().await.unwrap();
        }
        // What is stored late of the old node's boot is the new node's.
        put_with(&store, event(KITCHEN, 160_000_000), Err(NoClip::Disabled)).await;

        // The hub is stopped and started.
        drop(store);
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let stop = CancellationToken::new();
        let moving = tokio::spawn(store.clone().move_histories(stop.clone()));
        let deadline = Instant::now() + Duration::from_secs(60);
        let done = loop {
            let said = store.history_move(id("a")).await.unwrap().unwrap();
            if said.is_done {
                break said;
            }
            assert!(Instant::now() < deadline, "{said:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let wanted =
            HistoryMove { url: SHED.into(), events: EVENTS, clips: 1, labels: 1, events_left: 0, is_done: true };
        assert_eq!(done, wanted, "nothing is counted twice");
        assert_eq!(shown(&store, &id("b")).await, (all + 1, EVENTS.cast_signed()));
        assert_eq!(shown(&store, &id("a")).await, (0, 0));
        assert_eq!(store.known_ids().await.unwrap(), [(id("b"), SHED.to_owned())]);

        // The task that moves takes up the next history without a restart.
        let next = Replacement { new_url: KITCHEN.into(), ..replacement("b", "c") };
        assert!(matches!(store.replace_node(next).await.unwrap(), Replaced::Begun { .. }));
        while !store.history_move(id("b")).await.unwrap().unwrap().is_done {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(shown(&store, &id("c")).await.0, all + 1);
        stop.cancel();
        moving.await.unwrap();
    }
}
