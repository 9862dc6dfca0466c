//! The recordings in a folder, at any depth.

use std::collections::HashSet;
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// Endings of the names of recordings. What is in them is told by their content.
const ENDINGS: [&str; 25] = [
    "wav", "wave", "bwf", "rf64", "w64", "flac", "mp3", "mp2", "ogg", "oga", "opus", "spx", "m4a", "aac", "aif",
    "aiff", "aifc", "caf", "wma", "amr", "wv", "ape", "au", "webm", "mka",
];

/// Folders that systems leave on cards and disks.
const JUNK: [&str; 4] = ["System Volume Information", "$RECYCLE.BIN", "__MACOSX", "lost+found"];

/// Why something in a folder that has the name of a recording is not read.
const NOT_A_FILE: &str = "it is not a file but a pipe, a socket or a device";

/// Folders within folders that are looked into, at most.
const MAX_DEPTH: usize = 32;

/// The recordings in a folder and the folders within it, in order of their names, and what cannot be read. Names that
/// begin with a dot are left out: macOS writes a `._NAME` for each file on a card. A folder that links lead to twice
/// counts once. A pipe with the name of a recording cannot be read: nobody may ever write to it.
pub(super) fn recordings_in(folder: &Path) -> Vec<Result<PathBuf, (PathBuf, io::Error)>> {
    let mut found = Vec::new();
    look_into(folder, MAX_DEPTH, &mut HashSet::new(), &mut found);
    found
}

fn look_into(
    folder: &Path,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    found: &mut Vec<Result<PathBuf, (PathBuf, io::Error)>>,
) {
    if depth == 0 || !seen.insert(folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())) {
        return;
    }
    let entries = folder.read_dir().and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut paths: Vec<_> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).collect(),
        Err(why) => return found.push(Err((folder.to_path_buf(), why))),
    };
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name() else { continue };
        if name.as_encoded_bytes().starts_with(b".") || JUNK.iter().any(|junk| name == *junk) {
            continue;
        }
        let kind = path.metadata().map(|metadata| metadata.file_type());
        if kind.as_ref().is_ok_and(FileType::is_dir) {
            look_into(&path, depth - 1, seen, found);
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
        {
            // Opening a pipe that nobody writes to would wait for ever. A link that leads nowhere fails when it is
            // read.
            let is_other = kind.is_ok_and(|kind| !kind.is_file());
            found.push(if is_other { Err((path, io::Error::other(NOT_A_FILE))) } else { Ok(path) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_within_folders_are_looked_into_and_junk_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "b/2.WAV",
            "b/._2.WAV",
            "b/notes.txt",
            "a/deep/1.flac",
            "3.Mp3",
            ".Trashes/4.wav",
            "System Volume Information/5.wav",
        ] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
        let names: Vec<_> = recordings_in(root)
            .into_iter()
            .map(|file| file.unwrap().strip_prefix(root).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["3.Mp3", "a/deep/1.flac", "b/2.WAV"]);
    }

    #[test]
    fn what_is_not_a_file_is_named_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("1.wav");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("2.wav")).unwrap();
        let found = recordings_in(dir.path());
        let [Err((path, why)), Ok(link)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((path, why.to_string().as_str()), (&socket, NOT_A_FILE));
        assert_eq!(*link, dir.path().join("2.wav"));
    }
}
