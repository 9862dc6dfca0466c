//! What a person asks to delete, as the API and the command `hub delete` say it.

use std::fmt;

use hub_base::error::{Code, Error};
use hub_base::time::{self, rfc3339};

use crate::database::Store;
use crate::deletions::{Deletion, DeletionScope, MAX_WAITING_DELETIONS};
use crate::error::StoreError;
use crate::events::MAX_CAT_BYTES;
use crate::events::which_cat::OF_CAT;

impl DeletionScope {
    /// What a person asks for: everything about a cat, everything before a time (RFC 3339), or what is both.
    ///
    /// # Errors
    /// [`Code::BadRequest`] if both are missing, the name is empty or longer than [`MAX_CAT_BYTES`], or the time is
    /// invalid.
    pub fn asked(cat: Option<String>, before: Option<String>) -> Result<Self, Error> {
        let bad = |why: String| Error::new(Code::BadRequest, why);
        if cat.is_none() && before.is_none() {
            return Err(bad("name a `cat`, or a time as `before`".into()));
        }
        if cat.as_ref().is_some_and(|cat| cat.is_empty() || cat.len() > MAX_CAT_BYTES) {
            return Err(bad(format!("cat: the name has 1 to {MAX_CAT_BYTES} bytes")));
        }
        let before_ns = before.map(|text| time::parse("before", &text)).transpose()?;
        Ok(Self { cat, before_ns })
    }
}

impl fmt::Display for DeletionScope {
    /// As in the audit log: "Tom", "before 2026-01-31T00:00:00Z" or "Tom before 2026-01-31T00:00:00Z".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cat, self.before_ns.map(rfc3339)) {
            (Some(cat), Some(before)) => write!(out, "{cat} before {before}"),
            (Some(cat), None) => out.write_str(cat),
            (None, before) => write!(out, "before {}", before.unwrap_or_default()),
        }
    }
}

impl Store {
    /// Does what [`Store::request_deletion`] does.
    ///
    /// # Errors
    /// [`Code::Conflict`] if [`MAX_WAITING_DELETIONS`] wait already, and as of the store.
    pub async fn begin_deletion(&self, scope: DeletionScope) -> Result<Deletion, Error> {
        let message = || format!("{MAX_WAITING_DELETIONS} deletions wait already; try again when one is done");
        self.request_deletion(scope).await?.ok_or_else(|| Error::new(Code::Conflict, message()))
    }

    /// The names of the cats about which events, notifications or analyses are stored, in alphabetical order, at most
    /// `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn stored_cats(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        self.read(move |db| {
            let sql = format!(
                "SELECT cat FROM (SELECT DISTINCT {OF_CAT} AS cat FROM events WHERE deleted_at_ns IS NULL UNION \
                 SELECT animal FROM notices UNION SELECT cat FROM analyses) \
                 WHERE cat IS NOT NULL AND cat <> '' ORDER BY cat LIMIT ?1"
            );
            let mut cats = db.prepare(&sql)?;
            Ok(cats.query_map([limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Whether something is stored about a cat with this name: also an event that a person deleted alone, of which a
    /// while something is left.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn knows_cat(&self, cat: String) -> Result<bool, StoreError> {
        self.read(move |db| {
            // Each of the first two has an index.
            let sql = format!(
                "SELECT EXISTS (SELECT 1 FROM events WHERE {OF_CAT} = ?1 AND deleted_at_ns IS NULL) \
                 OR EXISTS (SELECT 1 FROM events WHERE {OF_CAT} = ?1 AND deleted_at_ns IS NOT NULL) \
                 OR EXISTS (SELECT 1 FROM notices WHERE animal = ?1) \
                 OR EXISTS (SELECT 1 FROM analyses WHERE cat = ?1)"
            );
            Ok(db.query_row(&sql, [cat], |row| row.get(0))?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;
    use crate::events::{NewEvent, NoClip};
    use crate::testing::{event, put_with};

    #[test]
    fn requests_need_a_cat_or_a_time_and_say_what_they_are_about() {
        let asked = |cat: Option<&str>, before: Option<&str>| {
            DeletionScope::asked(cat.map(str::to_owned), before.map(str::to_owned))
        };
        let long = "x".repeat(MAX_CAT_BYTES + 1);
        for (cat, before) in [(None, None), (Some(""), None), (Some(long.as_str()), None), (None, Some("yesterday"))] {
            assert_eq!(asked(cat, before).unwrap_err().code, Code::BadRequest, "{cat:?} {before:?}");
        }
        let time = "2026-01-31T01:00:00+01:00";
        let words = |cat, before| asked(cat, before).unwrap().to_string();
        assert_eq!(words(Some("Tom"), None), "Tom");
        assert_eq!(words(None, Some(time)), "before 2026-01-31T00:00:00Z");
        assert_eq!(words(Some("Tom"), Some(time)), "Tom before 2026-01-31T00:00:00Z");
    }

    #[tokio::test]
    async fn cats_are_those_about_which_something_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        for (at, cat) in [(0, "Tom"), (16_000, "Lily"), (32_000, "Tom"), (48_000, "")] {
            let heard = NewEvent { cat: cat.into(), ..event("http://kitchen:1", at) };
            put_with(&store, heard, Err(NoClip::Disabled)).await;
        }
        assert_eq!(store.stored_cats(9).await.unwrap(), ["Lily", "Tom"]);
        assert_eq!(store.stored_cats(1).await.unwrap(), ["Lily"]);
        assert!(store.knows_cat("Tom".into()).await.unwrap() && !store.knows_cat("tom".into()).await.unwrap());
    }
}
