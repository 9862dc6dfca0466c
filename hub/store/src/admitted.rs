//! The nodes that a person has admitted, by their keys: the id of a node that has proved one, else its URL.

use std::collections::BTreeSet;

use hub_base::time::now_ns;
use rusqlite::params;

use crate::database::Store;
use crate::error::StoreError;

/// Most admitted nodes that are kept. A node beyond that is not admitted.
pub const MAX_ADMITTED: usize = 1_024;

/// What the store knows about discovered nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// The keys of the admitted nodes.
    pub keys: BTreeSet<String>,
    /// The URLs that nodes used last, each with the id that was proved there: pairs of URL and id.
    pub ids: BTreeSet<(String, String)>,
}

impl Store {
    /// The admitted nodes, and the ids that were proved at each URL.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn admitted(&self) -> Result<Admitted, StoreError> {
        self.read(|db| {
            let keys = db
                .prepare("SELECT key FROM admitted_nodes")?
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut ids = db.prepare(
                "SELECT url, node_id FROM nodes \
                 WHERE node_id NOT IN (SELECT old FROM moved_histories WHERE ended_at_ns IS NULL)",
            )?;
            let ids = ids.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            Ok(Admitted { keys, ids })
        })
        .await
    }

    /// The admitted nodes that were heard since a time (nanoseconds since 1970 UTC): pairs of the key and the URL that
    /// the node used last.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn admitted_and_heard(&self, since_ns: i64) -> Result<Vec<(String, String)>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT key, coalesce((SELECT url FROM nodes WHERE node_id = key), key) FROM admitted_nodes \
                       WHERE EXISTS (SELECT 1 FROM watermarks WHERE node = key AND updated_at_ns >= ?1) ORDER BY key";
            let mut heard = db.prepare(sql)?;
            let heard = heard.query_map([since_ns], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(heard.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Admits a node. `by` says who did it: `page` or `command`. Returns whether the node is admitted now: `false` if
    /// there are [`MAX_ADMITTED`] already. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn admit(&self, key: String, by: &'static str) -> Result<bool, StoreError> {
        let admits = key.clone();
        let done = self.write_durably(move |db| {
            let added = db.execute(
                "INSERT OR IGNORE INTO admitted_nodes (key, admitted_at_ns, admitted_by) SELECT ?1, ?2, ?3 \
                 WHERE (SELECT count(*) FROM admitted_nodes) < ?4",
                params![admits, now_ns(), by, i64::try_from(MAX_ADMITTED).unwrap_or(i64::MAX)],
            )?;
            let sql = "SELECT EXISTS (SELECT 1 FROM admitted_nodes WHERE key = ?1)";
            Ok((added > 0, db.query_row(sql, [admits], |row| row.get(0))?))
        });
        let (is_new, is_admitted) = done.await?;
        if is_new {
            self.log_admissions(vec![key], Some(by.to_owned())).await;
        }
        Ok(is_admitted)
    }

    /// Admits the id of a node whose URL is admitted, as whoever admitted the URL, unless there are [`MAX_ADMITTED`]
    /// already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn admit_id_of(&self, url: String, id: String) -> Result<(), StoreError> {
        let admits = id.clone();
        let done = self.write_durably(move |db| {
            let added = db.execute(
                "INSERT OR IGNORE INTO admitted_nodes (key, admitted_at_ns, admitted_by) \
                 SELECT ?2, ?3, admitted_by FROM admitted_nodes WHERE key = ?1 \
                 AND (SELECT count(*) FROM admitted_nodes) < ?4",
                params![url, admits, now_ns(), i64::try_from(MAX_ADMITTED).unwrap_or(i64::MAX)],
            )?;
            let sql = "SELECT admitted_by FROM admitted_nodes WHERE key = ?1";
            Ok(if added > 0 { Some(db.query_row(sql, [admits], |row| row.get(0))?) } else { None })
        });
        if let Some(by) = done.await? {
            self.log_admissions(vec![id], Some(by)).await;
        }
        Ok(())
    }

    /// Takes the admission of these keys back. Keys that are not admitted are ignored. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_admitted(&self, keys: Vec<String>) -> Result<(), StoreError> {
        let done = self.write_durably(move |db| {
            let mut gone = Vec::new();
            for key in keys {
                if db.execute("DELETE FROM admitted_nodes WHERE key = ?1", [&key])? > 0 {
                    gone.push(key);
                }
            }
            Ok(gone)
        });
        let gone = done.await?;
        if !gone.is_empty() {
            self.log_admissions(gone, None).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Access;

    #[tokio::test]
    async fn admissions_survive_a_restart_until_they_are_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Access::Keeper).unwrap();
        let store = open();
        assert_eq!(store.admitted().await.unwrap(), Admitted::default());
        assert!(store.admit("http://a.local:1".into(), "page").await.unwrap());
        assert!(store.admit("http://a.local:1".into(), "command").await.unwrap());
        assert!(store.admit("http://b.local:1".into(), "command").await.unwrap());
        drop(store);
        let store = open();
        assert_eq!(store.admitted().await.unwrap().keys.len(), 2);
        store.forget_admitted(vec!["http://a.local:1".into(), "unknown".into()]).await.unwrap();
        assert_eq!(store.admitted().await.unwrap().keys, BTreeSet::from(["http://b.local:1".to_owned()]));
    }
}
