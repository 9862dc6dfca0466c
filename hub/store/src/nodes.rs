//! Which node is where: the ids that nodes have proved, the URLs where they were, and where listening goes on.
//!
//! A node with an id is that id, whatever its URL is. Its events, gaps and watermark belong to the id. A node that
//! proves no id belongs to its URL.

use hub_base::time::now_ns;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::database::Store;
use crate::error::StoreError;
use crate::events::{NoClip, Watermark, which_cat};
use crate::node_columns::ID_OF_BOOT;

/// Boots that are remembered, at most: the ones seen last. A home of 64 nodes that restart daily fills this in two
/// months; a boot that is forgotten is one that the hub has not seen for as long.
const MAX_BOOTS: usize = 4_096;

/// A node as it has just described itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNode {
    /// Its URL.
    pub url: String,
    /// The id that it has proved, 64 hexadecimal digits.
    pub node_id: Option<String>,
    /// The id that it claims, proved or not.
    pub claimed_id: Option<String>,
    /// Its boot id. 0: it has none, as in the original contract.
    pub boot_id: u64,
    /// Samples that it has captured in this boot.
    pub captured_samples: u64,
}

/// What the store knows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownNode {
    /// How far it was heard. `None`: it was never heard.
    HeardUntil(Option<Watermark>),
    /// In this boot, at this URL, it proved to be another node. It does not hold the key of the node that it claims to
    /// be.
    Impostor,
}

/// By what programs that keep a node for years know it, such as Home Assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownBy {
    /// By this URL: the one that it had before it proved its id, or before the hub went by ids.
    Url(String),
    /// By its id, or by that of the first node that it has replaced.
    Id(String),
}

impl Store {
    /// The id that a node has proved in this boot at this URL. `None`: it has proved none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(crate) async fn id_of_boot(&self, url: String, boot_id: u64) -> Result<Option<String>, StoreError> {
        let sql = format!("SELECT {ID_OF_BOOT}");
        self.read(move |db| Ok(db.query_row(&sql, params![url, boot_id.cast_signed()], |row| row.get(0))?)).await
    }

    /// By what a node is known: the one with this id, or without an id the one that used this URL last. `None`: the
    /// store does not know it (yet), or it has proved no id.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn known_by(&self, url: &str, node_id: Option<&str>) -> Result<Option<KnownBy>, StoreError> {
        let (url, node_id) = (url.to_owned(), node_id.map(str::to_owned));
        self.read(move |db| {
            let sql = "SELECT coalesce(device_id, node_id), device_url FROM nodes \
                       WHERE iif(?2 IS NULL, url = ?1, node_id = ?2) ORDER BY seen_at_ns DESC LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| {
                let (id, url) = (row.get(0)?, row.get::<_, Option<String>>(1)?);
                Ok(url.map_or(KnownBy::Id(id), KnownBy::Url))
            };
            Ok(db.prepare_cached(sql)?.query_row(params![url, node_id], read).optional()?)
        })
        .await
    }

    /// Notes where a node is, and tells how far it was heard: in this boot if it was, else in an earlier one. A node
    /// without an id is looked for under its URL, and in this boot under another spelling of its URL and under the id
    /// that it claims: whoever lies about that misses only its own sound. What was stored under its URL before it
    /// proved an id becomes that id's, unless another id was seen there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn see_node(&self, node: SeenNode) -> Result<KnownNode, StoreError> {
        let at = node.clone();
        // Nearly always nothing has changed, and nothing is written.
        if let Some(known) = self.read(move |db| known_as(db, &at)).await? {
            return Ok(known);
        }
        self.write(move |db| {
            if is_impostor(db, &node)? {
                return Ok(KnownNode::Impostor);
            }
            if let Some(id) = &node.node_id {
                settle(db, id, &node)?;
            }
            Ok(KnownNode::HeardUntil(heard_until(db, &node)?))
        })
        .await
    }
}

/// What the store knows, if it need not change.
fn known_as(db: &Connection, node: &SeenNode) -> Result<Option<KnownNode>, StoreError> {
    if is_impostor(db, node)? {
        return Ok(Some(KnownNode::Impostor));
    }
    let Some(id) = &node.node_id else { return Ok(Some(KnownNode::HeardUntil(heard_until(db, node)?))) };
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM nodes WHERE node_id = ?3 AND url = ?1) AND {ID_OF_BOOT} IS ?3 \
         AND NOT EXISTS (SELECT 1 FROM watermarks WHERE node = ?1)"
    );
    let settled: bool = db.query_row(&sql, params![node.url, node.boot_id.cast_signed(), id], |row| row.get(0))?;
    if settled { Ok(Some(KnownNode::HeardUntil(heard_until(db, node)?))) } else { Ok(None) }
}

fn is_impostor(db: &Connection, node: &SeenNode) -> Result<bool, StoreError> {
    let sql = format!("SELECT {ID_OF_BOOT}");
    let proved: Option<String> = db.query_row(&sql, params![node.url, node.boot_id.cast_signed()], |row| row.get(0))?;
    Ok(proved.is_some_and(|proved| node.node_id.as_ref() != Some(&proved)))
}

/// Notes that this id is at this URL, and gives it what was stored under the URL alone.
fn settle(db: &Transaction<'_>, id: &str, node: &SeenNode) -> Result<(), StoreError> {
    let (boot_id, now_ns) = (node.boot_id.cast_signed(), now_ns());
    let is_shared: bool = db.query_row(
        "SELECT EXISTS (SELECT 1 FROM node_boots WHERE url = ?1 AND node_id <> ?2)",
        params![node.url, id],
        |row| row.get(0),
    )?;
    // A node that was heard before it had an id is known by its URL, unless another node is.
    let was_heard = "EXISTS (SELECT 1 FROM watermarks WHERE node = ?2) \
                     OR EXISTS (SELECT 1 FROM events WHERE node = ?2 AND node_id IS NULL)";
    let sql = format!(
        "INSERT INTO nodes (node_id, url, seen_at_ns, device_url) VALUES (?1, ?2, ?3, \
         iif(NOT ?4 AND ({was_heard}) AND NOT EXISTS (SELECT 1 FROM nodes WHERE device_url = ?2), ?2, NULL)) \
         ON CONFLICT (node_id) DO UPDATE SET url = ?2, seen_at_ns = ?3"
    );
    db.execute(&sql, params![id, node.url, now_ns, is_shared])?;
    remember_boot(db, &node.url, boot_id, id, now_ns)?;
    if !is_shared {
        let give = |table| {
            let sql = format!("UPDATE {table} SET node_id = ?2 WHERE node = ?1 AND node_id IS NULL");
            db.execute(&sql, params![node.url, id])
        };
        let given = give("events")?;
        give("gaps")?;
        join_watermarks(db, id, &node.url)?;
        // Otherwise no event is new to the id, and its whole history need not be read.
        if given > 0 {
            join_events(db, id, now_ns)?;
        }
    }
    // What is still to come from the boot before this one (that it is over) belongs to the id too.
    let sql = "SELECT boot_id FROM watermarks WHERE node = ?1 ORDER BY updated_at_ns DESC LIMIT 1";
    if let Some(last) = db.query_row(sql, [id], |row| row.get(0)).optional()? {
        remember_boot(db, &node.url, last, id, now_ns)?;
    }
    db.execute(
        "DELETE FROM node_boots WHERE seen_at_ns < (SELECT seen_at_ns FROM node_boots ORDER BY seen_at_ns DESC \
         LIMIT 1 OFFSET ?1)",
        [i64::try_from(MAX_BOOTS).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

fn remember_boot(db: &Transaction<'_>, url: &str, boot_id: i64, id: &str, now_ns: i64) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO node_boots (url, boot_id, node_id, seen_at_ns) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (url, boot_id) DO NOTHING",
        params![url, boot_id, id, now_ns],
    )?;
    Ok(())
}

/// The watermarks of a URL or of another id become those of the id. Of two of one boot, the one further on counts.
pub(crate) fn join_watermarks(db: &Transaction<'_>, id: &str, former: &str) -> Result<(), StoreError> {
    db.execute(
        "DELETE FROM watermarks WHERE node = ?2 AND EXISTS (SELECT 1 FROM watermarks AS other WHERE other.node = ?1 \
         AND other.boot_id = watermarks.boot_id AND other.settled_sample >= watermarks.settled_sample)",
        [id, former],
    )?;
    db.execute("UPDATE OR REPLACE watermarks SET node = ?1 WHERE node = ?2", [id, former])?;
    Ok(())
}

/// Of events that are stored twice, because their node was heard under two URLs, one stays: one with a label before one
/// without, one with a clip before one without, then the earlier one. Events with a label all stay. The cat that the
/// owner named last for one of them becomes that of all.
fn join_events(db: &Transaction<'_>, id: &str, now_ns: i64) -> Result<(), StoreError> {
    let sql = "SELECT one.id, said.said_cat, said.said_cat_at_ns FROM events AS said JOIN events AS one \
               ON one.node_id = ?1 AND one.boot_id = said.boot_id AND one.start_sample = said.start_sample \
               WHERE said.node_id = ?1 AND said.deleted_at_ns IS NULL AND one.deleted_at_ns IS NULL \
               AND said.said_cat_at_ns > coalesce(one.said_cat_at_ns, 0) ORDER BY said.said_cat_at_ns";
    let mut words = db.prepare(sql)?;
    let words = words.query_map([id], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?)))?;
    for (event, cat, at_ns) in words.collect::<Result<Vec<_>, _>>()? {
        which_cat::put_word(db, event, cat.as_deref(), at_ns)?;
    }
    db.execute(
        "UPDATE events SET deleted_at_ns = ?2, clip_file = NULL, clip_bytes = NULL, clip_start_sample = NULL, \
         clip_samples = NULL, no_clip_reason = coalesce(no_clip_reason, ?3) WHERE label IS NULL AND id IN (SELECT id FROM \
         (SELECT id, row_number() OVER (PARTITION BY boot_id, start_sample ORDER BY label IS NULL, clip_file IS NULL, id) \
         AS place FROM events WHERE node_id = ?1 AND deleted_at_ns IS NULL) WHERE place > 1)",
        params![id, now_ns, NoClip::Expired.as_str()],
    )?;
    // Both may have had one file, which the one that stays still needs.
    db.execute(
        "DELETE FROM clip_removals WHERE file IN (SELECT clip_file FROM events WHERE clip_file IS NOT NULL)",
        [],
    )?;
    Ok(())
}

fn heard_until(db: &Connection, node: &SeenNode) -> Result<Option<Watermark>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Watermark {
            node: node.url.clone(),
            boot_id: row.get::<_, i64>(0)?.cast_unsigned(),
            resume_sequence: row.get::<_, i64>(1)?.cast_unsigned(),
            settled_sample: row.get::<_, i64>(2)?.cast_unsigned(),
        })
    };
    let columns = "SELECT boot_id, resume_sequence, settled_sample FROM watermarks";
    let captured = i64::try_from(node.captured_samples).unwrap_or(i64::MAX);
    if let (None, Some(claimed)) = (&node.node_id, &node.claimed_id) {
        let sql = format!(
            "{columns} WHERE boot_id = ?1 AND settled_sample <= ?2 AND node IN (?3, ?4) \
             ORDER BY settled_sample DESC LIMIT 1"
        );
        let parameters = params![node.boot_id.cast_signed(), captured, node.url, claimed];
        if let Some(furthest) = db.query_row(&sql, parameters, read).optional()? {
            return Ok(Some(furthest));
        }
    }
    let name = node.node_id.as_ref().unwrap_or(&node.url);
    let sql = format!("{columns} WHERE node = ?1 ORDER BY boot_id = ?2 DESC, updated_at_ns DESC LIMIT 1");
    let own = db.query_row(&sql, params![name, node.boot_id.cast_signed()], read).optional()?;
    if node.node_id.is_some() || node.boot_id == 0 {
        return Ok(own);
    }
    // Another URL, where the node was heard since it was heard under this one. A watermark beyond what the node has
    // captured is not of this node.
    let sql = format!(
        "{columns} WHERE boot_id = ?1 AND settled_sample <= ?2 AND node NOT IN (SELECT node_id FROM nodes) \
         AND NOT EXISTS (SELECT 1 FROM watermarks AS own WHERE own.node = ?3 AND own.boot_id = ?1 \
         AND (own.updated_at_ns >= watermarks.updated_at_ns OR own.settled_sample >= watermarks.settled_sample)) \
         ORDER BY settled_sample DESC LIMIT 1"
    );
    let other = db.query_row(&sql, params![node.boot_id.cast_signed(), captured, node.url], read).optional()?;
    Ok(other.or(own))
}

#[cfg(test)]
mod tests;
