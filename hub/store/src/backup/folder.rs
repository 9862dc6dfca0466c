//! Backups in a folder: several of them, over one pool of clips.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use daemon::shutdown::CancellationToken;
use tracing::warn;

use super::copy::{COPY_DEADLINE, copy_database};
use super::error::BackupError;
use super::files::{self, Sum, UNFINISHED};
use super::manifest::{
    CLIPS_PREFIX, CONFIG_PREFIX, ConfigFile, FileEntry, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, Source,
    is_file_name,
};
use crate::DATABASE_FILE;
use crate::clips::DIRECTORY as CLIPS;

/// Marks a folder as one for backups. A disk that is not mounted has none.
pub(super) const MARKER_FILE: &str = "meowlink-backups.txt";

const MARKER_TEXT: &str = "\
This folder holds backups of a Meowlink hub. `hub restore FOLDER` restores the latest one.
The hub writes scheduled backups here only while this file is here.
";

/// What an empty disk may have.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// A backup that was made.
#[derive(Debug)]
pub struct BackedUp {
    /// The folder of the backup, or the archive.
    pub path: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Clips that were copied.
    pub copied: usize,
    /// Clips that an earlier backup in the folder had.
    pub known: usize,
}

/// A complete backup in a folder.
#[derive(Debug)]
pub(super) struct Generation {
    /// Backups are numbered, because a clock may lie.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// `Err`: it cannot be read, or a newer program made it.
    pub(super) manifest: Result<Manifest, BackupError>,
}

/// Makes a backup in the folder `to`, and then removes the oldest backups above `keep` and the clips that only they
/// had. Creates the folder if its parent exists. Blocks the thread.
///
/// # Errors
/// If the folder holds other files, if the backup cannot be written or is not intact, and when `stop` is cancelled. The
/// earlier backups are then as before.
pub fn back_up_to_folder(
    source: &Source,
    to: &Path,
    keep: u32,
    stop: &CancellationToken,
) -> Result<BackedUp, BackupError> {
    let marker = prepare(to)?;
    let pool = to.join(CLIPS);
    files::create_folder(&pool).map_err(BackupError::io(&pool))?;
    remove_leftovers(to, &pool)?;
    let earlier = generations(to)?;
    let number = earlier.last().map_or(0, |last| last.number) + 1;
    let path = to.join(format!("{number:06}-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    let scratch = files::Scratch(files::unfinished(&path));
    let unfinished = &scratch.0;
    files::create_folder(unfinished).map_err(BackupError::io(unfinished))?;

    let database = unfinished.join(DATABASE_FILE);
    let held = copy_database(&source.data_dir, &database, COPY_DEADLINE, stop)?;
    let mut manifest = Manifest::new(source, held.schema_version, held.counts);
    manifest.files.push(entry_of(DATABASE_FILE, &database)?);
    for config in &source.config {
        manifest.files.push(write_config(unfinished, config)?);
    }
    let clips = Pool::new(&pool, &earlier);
    let mut fresh = Vec::new();
    let mut known = 0;
    for (name, _) in held.clips {
        if stop.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        match clips.take(&source.data_dir.join(CLIPS), &name)? {
            Taken::Missing => manifest.missing_clips += 1,
            Taken::Known(entry) => {
                known += 1;
                manifest.files.push(entry);
            }
            Taken::Copied(entry) => {
                fresh.push(manifest.files.len());
                manifest.files.push(entry);
            }
        }
    }
    let text = unfinished.join(MANIFEST_FILE);
    let written = files::create(&text).and_then(|mut file| file.write_all(&manifest.text()));
    written.map_err(BackupError::io(&text))?;
    files::sync(to).map_err(BackupError::io(to))?;
    for entry in fresh.iter().map(|index| &manifest.files[*index]) {
        check_file(&pool.join(entry.name_in_pool().unwrap_or_default()), entry)?;
    }
    for entry in manifest.files.iter().filter(|file| file.clip_name().is_none()) {
        check_file(&unfinished.join(&entry.path), entry)?;
    }
    // Root may make the first backup of a folder in which the hub makes the others.
    for made in [unfinished, &pool, &to.join(MARKER_FILE)] {
        files::give_to_owner_of(to, made);
    }
    std::fs::rename(unfinished, &path).map_err(BackupError::io(&path))?;
    files::sync(to).map_err(BackupError::io(to))?;
    if let Err(error) = remove_oldest(to, keep) {
        // The new backup is good.
        warn!(to = %to.display(), %error, "cannot remove old backups");
    }
    drop(marker);
    Ok(BackedUp { path, manifest, copied: fresh.len(), known })
}

/// Whether a folder is marked as one for backups.
pub(super) fn is_marked(folder: &Path) -> bool {
    folder.join(MARKER_FILE).is_file()
}

/// Creates or checks the folder, and locks its marker, so that two backups to it do not disturb each other.
fn prepare(folder: &Path) -> Result<File, BackupError> {
    files::create_folder(folder).map_err(BackupError::io(folder))?;
    let path = folder.join(MARKER_FILE);
    if !is_marked(folder) {
        let names = files::names(folder).map_err(BackupError::io(folder))?;
        if names.iter().any(|name| name != LOST_AND_FOUND) {
            return Err(BackupError::NotForBackups { path: folder.to_path_buf() });
        }
        let written = files::create(&path).and_then(|mut file| file.write_all(MARKER_TEXT.as_bytes()));
        written.map_err(BackupError::io(&path))?;
    }
    let marker = File::options().read(true).write(true).open(&path).map_err(BackupError::io(&path))?;
    match marker.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => Err(BackupError::InUse { path: folder.to_path_buf() }),
        // Some network file systems have no locks.
        _ => Ok(marker),
    }
}

/// Removes what an interrupted backup left.
fn remove_leftovers(folder: &Path, pool: &Path) -> Result<(), BackupError> {
    for folder in [folder, pool] {
        for name in files::names(folder).map_err(BackupError::io(folder))? {
            if name.ends_with(UNFINISHED) {
                drop(files::Scratch(folder.join(name)));
            }
        }
    }
    Ok(())
}

/// The complete backups in a folder, the oldest first.
pub(super) fn generations(folder: &Path) -> Result<Vec<Generation>, BackupError> {
    let mut found = Vec::new();
    for name in files::names(folder).map_err(BackupError::io(folder))? {
        let number = name.split_once('-').and_then(|(number, _)| number.parse().ok());
        let Some(number) = number.filter(|_| !name.ends_with(UNFINISHED)) else { continue };
        let path = folder.join(name);
        if path.is_dir() {
            let manifest = read_manifest(&path);
            found.push(Generation { number, path, manifest });
        }
    }
    found.sort_by_key(|one| one.number);
    Ok(found)
}

/// The manifest of a backup in a folder.
pub(super) fn read_manifest(backup: &Path) -> Result<Manifest, BackupError> {
    let path = backup.join(MANIFEST_FILE);
    let damaged = |what: String| BackupError::Damaged { path: backup.to_path_buf(), what };
    match std::fs::metadata(&path) {
        Ok(file) if file.len() > MAX_MANIFEST_BYTES => Err(damaged(format!("{MANIFEST_FILE} is too large"))),
        Ok(_) => Manifest::parse(backup, &std::fs::read(&path).map_err(BackupError::io(&path))?),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            Err(damaged(format!("{MANIFEST_FILE} is missing")))
        }
        Err(error) => Err(BackupError::io(&path)(error)),
    }
}

fn entry_of(path: &str, file: &Path) -> Result<FileEntry, BackupError> {
    let Sum { bytes, sha256 } = files::sum(file).map_err(BackupError::io(file))?;
    let modified = std::fs::metadata(file).map(|metadata| files::modified_ns(&metadata));
    let modified_ns = modified.map_err(BackupError::io(file))?;
    Ok(FileEntry { path: path.to_owned(), stored_as: None, bytes, sha256, modified_ns })
}

fn write_config(backup: &Path, config: &ConfigFile) -> Result<FileEntry, BackupError> {
    let path = format!("{CONFIG_PREFIX}{}", config.name);
    let (folder, file) = (backup.join(CONFIG_PREFIX), backup.join(&path));
    files::create_folder(&folder).map_err(BackupError::io(&folder))?;
    let written = files::create(&file).and_then(|mut file| file.write_all(&config.content));
    written.map_err(BackupError::io(&file))?;
    entry_of(&path, &file)
}

/// Checks the content of a file.
pub(super) fn check_file(file: &Path, entry: &FileEntry) -> Result<(), BackupError> {
    let found = files::sum(file).map_err(BackupError::io(file))?;
    if (found.bytes, &found.sha256) == (entry.bytes, &entry.sha256) {
        return Ok(());
    }
    Err(BackupError::Damaged { path: file.to_path_buf(), what: "its content is not what was written".into() })
}

/// What became of a clip.
enum Taken {
    /// It has no file.
    Missing,
    /// It was there.
    Known(FileEntry),
    /// It was copied.
    Copied(FileEntry),
}

/// The clips of all backups of a folder. Only clips of complete backups count: others may be half written.
struct Pool<'a> {
    folder: &'a Path,
    known: HashMap<&'a str, &'a FileEntry>,
}

impl<'a> Pool<'a> {
    fn new(folder: &'a Path, earlier: &'a [Generation]) -> Self {
        let manifests = earlier.iter().filter_map(|one| one.manifest.as_ref().ok());
        let entries = manifests.flat_map(Manifest::clips);
        // The latest backup counts.
        Self { folder, known: entries.filter_map(|entry| Some((entry.name_in_pool()?, entry))).collect() }
    }

    /// Takes a clip into the pool, if it is not there.
    fn take(&self, clips: &Path, name: &str) -> Result<Taken, BackupError> {
        let from = clips.join(name);
        if !is_file_name(name) {
            return Ok(Taken::Missing);
        }
        let metadata = match std::fs::metadata(&from) {
            Ok(metadata) => metadata,
            // Retention is at work meanwhile.
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Taken::Missing),
            Err(error) => return Err(BackupError::io(&from)(error)),
        };
        let modified_ns = files::modified_ns(&metadata);
        let mut stored = name.to_owned();
        if let Some(entry) = self.known.get(name) {
            let there = std::fs::metadata(self.folder.join(name)).is_ok_and(|file| file.len() == entry.bytes);
            if there && (entry.bytes, entry.modified_ns) == (metadata.len(), modified_ns) {
                return Ok(Taken::Known(FileEntry { path: format!("{CLIPS_PREFIX}{name}"), ..(*entry).clone() }));
            }
            if there {
                // Another clip of the same name: the earlier backups keep theirs.
                stored = format!("{modified_ns:016x}-{name}");
            }
        }
        let to = self.folder.join(&stored);
        let Sum { bytes, sha256 } = match files::copy_file(&from, &to) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Taken::Missing),
            other => other.map_err(BackupError::io(&to))?,
        };
        let stored_as = Some(stored).filter(|stored| stored != name);
        let path = format!("{CLIPS_PREFIX}{name}");
        Ok(Taken::Copied(FileEntry { path, stored_as, bytes, sha256, modified_ns }))
    }
}

/// Removes the oldest backups above `keep`, and then the clips that no backup has.
fn remove_oldest(folder: &Path, keep: u32) -> Result<(), BackupError> {
    let mut all = generations(folder)?;
    let surplus = all.len().saturating_sub(keep.max(1) as usize);
    for old in all.drain(..surplus) {
        // From the renaming on, it is not complete.
        let unfinished = files::unfinished(&old.path);
        std::fs::rename(&old.path, &unfinished).map_err(BackupError::io(&old.path))?;
        std::fs::remove_dir_all(&unfinished).map_err(BackupError::io(&unfinished))?;
    }
    let mut wanted = HashSet::new();
    for one in &all {
        // Nobody knows the clips of a backup that cannot be read, so all clips stay.
        let Ok(manifest) = &one.manifest else { return Ok(()) };
        wanted.extend(manifest.clips().filter_map(FileEntry::name_in_pool));
    }
    let pool = folder.join(CLIPS);
    for name in files::names(&pool).map_err(BackupError::io(&pool))? {
        if !wanted.contains(name.as_str()) {
            std::fs::remove_file(pool.join(&name)).map_err(BackupError::io(&pool))?;
        }
    }
    Ok(())
}
