//! The hubs that the node is paired with, in a file of its state folder.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use daemon::cause::cause;
use daemon::identity::Fingerprint;
use daemon::identity::rotation::KeyHistory;
use daemon::private;
use daemon::tls::Keyring;
use serde::{Deserialize, Serialize};

/// The file in the state folder (JSON).
const FILE: &str = "hubs.json";

/// Most hubs that a node is paired with. A hub beyond that is refused.
pub const MAX_HUBS: usize = 8;

/// Most bytes that are read of the file. Eight hubs take about two thousand.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Longest name of a hub, in bytes. A longer one is cut.
const MAX_NAME_BYTES: usize = 64;

/// Digits of a key's fingerprint by which people name a hub, at least.
const SHORT_KEY: usize = 16;

/// A hub that the node is paired with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedHub {
    /// Fingerprint of its key, 64 hexadecimal digits.
    pub key: String,
    /// Its name, for people. May be empty.
    pub name: String,
    /// Its Owner service. `None`: other machines cannot reach it.
    pub owner: Option<SocketAddr>,
}

/// Why the list of hubs cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum HubsError {
    /// The file cannot be read or written.
    #[error("cannot use {}: {}", path.display(), cause(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says. Not the error's source: the message has all that it says.
        error: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged ({reason}); move it away, and pair the node with its hubs again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no place for another hub.
    #[error("the node is paired with {MAX_HUBS} hubs, the most; `cat-node forget` makes room")]
    Full,
    /// No hub has this name.
    #[error("the node is not paired with a hub \"{0}\"; `cat-node hubs` lists the hubs")]
    Unknown(String),
    /// Several hubs have this name, or keys that begin so.
    #[error("\"{0}\" names several hubs; give the whole key of one, as `cat-node hubs` shows it")]
    Ambiguous(String),
}

/// The hubs that the node is paired with, and the ring of their keys.
#[derive(Debug)]
pub struct Hubs {
    path: PathBuf,
    hubs: Mutex<Vec<PairedHub>>,
    /// Whoever changes the list holds this, so that readers do not wait for the disk.
    turn: Mutex<()>,
    keyring: Keyring,
    /// The file is there, as it is from the first pairing on.
    was_ever_paired: AtomicBool,
}

impl Hubs {
    /// Reads the hubs of a state folder.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged. Whoever starts without it would turn away all hubs.
    pub fn open(folder: &Path) -> Result<Self, HubsError> {
        let path = folder.join(FILE);
        let hubs = read(&path)?;
        let was_ever_paired = AtomicBool::new(path.exists());
        let keyring = Keyring::default();
        keyring.set(keys(&hubs));
        Ok(Self { path, hubs: Mutex::new(hubs), turn: Mutex::default(), keyring, was_ever_paired })
    }

    /// Whether the node is paired or was paired, also if all its hubs were forgotten.
    pub fn was_ever_paired(&self) -> bool {
        self.was_ever_paired.load(Ordering::Relaxed)
    }

    /// The ring of their keys, which follows the list.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The hub with an Owner service that was paired last: its key, and where its Owner service is.
    pub fn owner(&self) -> Option<(Fingerprint, SocketAddr)> {
        self.lock().iter().rev().find_map(|hub| Some((hub.key.parse().ok()?, hub.owner?)))
    }

    /// The hub with this key has called from this address. Its Owner service is there from now on, until the node
    /// stops. The file is left alone, because addresses come and go.
    pub fn note_address(&self, key: Fingerprint, address: IpAddr) {
        let key = self.keyring.present(key).to_string();
        if let Some(owner) = self.lock().iter_mut().find(|hub| hub.key == key).and_then(|hub| hub.owner.as_mut()) {
            owner.set_ip(address.to_canonical());
        }
    }

    /// All hubs, in the order in which they were paired.
    pub fn list(&self) -> Vec<PairedHub> {
        self.lock().clone()
    }

    /// Whether a hub with this key can be added.
    pub fn has_room_for(&self, key: Fingerprint) -> bool {
        let hubs = self.lock();
        hubs.len() < MAX_HUBS || hubs.iter().any(|hub| hub.key == key.to_string())
    }

    /// Adds a hub, in place of an earlier one with its key. Survives a power cut. Waits for the disk.
    ///
    /// # Errors
    /// If there are [`MAX_HUBS`] already, or the file cannot be written. Nothing has changed then.
    pub fn add(&self, mut hub: PairedHub) -> Result<(), HubsError> {
        hub.name = clean(&hub.name);
        self.change(|hubs| {
            hubs.retain(|known| known.key != hub.key);
            if hubs.len() >= MAX_HUBS {
                return Err(HubsError::Full);
            }
            hubs.push(hub);
            Ok(())
        })
    }

    /// Forgets the hub with this key, else the one with this name or a key that begins with these 16 digits or more.
    /// Its connections end at once. Waits for the disk.
    ///
    /// # Errors
    /// If no hub or several have this name, or the file cannot be written. Nothing has changed then.
    pub fn forget(&self, name: &str) -> Result<PairedHub, HubsError> {
        let digits = name.to_ascii_lowercase();
        let is_meant = |hub: &PairedHub| hub.name == name || digits.len() >= SHORT_KEY && hub.key.starts_with(&digits);
        self.change(|hubs| {
            // A whole key is that of one hub, whatever names other hubs give themselves.
            let place = match hubs.iter().position(|hub| hub.key == digits) {
                Some(place) => place,
                None => {
                    let mut meant = (0..hubs.len()).filter(|place| is_meant(&hubs[*place]));
                    let place = meant.next().ok_or_else(|| HubsError::Unknown(name.to_owned()))?;
                    if meant.next().is_some() {
                        return Err(HubsError::Ambiguous(name.to_owned()));
                    }
                    place
                }
            };
            Ok(hubs.remove(place))
        })
    }

    /// The hub with this history is known by its present key from now on, in place of all former ones. Its connections
    /// go on, but those by a former key end if the node also knew the present one. Survives a power cut. Waits for the
    /// disk. Returns the former key, which is the present one if the node knew only that already.
    ///
    /// # Errors
    /// [`HubsError::Unknown`] if no hub had one of its keys. If the file cannot be written. Nothing has
    /// changed then.
    pub fn follow_key(&self, history: &KeyHistory) -> Result<Fingerprint, HubsError> {
        let now = history.present();
        let former = |hub: &PairedHub| hub.key.parse().ok().filter(|key| *key != now && history.has_had(*key));
        // Asked first: a stranger makes the node write nothing.
        if !self.lock().iter().any(|hub| former(hub).is_some()) {
            return if self.keyring.trusts(now) { Ok(now) } else { Err(HubsError::Unknown(now.to_string())) };
        }
        let changed = |hubs: &mut Vec<PairedHub>| {
            // A hub that was paired again after an earlier change has several entries, of which one stays.
            let is_known = hubs.iter().any(|hub| hub.key == now.to_string());
            let latest = hubs.iter_mut().rev().find_map(|hub| Some((former(hub)?, hub)));
            let (old, hub) = latest.ok_or_else(|| HubsError::Unknown(now.to_string()))?;
            if !is_known {
                hub.key = now.to_string();
            }
            hubs.retain(|hub| former(hub).is_none());
            Ok((old, is_known))
        };
        let done = self.change_then(changed, |keyring, (old, is_known)| {
            if !is_known {
                keyring.change(*old, now);
            }
        });
        done.map(|(old, _)| old)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<PairedHub>) -> Result<T, HubsError>) -> Result<T, HubsError> {
        self.change_then(change, |_, _| {})
    }

    /// Changes the list. `then` is done to the ring of keys after the list is stored, and before the ring follows it.
    fn change_then<T>(
        &self,
        change: impl FnOnce(&mut Vec<PairedHub>) -> Result<T, HubsError>,
        then: impl FnOnce(&Keyring, &T),
    ) -> Result<T, HubsError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.list();
        let done = change(&mut changed)?;
        let text = serde_json::to_vec_pretty(&changed).map_err(|error| self.failed(error.into()))?;
        private::replace(&self.path, &text, true).map_err(|error| self.failed(error))?;
        then(&self.keyring, &done);
        self.keyring.set(keys(&changed));
        self.was_ever_paired.store(true, Ordering::Relaxed);
        *self.lock() = changed;
        Ok(done)
    }

    fn failed(&self, error: io::Error) -> HubsError {
        HubsError::Io { path: self.path.clone(), error }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PairedHub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys(hubs: &[PairedHub]) -> Vec<Fingerprint> {
    hubs.iter().filter_map(|hub| hub.key.parse().ok()).collect()
}

fn read(path: &Path) -> Result<Vec<PairedHub>, HubsError> {
    let failed = |error| HubsError::Io { path: path.to_owned(), error };
    let damaged = |reason: String| HubsError::Damaged { path: path.to_owned(), reason };
    let Some(text) = private::read(path, MAX_FILE_BYTES).map_err(failed)? else { return Ok(Vec::new()) };
    let hubs: Vec<PairedHub> = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    match hubs.iter().find(|hub| hub.key.parse::<Fingerprint>().is_err()) {
        Some(hub) => Err(damaged(format!("\"{}\" is not the fingerprint of a key", hub.key))),
        None => Ok(hubs),
    }
}

/// A name that a terminal can show: without control characters, and not too long.
fn clean(name: &str) -> String {
    let mut cleaned = String::new();
    for symbol in name.chars().filter(|symbol| !symbol.is_control()) {
        if cleaned.len() + symbol.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        cleaned.push(symbol);
    }
    cleaned.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use daemon::identity::{Key, OwnKey};

    use super::*;

    fn hub(name: &str) -> PairedHub {
        let key = Key::generate().unwrap().0.id().to_string();
        PairedHub { key, name: name.into(), owner: Some("192.168.1.2:50051".parse().unwrap()) }
    }

    fn trusts(hubs: &Hubs, hub: &PairedHub) -> bool {
        hubs.keyring().trusts(hub.key.parse().unwrap())
    }

    #[test]
    fn hubs_survive_a_restart_until_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (attic, cellar) = (hub("attic"), hub("cellar"));
        let hubs = Hubs::open(folder.path()).unwrap();
        hubs.add(attic.clone()).unwrap();
        hubs.add(cellar.clone()).unwrap();
        hubs.add(cellar.clone()).unwrap();
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let hubs = Hubs::open(folder.path()).unwrap();
        assert_eq!(hubs.list(), [attic.clone(), cellar.clone()]);
        assert!(trusts(&hubs, &attic) && trusts(&hubs, &cellar));
        assert_eq!(hubs.forget("attic").unwrap(), attic);
        assert!(!trusts(&hubs, &attic) && trusts(&hubs, &cellar));
        assert!(matches!(hubs.forget("attic"), Err(HubsError::Unknown(_))));
        assert!(matches!(hubs.forget(&cellar.key[..15]), Err(HubsError::Unknown(_))));
        assert_eq!(hubs.forget(&cellar.key[..16].to_uppercase()).unwrap(), cellar);
        assert_eq!(Hubs::open(folder.path()).unwrap().list(), []);
    }

    #[test]
    fn hub_is_forgotten_only_if_no_other_one_may_be_meant() {
        let folder = tempfile::tempdir().unwrap();
        let hubs = Hubs::open(folder.path()).unwrap();
        let attic = hub("attic");
        // Such a key is not found by chance: its owner has searched for it.
        let alike = PairedHub { key: format!("{}{}", &attic.key[..20], "0".repeat(44)), ..hub("cellar") };
        let same_name = PairedHub { name: attic.key.clone(), ..hub("") };
        for hub in [&attic, &alike, &same_name] {
            hubs.add(hub.clone()).unwrap();
        }
        let refused = hubs.forget(&attic.key[..16]).unwrap_err();
        assert!(refused.to_string().contains("names several hubs"), "{refused}");
        assert_eq!(hubs.list().len(), 3);
        assert_eq!(hubs.forget(&attic.key.to_uppercase()).unwrap(), attic);
        assert_eq!(hubs.forget(&alike.key[..16]).unwrap(), alike);
    }

    #[test]
    fn owner_is_that_of_the_hub_that_was_paired_last_where_it_calls_from() {
        let folder = tempfile::tempdir().unwrap();
        let hubs = Hubs::open(folder.path()).unwrap();
        assert_eq!(hubs.owner(), None);
        let (attic, mut cellar) = (hub("attic"), hub("cellar"));
        cellar.owner = None;
        let key: Fingerprint = attic.key.parse().unwrap();
        hubs.add(attic).unwrap();
        hubs.add(cellar.clone()).unwrap();
        assert_eq!(hubs.owner(), Some((key, "192.168.1.2:50051".parse().unwrap())));
        hubs.note_address(key, "::ffff:192.168.1.9".parse().unwrap());
        hubs.note_address(cellar.key.parse().unwrap(), "192.168.1.7".parse().unwrap());
        assert_eq!(hubs.owner(), Some((key, "192.168.1.9:50051".parse().unwrap())));
        assert_eq!(hubs.list()[1].owner, None);
        hubs.forget("attic").unwrap();
        assert_eq!(hubs.owner(), None);
    }

    #[test]
    fn hub_that_has_changed_its_key_keeps_its_place_and_others_cannot_take_it() {
        let folder = tempfile::tempdir().unwrap();
        let hubs = Hubs::open(folder.path()).unwrap();
        let own = OwnKey::from(Arc::new(Key::generate().unwrap().0));
        let (old, first) = (own.fingerprint(), hub("attic"));
        let attic = PairedHub { key: old.to_string(), ..first };
        hubs.add(attic.clone()).unwrap();
        hubs.add(hub("cellar")).unwrap();
        for _ in 0..2 {
            own.change().unwrap();
        }
        let now = own.fingerprint();
        let stranger = OwnKey::from(Arc::new(Key::generate().unwrap().0));
        stranger.change().unwrap();
        assert!(matches!(hubs.follow_key(&stranger.present().1), Err(HubsError::Unknown(_))));
        assert!(hubs.keyring().trusts(old));
        assert_eq!(hubs.follow_key(&own.present().1).unwrap(), old);
        assert_eq!(hubs.follow_key(&own.present().1).unwrap(), now, "once more");
        assert!(hubs.keyring().trusts(now) && !hubs.keyring().trusts(old) && hubs.keyring().trusts_open(old));
        hubs.note_address(old, "192.168.1.9".parse().unwrap());
        let owner = Some("192.168.1.9:50051".parse().unwrap());
        assert_eq!(hubs.list()[0], PairedHub { key: now.to_string(), owner, ..attic.clone() });
        let hubs = Hubs::open(folder.path()).unwrap();
        assert_eq!(hubs.list()[0], PairedHub { key: now.to_string(), ..attic.clone() });
        // Paired again by a program that could not announce its key: no former key stays, and later changes are
        // followed.
        hubs.add(PairedHub { key: old.to_string(), ..attic }).unwrap();
        assert!(hubs.keyring().trusts(old));
        assert_eq!(hubs.follow_key(&own.present().1).unwrap(), old);
        assert!(hubs.keyring().trusts(now) && !hubs.keyring().trusts_open(old));
        own.change().unwrap();
        assert_eq!(hubs.follow_key(&own.present().1).unwrap(), now);
        assert_eq!(hubs.list().len(), 2);
        hubs.forget("attic").unwrap();
        assert!(!hubs.keyring().trusts_open(old) && !hubs.keyring().trusts(now));
        assert!(matches!(hubs.follow_key(&own.present().1), Err(HubsError::Unknown(_))));
    }

    #[test]
    fn list_has_an_end_and_names_are_clean() {
        let folder = tempfile::tempdir().unwrap();
        let hubs = Hubs::open(folder.path()).unwrap();
        for _ in 0..MAX_HUBS {
            hubs.add(hub(&format!("\u{1b}[31mhome\n{}", "é".repeat(64)))).unwrap();
        }
        let name = &hubs.list()[0].name;
        assert!(name.len() <= MAX_NAME_BYTES && name.starts_with("[31mhomeé"), "{name}");
        assert!(matches!(hubs.add(hub("x")), Err(HubsError::Full)));
        assert!(matches!(hubs.forget(name), Err(HubsError::Ambiguous(_))));
        assert_eq!(hubs.list().len(), MAX_HUBS);
        let known: Fingerprint = hubs.list()[0].key.parse().unwrap();
        assert!(hubs.has_room_for(known) && !hubs.has_room_for(hub("y").key.parse().unwrap()));
    }

    #[test]
    fn damaged_list_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in ["junk", r#"[{"key":"meow","name":"","owner":null}]"#, r#"[{"key":1}]"#] {
            std::fs::write(&path, text).unwrap();
            let error = Hubs::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("hubs.json") && error.contains("move it away"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
