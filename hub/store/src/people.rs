//! Users, their sessions, tokens of programs, and the audit log. Roles are words here; `hub-people` gives them meaning.

use hub_base::time::{days_before, now_ns};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::database::Store;
use crate::error::StoreError;
use crate::people_mark;

/// Most users.
pub const MAX_USERS: usize = 64;

/// Most tokens of programs.
pub const MAX_TOKENS: usize = 128;

/// Most sessions of a user. For one more, the other session that was not used for the longest time ends.
pub const MAX_SESSIONS_PER_USER: usize = 20;

/// Most entries of the audit log. For one more, the oldest is deleted.
pub const MAX_AUDIT_ENTRIES: i64 = 100_000;

/// An entry that repeats one from less than this ago is left out, if [`Repeats`] says so.
const REPEAT_NS: i64 = 600 * 1_000_000_000;

/// Entries of the audit log, the latest, among which a repeated one is looked for.
const LOOKED_THROUGH: i64 = 1_000;

/// How long an entry of the audit log is kept, in days.
pub const AUDIT_DAYS: u32 = 365;

/// Most entries of the audit log that one write deletes for their age, so that no request waits for long.
const MAX_AGED_OUT: i64 = 100;

/// The role of those who may change users. The last of them cannot be removed by accident.
const ADMIN: &str = "admin";

/// What is kept of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// Random bytes.
    pub salt: Vec<u8>,
    /// argon2id of the password and the salt.
    pub hash: Vec<u8>,
    /// Memory of the hash function, in KiB.
    pub memory_kib: u32,
    /// Passes of the hash function over its memory.
    pub passes: u32,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: String,
    /// The word for the role.
    pub role: String,
    /// When the user was added, in nanoseconds since 1970 UTC.
    pub created_at_ns: i64,
    /// Last use of a session, in nanoseconds since 1970 UTC, to ten minutes. `None`: no session.
    pub used_at_ns: Option<i64>,
}

/// What became of a change to the users or tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Done,
    /// The name is taken.
    Taken,
    /// There are [`MAX_USERS`] or [`MAX_TOKENS`] already.
    Full,
    /// There are users already, so this is not the first.
    NotFirst,
    /// A user was added since, and removed.
    TooLate,
    /// Nothing has this name.
    Unknown,
    /// Without this admin, there would be none.
    LastAdmin,
}

/// A session to store.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Name of the user.
    pub user: String,
    /// The hash with which the password was checked. If the password has changed since, there is no session.
    pub password: Vec<u8>,
    /// SHA-256 of the cookie's value.
    pub token_hash: Vec<u8>,
    /// IP address that logged in.
    pub address: String,
    /// The browser, by its own word.
    pub agent: String,
    /// When it ends, in nanoseconds since 1970 UTC.
    pub expires_at_ns: i64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: i64,
    /// Name of the user.
    pub user: String,
    /// The word for the user's role at present.
    pub role: String,
    /// IP address that logged in.
    pub address: String,
    /// The browser, by its own word.
    pub agent: String,
    /// When the user logged in, in nanoseconds since 1970 UTC.
    pub created_at_ns: i64,
    /// Last use, in nanoseconds since 1970 UTC, to ten minutes.
    pub used_at_ns: i64,
}

/// A token of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// The word for its role.
    pub role: String,
    /// When it was made, in nanoseconds since 1970 UTC.
    pub created_at_ns: i64,
    /// When it ends, in nanoseconds since 1970 UTC. `None`: never.
    pub expires_at_ns: Option<i64>,
    /// Last use, in nanoseconds since 1970 UTC, to ten minutes. `None`: never used.
    pub used_at_ns: Option<i64>,
}

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number. 0 for an entry that is not stored yet.
    pub id: i64,
    /// When, in nanoseconds since 1970 UTC. 0 for an entry that is not stored yet.
    pub at_ns: i64,
    /// Who did it.
    pub who: String,
    /// IP address, empty for a command.
    pub address: String,
    /// What was done: a word.
    pub action: String,
    /// What it was done to.
    pub subject: String,
}

/// Whether an entry of the audit log is left out if there is one like it from the last ten minutes, so that nobody
/// pushes other entries out by repeating something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// It is not left out.
    Stay,
    /// It is left out if the other one has the same address too.
    FoldByAddress,
    /// It is left out, wherever it came from.
    Fold,
    /// It is not left out. Of such entries by one person or machine, the last [`KEPT_OF_ONE`] are kept.
    Last,
}

/// Most entries of one action by one person or machine that are kept, for [`Repeats::Last`].
const KEPT_OF_ONE: i64 = 100;

const SESSION: &str = "SELECT s.id, u.name, u.role, s.address, s.agent, s.created_at_ns, s.used_at_ns \
                       FROM sessions s JOIN users u ON u.id = s.user_id";

const TOKEN: &str = "SELECT name, role, created_at_ns, expires_at_ns, used_at_ns FROM tokens";

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        id: row.get(0)?,
        user: row.get(1)?,
        role: row.get(2)?,
        address: row.get(3)?,
        agent: row.get(4)?,
        created_at_ns: row.get(5)?,
        used_at_ns: row.get(6)?,
    })
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        name: row.get(0)?,
        role: row.get(1)?,
        created_at_ns: row.get(2)?,
        expires_at_ns: row.get(3)?,
        used_at_ns: row.get(4)?,
    })
}

fn all<T>(db: &Connection, sql: &str, read: fn(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, StoreError> {
    Ok(db.prepare(sql)?.query_map([], read)?.collect::<Result<_, _>>()?)
}

fn count(db: &Connection, table: &str) -> Result<usize, StoreError> {
    let count: i64 = db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn has(db: &Connection, table: &str, name: &str) -> Result<bool, StoreError> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE name = ?1)");
    Ok(db.query_row(&sql, [name], |row| row.get(0))?)
}

/// The highest number that a user ever had. SQLite gives no number twice.
fn users_ever(db: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'users'";
    Ok(db.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Lets sessions end at `latest_ns` that would end later: they were used while the clock was ahead.
fn end_in_time(db: &Connection, now_ns: i64, latest_ns: i64) -> Result<(), StoreError> {
    let sql = "UPDATE sessions SET expires_at_ns = ?2, used_at_ns = min(used_at_ns, ?1) WHERE expires_at_ns > ?2";
    db.execute(sql, [now_ns, latest_ns])?;
    Ok(())
}

/// Whether `name` is an admin and nobody else is.
fn is_last_admin(db: &Transaction<'_>, name: &str) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE name = ?1 AND role = ?2) \
               AND NOT EXISTS (SELECT 1 FROM users WHERE name <> ?1 AND role = ?2)";
    Ok(db.query_row(sql, [name, ADMIN], |row| row.get(0))?)
}

impl Store {
    /// How many users were ever added, those that were removed too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn users_ever(&self) -> Result<i64, StoreError> {
        self.read(users_ever).await
    }

    /// Adds a user. With `first_after`, only if there are none, and none was added since [`Store::users_ever`] was
    /// this number, by whatever process. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_user(
        &self,
        name: String,
        role: &'static str,
        password: PasswordHash,
        first_after: Option<i64>,
    ) -> Result<Change, StoreError> {
        let database = self.path().to_owned();
        self.write_durably(move |db| {
            let users = count(db, "users")?;
            if let Some(ever) = first_after {
                if users > 0 {
                    return Ok(Change::NotFirst);
                }
                if users_ever(db)? != ever {
                    return Ok(Change::TooLate);
                }
            }
            if has(db, "users", &name)? {
                return Ok(Change::Taken);
            }
            if users >= MAX_USERS {
                return Ok(Change::Full);
            }
            let PasswordHash { salt, hash, memory_kib, passes } = password;
            db.execute(
                "INSERT INTO users (name, role, salt, hash, memory_kib, passes, created_at_ns) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![name, role, salt, hash, memory_kib, passes, now_ns()],
            )?;
            people_mark::set(&database)?;
            Ok(Change::Done)
        })
        .await
    }

    /// The users, by name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = "SELECT name, role, created_at_ns, (SELECT max(used_at_ns) FROM sessions WHERE user_id = users.id) \
                   FROM users ORDER BY name";
        let user = |row: &Row<'_>| {
            Ok(User { name: row.get(0)?, role: row.get(1)?, created_at_ns: row.get(2)?, used_at_ns: row.get(3)? })
        };
        self.read(move |db| all(db, sql, user)).await
    }

    /// The password of a user. `None`: there is no such user.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn password_of(&self, name: String) -> Result<Option<PasswordHash>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT salt, hash, memory_kib, passes FROM users WHERE name = ?1";
            let password = |row: &Row<'_>| {
                Ok(PasswordHash { salt: row.get(0)?, hash: row.get(1)?, memory_kib: row.get(2)?, passes: row.get(3)? })
            };
            Ok(db.query_row(sql, [name], password).optional()?)
        })
        .await
    }

    /// Changes the role and the password of a user, as far as they are given: both or neither. A role counts at once
    /// for the user's sessions too, and the last admin stays admin. A password ends the user's sessions. Survives a
    /// power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_user(
        &self,
        name: String,
        role: Option<&'static str>,
        password: Option<PasswordHash>,
    ) -> Result<Change, StoreError> {
        self.write_durably(move |db| {
            if !has(db, "users", &name)? {
                return Ok(Change::Unknown);
            }
            if let Some(role) = role {
                if role != ADMIN && is_last_admin(db, &name)? {
                    return Ok(Change::LastAdmin);
                }
                db.execute("UPDATE users SET role = ?2 WHERE name = ?1", [name.as_str(), role])?;
            }
            if let Some(PasswordHash { salt, hash, memory_kib, passes }) = password {
                db.execute(
                    "UPDATE users SET salt = ?2, hash = ?3, memory_kib = ?4, passes = ?5 WHERE name = ?1",
                    params![name, salt, hash, memory_kib, passes],
                )?;
                db.execute("DELETE FROM sessions WHERE user_id = (SELECT id FROM users WHERE name = ?1)", [name])?;
            }
            Ok(Change::Done)
        })
        .await
    }

    /// Removes a user and ends the user's sessions. With `even_last`, the last admin too. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_user(&self, name: String, even_last: bool) -> Result<Change, StoreError> {
        let change = self
            .write_durably(move |db| {
                if !even_last && is_last_admin(db, &name)? {
                    return Ok(Change::LastAdmin);
                }
                let removed = db.execute("DELETE FROM users WHERE name = ?1", [name])?;
                Ok(if removed == 0 { Change::Unknown } else { Change::Done })
            })
            .await?;
        if change == Change::Done {
            self.unmark_users().await;
        }
        Ok(change)
    }

    /// Stores a session, and deletes those that are over, unless the clock is in doubt. No session ends later than
    /// this one. Returns whether it is stored: the user is still there with the same password.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_session(&self, new: NewSession) -> Result<bool, StoreError> {
        let is_plausible = self.clock().look().is_plausible();
        self.write_durably(move |db| {
            let now_ns = now_ns();
            if is_plausible {
                end_in_time(db, now_ns, new.expires_at_ns)?;
                db.execute("DELETE FROM sessions WHERE expires_at_ns <= ?1", [now_ns])?;
            }
            let stored = db.execute(
                "INSERT INTO sessions (user_id, token_hash, address, agent, created_at_ns, used_at_ns, expires_at_ns) \
                 SELECT id, ?2, ?3, ?4, ?5, ?5, ?6 FROM users WHERE name = ?1 AND hash = ?7",
                params![new.user, new.token_hash, new.address, new.agent, now_ns, new.expires_at_ns, new.password],
            )?;
            if stored == 0 {
                return Ok(false);
            }
            let others = i64::try_from(MAX_SESSIONS_PER_USER - 1).unwrap_or(i64::MAX);
            // The clock may be behind, so that the new session seems to be the oldest.
            db.execute(
                "DELETE FROM sessions WHERE id IN (SELECT s.id FROM sessions s JOIN users u ON u.id = s.user_id \
                 WHERE u.name = ?1 AND s.id <> ?2 ORDER BY s.used_at_ns DESC, s.id DESC LIMIT -1 OFFSET ?3)",
                params![new.user, db.last_insert_rowid(), others],
            )?;
            Ok(true)
        })
        .await
    }

    /// The session with this hash that is not over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session(&self, token_hash: Vec<u8>) -> Result<Option<Session>, StoreError> {
        self.read(move |db| {
            let sql = format!("{SESSION} WHERE s.token_hash = ?1 AND s.expires_at_ns > ?2");
            Ok(db.query_row(&sql, params![token_hash, now_ns()], session).optional()?)
        })
        .await
    }

    /// All sessions, the last used first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sessions(&self) -> Result<Vec<Session>, StoreError> {
        self.read(|db| {
            let sql = format!("{SESSION} WHERE s.expires_at_ns > ?1 ORDER BY s.used_at_ns DESC, s.id DESC");
            Ok(db.prepare(&sql)?.query_map([now_ns()], session)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Notes the use of a session, and when it ends if it is not used again. No session ends later than this one. While
    /// the clock is in doubt, no session ends earlier than before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn use_session(&self, id: i64, expires_at_ns: i64) -> Result<(), StoreError> {
        let is_plausible = self.clock().look().is_plausible();
        self.write(move |db| {
            let now_ns = now_ns();
            let sql = if is_plausible {
                end_in_time(db, now_ns, expires_at_ns)?;
                "UPDATE sessions SET used_at_ns = ?2, expires_at_ns = ?3 WHERE id = ?1"
            } else {
                "UPDATE sessions SET used_at_ns = ?2, expires_at_ns = max(expires_at_ns, ?3) \
                 WHERE id = ?1 AND used_at_ns < ?2"
            };
            db.execute(sql, params![id, now_ns, expires_at_ns])?;
            Ok(())
        })
        .await
    }

    /// Ends the session with this number. Returns whether there was one. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_session(&self, id: i64) -> Result<bool, StoreError> {
        self.write_durably(move |db| Ok(db.execute("DELETE FROM sessions WHERE id = ?1", [id])? > 0)).await
    }

    /// Stores a token. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_token(
        &self,
        name: String,
        role: &'static str,
        token_hash: Vec<u8>,
        expires_at_ns: Option<i64>,
    ) -> Result<Change, StoreError> {
        self.write_durably(move |db| {
            if has(db, "tokens", &name)? {
                return Ok(Change::Taken);
            }
            if count(db, "tokens")? >= MAX_TOKENS {
                return Ok(Change::Full);
            }
            db.execute(
                "INSERT INTO tokens (name, role, token_hash, created_at_ns, expires_at_ns) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, role, token_hash, now_ns(), expires_at_ns],
            )?;
            Ok(Change::Done)
        })
        .await
    }

    /// The token with this hash that has not expired.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn token(&self, token_hash: Vec<u8>) -> Result<Option<Token>, StoreError> {
        self.read(move |db| {
            let sql = format!("{TOKEN} WHERE token_hash = ?1 AND (expires_at_ns IS NULL OR expires_at_ns > ?2)");
            Ok(db.query_row(&sql, params![token_hash, now_ns()], token).optional()?)
        })
        .await
    }

    /// All tokens, by name, those that have expired too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<Token>, StoreError> {
        self.read(|db| all(db, &format!("{TOKEN} ORDER BY name"), token)).await
    }

    /// Notes the use of a token.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn use_token(&self, name: String) -> Result<(), StoreError> {
        self.write(move |db| {
            db.execute("UPDATE tokens SET used_at_ns = ?2 WHERE name = ?1", params![name, now_ns()])?;
            Ok(())
        })
        .await
    }

    /// Removes a token. Survives a power cut.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_token(&self, name: String) -> Result<Change, StoreError> {
        self.write_durably(move |db| {
            let removed = db.execute("DELETE FROM tokens WHERE name = ?1", [name])?;
            Ok(if removed == 0 { Change::Unknown } else { Change::Done })
        })
        .await
    }

    /// Adds an entry to the audit log, and deletes entries that are older than [`AUDIT_DAYS`] (unless the clock is in
    /// doubt) or more than [`MAX_AUDIT_ENTRIES`]. Leaves a repeated entry out if `repeats` says so.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_audit(&self, entry: AuditEntry, repeats: Repeats) -> Result<(), StoreError> {
        let may_age = self.clock().look().is_plausible();
        self.write(move |db| {
            let now_ns = now_ns();
            let is_folded = matches!(repeats, Repeats::Fold | Repeats::FoldByAddress);
            let looked_through = if is_folded { LOOKED_THROUGH } else { 0 };
            let from_anywhere = repeats == Repeats::Fold;
            let AuditEntry { who, address, action, subject, .. } = entry;
            let added = db.execute(
                "INSERT INTO audit (at_ns, who, address, action, subject) SELECT ?1, ?2, ?3, ?4, ?5 \
                 WHERE NOT EXISTS (SELECT 1 FROM (SELECT * FROM audit ORDER BY id DESC LIMIT ?6) \
                 WHERE who = ?2 AND (address = ?3 OR ?7) AND action = ?4 AND subject = ?5 AND abs(at_ns - ?1) < ?8)",
                params![now_ns, who, address, action, subject, looked_through, from_anywhere, REPEAT_NS],
            )?;
            if added == 0 {
                return Ok(());
            }
            db.execute("DELETE FROM audit WHERE id <= ?1", [db.last_insert_rowid() - MAX_AUDIT_ENTRIES])?;
            if repeats == Repeats::Last {
                db.execute(
                    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE who = ?1 AND action = ?2 \
                     ORDER BY id DESC LIMIT -1 OFFSET ?3)",
                    params![who, action, KEPT_OF_ONE],
                )?;
            }
            if may_age {
                // Numbers grow with time, so the aged entries are the first.
                db.execute(
                    "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?1) AND at_ns < ?2",
                    [MAX_AGED_OUT, days_before(now_ns, AUDIT_DAYS)],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Entries of the audit log, the latest first, at most `limit`. With `before`, those with lower numbers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |db| {
            let sql = "SELECT id, at_ns, who, address, action, subject FROM audit WHERE id < ?1 \
                       ORDER BY id DESC LIMIT ?2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let entry = |row: &Row<'_>| {
                Ok(AuditEntry {
                    id: row.get(0)?,
                    at_ns: row.get(1)?,
                    who: row.get(2)?,
                    address: row.get(3)?,
                    action: row.get(4)?,
                    subject: row.get(5)?,
                })
            };
            let before = before.unwrap_or(i64::MAX);
            Ok(db.prepare(sql)?.query_map([before, limit], entry)?.collect::<Result<_, _>>()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use hub_base::clock::{Clock, Reading};

    use super::*;
    use crate::database::Access;

    fn password(byte: u8) -> PasswordHash {
        PasswordHash { salt: vec![byte], hash: vec![byte], memory_kib: 8, passes: 1 }
    }

    fn new_session(user: &str, number: u8, expires_at_ns: i64) -> NewSession {
        let (address, agent) = ("192.0.2.1".to_owned(), "Browser".to_owned());
        let token_hash = vec![number];
        NewSession { user: user.into(), password: vec![1], token_hash, address, agent, expires_at_ns }
    }

    async fn store_with_admin() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        assert!(!store.has_users().await.unwrap());
        assert_eq!(store.add_user("anna".into(), ADMIN, password(1), Some(0)).await.unwrap(), Change::Done);
        (dir, store)
    }

    #[tokio::test]
    async fn last_admin_stays_and_names_are_unique() {
        let (_dir, store) = store_with_admin().await;
        assert_eq!(store.add_user("ben".into(), "viewer", password(2), Some(1)).await.unwrap(), Change::NotFirst);
        assert_eq!(store.add_user("anna".into(), "viewer", password(2), None).await.unwrap(), Change::Taken);
        assert_eq!(store.add_user("ben".into(), "viewer", password(2), None).await.unwrap(), Change::Done);
        assert_eq!(
            store.change_user("anna".into(), Some("owner"), Some(password(9))).await.unwrap(),
            Change::LastAdmin
        );
        let stays = store.password_of("anna".into()).await.unwrap();
        assert_eq!(stays, Some(password(1)), "role and password change together or not at all");
        assert_eq!(store.remove_user("anna".into(), false).await.unwrap(), Change::LastAdmin);
        assert_eq!(store.change_user("ben".into(), Some(ADMIN), None).await.unwrap(), Change::Done);
        assert_eq!(store.remove_user("anna".into(), false).await.unwrap(), Change::Done);
        assert_eq!(store.remove_user("anna".into(), false).await.unwrap(), Change::Unknown);
        assert_eq!(store.remove_user("ben".into(), true).await.unwrap(), Change::Done);
        assert!(!store.has_users().await.unwrap());
        assert_eq!(store.users_ever().await.unwrap(), 2);
        let first_after = async |ever| store.add_user("eve".into(), ADMIN, password(3), Some(ever)).await.unwrap();
        assert_eq!(first_after(0).await, Change::TooLate);
        assert_eq!(first_after(1).await, Change::TooLate);
        for number in 0..MAX_USERS {
            let added = store.add_user(format!("u{number}"), "viewer", password(1), None).await.unwrap();
            assert_eq!(added, Change::Done);
        }
        assert_eq!(store.add_user("more".into(), "viewer", password(1), None).await.unwrap(), Change::Full);
    }

    #[tokio::test]
    async fn sessions_end_with_the_password_the_user_and_their_time_and_are_limited() {
        let (_dir, store) = store_with_admin().await;
        assert!(
            !store.add_session(NewSession { password: vec![9], ..new_session("anna", 0, i64::MAX) }).await.unwrap()
        );
        assert!(store.add_session(new_session("anna", 0, 1)).await.unwrap());
        assert_eq!(store.session(vec![0]).await.unwrap(), None, "it is over");
        for number in 1..=21 {
            assert!(store.add_session(new_session("anna", number, i64::MAX)).await.unwrap());
        }
        assert_eq!(store.sessions().await.unwrap().len(), MAX_SESSIONS_PER_USER);
        assert_eq!(store.session(vec![1]).await.unwrap(), None, "the oldest made room");
        let found = store.session(vec![2]).await.unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.role.as_str()), ("anna", ADMIN));
        assert!(store.end_session(found.id).await.unwrap() && !store.end_session(found.id).await.unwrap());
        store.change_user("anna".into(), None, Some(password(1))).await.unwrap();
        assert_eq!(store.sessions().await.unwrap(), []);
        assert!(store.add_session(new_session("anna", 30, i64::MAX)).await.unwrap());
        store.remove_user("anna".into(), true).await.unwrap();
        assert_eq!(store.session(vec![30]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn new_session_stays_while_the_clock_is_behind() {
        let (_dir, store) = store_with_admin().await;
        for number in 1..=20 {
            assert!(store.add_session(new_session("anna", number, i64::MAX)).await.unwrap());
        }
        // To a clock at 1970, these were used in the future.
        let later = now_ns() + 3_600 * 1_000_000_000;
        store.write(move |db| Ok(db.execute("UPDATE sessions SET used_at_ns = ?1", [later])?)).await.unwrap();
        assert!(store.add_session(new_session("anna", 21, i64::MAX)).await.unwrap());
        assert!(store.session(vec![21]).await.unwrap().is_some());
        assert_eq!(store.sessions().await.unwrap().len(), MAX_SESSIONS_PER_USER);
    }

    #[tokio::test]
    async fn use_by_a_wrong_clock_neither_prolongs_a_session_for_years_nor_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let is_right = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&is_right);
        let clock = Clock::with(None, move || Reading {
            steady_ns: 1,
            unix_ns: 1,
            synchronised: Some(says.load(Ordering::Relaxed)),
        });
        let store = Store::open_with(dir.path(), Access::Keeper, clock).unwrap();
        store.add_user("anna".into(), ADMIN, password(1), None).await.unwrap();
        let (soon, late) = (now_ns() + 3_600 * 1_000_000_000, now_ns() + 7_200 * 1_000_000_000);
        assert!(store.add_session(new_session("anna", 1, 5)).await.unwrap());
        assert!(store.add_session(new_session("anna", 2, late)).await.unwrap());
        let ends = async || -> Vec<i64> {
            let sql = "SELECT expires_at_ns FROM sessions ORDER BY id";
            store.read(move |db| all(db, sql, |row| row.get(0))).await.unwrap()
        };
        store.use_session(2, soon).await.unwrap();
        assert_eq!(ends().await, [5, late], "the clock may be behind");
        is_right.store(true, Ordering::Relaxed);
        store.use_session(1, soon).await.unwrap();
        assert_eq!(ends().await, [soon, soon], "the clock was ahead");
        assert!(store.add_session(new_session("anna", 3, soon - 1)).await.unwrap());
        assert_eq!(ends().await, [soon - 1; 3]);
    }

    #[tokio::test]
    async fn expired_and_removed_tokens_are_not_found() {
        let (_dir, store) = store_with_admin().await;
        store.add_token("a".into(), "viewer", vec![1], None).await.unwrap();
        store.add_token("b".into(), "viewer", vec![2], Some(1)).await.unwrap();
        assert_eq!(store.add_token("a".into(), "viewer", vec![3], None).await.unwrap(), Change::Taken);
        assert!(store.token(vec![1]).await.unwrap().is_some_and(|token| token.used_at_ns.is_none()));
        store.use_token("a".into()).await.unwrap();
        assert!(store.token(vec![1]).await.unwrap().is_some_and(|token| token.used_at_ns.is_some()));
        assert_eq!(store.token(vec![2]).await.unwrap(), None);
        assert_eq!(store.remove_token("a".into()).await.unwrap(), Change::Done);
        assert_eq!(store.token(vec![1]).await.unwrap(), None);
        assert_eq!(store.tokens().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn repeated_entries_are_folded_where_that_is_asked_for() {
        let (_dir, store) = store_with_admin().await;
        let add = async |subject: &str, address: &str, repeats| {
            let [who, action] = ["anna", "live_listening"].map(str::to_owned);
            let (address, subject) = (address.to_owned(), subject.to_owned());
            store.add_audit(AuditEntry { id: 0, at_ns: 0, who, address, action, subject }, repeats).await.unwrap();
            store.audit(None, 99).await.unwrap().len()
        };
        assert_eq!(add("a", "192.0.2.1", Repeats::Stay).await, 1);
        assert_eq!(add("a", "192.0.2.1", Repeats::Stay).await, 2);
        assert_eq!(add("a", "192.0.2.1", Repeats::FoldByAddress).await, 2);
        assert_eq!(add("a", "192.0.2.2", Repeats::FoldByAddress).await, 3);
        assert_eq!(add("a", "192.0.2.3", Repeats::Fold).await, 3);
        assert_eq!(add("b", "192.0.2.1", Repeats::Fold).await, 4);
        let sql = "UPDATE audit SET at_ns = at_ns - ?1";
        store.write(move |db| Ok(db.execute(sql, [REPEAT_NS])?)).await.unwrap();
        assert_eq!(add("b", "192.0.2.1", Repeats::Fold).await, 5, "ten minutes later");
    }

    #[tokio::test]
    async fn one_who_repeats_something_pushes_nobody_elses_entries_out() {
        let (_dir, store) = store_with_admin().await;
        let add = async |who: &str, subject: i64| {
            let [who, action] = [who, "change_node_key"].map(str::to_owned);
            let entry =
                AuditEntry { id: 0, at_ns: 0, who, address: String::new(), action, subject: subject.to_string() };
            store.add_audit(entry, Repeats::Last).await.unwrap();
        };
        add("attic", 0).await;
        for subject in 0..KEPT_OF_ONE + 5 {
            add("kitchen", subject).await;
        }
        let entries = store.audit(None, 1_000).await.unwrap();
        assert_eq!(entries.len() as i64, KEPT_OF_ONE + 1);
        assert_eq!(entries[0].subject, (KEPT_OF_ONE + 4).to_string(), "the latest stay");
        assert_eq!(entries.last().unwrap().who, "attic");
    }

    #[tokio::test]
    async fn audit_log_is_paged_and_forgets_after_a_year() {
        let (_dir, store) = store_with_admin().await;
        let entry = |subject: &str| {
            let [who, address, action] = ["anna", "", "label"].map(str::to_owned);
            AuditEntry { id: 0, at_ns: 0, who, address, action, subject: subject.into() }
        };
        for subject in ["old", "b", "c"] {
            store.add_audit(entry(subject), Repeats::Stay).await.unwrap();
        }
        let year_ago = days_before(now_ns(), AUDIT_DAYS + 1);
        store
            .write(move |db| Ok(db.execute("UPDATE audit SET at_ns = ?1 WHERE subject = 'old'", [year_ago])?))
            .await
            .unwrap();
        store.add_audit(entry("d"), Repeats::Stay).await.unwrap();
        let subjects = |entries: Vec<AuditEntry>| entries.into_iter().map(|entry| entry.subject).collect::<Vec<_>>();
        let first = store.audit(None, 2).await.unwrap();
        let before = first[1].id;
        assert_eq!(subjects(first), ["d", "c"]);
        let kept = if store.clock().look().is_plausible() { vec!["b"] } else { vec!["b", "old"] };
        assert_eq!(subjects(store.audit(Some(before), 9).await.unwrap()), kept);
    }
}
