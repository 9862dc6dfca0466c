//! What can go wrong in the store.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use daemon::cause::cause;
use hub_base::error::{Code, Error};
use rusqlite::ErrorCode;

/// How long a caller waits for a connection before it gets [`StoreError::Busy`].
pub(super) const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data directory cannot be created or used.
    #[error("{}: cannot use the data directory: {}", path.display(), cause(error))]
    Directory {
        /// The directory, or the file in it that failed.
        path: PathBuf,
        /// Why. Not the error's source: the message has all that it says.
        error: std::io::Error,
    },
    /// The data folder, or the database in it, was removed or replaced while the hub runs: restart the hub.
    #[error(
        "{}: removed or replaced while the hub runs; nothing is stored until the hub is restarted",
        path.display()
    )]
    Replaced {
        /// The folder or the file.
        path: PathBuf,
    },
    /// A health check found that nothing can be stored.
    #[error("nothing can be stored: {}", .0.why)]
    Unwritable(Trouble),
    /// Another hub has locked this data directory.
    #[error(
        "{}: another hub uses this data directory; stop it, or choose another directory with --data-dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version of the program wrote the database: use that version, or another data directory.
    #[error(
        "the database has schema version {version}, but this program supports versions up to {known}; \
         use a newer program"
    )]
    TooNew {
        /// Schema version of the database.
        version: u32,
        /// Latest schema version that this program supports.
        known: usize,
    },
    /// The store is overloaded or the disk hangs: try again later.
    #[error("the database was busy for {} s", TURN_TIMEOUT.as_secs())]
    Busy,
    /// SQLite failed: disk full, I/O error, and the like.
    #[error("database: {0}")]
    Database(DatabaseError),
    /// The work on the database panicked or was cancelled.
    #[error("the work on the database was interrupted: {0}")]
    Cut(String),
}

/// Why nothing can be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether the disk is full. A restart would not help.
    pub disk_full: bool,
    /// For people: what failed, and why.
    pub why: String,
}

/// The error that SQLite reported.
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

impl Trouble {
    pub(crate) fn of(error: &StoreError) -> Self {
        let disk_full = error.is_disk_full();
        Self { disk_full, why: if disk_full { "the disk is full; free some space".into() } else { error.to_string() } }
    }
}

impl StoreError {
    /// Whether the disk is full. The transaction was rolled back.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Directory { error, .. } => error.kind() == std::io::ErrorKind::StorageFull,
            Self::Unwritable(trouble) => trouble.disk_full,
            _ => self.engine_code() == Some(ErrorCode::DiskFull),
        }
    }

    /// Whether the whole store cannot be used for now. Later, the same work may succeed.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Directory { error, .. } => {
                self.is_disk_full() || error.kind() == std::io::ErrorKind::ReadOnlyFilesystem
            }
            _ => self.is_about_the_disk() && !self.is_corrupt(),
        }
    }

    /// Whether the disk or the database failed, and not the work.
    pub(super) fn is_about_the_disk(&self) -> bool {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, NotADatabase, ReadOnly,
            SystemIoFailure,
        };
        match self {
            Self::Directory { .. } | Self::Replaced { .. } | Self::Unwritable(_) | Self::Busy => true,
            Self::InUse { .. } | Self::TooNew { .. } | Self::Cut(_) => false,
            Self::Database(_) => self.engine_code().is_some_and(|code| {
                matches!(
                    code,
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseCorrupt
                        | DatabaseLocked
                        | DiskFull
                        | NotADatabase
                        | ReadOnly
                        | SystemIoFailure
                )
            }),
        }
    }

    /// Whether the file is damaged or is not a database.
    pub(super) fn is_corrupt(&self) -> bool {
        matches!(self.engine_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// The word for this error in `/metrics`.
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
