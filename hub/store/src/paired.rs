//! The nodes that the hub is paired with.

use hub_base::time::now_ns;
use rusqlite::params;

use crate::database::Store;
use crate::error::StoreError;

/// Most paired nodes that are kept. A node beyond that is not paired.
pub const MAX_PAIRED: usize = 256;

/// A node that the hub is paired with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PairedNode {
    /// Its URL, which starts with `http://` as those of all nodes do, although the connection is encrypted.
    pub url: String,
    /// Its id, 64 hexadecimal digits.
    pub node_id: String,
    /// Fingerprint of its key, 64 hexadecimal digits. It is the id until the node changes its key.
    pub key: String,
}

impl Store {
    /// The paired nodes, in the order in which they were paired.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn paired_nodes(&self) -> Result<Vec<PairedNode>, StoreError> {
        self.read(|db| {
            let mut all = db.prepare("SELECT url, node_id, key FROM paired_nodes ORDER BY paired_at_ns, node_id")?;
            let read =
                |row: &rusqlite::Row<'_>| Ok(PairedNode { url: row.get(0)?, node_id: row.get(1)?, key: row.get(2)? });
            Ok(all.query_map([], read)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Stores a paired node, in place of an earlier pairing with its id or at its URL. Returns whether it is stored:
    /// `false` if there are [`MAX_PAIRED`] already. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pair_node(&self, node: PairedNode) -> Result<bool, StoreError> {
        self.write_durably(move |db| {
            db.execute("DELETE FROM paired_nodes WHERE node_id = ?1 OR url = ?2", params![node.node_id, node.url])?;
            let stored = db.execute(
                "INSERT INTO paired_nodes (node_id, key, url, paired_at_ns) SELECT ?1, ?2, ?3, ?4 \
                 WHERE (SELECT count(*) FROM paired_nodes) < ?5",
                params![node.node_id, node.key, node.url, now_ns(), i64::try_from(MAX_PAIRED).unwrap_or(i64::MAX)],
            )?;
            Ok(stored == 1)
        })
        .await
    }

    /// The paired node with this id has the key `new` from now on, if it had `old`. Returns whether it had. Survives a
    /// power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_node_key(&self, node_id: String, old: String, new: String) -> Result<bool, StoreError> {
        self.write_durably(move |db| {
            let change = "UPDATE paired_nodes SET key = ?3 WHERE node_id = ?1 AND key = ?2";
            Ok(db.execute(change, params![node_id, old, new])? > 0)
        })
        .await
    }

    /// Takes the pairing with the node at this URL back. Returns whether there was one. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unpair_node(&self, url: String) -> Result<bool, StoreError> {
        self.write_durably(move |db| Ok(db.execute("DELETE FROM paired_nodes WHERE url = ?1", [url])? > 0)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Access;

    fn node(url: &str, id: &str) -> PairedNode {
        PairedNode { url: url.into(), node_id: id.repeat(64), key: id.repeat(64) }
    }

    #[tokio::test]
    async fn pairings_survive_a_restart_and_a_node_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Access::Keeper).unwrap();
        let store = open();
        assert_eq!(store.paired_nodes().await.unwrap(), []);
        let (attic, cellar) = (node("http://attic:1", "a"), node("http://cellar:1", "c"));
        for paired in [&attic, &cellar, &attic] {
            assert!(store.pair_node(paired.clone()).await.unwrap());
        }
        drop(store);
        let store = open();
        let sorted = async || {
            let mut nodes = store.paired_nodes().await.unwrap();
            nodes.sort();
            nodes
        };
        assert_eq!(sorted().await, [attic.clone(), cellar.clone()]);
        // The node moves, and another one takes its place.
        let (moved, new) = (node("http://shed:1", "a"), node("http://cellar:1", "b"));
        assert!(store.pair_node(moved.clone()).await.unwrap() && store.pair_node(new.clone()).await.unwrap());
        assert_eq!(sorted().await, [new.clone(), moved.clone()]);
        let key = |id: &str| id.repeat(64);
        assert!(store.change_node_key(key("b"), key("b"), key("e")).await.unwrap());
        assert!(!store.change_node_key(key("b"), key("b"), key("f")).await.unwrap(), "it has another one");
        let new = PairedNode { key: key("e"), ..new };
        assert_eq!(sorted().await, [new.clone(), moved.clone()]);
        assert!(store.unpair_node(new.url.clone()).await.unwrap() && !store.unpair_node(new.url).await.unwrap());
        assert_eq!(sorted().await, [moved]);
    }
}
