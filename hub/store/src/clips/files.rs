//! The folder of the clips: writes files atomically, and removes files that no event refers to.

use std::io::Write;
use std::path::Path;

use daemon::cause::cause;
use tracing::info;

use super::codec::ClipFormat;

/// Suffix of files that are not complete yet.
const UNFINISHED: &str = ".part";

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
    let unfinished = directory.join(format!("{file}{UNFINISHED}"));
    let written = std::fs::File::create(&unfinished).and_then(|mut part| {
        part.write_all(bytes)?;
        part.sync_all()?;
        std::fs::rename(&unfinished, directory.join(file))?;
        std::fs::File::open(directory)?.sync_all()
    });
    if written.is_err() {
        // If this fails too, the next start removes the unfinished file.
        let _ = std::fs::remove_file(&unfinished);
    }
    Ok(written?)
}

pub(super) fn free_bytes(directory: &Path) -> std::io::Result<u64> {
    let room = rustix::fs::statvfs(directory)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

fn is_clip(name: &str) -> bool {
    ClipFormat::ALL.iter().any(|format| name.ends_with(format.suffix()))
}

/// Removes the clip files that are not in `wanted`. Returns how many it removed, and which files of `wanted` are
/// missing.
pub(super) fn sweep(
    directory: &Path,
    wanted: &std::collections::HashSet<String>,
) -> std::io::Result<(usize, Vec<String>)> {
    std::fs::create_dir_all(directory)?;
    let mut missing = wanted.clone();
    let mut swept = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !missing.remove(name) && (is_clip(name) || name.ends_with(UNFINISHED)) {
            std::fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    if swept > 0 {
        info!(swept, "removed clip files that no event refers to");
    }
    Ok((swept, missing.into_iter().collect()))
}
