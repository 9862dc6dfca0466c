//! Backups as a tar archive. The manifest is the last file of an archive, so that one that was cut off has none.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use daemon::shutdown::CancellationToken;

use super::copy::{COPY_DEADLINE, copy_database};
use super::error::BackupError;
use super::files::{self, Scratch, Sum};
use super::folder::BackedUp;
use super::manifest::{
    CLIPS_PREFIX, CONFIG_PREFIX, FileEntry, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, Source, is_backup_path,
    is_file_name,
};
use crate::DATABASE_FILE;
use crate::clips::DIRECTORY as CLIPS;

/// Permissions of the files in an archive.
const MODE: u32 = 0o600;

/// Makes a backup as the archive `to`, which replaces an earlier one. Blocks the thread.
///
/// # Errors
/// If the archive cannot be written or is not intact, and when `stop` is cancelled. An earlier archive of this name is
/// then as before.
pub fn back_up_to_tar(source: &Source, to: &Path, stop: &CancellationToken) -> Result<BackedUp, BackupError> {
    let scratch = Scratch(files::unfinished(to));
    let mut unfinished = io::BufWriter::new(files::create(&scratch.0).map_err(BackupError::io(&scratch.0))?);
    let mut done = write(source, &files::unfinished(&to.with_extension("sqlite")), &mut unfinished, to, stop)?;
    let file = unfinished.into_inner().map_err(|error| BackupError::io(&scratch.0)(error.into_error()))?;
    file.sync_all().map_err(BackupError::io(&scratch.0))?;
    check(&scratch.0, &done.manifest)?;
    std::fs::rename(&scratch.0, to).map_err(BackupError::io(to))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::sync(parent).map_err(BackupError::io(parent))?;
    done.path = to.to_path_buf();
    Ok(done)
}

/// Writes a backup as an archive to a pipe or the like. The copy of the database lies in the data folder meanwhile.
/// Blocks the thread.
///
/// # Errors
/// As [`back_up_to_tar`].
pub fn back_up_to_writer(
    source: &Source,
    to: &mut impl Write,
    stop: &CancellationToken,
) -> Result<BackedUp, BackupError> {
    let copy = files::unfinished(&source.data_dir.join("backup.sqlite"));
    write(source, &copy, to, Path::new("-"), stop)
}

fn write(
    source: &Source,
    copy: &Path,
    to: &mut impl Write,
    name: &Path,
    stop: &CancellationToken,
) -> Result<BackedUp, BackupError> {
    let copy = Scratch(copy.to_path_buf());
    let held = copy_database(&source.data_dir, &copy.0, COPY_DEADLINE, stop)?;
    let mut manifest = Manifest::new(source, held.schema_version, held.counts);
    let mut tar = tar::Builder::new(to);
    let entry = append_file(&mut tar, DATABASE_FILE, &copy.0, name)?;
    manifest.files.extend(entry);
    for config in &source.config {
        let path = format!("{CONFIG_PREFIX}{}", config.name);
        let content = &mut config.content.as_slice();
        manifest.files.push(append(&mut tar, &path, content, config.content.len() as u64, 0, name)?);
    }
    let mut copied = 0;
    for (clip, _) in held.clips {
        if stop.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        let file = source.data_dir.join(CLIPS).join(&clip);
        let entry = if is_file_name(&clip) {
            append_file(&mut tar, &format!("{CLIPS_PREFIX}{clip}"), &file, name)?
        } else {
            None
        };
        match entry {
            Some(entry) => {
                copied += 1;
                manifest.files.push(entry);
            }
            None => manifest.missing_clips += 1,
        }
    }
    let text = manifest.text();
    append(&mut tar, MANIFEST_FILE, &mut text.as_slice(), text.len() as u64, 0, name)?;
    tar.into_inner().and_then(Write::flush).map_err(BackupError::io(name))?;
    Ok(BackedUp { path: name.to_path_buf(), manifest, copied, known: 0 })
}

/// Appends a file. `None`: there is no such file.
fn append_file(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    file: &Path,
    archive: &Path,
) -> Result<Option<FileEntry>, BackupError> {
    let opened = File::open(file).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (mut content, metadata) = match opened {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(BackupError::io(file))?,
    };
    append(tar, path, &mut content, metadata.len(), files::modified_ns(&metadata), archive).map(Some)
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    content: &mut impl Read,
    bytes: u64,
    modified_ns: i64,
    archive: &Path,
) -> Result<FileEntry, BackupError> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(MODE);
    header.set_mtime(u64::try_from(modified_ns / 1_000_000_000).unwrap_or(0));
    header.set_entry_type(tar::EntryType::Regular);
    let mut summing = Summing { inner: content.take(bytes), sum: files::Summer::default() };
    tar.append_data(&mut header, path, &mut summing).map_err(BackupError::io(archive))?;
    let Sum { bytes: read, sha256 } = summing.sum.finish();
    if read != bytes {
        let what = format!("{path} became shorter while it was read");
        return Err(BackupError::Damaged { path: archive.to_path_buf(), what });
    }
    Ok(FileEntry { path: path.to_owned(), stored_as: None, bytes, sha256, modified_ns })
}

struct Summing<R> {
    inner: R,
    sum: files::Summer,
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(block)?;
        self.sum.update(&block[..count]);
        Ok(count)
    }
}

/// Reads an archive again.
fn check(archive: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let file = File::open(archive).map_err(BackupError::io(archive))?;
    let mut found = HashMap::new();
    let read_back = read(archive, io::BufReader::new(file), |path, content| {
        found.insert(path.to_owned(), files::copy(content, &mut io::sink())?);
        Ok(())
    })?;
    let damaged = |what: &str| BackupError::Damaged { path: archive.to_path_buf(), what: what.to_owned() };
    if &read_back != manifest {
        return Err(damaged("its manifest is not what was written"));
    }
    for entry in &manifest.files {
        let sum = found.get(&entry.path);
        if sum.is_none_or(|sum| (sum.bytes, &sum.sha256) != (entry.bytes, &entry.sha256)) {
            return Err(damaged(&format!("{} is not what was written", entry.path)));
        }
    }
    Ok(())
}

/// Unpacks an archive into a folder: only files that backups have, whatever else it holds.
pub(super) fn unpack(archive: &Path, content: impl Read, into: &Path) -> Result<Manifest, BackupError> {
    for folder in [CLIPS_PREFIX, CONFIG_PREFIX] {
        let folder = into.join(folder);
        files::create_folder(&folder).map_err(BackupError::io(&folder))?;
    }
    read(archive, content, |path, content| {
        files::copy(content, &mut files::create(&into.join(path))?)?;
        Ok(())
    })
}

/// Passes each file of an archive to `take`, and returns the manifest.
fn read(
    archive: &Path,
    content: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, BackupError> {
    let mut manifest = None;
    let cut_off = BackupError::io(archive);
    let mut tar = tar::Archive::new(content);
    let mut each = || -> io::Result<()> {
        for entry in tar.entries()? {
            let mut entry = entry?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                continue;
            }
            let path: PathBuf = entry.path()?.into_owned();
            match path.to_str() {
                Some(MANIFEST_FILE) => {
                    let mut text = Vec::new();
                    entry.by_ref().take(MAX_MANIFEST_BYTES).read_to_end(&mut text)?;
                    manifest = Some(text);
                }
                Some(path) if is_backup_path(path) => take(path, &mut entry)?,
                _ => {}
            }
        }
        Ok(())
    };
    each().map_err(cut_off)?;
    let text = manifest.ok_or_else(|| BackupError::NoBackup { path: archive.to_path_buf() })?;
    Manifest::parse(archive, &text)
}
