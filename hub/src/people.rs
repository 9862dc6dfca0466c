//! `hub user` and `hub token`: the people and programs that use the hub. A running hub carries the commands out, by its
//! socket. While none runs, they are carried out on the database itself.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::cause::cause;
use daemon::config::ConfigError;
use daemon::terminal::failed;
use hub_base::error::Error;
use hub_control::client::{ControlError, ask};
use hub_control::people;
use hub_control::protocol::{Answer, Command, PeopleCommand};
use hub_people::People;
use hub_people::password::MAX_BYTES;
use hub_store::{Access, DATABASE_FILE, Store, StoreError};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::cli::{SocketArgs, TokenCommand, UserCommand};
use crate::nodes::socket;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no hub has stored anything in {}; name the hub's folder with --data-dir", .0.display())]
    NoData(PathBuf),
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("the password cannot be read: {}", cause(.0))]
    Password(io::Error),
    #[error("the two passwords differ; nothing was changed")]
    Differ,
    #[error("{}", cause(.0))]
    Io(#[from] io::Error),
}

/// Runs `hub user`.
pub fn run_user(command: &UserCommand) -> ExitCode {
    let name = |name: &String| name.clone();
    let (at, verb, as_json) = match command {
        UserCommand::Add { at, .. } => (at, "added", false),
        UserCommand::Passwd { at, .. } => (at, "password changed", false),
        UserCommand::Role { at, .. } => (at, "changed", false),
        UserCommand::List { at, json } => (at, "", *json),
        UserCommand::Remove { at, .. } => (at, "removed", false),
    };
    let request = || -> Result<PeopleCommand, Failure> {
        Ok(match command {
            UserCommand::Add { name: user, role, .. } => PeopleCommand::AddUser {
                name: name(user),
                role: role.map(|role| role.to_string()),
                password: password()?,
            },
            UserCommand::Passwd { name: user, .. } => {
                PeopleCommand::SetPassword { name: name(user), password: password()? }
            }
            UserCommand::Role { name: user, role, .. } => {
                PeopleCommand::SetRole { name: name(user), role: role.to_string() }
            }
            UserCommand::List { .. } => PeopleCommand::ListUsers,
            UserCommand::Remove { name: user, .. } => PeopleCommand::RemoveUser { name: name(user) },
        })
    };
    end(request().and_then(|request| run(at, request, verb, as_json)))
}

/// Runs `hub token`.
pub fn run_token(command: &TokenCommand) -> ExitCode {
    let (at, verb, as_json, request) = match command {
        TokenCommand::Add { at, name, role, expires } => {
            let add = PeopleCommand::AddToken { name: name.clone(), role: role.to_string(), days: *expires };
            (at, "", false, add)
        }
        TokenCommand::List { at, json } => (at, "", *json, PeopleCommand::ListTokens),
        TokenCommand::Remove { at, name } => (at, "removed", false, PeopleCommand::RemoveToken { name: name.clone() }),
    };
    end(run(at, request, verb, as_json))
}

fn end(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, matches!(error, Failure::Config(_))),
    }
}

fn run(at: &SocketArgs, request: PeopleCommand, verb: &str, as_json: bool) -> Result<(), Failure> {
    let answer = match ask(&socket(at)?, Command::People(request.clone())) {
        Err(ControlError::NoHub(_)) if at.socket.is_none() => {
            on_the_store(&at.settings.load()?.settings.data_dir()?, request)?
        }
        answer => answer?,
    };
    let text = words(&answer, verb, as_json)?;
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Carries the command out on the database in `data_dir`. Before the first start of the hub, the first user or token
/// makes the database.
fn on_the_store(data_dir: &Path, request: PeopleCommand) -> Result<Answer, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_new = !data_dir.join(DATABASE_FILE).exists();
    if is_new && !matches!(request, PeopleCommand::AddUser { .. } | PeopleCommand::AddToken { .. }) {
        return Err(Failure::NoData(data_dir.to_owned()));
    }
    let store = Store::open(data_dir, Access::Guest)?;
    let answer = runtime.block_on(people::run(request, &People::new(store)));
    if is_new {
        give_to_owner_of(data_dir);
        // A closed standard error is no reason to fail.
        let _ = writeln!(io::stderr(), "no hub has run in {} yet: a new database was made there", data_dir.display());
    }
    Ok(answer?)
}

/// Gives a new database that root has made to the owner of its folder, so that the service can use it. Only root can do
/// that and only root needs to, so a failure is no error.
fn give_to_owner_of(data_dir: &Path) {
    let Ok(owner) = std::fs::metadata(data_dir) else { return };
    for suffix in ["", "-wal", "-shm"] {
        let _ = lchown(data_dir.join(format!("{DATABASE_FILE}{suffix}")), Some(owner.uid()), Some(owner.gid()));
    }
}

/// Reads a password: twice from a terminal, without showing it, else the first line.
fn password() -> Result<String, Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        return line(&mut input.lock());
    }
    let first = hidden("Password: ")?;
    if hidden("Once more: ")? == first { Ok(first) } else { Err(Failure::Differ) }
}

fn line(input: &mut impl BufRead) -> Result<String, Failure> {
    let mut text = String::new();
    // Longer than any valid password, so that one that is too long is refused and not cut.
    io::Read::take(input, 4 * MAX_BYTES as u64).read_line(&mut text).map_err(Failure::Password)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal, and does not show what is typed.
fn hidden(question: &str) -> Result<String, Failure> {
    let failed = |error: rustix::io::Errno| Failure::Password(error.into());
    let (terminal, mut out) = (io::stdin(), io::stderr());
    write!(out, "{question}").and_then(|()| out.flush()).map_err(Failure::Password)?;
    let shown = tcgetattr(&terminal).map_err(failed)?;
    let mut without = shown.clone();
    without.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &without).map_err(failed)?;
    let read = line(&mut terminal.lock());
    tcsetattr(&terminal, OptionalActions::Flush, &shown).map_err(failed)?;
    let _ = writeln!(out);
    read
}

fn words(answer: &Answer, verb: &str, as_json: bool) -> io::Result<String> {
    let or_never = |text: &Option<String>| text.clone().unwrap_or_else(|| "never".to_owned());
    Ok(match answer {
        Answer::Users(users) if as_json => serde_json::to_string(users).map_err(io::Error::other)? + "\n",
        Answer::Tokens(tokens) if as_json => serde_json::to_string(tokens).map_err(io::Error::other)? + "\n",
        Answer::Users(users) if users.is_empty() => "no users; `hub user add NAME` adds the first\n".to_owned(),
        Answer::Tokens(tokens) if tokens.is_empty() => "no tokens\n".to_owned(),
        Answer::Users(users) => users.iter().fold(String::new(), |mut text, user| {
            let _ = writeln!(text, "{}  {}  last used: {}", user.name, user.role, or_never(&user.used_at));
            text
        }),
        Answer::Tokens(tokens) => tokens.iter().fold(String::new(), |mut text, token| {
            let (expires, used) = (or_never(&token.expires_at), or_never(&token.used_at));
            let _ = writeln!(text, "{}  {}  expires: {expires}  last used: {used}", token.name, token.role);
            text
        }),
        Answer::Token(text) => format!("{text}\n"),
        Answer::Done(names) => names.iter().fold(String::new(), |text, name| text + &format!("{verb}: {name}\n")),
        _ => return Err(io::Error::other("the hub answered something else")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_work_without_a_running_hub() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let nowhere = on_the_store(&folder, PeopleCommand::ListUsers).unwrap_err().to_string();
        assert!(nowhere.contains("--data-dir") && !folder.exists(), "{nowhere}");
        let add =
            |name: &str| PeopleCommand::AddUser { name: name.into(), role: None, password: "correct horse".into() };
        let added = on_the_store(&folder, add("anna")).unwrap();
        assert_eq!(words(&added, "added", false).unwrap(), "added: anna (admin)\n");
        assert!(on_the_store(&folder, add("anna")).unwrap_err().to_string().contains("already"));
        let users = on_the_store(&folder, PeopleCommand::ListUsers).unwrap();
        assert_eq!(words(&users, "", false).unwrap(), "anna  admin  last used: never\n");
    }

    #[test]
    fn password_is_the_first_line() {
        assert_eq!(line(&mut &b"correct horse\r\nnext\n"[..]).unwrap(), "correct horse");
        assert_eq!(line(&mut &b""[..]).unwrap(), "");
    }
}
