//! The end of the socket of a command such as `hub nodes`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::cause::cause;

use crate::protocol::{Answer, Command, Failure, MAX_ANSWER_BYTES, Request, VERSION};

/// How long the hub may be silent. The hub itself gives up earlier.
const DEADLINE: Duration = Duration::from_secs(20);

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
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NoHub(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ControlError::Denied(socket.to_owned()),
        _ => ControlError::Broken(socket.to_owned(), error),
    })?;
    match exchange(&stream, command).map_err(|error| ControlError::Broken(socket.to_owned(), error))? {
        Answer::Error(failure) => Err(ControlError::Refused(failure)),
        answer => Ok(answer),
    }
}

fn exchange(mut stream: &UnixStream, command: Command) -> io::Result<Answer> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut line = serde_json::to_vec(&Request { version: VERSION, command }).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
