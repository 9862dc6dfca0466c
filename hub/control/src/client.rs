//! The end of the socket of a command such as `hub nodes`.

use std::io;
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use daemon::control;

use crate::protocol::{Answer, Command, Failure, Request, VERSION};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no hub runs at {}: start the hub, or name its socket with --socket or its data folder with --data-dir", .0.display())]
    NoHub(PathBuf),
    /// The socket cannot be opened.
    #[error("cannot open {}: permission denied; try it with sudo", .0.display())]
    Denied(PathBuf),
    /// The exchange failed.
    #[error("the hub at {} does not answer: {}", .0.display(), cause(.1))]
    Broken(PathBuf, io::Error),
    /// The hub refuses the command.
    #[error("{}", .0.message)]
    Refused(Failure),
}

/// Sends a command to the hub and waits for the answer.
///
/// # Errors
/// See [`ControlError`].
pub fn ask(socket: &Path, command: Command) -> Result<Answer, ControlError> {
    let broken = |error| ControlError::Broken(socket.to_owned(), error);
    let line = serde_json::to_vec(&Request { version: VERSION, command }).map_err(|error| broken(error.into()))?;
    let answer = control::ask(socket, line).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoHub(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ControlError::Denied(socket.to_owned()),
        _ => broken(error),
    })?;
    match serde_json::from_str(&answer).map_err(|error| broken(error.into()))? {
        Answer::Error(failure) => Err(ControlError::Refused(failure)),
        answer => Ok(answer),
    }
}
