//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::cause::cause;

use crate::error::StoreError;

/// Why a backup, a snapshot or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or a folder cannot be read or written.
    #[error("{}: {}", path.display(), cause(source))]
    Io {
        /// The file or the folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database, or the lock of the data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to back up.
    #[error("{}: there is no database of a hub in this folder; name the data folder with --data-dir", path.display())]
    NoDatabase {
        /// The data folder.
        path: PathBuf,
    },
    /// The folder holds other things.
    #[error("{}: this folder holds other files; name an empty folder, or one that holds backups", path.display())]
    NotForBackups {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is probably the empty mount point of a disk that is not there.
    #[error("{}: {why}", path.display())]
    NotMounted {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// Another backup to this folder is under way.
    #[error("{}: another backup to this folder is under way", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// There is nothing to restore.
    #[error("{}: there is no complete backup here", path.display())]
    NoBackup {
        /// The folder or the archive.
        path: PathBuf,
    },
    /// A newer version of the program made the backup.
    #[error(
        "hub {program} made this backup, and this is hub {}: it supports {what} up to version {known}, and the backup \
         has version {version}; install hub {program} or a newer one",
        env!("CARGO_PKG_VERSION")
    )]
    TooNew {
        /// Version of the program that made the backup.
        program: String,
        /// What is too new: the format of backups, or the database.
        what: &'static str,
        /// Its version.
        version: u32,
        /// The latest version that this program supports.
        known: u32,
    },
    /// The backup is not what its manifest says, or its database is damaged.
    #[error("{}: the backup is damaged: {what}", path.display())]
    Damaged {
        /// The folder or the archive.
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// It took too long.
    #[error("the database could not be copied within {} s", limit.as_secs())]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The program stops.
    #[error("the backup was interrupted")]
    Interrupted,
}

impl BackupError {
    /// Makes the error about a file or a folder.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl From<rusqlite::Error> for BackupError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
