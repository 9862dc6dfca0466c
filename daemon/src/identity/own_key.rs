//! The key of this program, which may change while the program runs.
//!
//! Its file has the key (PKCS #8), and after it the statements by which each earlier key announced the next one, 152
//! bytes each, from the first key on. So one replacement of the file changes all of it, or nothing. A key that has not
//! changed is a file with the key alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::files::{IdentityError, damaged, read, write};
use super::key::Key;
use super::node_id::NodeId;
use super::public_key::Fingerprint;
use super::rotation::{KeyHistory, STATEMENT_BYTES};

/// The first byte of a key in PKCS #8 form: a sequence, whose length is in the next byte.
const SEQUENCE: u8 = 0x30;

/// Lengths from this on take more than one byte. A key is shorter.
const LONG: u8 = 0x80;

/// The key of this program. Clones share it: what shows the key to others shows the new one once it has changed.
#[derive(Debug, Clone)]
pub struct OwnKey {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Whoever changes the key holds this, so that others do not wait for the disk.
    turn: Mutex<()>,
    /// `None`: it lives in memory.
    file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
struct State {
    key: Arc<Key>,
    history: Arc<KeyHistory>,
}

impl State {
    fn of(key: Arc<Key>) -> Self {
        let history = Arc::new(KeyHistory::begin(key.public()));
        Self { key, history }
    }
}

impl From<Arc<Key>> for OwnKey {
    /// A key that is not stored.
    fn from(key: Arc<Key>) -> Self {
        Self::with(State::of(key), None)
    }
}

impl OwnKey {
    fn with(state: State, file: Option<PathBuf>) -> Self {
        Self { shared: Arc::new(Shared { state: RwLock::new(state), turn: Mutex::default(), file }) }
    }

    /// Makes a key, and its file.
    ///
    /// # Errors
    /// If the file cannot be written, or there are no random numbers.
    pub(super) fn create(file: &Path) -> Result<Self, IdentityError> {
        let (key, document) = Key::generate()?;
        write(file, &document)?;
        Ok(Self::with(State::of(Arc::new(key)), Some(file.to_owned())))
    }

    /// Reads a key. `None`: there is no such file.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub(super) fn open(file: &Path) -> Result<Option<Self>, IdentityError> {
        Ok(read_state(file)?.map(|state| Self::with(state, Some(file.to_owned()))))
    }

    /// This key, whose file is at another place now.
    pub(super) fn at(self, file: PathBuf) -> Self {
        Self::with(self.state(), Some(file))
    }

    /// The present key.
    pub fn key(&self) -> Arc<Key> {
        self.state().key
    }

    /// The id of this program, which stays when the key changes: the fingerprint of its first key.
    pub fn id(&self) -> NodeId {
        self.state().history.id()
    }

    /// Fingerprint of the present key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.state().history.present()
    }

    /// The present key, and how it came to be the present one.
    pub fn present(&self) -> (Arc<Key>, Arc<KeyHistory>) {
        let State { key, history } = self.state();
        (key, history)
    }

    /// Makes a new key, which the old one announces. Survives a power cut: a crash leaves the old key or the new one.
    /// Returns the fingerprint of the new key. Waits for the disk.
    ///
    /// # Errors
    /// If the key has changed too often, the file cannot be written, or there are no random numbers. The old key then
    /// stays.
    pub fn change(&self) -> Result<Fingerprint, IdentityError> {
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state();
        let (key, document) = Key::generate()?;
        let history = old.history.changed(&old.key, &key.public()).map_err(|_| IdentityError::TooManyChanges)?;
        if let Some(file) = &self.shared.file {
            write(file, &[document, history.statements().concat()].concat())?;
        }
        self.set(State { key: Arc::new(key), history: Arc::new(history) });
        Ok(self.fingerprint())
    }

    /// Reads the file again: another process of this program may have changed the key. Returns whether it has. Waits
    /// for the disk.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged. The key then stays.
    pub fn read_again(&self) -> Result<bool, IdentityError> {
        let _turn = self.shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.shared.file else { return Ok(false) };
        let old = self.fingerprint();
        // A key that is not a later one of this program is for the next start.
        let Some(new) = read_state(file)?.filter(|new| new.history.present() != old && new.history.has_had(old)) else {
            return Ok(false);
        };
        self.set(new);
        Ok(true)
    }

    fn state(&self) -> State {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn read_state(file: &Path) -> Result<Option<State>, IdentityError> {
    let Some(bytes) = read(file)? else { return Ok(None) };
    let length = match bytes.as_slice() {
        [SEQUENCE, length, ..] if *length < LONG => usize::from(*length) + 2,
        _ => bytes.len(),
    };
    let (document, statements) = bytes.split_at(length.min(bytes.len()));
    let key = Arc::new(Key::read(document).map_err(|error| damaged(file, error))?);
    let statements = statements.chunks(STATEMENT_BYTES).map(<[u8]>::to_vec).collect();
    let history = KeyHistory::read(statements, &key.public()).map_err(|error| damaged(file, error))?;
    Ok(Some(State { key, history: Arc::new(history) }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::identity::rotation::MAX_CHANGES;
    use crate::private::unfinished;

    #[test]
    fn changed_key_has_the_old_id_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("identity.key");
        let own = OwnKey::create(&file).unwrap();
        let (id, first) = (own.id(), own.fingerprint());
        let shown = own.clone();
        for _ in 0..MAX_CHANGES {
            let before = own.fingerprint();
            let now = own.change().unwrap();
            assert!(now != before && now == shown.fingerprint(), "clones share it");
            let read = OwnKey::open(&file).unwrap().unwrap();
            assert_eq!((read.id(), read.fingerprint()), (id, now));
            assert!(read.present().1.has_had(first) && read.present().1.has_had(before));
        }
        let last = own.fingerprint();
        assert!(matches!(own.change(), Err(IdentityError::TooManyChanges)));
        assert_eq!(OwnKey::open(&file).unwrap().unwrap().fingerprint(), last);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn crash_at_each_step_of_a_change_leaves_a_key_that_works() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("identity.key");
        let own = OwnKey::create(&file).unwrap();
        own.change().unwrap();
        let (id, old, before) = (own.id(), own.fingerprint(), fs::read(&file).unwrap());
        let new = own.change().unwrap();
        let after = fs::read(&file).unwrap();
        let opened = || {
            let read = OwnKey::open(&file).unwrap().unwrap();
            (read.id(), read.fingerprint())
        };
        // Killed before the rename, with any part of the new file written.
        fs::write(&file, &before).unwrap();
        for length in [0, 1, after.len() / 2, after.len()] {
            fs::write(unfinished(&file), &after[..length]).unwrap();
            assert_eq!(opened(), (id, old), "{length}");
        }
        // The next change is not disturbed by what is left, and one that was killed after the rename is done.
        let next = OwnKey::open(&file).unwrap().unwrap().change().unwrap();
        assert_eq!(opened(), (id, next));
        fs::write(&file, &after).unwrap();
        assert_eq!(opened(), (id, new));
    }

    #[test]
    fn damaged_file_is_named_and_change_that_cannot_be_written_keeps_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state/identity.key");
        fs::create_dir(folder.path().join("state")).unwrap();
        let own = OwnKey::create(&file).unwrap();
        own.change().unwrap();
        let (good, kept) = (fs::read(&file).unwrap(), own.fingerprint());
        for bytes in [&good[..good.len() - 1], &[&good[..], b"\0"].concat(), &good[1..], &good[..40], b""] {
            fs::write(&file, bytes).unwrap();
            assert!(matches!(OwnKey::open(&file), Err(IdentityError::Damaged { .. })), "{} bytes", bytes.len());
        }
        fs::remove_dir_all(folder.path().join("state")).unwrap();
        assert!(matches!(own.change(), Err(IdentityError::Io { .. })));
        assert_eq!(own.fingerprint(), kept);
    }

    #[test]
    fn change_by_another_process_is_followed_and_another_program_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("identity.key");
        let own = OwnKey::create(&file).unwrap();
        let other = OwnKey::open(&file).unwrap().unwrap();
        assert!(!other.read_again().unwrap());
        own.change().unwrap();
        let now = own.change().unwrap();
        assert!(other.read_again().unwrap() && other.fingerprint() == now);
        OwnKey::create(&file).unwrap();
        assert!(!other.read_again().unwrap() && other.fingerprint() == now);
    }
}
