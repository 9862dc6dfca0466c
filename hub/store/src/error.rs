//! What can go wrong in the store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hub_base::error::{Code, Error};
use rusqlite::ErrorCode;

/// How long a caller waits for its turn at a connection, before it gets [`StoreError::Busy`].
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be made or used.
    #[error("{}: cannot use the data directory: {source}", path.display())]
    Directory {
        /// The directory, or the file within it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another hub keeps this data directory.
    #[error("{}: another hub uses this data directory; stop it, or give this one its own with --data-dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A later version of the program made the database: use that, or another data directory.
    #[error("the database has schema version {version}, this program knows {known} and earlier; use a newer program")]
    TooNew {
        /// What the database has.
        version: u32,
        /// What this program has.
        known: usize,
    },
    /// The store is overloaded or a disk hangs: try again later.
    #[error("the database was busy for {} s", TURN_TIMEOUT.as_secs())]
    Busy,
    /// The database engine failed: disk full, I/O error, and the like.
    #[error("database: {0}")]
    Database(DatabaseError),
    /// The work on the database was cut short.
    #[error("database work was cut short: {0}")]
    Cut(String),
}

/// What the database engine reported.
#[derive(Debug)]
pub struct DatabaseError(rusqlite::Error);

impl fmt::Display for DatabaseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(DatabaseError(error))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(Code::StoreUnavailable, error.to_string())
    }
}

impl StoreError {
    /// Whether there is no room on the disk. What was to be stored is rolled back.
    pub fn is_disk_full(&self) -> bool {
        self.engine_code() == Some(ErrorCode::DiskFull)
    }

    /// Whether the file is damaged, or not a database.
    pub(super) fn is_corrupt(&self) -> bool {
        matches!(self.engine_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// The word for it in `/metrics`.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            _ if self.is_disk_full() => "disk_full",
            _ => "failed",
        }
    }

    fn engine_code(&self) -> Option<ErrorCode> {
        let Self::Database(DatabaseError(error)) = self else { return None };
        error.sqlite_error_code()
    }
}
