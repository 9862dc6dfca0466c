//! Which database this is, and how far it has come.

use serde::{Deserialize, Serialize};

use crate::database::Store;
use crate::error::StoreError;

/// What tells a database from another one, and from an older copy of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Drawn when the database was created.
    pub(crate) database_id: String,
    /// Highest number of an event that was ever stored, 0 for none.
    pub(crate) newest_event: i64,
}

impl Store {
    /// Identity of the database.
    pub(crate) async fn identity(&self) -> Result<Identity, StoreError> {
        self.read(|db| {
            let sql = "SELECT database_id, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0) \
                       FROM identity";
            Ok(db.query_row(sql, [], |row| Ok(Identity { database_id: row.get(0)?, newest_event: row.get(1)? }))?)
        })
        .await
    }
}
