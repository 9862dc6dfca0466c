//! Remembers outside the database which database it was and how far it had come, so that a lost, replaced or restored
//! database is noticed.

use std::io::Result;
use std::path::{Path, PathBuf};

use daemon::private;

use crate::identity::Identity;

/// File name within the data directory.
pub(crate) const FILE: &str = "clips.json";

/// The file with the identity of the last database.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
}

impl Witness {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// Whether events may have been lost: the database is not the one that was seen last, or an older copy of it.
    pub(super) fn misses_events(&self, now: &Identity) -> bool {
        let seen = std::fs::read(&self.path).ok().and_then(|json| serde_json::from_slice::<Identity>(&json).ok());
        seen.is_none_or(|seen| seen.database_id != now.database_id || seen.newest_event > now.newest_event)
    }

    /// Remembers the database. `durable`: through a power cut too.
    pub(super) fn remember(&self, now: &Identity, durable: bool) -> Result<()> {
        private::replace(&self.path, &serde_json::to_vec(now)?, durable)
    }
}
