//! Users, sessions and tokens, with the rules for them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hub_base::error::{Code, Error};
use hub_base::time::{DAY_NS, MOST_DAYS, now_ns};
use hub_store::Store;
use hub_store::people::{AuditEntry, Change, MAX_TOKENS, MAX_USERS, NewSession, Session, Token, User};
use subtle::ConstantTimeEq;

use crate::attempts::{Attempts, Client};
use crate::audit::AuditLog;
use crate::identity::{Identity, Who};
use crate::password::Hasher;
use crate::role::UserRole;
use crate::secret::{Secret, hash};

/// Longest name of a user or a token, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// A session ends when it was not used for this many days.
pub const SESSION_DAYS: i64 = 30;

/// The last use of a session or token is noted only if the noted one is older than this, to spare the disk.
const NOTED_USE_NS: i64 = if cfg!(test) { 0 } else { 600 * 1_000_000_000 };

/// Why nobody can log in while [`People::are_lost`].
pub const USERS_LOST: &str = "the hub's database was lost or replaced, and has no users any more: run `hub user add \
                              NAME` on the hub's machine, or restore a backup";

/// Stands in the audit log for a name that no user has. What was typed may be a password.
const UNKNOWN_NAME: &str = "an unknown name";

/// Longest stored name of a browser, in bytes.
const MAX_AGENT_BYTES: usize = 200;

/// Who changes users and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An admin on the page, or a program. The last admin stays.
    Page,
    /// A command on this machine. It may also remove the last admin, after which nobody can log in.
    Command,
}

/// A user to add.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to log in with: 1 to 64 bytes.
    pub name: String,
    /// The role.
    pub role: UserRole,
    /// The password: 8 characters to 256 bytes.
    pub password: String,
}

/// The users, sessions and tokens of a hub. Clones share them.
#[derive(Debug, Clone)]
pub struct People {
    store: Store,
    hasher: Hasher,
    attempts: Arc<Attempts>,
    audit: AuditLog,
    setup: Arc<Mutex<Option<SetUp>>>,
}

/// The set-up link, until a user is added.
#[derive(Debug)]
struct SetUp {
    /// Hash of its secret.
    secret: Vec<u8>,
    /// How many users were ever added before it.
    users_ever: i64,
}

impl People {
    /// The people in this database.
    pub fn new(store: Store) -> Self {
        let audit = AuditLog::new(store.clone());
        Self { store, hasher: Hasher::new(), attempts: Arc::default(), audit, setup: Arc::default() }
    }

    /// Whether there are users. They also count if they [are lost](People::are_lost), so that the hub does not open.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn has_users(&self) -> Result<bool, Error> {
        Ok(self.store.has_users().await?)
    }

    /// Whether the database has no users although nobody removed the last one on purpose.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn are_lost(&self) -> Result<bool, Error> {
        Ok(self.store.are_users_lost().await?)
    }

    /// Checks a password and begins a session. `agent` is the browser, by its own word. Returns the value of the
    /// session's cookie: always a new random number.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] if name or password is wrong, [`Code::TooManyAttempts`].
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        client: Client,
        agent: &str,
    ) -> Result<(Secret, UserRole), Error> {
        let address = client.address;
        let wrong = || Error::new(Code::Unauthenticated, "the name or the password is wrong");
        if name.len() > MAX_NAME_BYTES {
            return Err(wrong());
        }
        let known = self.store.password_of(name.to_owned()).await?;
        let salt = known.as_ref().map(|known| known.salt.clone()).unwrap_or_default();
        if !self.attempts.begin(client, (name, &salt), Instant::now()) {
            let message = "too many log-ins have failed; try again in ten minutes";
            return Err(Error::new(Code::TooManyAttempts, message));
        }
        let is_known = known.is_some();
        let checked_with = known.as_ref().map(|known| known.hash.clone());
        let is_right = self.hasher.check(password, known).await?;
        let Some(checked_with) = checked_with.filter(|_| is_right) else {
            self.audit.add(if is_known { name } else { UNKNOWN_NAME }, address, "log_in_failed", "").await;
            return Err(if self.are_lost().await? { Error::new(Code::Unauthenticated, USERS_LOST) } else { wrong() });
        };
        let secret = Secret::random();
        let new = NewSession {
            user: name.to_owned(),
            password: checked_with,
            token_hash: secret.hash(),
            address: address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            agent: hub_base::text::clean(agent, MAX_AGENT_BYTES),
            expires_at_ns: session_end(),
        };
        if !self.store.add_session(new).await? {
            return Err(wrong());
        }
        self.attempts.succeeded(client, (name, &salt));
        let identity = self.by_session(secret.expose()).await?.ok_or_else(wrong)?;
        self.audit.add(name, address, "log_in", "").await;
        Ok((secret, identity.role))
    }

    /// Who has the session with this cookie, which is used by that. `None`: there is none, or it is over.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn by_session(&self, cookie: &str) -> Result<Option<Identity>, Error> {
        self.session(cookie, true).await
    }

    /// Does what [`People::by_session`] does, without a use of the session: for the hub that asks by itself, such as
    /// about a stream that is open.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn peek_session(&self, cookie: &str) -> Result<Option<Identity>, Error> {
        self.session(cookie, false).await
    }

    async fn session(&self, cookie: &str, is_use: bool) -> Result<Option<Identity>, Error> {
        let Some(session) = self.store.session(hash(cookie)).await? else { return Ok(None) };
        let Ok(role) = session.role.parse() else { return Ok(None) };
        if is_use && is_stale(Some(session.used_at_ns)) {
            // The session is good, whether this can be noted or not.
            let _ = self.store.use_session(session.id, session_end()).await;
        }
        Ok(Some(Identity { who: Who::User { name: session.user, session: session.id }, role }))
    }

    /// Who has this token, which is used by that. `None`: nobody, or it has expired.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn by_token(&self, token: &str) -> Result<Option<Identity>, Error> {
        self.token(token, true).await
    }

    /// Does what [`People::by_token`] does, without a use of the token.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn peek_token(&self, token: &str) -> Result<Option<Identity>, Error> {
        self.token(token, false).await
    }

    async fn token(&self, token: &str, is_use: bool) -> Result<Option<Identity>, Error> {
        let Some(token) = self.store.token(hash(token)).await? else { return Ok(None) };
        let Ok(role) = token.role.parse() else { return Ok(None) };
        if is_use && is_stale(token.used_at_ns) {
            let _ = self.store.use_token(token.name.clone()).await;
        }
        Ok(Some(Identity { who: Who::Token(token.name), role }))
    }

    /// The sessions, the last used first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sessions(&self) -> Result<Vec<Session>, Error> {
        Ok(self.store.sessions().await?)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is none with this number.
    pub async fn end_session(&self, id: i64) -> Result<(), Error> {
        let ended = self.store.end_session(id).await?;
        if ended { Ok(()) } else { Err(Error::new(Code::NotFound, format!("there is no session {id}"))) }
    }

    /// The users, by name.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        Ok(self.store.users().await?)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`Code::BadRequest`] if the name or the password is not valid, [`Code::Conflict`] if the name is taken or there
    /// are too many users.
    pub async fn add_user(&self, new: NewUser) -> Result<(), Error> {
        let name = new.name.clone();
        done(self.add(new, None).await?, "user", &name)
    }

    async fn add(&self, new: NewUser, first_after: Option<i64>) -> Result<Change, Error> {
        let NewUser { name, role, password } = new;
        check_name(&name)?;
        let password = self.hasher.hash(&password).await?;
        let change = self.store.add_user(name, role.as_str(), password, first_after).await?;
        if change == Change::Done {
            *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(change)
    }

    /// Changes a user's password and ends the user's sessions. Log-ins that failed before no longer count against the
    /// user.
    ///
    /// # Errors
    /// [`Code::BadRequest`] if the password is not valid, [`Code::NotFound`] if there is no such user.
    pub async fn set_password(&self, name: &str, password: &str) -> Result<(), Error> {
        self.change_user(name, None, Some(password)).await
    }

    /// Changes a user's role, at once for the user's sessions too.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is no such user, [`Code::Conflict`] if this is the last admin.
    pub async fn set_role(&self, name: &str, role: UserRole) -> Result<(), Error> {
        self.change_user(name, Some(role), None).await
    }

    /// Changes a user's role and password, as far as they are given: both or neither.
    ///
    /// # Errors
    /// Those of [`People::set_role`] and [`People::set_password`].
    pub async fn change_user(&self, name: &str, role: Option<UserRole>, password: Option<&str>) -> Result<(), Error> {
        let password = match password {
            Some(password) => Some(self.hasher.hash(password).await?),
            None => None,
        };
        let change = self.store.change_user(name.to_owned(), role.map(UserRole::as_str), password).await?;
        done(change, "user", name)
    }

    /// Removes a user and ends the user's sessions.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is no such user, [`Code::Conflict`] if this is the last admin.
    pub async fn remove_user(&self, name: &str, by: By) -> Result<(), Error> {
        done(self.store.remove_user(name.to_owned(), by == By::Command).await?, "user", name)
    }

    /// Makes a token. `days`: when it expires. Returns its text, which is not kept.
    ///
    /// # Errors
    /// [`Code::BadRequest`] if the name or the time is not valid, [`Code::Conflict`] if the name is taken or there are
    /// too many tokens.
    pub async fn add_token(&self, name: &str, role: UserRole, days: Option<u32>) -> Result<Secret, Error> {
        check_name(name)?;
        if days.is_some_and(|days| days == 0 || days > MOST_DAYS) {
            let message = format!("a token expires after 1 to {MOST_DAYS} days, or never");
            return Err(Error::new(Code::BadRequest, message));
        }
        let expires_at_ns = days.map(|days| now_ns().saturating_add(i64::from(days).saturating_mul(DAY_NS)));
        let secret = Secret::token();
        let change = self.store.add_token(name.to_owned(), role.as_str(), secret.hash(), expires_at_ns).await?;
        done(change, "token", name)?;
        Ok(secret)
    }

    /// The tokens, by name, those that have expired too.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        Ok(self.store.tokens().await?)
    }

    /// Removes a token: it is refused from now on.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is no such token.
    pub async fn remove_token(&self, name: &str) -> Result<(), Error> {
        done(self.store.remove_token(name.to_owned()).await?, "token", name)
    }

    /// Draws the secret of the set-up link, good until a user is added, also by another process. A secret that was
    /// drawn before is no longer good. `None`: there are users.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn begin_setup(&self) -> Result<Option<Secret>, Error> {
        if self.has_users().await? {
            return Ok(None);
        }
        let (secret, users_ever) = (Secret::random(), self.store.users_ever().await?);
        let setup = SetUp { secret: secret.hash(), users_ever };
        *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = Some(setup);
        Ok(Some(secret))
    }

    /// Adds the first user, an admin, for whoever has the set-up link. The link is good once.
    ///
    /// # Errors
    /// [`Code::Forbidden`] if the link is not good, otherwise as [`People::add_user`].
    pub async fn set_up(&self, secret: &str, name: &str, password: &str) -> Result<(), Error> {
        let wrong = || Error::new(Code::Forbidden, "this set-up link is no longer good; restart the hub for another");
        let first_after = {
            let setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
            let known = setup.as_ref().filter(|setup| setup.secret.ct_eq(&hash(secret)).into());
            known.map(|setup| setup.users_ever)
        };
        let first_after = first_after.ok_or_else(wrong)?;
        let new = NewUser { name: name.to_owned(), role: UserRole::Admin, password: password.to_owned() };
        match self.add(new, Some(first_after)).await? {
            Change::TooLate => Err(wrong()),
            change => done(change, "user", name),
        }
    }

    /// Adds an entry to the audit log. A failure is logged and not reported.
    pub async fn record(&self, who: &str, address: Option<IpAddr>, action: &str, subject: &str) {
        self.audit.add(who, address, action, subject).await;
    }

    /// Entries of the audit log, the latest first, at most `limit`. With `before`, those with lower numbers.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, Error> {
        Ok(self.store.audit(before, limit).await?)
    }
}

fn session_end() -> i64 {
    now_ns().saturating_add(SESSION_DAYS * DAY_NS)
}

/// Whether the last use should be noted. A use in the future was noted by a clock that was wrong.
fn is_stale(used_at_ns: Option<i64>) -> bool {
    let now_ns = now_ns();
    used_at_ns.is_none_or(|used| used > now_ns || now_ns.saturating_sub(used) > NOTED_USE_NS)
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
        let message = format!(
            "{:?} is not a valid name; use letters, digits and - _ . @, at most {MAX_NAME_BYTES} bytes",
            hub_base::text::clean(name, MAX_NAME_BYTES)
        );
        return Err(Error::new(Code::BadRequest, message));
    }
    Ok(())
}

fn done(change: Change, what: &str, name: &str) -> Result<(), Error> {
    let conflict = |message: String| Err(Error::new(Code::Conflict, message));
    match change {
        Change::Done => Ok(()),
        Change::Unknown => Err(Error::new(Code::NotFound, format!("there is no {what} {name:?}"))),
        Change::Taken => conflict(format!("there is a {what} {name:?} already")),
        Change::Full => {
            let most = if what == "user" { MAX_USERS } else { MAX_TOKENS };
            conflict(format!("there are {most} {what}s already, the most that are allowed; remove one first"))
        }
        Change::NotFirst | Change::TooLate => conflict("there are users already; log in, or ask an admin".to_owned()),
        Change::LastAdmin => {
            conflict(format!("{name:?} is the last admin; make another user admin first, or use `hub user`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use hub_store::Access;

    use super::*;
    use crate::attempts::MAX_FOR_NAME_FROM_PLACE;

    async fn people() -> (tempfile::TempDir, People) {
        let dir = tempfile::tempdir().unwrap();
        let people = People::new(Store::open(dir.path(), Access::Keeper).unwrap());
        let password = "correct horse".to_owned();
        people.add_user(NewUser { name: "anna".into(), role: UserRole::Admin, password }).await.unwrap();
        (dir, people)
    }

    async fn code<T: std::fmt::Debug>(work: impl Future<Output = Result<T, Error>>) -> Code {
        work.await.unwrap_err().code
    }

    #[tokio::test]
    async fn log_in_gives_a_new_session_that_ends_at_once_when_it_is_revoked() {
        let (_dir, people) = people().await;
        let log_in = || people.log_in("anna", "correct horse", Client::default(), "Browser");
        let ((one, role), (other, _)) = (log_in().await.unwrap(), log_in().await.unwrap());
        assert_ne!(one, other);
        assert_eq!(role, UserRole::Admin);
        let identity = people.by_session(one.expose()).await.unwrap().unwrap();
        let Who::User { name, session } = identity.who else { panic!("not a user") };
        assert_eq!(name, "anna");
        people.end_session(session).await.unwrap();
        assert_eq!(people.by_session(one.expose()).await.unwrap(), None);
        assert!(people.by_session(other.expose()).await.unwrap().is_some());
        people.set_password("anna", "another horse").await.unwrap();
        assert_eq!(people.by_session(other.expose()).await.unwrap(), None);
        assert_eq!(code(log_in()).await, Code::Unauthenticated);
        assert_eq!(code(people.log_in("nobody", "correct horse", Client::default(), "")).await, Code::Unauthenticated);
        let entries = people.audit(None, 9).await.unwrap();
        let entries: Vec<_> = entries.iter().map(|entry| (entry.who.as_str(), entry.action.as_str())).collect();
        let failed = "log_in_failed";
        assert_eq!(entries, [(UNKNOWN_NAME, failed), ("anna", failed), ("anna", "log_in"), ("anna", "log_in")]);
    }

    #[tokio::test]
    async fn other_role_counts_from_the_next_request_on() {
        let (_dir, people) = people().await;
        let (anna, _) = people.log_in("anna", "correct horse", Client::default(), "").await.unwrap();
        assert_eq!(code(people.set_role("anna", UserRole::Viewer)).await, Code::Conflict);
        let ben = NewUser { name: "ben".into(), role: UserRole::Admin, password: "battery staple".into() };
        people.add_user(ben).await.unwrap();
        people.set_role("anna", UserRole::Viewer).await.unwrap();
        assert_eq!(people.by_session(anna.expose()).await.unwrap().unwrap().role, UserRole::Viewer);
    }

    #[tokio::test]
    async fn guesses_are_refused_after_a_few_and_the_right_password_with_them() {
        let (_dir, people) = people().await;
        let client = Client { address: Some("192.0.2.1".parse().unwrap()), is_local: false };
        for _ in 0..MAX_FOR_NAME_FROM_PLACE {
            assert_eq!(code(people.log_in("anna", "wrong guess", client, "")).await, Code::Unauthenticated);
        }
        let refused = people.log_in("anna", "correct horse", client, "").await;
        assert_eq!(refused.unwrap_err().code, Code::TooManyAttempts);
        assert_eq!(people.audit(None, 99).await.unwrap().len(), 1, "guesses do not fill the log");
        let here = Client { address: Some("127.0.0.1".parse().unwrap()), is_local: true };
        assert!(people.log_in("anna", "correct horse", here, "").await.is_ok(), "nobody is locked out elsewhere");
        // As `hub user passwd` does, also in a process of its own.
        People::new(people.store.clone()).set_password("anna", "another horse").await.unwrap();
        assert!(people.log_in("anna", "another horse", client, "").await.is_ok());
    }

    #[tokio::test]
    async fn token_is_good_until_it_is_removed() {
        let (_dir, people) = people().await;
        let token = people.add_token("grafana", UserRole::Viewer, Some(90)).await.unwrap();
        let peeked = people.peek_token(token.expose()).await.unwrap();
        assert_eq!(people.tokens().await.unwrap()[0].used_at_ns, None, "no use");
        let identity = people.by_token(token.expose()).await.unwrap().unwrap();
        assert_eq!(peeked.as_ref(), Some(&identity));
        assert_eq!(identity, Identity { who: Who::Token("grafana".into()), role: UserRole::Viewer });
        assert!(people.tokens().await.unwrap()[0].used_at_ns.is_some());
        assert_eq!(people.by_session(token.expose()).await.unwrap(), None, "a token is not a session");
        people.remove_token("grafana").await.unwrap();
        assert_eq!(people.by_token(token.expose()).await.unwrap(), None);
        assert_eq!(code(people.add_token("x", UserRole::Viewer, Some(0))).await, Code::BadRequest);
        assert_eq!(code(people.add_token("a b", UserRole::Viewer, None)).await, Code::BadRequest);
    }

    #[tokio::test]
    async fn peek_does_not_prolong_a_session() {
        let (_dir, people) = people().await;
        let (cookie, _) = people.log_in("anna", "correct horse", Client::default(), "").await.unwrap();
        let before = people.sessions().await.unwrap().remove(0);
        let peeked = people.peek_session(cookie.expose()).await.unwrap();
        assert!(peeked.is_some());
        assert_eq!(people.sessions().await.unwrap().remove(0), before);
        assert_eq!(people.by_session(cookie.expose()).await.unwrap(), peeked);
        assert!(people.sessions().await.unwrap().remove(0).used_at_ns > before.used_at_ns);
    }

    #[tokio::test]
    async fn set_up_link_is_good_once_and_only_without_users() {
        let (_dir, people) = people().await;
        assert_eq!(people.begin_setup().await.unwrap(), None);
        people.remove_user("anna", By::Command).await.unwrap();
        let secret = people.begin_setup().await.unwrap().unwrap();
        assert_eq!(code(people.set_up("guess", "eve", "correct horse")).await, Code::Forbidden);
        assert_eq!(code(people.set_up(secret.expose(), "ben", "short")).await, Code::BadRequest);
        people.set_up(secret.expose(), "ben", "correct horse").await.unwrap();
        assert_eq!(code(people.set_up(secret.expose(), "eve", "correct horse")).await, Code::Forbidden);
        assert_eq!(people.users().await.unwrap()[0].role, "admin");
        assert_eq!(code(people.remove_user("ben", By::Page)).await, Code::Conflict);
    }

    #[tokio::test]
    async fn set_up_link_ends_when_a_user_is_added_in_another_way() {
        let (_dir, people) = people().await;
        // The other one is another process: a command, or a hub in several parts.
        let other = People::new(people.store.clone());
        for by in [&people, &other] {
            people.remove_user("anna", By::Command).await.unwrap();
            let link = people.begin_setup().await.unwrap().unwrap();
            let anna = NewUser { name: "anna".into(), role: UserRole::Admin, password: "correct horse".into() };
            by.add_user(anna.clone()).await.unwrap();
            people.remove_user("anna", By::Command).await.unwrap();
            assert_eq!(code(people.set_up(link.expose(), "eve", "correct horse")).await, Code::Forbidden);
            assert_eq!(people.users().await.unwrap(), []);
            people.add_user(anna).await.unwrap();
        }
    }
}
