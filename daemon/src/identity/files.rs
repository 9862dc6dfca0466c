//! The files of an identity: read up to a limit, replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use super::key::KeyError;
use super::rotation::MAX_CHANGES;
use crate::private;

/// Most bytes that are read of one of these files. They have a few hundred; a key that has changed
/// [`MAX_CHANGES`] times takes 2,500.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file or the folder cannot be read or written.
    #[error("cannot use {}: {}", path.display(), crate::cause::cause(error))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file has been damaged. It is never overwritten.
    #[error("{}: {reason}; move the file away to get a new identity", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no random numbers.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot change once more.
    #[error("the key has changed {MAX_CHANGES} times, the most; give the program a new identity, and pair it again")]
    TooManyChanges,
    /// There is no key that could be brought back.
    #[error("{} has no key of another machine that could be kept", folder.display())]
    NothingToKeep {
        /// The state folder.
        folder: PathBuf,
    },
}

/// The bytes of a file. `None`: there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    private::read(path, MAX_FILE_BYTES).map_err(|error| at(path, error))
}

/// Writes a file that, even after a crash, is either complete or as it was.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let written = private::replace_with(path, true, |file| {
        file.write_all(bytes)?;
        like_its_folder(path, file)
    });
    written.map_err(|error| at(path, error))
}

/// A command that root runs leaves a file that the service can read: it belongs to the owner of its folder.
fn like_its_folder(path: &Path, file: &File) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let (folder, own) = (fs::metadata(folder)?, file.metadata()?);
    if (folder.uid(), folder.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

pub(super) fn at(path: &Path, error: io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), error }
}

pub(super) fn damaged(path: &Path, reason: impl std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: path.to_owned(), reason: reason.to_string() }
}
