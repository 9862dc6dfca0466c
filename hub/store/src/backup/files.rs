//! Files and folders of backups: readable by their owner only, and written with a checksum.

use std::fs::{File, FileTimes, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use daemon::private;
pub(super) use daemon::private::{UNFINISHED, create, unfinished};
use ring::digest::{Context, SHA256};

/// Bytes that are read at a time.
const BLOCK: usize = 64 << 10;

/// Length and checksum of a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub(super) sha256: String,
}

/// Sums up a content.
pub(super) struct Summer {
    context: Context,
    bytes: u64,
}

impl Default for Summer {
    fn default() -> Self {
        Self { context: Context::new(&SHA256), bytes: 0 }
    }
}

impl Summer {
    pub(super) fn update(&mut self, block: &[u8]) {
        self.context.update(block);
        self.bytes += block.len() as u64;
    }

    pub(super) fn finish(self) -> Sum {
        let sha256 = self.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Sum { bytes: self.bytes, sha256 }
    }
}

/// Creates a folder that only its owner can enter. Its parent must exist.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    match private::folder_builder().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Copies everything, and returns what it was.
pub(super) fn copy(from: &mut (impl Read + ?Sized), to: &mut impl Write) -> io::Result<Sum> {
    let mut summer = Summer::default();
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(summer.finish()),
            Ok(count) => {
                summer.update(&block[..count]);
                to.write_all(&block[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads a file, and returns what it is.
pub(super) fn sum(path: &Path) -> io::Result<Sum> {
    copy(&mut File::open(path)?, &mut io::sink())
}

/// Copies a file with the time of its last change. `to` is complete or absent, as long as the machine runs.
pub(super) fn copy_file(from: &Path, to: &Path) -> io::Result<Sum> {
    let mut source = File::open(from)?;
    private::replace_with(to, false, |target| {
        let sum = copy(&mut source, target)?;
        set_modified(target, modified_ns(&source.metadata()?))?;
        Ok(sum)
    })
}

/// When a file was changed, in nanoseconds since 1970 UTC.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Sets when a file was changed. A file system may round it.
pub(super) fn set_modified(file: &File, unix_ns: i64) -> io::Result<()> {
    let since_1970 = Duration::from_nanos(u64::try_from(unix_ns).unwrap_or(0));
    file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + since_1970))
}

/// Makes everything durable that was written to the file system of this folder.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

/// Free bytes on the disk of a folder, for programs other than root's.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(folder)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Names in a folder, sorted. Names that are not UTF-8 are left out. None, if there is no such folder.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Gives a path and what is in it to the owner of `like`, if it belongs to somebody else. So the hub can use what root
/// restored or backed up. Only root can do that and only root needs to, so a failure is no error.
pub(super) fn give_to_owner_of(like: &Path, path: &Path) {
    let (Ok(owner), Ok(has)) = (std::fs::metadata(like), std::fs::symlink_metadata(path)) else { return };
    if has.uid() != owner.uid() {
        let _ = std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()));
    }
    if has.is_dir() {
        for name in names(path).unwrap_or_default() {
            give_to_owner_of(like, &path.join(name));
        }
    }
}

/// A file or a folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whatever stays ends in `.part`, so nobody takes it for a backup.
        let _ = if self.0.is_dir() { std::fs::remove_dir_all(&self.0) } else { std::fs::remove_file(&self.0) };
    }
}
