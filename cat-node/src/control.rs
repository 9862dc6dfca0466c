//! Commands to the running node, over a Unix socket: `cat-node pair`, `hubs`, `forget`, `token` and `rotate-key`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use daemon::config::Variables;
use daemon::control::{self, SOCKET};
use serde::{Deserialize, Serialize};

use crate::hubs::PairedHub;
use crate::pairing::Pairing;
use crate::tokens::{Token, Tokens, TokensError};

/// Version of the lines. A node that knows another version answers with an error.
const VERSION: u32 = 1;

/// The folder of the runtime folders of services.
const RUN: &str = "/run";

/// The runtime folder of the service of the Debian package, in [`RUN`].
const SERVICE: &str = "cat-node";

/// How the state folders and the runtime folders of `cat-node@NAME` begin.
const INSTANCE: &[u8] = b"cat-node-";

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    version: u32,
    #[serde(flatten)]
    command: Command,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Open a pairing code.
    Pair,
    /// List the hubs.
    ListHubs,
    /// Forget a hub.
    ForgetHub {
        /// Its name or key.
        name: String,
    },
    /// Make a token for `/metrics`.
    AddToken {
        /// Its name.
        name: String,
        /// After how many days it expires. `None`: never.
        days: Option<u32>,
    },
    /// List the tokens.
    ListTokens,
    /// Remove a token.
    RemoveToken {
        /// Its name.
        name: String,
    },
    /// Change the node's key.
    RotateKey,
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The code that is open now.
    Code(String),
    /// The hubs that the node is paired with.
    Hubs(Vec<PairedHub>),
    /// The hub that was forgotten.
    Forgotten(PairedHub),
    /// The text of a token that was made. It is shown this once.
    Token(String),
    /// The tokens.
    Tokens(Vec<Token>),
    /// The name of the token that was removed.
    TokenRemoved(String),
    /// Fingerprint of the node's new key.
    KeyChanged(String),
    /// The command failed, and why.
    Error(String),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Several nodes run on this machine.
    #[error("several cat-nodes run on this machine; say which one you mean: {}", .0.join(", "))]
    Several(Vec<String>),
    /// No node listens there.
    #[error("no cat-node runs at {}: start it, or name its socket with --socket or its state folder with --state-dir", .0.display())]
    NoNode(PathBuf),
    /// The socket cannot be opened.
    #[error("cannot open {}: permission denied; try it with sudo", .0.display())]
    Denied(PathBuf),
    /// The exchange failed.
    #[error("the cat-node at {} does not answer: {}", .0.display(), cause(.1))]
    Broken(PathBuf, io::Error),
    /// The node refuses the command.
    #[error("{0}")]
    Refused(String),
}

/// Where a node makes its socket: in systemd's `$RUNTIME_DIRECTORY`, else in its state folder.
pub fn place_of_node(variables: &Variables, state_folder: &Path) -> PathBuf {
    control::place(variables, state_folder)
}

/// Where a command looks for the socket: in the given state folder, else in the runtime folder of the service. The
/// service `cat-node@NAME` has its state in `/var/lib/cat-node-NAME` and its socket in `/run/cat-node-NAME`.
pub fn place_of_client(state_folder: Option<&Path>) -> PathBuf {
    let service = Path::new(RUN).join(SERVICE).join(SOCKET);
    // A folder that this user may not look into counts as one with a socket: connecting says what is wrong.
    let is_there = |socket: &Path| socket.try_exists().unwrap_or(true);
    // One of several nodes of this machine: a command for it must not reach another one.
    if let Some(name) = state_folder.and_then(Path::file_name).filter(|name| name.as_bytes().starts_with(INSTANCE)) {
        let own = state_folder.map(|folder| folder.join(SOCKET)).filter(|socket| is_there(socket));
        return own.unwrap_or_else(|| Path::new(RUN).join(name).join(SOCKET));
    }
    match state_folder.map(|folder| folder.join(SOCKET)) {
        // The service has its socket in its runtime folder, wherever its state lies.
        Some(own) if is_there(&own) || !is_there(&service) => own,
        _ => service,
    }
}

/// The socket of the node that a command is for: that of the service `cat-node@NAME` if an instance is given, that of
/// the state folder if that is given, else that of the only service which runs on this machine.
///
/// # Errors
/// [`ControlError::Several`] if that is not one node.
pub fn locate(state_folder: Option<&Path>, instance: Option<&str>) -> Result<PathBuf, ControlError> {
    match (instance, state_folder) {
        (Some(name), _) => Ok(socket_of_instance(Path::new(RUN), name)),
        (None, Some(folder)) => Ok(place_of_client(Some(folder))),
        (None, None) => only_one_in(Path::new(RUN)),
    }
}

fn socket_of_instance(run: &Path, name: &str) -> PathBuf {
    let folder = [INSTANCE, name.as_bytes()].concat();
    run.join(OsStr::from_bytes(&folder)).join(SOCKET)
}

/// The socket of the only service that has one in the runtime folders, else that of `cat-node`.
fn only_one_in(run: &Path) -> Result<PathBuf, ControlError> {
    let service = run.join(SERVICE).join(SOCKET);
    let folders = std::fs::read_dir(run).into_iter().flatten().flatten().map(|folder| folder.file_name());
    let mut instances: Vec<OsString> = folders.filter(|name| name.as_bytes().starts_with(INSTANCE)).collect();
    instances.sort();
    let own = [service.clone()].into_iter();
    let sockets: Vec<PathBuf> =
        own.chain(instances.iter().map(|name| run.join(name).join(SOCKET))).filter(|socket| answers(socket)).collect();
    let choice = |socket: &PathBuf| {
        let folder = socket.parent().and_then(Path::file_name).unwrap_or_default();
        match folder.as_bytes().strip_prefix(INSTANCE) {
            Some(name) => format!("--instance {}", String::from_utf8_lossy(name)),
            None => format!("--socket {}", socket.display()),
        }
    };
    match sockets.as_slice() {
        [] => Ok(service),
        [only] => Ok(only.clone()),
        several => Err(ControlError::Several(several.iter().map(choice).collect())),
    }
}

/// Whether a node has this socket open. One that this user may not open counts: connecting says what is wrong.
fn answers(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Sends a command to the node and waits for the answer.
///
/// # Errors
/// See [`ControlError`].
pub fn ask(socket: &Path, command: Command) -> Result<Answer, ControlError> {
    let broken = |error| ControlError::Broken(socket.to_owned(), error);
    let line = serde_json::to_vec(&Request { version: VERSION, command }).map_err(|error| broken(error.into()))?;
    let answer = control::ask(socket, line).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoNode(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ControlError::Denied(socket.to_owned()),
        _ => broken(error),
    })?;
    match serde_json::from_str(&answer).map_err(|error| broken(error.into()))? {
        Answer::Error(message) => Err(ControlError::Refused(message)),
        answer => Ok(answer),
    }
}

/// The answer to a line of a client.
pub async fn answer(pairing: Pairing, tokens: Option<Tokens>, line: String) -> Vec<u8> {
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request { version: VERSION, command }) => run(pairing, tokens, command).await,
        Ok(_) | Err(_) => Answer::Error("this cat-node does not know the command; are both of one version?".into()),
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

async fn run(pairing: Pairing, tokens: Option<Tokens>, command: Command) -> Answer {
    match command {
        Command::Pair => Answer::Code(pairing.offer().to_string()),
        Command::ListHubs => Answer::Hubs(pairing.hubs().list()),
        Command::RotateKey => on_disk(move || Ok(Answer::KeyChanged(pairing.change_key()?.to_string()))).await,
        Command::ForgetHub { name } => {
            on_disk(move || {
                let hub = pairing.hubs().forget(&name)?;
                tracing::info!(hub = hub.key, name = hub.name, "hub forgotten");
                Ok(Answer::Forgotten(hub))
            })
            .await
        }
        Command::AddToken { name, days } => {
            with_tokens(tokens, move |tokens| {
                let token = tokens.add(&name, days)?;
                tracing::info!(name, "token made");
                Ok(Answer::Token(token))
            })
            .await
        }
        Command::ListTokens => with_tokens(tokens, |tokens| Ok(Answer::Tokens(tokens.list()))).await,
        Command::RemoveToken { name } => {
            with_tokens(tokens, move |tokens| {
                tokens.remove(&name)?;
                tracing::info!(name, "token removed");
                Ok(Answer::TokenRemoved(name))
            })
            .await
        }
    }
}

async fn with_tokens(
    tokens: Option<Tokens>,
    work: impl FnOnce(&Tokens) -> Result<Answer, TokensError> + Send + 'static,
) -> Answer {
    match tokens {
        Some(tokens) => on_disk(move || Ok(work(&tokens)?)).await,
        None => Answer::Error("the node cannot use its tokens: its log says why".into()),
    }
}

/// Does what waits for the disk.
async fn on_disk(work: impl FnOnce() -> anyhow::Result<Answer> + Send + 'static) -> Answer {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Error(error.to_string()),
        Err(_) => Answer::Error("the node could not do it".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn command_reaches_the_only_node_and_asks_which_of_several_is_meant() {
        let run = tempfile::tempdir().unwrap();
        let socket = |folder: &str| run.path().join(folder).join(SOCKET);
        let bind = |folder: &str| {
            std::fs::create_dir(run.path().join(folder)).unwrap();
            UnixListener::bind(socket(folder)).unwrap()
        };
        assert_eq!(only_one_in(run.path()).unwrap(), socket("cat-node"), "the error names this one");
        // It was killed, and left its socket.
        drop(bind("cat-node-attic"));
        let _kitchen = bind("cat-node-kitchen");
        let _other = bind("other");
        assert_eq!(only_one_in(run.path()).unwrap(), socket("cat-node-kitchen"));
        let _hall = bind("cat-node-hall");
        let _service = bind("cat-node");
        let error = only_one_in(run.path()).unwrap_err().to_string();
        let own = socket("cat-node");
        let choices = format!("you mean: --socket {}, --instance hall, --instance kitchen", own.display());
        assert!(error.ends_with(&choices), "{error}");
        assert_eq!(socket_of_instance(run.path(), "hall"), socket("cat-node-hall"));
    }
}
