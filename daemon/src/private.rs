//! Files and folders that only their user can read. A file is replaced as a whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Permissions of files: the user reads and writes.
const FILE_MODE: u32 = 0o600;

/// Permissions of folders: only the user enters them.
const FOLDER_MODE: u32 = 0o700;

/// Bits of the group and of others.
const OTHERS: u32 = 0o077;

/// The bit that lets users read who are neither the owner nor of the group.
const ALL: u32 = 0o004;

/// Set on folders that all users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// Suffix of files that are not complete yet.
pub const UNFINISHED: &str = ".part";

/// Creates a folder and its parents, if they are missing, and takes the permissions of other users away.
///
/// # Errors
/// If the folder cannot be created.
pub fn create_folder(path: &Path) -> Result<()> {
    folder_builder().recursive(true).create(path)?;
    tighten(path)
}

/// Takes the permissions of other users away from a file or folder. Does nothing if it is missing, if it belongs to
/// somebody else, or if it is a folder that all users share.
///
/// # Errors
/// If the permissions cannot be read or set.
pub fn tighten(path: &Path) -> Result<()> {
    let tightened = std::fs::metadata(path).and_then(|found| {
        let mode = found.permissions().mode() & 0o7777;
        let shared = found.is_dir() && mode & STICKY != 0;
        if mode & OTHERS == 0 || shared {
            return Ok(());
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))
    });
    match tightened {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(()),
        other => other,
    }
}

/// Whether every user of this machine can read a file. A file that cannot be looked at counts as private.
pub fn is_world_readable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & ALL != 0)
}

/// The first bytes of a file, `most` of them. `None`: there is no such file.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Options that create a file which only the user can read.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Creates a file that only the user can read, or empties it.
///
/// # Errors
/// If the file cannot be created.
pub fn create(path: &Path) -> Result<File> {
    options().create(true).truncate(true).read(true).write(true).open(path)
}

/// Makes folders that only the user can enter.
pub fn folder_builder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(FOLDER_MODE);
    builder
}

/// The name of a file or a folder while it is not complete.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Writes a file that, even after a crash, has either its old or its new content. `durable`: it survives a power cut
/// from now on.
///
/// # Errors
/// If the file cannot be written. The old file then stays.
pub fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    replace_with(path, durable, |part| part.write_all(bytes))
}

/// Does what [`replace`] does, with what `write` writes to the new file.
///
/// # Errors
/// If `write` fails, or if the file cannot be written. The old file then stays.
pub fn replace_with<T>(path: &Path, durable: bool, write: impl FnOnce(&mut File) -> Result<T>) -> Result<T> {
    let unfinished = unfinished(path);
    // An unfinished file of an earlier run may have other permissions.
    let _ = std::fs::remove_file(&unfinished);
    let written = create(&unfinished).and_then(|mut part| {
        let done = write(&mut part)?;
        if durable {
            part.sync_all()?;
        }
        std::fs::rename(&unfinished, path)?;
        if durable {
            sync_folder_of(path)?;
        }
        Ok(done)
    });
    if written.is_err() {
        // If this fails too, the next writer removes the unfinished file.
        let _ = std::fs::remove_file(&unfinished);
    }
    written
}

/// Moves a file, to another disk if need be. It keeps the time of its last change.
///
/// # Errors
/// If the file cannot be moved. It then stays where it is.
pub fn move_file(from: &Path, to: &Path) -> Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            let mut source = File::open(from)?;
            let modified = source.metadata()?.modified()?;
            replace_with(to, true, |part| {
                std::io::copy(&mut source, part)?;
                part.set_modified(modified)
            })?;
            std::fs::remove_file(from)
        }
        done => done,
    }
}

/// Makes the name of a file durable.
///
/// # Errors
/// If its folder cannot be synced.
pub fn sync_folder_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn other_users_get_no_permissions_and_shared_folders_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        create_folder(&folder).unwrap();
        assert_eq!((mode(&folder), mode(&dir.path().join("a"))), (0o700, 0o700));
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        create_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o700);
        std::fs::set_permissions(&folder, Permissions::from_mode(0o1777)).unwrap();
        create_folder(&folder).unwrap();
        assert_eq!(mode(&folder), 0o1777);

        let file = folder.join("file");
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        replace(&file, b"new", true).unwrap();
        assert_eq!((mode(&file), std::fs::read(&file).unwrap()), (0o600, b"new".to_vec()));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing unfinished stays");
        tighten(&folder.join("missing")).unwrap();
    }
}
