//! The folder of the clips: writes files atomically, and sorts out files that no event refers to.

use std::collections::HashSet;
use std::path::Path;

use daemon::cause::cause;
use daemon::private::{self, UNFINISHED};

use super::codec::ClipFormat;
use super::quarantine::Quarantine;

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(
        "the disk has {free_mb} MB free, and {reserve_mb} MB are reserved for the database (clips.reserve_mb); \
         free some space"
    )]
    Reserve { free_mb: u64, reserve_mb: u64 },
    #[error("{}", cause(.0))]
    Io(#[from] std::io::Error),
}

/// Writes a file that, even after a crash, is either complete or absent. Leaves `reserve` bytes free on the disk.
pub(super) fn write(directory: &Path, file: &str, bytes: &[u8], reserve: u64) -> Result<(), WriteError> {
    let free = free_bytes(directory)?;
    if free < reserve.saturating_add(bytes.len() as u64) {
        return Err(WriteError::Reserve { free_mb: free / 1_000_000, reserve_mb: reserve / 1_000_000 });
    }
    Ok(private::replace(&directory.join(file), bytes, true)?)
}

pub(super) fn free_bytes(directory: &Path) -> std::io::Result<u64> {
    let room = rustix::fs::statvfs(directory)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// What the database says about clip files.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Events refer to these.
    pub(super) referred: HashSet<String>,
    /// The database has released these, so nobody needs them.
    pub(super) released: HashSet<String>,
}

/// What became of the files in the folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SortedOut {
    /// Files that were removed: unfinished ones, and those that the database had released.
    pub(super) removed: usize,
    /// Files that no event refers to. They are in the quarantine now.
    pub(super) quarantined: usize,
    /// Files that events refer to and that were in the quarantine. They are back.
    pub(super) returned: usize,
    /// Files that events refer to and that do not exist.
    pub(super) missing: Vec<String>,
}

/// Removes unfinished files and released clips, moves other clips that no event refers to into the quarantine, and
/// takes clips that events refer to out of it: a restored database may know what an older one did not. `lost`: the
/// events of those clips may have been lost with their database.
pub(super) fn sort_out(
    directory: &Path,
    wanted: &Wanted,
    quarantine: &Quarantine,
    lost: bool,
) -> std::io::Result<SortedOut> {
    let mut missing = wanted.referred.clone();
    let mut done = SortedOut::default();
    let mut folder = None;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str() else { continue };
        if entry.file_type()?.is_dir() {
            // Clips that a restore moved aside, for example.
            continue;
        }
        if missing.remove(name) {
            private::tighten(&path)?;
        } else if name.ends_with(UNFINISHED) || wanted.released.contains(name) {
            std::fs::remove_file(path)?;
            done.removed += 1;
        } else if ClipFormat::is_clip(name) {
            if folder.is_none() {
                folder = Some(quarantine.open_folder(lost)?);
            }
            if let Some(folder) = &folder {
                Quarantine::take(&path, folder)?;
                done.quarantined += 1;
            }
        }
    }
    if !missing.is_empty() {
        done.returned = quarantine.return_to(directory, &mut missing)?;
    }
    done.missing = missing.into_iter().collect();
    Ok(done)
}
