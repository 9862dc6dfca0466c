//! Which backups were made, and where: a small file in the data folder. It tells the age of the last backup even while
//! its disk is away.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use daemon::private;
use hub_base::time::now_ns;
use serde::{Deserialize, Serialize};

use super::files;
use super::folder::BackedUp;

/// File name within the data folder.
const FILE: &str = "backups.json";

/// Places that are remembered. The place with the oldest backup is forgotten first.
const MOST_PLACES: usize = 8;

/// The last good backup in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// The folder or the archive.
    pub to: String,
    /// When it was made, in nanoseconds since 1970 UTC.
    pub made_at_ns: i64,
    /// Whether it is on another device than the data folder, and so survives the loss of that device.
    pub other_device: bool,
    /// Bytes of its files, those that earlier backups have too included.
    pub bytes: u64,
    /// Events that it holds.
    pub events: u64,
}

/// The last good backup of each place, the latest first. Empty: none is known.
pub(super) fn remembered(data_dir: &Path) -> Vec<LastBackup> {
    let text = std::fs::read(data_dir.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Remembers a backup that was just made in `place`, a folder or an archive.
///
/// # Errors
/// If the data folder cannot be written. The backup is good nevertheless.
pub fn remember(data_dir: &Path, place: &Path, made: &BackedUp) -> io::Result<()> {
    let place = std::path::absolute(place)?;
    let to = place.display().to_string();
    let last = LastBackup {
        made_at_ns: now_ns(),
        other_device: device(&place)? != device(data_dir)?,
        bytes: made.manifest.bytes(),
        events: made.manifest.counts.events,
        to,
    };
    let mut all = remembered(data_dir);
    all.retain(|one| one.to != last.to);
    all.insert(0, last);
    all.truncate(MOST_PLACES);
    let path = data_dir.join(FILE);
    private::replace_with(&path, true, |file| {
        file.write_all(&serde_json::to_vec_pretty(&all)?)?;
        files::give_to_owner_of(data_dir, &private::unfinished(&path));
        Ok(())
    })
}

/// The device that a file or a folder is on.
pub(super) fn device(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}
