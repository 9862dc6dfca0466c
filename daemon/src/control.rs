//! Commands to a running daemon, over a Unix socket. Whoever may open the socket, by the rights of its file, may give
//! commands. A client connects, sends one line and reads one line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::Variables;
use crate::quiet::Quiet;

/// Name of the socket in its folder.
pub const SOCKET: &str = "control.sock";

/// Longest line of a client, in bytes.
pub const MAX_REQUEST_BYTES: u64 = 4 << 10;

/// Longest line of a daemon, in bytes: a hub's answer about 128 nodes has about 100 KB.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// The variable by which systemd names the runtime folder of a service.
const RUNTIME: &str = "RUNTIME_DIRECTORY";

/// Most connections at a time. Others wait in the queue of the system.
const MAX_CONNECTIONS: usize = 8;

/// Time for a whole exchange, from the connection to the last byte of the answer.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// How long a client waits for the daemon. The daemon itself gives up earlier.
const CLIENT_DEADLINE: Duration = Duration::from_secs(20);

/// Wait after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Rights of the socket: its owner and the group of the service may give commands.
pub const MODE: u32 = 0o660;

/// Where a daemon makes its socket: in systemd's `$RUNTIME_DIRECTORY`, else in `folder`.
pub fn place(variables: &Variables, folder: &Path) -> PathBuf {
    let runtime = variables.get(RUNTIME).and_then(|folders| folders.to_str());
    let runtime = runtime.and_then(|folders| folders.split(':').next()).map(PathBuf::from);
    runtime.filter(|folder| folder.is_absolute()).unwrap_or_else(|| folder.to_owned()).join(SOCKET)
}

/// The socket of a daemon. The file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket. One that an earlier run left behind is replaced.
    ///
    /// # Errors
    /// If the path has another kind of file, or the folder cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers each line with what `answer` makes of it, until `stop`. A client that is too slow or gone gets no
    /// answer.
    pub async fn serve<F>(self, answer: impl Fn(String) -> F + Send + Sync + 'static, stop: CancellationToken)
    where
        F: Future<Output = Vec<u8>> + Send + 'static,
    {
        let answer = Arc::new(answer);
        let mut exchanges = JoinSet::new();
        let mut quiet = Quiet::new(LOG_PERIOD);
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if exchanges.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let answer = Arc::clone(&answer);
                        let exchange = exchange(stream, move |line| answer(line));
                        exchanges.spawn(async move {
                            let _ = tokio::time::timeout(EXCHANGE_DEADLINE, exchange).await;
                        });
                    }
                    Err(error) => {
                        if let Some(suppressed_lines) = quiet.allow() {
                            warn!(%error, suppressed_lines, "cannot accept a command");
                        }
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = exchanges.join_next() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that stays is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn exchange<F: Future<Output = Vec<u8>>>(
    mut stream: UnixStream,
    answer: impl FnOnce(String) -> F,
) -> io::Result<()> {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    tokio::io::BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let mut bytes = answer(line).await;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    write.shutdown().await
}

/// Sends a line to the daemon at this socket and returns its answer.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] or [`io::ErrorKind::ConnectionRefused`] if no daemon listens there,
/// [`io::ErrorKind::PermissionDenied`] if this user may not give commands, others if the exchange fails.
pub fn ask(socket: &Path, mut line: Vec<u8>) -> io::Result<String> {
    let mut stream = StdStream::connect(socket)?;
    stream.set_read_timeout(Some(CLIENT_DEADLINE))?;
    stream.set_write_timeout(Some(CLIENT_DEADLINE))?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer)?;
    Ok(answer)
}
