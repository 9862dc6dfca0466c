//! Tokens of programs that read the node's metrics from other machines. The state folder keeps their hashes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::cause::cause;
use daemon::private;
use daemon::terminal::escape;
use daemon::tls::Scrapers;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tracing::warn;

/// The file in the state folder (JSON).
const FILE: &str = "tokens.json";

/// Most tokens of a node.
pub const MAX_TOKENS: usize = 8;

/// Longest name of a token, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Most bytes that are read of the file. Eight tokens take about two thousand.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// How the text of a token begins.
const PREFIX: &str = "meowlink_node_";

/// Bytes of a token: 256 random bits.
const BYTES: usize = 32;

/// Most days after which a token expires, if it does.
pub const MOST_DAYS: u32 = 3650;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The file learns of the use of a token only if the one that it has is this old, to spare the memory card.
const NOTED_USE_S: u64 = DAY_S;

/// Before 2025 no token was made: a clock that shows such a time is not set yet.
const EARLIEST_S: u64 = 1_735_689_600;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: String,
    /// SHA-256 of its text, 64 hexadecimal digits. The text has 256 random bits, so nothing slower is needed.
    hash: String,
    /// When it expires, in seconds since 1970. `None`: never.
    #[serde(default)]
    expires_at_s: Option<u64>,
    /// When it was used last, in seconds since 1970. `None`: never.
    #[serde(default)]
    used_at_s: Option<u64>,
}

/// What may be known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// When it expires, in seconds since 1970. `None`: never.
    pub expires_at_s: Option<u64>,
    /// When it was used last, in seconds since 1970. After a restart of the node this may be a day too early. `None`:
    /// never.
    pub used_at_s: Option<u64>,
}

impl Token {
    /// What a person is shown of it at this time, without its end of line.
    pub fn line(&self, now: SystemTime) -> String {
        let now_s = unix_s(now);
        let expires = match self.expires_at_s {
            None => "never".into(),
            Some(end) if end <= now_s => "has expired".into(),
            Some(end) if end - now_s <= DAY_S => "within a day".into(),
            Some(end) => format!("in {} days", (end - now_s).div_ceil(DAY_S)),
        };
        let used = self.used_at_s.map_or("never".into(), |used| format!("{} ago", span(now_s.saturating_sub(used))));
        format!("{}  expires: {expires}  last used: {used}", escape(&self.name))
    }
}

/// A length of time, in the largest unit of which there are two.
fn span(seconds: u64) -> String {
    let units = [("days", DAY_S), ("hours", 3600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (name, length) = unit.unwrap_or(("seconds", 1));
    format!("{} {name}", seconds / length)
}

/// Why the tokens cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read or written.
    #[error("cannot use {}: {}", path.display(), cause(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says. Not the error's source: the message has all that it says.
        error: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged ({reason}); remove it, and make the tokens again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no place for another token.
    #[error("the node has {MAX_TOKENS} tokens, the most; `cat-node token remove` makes room")]
    Full,
    /// The time after which it would expire cannot be one.
    #[error("a token expires after 1 to {MOST_DAYS} days, or never")]
    BadDays,
    /// The clock does not show the date, so nothing can expire by it.
    #[error("the clock of this machine is not set yet, so a token cannot expire by it; try again later")]
    NoClock,
    /// The name cannot be one.
    #[error("a token's name has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    BadName,
    /// A token has this name already.
    #[error("there is a token \"{0}\" already; remove it first, or choose another name")]
    Taken(String),
    /// No token has this name.
    #[error("there is no token \"{0}\"; `cat-node token list` lists the tokens")]
    Unknown(String),
}

/// The tokens of a node. Clones share them.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    tokens: Mutex<Vec<Kept>>,
    /// Whoever changes the tokens holds this, so that readers do not wait for the disk.
    turn: Mutex<()>,
}

impl Tokens {
    /// Reads the tokens of a state folder.
    ///
    /// # Errors
    /// If the file cannot be read, or is damaged.
    pub fn open(folder: &Path) -> Result<Self, TokensError> {
        let path = folder.join(FILE);
        let tokens = Mutex::new(read(&path)?);
        Ok(Self(Arc::new(Shared { path, tokens, turn: Mutex::default() })))
    }

    /// The tokens, in the order in which they were made, those that have expired too.
    pub fn list(&self) -> Vec<Token> {
        let token = |Kept { name, expires_at_s, used_at_s, .. }: &Kept| Token {
            name: name.clone(),
            expires_at_s: *expires_at_s,
            used_at_s: *used_at_s,
        };
        self.lock().iter().map(token).collect()
    }

    /// Makes a token that expires after so many `days`, or never. Returns its text, which is not kept. Survives a power
    /// cut. Waits for the disk.
    ///
    /// # Errors
    /// If it cannot have this name or cannot expire then, there are [`MAX_TOKENS`] already, or the file cannot be
    /// written.
    pub fn add(&self, name: &str, days: Option<u32>) -> Result<String, TokensError> {
        self.add_at(name, days, now_s())
    }

    fn add_at(&self, name: &str, days: Option<u32>, now_s: u64) -> Result<String, TokensError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(TokensError::BadName);
        }
        if days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
            return Err(TokensError::BadDays);
        }
        if days.is_some() && now_s < EARLIEST_S {
            return Err(TokensError::NoClock);
        }
        let expires_at_s = days.map(|days| now_s + u64::from(days) * DAY_S);
        let digits = rand::random::<[u8; BYTES]>().map(|byte| format!("{byte:02x}")).concat();
        let text = format!("{PREFIX}{digits}");
        self.change(|tokens| {
            if tokens.iter().any(|token| token.name == name) {
                return Err(TokensError::Taken(name.to_owned()));
            }
            if tokens.len() >= MAX_TOKENS {
                return Err(TokensError::Full);
            }
            tokens.push(Kept { name: name.to_owned(), hash: hash(&text), expires_at_s, used_at_s: None });
            Ok(())
        })?;
        Ok(text)
    }

    /// Removes the token with this name. Waits for the disk.
    ///
    /// # Errors
    /// If no token has this name, or the file cannot be written.
    pub fn remove(&self, name: &str) -> Result<(), TokensError> {
        self.change(|tokens| {
            let place = tokens.iter().position(|token| token.name == name);
            tokens.remove(place.ok_or_else(|| TokensError::Unknown(name.to_owned()))?);
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Kept>) -> Result<(), TokensError>) -> Result<(), TokensError> {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.lock().clone();
        change(&mut changed)?;
        let failed = |error| TokensError::Io { path: self.0.path.clone(), error };
        let text = serde_json::to_vec_pretty(&changed).map_err(|error| failed(error.into()))?;
        private::replace(&self.0.path, &text, true).map_err(failed)?;
        let mut tokens = self.lock();
        // Tokens may have been used meanwhile.
        for token in &mut changed {
            if let Some(used) = tokens.iter().find(|known| known.hash == token.hash) {
                token.used_at_s = used.used_at_s;
            }
        }
        *tokens = changed;
        Ok(())
    }

    /// Uses a token at this time. `None`: it is not good. Otherwise whether the file should learn of the use.
    fn use_at(&self, token: &str, now_s: u64) -> Option<bool> {
        let hash = hash(token);
        let mut tokens = self.lock();
        let known = tokens.iter_mut().find(|known| known.hash.as_bytes().ct_eq(hash.as_bytes()).into())?;
        // A clock that is not set yet says nothing of how old a token is.
        if known.expires_at_s.is_some_and(|end| now_s >= end || now_s < EARLIEST_S) {
            return None;
        }
        if now_s < EARLIEST_S {
            return Some(false);
        }
        let before = known.used_at_s.replace(now_s);
        Some(before.is_none_or(|before| before > now_s || now_s - before >= NOTED_USE_S))
    }

    fn note_uses(&self) {
        if let Err(error) = self.change(|_| Ok(())) {
            warn!(%error, "the use of a token is not noted");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scrapers for Tokens {
    fn admit(&self, token: &str) -> bool {
        let used = self.use_at(token, now_s());
        if used == Some(true) {
            let tokens = self.clone();
            tokio::task::spawn_blocking(move || tokens.note_uses());
        }
        used.is_some()
    }
}

fn now_s() -> u64 {
    unix_s(SystemTime::now())
}

fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Vec<Kept>, TokensError> {
    let failed = |error| TokensError::Io { path: path.to_owned(), error };
    let Some(text) = private::read(path, MAX_FILE_BYTES).map_err(failed)? else { return Ok(Vec::new()) };
    serde_json::from_slice(&text)
        .map_err(|error| TokensError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A time at which the clock is set.
    const NOW_S: u64 = EARLIEST_S + 1_000_000;

    fn is_good(tokens: &Tokens, token: &str) -> bool {
        tokens.use_at(token, NOW_S).is_some()
    }

    #[test]
    fn token_is_good_until_it_is_removed_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (one, other) = (tokens.add("grafana", None).unwrap(), tokens.add("home", None).unwrap());
        assert!(one != other && one.starts_with(PREFIX) && one.len() == PREFIX.len() + 64, "{one}");
        let file = folder.path().join(FILE);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(!kept.contains(&one[PREFIX.len()..]), "{kept}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let tokens = Tokens::open(folder.path()).unwrap();
        assert!(is_good(&tokens, &one) && is_good(&tokens, &other));
        assert!(!is_good(&tokens, "") && !is_good(&tokens, &one.to_uppercase()) && !is_good(&tokens, &hash(&one)));
        tokens.remove("grafana").unwrap();
        assert!(!is_good(&tokens, &one) && is_good(&tokens, &other));
        assert!(!is_good(&Tokens::open(folder.path()).unwrap(), &one));
    }

    #[test]
    fn token_expires_and_needs_a_clock_for_that() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let token = tokens.add_at("short", Some(1), NOW_S).unwrap();
        assert!(tokens.use_at(&token, NOW_S + DAY_S - 1).is_some());
        assert_eq!(tokens.use_at(&token, NOW_S + DAY_S), None);
        assert_eq!(tokens.use_at(&token, 60), None, "a Raspberry Pi has just started, and its clock shows 1970");
        assert!(matches!(tokens.add_at("other", Some(1), 60), Err(TokensError::NoClock)));
        for days in [0, MOST_DAYS + 1] {
            assert!(matches!(tokens.add("other", Some(days)), Err(TokensError::BadDays)), "{days}");
        }
        let lasting = tokens.add_at("lasting", None, 60).unwrap();
        assert_eq!(tokens.use_at(&lasting, 60), Some(false));
        assert_eq!(tokens.list()[1].used_at_s, None, "1970 is no time of use");
    }

    #[test]
    fn last_use_is_kept_and_the_file_written_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let token = tokens.add("grafana", None).unwrap();
        assert_eq!(tokens.list()[0].used_at_s, None);
        assert_eq!(tokens.use_at(&token, NOW_S), Some(true));
        tokens.note_uses();
        assert_eq!(tokens.use_at(&token, NOW_S + 15), Some(false));
        assert_eq!(tokens.list()[0].used_at_s, Some(NOW_S + 15));
        assert_eq!(Tokens::open(folder.path()).unwrap().list()[0].used_at_s, Some(NOW_S));
        assert_eq!(tokens.use_at("wrong", NOW_S + 30), None);
        assert_eq!(tokens.list()[0].used_at_s, Some(NOW_S + 15), "a wrong token is no use");
        assert_eq!(tokens.use_at(&token, NOW_S + 2 * DAY_S), Some(true));
    }

    #[test]
    fn line_says_when_a_token_expires_and_was_used() {
        let now = UNIX_EPOCH + std::time::Duration::from_secs(NOW_S);
        let line = |expires_at_s, used_at_s| Token { name: "a".into(), expires_at_s, used_at_s }.line(now);
        assert_eq!(line(None, None), "a  expires: never  last used: never");
        assert_eq!(line(Some(NOW_S), Some(NOW_S - 119)), "a  expires: has expired  last used: 119 seconds ago");
        let soon = NOW_S + 90 * DAY_S - 60;
        assert_eq!(line(Some(soon), Some(NOW_S + 9)), "a  expires: in 90 days  last used: 0 seconds ago");
        assert_eq!(line(Some(NOW_S + 7200), Some(NOW_S - 120)), "a  expires: within a day  last used: 2 minutes ago");
    }

    #[test]
    fn names_and_numbers_have_limits() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        for name in ["", "a\nb", &"a".repeat(MAX_NAME_BYTES + 1)] {
            assert!(matches!(tokens.add(name, None), Err(TokensError::BadName)), "{name:?}");
        }
        for number in 0..MAX_TOKENS {
            tokens.add(&number.to_string(), None).unwrap();
        }
        assert!(matches!(tokens.add("0", None), Err(TokensError::Taken(_))));
        assert!(matches!(tokens.add("one more", None), Err(TokensError::Full)));
        assert!(matches!(tokens.remove("one more"), Err(TokensError::Unknown(_))));
        std::fs::write(folder.path().join(FILE), "[{\"name\":1}]").unwrap();
        assert!(matches!(Tokens::open(folder.path()), Err(TokensError::Damaged { .. })));
    }
}
