//! A node whose key is lost, and the node that replaces it: the history of the one becomes that of the other.

use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::admitted::MAX_ADMITTED;
use crate::database::Store;
use crate::error::StoreError;
use crate::moved_history::{begin, forget_node, move_batch, moving};
use crate::nodes::join_watermarks;

/// A node that has replaced another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The id of the node whose key is lost, 64 hexadecimal digits.
    pub old: String,
    /// The id of the node that replaces it.
    pub new: String,
    /// The URL of the node that replaces it.
    pub new_url: String,
    /// Do it also if both were heard at the same time.
    pub force: bool,
}

/// What became of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// The history has moved.
    Done(Moved),
    /// The history is long: it moves in batches, and [`Store::history_move`] tells how far it is. All else is done.
    Begun {
        /// Whether the admission has moved.
        admitted: bool,
    },
    /// The history of one of the two nodes still moves from or to another one. Nothing has changed.
    Moving {
        /// From the node with this id.
        old: String,
        /// To the node with this id.
        new: String,
    },
    /// Both were heard at the same time, so the one did not replace the other. Nothing has changed.
    HeardTogether,
}

/// What has moved from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Events, without deleted ones.
    pub events: u64,
    /// Clips of these events.
    pub clips: u64,
    /// Labels of these events.
    pub labels: u64,
    /// Whether the admission has moved too. `false`: the old node was not admitted, or the new one is paired.
    pub admitted: bool,
}

impl Store {
    /// The ids that nodes have proved, each with the URL that the node used last. Nodes of which only events are known
    /// come after the others.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn known_ids(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|db| {
            let sql = "SELECT node_id, url FROM nodes UNION ALL SELECT node_id, min(node) FROM events \
                       WHERE node_id IS NOT NULL AND node_id NOT IN (SELECT node_id FROM nodes) GROUP BY node_id";
            let mut all = db.prepare(sql)?;
            Ok(all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Moves the history of a node whose key is lost to the node that replaces it: events with their clips and labels,
    /// gaps, watermarks, the admission, and what other programs know the node by. The old key is not trusted any more:
    /// its pairing and its admission end. All this is one transaction, except that of a long history only some events
    /// are moved, and [`Store::move_histories`] moves the others. If it is repeated meanwhile, it changes nothing.
    /// Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn replace_node(&self, replacement: Replacement) -> Result<Replaced, StoreError> {
        let Replacement { old, new, .. } = replacement.clone();
        let (first, second) = (old.clone(), new.clone());
        // It reads the whole history, so it is not within the transaction.
        let before = self.read(move |db| {
            let under_way = moving(db, &first, &second)?;
            Ok((under_way.is_none() && were_heard_together(db, &first, &second)?, under_way))
        });
        let (together, under_way) = before.await?;
        if let Some((from, to)) = under_way {
            let is_this = (&from, &to) == (&old, &new);
            let elsewhere = Replaced::Moving { old: from, new: to };
            return Ok(if is_this { Replaced::Begun { admitted: false } } else { elsewhere });
        }
        if together && !replacement.force {
            return Ok(Replaced::HeardTogether);
        }
        let (replaced, by) = self.write_durably(move |db| move_history(db, &replacement)).await?;
        if matches!(replaced, Replaced::Begun { .. }) {
            self.move_wish().notify_one();
        }
        if matches!(replaced, Replaced::Done(_) | Replaced::Begun { .. }) {
            self.log_admissions(vec![old], None).await;
            if let Some(by) = by {
                self.log_admissions(vec![new], Some(by)).await;
            }
        }
        Ok(replaced)
    }
}

/// Whether an event of the new node began before the last one of the old node.
fn were_heard_together(db: &Connection, old: &str, new: &str) -> Result<bool, StoreError> {
    let sql = "SELECT (SELECT min(started_at_ns) FROM events WHERE node_id = ?2) \
               < (SELECT max(started_at_ns) FROM events WHERE node_id = ?1)";
    let together: Option<bool> = db.query_row(sql, [old, new], |row| row.get(0))?;
    Ok(together.unwrap_or(false))
}

/// Returns what became of it, and who admitted the new node by admitting the old one.
fn move_history(db: &Transaction<'_>, replacement: &Replacement) -> Result<(Replaced, Option<String>), StoreError> {
    let Replacement { old, new, new_url, .. } = replacement;
    // Another command may have been quicker.
    if let Some((from, to)) = moving(db, old, new)? {
        return Ok((Replaced::Moving { old: from, new: to }, None));
    }
    // What is still to come from the old node's boots is the new node's, so no event is added to the old one.
    db.execute("UPDATE node_boots SET node_id = ?2 WHERE node_id = ?1", [old, new])?;
    let first = move_batch(db, old, new)?;
    let mut moved = Moved { events: first.events, clips: first.clips, labels: first.labels, admitted: false };
    join_watermarks(db, new, old)?;
    db.execute(
        "INSERT INTO nodes (node_id, url, seen_at_ns) VALUES (?1, ?2, ?3) ON CONFLICT (node_id) DO NOTHING",
        params![new, new_url, now_ns()],
    )?;
    db.execute(
        "UPDATE nodes SET (device_url, device_id) = \
         (SELECT device_url, coalesce(device_id, node_id) FROM nodes WHERE node_id = ?1) \
         WHERE node_id = ?2 AND EXISTS (SELECT 1 FROM nodes WHERE node_id = ?1)",
        [old, new],
    )?;
    if first.is_last {
        forget_node(db, old)?;
    } else {
        begin(db, old, new, first)?;
    }
    db.execute("DELETE FROM paired_nodes WHERE node_id = ?1", [old])?;
    let mut admission = db.prepare("DELETE FROM admitted_nodes WHERE key = ?1 RETURNING admitted_by")?;
    let by: Option<String> = admission.query_row([old], |row| row.get(0)).optional()?;
    if let Some(by) = &by {
        let admitted = db.execute(
            "INSERT OR IGNORE INTO admitted_nodes (key, admitted_at_ns, admitted_by) SELECT ?1, ?2, ?3 \
             WHERE NOT EXISTS (SELECT 1 FROM paired_nodes WHERE node_id = ?1) \
             AND (SELECT count(*) FROM admitted_nodes) < ?4",
            params![new, now_ns(), by, i64::try_from(MAX_ADMITTED).unwrap_or(i64::MAX)],
        )?;
        moved.admitted = admitted > 0;
    }
    let admitted = moved.admitted;
    let replaced = if first.is_last { Replaced::Done(moved) } else { Replaced::Begun { admitted } };
    Ok((replaced, by.filter(|_| admitted)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventFilter, NoClip, OwnerLabel, Progress, Watermark};
    use crate::testing::{clip_of, event, put_with};
    use crate::{Access, KnownBy, KnownNode, PairedNode, SeenNode};

    const KITCHEN: &str = "http://kitchen:1";
    const SHED: &str = "http://shed:1";

    fn id(digit: &str) -> String {
        digit.repeat(64)
    }

    fn seen(url: &str, digit: &str, boot_id: u64) -> SeenNode {
        SeenNode { url: url.into(), node_id: Some(id(digit)), claimed_id: None, boot_id, captured_samples: 100_000 }
    }

    fn replacement(old: &str, new: &str, new_url: &str) -> Replacement {
        Replacement { old: id(old), new: id(new), new_url: new_url.into(), force: false }
    }

    async fn count(store: &Store, node: &str) -> usize {
        let filter = EventFilter { node: Some(node.into()), ..EventFilter::default() };
        store.events(&filter, None, 100).await.unwrap().events.len()
    }

    /// A store with a node of id aaa… in the kitchen, which was heard: two events, one with a clip and a label.
    async fn with_history(dir: &std::path::Path) -> Store {
        let store = Store::open(dir, Access::Keeper).unwrap();
        // Its boot is that of the made-up events.
        store.see_node(seen(KITCHEN, "a", u64::MAX - 3)).await.unwrap();
        let first = event(KITCHEN, 16_000);
        let clip = clip_of(&first);
        let labelled = put_with(&store, first, Ok(clip)).await;
        store.label_event(labelled.id, Some(OwnerLabel::NotACat)).await.unwrap();
        put_with(&store, event(KITCHEN, 40_000), Err(NoClip::Disabled)).await;
        store
    }

    #[tokio::test]
    async fn history_moves_to_the_node_that_replaces_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = with_history(dir.path()).await;
        store.admit(id("a"), "page").await.unwrap();
        store.see_node(seen(SHED, "b", 5)).await.unwrap();
        let later = event(SHED, 80_000);
        put_with(&store, crate::events::NewEvent { boot_id: 5, ..later }, Err(NoClip::Disabled)).await;
        let mark = Watermark { node: SHED.into(), boot_id: 5, resume_sequence: 275, settled_sample: 88_000 };
        store.commit_progress(vec![Progress { watermark: mark, gaps: vec![] }]).await.unwrap();

        let done = store.replace_node(replacement("a", "b", SHED)).await.unwrap();
        assert_eq!(done, Replaced::Done(Moved { events: 2, clips: 1, labels: 1, admitted: true }));
        drop(store);
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert_eq!((count(&store, &id("b")).await, count(&store, &id("a")).await), (3, 0));
        assert_eq!(count(&store, SHED).await, 3, "the history is found by the new URL");
        let admitted = store.admitted().await.unwrap();
        assert_eq!(admitted.keys.into_iter().collect::<Vec<_>>(), [id("b")]);
        assert_eq!(admitted.ids.into_iter().collect::<Vec<_>>(), [(SHED.to_owned(), id("b"))]);
        assert_eq!(store.known_by(SHED, Some(&id("b"))).await.unwrap(), Some(KnownBy::Id(id("a"))));
        // The new node goes on where it was itself, and the boot of the old one is no other node's.
        let KnownNode::HeardUntil(Some(mark)) = store.see_node(seen(SHED, "b", 5)).await.unwrap() else {
            panic!("not heard")
        };
        assert_eq!(mark.boot_id, 5);
        assert_eq!(store.see_node(seen(KITCHEN, "a", u64::MAX - 3)).await.unwrap(), KnownNode::Impostor);
        // What is stored late of the old boot belongs to the new node too.
        let mark =
            Watermark { node: KITCHEN.into(), boot_id: u64::MAX - 3, resume_sequence: 900, settled_sample: 288_000 };
        store.commit_progress(vec![Progress { watermark: mark, gaps: vec![] }]).await.unwrap();
        put_with(&store, event(KITCHEN, 120_000), Err(NoClip::Disabled)).await;
        assert_eq!(count(&store, &id("b")).await, 4);
        // The log of admissions says the same.
        assert_eq!(store.follow_admission_log().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nodes_that_were_heard_at_the_same_time_are_joined_by_force_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = with_history(dir.path()).await;
        store.see_node(seen(SHED, "b", 5)).await.unwrap();
        let amid = crate::events::NewEvent { boot_id: 5, ..event(SHED, 30_000) };
        put_with(&store, amid, Err(NoClip::Disabled)).await;
        let careful = replacement("a", "b", SHED);
        assert_eq!(store.replace_node(careful.clone()).await.unwrap(), Replaced::HeardTogether);
        assert_eq!((count(&store, &id("b")).await, count(&store, &id("a")).await), (1, 2));
        let forced = store.replace_node(Replacement { force: true, ..careful }).await.unwrap();
        assert_eq!(forced, Replaced::Done(Moved { events: 2, clips: 1, labels: 1, admitted: false }));
        assert_eq!(count(&store, &id("b")).await, 3);
    }

    #[tokio::test]
    async fn lost_key_is_trusted_no_longer_and_a_paired_node_needs_no_admission() {
        let dir = tempfile::tempdir().unwrap();
        let store = with_history(dir.path()).await;
        store.admit(id("a"), "page").await.unwrap();
        let paired = |url: &str, digit: &str| PairedNode { url: url.into(), node_id: id(digit), key: id(digit) };
        store.pair_node(paired(KITCHEN, "a")).await.unwrap();
        store.pair_node(paired(SHED, "b")).await.unwrap();
        // It was never heard.
        let done = store.replace_node(replacement("a", "b", SHED)).await.unwrap();
        assert_eq!(done, Replaced::Done(Moved { events: 2, clips: 1, labels: 1, admitted: false }));
        assert_eq!(store.paired_nodes().await.unwrap(), [paired(SHED, "b")]);
        assert!(store.admitted().await.unwrap().keys.is_empty());
        assert_eq!(store.known_ids().await.unwrap(), [(id("b"), SHED.to_owned())]);
    }
}
