//! The identity of a program in its state folder.

use std::fs;
use std::io;
use std::path::Path;

use super::files::{IdentityError, at, damaged, read, write};
use super::machine::Machine;
use super::node_id::NodeId;
use super::own_key::OwnKey;
use crate::private;

/// The key, and how it changed: see [`OwnKey`].
const KEY_FILE: &str = "identity.key";

/// The marks of the machine that the key belongs to (JSON).
const MACHINE_FILE: &str = "identity.machine";

/// The key that came with a copied memory card, and its marks.
const PREVIOUS_KEY_FILE: &str = "identity-previous.key";
const PREVIOUS_MACHINE_FILE: &str = "identity-previous.machine";

/// A program's key, and where it came from.
#[derive(Debug)]
pub struct Identity {
    /// The key.
    pub key: OwnKey,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a key came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there, and belongs to this machine.
    Kept,
    /// There was none.
    Created,
    /// There was one of another machine: the state folder was copied, or the board was replaced. That key is kept
    /// beside the new one.
    CreatedOnAnotherMachine {
        /// The id of the key that was there.
        previous: NodeId,
    },
}

impl Identity {
    /// Reads the key in `folder`, or makes one (mode 0600). On another machine than the one that made the key it makes
    /// a new one, and keeps the old one for [`Identity::keep`].
    ///
    /// # Errors
    /// If the folder cannot be used, or a file in it is damaged.
    pub fn open(folder: &Path, machine: &Machine) -> Result<Self, IdentityError> {
        private::folder_builder().recursive(true).create(folder).map_err(|error| at(folder, error))?;
        let Some(key) = OwnKey::open(&folder.join(KEY_FILE))? else {
            return Ok(Self { key: create(folder, machine)?, origin: Origin::Created });
        };
        let marks = read_machine(&folder.join(MACHINE_FILE))?;
        if marks.as_ref().is_none_or(|marks| marks.is_same_as(machine)) {
            // An adapter that was plugged in since then counts from now on.
            if marks.as_ref() != Some(machine) {
                write_machine(&folder.join(MACHINE_FILE), machine)?;
            }
            return Ok(Self { key, origin: Origin::Kept });
        }
        let previous = key.id();
        // The key first: with it gone, whatever breaks off here, the next start makes a new one.
        rename(folder, KEY_FILE, PREVIOUS_KEY_FILE)?;
        rename(folder, MACHINE_FILE, PREVIOUS_MACHINE_FILE)?;
        Ok(Self { key: create(folder, machine)?, origin: Origin::CreatedOnAnotherMachine { previous } })
    }

    /// Reads the key in `folder`, without changing anything there. `None` if the folder has no key.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub fn read(folder: &Path) -> Result<Option<OwnKey>, IdentityError> {
        OwnKey::open(&folder.join(KEY_FILE))
    }

    /// Takes back the key of another machine, for a board that was replaced. The key that was made here meanwhile takes
    /// its place beside it.
    ///
    /// # Errors
    /// If there is no such key, or a file cannot be written.
    pub fn keep(folder: &Path, machine: &Machine) -> Result<OwnKey, IdentityError> {
        let previous = folder.join(PREVIOUS_KEY_FILE);
        let nothing = || IdentityError::NothingToKeep { folder: folder.to_owned() };
        let key = OwnKey::open(&previous)?.ok_or_else(nothing)?.at(folder.join(KEY_FILE));
        let swap = folder.join("identity.swap");
        // Whatever breaks off here, both keys are still in the folder.
        match fs::rename(folder.join(KEY_FILE), &swap) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(|error| at(&swap, error))?,
        }
        rename(folder, PREVIOUS_KEY_FILE, KEY_FILE)?;
        write_machine(&folder.join(MACHINE_FILE), machine)?;
        if swap.exists() {
            fs::rename(&swap, &previous).map_err(|error| at(&previous, error))?;
        }
        Ok(key)
    }
}

fn create(folder: &Path, machine: &Machine) -> Result<OwnKey, IdentityError> {
    // The marks first: a key without marks would belong to whatever machine opens it next.
    write_machine(&folder.join(MACHINE_FILE), machine)?;
    OwnKey::create(&folder.join(KEY_FILE))
}

fn read_machine(path: &Path) -> Result<Option<Machine>, IdentityError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(path, error))
}

fn write_machine(path: &Path, machine: &Machine) -> Result<(), IdentityError> {
    let text = serde_json::to_vec_pretty(machine).map_err(|error| damaged(path, error))?;
    write(path, &text)
}

fn rename(folder: &Path, from: &str, to: &str) -> Result<(), IdentityError> {
    let to = folder.join(to);
    match fs::rename(folder.join(from), &to) {
        // A key without marks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.and_then(|()| private::sync_folder_of(&to)).map_err(|error| at(&to, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn machine(serial: &str) -> Machine {
        Machine { serial: Some(serial.into()), ..Machine::default() }
    }

    fn open(folder: &Path, serial: &str) -> Identity {
        Identity::open(folder, &machine(serial)).unwrap()
    }

    #[test]
    fn key_is_made_once_and_only_its_owner_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("state");
        let first = open(&folder, "a");
        assert_eq!(first.origin, Origin::Created);
        let second = open(&folder, "a");
        assert_eq!((second.origin, second.key.id()), (Origin::Kept, first.key.id()));
        assert_eq!(Identity::read(&folder).unwrap().unwrap().id(), first.key.id());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE))), (0o700, 0o600));
    }

    #[test]
    fn copied_card_gets_a_new_key_and_a_replaced_board_can_keep_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "a").key.id();
        let copied = open(folder.path(), "b");
        assert_eq!(copied.origin, Origin::CreatedOnAnotherMachine { previous: first });
        assert_ne!(copied.key.id(), first);
        assert_eq!(open(folder.path(), "b").key.id(), copied.key.id(), "the new key stays");

        assert_eq!(Identity::keep(folder.path(), &machine("b")).unwrap().id(), first);
        let kept = open(folder.path(), "b");
        assert_eq!((kept.origin, kept.key.id()), (Origin::Kept, first));
        // It can be taken back: the other key is still there.
        assert_eq!(Identity::keep(folder.path(), &machine("b")).unwrap().id(), copied.key.id());
    }

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let is_root = fs::metadata(folder.path()).unwrap().uid() == 0;
        if is_root {
            std::os::unix::fs::chown(folder.path(), Some(61_234), Some(61_234)).unwrap();
        }
        open(folder.path(), "a");
        let owner = fs::metadata(folder.path()).unwrap().uid();
        for file in [KEY_FILE, MACHINE_FILE] {
            assert_eq!(fs::metadata(folder.path().join(file)).unwrap().uid(), owner, "{file}");
        }
    }

    #[test]
    fn nothing_is_kept_where_there_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let id = open(folder.path(), "a").key.id();
        let refused = Identity::keep(folder.path(), &machine("a"));
        assert!(matches!(refused, Err(IdentityError::NothingToKeep { .. })), "{refused:?}");
        assert_eq!(open(folder.path(), "a").key.id(), id);
    }

    #[test]
    fn start_that_was_killed_half_way_loses_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "a").key.id();
        // Killed on another machine, after the key was moved and before the new one was made.
        fs::rename(folder.path().join(KEY_FILE), folder.path().join(PREVIOUS_KEY_FILE)).unwrap();
        let second = open(folder.path(), "b");
        assert_eq!(second.origin, Origin::Created);
        assert_ne!(second.key.id(), first);
        assert_eq!(Identity::keep(folder.path(), &machine("b")).unwrap().id(), first);
    }

    #[test]
    fn damaged_key_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "a");
        let path = folder.path().join(KEY_FILE);
        fs::write(&path, b"junk").unwrap();
        let error = Identity::open(folder.path(), &machine("a")).unwrap_err().to_string();
        assert!(error.contains("identity.key") && error.contains("move the file away"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"junk");
    }

    #[test]
    fn folder_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Identity::open(&file.join("state"), &machine("a")).unwrap_err().to_string();
        assert!(error.contains("file/state"), "{error}");
    }
}
