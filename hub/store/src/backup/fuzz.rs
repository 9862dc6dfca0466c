//! Archives and manifests that are damaged, or that somebody made to do harm.

use std::path::{Path, PathBuf};

use fuzzing::{hold, nearly};
use proptest::prelude::*;

use super::archive;
use super::error::BackupError;
use super::manifest::{Counts, FileEntry, MANIFEST_FILE, Manifest, Source};

/// A manifest with one file of each kind.
fn manifest() -> Manifest {
    let source = Source { data_dir: PathBuf::new(), config: Vec::new(), with_secrets: false };
    let entry = |path: &str| FileEntry {
        path: path.into(),
        stored_as: (path.len() > 12).then(|| "other.wav".into()),
        bytes: 5,
        sha256: "ab".repeat(32),
        modified_ns: -7,
    };
    let files = ["hub.sqlite", "clips/a.wav", "config/hub.toml"].map(entry).into();
    Manifest { files, ..Manifest::new(&source, 3, Counts { events: 7, ..Counts::default() }) }
}

/// An archive of these files; none has a long name.
fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        // Not through the library, which would refuse paths to other folders.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// All files below a folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_in(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn archive_writes_nothing_outside_its_folder_and_no_more_than_it_has() {
    let text = manifest().text();
    let whole = archive_of(&[("hub.sqlite", b"12345"), ("clips/a.wav", &[9; 700]), (MANIFEST_FILE, &text)]);
    let evil = archive_of(&[
        ("../outside", b"x"),
        ("clips/../../outside", b"x"),
        ("/tmp/outside-of-a-backup", b"x"),
        ("config/..", b"x"),
        (MANIFEST_FILE, &text),
    ]);
    // Without a checksum that fits, the library reads none of a header: here the header stays, and the name changes.
    let names = ["hub.sqlite", "clips/", "config/", "../", "/", "a", "\\", ".", "\u{1}", "ü", MANIFEST_FILE];
    let name = prop::collection::vec(prop::sample::select(names.to_vec()), 0..6).prop_map(|parts| parts.concat());
    let named = name.prop_map(move |name| archive_of(&[(&name, b"12345"), (MANIFEST_FILE, &text)]));
    let inputs = prop_oneof![nearly(vec![whole, evil], &["../", "clips/"]), named];
    let outer = tempfile::tempdir().unwrap();
    let into = outer.path().join("into");
    hold(300, &inputs, |bytes| {
        std::fs::create_dir(&into).unwrap();
        let read = archive::unpack(Path::new("a.tar"), bytes.as_slice(), &into);
        if let Err(error) = &read {
            let text = error.to_string();
            prop_assert!(text.contains("a.tar") || text.contains("hub "), "the error names the archive: {text}");
        }
        let total: u64 = files_in(&into).iter().map(|path| path.metadata().unwrap().len()).sum();
        prop_assert!(total <= bytes.len() as u64, "{total} bytes of {}", bytes.len());
        for path in files_in(outer.path()) {
            prop_assert!(path.starts_with(&into), "{}", path.display());
            let depth = path.strip_prefix(&into).unwrap().components().count();
            prop_assert!(depth <= 2, "{}", path.display());
        }
        std::fs::remove_dir_all(&into).unwrap();
        Ok(())
    });
}

#[test]
fn manifest_is_read_or_refused_with_a_reason() {
    let seed = manifest();
    assert_eq!(Manifest::parse(Path::new("b"), &seed.text()).unwrap(), seed);
    let mut claims_much = manifest();
    claims_much.files.iter_mut().for_each(|file| file.bytes = u64::MAX);
    let words = ["null", "-1", "18446744073709551615", "1e99", "[", "{", "\"", "../", "clips/", "99"];
    hold(3_000, &nearly(vec![seed.text(), claims_much.text()], &words), |text| {
        match Manifest::parse(Path::new("b"), &text) {
            Ok(read) => {
                let again = Manifest::parse(Path::new("b"), &read.text());
                prop_assert_eq!(&again.unwrap(), &read);
                // The sum of the sizes that it claims.
                let _ = read.bytes();
            }
            Err(BackupError::Damaged { what, .. }) => prop_assert!(what.contains(MANIFEST_FILE), "{}", what),
            Err(BackupError::TooNew { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
        Ok(())
    });
}
