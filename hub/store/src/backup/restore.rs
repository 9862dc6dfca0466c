//! Restores a backup: into a folder beside what is there, checked, and only then in its place.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use daemon::shutdown::CancellationToken;

use super::archive;
use super::copy::{self, Copied, has_table};
use super::error::BackupError;
use super::files::{self, Scratch, UNFINISHED};
use super::folder::{LOST_AND_FOUND, check_file, generations, is_marked, read_manifest};
use super::manifest::{CONFIG_PREFIX, FileEntry, MANIFEST_FILE, Manifest, is_backup_path, is_file_name};
use crate::clips::{DIRECTORY as CLIPS, WITNESS_FILE, is_clip, quarantined};
use crate::database::{DATABASE_FILE, LOCK_FILE, lock};
use crate::migrations;
use crate::people_mark::MARK_FILE;

/// Beginning of the name of a folder, within the data folder, with what was there before a restore.
const ASIDE: &str = "before-restore-";

/// What the name of a damaged database that was moved aside begins with.
const BROKEN: &str = "hub.sqlite.broken-";

/// Names in the data folder of what the hub no longer uses and never changes: databases that were damaged, and what was
/// there before a restore. Blocks the thread.
pub fn copies_aside(data_dir: &Path) -> Vec<String> {
    let mut names = files::names(data_dir).unwrap_or_default();
    names.retain(|name| name.starts_with(ASIDE) || name.starts_with(BROKEN));
    names.truncate(MOST_LISTED);
    names
}

/// Most names that [`copies_aside`] lists.
const MOST_LISTED: usize = 100;

/// Folder for the config files of a backup, within the data folder. The hub does not read it.
const CONFIG: &str = "restored-config";

/// Folder within the folder of the clips for clips that are being restored, if that folder is a mount point.
const STAGED_CLIPS: &str = "restore.part";

/// Files of a database, beside the file itself.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Where a backup is.
pub enum RestoreFrom<'a> {
    /// A folder of backups (the latest is restored), a backup in it, an archive, or a database alone: a snapshot.
    Path(&'a Path),
    /// An archive that comes through a pipe.
    Archive(&'a mut dyn Read),
}

impl std::fmt::Debug for RestoreFrom<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => out.debug_tuple("Path").field(path).finish(),
            Self::Archive(_) => out.write_str("Archive"),
        }
    }
}

/// What a restore brought back.
#[derive(Debug)]
pub struct Restored {
    /// The backup: its folder, the archive or the snapshot.
    pub from: PathBuf,
    /// The manifest. `None`: a database alone was restored.
    pub manifest: Option<Manifest>,
    /// What the restored database holds.
    pub counts: super::Counts,
    /// Clips that the database refers to and that are in their place now.
    pub clips: usize,
    /// Clips that the database refers to and that are missing or damaged.
    pub lost_clips: Vec<String>,
    /// Clips that the database does not know. At its next start, the hub recovers their events.
    pub later_clips: usize,
    /// The folder with what was in the data folder before. `None`: nothing was.
    pub aside: Option<PathBuf>,
    /// The folder with the config files of the backup. `None`: it has none.
    pub config: Option<PathBuf>,
}

/// Restores a backup into `data_dir`, which is created if it is missing. What was there is moved to a folder in it, and
/// nothing is deleted. If the folder of the clips is a mount point, the clips that were there go to a folder in it.
/// Blocks the thread.
///
/// # Errors
/// If a hub uses the data folder, if there is no backup, if its database is damaged, or if a newer program made it. The
/// data folder is then as before.
pub fn restore(from: RestoreFrom<'_>, data_dir: &Path) -> Result<Restored, BackupError> {
    std::fs::create_dir_all(data_dir).map_err(BackupError::io(data_dir))?;
    let _lock = lock(data_dir)?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let staging = Scratch(data_dir.join(format!("restore-{stamp}{UNFINISHED}")));
    files::create_folder(&staging.0).map_err(BackupError::io(&staging.0))?;
    let _staged_clips = stage_clips_in(&staging.0, &data_dir.join(CLIPS))?;
    let aside = Aside { data_dir, folder: data_dir.join(format!("{ASIDE}{stamp}")) };
    let mut restored = match from {
        RestoreFrom::Path(path) if is_database(path) => restore_database(path, &staging.0, &aside)?,
        RestoreFrom::Path(path) => {
            let (from, manifest) = stage(path, &staging.0)?;
            restore_all(from, manifest, &staging.0, &aside)?
        }
        RestoreFrom::Archive(content) => {
            let name = Path::new("-");
            let manifest = archive::unpack(name, content, &staging.0)?;
            restore_all(name.to_path_buf(), manifest, &staging.0, &aside)?
        }
    };
    files::sync(data_dir).map_err(BackupError::io(data_dir))?;
    for name in [DATABASE_FILE, LOCK_FILE, CLIPS, CONFIG] {
        files::give_to_owner_of(data_dir, &data_dir.join(name));
    }
    if aside.folder.exists() {
        files::give_to_owner_of(data_dir, &aside.folder);
        restored.aside = Some(aside.folder);
    }
    Ok(restored)
}

/// Makes the staging folder of the clips. If the clips have a disk of their own, it is on that disk, so that there is
/// room before anything is replaced.
fn stage_clips_in(staging: &Path, clips: &Path) -> Result<Option<Scratch>, BackupError> {
    let staged = staging.join(CLIPS);
    if !is_mount_point(clips) {
        files::create_folder(&staged).map_err(BackupError::io(&staged))?;
        return Ok(None);
    }
    let there = Scratch(std::path::absolute(clips).map_err(BackupError::io(clips))?.join(STAGED_CLIPS));
    // An earlier restore may have been killed.
    let _ = std::fs::remove_dir_all(&there.0);
    files::create_folder(&there.0).map_err(BackupError::io(&there.0))?;
    std::os::unix::fs::symlink(&there.0, &staged).map_err(BackupError::io(&staged))?;
    Ok(Some(there))
}

/// Whether something is mounted on this folder. A mount point cannot be renamed.
fn is_mount_point(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, folder, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "sqlite") && path.is_file()
}

/// Copies a backup into the staging folder.
fn stage(path: &Path, staging: &Path) -> Result<(PathBuf, Manifest), BackupError> {
    if path.is_file() {
        let file = File::open(path).map_err(BackupError::io(path))?;
        let manifest = archive::unpack(path, io::BufReader::new(file), staging)?;
        return Ok((path.to_path_buf(), manifest));
    }
    let (backup, manifest) = if path.join(MANIFEST_FILE).is_file() {
        (path.to_path_buf(), read_manifest(path)?)
    } else {
        if !path.is_dir() || !is_marked(path) && generations(path)?.is_empty() {
            return Err(BackupError::NoBackup { path: path.to_path_buf() });
        }
        let latest = generations(path)?.pop();
        let latest = latest.ok_or_else(|| BackupError::NoBackup { path: path.to_path_buf() })?;
        (latest.path, latest.manifest?)
    };
    let pool = std::path::absolute(&backup).ok().and_then(|path| Some(path.parent()?.join(CLIPS))).unwrap_or_default();
    let config = staging.join(CONFIG_PREFIX);
    files::create_folder(&config).map_err(BackupError::io(&config))?;
    for entry in manifest.files.iter().filter(|entry| is_backup_path(&entry.path)) {
        let from = match entry.name_in_pool() {
            Some(name) if is_file_name(name) => pool.join(name),
            Some(_) => continue,
            None => backup.join(&entry.path),
        };
        match files::copy_file(&from, &staging.join(&entry.path)) {
            Ok(_) => {}
            // What is missing is found below.
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::io(&from)(error)),
        }
    }
    Ok((backup, manifest))
}

/// Checks what is staged, and puts it in its place.
fn restore_all(from: PathBuf, manifest: Manifest, staging: &Path, aside: &Aside<'_>) -> Result<Restored, BackupError> {
    let database = manifest.files.iter().find(|entry| entry.path == DATABASE_FILE);
    let is_whole = |entry: &FileEntry| check_file(&staging.join(&entry.path), entry).is_ok();
    if !database.is_some_and(is_whole) {
        let what = format!("{DATABASE_FILE} is missing or is not what was written; restore an earlier backup");
        return Err(BackupError::Damaged { path: from, what });
    }
    let held = check_database(&staging.join(DATABASE_FILE), Some(&manifest))?;
    end_sessions(&staging.join(DATABASE_FILE))?;
    let mut whole = HashSet::new();
    for entry in &manifest.files {
        let Some(name) = entry.clip_name().filter(|name| is_file_name(name)) else { continue };
        let file = staging.join(&entry.path);
        if is_whole(entry) {
            whole.insert(name);
            let opened = File::options().write(true).open(&file);
            opened.and_then(|file| files::set_modified(&file, entry.modified_ns)).map_err(BackupError::io(&file))?;
        } else if file.exists() {
            std::fs::remove_file(&file).map_err(BackupError::io(&file))?;
        }
    }
    let (there, lost_clips) =
        held.clips.iter().map(|(name, _)| name.clone()).partition::<Vec<_>, _>(|name| whole.contains(name.as_str()));
    let has_config = manifest.files.iter().any(|entry| entry.path.starts_with(CONFIG_PREFIX));

    for name in files::names(aside.data_dir).map_err(BackupError::io(aside.data_dir))? {
        // A backup from before the first user does not open the hub.
        if is_content(&name) && ![LOCK_FILE, MARK_FILE].contains(&name.as_str()) {
            aside.move_there(&name)?;
        }
    }
    place(staging, CLIPS, aside.data_dir, CLIPS)?;
    if has_config {
        place(staging, CONFIG_PREFIX, aside.data_dir, CONFIG)?;
    }
    // Last, so that a hub never starts with a database whose clips are not there.
    place(staging, DATABASE_FILE, aside.data_dir, DATABASE_FILE)?;
    Ok(Restored {
        from,
        manifest: Some(manifest),
        counts: held.counts,
        clips: there.len(),
        lost_clips,
        later_clips: 0,
        aside: None,
        config: has_config.then(|| aside.data_dir.join(CONFIG)),
    })
}

/// Puts a database alone in its place. Clips and labels stay. The next start of the hub recovers the events of clips
/// that the database does not know, and applies the labels of the log.
fn restore_database(from: &Path, staging: &Path, aside: &Aside<'_>) -> Result<Restored, BackupError> {
    let staged = staging.join(DATABASE_FILE);
    files::copy_file(from, &staged).map_err(BackupError::io(from))?;
    let held = check_database(&staged, None)?;
    end_sessions(&staged)?;
    let clips = aside.data_dir.join(CLIPS);
    let names = files::names(&clips).map_err(BackupError::io(&clips))?;
    let mut there: HashSet<String> = names.into_iter().filter(|name| is_clip(name)).collect();
    let wanted: HashSet<String> = held.clips.into_iter().map(|(name, _)| name).collect();
    let later_clips = there.difference(&wanted).count();
    // The next start takes from there what the database refers to.
    there.extend(quarantined(aside.data_dir).map_err(BackupError::io(aside.data_dir))?);
    for suffix in SUFFIXES {
        aside.move_there(&format!("{DATABASE_FILE}{suffix}"))?;
    }
    // Without it, the start knows that the database is another one.
    aside.move_there(WITNESS_FILE)?;
    place(staging, DATABASE_FILE, aside.data_dir, DATABASE_FILE)?;
    let mut lost_clips: Vec<String> = wanted.difference(&there).cloned().collect();
    lost_clips.sort();
    Ok(Restored {
        from: from.to_path_buf(),
        manifest: None,
        counts: held.counts,
        clips: wanted.intersection(&there).count(),
        lost_clips,
        later_clips,
        aside: None,
        config: None,
    })
}

/// Checks a staged database, and reads what it holds.
fn check_database(path: &Path, manifest: Option<&Manifest>) -> Result<Copied, BackupError> {
    let db = copy::open(path)?;
    copy::check_intact(path, &db, copy::COPY_DEADLINE, &CancellationToken::new())?;
    let held = copy::read(&db)?;
    if held.schema_version > migrations::LATEST {
        return Err(BackupError::TooNew {
            program: manifest.map_or("of a later version".into(), |manifest| manifest.program.clone()),
            what: "databases",
            version: held.schema_version,
            known: migrations::LATEST,
        });
    }
    Ok(held)
}

/// Ends all sessions of a staged database: some may have been ended since the backup, perhaps because somebody else had
/// them.
fn end_sessions(path: &Path) -> Result<(), BackupError> {
    let db = copy::open(path)?;
    if has_table(&db, "sessions")? {
        db.execute("DELETE FROM sessions", [])?;
    }
    // Without a log beside it, which would not be moved along.
    db.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// Whether a restore moves a file or a folder of this name: what it makes itself and what belongs to a disk stays.
fn is_content(name: &str) -> bool {
    name != LOST_AND_FOUND && !name.starts_with(ASIDE) && !name.ends_with(UNFINISHED)
}

/// Moves a file or a folder from the staging folder into the data folder.
fn place(staging: &Path, name: &str, data_dir: &Path, as_name: &str) -> Result<(), BackupError> {
    let to = data_dir.join(as_name);
    if is_mount_point(&to) {
        let from = staging.join(name);
        for name in files::names(&from).map_err(BackupError::io(&from))? {
            let to = to.join(&name);
            std::fs::rename(from.join(name), &to).map_err(BackupError::io(&to))?;
        }
        return Ok(());
    }
    std::fs::rename(staging.join(name), &to).map_err(BackupError::io(&to))
}

/// Where the content of the data folder is moved to.
struct Aside<'a> {
    data_dir: &'a Path,
    folder: PathBuf,
}

impl Aside<'_> {
    /// Moves a file or a folder of the data folder, if it is there. The content of a mount point moves to a folder of
    /// the same name in it.
    fn move_there(&self, name: &str) -> Result<(), BackupError> {
        let (from, to) = (self.data_dir.join(name), self.folder.join(name));
        if std::fs::symlink_metadata(&from).is_err() {
            return Ok(());
        }
        if is_mount_point(&from) {
            let to = from.join(self.folder.file_name().unwrap_or_default());
            files::create_folder(&to).map_err(BackupError::io(&to))?;
            for name in files::names(&from).map_err(BackupError::io(&from))?.into_iter().filter(|name| is_content(name))
            {
                let to = to.join(&name);
                std::fs::rename(from.join(name), &to).map_err(BackupError::io(&to))?;
            }
            return Ok(());
        }
        for folder in [Some(self.folder.as_path()), to.parent()].into_iter().flatten() {
            files::create_folder(folder).map_err(BackupError::io(folder))?;
        }
        std::fs::rename(&from, &to).map_err(BackupError::io(&to))
    }
}
